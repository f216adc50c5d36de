//! One run of a plan in a world, from the start of the first node to the verdict.
//!
//! Phases: start; check the assumptions; faults under load; heal; prove liveness; freeze; check.
//! Knows no report: what happens is told to a [`Listener`] while it happens. Invariant: every
//! wait has a bound, and what was done before a stop or a failure is still judged.

mod able;
mod besides;
mod busy;
mod churn;
mod course;
mod cutoff;
mod disks;
mod expect;
mod final_reads;
mod formation;
mod judging;
mod lab;
mod lagging;
mod liveness;
mod loaded;
mod measures;
mod offered;
mod recorder;
mod sampling;
mod stage;
mod stop;
mod usage;

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    checker::{Check, Verdict},
    cluster::{ClusterError, NodeEvent, World},
    fault::NodeNumber,
    history::{Frozen, Operation},
    outage::Trial,
    plan::{Kind, Plan, PlanError, validate},
    schedule::Schedule,
    seed::Seed,
};

pub(crate) use able::{Statuses, able};
pub(crate) use besides::Labs;
pub use churn::Lapse;
pub(crate) use churn::votes_again;
pub use course::course;
pub(crate) use cutoff::demand;
pub(crate) use disks::{Befallen, Came};
pub use expect::expected;
pub(crate) use judging::{
    Found, RATE_BOUND, formed, judge_all, not_formed, returned, too_slow, well_again_ns,
};
pub(crate) use lab::{CATCH_UP_BOUND, FORM_BOUND, Lab, caught_up, check, pinned_to};
pub use lagging::{CatchUp, Progress, Since};
pub(crate) use liveness::{LIVENESS_BOUND, PROBE_KEY, Probed, lives, probe_client};
pub(crate) use recorder::{Journal, View};
use stage::{Stage, recorded};
pub use stop::{Stop, Stopper};

/// Is told what happens while it happens. All times count from the beginning of the run.
///
/// Its errors end the run: what cannot be kept need not be done.
pub trait Listener: Send {
    /// The run has come to a phase.
    fn phase(&mut self, phase: Phase) -> io::Result<()>;

    /// A trial begins, of so many.
    fn progress(&mut self, trial: u64, trials: u64) -> io::Result<()>;

    /// Of the entries that a follower is to miss so many are done. Not everybody wants to hear that
    /// much.
    fn filling(&mut self, _done: u64, _entries: u64) -> io::Result<()> {
        Ok(())
    }

    /// An operation was answered or given up. Called in the order of the answers.
    fn operation(&mut self, operation: &Operation) -> io::Result<()>;

    /// A node noted something. Not everybody wants to hear that much.
    fn event(&mut self, _event: &NodeEvent) -> io::Result<()> {
        Ok(())
    }

    /// All marks so far. Of those that were told before only the newest [`MARKS_OPEN_MAX`] may
    /// have changed.
    fn marks(&mut self, marks: &[Mark]) -> io::Result<()>;

    /// All measured trials so far.
    fn trials(&mut self, trials: &[Trial]) -> io::Result<()>;

    /// The schedule, as far as it was carried out.
    fn schedule(&mut self, schedule: &Schedule) -> io::Result<()>;
}

/// So many of the newest marks may still change.
pub const MARKS_OPEN_MAX: usize = 1_024;

/// Where a run is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nodes are started.
    Start,
    /// They form a group; clients connect; the rate is reached.
    Assume,
    /// Load and faults.
    Load,
    /// All nodes return and catch up.
    Heal,
    /// A write commits through every node.
    Liveness,
    /// Logs are read and the history is frozen.
    Freeze,
    /// The checkers judge.
    Check,
}

/// Something that happened at a moment, or over a while.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// When it began.
    pub at_ns: u64,
    /// What: any fault's word, `leader`, `stall`, `stopped`, `died`, and `forming` from the start
    /// of a group's first node until it is formed.
    pub kind: String,
    /// The node concerned, if one; of several hit by one fault the one that led, or the first.
    pub node: Option<NodeNumber>,
    /// All nodes that one fault hit.
    pub nodes: Vec<NodeNumber>,
    /// More, in words.
    pub detail: String,
    /// When it was over, for what lasts.
    pub until_ns: Option<u64>,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Over all checks; unknown if the run was stopped or the lab failed, unless a check broke.
    pub verdict: Option<Verdict>,
    /// What was checked.
    pub checks: Vec<Check>,
    /// What happened when.
    pub marks: Vec<Mark>,
    /// What each fault cost.
    pub trials: Vec<Trial>,
    /// When nodes were members no longer, in order.
    pub lapses: Vec<Lapse>,
    /// Followers that were away and returned, in order.
    pub catch_ups: Vec<CatchUp>,
    /// The faults as they were carried out.
    pub schedule: Schedule,
    /// Things counted.
    pub counts: BTreeMap<String, u64>,
    /// Things divided.
    pub ratios: BTreeMap<String, f64>,
    /// Measured values by name; the unit is the last word of the name.
    pub samples: BTreeMap<String, Vec<f64>>,
    /// What the checkers judged.
    pub frozen: Frozen,
    /// Why the lab itself failed, if it did: it could not go on, or tested too little.
    pub failure: Option<String>,
    /// Whether it was stopped from outside before its end.
    pub stopped: bool,
    /// Hash over everything that happened, where the world repeats it bit by bit.
    pub trace_hash: Option<u64>,
}

/// Why there is no run at all.
#[derive(Debug, Error)]
pub enum RunError {
    /// The plan cannot be carried out.
    #[error("the plan: {0}")]
    Plan(#[from] PlanError),
    /// The nodes could not be started, or could not be told what to do.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The listener could not keep what it was told.
    #[error("what happened could not be written down: {0}")]
    Listener(#[from] io::Error),
    /// A part of the lab ended that must not.
    #[error("the lab failed: {0}")]
    Lab(String),
}

impl Outcome {
    /// The verdict as an exit code: 0 valid, 1 a guarantee broke, 2 unknown, 3 the lab failed.
    pub fn exit_code(&self) -> u8 {
        match (self.verdict(), &self.failure) {
            (Verdict::Invalid, _) => 1,
            (_, Some(_)) => 3,
            (Verdict::Unknown, None) => 2,
            (Verdict::Valid, None) => 0,
        }
    }

    /// The verdict; unknown where nothing was judged.
    pub fn verdict(&self) -> Verdict {
        self.verdict.unwrap_or(Verdict::Unknown)
    }
}

/// Whether the plan is one and not several, and says itself what happens.
pub(crate) fn chosen(plan: &Plan) -> Result<(), PlanError> {
    if plan.random.is_some() {
        let (field, value) = ("random".into(), "present".into());
        let allowed = "what it means must be drawn before it is carried out".into();
        return Err(PlanError::Field { field, value, allowed });
    }
    let Some(variant) = plan.variants.first() else { return Ok(()) };
    let (field, value) = ("variants".into(), variant.name.clone() + " and others");
    let allowed = "one must be chosen before it is carried out".into();
    Err(PlanError::Field { field, value, allowed })
}

/// Carries a plan out.
///
/// # Errors
/// A plan that cannot be carried out, nodes that do not start, and a listener that fails.
/// Whatever goes wrong later is in the [`Outcome`].
pub async fn run<W: World>(
    world: &W,
    plan: &Plan,
    seed: Seed,
    listener: Box<dyn Listener>,
    stop: Stop,
) -> Result<Outcome, RunError> {
    validate(plan)?;
    chosen(plan)?;
    let run = async |stage: &Stage<'_, W>| match plan.kind {
        Kind::Formation => formation::run(stage).await,
        // On the heap: whoever awaits a run need not hold all that it is made of.
        Kind::Lagging => Box::pin(lagging::run(stage)).await,
        Kind::Failover | Kind::Steady => Box::pin(loaded::run(stage)).await,
    };
    let outcome = recorded(world, (plan, seed), listener, stop, run).await?;
    // The stores of a run that went wrong are evidence.
    if outcome.verdict() == Verdict::Valid
        && let Err(reason) = world.clean()
    {
        tracing::warn!(%reason, "stores are left behind");
    }
    Ok(outcome)
}
