//! A load in which operations are due so seldom that no outage can be told from the time between
//! them.
//!
//! A pure function of a plan. Invariant: a load that shows outages is never warned of.

use chaos::plan::{self, Kind, Plan};

/// What to say of outages that the plan measures, where they are mostly the time until somebody
/// asks next; nothing where they are not.
pub(crate) fn warning(plan: &Plan) -> Option<String> {
    let load = plan.workload.as_ref().filter(|_| plan.kind == Kind::Failover)?;
    // Of the group at whose leader faults are aimed.
    let rate = (load.rate_per_s / plan.groups.max(1)).max(1);
    let clients = (load.clients / plan.groups.max(1)).max(1);
    let gap_ms = load.burst as f64 * 1e3 / rate as f64;
    // Nobody misses a leader sooner: an outage that is no longer than this need not show at all.
    let election_timeout = plan::consensus(plan).election_timeout;
    let least_ms = election_timeout.as_secs_f64() * 1e3;
    if gap_ms <= least_ms {
        return None;
    }
    let enough = (load.burst as f64 * 1e3 / least_ms).ceil() * plan.groups.max(1) as f64;
    Some(format!(
        "Outages cannot be told from gaps between operations: {rate}/s of {clients} clients, \
         {:.2}/s of each, are due {} at a time, every {gap_ms:.0} ms on average, and the election \
         timeout of profile {}, the least that a lost leader costs, is {least_ms:.0} ms: use at \
         least {enough:.0} operations/s (--rate), or a smaller workload.burst.",
        rate as f64 / clients as f64,
        load.burst,
        plan::profile_name(plan.profile),
    ))
}

#[cfg(test)]
mod tests {
    use chaos::plan::PROFILES;

    use super::*;
    use crate::catalogue;

    fn of(rate_per_s: u64, groups: u64) -> Plan {
        let mut plan = catalogue::all().expect("ours are sound").remove(0).plan;
        plan.groups = groups;
        plan.workload.as_mut().unwrap().rate_per_s = rate_per_s;
        plan
    }

    #[test]
    fn no_built_in_load_is_too_sparse() {
        for profile in PROFILES {
            for builtin in catalogue::all().unwrap() {
                assert_eq!(warning(&Plan { profile, ..builtin.plan }), None, "{profile:?}");
            }
        }
    }

    #[test]
    fn a_sparse_load_is_told_with_its_gap_and_what_that_exceeds() {
        let told = warning(&of(10, 1)).unwrap();
        for words in [
            "10/s of 8 clients, 1.25/s of each, are due 5 at a time, every 500 ms on average",
            "timeout of profile lan, the least that a lost leader costs, is 150 ms",
            "use at least 34 operations/s (--rate)",
        ] {
            assert!(told.contains(words), "{words:?} in {told}");
        }
        assert!(warning(&of(33, 1)).is_some());
        assert_eq!(warning(&of(34, 1)), None);
        // Each of four groups has a quarter of it.
        let told = warning(&of(100, 4)).expect("of a quarter");
        assert!(told.contains("25/s of 2 clients") && told.contains("least 136 "), "{told}");
        assert_eq!(warning(&of(136, 4)), None);
        let wan = plan::parse_profile("wan").expect("a profile");
        assert_eq!(warning(&Plan { profile: wan, ..of(10, 1) }), None, "its elections take longer");
        let steady = Plan { kind: Kind::Steady, ..of(1, 1) };
        assert_eq!(warning(&steady), None, "it has no outages");
    }
}
