//! The worlds that this program has, and how a plan is carried out in each.
//!
//! Real processes are driven from here as they answer; the other worlds block a thread of their
//! own. Knows no report.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::bail;
use chaos::cluster::World as _;
use chaos::plan::{Plan, WorldKind};
use chaos::process::{Places, ProcessWorld};
use chaos::run::{self, Listener, Outcome, RunError, Stop};
use chaos::seed::Seed;
use chaos::swarm;

/// A plan, and the world in which it is carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) world: WorldKind,
    pub(crate) plan: &'a Plan,
    pub(crate) seed: Seed,
    /// Whether every packet and event is written down as well.
    pub(crate) is_traced: bool,
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
fn absent(world: WorldKind) -> Option<String> {
    let reason = match world {
        WorldKind::Process | WorldKind::Swarm => return None,
        WorldKind::Sim if cfg!(not(feature = "sim")) => {
            "this program was built without its feature `sim`: build it with its default features"
        }
        WorldKind::Sim if cfg!(not(all(target_os = "linux", target_env = "gnu"))) => {
            "the simulator is for Linux with glibc; worlds process and swarm are here"
        }
        WorldKind::Sim if cfg!(not(tokio_unstable)) => {
            "this program was built without `--cfg tokio_unstable`, which .cargo/config.toml asks \
             for and a RUSTFLAGS of yours replaces: add it there, \
             RUSTFLAGS=\"$RUSTFLAGS --cfg tokio_unstable\""
        }
        WorldKind::Sim => return None,
    };
    Some(reason.to_owned())
}

/// What carries the messages between the nodes, in words.
pub(crate) fn transport(world: WorldKind, plan: &Plan) -> &'static str {
    match world {
        WorldKind::Process => processes(Path::new("")).transport(plan),
        WorldKind::Sim => "QUIC on simulated UDP, in virtual time",
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
    let Setting { world, plan, seed, is_traced } = setting;
    match world {
        WorldKind::Process => run::run(&processes(folder), plan, seed, listener, stop).await,
        WorldKind::Sim => {
            let trace = is_traced.then(|| folder.join(TRACE));
            simulate((plan, seed), trace, listener, stop).await
        }
        WorldKind::Swarm => {
            let plan = plan.clone();
            blocking(world, move || swarm::carry_out(&plan, seed, listener, &stop)).await
        }
    }
}

/// On a thread on which nobody else waits.
async fn blocking(
    world: WorldKind,
    run: impl FnOnce() -> Result<Outcome, RunError> + Send + 'static,
) -> Result<Outcome, RunError> {
    let ran = tokio::task::spawn_blocking(run).await;
    ran.map_err(|error| RunError::Lab(format!("world {world}: {error}")))?
}

#[cfg(all(feature = "sim", target_os = "linux", target_env = "gnu", tokio_unstable))]
async fn simulate(
    (plan, seed): (&Plan, Seed),
    trace: Option<PathBuf>,
    listener: Box<dyn Listener>,
    stop: Stop,
) -> Result<Outcome, RunError> {
    let (plan, places) = (plan.clone(), chaos::sim::Places { trace });
    let run = move || chaos::sim::run(&plan, seed, listener, &stop, &places);
    blocking(WorldKind::Sim, run).await
}

#[cfg(not(all(feature = "sim", target_os = "linux", target_env = "gnu", tokio_unstable)))]
async fn simulate(
    _: (&Plan, Seed),
    _: Option<PathBuf>,
    _: Box<dyn Listener>,
    _: Stop,
) -> Result<Outcome, RunError> {
    Err(RunError::Lab(absent(WorldKind::Sim).unwrap_or_default()))
}

/// This very program, to be started again. Linux knows it by a name of its own, which means the one
/// that runs, whatever has taken its place meanwhile: a build, say.
///
/// # Errors
/// Where the system does not say.
pub(crate) fn program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    match cfg!(target_os = "linux") && running.exists() {
        true => Ok(running.to_owned()),
        false => env::current_exe(),
    }
}

fn processes(folder: &Path) -> ProcessWorld {
    ProcessWorld::new(Places {
        // What cannot be found cannot be started: the first node says so.
        program: program().unwrap_or_else(|_| PathBuf::from("scenarios")),
        logs: folder.join("nodes"),
        stores: folder.join("stores"),
    })
}

/// What a world that is traced leaves in the run's folder.
pub(crate) const TRACE: &str = "trace.log";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_world_that_traces_is_asked_to() {
        let text = admit(WorldKind::Process, true).unwrap_err().to_string();
        assert!(text.starts_with("--trace is for world sim"), "{text}");
        assert!(admit(WorldKind::Process, false).is_ok());
    }
}
