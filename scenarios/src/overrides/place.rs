//! Which options a plan has a place for.
//!
//! Looks at its kind and its steps. Invariant: what it has no place for is hidden in its help and
//! refused by name.

use std::fmt;

use chaos::fault::Target;
use chaos::plan::{Kind, Plan, PlanError};

use super::lag;

/// The arguments that a plan has no place for.
pub(crate) fn out_of_place_in(plan: &Plan) -> Vec<&'static str> {
    let of_faults = ["fault", "disk", "overlap", "random_faults"];
    let mut names = match plan.kind {
        // What is done to whom is what variants differ in.
        Kind::Failover if !plan.variants.is_empty() => vec!["fault", "disk", "overlap"],
        // Each disk fails by itself, and nobody is left to be hit meanwhile.
        Kind::Failover if hits_all(plan) => vec!["disk", "overlap", "kind"],
        Kind::Failover => vec!["kind"],
        Kind::Formation => {
            let of_load = ["groups", "rate", "clients", "duration", "kind"];
            of_load.into_iter().chain(of_faults).collect()
        }
        Kind::Steady => ["trials", "kind"].into_iter().chain(of_faults).collect(),
        Kind::Lagging => return vec!["groups", "disk", "overlap", "random_faults", "kind"],
    };
    names.extend(lag::NAMES);
    names
}

/// What to say of `--fault` where a plan takes only some of them.
pub(crate) struct FaultsIn {
    /// In the help.
    pub(crate) help: &'static str,
    /// Of a word that is none.
    pub(crate) allowed: &'static str,
}

/// The same of this plan; nothing where it takes all.
pub(crate) fn faults_in(plan: &Plan) -> Option<FaultsIn> {
    match plan.kind {
        Kind::Lagging => Some(FaultsIn {
            help: "What takes the follower away: isolate, kill, pause or wipe",
            allowed: "must be isolate, kill, pause or wipe",
        }),
        Kind::Failover if hits_all(plan) => Some(FaultsIn {
            help: "What is done to all nodes: kill, pause or restart; or random, one of these for \
                   each trial, by the seed",
            allowed: "must be kill, pause or restart, or random",
        }),
        Kind::Failover | Kind::Formation | Kind::Steady => None,
    }
}

/// Whether a step hits all nodes at one moment.
pub(super) fn hits_all(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| step.target == Target::All)
}

/// The refusal of an option that a plan has no place for, since it lacks what that is about.
pub(super) fn out_of_place(
    name: &str,
    value: impl fmt::Display,
    what: &str,
    plan: &Plan,
) -> PlanError {
    let allowed = format!("{} has no {what}: its kind is {}", plan.scenario, plan.kind);
    PlanError::Field { field: name.to_owned(), value: value.to_string(), allowed }
}
