//! The built-in scenarios: plans that travel inside the binary.
//!
//! Knows where they come from and nothing of what they mean. Invariant: each is named like its
//! file, parses and validates (tested).

use chaos::plan::{self, Plan, PlanError};

/// One built-in scenario.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Builtin {
    /// Where the text stands in the sources, for errors.
    pub(crate) file: &'static str,
    /// The plan.
    pub(crate) plan: Plan,
}

/// All of them, the one to begin with first.
///
/// # Errors
/// The first that is no plan.
pub(crate) fn all() -> Result<Vec<Builtin>, PlanError> {
    let parsed =
        |(file, text): &(&'static str, &str)| plan::parse(text).map(|plan| Builtin { file, plan });
    TEXTS.iter().map(parsed).collect()
}

const TEXTS: [(&str, &str); 8] = [
    ("plans/leader-failover.toml", include_str!("../plans/leader-failover.toml")),
    ("plans/partition.toml", include_str!("../plans/partition.toml")),
    ("plans/rolling-restart.toml", include_str!("../plans/rolling-restart.toml")),
    ("plans/cold-restart.toml", include_str!("../plans/cold-restart.toml")),
    ("plans/membership-churn.toml", include_str!("../plans/membership-churn.toml")),
    ("plans/lagging-follower.toml", include_str!("../plans/lagging-follower.toml")),
    ("plans/formation.toml", include_str!("../plans/formation.toml")),
    ("plans/steady.toml", include_str!("../plans/steady.toml")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_can_be_carried_out_and_is_named_like_its_file() {
        for Builtin { file, plan } in all().unwrap() {
            assert_eq!(plan::validate(&plan), Ok(()), "{file}");
            assert_eq!(file, format!("plans/{}.toml", plan.scenario));
            assert!(!plan.about.is_empty(), "{file} says what it is about");
        }
    }

    #[test]
    fn the_first_one_has_the_documented_defaults() {
        let all = all().unwrap();
        let plan = &all[0].plan;
        assert_eq!((plan.nodes, plan.trials), (5, 10));
        let load = plan.workload.as_ref().unwrap();
        assert_eq!((load.rate_per_s, load.clients), (500, 8));
        assert_eq!((load.keys_live, load.operations_per_key), (10, 500));
        assert_eq!((load.mix.read, load.mix.write, load.mix.cas), (50, 40, 10));
    }
}
