//! The schedule: every fault of a run with its moment, drawn before and completed while it runs.
//!
//! Plain data, written to `schedule.toml`. Draws from the streams "nemesis" and "kinds" alone, so
//! that the same seed strikes at the same moments whatever the load does, and whatever the kinds
//! are. Invariant: in order of trials and, within a trial, of moments.

use serde::{Deserialize, Serialize};

use crate::{
    fault::{Fault, NodeNumber, Target},
    plan::{Plan, Step, drawn_window_ns},
    seed::{Seed, Stream},
};

/// What shall happen, and what has.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The seed that it was drawn from, as text.
    pub seed: String,
    /// The faults.
    #[serde(default)]
    pub faults: Vec<Scheduled>,
    /// The steps of the plan that they carry out, those included that were drawn.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// One fault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduled {
    /// The trial, from 1.
    pub trial: u64,
    /// Which of the plan's steps, from 0.
    pub step: u64,
    /// When it is due, from the beginning of the trial.
    pub due_ns: u64,
    /// What.
    pub fault: Fault,
    /// To whom.
    pub target: Target,
    /// How long after the fault the node returns.
    pub return_after_ms: u64,
    /// Decides between nodes where the target leaves a choice.
    pub draw: u32,
    /// The node that was hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeNumber>,
    /// All that the fault was aimed at, as the plan means it: of a partition those on its side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeNumber>,
    /// When it was hit, from the beginning of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub struck_ns: Option<u64>,
    /// When it was back, from the beginning of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned_ns: Option<u64>,
}

impl Scheduled {
    /// All that were hit, once it was carried out.
    pub(crate) fn hit(&self) -> Vec<NodeNumber> {
        match self.nodes.is_empty() {
            true => self.node.into_iter().collect(),
            false => self.nodes.clone(),
        }
    }
}

/// Draws the moments of all trials.
pub fn draw(plan: &Plan, seed: Seed) -> Schedule {
    let mut stream = Stream::named(seed, "nemesis");
    let mut kinds = Stream::named(seed, "kinds");
    let mut faults = Vec::new();
    for trial in 1..=plan.trials {
        let Some(load) = &plan.workload else { break };
        let mut of_trial: Vec<Scheduled> = plan
            .steps
            .iter()
            .zip(0..)
            .map(|(step, place)| {
                let (earliest_ns, latest_ns) = drawn_window_ns(plan, load, step.at);
                Scheduled {
                    trial,
                    step: place,
                    due_ns: stream.between(earliest_ns, latest_ns),
                    fault: kinds.pick(&step.among).copied().unwrap_or(step.fault),
                    target: step.target,
                    return_after_ms: step.return_after_ms.of(plan.profile),
                    // 32 bits: TOML's numbers are signed.
                    draw: u32::try_from(stream.below(1 << 32)).expect("below 2^32"),
                    node: None,
                    nodes: Vec::new(),
                    struck_ns: None,
                    returned_ns: None,
                }
            })
            .collect();
        of_trial.sort_by_key(|scheduled| scheduled.due_ns);
        faults.extend(of_trial);
    }
    Schedule { seed: seed.to_string(), faults, steps: plan.steps.clone() }
}

/// The schedule as TOML.
///
/// # Errors
/// In words, if a number is beyond what TOML can hold.
pub fn to_toml(schedule: &Schedule) -> Result<String, String> {
    toml::to_string(schedule).map_err(|error| error.to_string())
}

/// A schedule from its TOML.
///
/// # Errors
/// In words, with the line and what was expected there.
pub fn parse(text: &str) -> Result<Schedule, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    fn plan(trials: u64) -> Plan {
        plan::parse(&format!(
            "scenario = \"x\"\nkind = \"failover\"\ntrials = {trials}\n[workload]\n\
             [[steps]]\nat = 2000\nfault = \"kill\"\ntarget = {{ node = 2 }}\n\
             return_after_ms = 100\n\
             [[steps]]\nat = \"random\"\nfault = \"pause\"\nreturn_after_ms = 300\n"
        ))
        .expect("a plan")
    }

    #[test]
    fn a_seed_always_strikes_at_the_same_moments() {
        let schedule = draw(&plan(50), Seed(7));
        assert_eq!(schedule, draw(&plan(50), Seed(7)));
        assert_ne!(schedule.faults, draw(&plan(50), Seed(8)).faults);
        // A longer run begins like the shorter one.
        assert_eq!(schedule.faults[..], draw(&plan(60), Seed(7)).faults[..100]);
    }

    #[test]
    fn moments_stay_in_their_windows_and_in_order() {
        let schedule = draw(&plan(200), Seed(1));
        assert_eq!(schedule.faults.len(), 400);
        for (number, trial) in schedule.faults.chunks(2).enumerate() {
            assert_eq!(trial[0].trial, number as u64 + 1);
            assert_eq!(trial[0].fault, Fault::Pause, "it comes first: its window ends at 1.5 s");
            assert!((500_000_000..=1_500_000_000).contains(&trial[0].due_ns));
            assert_eq!((trial[0].step, trial[1].step), (1, 0));
            assert_eq!(trial[1].due_ns, 2_000_000_000);
            assert_eq!(trial[1].target, Target::Node(NodeNumber(2)));
        }
    }

    #[test]
    fn each_trial_draws_its_fault_and_strikes_when_it_would_anyway() {
        let mut open = plan(60);
        open.steps[0].among = vec![Fault::Kill, Fault::Pause, Fault::Isolate];
        let schedule = draw(&open, Seed(7));
        assert_eq!(schedule, draw(&open, Seed(7)));
        let drawn = |schedule: &Schedule| -> Vec<Fault> {
            let of_step = schedule.faults.iter().filter(|scheduled| scheduled.step == 0);
            of_step.map(|scheduled| scheduled.fault).collect()
        };
        let faults = drawn(&schedule);
        for fault in &open.steps[0].among {
            assert!(faults.iter().filter(|drawn| *drawn == fault).count() > 5, "{faults:?}");
        }
        assert_ne!(faults, drawn(&draw(&open, Seed(8))));
        let moments = |schedule: &Schedule| -> Vec<(u64, u32)> {
            schedule.faults.iter().map(|fault| (fault.due_ns, fault.draw)).collect()
        };
        assert_eq!(moments(&schedule), moments(&draw(&plan(60), Seed(7))));
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut schedule = draw(&plan(2), Seed(u64::MAX));
        schedule.faults[0].node = Some(NodeNumber(4));
        schedule.faults[0].struck_ns = Some(17);
        let text = to_toml(&schedule).expect("numbers of a run fit");
        assert_eq!(parse(&text).expect("its own text"), schedule);
    }
}
