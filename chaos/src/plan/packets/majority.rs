//! Who still reaches a majority while a step is on, and whom it takes away from it.
//!
//! Pure functions of a plan. Invariant: whoever is heard and cannot answer, or the other way round,
//! adds to no quorum.

use std::collections::BTreeSet;

use super::rules;
use crate::{
    disk::DiskKind,
    fault::{Fault, NodeNumber, Target},
    plan::{Plan, Step},
};

/// Who still reaches whom while a step is on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reach {
    /// Nodes that reach nobody who could lead, and do not themselves reach a majority.
    pub(crate) away: BTreeSet<NodeNumber>,
    /// Nodes that run and reach a majority both ways: who leads among them goes on.
    pub(crate) able: BTreeSet<NodeNumber>,
    /// How many nodes a leader that reaches a majority reaches at least, itself among them.
    pub(crate) served: u64,
}

/// Who reaches whom while the step is on that hits these nodes.
pub(crate) fn reach(plan: &Plan, step: &Step, hit: &[NodeNumber]) -> Reach {
    let all = || (1..=plan.nodes).map(NodeNumber);
    let is_felt_by_none = matches!(step.fault, Fault::Clock | Fault::Transfer);
    if is_felt_by_none || step.disk_kind() == Some(DiskKind::Stall) {
        return Reach { away: BTreeSet::new(), able: all().collect(), served: plan.nodes };
    }
    if !step.fault.hits_links() {
        let away: BTreeSet<_> = hit.iter().copied().collect();
        let able: BTreeSet<_> = all().filter(|node| !away.contains(node)).collect();
        return Reach { served: able.len() as u64, away, able };
    }
    let rules = rules(plan, step, hit);
    let severed: BTreeSet<_> = rules
        .iter()
        .filter(|rule| rule.faults.severs())
        .flat_map(|rule| [(rule.from, rule.to), (rule.to, rule.from)])
        .collect();
    // Whoever is heard and cannot answer, or the other way round, adds to no quorum.
    let reached = |node: NodeNumber| all().filter(move |to| !severed.contains(&(node, *to)));
    let count = |node: &NodeNumber| reached.clone()(*node).count() as u64;
    let able: BTreeSet<_> = all().filter(|node| count(node) > plan.nodes / 2).collect();
    let away = all().filter(|node| !reached.clone()(*node).any(|to| able.contains(&to)));
    let (away, served) = (away.collect(), able.iter().map(count).min().unwrap_or(0));
    Reach { away, able, served }
}

/// How many nodes the step takes away from the majority, whomever it hits.
pub(in crate::plan) fn away(plan: &Plan, step: &Step) -> u64 {
    let members = match step.fault {
        Fault::Partition => &step.side[..],
        _ => &[step.target],
    };
    let count = match step.target {
        Target::All => usize::try_from(plan.nodes).unwrap_or(usize::MAX),
        _ => members.len(),
    };
    let given = members.iter().filter_map(Target::number);
    let given: BTreeSet<_> = given.collect();
    // Nobody knows yet who the others are, and their number is all that matters.
    let any = (1..=plan.nodes).map(NodeNumber).filter(|node| !given.contains(node));
    let hit: Vec<_> = given.iter().copied().chain(any).take(count).collect();
    reach(plan, step, &hit).away.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{packets::tests::plan, validate};

    /// Who is away and how many are served while the only step is on.
    fn reached(step: &str, hit: &[u64]) -> (Vec<u64>, u64) {
        let plan = plan(step);
        validate(&plan).expect("can be carried out");
        let hit: Vec<_> = hit.iter().copied().map(NodeNumber).collect();
        let Reach { away, served, .. } = reach(&plan, &plan.steps[0], &hit);
        assert_eq!(super::away(&plan, &plan.steps[0]), away.len() as u64, "whomever it hits");
        (away.into_iter().map(|node| node.0).collect(), served)
    }

    #[test]
    fn a_partition_cuts_between_its_sides() {
        let step = "fault = \"partition\"\nside = [1, 4]\nway = \"out\"";
        let plan = plan(step);
        let rules = rules(&plan, &plan.steps[0], &[NodeNumber(1), NodeNumber(4)]);
        let links: Vec<_> = rules.iter().map(|rule| format!("{}>{}", rule.from, rule.to)).collect();
        assert_eq!(links, ["1>2", "1>3", "1>5", "4>2", "4>3", "4>5"]);
        assert_eq!(reached(step, &[1, 4]), (vec![1, 4], 3), "one way is no way to a quorum");
        assert_eq!(reached("fault = \"partition\"\nside = [5, 3, 2]", &[5, 3, 2]).0, [1, 4]);
        let words = "fault = \"partition\"\nside = [\"leader\", \"follower\"]";
        assert_eq!(reached(words, &[3, 1]), (vec![1, 3], 3));
    }

    #[test]
    fn whoever_reaches_nobody_that_could_lead_is_away() {
        let cut = |pairs: &str| reached(&format!("fault = \"partition\"\ncut = [{pairs}]"), &[]);
        let ring = cut("[1, 3], [1, 4], [2, 4], [2, 5], [3, 5]");
        assert_eq!(ring, (vec![], 3), "each reaches a majority, and no two the same one");
        assert_eq!(cut("[1, 4], [1, 5], [2, 4], [2, 5]"), (vec![], 3), "node 3 is a bridge");
        let star = cut("[2, 3], [2, 4], [2, 5], [3, 4], [3, 5], [4, 5]");
        assert_eq!(star, (vec![], 5), "node 1 could serve all");
        assert_eq!(cut("[1, 2], [1, 3], [4, 1], [1, 5]"), (vec![1], 4));
        assert_eq!(reached("fault = \"isolate\"", &[2]), (vec![2], 4));
        assert_eq!(reached("fault = \"pause\"", &[2]), (vec![2], 4));
        let clock = "fault = \"clock\"\nclock = { rate_ppm = 50000 }";
        assert_eq!(reached(clock, &[2]), (vec![], 5), "whoever lives in another time");
        assert_eq!(reached("fault = \"link\"\nfaults = { loss = 0.5 }", &[2]), (vec![], 5));
        for severed in ["block", "hold"] {
            let step = format!("fault = \"link\"\nfaults = {{ {severed} = true }}");
            assert_eq!(reached(&step, &[2]), (vec![2], 4));
        }
    }
}
