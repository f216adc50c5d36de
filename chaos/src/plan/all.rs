//! Steps that hit all nodes at one moment: which faults can, and what their plan must say.
//!
//! Pure functions of a plan. Invariant: what passes leaves every store whole, so that all can
//! return with what they promised.

use crate::{
    fault::{CrashPoint, Fault, Target},
    plan::{Plan, PlanError, Step, field, forgets},
};

/// Checks a step that hits all nodes; any other passes.
pub(super) fn check(
    plan: &Plan,
    step: &Step,
    name: impl Fn(&str) -> String,
) -> Result<(), PlanError> {
    if step.target != Target::All {
        return Ok(());
    }
    if !step.fault.can_hit_all() {
        return Err(field(&name("target"), step.target, instead(step.fault)));
    }
    if forgets(plan, step.fault) {
        let value = format!("{} of all nodes with storage = \"memory\"", step.fault);
        let allowed = "all that was acknowledged would be gone with what they remember: use \
                       storage = \"disk\", or fault = \"pause\", which ends no process";
        return Err(field(&name("fault"), value, allowed));
    }
    if step.hand_over {
        let allowed = "where all end at once there is nobody to hand over to";
        return Err(field(&name("hand_over"), "true", allowed));
    }
    if step.point != CrashPoint::Any {
        let allowed = "at one moment each node is about something else: use any";
        return Err(field(&name("point"), step.point, allowed));
    }
    if !plan.expect.majority_may_be_lost {
        let allowed = "then nobody is left to serve: a plan that means that says \
                       expect.majority_may_be_lost = true";
        return Err(field(&name("target"), step.target, allowed));
    }
    Ok(())
}

/// What to do in place of a fault that cannot befall all.
fn instead(fault: Fault) -> &'static str {
    match fault {
        Fault::Leave => "a group that all have left is none: let one leave after the other",
        Fault::Wipe => {
            "all that was acknowledged would be gone with their stores: wipe one after the other"
        }
        Fault::Transfer => "only a leader can hand over",
        Fault::Isolate => {
            "to cut all off from each other use fault = \"partition\", with all pairs as its cut"
        }
        Fault::Partition => "of a partition the side says who is hit",
        Fault::Link => "links are hurt at one of their ends: give each node a step of its own",
        Fault::Disk => "each disk fails by itself: give each node a step of its own",
        Fault::Clock | Fault::Kill | Fault::Pause | Fault::Restart => {
            "nodes have clocks of their own: give each a step of its own"
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{Plan, WorldKind, fits, parse, validate};

    const MEANT: &str = "[expect]\nmajority_may_be_lost = true\n";

    fn plan(head: &str, step: &str, tail: &str) -> Plan {
        let text = format!(
            "scenario = \"x\"\nkind = \"failover\"\n{head}[workload]\n[[steps]]\nat = 1000\n\
             target = \"all\"\nreturn_after_ms = 1000\n{step}\n{tail}"
        );
        parse(&text).expect("well formed")
    }

    #[test]
    fn all_nodes_may_die_stand_still_or_be_restarted_where_that_is_meant() {
        for fault in ["kill", "pause", "restart"] {
            let step = format!("fault = \"{fault}\"");
            for nodes in ["", "nodes = 1\n", "nodes = 9\n"] {
                validate(&plan(nodes, &step, MEANT)).expect(fault);
            }
            let error = validate(&plan("", &step, "")).expect_err("it does not say so").to_string();
            assert!(error.starts_with("steps[0].target is all nodes, but then nobody"), "{error}");
        }
        let pause = plan("storage = \"memory\"\n", "fault = \"pause\"", MEANT);
        validate(&pause).expect("a paused node forgets nothing");
        let kill = plan("", "fault = \"kill\"", MEANT);
        for world in WorldKind::ALL {
            fits(&kill, world).expect("cores alone can die as well");
        }
    }

    #[test]
    fn what_cannot_befall_all_at_once_is_refused_with_what_can_be_done() {
        for (step, expected) in [
            ("fault = \"leave\"", "target is all nodes, but a group that all have left is none"),
            ("fault = \"wipe\"", "target is all nodes, but all that was acknowledged would be"),
            ("fault = \"transfer\"", "target is all nodes, but only a leader can hand over"),
            ("fault = \"isolate\"", "target is all nodes, but to cut all off from each other use"),
            ("fault = \"partition\"\nside = [1]", "target is all nodes, but of a partition the"),
            (
                "fault = \"link\"\nfaults = { loss = 0.1 }",
                "target is all nodes, but links are hurt at one of their ends",
            ),
            (
                "fault = \"clock\"\nclock = { rate_ppm = 5 }",
                "target is all nodes, but nodes have clocks of their own",
            ),
            ("fault = \"restart\"\nhand_over = true", "hand_over is true, but where all end"),
            ("fault = \"kill\"\npoint = \"sync\"", "point is sync, but at one moment each"),
            (
                "fault = \"kill\"\namong = [\"kill\", \"isolate\"]",
                "target is all nodes, but to cut all off",
            ),
        ] {
            let error = validate(&plan("", step, MEANT)).expect_err(step).to_string();
            assert!(error.starts_with(&format!("steps[0].{expected}")), "{step}: {error}");
        }
        let side = plan("", "fault = \"kill\"", MEANT);
        let again = Plan { steps: [side.steps.clone(), side.steps.clone()].concat(), ..side };
        let error = validate(&again).expect_err("they are down").to_string();
        assert!(error.starts_with("steps[0].target is all nodes, but step 1 may still"), "{error}");
    }

    #[test]
    fn what_all_would_forget_is_lost_and_refused_by_name() {
        for fault in ["kill", "restart"] {
            let step = format!("fault = \"{fault}\"");
            let forgetful = plan("storage = \"memory\"\n", &step, MEANT);
            let error = validate(&forgetful).expect_err("all is gone").to_string();
            let expected = format!(
                "steps[0].fault is {fault} of all nodes with storage = \"memory\", but all"
            );
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_side_is_never_all() {
        let text = "scenario = \"x\"\nkind = \"failover\"\n[workload]\n[[steps]]\nat = 1000\n\
                    fault = \"partition\"\nside = [\"all\"]\nreturn_after_ms = 1000\n";
        let error = parse(text).expect_err("a side is some").to_string();
        assert!(error.contains("\"leader\", \"follower\" or \"random\""), "{error}");
    }
}
