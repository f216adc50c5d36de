//! What the logs of the nodes must hold: scripts with one log per node.
//!
//! A log is a list of `term/index:request=value`.

use chaos::checker::acknowledged::Acknowledged;
use chaos::checker::at_most_once::AtMostOnce;
use chaos::checker::{Check, Checker, Verdict};
use chaos::history::{Frozen, LogLine, NodeLog, Operation, RequestId};
use chaos::history::{LogOrder, parse_logs, write_logs};

use super::script::{frozen, operations};

/// Two acknowledged writes and a refused one. Request 1.1 stands at 2/5, 1.2 at 2/6.
fn acknowledged() -> Vec<Operation> {
    let mut operations = operations("write 1  0..1\n  write 2  2..3\n  write 3 fail  4..5");
    for (operation, sequence) in operations.iter_mut().zip(1..) {
        operation.request = Some(RequestId { session: 1, sequence });
    }
    for (operation, index) in operations.iter_mut().zip([5, 6]) {
        (operation.term, operation.index) = (Some(2), Some(index));
    }
    operations
}

fn log(node: u64, lines: &str) -> NodeLog {
    let lines = lines.split_whitespace().map(|line| {
        let (position, rest) = line.split_once(':').expect("position:rest");
        let (term, index) = position.split_once('/').expect("term/index");
        let (sequence, value) = rest.split_once('=').expect("request=value");
        let number = |word: &str| word.parse::<u64>().expect("a number");
        LogLine {
            term: number(term),
            index: number(index),
            request: Some(RequestId { session: 1, sequence: number(sequence) }),
            value: Some(number(value)),
        }
    });
    NodeLog { node, group: 1, lines: lines.collect() }
}

fn run(logs: &[&str]) -> Frozen {
    let logs: Vec<NodeLog> = logs.iter().zip(1..).map(|(lines, node)| log(node, lines)).collect();
    Frozen { nodes: logs.iter().map(|log| log.node).collect(), logs, ..frozen(acknowledged()) }
}

#[track_caller]
fn says(check: &Check, verdict: Verdict, part: &str) {
    assert_eq!(check.verdict, verdict, "{}", check.detail);
    assert!(check.detail.contains(part), "`{part}` is not said: {}", check.detail);
}

const WHOLE: &str = "2/5:1=1 2/6:2=2";

#[test]
fn what_was_acknowledged_stands_once_in_every_log() {
    let run = run(&[WHOLE, WHOLE, WHOLE]);
    says(
        &Acknowledged.check(&run),
        Verdict::Valid,
        "2 acknowledged writes stand once in each of 3",
    );
    says(&AtMostOnce.check(&run), Verdict::Valid, "2 requests stand at most once in 3 logs");
}

#[test]
fn what_went_into_a_snapshot_is_looked_for_in_the_other_logs_and_said() {
    let check = Acknowledged.check(&run(&[WHOLE, "2/6:2=2"]));
    says(&check, Verdict::Valid, "but for 1 times that one is in a snapshot");
    let check = Acknowledged.check(&run(&["2/7:9=9", "2/8:8=8"]));
    says(&check, Verdict::Unknown, "all that was acknowledged is in snapshots, and in no log; ");
    let lost = Acknowledged.check(&run(&[WHOLE, "2/5:1=1"]));
    says(&lost, Verdict::Invalid, "the log of node 2 does not hold it");
}

#[test]
fn what_no_log_shows_is_a_doubt_unless_its_register_was_read_afterwards() {
    // Of the first write no log tells anything, and nobody has looked since.
    let compacted = run(&["2/6:2=2", "2/6:2=2", "2/6:2=2"]);
    let check = Acknowledged.check(&compacted);
    let says_which = "operation 1 (request 1.1) was acknowledged and is in no log, only in \
                      snapshots, and its register 1 was not read afterwards";
    says(&check, Verdict::Unknown, says_which);
    let read = |read: &str| {
        let mut asked = acknowledged();
        let mut looks = operations(read);
        looks.iter_mut().for_each(|one| one.id = 9);
        asked.extend(looks);
        Acknowledged.check(&Frozen { history: frozen(asked).history, ..compacted.clone() })
    };
    let seen = "but for 3 times that one is in a snapshot; 1 are in no log, and their registers";
    says(&read("read 2  6..7"), Verdict::Valid, seen);
    // Asked before the answer was there, or of another register, it says nothing of the write.
    assert_eq!(read("read -  0..7").verdict, Verdict::Unknown);
    assert_eq!(read("read unknown  6..").verdict, Verdict::Unknown);
    let at_most_once = AtMostOnce.check(&compacted);
    says(&at_most_once, Verdict::Valid, "none; 1 acknowledged ones are in snapshots alone");
}

#[test]
fn a_lost_write_is_found_on_any_node() {
    let check = Acknowledged.check(&run(&[WHOLE, WHOLE, "2/5:1=1"]));
    let lost = "operation 2 (request 1.2) was acknowledged at term 2, index 6, \
                but the log of node 3 does not hold it";
    says(&check, Verdict::Invalid, lost);
}

#[test]
fn a_write_at_another_position_is_found() {
    let moved = run(&[WHOLE, "2/5:1=1 3/7:2=2"]);
    says(&Acknowledged.check(&moved), Verdict::Invalid, "node 2 holds it at term 3, index 7");
    let differ = "stands at term 2, index 6 on node 1, but at term 3, index 7 on node 2";
    says(&AtMostOnce.check(&moved), Verdict::Invalid, differ);
}

#[test]
fn a_request_that_stands_twice_is_found() {
    let twice = run(&["2/5:1=1 2/6:2=2 2/7:1=1"]);
    says(&Acknowledged.check(&twice), Verdict::Invalid, "holds it 2 times");
    says(&AtMostOnce.check(&twice), Verdict::Invalid, "holds request 1.1 twice, at 5 and 7");
}

#[test]
fn a_value_sent_again_under_another_request_is_found() {
    let again = run(&["2/5:1=1 2/6:2=2 2/7:9=2"]);
    says(&Acknowledged.check(&again), Verdict::Valid, "");
    says(&AtMostOnce.check(&again), Verdict::Invalid, "holds the value 2 twice, at 6 and 7");
}

#[test]
fn a_refused_request_must_stand_nowhere() {
    let refused = run(&[WHOLE, "2/5:1=1 2/6:2=2 2/7:3=3"]);
    let breach = "operation 3 (request 1.3) was answered fail, but node 2 holds it at 7";
    says(&AtMostOnce.check(&refused), Verdict::Invalid, breach);
}

#[test]
fn a_missing_log_is_no_pass() {
    let mut run = run(&[WHOLE, WHOLE]);
    run.nodes.push(3);
    says(&Acknowledged.check(&run), Verdict::Unknown, "the log of node 3 is missing");
    let none = Frozen { nodes: vec![], logs: vec![], ..run };
    says(&Acknowledged.check(&none), Verdict::Unknown, "no node was named");
    says(&AtMostOnce.check(&none), Verdict::Unknown, "no log was collected");
}

#[test]
fn an_answer_without_a_position_is_no_pass() {
    let mut operations = acknowledged();
    (operations[1].term, operations[1].index) = (None, None);
    let run = Frozen { history: frozen(operations).history, ..run(&[WHOLE]) };
    says(&Acknowledged.check(&run), Verdict::Unknown, "operation 2 was acknowledged without");
}

#[test]
fn a_workload_that_repeats_a_value_is_no_pass() {
    let mut operations = acknowledged();
    operations[1].value = Some(1);
    let run = Frozen { history: frozen(operations).history, ..run(&[WHOLE]) };
    says(&AtMostOnce.check(&run), Verdict::Unknown, "wrote 1 twice, as operations 1 and 2");
}

#[test]
fn stored_logs_are_judged_again() {
    let mut logs = run(&[WHOLE, "2/5:1=1"]).logs;
    let of_another = logs.iter().map(|log| NodeLog { group: 2, ..log.clone() });
    logs.extend(of_another.collect::<Vec<_>>());
    let mut file = Vec::new();
    write_logs(&mut file, &logs).expect("memory takes all");
    let again = parse_logs("logs.jsonl".as_ref(), LogOrder::Gapless, file.as_slice());
    assert_eq!(again.expect("written by us"), logs);
}
