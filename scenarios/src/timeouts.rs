//! The timeouts behind an outage, in words: for how long a survivor bears that nobody leads, and a
//! client that nobody answers.
//!
//! A pure function of a plan. Invariant: the numbers are those of the settings that its nodes get.

use chaos::plan::{self, Kind, Plan};
use runtime::ConsensusConfig;

/// What explains how long the outages of a plan last; nothing where it measures none.
pub(crate) fn told(plan: &Plan) -> Option<String> {
    if plan.kind != Kind::Failover {
        return None;
    }
    let ConsensusConfig {
        heartbeat_interval,
        election_timeout,
        election_timeout_jitter,
        client_silence_max,
        ..
    } = plan::consensus(plan);
    let longest = election_timeout + election_timeout_jitter;
    Some(format!(
        "timeouts of {}: heartbeats every {} ms; who hears none for {} to {} ms stands for \
         election; a client that waits for an answer leaves a node that was silent for {} ms",
        plan::profile_name(plan.profile),
        heartbeat_interval.as_millis(),
        election_timeout.as_millis(),
        longest.as_millis(),
        client_silence_max.as_millis(),
    ))
}

#[cfg(test)]
mod tests {
    use chaos::plan::PROFILES;

    use super::*;
    use crate::{catalogue, describe};

    #[test]
    fn the_timeouts_that_are_told_are_those_of_the_profile() {
        let plan = catalogue::all().unwrap().remove(0).plan;
        for profile in PROFILES {
            let plan = Plan { profile, ..plan.clone() };
            let told = told(&plan).expect("it measures outages");
            let settings = profile.config();
            let [heartbeat, shortest, jitter, silence] = [
                settings.heartbeat_interval,
                settings.election_timeout,
                settings.election_timeout_jitter,
                settings.client_silence_max,
            ]
            .map(|time| time.as_millis());
            for words in [
                format!("timeouts of {}: ", plan::profile_name(profile)),
                format!("every {heartbeat} ms"),
                format!("for {shortest} to {} ms stands", shortest + jitter),
                format!("silent for {silence} ms"),
            ] {
                assert!(told.contains(&words), "{words:?} in {told}");
            }
            assert!(describe::plan(&plan).contains(&told), "{profile:?}");
        }
    }

    #[test]
    fn a_plan_without_outages_has_none_to_explain() {
        let all = catalogue::all().unwrap();
        let steady = all.into_iter().find(|builtin| builtin.plan.kind == Kind::Steady);
        assert_eq!(told(&steady.expect("it is built in").plan), None);
    }
}
