//! The course of a run, put together from what is written down of it.
//!
//! A pure function of plan, schedule, marks and counts, which all stand in the run's files: so a
//! stored run is judged by what it was judged by when it ended. Invariant: what is not written
//! down did not happen; what may be missing is said.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    disk::DiskKind,
    fault::{Fault, NodeNumber},
    groups::share,
    history::{Course, Elected, Stalled, Struck},
    plan::{Plan, consensus, may_unseat, rules},
    run::Mark,
    schedule::{Schedule, Scheduled},
};

/// Puts a course together.
pub fn course(
    plan: &Plan,
    schedule: &Schedule,
    marks: &[Mark],
    counts: &BTreeMap<String, u64>,
) -> Course {
    let count = |name: &str| counts.get(name).copied();
    let consensus = consensus(plan);
    let election = 2 * (consensus.election_timeout + consensus.election_timeout_jitter);
    let dialled = consensus.redial_backoff_max + consensus.handshake_timeout;
    let service = election + dialled + consensus.client_silence_max;
    let mut course = Course {
        load_ns: count(LOAD_FROM_MS).zip(count(LOAD_UNTIL_MS)).map(|(from_ms, until_ms)| {
            (from_ms.saturating_mul(NS_PER_MS), until_ms.saturating_mul(NS_PER_MS))
        }),
        rate_per_s: share(plan).map_or(0, |load| load.rate_per_s),
        burst: plan.workload.as_ref().map_or(0, |load| load.burst),
        pinned: plan.workload.as_ref().is_some_and(|load| load.pinned),
        // A leader that is cut off learns of it late, and where a bare majority is left its votes
        // may split: then there is another round.
        election_ns_max: nanos(2 * election),
        service_ns_max: nanos(service),
        handshake_ns_max: nanos(consensus.handshake_timeout),
        faults: schedule.faults.iter().filter_map(|fault| struck(plan, fault, marks)).collect(),
        elections: marks.iter().filter_map(elected).collect(),
        stalls: marks.iter().filter_map(stalled).collect(),
        is_complete: count(MARKS_DROPPED).unwrap_or(0) == 0,
    };
    course.faults.sort_by_key(|fault| fault.from_ns);
    course.elections.sort_by_key(|elected| elected.at_ns);
    course.stalls.sort_by_key(|stall| stall.from_ns);
    course
}

/// Within this a group that is able to serve does.
pub(super) fn service_bound(plan: &Plan) -> Duration {
    let bare = course(plan, &Schedule::default(), &[], &BTreeMap::new());
    Duration::from_nanos(bare.service_ns_max)
}

fn struck(plan: &Plan, fault: &Scheduled, marks: &[Mark]) -> Option<Struck> {
    let (from_ns, node) = (fault.struck_ns?, fault.node?);
    let step = plan.steps.get(usize::try_from(fault.step).ok()?)?;
    let hit = fault.hit();
    let rules = if fault.fault.hits_links() { rules(plan, step, &hit) } else { Vec::new() };
    let cut = rules.iter().filter(|rule| rule.faults.block);
    let same = |mark: &&Mark| {
        mark.kind == fault.fault.word()
            && mark.node == Some(node)
            && mark.at_ns.abs_diff(from_ns) < SAME_NS
    };
    let rejoined_ns = marks.iter().find(same).and_then(|mark| mark.until_ns);
    // Who is a member no longer is none before it votes again: until then a majority must be
    // found without it.
    let drawn = step.drawn(fault.fault);
    let may_be_out = may_unseat(plan, &drawn);
    Some(Struck {
        what: fault.fault.word().into(),
        node: node.0,
        down: match fault.fault == Fault::Pause || drawn.ends_process() {
            true => hit.iter().map(|node| node.0).collect(),
            false => Vec::new(),
        },
        cut: cut.map(|rule| (rule.from.0, rule.to.0)).collect(),
        hurts: step.flap.is_some()
            || drawn.disk_kind() == Some(DiskKind::Stall)
            || step.clock.is_some_and(|clock| clock.rate_ppm != 0)
            || rules.iter().any(|rule| !rule.faults.block),
        from_ns,
        returned_ns: fault.returned_ns,
        rejoined_ns,
        counted_ns: if may_be_out { rejoined_ns } else { fault.returned_ns },
    })
}

fn elected(mark: &Mark) -> Option<Elected> {
    let term = mark.detail.strip_prefix("term ").filter(|_| mark.kind == "leader")?;
    Some(Elected { at_ns: mark.at_ns, node: number(mark)?, term: term.parse().ok()? })
}

fn stalled(mark: &Mark) -> Option<Stalled> {
    let until_ns = mark.until_ns.filter(|_| mark.kind == "stall")?;
    Some(Stalled { node: number(mark)?, from_ns: mark.at_ns, until_ns })
}

fn number(mark: &Mark) -> Option<u64> {
    mark.node.map(|NodeNumber(number)| number)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Among the counts: when the load had come to its rate.
pub(super) const LOAD_FROM_MS: &str = "load_from_ms";
/// Among the counts: when it ended.
pub(super) const LOAD_UNTIL_MS: &str = "load_until_ms";
/// Among the counts: marks beyond those that are kept.
pub(super) const MARKS_DROPPED: &str = "marks_dropped";
const NS_PER_MS: u64 = 1_000_000;
/// Files keep milliseconds, as a number with a fraction.
const SAME_NS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fault::Target, plan};

    fn mark(at_ns: u64, kind: &str, node: u64, detail: &str, until_ns: Option<u64>) -> Mark {
        let (kind, detail) = (kind.to_owned(), detail.to_owned());
        let node = NodeNumber(node);
        Mark { at_ns, kind, node: Some(node), nodes: vec![node], detail, until_ns }
    }

    #[test]
    fn what_is_written_down_comes_together() {
        let plan = plan::parse(
            "scenario = \"x\"\nkind = \"failover\"\nnodes = 3\n[workload]\nrate_per_s = 70\n\
             [[steps]]\nat = 1\nfault = \"kill\"\nreturn_after_ms = 5\n[[steps]]\nat = 9\n\
             fault = \"partition\"\nside = [2]\nreturn_after_ms = 5\n",
        )
        .expect("a plan");
        let mut schedule = crate::schedule::draw(&plan, crate::seed::Seed(1));
        for (fault, (node, struck_ns)) in schedule.faults.iter_mut().zip([(3, 100), (2, 900)]) {
            (fault.node, fault.struck_ns) = (Some(NodeNumber(node)), Some(struck_ns));
        }
        schedule.faults[0].returned_ns = Some(400);
        let marks = [
            mark(50, "leader", 3, "term 7", None),
            // A file rounds.
            mark(101, "kill", 3, "leader of term 7, returned and caught up", Some(500)),
            mark(60, "stall", 1, "30 ms", Some(90)),
            mark(900, "partition", 2, "follower of term 8", None),
        ];
        let counts = [(LOAD_FROM_MS, 1), (LOAD_UNTIL_MS, 2), (MARKS_DROPPED, 3)];
        let counts = counts.map(|(name, count)| (name.to_owned(), count)).into();
        let course = course(&plan, &schedule, &marks, &counts);
        assert_eq!((course.load_ns, course.rate_per_s), (Some((1_000_000, 2_000_000)), 70));
        assert_eq!(course.elections, [Elected { at_ns: 50, node: 3, term: 7 }]);
        assert_eq!(course.stalls, [Stalled { node: 1, from_ns: 60, until_ns: 90 }]);
        assert!(!course.is_complete && course.election_ns_max < course.service_ns_max);
        let [kill, partition] = &course.faults[..] else { panic!("{:?}", course.faults) };
        assert_eq!((kill.returned_ns, kill.rejoined_ns), (Some(400), Some(500)));
        assert_eq!((&kill.down[..], &kill.cut[..], kill.hurts), (&[3][..], &[][..], false));
        assert_eq!((partition.returned_ns, partition.rejoined_ns), (None, None));
        assert!(partition.down.is_empty());
        for link in [(2, 1), (1, 2), (2, 3), (3, 2)] {
            assert!(partition.cut.contains(&link), "{:?}", partition.cut);
        }
        assert_eq!(partition.cut.len(), 4);
        assert!(partition.takes_away(2, &[1, 2, 3]) && !partition.takes_away(1, &[1, 2, 3]));
        assert!(kill.is_on(100) && !kill.is_on(400) && partition.is_on(u64::MAX));
    }

    #[test]
    fn a_one_way_cut_keeps_its_direction_also_where_its_side_is_the_majority() {
        for (side, link, other) in [("[2]", (2, 1), (1, 2)), ("[2, 3]", (2, 1), (1, 2))] {
            let plan = plan::parse(&format!(
                "scenario = \"x\"\nkind = \"failover\"\nnodes = 3\n[workload]\n[[steps]]\nat = 1\n\
                 fault = \"partition\"\nside = {side}\nway = \"out\"\nreturn_after_ms = 5\n"
            ));
            let plan = plan.expect("a plan");
            let mut schedule = crate::schedule::draw(&plan, crate::seed::Seed(1));
            let scheduled = &mut schedule.faults[0];
            // Of two sides the smaller one is away, and one of its nodes stands for all.
            (scheduled.node, scheduled.struck_ns) = (Some(NodeNumber(1)), Some(100));
            scheduled.nodes = plan.steps[0].side.iter().filter_map(Target::number).collect();
            let cut = &course(&plan, &schedule, &[], &BTreeMap::new()).faults[0].cut;
            assert!(cut.contains(&link) && !cut.contains(&other), "side {side}: {cut:?}");
        }
    }

    #[test]
    fn who_may_be_a_member_no_longer_counts_once_it_has_caught_up() {
        for (head, fault, counted_ns) in [
            ("", "kill", Some(400)),
            ("", "wipe", Some(700)),
            ("", "leave", Some(700)),
            ("evict_after_ms = 3000\n", "kill", Some(700)),
        ] {
            let plan = plan::parse(&format!(
                "scenario = \"x\"\nkind = \"failover\"\n{head}[workload]\n[[steps]]\nat = 1\n\
                 fault = \"{fault}\"\nreturn_after_ms = 5\n"
            ));
            let plan = plan.expect("a plan");
            let mut schedule = crate::schedule::draw(&plan, crate::seed::Seed(1));
            let scheduled = &mut schedule.faults[0];
            (scheduled.node, scheduled.struck_ns) = (Some(NodeNumber(2)), Some(100));
            scheduled.returned_ns = Some(400);
            let marks = [mark(100, fault, 2, "", Some(700))];
            let struck = &course(&plan, &schedule, &marks, &BTreeMap::new()).faults[0];
            assert_eq!(struck.counted_ns, counted_ns, "{head}{fault}");
            assert_eq!(struck.returned_ns, Some(400), "its process runs, and may be elected");
            assert_eq!(struck.lasts(500), counted_ns == Some(700));
        }
    }

    #[test]
    fn a_clock_of_another_pace_hurts_and_one_that_is_merely_off_does_not() {
        for (clock, hurts) in [("rate_ppm = 300000", true), ("wall_offset_ms = 5000", false)] {
            let plan = plan::parse(&format!(
                "scenario = \"x\"\nkind = \"failover\"\n[workload]\n[[steps]]\nat = 1\n\
                 fault = \"clock\"\nclock = {{ {clock} }}\nreturn_after_ms = 5\n"
            ));
            let plan = plan.expect("a plan");
            let mut schedule = crate::schedule::draw(&plan, crate::seed::Seed(1));
            let scheduled = &mut schedule.faults[0];
            (scheduled.node, scheduled.struck_ns) = (Some(NodeNumber(2)), Some(100));
            let course = course(&plan, &schedule, &[], &BTreeMap::new());
            assert_eq!(course.faults[0].hurts, hurts, "{clock}");
        }
    }

    #[test]
    fn a_fault_that_was_not_carried_out_is_none() {
        let plan = plan::parse(
            "scenario = \"x\"\nkind = \"failover\"\n[workload]\n[[steps]]\n\
             at = 1\nfault = \"kill\"\nreturn_after_ms = 5\n",
        );
        let plan = plan.expect("a plan");
        let schedule = crate::schedule::draw(&plan, crate::seed::Seed(1));
        let course = course(&plan, &schedule, &[], &BTreeMap::new());
        assert_eq!((course.faults, course.load_ns), (vec![], None));
    }
}
