//! The worlds that this program has, and how a plan is carried out in each.
//!
//! Real processes are driven from here as they answer. The other worlds block a thread of their
//! own, and whatever that thread tells passes a [`relay`]. Knows no folder and no report.

use std::any::Any;
use std::env;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::bail;
use chaos::cluster::World as _;
use chaos::plan::{Plan, WorldKind};
use chaos::process::{Places, ProcessWorld};
use chaos::run::{self, Listener, Outcome, RunError, Stop};
use chaos::seed::Seed;

use crate::relay::{self, Relay};

/// A plan, and the world in which it is carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) world: WorldKind,
    pub(crate) plan: &'a Plan,
    pub(crate) seed: Seed,
}

/// Refuses what this program cannot do, whatever the plan is.
///
/// # Errors
/// With the reason, and the way out.
pub(crate) fn admit(world: WorldKind, trace: bool) -> anyhow::Result<()> {
    if trace && world != WorldKind::Sim {
        bail!("--trace is for world sim: in world {world} nobody writes {TRACE}");
    }
    match absent(world) {
        Some(reason) => bail!("--world {world}: {reason}"),
        None => Ok(()),
    }
}

/// Why this program has not that world.
fn absent(world: WorldKind) -> Option<&'static str> {
    match world {
        WorldKind::Process => None,
        WorldKind::Sim | WorldKind::Swarm => {
            Some("it cannot carry out plans yet; world process does")
        }
    }
}

/// What carries the messages between the nodes, in words.
pub(crate) fn transport(world: WorldKind, plan: &Plan) -> &'static str {
    match world {
        WorldKind::Process => processes(Path::new("")).transport(plan),
        WorldKind::Sim => "QUIC on simulated UDP",
        WorldKind::Swarm => "messages between cores, over a model of the network",
    }
}

/// Carries the plan out, and leaves in the folder what only the world itself can.
///
/// # Errors
/// Those of the world, and of the listener.
pub(crate) async fn carry_out(
    setting: Setting<'_>,
    folder: &Path,
    listener: Box<dyn Listener>,
    stop: Stop,
) -> Result<Outcome, RunError> {
    let Setting { world, plan, seed } = setting;
    match world {
        WorldKind::Process => run::run(&processes(folder), plan, seed, listener, stop).await,
        WorldKind::Sim | WorldKind::Swarm => {
            let reason = absent(world).unwrap_or_default();
            alone(world, listener, move |_| Err(RunError::Lab(reason.to_owned()))).await
        }
    }
}

/// Has a thread to itself: in it the world's clock and draws may stand in for the host's.
async fn alone(
    world: WorldKind,
    mut listener: Box<dyn Listener>,
    run: impl FnOnce(Relay) -> Result<Outcome, RunError> + Send + 'static,
) -> Result<Outcome, RunError> {
    let (relay, told) = relay::new();
    let thread = thread::Builder::new().name(world.to_string()).stack_size(STACK_BYTES);
    let running = thread.spawn(move || run(relay)).map_err(|error| {
        RunError::Lab(format!("there is no thread to be had for world {world}: {error}"))
    })?;
    let ended = tokio::task::spawn_blocking(move || {
        // When the listener fails, the world is told at its next word, and ends.
        let kept = told.pass_on(&mut *listener);
        let outcome = running.join();
        kept?;
        outcome.unwrap_or_else(|panic| {
            Err(RunError::Lab(format!("world {world} panicked: {}", said(&*panic))))
        })
    });
    ended.await.map_err(|error| RunError::Lab(format!("what the world told: {error}")))?
}

fn processes(folder: &Path) -> ProcessWorld {
    ProcessWorld::new(Places {
        // What cannot be found cannot be started: the first node says so.
        program: env::current_exe().unwrap_or_else(|_| PathBuf::from("scenarios")),
        logs: folder.join("nodes"),
        stores: folder.join("stores"),
    })
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

/// What a world that is traced leaves in the run's folder.
pub(crate) const TRACE: &str = "trace.log";
const STACK_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Keeps nothing, and may fail.
    struct Deaf {
        fails: bool,
    }

    impl Listener for Deaf {
        fn phase(&mut self, _: run::Phase) -> io::Result<()> {
            if self.fails { Err(io::Error::other("no space left")) } else { Ok(()) }
        }
        fn progress(&mut self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn operation(&mut self, _: &chaos::history::Operation) -> io::Result<()> {
            Ok(())
        }
        fn marks(&mut self, _: &[run::Mark]) -> io::Result<()> {
            Ok(())
        }
        fn trials(&mut self, _: &[chaos::outage::Trial]) -> io::Result<()> {
            Ok(())
        }
        fn schedule(&mut self, _: &chaos::schedule::Schedule) -> io::Result<()> {
            Ok(())
        }
    }

    async fn outcome(
        fails: bool,
        run: impl FnOnce(Relay) -> Result<Outcome, RunError> + Send + 'static,
    ) -> Result<Outcome, RunError> {
        alone(WorldKind::Swarm, Box::new(Deaf { fails }), run).await
    }

    #[tokio::test]
    async fn what_comes_of_a_world_with_a_thread_to_itself_comes_back() {
        let valid = |mut relay: Relay| {
            relay.phase(run::Phase::Start)?;
            Ok(Outcome { trace_hash: Some(7), ..Outcome::default() })
        };
        assert_eq!(outcome(false, valid).await.unwrap().trace_hash, Some(7));
    }

    #[tokio::test]
    async fn a_world_that_panics_is_a_failure_of_the_laboratory() {
        let error = outcome(false, |_| panic!("out of {}", "order")).await.unwrap_err();
        assert_eq!(error.to_string(), "the lab failed: world swarm panicked: out of order");
    }

    #[tokio::test]
    async fn a_listener_that_fails_ends_the_world_with_its_own_words() {
        let endless = |mut relay: Relay| loop {
            relay.phase(run::Phase::Load)?;
        };
        let error = outcome(true, endless).await.unwrap_err().to_string();
        assert!(error.contains("no space left"), "{error}");
    }

    #[test]
    fn only_a_world_that_traces_is_asked_to() {
        let text = admit(WorldKind::Process, true).unwrap_err().to_string();
        assert!(text.starts_with("--trace is for world sim"), "{text}");
        assert!(admit(WorldKind::Process, false).is_ok());
    }
}
