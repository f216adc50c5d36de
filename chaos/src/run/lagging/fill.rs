//! The group commits what a follower misses: many commands at a time, each until it is certain.
//!
//! Who watches the run is told how far it is. Invariant: no more than [`INFLIGHT_MAX`] commands are
//! unanswered, each is tried for a bounded time, and one of which nobody knows whether it took
//! effect is counted apart.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runtime::{Client, CommandError};
use tokio::task::JoinSet;

use crate::{
    cluster::Cluster,
    register::{Command, Registers},
    run::{Lab, RunError},
    seed::{Seed, Stream},
};

/// What the group said of the commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Filled {
    pub(super) acknowledged: u64,
    /// They may have taken effect, or may yet.
    pub(super) unknown: u64,
}

/// Has so many commands of so many bytes committed; fewer where the run is stopped.
pub(super) async fn fill<C: Cluster>(
    lab: &Lab<C>,
    client: &Client<Registers>,
    (entries, bytes): (u64, usize),
) -> Result<Filled, RunError> {
    let (taken, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    let fits = (INFLIGHT_BYTES_MAX / bytes.max(1) as u64).clamp(1, INFLIGHT_MAX);
    for writer in 0..entries.min(fits) {
        let mut writer = Writer {
            cluster: Arc::clone(&lab.cluster),
            client: client.clone(),
            taken: Arc::clone(&taken),
            done: Arc::clone(&done),
            stream: Stream::named(lab.seed, &format!("filling {writer}")),
            seed: lab.seed,
        };
        let stop = lab.stop.clone();
        writers.spawn(async move {
            let mut filled = Filled::default();
            while !stop.is_stopped() {
                let number = writer.taken.fetch_add(1, Ordering::Relaxed);
                if number >= entries {
                    break;
                }
                writer.one(number, bytes, &mut filled).await?;
                writer.done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<Filled, String>(filled)
        });
    }
    let mut all = Filled::default();
    let mut due = lab.cluster.now().plus(TELL_INTERVAL);
    loop {
        let ended = tokio::select! {
            biased;
            ended = writers.join_next() => ended,
            () = lab.cluster.advance(due) => {
                due = lab.cluster.now().plus(TELL_INTERVAL);
                lab.recorder.filling(done.load(Ordering::Relaxed), entries).await?;
                continue;
            }
        };
        let Some(ended) = ended else { break };
        let filled = ended.map_err(|error| RunError::Lab(format!("who fills logs: {error}")))?;
        let filled = filled.map_err(RunError::Lab)?;
        all.acknowledged += filled.acknowledged;
        all.unknown += filled.unknown;
    }
    lab.recorder.filling(done.load(Ordering::Relaxed), entries).await?;
    Ok(all)
}

/// One of many that send one command at a time.
struct Writer<C> {
    cluster: Arc<C>,
    client: Client<Registers>,
    /// How many commands were begun, by all.
    taken: Arc<AtomicU64>,
    /// How many came to an end, by all.
    done: Arc<AtomicU64>,
    stream: Stream,
    seed: Seed,
}

impl<C: Cluster> Writer<C> {
    /// Sends one command, again as long as it certainly came to nothing.
    async fn one(&mut self, number: u64, bytes: usize, filled: &mut Filled) -> Result<(), String> {
        let deadline = self.cluster.now().plus(COMMAND_BOUND);
        let mut backoff = BACKOFF_MIN;
        loop {
            // No two alike, and nothing that a packer could make small.
            let mut content = Stream::named(self.seed, &format!("content {number}"));
            let content = std::iter::repeat_with(|| content.draw().to_le_bytes());
            let command = Command::Fill { bytes: content.flatten().take(bytes).collect() };
            match self.client.execute(command).await {
                Ok(_) => {
                    filled.acknowledged += 1;
                    return Ok(());
                }
                Err(CommandError::Unknown { .. }) => {
                    filled.unknown += 1;
                    return Ok(());
                }
                Err(CommandError::Failed { reason, .. }) => {
                    let now = self.cluster.now();
                    if now >= deadline {
                        let waited = COMMAND_BOUND.as_secs();
                        return Err(format!(
                            "the group took no command for {waited} s, the last time since \
                             {reason:?}"
                        ));
                    }
                    let pause = self.stream.duration(backoff / 2, backoff);
                    self.cluster.advance(now.plus(pause)).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }
}

/// Enough to keep disk and network of a group busy, and far from what it admits.
const INFLIGHT_MAX: u64 = 1_024;
/// Of their contents together.
const INFLIGHT_BYTES_MAX: u64 = 16 << 20;
const COMMAND_BOUND: Duration = Duration::from_secs(20);
/// As often as a bar moves.
const TELL_INTERVAL: Duration = Duration::from_millis(100);
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_millis(200);
