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

    use chaos::fault::Fault;
    use chaos::plan::{At, MsByProfile, PROFILES};
    use runtime::ConsensusProfile;

    use super::*;

    #[test]
    fn every_builtin_can_be_carried_out_and_is_named_like_its_file() {
        for Builtin { file, plan } in all().unwrap() {
            assert_eq!(plan::validate(&plan), Ok(()), "{file}");
            for profile in PROFILES {
                let mut chosen = Plan { profile, ..plan.clone() };
                plan::keep_times(&mut chosen);
                assert_eq!(plan::validate(&chosen), Ok(()), "{file}, {profile:?}");
            }
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
                // Who does not hear the leader waits the longest, campaigns, and waits once more.
                let election = election(profile);
                for step in &steps {
                    let returns = Duration::from_millis(step.return_after_ms.of(profile));
                    assert!(returns > election, "{name}, {profile:?}: {returns:?}");
                }
            }
        }
    }

    /// The longest until others lead where the leader is not heard.
    fn election(profile: ConsensusProfile) -> Duration {
        let config = profile.config();
        2 * (config.election_timeout + config.election_timeout_jitter)
    }

    /// Until it is known whether the rate is back in time, and was kept for half a second.
    fn judged(profile: ConsensusProfile) -> Duration {
        let config = profile.config();
        let dialled = config.redial_backoff_max + config.handshake_timeout;
        election(profile) + dialled + config.client_silence_max + Duration::from_millis(500)
    }

    #[test]
    fn wan_has_time_for_its_elections_in_and_between_faults_and_after_the_last() {
        let wan = ConsensusProfile::Wan;
        let all = all().unwrap();
        for name in ["leader-failover", "partition", "cold-restart"] {
            let plan = &all.iter().find(|builtin| builtin.plan.scenario == name).unwrap().plan;
            let load_ms = plan.workload.as_ref().unwrap().duration_ms.of(wan);
            let of_variants = plan.variants.iter().map(|variant| &variant.steps);
            for steps in [&plan.steps].into_iter().chain(of_variants) {
                let mut over_ms: Option<u64> = None;
                for step in steps {
                    // At the latest.
                    let at_ms = match step.at {
                        At::Random => load_ms / 10 * 3,
                        At::Ms(at) => at.of(wan),
                    };
                    if let Some(over_ms) = over_ms {
                        let between = Duration::from_millis(at_ms - over_ms);
                        assert!(between > election(wan), "{name}: {between:?}");
                    }
                    let lasts_ms = step.return_after_ms.of(wan);
                    if let Some(max) = plan.expect.outage_ms_max {
                        assert!(lasts_ms as f64 > max.of(wan).unwrap(), "{name}: {lasts_ms} ms");
                    }
                    over_ms = Some(at_ms + lasts_ms);
                }
                let rest = over_ms.map(|over_ms| Duration::from_millis(load_ms - over_ms));
                assert!(rest.is_none_or(|rest| rest > judged(wan)), "{name}: {rest:?}");
            }
        }
    }

    #[test]
    fn whoever_is_to_be_evicted_stays_away_until_it_is_and_returns_in_time_to_be_judged() {
        let all = all().unwrap();
        let churn = all.iter().find(|builtin| builtin.plan.scenario == "membership-churn").unwrap();
        let Plan { evict_after_ms, steps, workload, .. } = &churn.plan;
        for profile in PROFILES {
            let ms = |times: &MsByProfile| Duration::from_millis(times.of(profile));
            let evict_after = ms(evict_after_ms.as_ref().unwrap());
            for step in steps.iter().filter(|step| step.fault == Fault::Kill) {
                // Each leader counts anew.
                let away = ms(&step.return_after_ms);
                assert!(away > election(profile) + evict_after, "{profile:?}: {away:?}");
            }
            let ends = steps.iter().map(|step| match &step.at {
                At::Random => panic!("it says when"),
                At::Ms(at) => ms(at) + ms(&step.return_after_ms),
            });
            let rest = ms(&workload.as_ref().unwrap().duration_ms) - ends.max().unwrap();
            assert!(rest > judged(profile), "{profile:?}: {rest:?}");
        }
    }

    #[test]
    fn the_load_outlasts_a_failover_until_it_can_be_judged() {
        let all = all().unwrap();
        let (plan, load) = (&all[0].plan, all[0].plan.workload.as_ref().unwrap());
        for profile in PROFILES {
            let judged = judged(profile);
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
