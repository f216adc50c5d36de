//! The one place where the laboratory's words become a report's.
//!
//! Pure functions between plain data: `chaos` does not know `reports`, and `reports` knows
//! neither Raft nor plans. Times become milliseconds; nothing is judged and nothing left out.

mod catch_up;

use chaos::checker;
use chaos::cluster::{self, MemberChange, NodeEvent, What as Noted};
use chaos::fault::NodeNumber;
use chaos::history::{Function, Operation, Outcome as Answer};
use chaos::outage;
use chaos::plan::Plan;
use chaos::run::{self, Outcome};
use chaos::schedule::{Schedule, Scheduled};
use chaos::seed::Seed;
use reports::{
    Check, Environment, Event, Fault, Kind, Lapse, Mark, Queues, RunRecord, SCHEMA_VERSION, Sample,
    Summary, Trial, Verdict, What,
};
use runtime::Role;

/// Where a plan is carried out, in the words of the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The world's name.
    pub(crate) world: &'a str,
    /// What carries the datagrams.
    pub(crate) transport: &'a str,
}

/// The record of a run that has only begun. As it stands it says *unknown*, since this is what a
/// harness leaves that was killed.
pub(crate) fn begun(
    plan: &Plan,
    seed: Seed,
    place: Place<'_>,
    environment: Environment,
) -> Result<RunRecord, serde_json::Error> {
    let plan = Plan { seed: Some(seed), ..plan.clone() };
    Ok(RunRecord {
        schema_version: SCHEMA_VERSION,
        scenario: plan.scenario.clone(),
        world: place.world.to_owned(),
        transport: place.transport.to_owned(),
        seed: seed.0,
        verdict: Verdict::Unknown,
        plan: serde_json::to_value(plan)?,
        command: None,
        environment,
        trace_hash: None,
        checks: vec![unknown(FINISHED, "the run goes on, or its harness was killed")],
        marks: Vec::new(),
        faults: Vec::new(),
        trials: Vec::new(),
        lapses: Vec::new(),
        catch_ups: Vec::new(),
        counts: std::collections::BTreeMap::new(),
        ratios: std::collections::BTreeMap::new(),
        metrics: std::collections::BTreeMap::new(),
    })
}

/// Enters what came of the run. One that was torn off, as a simulation is by a node that falls, has
/// no more than its checks: what it had told before stands as it was told.
pub(crate) fn finished(record: &mut RunRecord, outcome: &Outcome) {
    record.verdict = verdict(outcome.verdict());
    record.checks = outcome.checks.iter().map(check).collect();
    record.checks.extend(outcome.failure.as_deref().map(laboratory));
    if outcome.stopped {
        record.checks.push(unknown(FINISHED, "it was stopped from outside before its end"));
    }
    record.trace_hash = outcome.trace_hash.map(hash);
    if !outcome.marks.is_empty() {
        record.marks = outcome.marks.iter().map(mark).collect();
    }
    if has_schedule(outcome) {
        record.faults = faults(&outcome.schedule);
    }
    if !outcome.trials.is_empty() {
        record.trials = outcome.trials.iter().map(trial).collect();
    }
    record.lapses = outcome.lapses.iter().map(lapse).collect();
    record.catch_ups = outcome.catch_ups.iter().map(catch_up::catch_up).collect();
    record.counts.extend(outcome.counts.clone());
    record.ratios.extend(outcome.ratios.clone());
    let summaries = outcome
        .samples
        .iter()
        .filter_map(|(name, samples)| Some((name.clone(), Summary::from_samples(samples)?)));
    record.metrics.extend(summaries);
    if record.is_virtual() {
        record.counts.entry(SIMULATED_MS.to_owned()).or_insert_with(|| simulated_ms(outcome));
    }
}

/// Until when a run was seen to go on, where the world does not say how long it lasted.
fn simulated_ms(outcome: &Outcome) -> u64 {
    let operations = outcome.frozen.history.operations().iter();
    let answered =
        operations.map(|operation| operation.completed_ns.unwrap_or(operation.invoked_ns));
    let marked = outcome.marks.iter().map(|mark| mark.until_ns.unwrap_or(mark.at_ns));
    answered.chain(marked).max().unwrap_or(0) / 1_000_000
}

/// Whether it says what was to happen.
pub(crate) fn has_schedule(outcome: &Outcome) -> bool {
    outcome.schedule != Schedule::default()
}

/// Enters that not all of it could be kept. What broke is broken all the same.
pub(crate) fn unkept(record: &mut RunRecord, reason: &str) {
    record.checks.push(laboratory(&format!("not all could be written down: {reason}")));
    if record.verdict == Verdict::Valid {
        record.verdict = Verdict::Unknown;
    }
}

/// Enters why nothing came of the run.
pub(crate) fn failed(record: &mut RunRecord, reason: &str) {
    record.verdict = Verdict::Unknown;
    record.checks = vec![laboratory(reason)];
}

/// The check that the laboratory did its part, where it did not.
pub(crate) fn laboratory(reason: &str) -> Check {
    unknown(LABORATORY, reason)
}

/// The verdict of a record as an exit code: 0 valid, 1 a guarantee broke, 2 unknown, 3 the
/// laboratory failed. The same that the run ended with.
pub(crate) fn exit_code(record: &RunRecord) -> u8 {
    let failed = || record.checks.iter().any(|check| check.name == LABORATORY);
    match record.verdict {
        Verdict::Valid => 0,
        Verdict::Invalid => 1,
        Verdict::Unknown if failed() => 3,
        Verdict::Unknown => 2,
    }
}

/// An operation, as far as latency and throughput go.
pub(crate) fn sample(operation: &Operation) -> Sample {
    Sample {
        intended_ns: operation.intended_ns,
        completed_ns: operation.completed_ns,
        kind: match operation.f {
            Function::Read => Kind::Read,
            Function::Write => Kind::Write,
            Function::Cas => Kind::Cas,
        },
        outcome: match operation.outcome {
            Answer::Ok => reports::Outcome::Ok,
            Answer::Fail => reports::Outcome::Fail,
            Answer::Unknown => reports::Outcome::Unknown,
        },
        client: operation.client,
        id: operation.id,
        key: operation.key,
        node: operation.node,
    }
}

/// A checker's answer.
pub(crate) fn check(check: &checker::Check) -> Check {
    Check {
        name: check.name.clone(),
        verdict: verdict(check.verdict),
        detail: check.detail.clone(),
    }
}

/// A verdict.
pub(crate) fn verdict(verdict: checker::Verdict) -> Verdict {
    match verdict {
        checker::Verdict::Valid => Verdict::Valid,
        checker::Verdict::Invalid => Verdict::Invalid,
        checker::Verdict::Unknown => Verdict::Unknown,
    }
}

/// Something that happened.
pub(crate) fn mark(mark: &run::Mark) -> Mark {
    Mark {
        at_ms: ms(mark.at_ns),
        kind: mark.kind.clone(),
        node: mark.node.map(|node| node.0),
        nodes: numbers(&mark.nodes),
        detail: mark.detail.clone(),
        until_ms: mark.until_ns.map(ms),
    }
}

/// Something that happened, read back from a record.
pub(crate) fn mark_of_record(mark: &Mark) -> run::Mark {
    run::Mark {
        at_ns: ns(mark.at_ms),
        kind: mark.kind.clone(),
        node: mark.node.map(NodeNumber),
        nodes: mark.nodes.iter().copied().map(NodeNumber).collect(),
        detail: mark.detail.clone(),
        until_ns: mark.until_ms.map(ns),
    }
}

/// The faults of a schedule that were carried out, in order.
pub(crate) fn faults(schedule: &Schedule) -> Vec<Fault> {
    let struck = schedule.faults.iter().filter_map(|scheduled| {
        Some(Fault {
            trial: scheduled.trial,
            fault: scheduled.fault.word().to_owned(),
            disk: disk(schedule, scheduled),
            node: scheduled.node?.0,
            nodes: numbers(&scheduled.nodes),
            struck_ms: ms(scheduled.struck_ns?),
            returned_ms: scheduled.returned_ns.map(ms),
        })
    });
    let mut faults: Vec<Fault> = struck.collect();
    faults.sort_by(|a, b| a.struck_ms.total_cmp(&b.struck_ms));
    faults
}

/// In which way a disk failed.
fn disk(schedule: &Schedule, scheduled: &Scheduled) -> Option<String> {
    let step = usize::try_from(scheduled.step).ok().and_then(|step| schedule.steps.get(step))?;
    Some(step.disk?.kind.word().to_owned())
}

/// What a node noted.
pub(crate) fn event(event: &NodeEvent) -> Event {
    let number = |node: &NodeNumber| node.0;
    Event {
        at_ns: event.at_ns,
        node: event.node.0,
        what: match event.what.clone() {
            Noted::Became { role, term } => What::Became { role: role_word(role), term },
            Noted::Leader { leader, term } => {
                What::Leader { leader: leader.as_ref().map(number), term }
            }
            Noted::Campaign { term, pre_vote } => What::Campaign { term, pre_vote },
            Noted::Committed { index, term } => What::Committed { index, term },
            Noted::Founded => What::Founded,
            Noted::Member { node, is } => What::Member { member: node.0, is: change_word(is) },
            Noted::Bonded { with } => What::Bonded { with: with.0 },
            Noted::Unbonded { with } => What::Unbonded { with: with.0 },
            Noted::Stall { from_ns } => What::Stall { from_ns },
            Noted::Usage { resident_kb, log_kb, cpu_ms, queues } => {
                What::Usage { resident_kb, log_kb, cpu_ms, queues: self::queues(queues) }
            }
            Noted::Stopped { reason } => What::Stopped { reason },
            Noted::Died { reason } => What::Died { reason },
            Noted::Note { text } => What::Note { text },
        },
    }
}

fn queues(queues: cluster::Queues) -> Queues {
    Queues {
        calls: Some(queues.calls),
        storage_backlog_kb: Some(queues.storage_backlog_kb),
        held_messages: Some(queues.held_messages),
        mailbox_calls: Some(queues.mailbox_calls),
        bond_events: Some(queues.bond_events),
        applier_batches: Some(queues.applier_batches),
        lane_control_kb: Some(queues.lane_control_kb),
        lane_append_kb: Some(queues.lane_append_kb),
        lane_client_kb: Some(queues.lane_client_kb),
        lane_bulk_kb: Some(queues.lane_bulk_kb),
    }
}

fn change_word(is: MemberChange) -> String {
    let word = match is {
        MemberChange::Added => "added",
        MemberChange::Promoted => "promoted",
        MemberChange::Removed => "removed",
    };
    word.to_owned()
}

fn role_word(role: Role) -> String {
    let word = match role {
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    };
    word.to_owned()
}

/// What a fault cost.
pub(crate) fn trial(trial: &outage::Trial) -> Trial {
    Trial {
        fault: trial.fault.word().to_owned(),
        also: trial.also.iter().map(|fault| fault.word().to_owned()).collect(),
        node: trial.node.0,
        nodes: numbers(&trial.nodes),
        fault_at_ms: ms(trial.fault_at_ns),
        term_before: Some(trial.term_before),
        term_after: trial.term_after,
        leader_after: trial.leader_after.map(|node| node.0),
        outage_ms: trial.outage_ms,
        longest_gap_ms: trial.longest_gap_ms,
        longest_client_gap_ms: trial.longest_client_gap_ms,
        rejoin_ms: trial.rejoin_ms,
        detect_ms: trial.detect_ms,
        elect_ms: trial.elect_ms,
        commit_ms: trial.commit_ms,
        client_ms: trial.client_ms,
    }
}

/// A time in which a node was no member.
fn lapse(lapse: &run::Lapse) -> Lapse {
    Lapse {
        fault: lapse.fault.word().to_owned(),
        node: lapse.node.0,
        fault_at_ms: ms(lapse.fault_at_ns),
        leave_ms: lapse.leave_ms,
        evict_ms: lapse.evict_ms,
        join_ms: lapse.join_ms,
        promote_ms: lapse.promote_ms,
    }
}

/// A trace hash as text, since many JSON readers hold numbers as doubles and would lose bits.
fn hash(hash: u64) -> String {
    format!("{hash:#018x}")
}

fn numbers(nodes: &[NodeNumber]) -> Vec<u64> {
    nodes.iter().map(|node| node.0).collect()
}

fn unknown(name: &str, detail: &str) -> Check {
    Check { name: name.to_owned(), verdict: Verdict::Unknown, detail: detail.to_owned() }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Below 2^53 ns, a hundred days, nothing is lost but what a file rounds off.
pub(crate) fn ns(ms: f64) -> u64 {
    (ms * 1e6).round() as u64
}

/// The count of virtual time.
pub(crate) const SIMULATED_MS: &str = "simulated_ms";
/// The check that a run came to its end.
pub(crate) const FINISHED: &str = "finished";
/// The check that the laboratory itself did its part.
pub(crate) const LABORATORY: &str = "laboratory";

#[cfg(test)]
mod tests {
    use chaos::fault::{Fault as Hit, Target};
    use chaos::history::RequestId;

    use super::*;
    use crate::catalogue;

    fn record() -> RunRecord {
        let plan = catalogue::all().unwrap().remove(0).plan;
        let environment = Environment {
            commit: "0123456789ab".to_owned(),
            build_profile: "release".to_owned(),
            rustc: "rustc 1".to_owned(),
            machine: "2 cores".to_owned(),
        };
        let place = Place { world: "process", transport: "QUIC" };
        begun(&plan, Seed(u64::MAX), place, environment).unwrap()
    }

    fn outcome() -> Outcome {
        Outcome {
            verdict: Some(checker::Verdict::Valid),
            checks: vec![checker::Check {
                name: "linearizable".to_owned(),
                verdict: checker::Verdict::Valid,
                detail: "10 keys".to_owned(),
            }],
            marks: vec![run::Mark {
                at_ns: 1_500_000,
                kind: "kill".to_owned(),
                node: Some(NodeNumber(2)),
                nodes: vec![NodeNumber(2), NodeNumber(3)],
                detail: "leader".to_owned(),
                until_ns: Some(2_000_000),
            }],
            trials: vec![outage::Trial {
                number: 1,
                fault: Hit::Kill,
                also: vec![Hit::Pause],
                node: NodeNumber(2),
                nodes: vec![NodeNumber(2), NodeNumber(3)],
                fault_at_ns: 1_500_000,
                term_before: 3,
                term_after: Some(4),
                leader_after: Some(NodeNumber(1)),
                outage_ms: Some(200.0),
                longest_gap_ms: Some(201.0),
                longest_client_gap_ms: Some(210.0),
                rejoin_ms: Some(40.0),
                detect_ms: Some(150.0),
                elect_ms: Some(20.0),
                commit_ms: Some(10.0),
                client_ms: Some(20.0),
            }],
            lapses: vec![run::Lapse {
                fault: Hit::Kill,
                node: NodeNumber(3),
                fault_at_ns: 1_500_000,
                leave_ms: None,
                evict_ms: Some(3_000.0),
                join_ms: Some(30.0),
                promote_ms: Some(70.0),
            }],
            counts: [("elections".to_owned(), 1)].into(),
            ratios: [("overlap".to_owned(), 2.5)].into(),
            trace_hash: Some(0x2a),
            samples: [("rejoin_ms".to_owned(), vec![40.0, 60.0]), ("none_ms".to_owned(), vec![])]
                .into(),
            ..Outcome::default()
        }
    }

    #[test]
    fn a_run_that_only_began_is_unknown_and_holds_its_seed() {
        let record = record();
        assert_eq!(record.verdict, Verdict::Unknown);
        assert_eq!(record.checks[0].name, FINISHED);
        assert_eq!(record.plan["seed"], "0xffffffffffffffff");
        assert_eq!(record.plan["workload"]["rate_per_s"], 500);
    }

    #[test]
    fn an_outcome_keeps_everything_in_milliseconds() {
        let mut record = record();
        finished(&mut record, &outcome());
        assert_eq!(record.verdict, Verdict::Valid);
        assert_eq!(record.checks.len(), 1);
        let mark = &record.marks[0];
        assert_eq!((mark.at_ms, mark.until_ms, mark.node), (1.5, Some(2.0), Some(2)));
        let trial = &record.trials[0];
        assert_eq!((trial.fault.as_str(), trial.node, trial.fault_at_ms), ("kill", 2, 1.5));
        assert_eq!((&mark.nodes, &trial.nodes), (&vec![2, 3], &vec![2, 3]));
        assert_eq!((trial.term_before, trial.term_after), (Some(3), Some(4)));
        assert_eq!((trial.leader_after, trial.outage_ms), (Some(1), Some(200.0)));
        assert_eq!(trial.parts(), [Some(150.0), Some(20.0), Some(10.0), Some(20.0)]);
        assert_eq!((trial.longest_gap_ms, trial.rejoin_ms), (Some(201.0), Some(40.0)));
        assert_eq!(trial.longest_client_gap_ms, Some(210.0));
        assert_eq!(trial.also, ["pause"]);
        let lapse = &record.lapses[0];
        assert_eq!((lapse.fault.as_str(), lapse.node, lapse.fault_at_ms), ("kill", 3, 1.5));
        assert_eq!((lapse.leave_ms, lapse.evict_ms), (None, Some(3_000.0)));
        assert_eq!((lapse.join_ms, lapse.promote_ms), (Some(30.0), Some(70.0)));
        assert_eq!((record.counts["elections"], record.ratios["overlap"]), (1, 2.5));
        assert_eq!(record.trace_hash.as_deref(), Some("0x000000000000002a"));
        assert_eq!(record.metrics["rejoin_ms"].mean, 50.0);
        assert!(!record.metrics.contains_key("none_ms"), "of nothing there is no distribution");
    }

    #[test]
    fn a_run_in_virtual_time_says_how_long_it_was() {
        let mut record = RunRecord { world: "sim".to_owned(), ..record() };
        finished(&mut record, &outcome());
        assert_eq!(record.counts[SIMULATED_MS], 2, "the end of the last mark");
        record.counts.clear();
        let told = [(SIMULATED_MS.to_owned(), 77)].into();
        finished(&mut record, &Outcome { counts: told, ..outcome() });
        assert_eq!(record.counts[SIMULATED_MS], 77);
    }

    #[test]
    fn a_failure_and_a_stop_are_told_among_the_checks() {
        let mut record = record();
        let outcome = Outcome {
            verdict: None,
            failure: Some("node 3 did not start".to_owned()),
            stopped: true,
            ..outcome()
        };
        finished(&mut record, &outcome);
        assert_eq!(record.verdict, Verdict::Unknown);
        let told: Vec<_> = record.checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(told, ["linearizable", LABORATORY, FINISHED]);
        assert_eq!(record.checks[1].detail, "node 3 did not start");
    }

    #[test]
    fn what_a_run_had_told_stands_where_it_was_torn_off() {
        let struck = Scheduled {
            trial: 1,
            step: 0,
            due_ns: 5,
            fault: Hit::Kill,
            target: Target::Leader,
            return_after_ms: 7,
            draw: 0,
            node: Some(NodeNumber(2)),
            nodes: Vec::new(),
            struck_ns: Some(1_500_000),
            returned_ns: None,
        };
        let schedule = Schedule { faults: vec![struck], ..Schedule::default() };
        let mut record = record();
        finished(&mut record, &Outcome { schedule, ..outcome() });
        let told = record.clone();
        assert_eq!((told.marks.len(), told.faults.len(), told.trials.len()), (1, 1, 1));
        let verdict = checker::Verdict::Invalid;
        let fallen = checker::Check { name: "nodes".to_owned(), verdict, detail: "2".to_owned() };
        let torn = Outcome { verdict: Some(verdict), checks: vec![fallen], ..Outcome::default() };
        finished(&mut record, &torn);
        assert_eq!((record.checks.len(), exit_code(&record)), (1, 1));
        assert_eq!(
            (record.marks, record.faults, record.trials),
            (told.marks, told.faults, told.trials)
        );
    }

    #[test]
    fn what_cannot_be_written_down_makes_no_run_better() {
        use checker::Verdict::{Invalid, Unknown, Valid};
        let code = |verdict| {
            let mut record = record();
            finished(&mut record, &Outcome { verdict: Some(verdict), ..outcome() });
            unkept(&mut record, "no space is left");
            exit_code(&record)
        };
        assert_eq!([Valid, Invalid, Unknown].map(code), [3, 1, 3]);
    }

    #[test]
    fn a_record_gives_the_exit_code_that_its_run_ended_with() {
        use checker::Verdict::{Invalid, Unknown, Valid};
        let mut codes = Vec::new();
        for verdict in [Valid, Invalid, Unknown] {
            for failure in [None, Some("see overlap".to_owned())] {
                // What failed or was stopped is never valid.
                let verdict = if failure.is_some() && verdict == Valid { Unknown } else { verdict };
                let outcome = Outcome { verdict: Some(verdict), failure, ..outcome() };
                let mut record = record();
                finished(&mut record, &outcome);
                assert_eq!(exit_code(&record), outcome.exit_code());
                codes.push(outcome.exit_code());
            }
        }
        assert_eq!(codes, [0, 3, 1, 1, 2, 3]);
        let mut record = record();
        failed(&mut record, "node 3 did not start");
        assert_eq!(exit_code(&record), 3);
    }

    #[test]
    fn what_a_node_uses_is_told_whole() {
        let noted = NodeEvent {
            at_ns: 7,
            node: NodeNumber(2),
            what: Noted::Usage {
                resident_kb: 1,
                log_kb: 2,
                cpu_ms: 3,
                queues: cluster::Queues {
                    calls: 4,
                    mailbox_calls: 5,
                    bond_events: 6,
                    applier_batches: 7,
                    held_messages: 8,
                    storage_backlog_kb: 9,
                    lane_control_kb: 10,
                    lane_append_kb: 11,
                    lane_client_kb: 12,
                    lane_bulk_kb: 13,
                },
            },
        };
        let told = serde_json::to_value(event(&noted)).unwrap();
        let mut expected = serde_json::to_value(&noted.what).unwrap()["usage"].clone();
        let queues = expected["queues"].take();
        let fields = expected.as_object_mut().unwrap();
        fields.remove("queues");
        // What the harness is told of queues stands beside the rest, under the same names.
        fields.extend(queues.as_object().unwrap().clone());
        fields.extend([("at_ns", 7), ("node", 2)].map(|(key, n)| (key.to_owned(), n.into())));
        fields.insert("what".to_owned(), "usage".into());
        assert_eq!(told, expected);
    }

    #[test]
    fn an_operation_becomes_a_sample() {
        let operation = Operation {
            client: 1,
            id: 7,
            f: Function::Cas,
            key: 3,
            value: Some(9),
            expected: None,
            result: None,
            outcome: Answer::Unknown,
            intended_ns: 10,
            invoked_ns: 12,
            completed_ns: None,
            node: None,
            term: None,
            index: None,
            request: Some(RequestId { session: 1, sequence: 2 }),
        };
        let expected = Sample {
            intended_ns: 10,
            completed_ns: None,
            kind: Kind::Cas,
            outcome: reports::Outcome::Unknown,
            client: 1,
            id: 7,
            key: 3,
            node: None,
        };
        assert_eq!(sample(&operation), expected);
    }
}
