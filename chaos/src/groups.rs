//! Several groups on the same nodes: which part of a load is whose, and whose an operation was.
//!
//! Pure functions of numbers. Clients and keys are dealt out: what leaves the remainder `n - 1`
//! when divided by the number of groups is the `n`th group's. Invariant: of one group alone
//! everything is as if there were no such thing.

use std::collections::BTreeMap;

use crate::{
    checker::{
        self, Check, Checker as _, Verdict, linearizable::Linearizable, session_order::SessionOrder,
    },
    history::{Frozen, History, Operation},
    plan::{Kind, Plan, WorkloadPlan, turns},
};

/// One group of several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    /// Which, from 1.
    pub(crate) number: u64,
    /// Of how many.
    pub(crate) of: u64,
}

impl Share {
    /// The first: faults are aimed at its leader, and outages are its own.
    pub(crate) fn first(plan: &Plan) -> Self {
        Self { number: 1, of: plan.groups.max(1) }
    }

    /// The others.
    pub(crate) fn others(plan: &Plan) -> impl Iterator<Item = Self> + use<> {
        let of = plan.groups.max(1);
        (2..=of).map(move |number| Self { number, of })
    }

    /// What one of the group's own numbers, of a client or a key, is among those of all.
    pub(crate) fn among_all(self, own: u64) -> u64 {
        own.saturating_mul(self.of).saturating_add(self.number - 1)
    }

    /// The operation as the history of all groups has it.
    pub(crate) fn told(self, mut operation: Operation) -> Operation {
        operation.client = self.among_all(operation.client);
        operation.key = self.among_all(operation.key);
        operation
    }
}

/// Into how many parts a run falls that are judged each by itself: groups on the same nodes, or
/// trials with a fresh group each.
pub fn parts(plan: &Plan) -> u64 {
    match plan.kind {
        Kind::Lagging => turns(plan).len().max(1) as u64,
        Kind::Failover | Kind::Formation | Kind::Steady => plan.groups.max(1),
    }
}

/// The group that an operation was asked of.
pub(crate) fn group_of(operation: &Operation, groups: u64) -> u64 {
    operation.key % groups.max(1) + 1
}

/// The load of one group of the plan. No part of it is less than one.
pub(crate) fn share(plan: &Plan) -> Option<WorkloadPlan> {
    let load = plan.workload.clone()?;
    let part = |whole: u64| (whole / plan.groups.max(1)).max(1);
    Some(WorkloadPlan {
        rate_per_s: part(load.rate_per_s),
        clients: part(load.clients),
        keys_live: part(load.keys_live),
        inflight_max: part(load.inflight_max).max(load.burst),
        ..load
    })
}

/// Asks every checker about every part of a run of this plan that gives it something to judge; one
/// answer of each.
pub fn judge_parts(plan: &Plan, frozen: &Frozen) -> Vec<Check> {
    match plan.kind {
        // A trial that came to no end left no log to be judged, but what its clients saw.
        Kind::Lagging => {
            let has_logs = |trial| frozen.logs.iter().any(|log| log.group == trial);
            judge_each(frozen, parts(plan), "trial", has_logs)
        }
        Kind::Failover | Kind::Formation | Kind::Steady => judge(frozen, plan.groups),
    }
}

/// Asks every checker about every group; one answer of each. Who was elected when is known of the
/// first group alone.
pub fn judge(frozen: &Frozen, groups: u64) -> Vec<Check> {
    judge_each(frozen, groups, "group", |_| true)
}

fn judge_each(
    frozen: &Frozen,
    groups: u64,
    word: &str,
    has_logs: impl Fn(u64) -> bool,
) -> Vec<Check> {
    if groups <= 1 {
        return checker::judge(frozen, &checker::all(frozen)).1;
    }
    let mut by_name: Vec<(String, Vec<(u64, Check)>)> = Vec::new();
    let of_clients = [Linearizable::default().name(), SessionOrder.name()];
    for group in 1..=groups {
        let of_group = part(frozen, group, groups);
        let mut checkers = checker::all(&of_group);
        checkers.retain(|checker| group == 1 || checker.name() != checker::elections::NAME);
        if !has_logs(group) {
            // Where nobody asked anything there is nothing at all.
            let was_asked = !of_group.history.operations().is_empty();
            checkers.retain(|checker| was_asked && of_clients.contains(&checker.name()));
        }
        for check in checker::judge(&of_group, &checkers).1 {
            match by_name.iter_mut().find(|(name, _)| *name == check.name) {
                Some((_, checks)) => checks.push((group, check)),
                None => by_name.push((check.name.clone(), vec![(group, check)])),
            }
        }
    }
    by_name.into_iter().map(|(name, checks)| joined(&name, word, checks)).collect()
}

/// One answer for what was asked of each group.
pub(crate) fn together(name: &str, checks: Vec<(u64, Check)>) -> Check {
    joined(name, "group", checks)
}

/// One answer for what was asked of each part.
pub(crate) fn joined(name: &str, word: &str, mut checks: Vec<(u64, Check)>) -> Check {
    if let [(1, _)] = &checks[..]
        && let Some((_, only)) = checks.pop()
    {
        return only;
    }
    let verdict = Verdict::combine(checks.iter().map(|(_, check)| check.verdict));
    // What is not as it should be comes first.
    checks.sort_by_key(|(group, check)| (check.verdict == Verdict::Valid, *group));
    let broken = checks.iter().take_while(|(_, check)| check.verdict != Verdict::Valid).count();
    let told = checks.iter().take((broken + VALID_TOLD_MAX).min(TOLD_MAX));
    let details = told.map(|(part, check)| format!("{word} {part}: {}", check.detail));
    let details: Vec<_> = details.collect();
    let mut detail = details.join("; ");
    match (checks.len() - details.len(), details.len() >= broken) {
        (0, _) => {}
        (more, true) => detail.push_str(&format!("; and {more} more, all valid")),
        (more, false) => detail.push_str(&format!("; and {more} more")),
    }
    Check { name: name.to_owned(), verdict, detail }
}

/// What of a run is one group's.
fn part(frozen: &Frozen, group: u64, groups: u64) -> Frozen {
    let operations = frozen.history.operations().iter();
    let own = operations.filter(|operation| group_of(operation, groups) == group).cloned();
    let logs = frozen.logs.iter().filter(|log| log.group == group).cloned();
    let mut course = frozen.course.clone();
    if group > 1 {
        course.iter_mut().for_each(|course| course.elections.clear());
    }
    let history = History::new(own.collect()).expect("a part of a history is one");
    Frozen { history, nodes: frozen.nodes.clone(), logs: logs.collect(), course }
}

/// What faults cost the other groups, in milliseconds: those whose leader they hit as well, and
/// those whose they did not.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Beside {
    samples: BTreeMap<&'static str, Vec<f64>>,
    /// How often one was not back at its rate before the next fault.
    pub(crate) unmeasured: u64,
}

impl Beside {
    /// One group's outage after one fault.
    pub(crate) fn add(&mut self, led: bool, outage_ms: Option<f64>) {
        let name = if led { LED_OUTAGE_MS } else { OUTAGE_MS };
        match outage_ms {
            Some(ms) => self.samples.entry(name).or_default().push(ms),
            None => self.unmeasured += 1,
        }
    }

    /// By their names.
    pub(crate) fn samples(self) -> impl Iterator<Item = (String, Vec<f64>)> {
        self.samples.into_iter().map(|(name, samples)| (name.to_owned(), samples))
    }
}

/// As many as there may be groups.
const TOLD_MAX: usize = 16;
/// What is as it should be is told of so many, as examples; the others are counted.
const VALID_TOLD_MAX: usize = 2;
const OUTAGE_MS: &str = "beside_outage_ms";
const LED_OUTAGE_MS: &str = "beside_led_outage_ms";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Function, NodeLog, Outcome},
        plan,
    };

    fn plan(groups: u64) -> Plan {
        let text = format!("scenario = \"x\"\nkind = \"steady\"\ngroups = {groups}\n[workload]\n");
        plan::parse(&text).expect("a plan")
    }

    /// A read by the group's own client 2 of its own key 3, which found the value.
    fn read(share: Share, id: u64, value: Option<u64>) -> Operation {
        share.told(Operation {
            client: 2,
            id,
            f: Function::Read,
            key: 3,
            value: None,
            expected: None,
            result: value,
            outcome: Outcome::Ok,
            intended_ns: id,
            invoked_ns: id,
            completed_ns: Some(id + 10),
            node: Some(1),
            term: None,
            index: None,
            request: None,
        })
    }

    #[test]
    fn clients_and_keys_are_dealt_out_and_of_one_group_stay_as_they_are() {
        let alone = Share::first(&plan(1));
        assert_eq!((alone.among_all(7), Share::others(&plan(1)).count()), (7, 0));
        let all: Vec<Share> =
            [Share::first(&plan(3))].into_iter().chain(Share::others(&plan(3))).collect();
        for share in &all {
            let told = read(*share, 1, None);
            assert_eq!(group_of(&told, 3), share.number);
            assert_eq!(told.client % 3 + 1, share.number);
        }
        let keys = all.iter().map(|share| share.among_all(3)).collect::<Vec<_>>();
        assert_eq!(keys, [9, 10, 11]);
    }

    #[test]
    fn the_load_is_divided_and_nobody_goes_without() {
        assert_eq!(share(&plan(1)), plan(1).workload);
        let load = share(&plan(4)).expect("there is a load");
        assert_eq!((load.rate_per_s, load.clients, load.keys_live), (125, 2, 2));
        let load = share(&plan(16)).expect("there is a load");
        assert_eq!((load.rate_per_s, load.clients, load.keys_live), (31, 1, 1));
    }

    #[test]
    fn what_one_group_breaks_is_told_with_its_number_and_by_its_own_logs() {
        let shares = [1, 2].map(|number| Share { number, of: 2 });
        let judged = |value: Option<u64>| {
            let operations = vec![read(shares[0], 1, None), read(shares[1], 2, value)];
            let history = History::new(operations).expect("well formed");
            let log = |group| NodeLog { node: 1, group, lines: Vec::new() };
            let frozen =
                Frozen { history, nodes: vec![1], logs: vec![log(1), log(2)], course: None };
            let checks = judge(&frozen, 2);
            checks.into_iter().find(|check| check.name == "linearizable").expect("it is asked")
        };
        let sound = judged(None);
        assert_eq!(sound.verdict, Verdict::Valid, "{}", sound.detail);
        assert!(sound.detail.contains("group 1: ") && sound.detail.contains("group 2: "));
        let broken = judged(Some(77));
        assert_eq!(broken.verdict, Verdict::Invalid);
        assert!(broken.detail.starts_with("group 2: "), "{}", broken.detail);
    }

    #[test]
    fn a_trial_that_came_to_no_end_is_judged_by_what_its_clients_saw() {
        let text =
            "scenario = \"x\"\nkind = \"lagging\"\nnodes = 3\ntrials = 3\n[workload]\n[lag]\n";
        let plan = plan::parse(text).expect("a plan");
        assert_eq!(parts(&plan), 3);
        let judged = |value: Option<u64>| {
            let of = |number, id, value| read(Share { number, of: 3 }, id, value);
            let operations = vec![of(1, 1, None), of(2, 2, value), of(2, 20, None)];
            let history = History::new(operations).expect("well formed");
            let log = NodeLog { node: 1, group: 1, lines: Vec::new() };
            let frozen = Frozen { history, nodes: vec![1], logs: vec![log], course: None };
            judge_parts(&plan, &frozen)
        };
        let by_name = |checks: Vec<Check>, name: &str| {
            checks.into_iter().find(|check| check.name == name).expect("it is asked")
        };
        let broken = by_name(judged(Some(77)), "linearizable");
        assert_eq!(broken.verdict, Verdict::Invalid);
        assert!(broken.detail.starts_with("trial 2: "), "{}", broken.detail);
        let sound = by_name(judged(None), "linearizable");
        assert_eq!(sound.verdict, Verdict::Valid);
        assert!(!sound.detail.contains("trial 3"), "it was never come to: {}", sound.detail);
        assert!(by_name(judged(None), "session order").detail.contains("trial 2: "));
        // What needs a log is asked of none that has none.
        assert!(!by_name(judged(None), "acknowledged").detail.contains("trial 2"));
    }

    #[test]
    fn of_many_that_hold_two_are_told_and_the_others_counted() {
        let told = |broken: &[u64]| {
            let check = |number: u64| {
                let is_broken = broken.contains(&number);
                let verdict = if is_broken { Verdict::Invalid } else { Verdict::Valid };
                (number, Check { name: "x".into(), verdict, detail: format!("detail {number}") })
            };
            joined("x", "trial", (1..=20).map(check).collect()).detail
        };
        let [one, two] = [1, 2].map(|number| format!("trial {number}: detail {number}"));
        assert_eq!(told(&[]), format!("{one}; {two}; and 18 more, all valid"));
        let broken = "trial 7: detail 7; trial 9: detail 9";
        assert_eq!(told(&[9, 7]), format!("{broken}; {one}; {two}; and 16 more, all valid"));
        let all: Vec<u64> = (1..=20).collect();
        assert!(told(&all).ends_with("; trial 16: detail 16; and 4 more"), "{}", told(&all));
    }

    #[test]
    fn outages_are_kept_apart_by_whether_the_fault_hit_the_leader() {
        let mut beside = Beside::default();
        for (led, outage_ms) in [(false, Some(3.0)), (true, Some(200.0)), (false, None)] {
            beside.add(led, outage_ms);
        }
        assert_eq!(beside.unmeasured, 1);
        let samples: BTreeMap<String, Vec<f64>> = beside.samples().collect();
        assert_eq!(samples["beside_outage_ms"], [3.0]);
        assert_eq!(samples["beside_led_outage_ms"], [200.0]);
    }
}
