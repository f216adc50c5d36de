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
    use std::time::Duration;

    use chaos::plan::PROFILES;

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

    #[test]
    fn a_leader_returns_after_an_election_of_each_profile_is_over() {
        let all = all().unwrap();
        for name in ["leader-failover", "rolling-restart"] {
            let plan = &all.iter().find(|builtin| builtin.plan.scenario == name).unwrap().plan;
            let of_variants = plan.variants.iter().flat_map(|variant| &variant.steps);
            let steps: Vec<_> = plan.steps.iter().chain(of_variants).collect();
            assert!(!steps.is_empty());
            for profile in PROFILES {
                let config = profile.config();
                // Who does not hear the leader waits the longest, campaigns, and waits once more.
                let election = 2 * (config.election_timeout + config.election_timeout_jitter);
                for step in &steps {
                    let returns = Duration::from_millis(step.return_after_ms.of(profile));
                    assert!(returns > election, "{name}, {profile:?}: {returns:?}");
                }
            }
        }
    }

    #[test]
    fn the_load_outlasts_a_failover_until_it_can_be_judged() {
        let all = all().unwrap();
        let (plan, load) = (&all[0].plan, all[0].plan.workload.as_ref().unwrap());
        for profile in PROFILES {
            let config = profile.config();
            let election = 2 * (config.election_timeout + config.election_timeout_jitter);
            let dialled = config.redial_backoff_max + config.handshake_timeout;
            // Within this the rate must be back; then it must be kept for half a second.
            let judged = election + dialled + config.client_silence_max;
            let judged = judged + Duration::from_millis(500);
            let load_ms = load.duration_ms.of(profile);
            let back_ms = load_ms / 10 + plan.steps[0].return_after_ms.of(profile);
            let rest = Duration::from_millis(load_ms - back_ms);
            assert!(rest > judged, "{profile:?}: {rest:?} of {judged:?}");
        }
    }

    #[test]
    fn how_long_partitions_may_cost_follows_from_the_elections_of_each_profile() {
        let all = all().unwrap();
        let partition = all.iter().find(|builtin| builtin.plan.scenario == "partition").unwrap();
        let bounds = partition.plan.expect.outage_ms_max.unwrap();
        for profile in PROFILES {
            let config = profile.config();
            let longest = config.election_timeout + config.election_timeout_jitter;
            let expected = 2 * longest + Duration::from_millis(1_400);
            assert_eq!(bounds.of(profile), Some(expected.as_millis() as f64), "{profile:?}");
        }
    }
}
