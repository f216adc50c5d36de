//! Whole runs, small: what the command line does at full length.

use chaos::{
    checker::{Check, Verdict},
    plan::Plan,
    run::{Outcome, Phase, Stop},
};

use crate::lab::{Keeper, block_on, judged, plan, run_plan};

fn failover(fault: &str, trials: u64) -> Plan {
    plan(&format!(
        "scenario = \"small\"\nkind = \"failover\"\nnodes = 3\ntrials = {trials}\n\
         [workload]\nrate_per_s = 200\nclients = 5\nduration_ms = 3000\n\
         [[steps]]\nat = \"random\"\nfault = \"{fault}\"\nreturn_after_ms = 800\n"
    ))
}

pub(crate) fn valid(outcome: &Outcome) {
    let broken: Vec<_> =
        outcome.checks.iter().filter(|check| check.verdict != Verdict::Valid).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(outcome.failure, None);
    assert_eq!((outcome.verdict(), outcome.exit_code()), (Verdict::Valid, 0));
}

fn leaders_are_hit(fault: &str) {
    let (outcome, keeper) = judged(&failover(fault, 2), 11);
    valid(&outcome);
    assert_eq!(outcome.trials.len(), 2);
    for trial in &outcome.trials {
        let outage_ms = trial.outage_ms.expect("it recovered");
        let parts = [trial.detect_ms, trial.elect_ms, trial.commit_ms, trial.client_ms];
        let sum: f64 = parts.iter().map(|part| part.expect("a leader was hit")).sum();
        assert!((sum - outage_ms).abs() < 0.001, "{parts:?} make {sum}, not {outage_ms}");
        assert!(trial.term_after > Some(trial.term_before), "{trial:?}");
        assert!(trial.leader_after.is_some_and(|leader| leader != trial.node), "{trial:?}");
        assert!(trial.rejoin_ms.is_some(), "{trial:?}");
    }
    let told = keeper.told.lock().expect("the run is over");
    assert_eq!(told.operations, outcome.counts["operations"]);
    assert_eq!(told.trials, outcome.trials);
    let hit: Vec<_> = told.marks.iter().filter(|mark| mark.kind == fault).collect();
    assert_eq!(hit.len(), 2);
    assert!(hit.iter().all(|mark| mark.until_ns > Some(mark.at_ns)), "{hit:?}");
    let schedule = told.schedule.as_ref().expect("it was told");
    assert!(schedule.faults.iter().all(|fault| fault.returned_ns > fault.struck_ns));
    assert_eq!(told.phases.first(), Some(&Phase::Start));
    assert!(told.phases.is_sorted(), "{:?}", told.phases);
    assert!(outcome.ratios["overlap_per_key"] >= 2.0);
    assert_eq!(outcome.frozen.logs.len(), 3);
}

pub(crate) fn a_node_killed_again_as_it_returns() {
    let step = |at| {
        format!(
            "[[steps]]\nat = {at}\nfault = \"kill\"\ntarget = {{ node = 3 }}\nreturn_after_ms = 500\n"
        )
    };
    let plan = plan(&format!(
        "scenario = \"again\"\nkind = \"failover\"\nnodes = 3\ntrials = 2\n\
         [workload]\nrate_per_s = 200\nclients = 5\nduration_ms = 3000\n{}{}",
        step(500),
        step(1_010)
    ));
    let (outcome, _) = judged(&plan, 12);
    valid(&outcome);
    // Where clients are not served in between, two of them are one trial.
    let kills: usize = outcome.trials.iter().map(|trial| 1 + trial.also.len()).sum();
    assert_eq!(kills, 4, "{:?}", outcome.trials);
}

pub(crate) fn killed_leaders() {
    leaders_are_hit("kill");
}

pub(crate) fn paused_leaders() {
    leaders_are_hit("pause");
}

pub(crate) fn several_groups() {
    let (outcome, _) = judged(&Plan { groups: 3, ..failover("kill", 2) }, 11);
    valid(&outcome);
    assert_eq!(outcome.trials.len(), 2, "a trial is one of the first group");
    // Two others after each of two faults.
    let beside = ["beside_outage_ms", "beside_led_outage_ms"];
    let measured: usize =
        beside.iter().filter_map(|name| outcome.samples.get(*name)).map(Vec::len).sum();
    assert_eq!((measured, outcome.counts["beside_without_recovery"]), (4, 0));
    let logs: Vec<_> = outcome.frozen.logs.iter().map(|log| (log.group, log.node)).collect();
    assert_eq!(logs, [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)]);
    for name in ["linearizable", "acknowledged", "at most once", "liveness", "caught-up"] {
        let check = outcome.checks.iter().find(|check| check.name == name).expect(name);
        let told = ["group 1: ", "group 2: ", "; and 1 more, all valid"];
        assert!(told.iter().all(|words| check.detail.contains(words)), "{check:?}");
    }
}

pub(crate) fn members_that_come_and_go() {
    let step = |at, fault, return_after_ms| {
        format!(
            "[[steps]]\nat = {at}\nfault = \"{fault}\"\ntarget = \"follower\"\n\
             return_after_ms = {return_after_ms}\n"
        )
    };
    let plan = plan(&format!(
        "scenario = \"members\"\nkind = \"failover\"\nnodes = 5\nevict_after_ms = 3000\n\
         [workload]\nrate_per_s = 100\nclients = 5\nduration_ms = 16000\n{}{}{}",
        step(500, "leave", 1_000),
        step(4_000, "wipe", 1_000),
        // Longer than who is silent is waited for.
        step(7_500, "kill", 5_000)
    ));
    let (outcome, _) = judged(&plan, 14);
    valid(&outcome);
    for (name, least) in [("leave_ms", 1), ("evict_ms", 1), ("join_ms", 3), ("promote_ms", 3)] {
        let measured = outcome.samples.get(name).map_or(0, Vec::len);
        assert!(measured >= least, "{name}: {measured} times");
    }
}

pub(crate) fn groups_form() {
    let keeper = Keeper::default();
    let plan = plan("scenario = \"f\"\nkind = \"formation\"\nnodes = 3\ntrials = 4\n");
    let (_stopper, stop) = Stop::new();
    let outcome = block_on(run_plan(&plan, 3, &keeper, stop)).expect("the lab works");
    valid(&outcome);
    assert_eq!(outcome.samples["forming_ms"].len(), 4);
    assert!(outcome.samples["forming_ms"].iter().all(|ms| *ms > 0.0));
}

pub(crate) fn a_stopped_run() {
    let (stopper, stop) = Stop::new();
    let keeper = Keeper { stop_at: Some((2, stopper)), ..Keeper::default() };
    let outcome = block_on(run_plan(&failover("kill", 50), 5, &keeper, stop)).expect("it works");
    assert!(outcome.stopped);
    assert_eq!((outcome.verdict(), outcome.exit_code()), (Verdict::Unknown, 2));
    assert_eq!(outcome.trials.len(), 1);
    // It was stopped before it could be told how the group does after healing.
    let may_doubt = |check: &Check| check.name == "availability";
    let broken: Vec<_> = outcome
        .checks
        .iter()
        .filter(|check| match check.verdict {
            Verdict::Valid => false,
            Verdict::Unknown => !may_doubt(check),
            Verdict::Invalid => true,
        })
        .collect();
    assert!(broken.is_empty(), "what was done is judged, and was right: {broken:#?}");
    let judged = outcome.checks.iter().any(|check| check.name == "linearizable");
    assert!(judged, "{:?}", outcome.checks);
}

pub(crate) fn two_side_by_side() {
    let plan = plan("scenario = \"f\"\nkind = \"formation\"\nnodes = 3\ntrials = 2\n");
    let (one, other) = (Keeper::default(), Keeper::default());
    let ((_first, stop_one), (_second, stop_other)) = (Stop::new(), Stop::new());
    // The same seed: the same identities, at other addresses, in another group.
    let (one, other) = block_on(async {
        tokio::join!(run_plan(&plan, 9, &one, stop_one), run_plan(&plan, 9, &other, stop_other))
    });
    valid(&one.expect("the lab works"));
    valid(&other.expect("the lab works"));
}
