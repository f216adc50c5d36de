//! A follower is taken away, the group goes on without it, and it comes back: how long until it
//! has what it missed, by the size of the chunks that it fetches.
//!
//! Each trial has a fresh group, with identities, stores, clients and keys of its own, and the
//! sizes take turns, so that whatever the host does meanwhile hits all of them. Invariant: what one
//! trial saw is judged without a look at another's.

mod absence;
mod fill;
mod judging;
mod matching;
mod measure;
mod progress;
mod trial;

use std::collections::BTreeMap;

use crate::{
    checker::Check,
    cluster::World,
    fault::{Fault, NodeNumber},
    groups::{Share, parts},
    history::NodeLog,
    plan::{of_size, turns},
    run::{Outcome, Phase, RunError, Stage, sampling::Status},
    schedule::Schedule,
    workload::{Driven, Numbers},
};

pub use progress::Progress;
use trial::Trial;

/// A follower that was away, and what its return came to. What did not come to pass is `None`.
#[derive(Clone, PartialEq, Debug)]
pub struct CatchUp {
    /// The trial, from 1.
    pub trial: u64,
    /// Entries in one chunk.
    pub batch_size: u32,
    /// What took it away.
    pub fault: Fault,
    /// The follower.
    pub node: NodeNumber,
    /// When it was hit.
    pub fault_at_ns: u64,
    /// When the group had committed what it was to miss.
    pub filled_ns: u64,
    /// When it was started again, or went on, or its links were healed.
    pub returned_ns: u64,
    /// From when on its time counts.
    pub since: Since,
    /// When that was.
    pub from_ns: u64,
    /// When it had applied what was committed then.
    pub caught_up_ns: Option<u64>,
    /// Entries that it lacked then.
    pub entries: u64,
    /// What the commands carried that the group committed meanwhile.
    pub bytes: u64,
    /// Entries that it fetched in bulk.
    pub fetched: u64,
    /// Their bytes, encoded.
    pub fetched_bytes: u64,
    /// In so many chunks.
    pub chunks: u64,
    /// From so many others.
    pub peers: u64,
    /// Answers that were not what the leader vouches for.
    pub wrong: u64,
    /// Whether it went on from another's snapshot.
    pub snapshot: bool,
    /// Terms that began between the fault and the end.
    pub terms: u64,
    /// How far it was when, now and then.
    pub progress: Vec<Progress>,
}

/// From when on the time of a catch-up counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// From its first bond after its return.
    Bond,
    /// From its return: it had never lost all of its bonds.
    Return,
}

/// What was found out while there were clusters.
#[derive(Default)]
struct Found {
    /// Of each trial what does not go without saying.
    checks: Vec<(u64, Check)>,
    catch_ups: Vec<CatchUp>,
    /// From when until when each trial's group was there, and how its nodes stood.
    looks: Vec<Look>,
    logs: Vec<NodeLog>,
    driven: Driven,
    counts: BTreeMap<String, u64>,
    schedule: Schedule,
    failure: Option<String>,
}

/// A trial's group, as it was looked at.
struct Look {
    trial: u64,
    window_ns: (u64, u64),
    /// When the clients' rate had been reached.
    calm_ns: u64,
    statuses: Vec<Status>,
}

pub(super) async fn run<W: World>(stage: &Stage<'_, W>) -> Result<Outcome, RunError> {
    let Stage { plan, seed, recorder, stop, .. } = stage;
    let mut found = Found::default();
    found.schedule.seed = seed.to_string();
    let (numbers, of) = (Numbers::default(), parts(plan));
    recorder.phase(Phase::Start).await?;
    for (number, size) in turns(plan) {
        if stop.is_stopped() || found.failure.is_some() {
            break;
        }
        recorder.progress(number, of).await?;
        recorder.fresh().await?;
        let (own, share) = (of_size(plan, size), Share { number, of });
        let trial = stage.with_lab_of(
            (&own, seed.child(number)),
            number,
            |lab| lab.of_trial(share, numbers.clone()),
            async |lab| Box::pin(Trial::new(lab, size).carry_out(&mut found)).await,
        );
        match trial.await {
            Ok(()) => {}
            // The recorder is the one thing without which there is nothing to judge.
            Err(error @ RunError::Listener(_)) => return Err(error),
            Err(error) => {
                found.checks.extend(recorder.fallen().await?.map(|check| (number, check)));
                found.failure = Some(format!("trial {number}: {error}"));
            }
        }
    }
    let records = recorder.freeze().await?;
    recorder.phase(Phase::Check).await?;
    let (plan, stopped) = ((*plan).clone(), stop.is_stopped());
    stage.world.compute(move || judging::conclude(&plan, found, records, stopped)).await?
}
