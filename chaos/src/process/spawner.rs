//! The thread that starts all nodes, and lives as long as the harness.
//!
//! A node asks the kernel to be killed when its parent dies, and to the kernel the parent is the
//! *thread* that started it. Invariant: that thread ends with the process and never before.

use std::{
    io,
    process::{Child, Command},
    sync::{OnceLock, mpsc},
    thread,
};

use tokio::sync::oneshot;

/// Starts a program from the thread that never ends.
///
/// # Errors
/// What the system says.
pub(super) async fn spawn(command: Command) -> io::Result<Child> {
    let (reply, started) = oneshot::channel();
    let gone = || io::Error::other("the thread that starts nodes has ended");
    let spawner = SPAWNER.get_or_init(start);
    spawner.send((command, reply)).map_err(|_| gone())?;
    started.await.map_err(|_| gone())?
}

type Wish = (Command, oneshot::Sender<io::Result<Child>>);

fn start() -> mpsc::Sender<Wish> {
    let (wishes, wished) = mpsc::channel::<Wish>();
    let thread = thread::Builder::new().name("spawner".into()).spawn(move || {
        for (mut command, reply) in wished {
            if let Err(Ok(mut unwanted)) = reply.send(command.spawn()) {
                // Whoever asked is gone: a node without an owner must not run.
                drop(unwanted.kill());
                drop(unwanted.wait());
            }
        }
    });
    if let Err(error) = thread {
        tracing::error!(%error, "no thread to start nodes from");
    }
    wishes
}

/// Never dropped, so the thread never runs out of wishes to wait for.
static SPAWNER: OnceLock<mpsc::Sender<Wish>> = OnceLock::new();
