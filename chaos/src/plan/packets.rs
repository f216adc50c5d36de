//! Steps that hurt the links between nodes: what they may say, and which links they mean.
//!
//! Pure functions of a plan. Invariant: a step says nothing that its fault has no use for.

mod majority;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    fault::{CrashPoint, Fault, LinkRule, NodeNumber, Target},
    link::{self, LinkFaults},
    plan::{Flap, LagPlan, Plan, PlanError, Step, consensus, field},
    skew,
};

pub(super) use majority::away;
pub(crate) use majority::reach;

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
    let hits = |step: &Step| step.each().iter().any(|drawn| drawn.fault.hits_links());
    plan.steps.iter().any(hits) || plan.lag.as_ref().is_some_and(LagPlan::hits_links)
}

/// What befalls which links when the step hits these nodes.
pub(crate) fn rules(plan: &Plan, step: &Step, hit: &[NodeNumber]) -> Vec<LinkRule> {
    let faults = step.faults.clone().unwrap_or_else(LinkFaults::blocked);
    let far = |near: NodeNumber| {
        let others = (1..=plan.nodes).map(NodeNumber).filter(|node| !hit.contains(node));
        let far = others.filter(|far| step.to.is_none_or(|to| to == *far));
        far.map(move |far| (near, far))
    };
    let pairs: Vec<_> = match step.cut.is_empty() {
        true => hit.iter().copied().flat_map(far).collect(),
        false => step.cut.clone(),
    };
    let rule = |from, to| LinkRule { from, to, faults: faults.clone() };
    let both = |(near, far)| {
        let out = (step.way != Way::In).then(|| rule(near, far));
        let back = (step.way != Way::Out).then(|| rule(far, near));
        out.into_iter().chain(back)
    };
    pairs.into_iter().flat_map(both).collect()
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
    if !step.cut.is_empty() && fault != Fault::Partition {
        return unused("cut", "partition");
    }
    if step.to.is_some() && fault != Fault::Link {
        return unused("to", "link");
    }
    if step.clock.is_some() && fault != Fault::Clock {
        return unused("clock", "clock");
    }
    if step.disk.is_some() && fault != Fault::Disk {
        return unused("disk", "disk");
    }
    if step.faults.is_some() && fault != Fault::Link {
        return unused("faults", "link");
    }
    if step.point != CrashPoint::Any && fault != Fault::Kill {
        return unused("point", "kill");
    }
    if step.hand_over && fault != Fault::Restart {
        return unused("hand_over", "restart");
    }
    let of_links = [("way", step.way != Way::Both), ("flap", step.flap.is_some())];
    if let Some((part, _)) = of_links.iter().find(|(_, given)| *given && !fault.hits_links()) {
        return Err(field(&name(part), "present", "only packet faults have a use for it"));
    }
    flap(plan, step, &name)?;
    match fault {
        Fault::Partition if step.target != Target::default() => {
            Err(field(&name("target"), step.target, "of a partition the side says who is hit"))
        }
        Fault::Partition => partition(plan, step, &name),
        Fault::Link => link(plan, step, &name),
        Fault::Clock => clock(plan, step, &name),
        Fault::Transfer if step.target != Target::Leader => {
            Err(field(&name("target"), step.target, "only a leader can hand over"))
        }
        Fault::Transfer if plan.nodes < 2 => {
            let allowed = "of one node there is nobody to hand over to: nodes must be at least 2";
            Err(field(&name("fault"), fault, allowed))
        }
        Fault::Kill
        | Fault::Pause
        | Fault::Isolate
        | Fault::Restart
        | Fault::Leave
        | Fault::Wipe
        | Fault::Disk
        | Fault::Transfer => Ok(()),
    }
}

fn clock(plan: &Plan, step: &Step, name: impl Fn(&str) -> String) -> Result<(), PlanError> {
    let Some(clock) = &step.clock else {
        return Err(field(&name("clock"), "absent", "fault = \"clock\" must say what befalls it"));
    };
    if clock.is_none() {
        return Err(field(&name("clock"), "empty", "it must say what befalls the clocks"));
    }
    let drift_max = i64::from(consensus(plan).clock_drift_ppm_max);
    if plan.lease_reads && clock.rate_ppm.abs() > drift_max {
        let allowed = format!(
            "leases are promised while clocks keep to {drift_max} (clock_drift_ppm_max): with \
             lease_reads = true a clock may differ by no more"
        );
        return Err(field(&name("clock.rate_ppm"), clock.rate_ppm, allowed));
    }
    skew::validate(clock).map_err(|error| {
        let allowed = format!("must lie between {} and {}", error.min, error.max);
        field(&name(&format!("clock.{}", error.field)), error.value, allowed)
    })
}

fn flap(plan: &Plan, step: &Step, name: impl Fn(&str) -> String) -> Result<(), PlanError> {
    let Some(Flap { on_ms, off_ms }) = step.flap else { return Ok(()) };
    let max = step.return_after_ms.of(plan.profile);
    for (part, value) in [("on_ms", on_ms), ("off_ms", off_ms)] {
        if !(FLAP_MS_MIN..=max).contains(&value) {
            let allowed = format!("must lie between {FLAP_MS_MIN} and return_after_ms, {max}");
            return Err(field(&name(&format!("flap.{part}")), value, allowed));
        }
    }
    Ok(())
}

fn partition(plan: &Plan, step: &Step, name: impl Fn(&str) -> String) -> Result<(), PlanError> {
    let (part, shown) = match (step.side.is_empty(), step.cut.is_empty()) {
        (false, false) => {
            return Err(field(
                &name("cut"),
                "present",
                "there is a side as well: give one of them",
            ));
        }
        (_, true) => ("side", side(plan, step, &name("side"))?),
        (true, false) => ("cut", cut(plan, step, &name("cut"))?),
    };
    if away(plan, step) == plan.nodes && !plan.expect.majority_may_be_lost {
        let allowed = "no node would reach a majority: a plan that means that says \
                       expect.majority_may_be_lost = true";
        return Err(field(&name(part), shown, allowed));
    }
    Ok(())
}

/// The side as it is shown.
fn side(plan: &Plan, step: &Step, name: &str) -> Result<String, PlanError> {
    let word = |member: &Target| match member {
        Target::Leader => "leader".to_owned(),
        Target::Follower => "follower".to_owned(),
        Target::Random => "random".to_owned(),
        Target::All => "all".to_owned(),
        Target::Node(node) => node.to_string(),
    };
    let shown = format!("[{}]", step.side.iter().map(word).collect::<Vec<_>>().join(", "));
    let one_only = |member: &&Target| matches!(member, Target::Leader | Target::Node(_));
    let single: Vec<_> = step.side.iter().filter(one_only).collect();
    let distinct: BTreeSet<_> = single.iter().collect();
    let known = step.side.iter().all(|member| match member {
        Target::Node(node) => (1..=plan.nodes).contains(&node.0),
        Target::All => false,
        _ => true,
    });
    let count = step.side.len() as u64;
    if count == 0 || count >= plan.nodes || distinct.len() != single.len() || !known {
        let allowed =
            format!("must name some of the nodes 1 to {}, not all, none twice", plan.nodes);
        return Err(field(name, shown, allowed));
    }
    // The leader may be one of those that are given by number.
    let numbers = step.side.iter().any(|member| matches!(member, Target::Node(_)));
    let words = step.side.iter().any(|member| !matches!(member, Target::Node(_)));
    if numbers && words {
        return Err(field(name, shown, "must name all by number, or all by a word"));
    }
    Ok(shown)
}

/// The pairs as they are shown.
fn cut(plan: &Plan, step: &Step, name: &str) -> Result<String, PlanError> {
    let shown = step.cut.iter().map(|(one, other)| format!("[{one}, {other}]"));
    let shown = format!("[{}]", shown.collect::<Vec<_>>().join(", "));
    let known = |node: &NodeNumber| (1..=plan.nodes).contains(&node.0);
    let sorted = |(one, other): &(NodeNumber, NodeNumber)| (*one.min(other), *one.max(other));
    let distinct: BTreeSet<_> = step.cut.iter().map(sorted).collect();
    let pairs = step.cut.iter().all(|(one, other)| one != other && known(one) && known(other));
    if distinct.len() != step.cut.len() || !pairs {
        let allowed =
            format!("must name pairs of the nodes 1 to {}, none with itself or twice", plan.nodes);
        return Err(field(name, shown, allowed));
    }
    Ok(shown)
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

/// Shorter than the shortest heartbeat is but a loss.
const FLAP_MS_MIN: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{WorldKind, fits, parse, validate};

    /// A plan with that step.
    pub(super) fn plan(step: &str) -> Plan {
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
        let rules = rules(&plan, &plan.steps[0], &[NodeNumber(2)]);
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
    fn a_link_has_faults_of_its_own() {
        let step = "fault = \"link\"\ntarget = { node = 2 }\nto = 3\n\
                    faults = { loss = 0.1, delay_ms = 20 }";
        assert_eq!(hit(step), ["2>3", "3>2"]);
        let plan = plan(step);
        let rules = rules(&plan, &plan.steps[0], &[NodeNumber(2)]);
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
            (
                "fault = \"partition\"\nside = [\"leader\", \"leader\"]",
                "steps[0].side is [leader, leader], but must name some",
            ),
            (
                "fault = \"partition\"\nside = [\"leader\", 2]",
                "steps[0].side is [leader, 2], but must name all by number, or all by a word",
            ),
            ("fault = \"isolate\"\ncut = [[1, 2]]", "steps[0].cut is present, but only fault = "),
            (
                "fault = \"partition\"\nside = [1]\ncut = [[1, 2]]",
                "steps[0].cut is present, but there is a side as well",
            ),
            ("fault = \"partition\"\ncut = [[1, 6]]", "steps[0].cut is [[1, 6]], but must name"),
            ("fault = \"partition\"\ncut = [[2, 2]]", "steps[0].cut is [[2, 2]], but must name"),
            ("fault = \"partition\"\ncut = [[1, 2], [2, 1]]", "steps[0].cut is [[1, 2], [2, 1]]"),
            (
                "fault = \"kill\"\nflap = { on_ms = 50, off_ms = 50 }",
                "steps[0].flap is present, but only packet faults",
            ),
            (
                "fault = \"isolate\"\nflap = { on_ms = 50, off_ms = 1001 }",
                "steps[0].flap.off_ms is 1001, but must lie between 10 and return_after_ms, 1000",
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
        let mut four = Plan { nodes: 4, ..plan("fault = \"partition\"\nside = [1, 2]") };
        let error = validate(&four).expect_err("a tie").to_string();
        assert!(error.contains("side is [1, 2], but no node would reach a majority"), "{error}");
        four.expect.majority_may_be_lost = true;
        validate(&four).expect("it says so");
    }

    #[test]
    fn what_a_step_that_hurts_no_link_cannot_mean_is_refused_by_name() {
        let cases = [
            ("fault = \"clock\"", "steps[0].clock is absent, but fault = \"clock\" must say"),
            ("fault = \"clock\"\nclock = {}", "steps[0].clock is empty, but it must say what"),
            ("fault = \"kill\"\nclock = {}", "steps[0].clock is present, but only fault = \"clock"),
            (
                "fault = \"clock\"\nclock = { rate_ppm = -900000 }",
                "steps[0].clock.rate_ppm is -900000, but must lie between -500000 and 1000000",
            ),
            (
                "fault = \"transfer\"\ntarget = \"follower\"",
                "steps[0].target is a follower, but only a leader",
            ),
            ("fault = \"kill\"\nhand_over = true", "steps[0].hand_over is present, but only"),
            ("fault = \"pause\"\npoint = \"sync\"", "steps[0].point is present, but only"),
        ];
        for (step, expected) in cases {
            let error = refused(step);
            assert!(error.starts_with(expected), "{step}: {error}");
        }
        let leased =
            Plan { lease_reads: true, ..plan("fault = \"clock\"\nclock = { rate_ppm = -100001 }") };
        let error = validate(&leased).expect_err("no clock is thought to be so wrong").to_string();
        assert!(error.starts_with("steps[0].clock.rate_ppm is -100001, but leases"), "{error}");
    }

    #[test]
    fn a_standing_node_cannot_be_told_of_its_links() {
        let pause = "fault = \"pause\"\n[[steps]]\nat = 1500\nreturn_after_ms = 1000\n";
        for packet in ["fault = \"isolate\"", "fault = \"link\"\nfaults = { loss = 0.1 }"] {
            let both = plan(&format!("{pause}{packet}"));
            validate(&both).expect("some world can do it");
            let error = fits(&both, WorldKind::Process).expect_err("not this one").to_string();
            assert!(error.contains("stands still"), "{error}");
            for able in [WorldKind::Sim, WorldKind::Swarm] {
                fits(&both, able).expect("nobody has to be told there");
            }
        }
        let later = "fault = \"pause\"\n[[steps]]\nat = 2600\nreturn_after_ms = 1000\n";
        let later = plan(&format!("{later}fault = \"isolate\""));
        fits(&later, WorldKind::Process).expect("one after the other");
    }
}
