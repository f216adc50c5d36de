//! Plans in the world of cores: the same faults, figures and checkers as anywhere else.

use std::{collections::BTreeMap, io};

use chaos::{
    checker::Verdict,
    history::Operation,
    outage::Trial,
    plan::{Plan, PlanError, parse},
    run::{Listener, Mark, Outcome, Phase, RunError, Stop},
    schedule::Schedule,
    seed::Seed,
    swarm::carry_out,
};

/// Hears everything and keeps nothing.
struct Deaf;

impl Listener for Deaf {
    fn phase(&mut self, _: Phase) -> io::Result<()> {
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn operation(&mut self, _: &Operation) -> io::Result<()> {
        Ok(())
    }

    fn marks(&mut self, _: &[Mark]) -> io::Result<()> {
        Ok(())
    }

    fn trials(&mut self, _: &[Trial]) -> io::Result<()> {
        Ok(())
    }

    fn schedule(&mut self, _: &Schedule) -> io::Result<()> {
        Ok(())
    }
}

fn plan(kind: &str, rest: &str) -> Plan {
    let text = format!("scenario = \"x\"\nkind = \"{kind}\"\n{rest}");
    parse(&text).expect("the test's plan is one")
}

fn step(fault: &str, rest: &str) -> String {
    format!("[[steps]]\nat = \"random\"\nfault = \"{fault}\"\nreturn_after_ms = 1500\n{rest}\n")
}

fn run(plan: &Plan, seed: u64) -> Outcome {
    let (_stopper, stop) = Stop::new();
    carry_out(plan, Seed(seed), Box::new(Deaf), &stop).expect("the world can do it")
}

#[track_caller]
fn valid(outcome: &Outcome) {
    let checks: Vec<String> = outcome
        .checks
        .iter()
        .map(|check| format!("{:?} {}: {}", check.verdict, check.name, check.detail))
        .collect();
    let (failure, checks) = (&outcome.failure, checks.join("\n"));
    assert_eq!(outcome.verdict(), Verdict::Valid, "{failure:?}\n{checks}");
}

#[test]
fn a_steady_load_is_served_at_its_rate_by_one_leader() {
    let load = "[workload]\nduration_ms = 20000\n[expect]\nterm_changes_max = 0\n";
    let outcome = run(&plan("steady", load), 1);
    valid(&outcome);
    assert_eq!(outcome.counts["term_changes"], 0);
    let (due, ok) = (outcome.counts["operations"], outcome.counts["ok"]);
    assert!(due >= 10_000 && ok == due, "{ok} of {due}");
    assert!(outcome.trials.is_empty() && outcome.checks.iter().any(|c| c.name == "invariants"));
}

#[test]
fn a_killed_leader_costs_an_election_and_returns() {
    let steps = step("kill", "");
    let outcome = run(&plan("failover", &format!("trials = 20\n[workload]\n{steps}")), 2);
    valid(&outcome);
    assert_eq!(outcome.trials.len(), 20);
    for trial in &outcome.trials {
        assert!(trial.term_after.is_some_and(|term| term > trial.term_before), "{trial:?}");
        let outage_ms = trial.outage_ms.expect("it was over");
        assert!((100.0..2_000.0).contains(&outage_ms), "{trial:?}");
        assert!(trial.rejoin_ms.is_some() && trial.detect_ms.is_some(), "{trial:?}");
    }
}

#[test]
fn all_nodes_hit_at_once_are_one_fault_with_one_outage() {
    let load = "trials = 5\n[workload]\n[expect]\nmajority_may_be_lost = true\n";
    for (fault, seed) in [("kill", 11), ("pause", 12)] {
        let steps = step(fault, "target = \"all\"");
        let outcome = run(&plan("failover", &format!("{load}{steps}")), seed);
        valid(&outcome);
        assert_eq!(outcome.trials.len(), 5, "{fault}");
        for trial in &outcome.trials {
            assert_eq!(trial.nodes.len(), 5, "{trial:?}");
            assert!(trial.outage_ms >= Some(1_500.0), "nobody was there to serve: {trial:?}");
            assert!(trial.rejoin_ms.is_some(), "{trial:?}");
        }
    }
}

#[test]
fn faults_of_one_moment_strike_together_and_cost_one_outage() {
    let kill = |target: &str| {
        let target = format!("target = \"{target}\"");
        format!("[[steps]]\nat = 1000\nfault = \"kill\"\nreturn_after_ms = 1500\n{target}\n")
    };
    for (first, second) in [("leader", "follower"), ("follower", "leader")] {
        let steps = format!("{}{}", kill(first), kill(second));
        let outcome = run(&plan("failover", &format!("trials = 5\n[workload]\n{steps}")), 13);
        valid(&outcome);
        for pair in outcome.schedule.faults.chunks(2) {
            assert_eq!(pair[0].struck_ns, pair[1].struck_ns, "at one moment");
            assert_ne!(pair[0].node, pair[1].node);
        }
        assert_eq!(outcome.trials.len(), 5, "{:?}", outcome.trials);
        for trial in &outcome.trials {
            assert_eq!((trial.nodes.len(), trial.also.len()), (2, 1), "{trial:?}");
            assert!(trial.outage_ms >= Some(100.0), "nobody led meanwhile: {trial:?}");
            assert!(trial.longest_client_gap_ms >= trial.longest_gap_ms, "{trial:?}");
        }
        assert_eq!(outcome.samples["longest_client_gap_ms"].len(), 5);
    }
}

#[test]
fn every_fault_of_a_plan_takes_place_and_is_got_over() {
    let lossy = "faults = { loss = 0.2, delay_ms = 3, jitter_ms = 5, duplicate = 0.1, \
                 reorder = 0.2, reorder_ms = 20 }";
    let cases = [
        ("pause", String::new(), ""),
        ("kill", "target = \"follower\"".to_owned(), ""),
        ("isolate", String::new(), "messages_blocked"),
        ("isolate", "way = \"out\"".to_owned(), "messages_blocked"),
        ("isolate", "way = \"in\"".to_owned(), "messages_blocked"),
        ("partition", "side = [1, 2]".to_owned(), "messages_blocked"),
        ("link", lossy.to_owned(), "messages_lost"),
        ("link", lossy.to_owned(), "messages_reordered"),
    ];
    for (fault, rest, counted) in cases {
        let steps = step(fault, &rest);
        let outcome = run(&plan("failover", &format!("trials = 3\n[workload]\n{steps}")), 3);
        valid(&outcome);
        assert_eq!(outcome.trials.len(), 3, "{fault} {rest}");
        assert!(outcome.marks.iter().any(|mark| mark.kind == fault), "{fault} {rest}");
        assert!(counted.is_empty() || outcome.counts[counted] > 0, "{fault} {rest}");
    }
}

/// Whoever is cut off says nothing, and disturbs nobody when it returns: clients that stay with
/// their node see to it that it is asked.
#[test]
fn partitions_of_any_shape_silence_those_without_a_majority() {
    let load = "trials = 2\n[workload]\npinned = true\nclients = 10\nrate_per_s = 250\n\
                duration_ms = 8000\n[expect]\noutage_ms_max = 2000\n";
    let shapes = [
        ("isolate", ""),
        ("partition", "side = [\"leader\", \"follower\"]"),
        ("partition", "side = [\"follower\", \"follower\"]"),
        ("partition", "cut = [[1, 3], [1, 4], [2, 4], [2, 5], [3, 5]]"),
        ("partition", "cut = [[1, 4], [1, 5], [2, 4], [2, 5]]"),
        ("isolate", "flap = { on_ms = 300, off_ms = 200 }"),
    ];
    for (number, (fault, shape)) in (20..).zip(shapes) {
        let outcome = run(&plan("failover", &format!("{load}{}", step(fault, shape))), number);
        valid(&outcome);
        let of = |name: &str| outcome.checks.iter().any(|check| check.name == name);
        let lasts = !shape.contains("cut") && !shape.contains("flap");
        assert_eq!(of("cut-off-acknowledge-nothing"), lasts, "{shape}");
        assert!(of("return-disturbs-nobody"), "{shape}");
    }
}

#[test]
fn a_seed_is_a_run_to_the_bit_and_another_seed_is_another() {
    let steps = format!("{}{}", step("kill", ""), step("pause", "target = \"follower\""));
    let plan = plan("failover", &format!("trials = 2\n[workload]\n{steps}"));
    let told = |outcome: &Outcome| {
        let operations = outcome.frozen.history.operations().to_vec();
        (outcome.trace_hash.expect("it is exact"), operations, outcome.marks.clone())
    };
    let [once, twice, other] = [4, 4, 5].map(|seed| run(&plan, seed));
    assert_eq!(told(&once), told(&twice));
    assert_eq!(once.counts, twice.counts);
    assert_ne!(told(&once).0, told(&other).0);
}

#[test]
fn all_sizes_and_profiles_are_served() {
    for (head, seed) in [
        ("nodes = 1", 6),
        ("nodes = 3\nstorage = \"memory\"", 7),
        ("nodes = 9\nprofile = \"loopback\"", 8),
        ("profile = \"wan\"", 9),
    ] {
        let load = format!("{head}\n[workload]\nrate_per_s = 100\nduration_ms = 4000\n");
        valid(&run(&plan("steady", &load), seed));
    }
}

#[test]
fn a_stopped_run_is_judged_as_far_as_it_came() {
    let (stopper, stop) = Stop::new();
    stopper.stop();
    let plan = plan("steady", "[workload]\n");
    let outcome = carry_out(&plan, Seed(1), Box::new(Deaf), &stop).expect("it is one");
    assert!(outcome.stopped && outcome.verdict() == Verdict::Unknown);
}

#[test]
fn what_this_world_cannot_do_is_refused_by_name() {
    let refused = |plan: &Plan| {
        let (_stopper, stop) = Stop::new();
        match carry_out(plan, Seed(1), Box::new(Deaf), &stop) {
            Err(RunError::Plan(PlanError::Field { field, .. })) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&plan("formation", "")), "kind");
    assert_eq!(refused(&plan("steady", "background_load = 1\n[workload]\n")), "background_load");
    let corrupt = format!("[workload]\n{}", step("link", "faults = { corrupt = 0.1 }"));
    assert_eq!(refused(&plan("failover", &corrupt)), "steps[0].faults.corrupt");
}

#[test]
fn three_answers_are_given() {
    // An election takes longer there than a client waits.
    let load = "trials = 3\nprofile = \"wan\"\n[workload]\nduration_ms = 12000\n";
    let outcome = run(&plan("failover", &format!("{load}{}", step("kill", ""))), 10);
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for name in ["ok", "fail", "unknown"] {
        seen.insert(name, outcome.counts.get(name).copied().unwrap_or(0));
    }
    assert!(seen.values().all(|count| *count > 0), "{seen:?}");
    let of = |name: &str| outcome.checks.iter().find(|check| check.name == name);
    for name in ["linearizable", "invariants"] {
        assert_eq!(of(name).map(|check| check.verdict), Some(Verdict::Valid), "{name}");
    }
}

/// Two faults a trial, at moments of their own. Pinned clients among them were once told `Fail`
/// of what took effect: they had asked again before they heard that its place was taken.
#[test]
fn faults_that_overlap_break_nothing_in_many_seeds() {
    let lossy = "faults = { loss = 0.2, delay_ms = 3, jitter_ms = 5, duplicate = 0.1 }";
    let faults = [
        step("kill", ""),
        step("pause", "target = \"random\""),
        step("isolate", ""),
        step("isolate", "way = \"out\""),
        step("partition", "side = [\"leader\", \"follower\"]"),
        step("link", lossy),
        step("kill", "target = \"follower\""),
    ];
    let mut carried = 0;
    for seed in 0..28u64 {
        let [one, other] = [seed, 3 * seed + seed / 7]
            .map(|number| &faults[usize::try_from(number % 7).expect("a small number")]);
        let pinned = if seed % 2 == 0 { "pinned = true\nclients = 10" } else { "" };
        let load = format!("trials = 3\n[workload]\nrate_per_s = 200\n{pinned}\n{one}{other}");
        let (_stopper, stop) = Stop::new();
        let plan = plan("failover", &load);
        let outcome = match carry_out(&plan, Seed(seed), Box::new(Deaf), &stop) {
            Ok(outcome) => outcome,
            // The two together may take the majority.
            Err(RunError::Plan(_)) => continue,
            Err(error) => panic!("{seed}: {error}"),
        };
        carried += 1;
        let broken = outcome.checks.iter().filter(|check| check.verdict == Verdict::Invalid);
        let broken: Vec<String> =
            broken.map(|check| format!("{}: {}", check.name, check.detail)).collect();
        let failure = &outcome.failure;
        assert!(broken.is_empty() && failure.is_none(), "{seed}: {broken:?} {failure:?}");
    }
    assert!(carried >= 14, "{carried} of 28 plans were carried out");
}
