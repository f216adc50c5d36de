//! Steps that hurt the links between nodes: what they may say, and which links they mean.
//!
//! Pure functions of a plan. Invariant: a step says nothing that its fault has no use for.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    fault::{Fault, LinkRule, NodeNumber, Target},
    link::{self, LinkFaults},
    plan::{Plan, PlanError, Step, field},
};

/// Which way datagrams are hit, as the node that is hit sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Both.
    #[default]
    Both,
    /// What it sends.
    Out,
    /// What it is sent.
    In,
}

/// Whether a plan hurts links.
pub fn packet_faults(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| step.fault.hits_links())
}

/// Nodes that the step takes away from the majority, if they are known before the run.
pub(crate) fn minority(plan: &Plan, step: &Step) -> Vec<NodeNumber> {
    if step.fault != Fault::Partition {
        return Vec::new();
    }
    let others: Vec<_> = others(plan.nodes, &step.side).collect();
    if step.side.len() <= others.len() { step.side.clone() } else { others }
}

/// How many nodes the step takes away from the majority.
pub(super) fn away(plan: &Plan, step: &Step) -> u64 {
    match step.fault {
        Fault::Kill | Fault::Pause | Fault::Isolate => 1,
        Fault::Partition => minority(plan, step).len() as u64,
        // Datagrams are lost and late, but nobody is cut off.
        Fault::Link => 0,
    }
}

/// What befalls which links when the step hits this node.
pub(crate) fn rules(plan: &Plan, step: &Step, node: NodeNumber) -> Vec<LinkRule> {
    let side = if step.fault == Fault::Partition { step.side.clone() } else { vec![node] };
    let faults = step.faults.clone().unwrap_or_else(LinkFaults::blocked);
    let pair = |near: NodeNumber, far: NodeNumber| {
        let rule = |from, to| LinkRule { from, to, faults: faults.clone() };
        let out = (step.way != Way::In).then(|| rule(near, far));
        let back = (step.way != Way::Out).then(|| rule(far, near));
        out.into_iter().chain(back)
    };
    let far = others(plan.nodes, &side).filter(|far| step.to.is_none_or(|to| to == *far));
    far.flat_map(|far| side.iter().flat_map(move |near| pair(*near, far)).collect::<Vec<_>>())
        .collect()
}

fn others(nodes: u64, side: &[NodeNumber]) -> impl Iterator<Item = NodeNumber> {
    (1..=nodes).map(NodeNumber).filter(move |node| !side.contains(node))
}

/// Checks what a step says of links.
pub(super) fn check(
    plan: &Plan,
    step: &Step,
    name: impl Fn(&str) -> String,
) -> Result<(), PlanError> {
    let unused = |part: &str, fault: &str| {
        let allowed = format!("only fault = \"{fault}\" has a use for it");
        Err(field(&name(part), "present", allowed))
    };
    let fault = step.fault;
    if !step.side.is_empty() && fault != Fault::Partition {
        return unused("side", "partition");
    }
    if step.to.is_some() && fault != Fault::Link {
        return unused("to", "link");
    }
    if step.faults.is_some() && fault != Fault::Link {
        return unused("faults", "link");
    }
    if step.way != Way::Both && !fault.hits_links() {
        return Err(field(&name("way"), "present", "only packet faults have a use for it"));
    }
    match fault {
        Fault::Partition if step.target != Target::default() => {
            Err(field(&name("target"), step.target, "of a partition the side says who is hit"))
        }
        Fault::Partition => side(plan, step, &name("side")),
        Fault::Link => link(plan, step, &name),
        Fault::Kill | Fault::Pause | Fault::Isolate => Ok(()),
    }
}

fn side(plan: &Plan, step: &Step, name: &str) -> Result<(), PlanError> {
    let shown = format!("{:?}", step.side.iter().map(|node| node.0).collect::<Vec<_>>());
    let distinct: BTreeSet<_> = step.side.iter().collect();
    let known = step.side.iter().all(|node| (1..=plan.nodes).contains(&node.0));
    let count = step.side.len() as u64;
    if count == 0 || count >= plan.nodes || distinct.len() as u64 != count || !known {
        let allowed =
            format!("must name some of the nodes 1 to {}, not all, none twice", plan.nodes);
        return Err(field(name, shown, allowed));
    }
    if count * 2 == plan.nodes {
        return Err(field(name, shown, "neither side would have a majority"));
    }
    Ok(())
}

fn link(plan: &Plan, step: &Step, name: impl Fn(&str) -> String) -> Result<(), PlanError> {
    if let Some(to) = step.to
        && !(1..=plan.nodes).contains(&to.0)
    {
        let allowed = format!("must lie between 1 and {}", plan.nodes);
        return Err(field(&name("to"), to, allowed));
    }
    match (step.to, step.target) {
        (None, _) => {}
        (Some(to), Target::Node(from)) if from != to => {}
        (Some(to), _) => {
            // Whoever leads may be the other end as well.
            let allowed = "the target must then be another node, target = { node = 1 }";
            return Err(field(&name("to"), to, allowed));
        }
    }
    let Some(faults) = &step.faults else {
        return Err(field(&name("faults"), "absent", "fault = \"link\" must say what befalls it"));
    };
    if faults.is_none() {
        return Err(field(&name("faults"), "empty", "it must say what befalls the link"));
    }
    link::validate(faults).map_err(|error| {
        field(&name(&format!("faults.{}", error.field)), error.value, error.allowed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{parse, validate};

    fn plan(step: &str) -> Plan {
        let text = format!(
            "scenario = \"x\"\nkind = \"failover\"\n[workload]\n\
             [[steps]]\nat = 1000\nreturn_after_ms = 1000\n{step}\n"
        );
        parse(&text).expect("well formed")
    }

    fn refused(step: &str) -> String {
        validate(&plan(step)).expect_err(step).to_string()
    }

    /// The links that the step hits at node 2, as `from>to`.
    fn hit(step: &str) -> Vec<String> {
        let plan = plan(step);
        validate(&plan).expect("can be carried out");
        assert!(packet_faults(&plan));
        let rules = rules(&plan, &plan.steps[0], NodeNumber(2));
        let mut links: Vec<_> =
            rules.iter().map(|rule| format!("{}>{}", rule.from, rule.to)).collect();
        links.sort();
        links
    }

    #[test]
    fn an_isolated_node_is_cut_off_from_each_other_and_nobody_else_is() {
        let both = ["1>2", "2>1", "2>3", "2>4", "2>5", "3>2", "4>2", "5>2"];
        assert_eq!(hit("fault = \"isolate\""), both);
        assert_eq!(hit("fault = \"isolate\"\nway = \"out\""), ["2>1", "2>3", "2>4", "2>5"]);
        assert_eq!(hit("fault = \"isolate\"\nway = \"in\""), ["1>2", "3>2", "4>2", "5>2"]);
    }

    #[test]
    fn a_partition_cuts_between_its_sides() {
        let links = hit("fault = \"partition\"\nside = [1, 4]\nway = \"out\"");
        assert_eq!(links, ["1>2", "1>3", "1>5", "4>2", "4>3", "4>5"]);
        for side in ["[1, 4]", "[5, 3, 2]"] {
            let plan = plan(&format!("fault = \"partition\"\nside = {side}"));
            let mut small = minority(&plan, &plan.steps[0]);
            small.sort();
            assert_eq!(small, [NodeNumber(1), NodeNumber(4)]);
        }
    }

    #[test]
    fn a_link_has_faults_of_its_own() {
        let step = "fault = \"link\"\ntarget = { node = 2 }\nto = 3\n\
                    faults = { loss = 0.1, delay_ms = 20 }";
        assert_eq!(hit(step), ["2>3", "3>2"]);
        let plan = plan(step);
        let rules = rules(&plan, &plan.steps[0], NodeNumber(2));
        assert!(rules.iter().all(|rule| rule.faults.delay_ms == 20 && !rule.faults.block));
    }

    #[test]
    fn a_plan_without_packet_faults_keeps_its_transport() {
        assert!(!packet_faults(&plan("fault = \"pause\"")));
    }

    #[test]
    fn what_a_step_cannot_mean_is_refused_by_name() {
        let cases = [
            ("fault = \"kill\"\nside = [1]", "steps[0].side is present, but only fault = \"part"),
            ("fault = \"isolate\"\nto = 1", "steps[0].to is present, but only fault = \"link\""),
            ("fault = \"isolate\"\nfaults = {}", "steps[0].faults is present, but only"),
            ("fault = \"kill\"\nway = \"in\"", "steps[0].way is present, but only packet faults"),
            ("fault = \"partition\"", "steps[0].side is [], but must name some of the nodes 1"),
            ("fault = \"partition\"\nside = [6]", "steps[0].side is [6], but"),
            ("fault = \"partition\"\nside = [1, 1]", "steps[0].side is [1, 1], but"),
            ("fault = \"partition\"\nside = [1, 2, 3, 4, 5]", "steps[0].side is [1, 2, 3, 4, 5]"),
            (
                "fault = \"partition\"\nside = [1]\ntarget = \"random\"",
                "steps[0].target is any node, but of a partition",
            ),
            ("fault = \"link\"", "steps[0].faults is absent, but"),
            ("fault = \"link\"\nfaults = {}", "steps[0].faults is empty, but"),
            ("fault = \"link\"\nto = 9\nfaults = { block = true }", "steps[0].to is 9, but must"),
            (
                "fault = \"link\"\nto = 2\ntarget = { node = 2 }\nfaults = { block = true }",
                "steps[0].to is 2, but the target must then be another node",
            ),
            (
                "fault = \"link\"\nto = 2\nfaults = { block = true }",
                "steps[0].to is 2, but the target must then be another node",
            ),
            (
                "fault = \"link\"\nfaults = { delay_ms = 70000 }",
                "steps[0].faults.delay_ms is 70000, but must lie between 0 and 60000",
            ),
        ];
        for (step, expected) in cases {
            let error = refused(step);
            assert!(error.starts_with(expected), "{step}: {error}");
        }
        let four = Plan { nodes: 4, ..plan("fault = \"partition\"\nside = [1, 2]") };
        let error = validate(&four).expect_err("a tie").to_string();
        assert!(error.contains("neither side would have a majority"), "{error}");
    }

    #[test]
    fn a_standing_node_cannot_be_told_of_its_links() {
        let pause = "fault = \"pause\"\n[[steps]]\nat = 1500\nreturn_after_ms = 1000\n";
        for packet in ["fault = \"isolate\"", "fault = \"link\"\nfaults = { loss = 0.1 }"] {
            let error = refused(&format!("{pause}{packet}"));
            assert!(error.contains("stands still"), "{error}");
        }
        let later = "fault = \"pause\"\n[[steps]]\nat = 2600\nreturn_after_ms = 1000\n";
        validate(&plan(&format!("{later}fault = \"isolate\""))).expect("one after the other");
    }
}
