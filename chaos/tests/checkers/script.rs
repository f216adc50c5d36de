//! Histories written as scripts: one operation per line, times in milliseconds.
//!
//! ```text
//! write 1                0..10        acknowledged
//! write 2 unknown        5..          no answer came
//! write 3 fail           5..6         refused
//! read 1                 20..30       found 1; `-` is a register never written
//! cas 1 4 found 1        31..32       expected 1, stores 4, found 1
//! ```
//! All are on key 1; ids count from 1, and each operation is a client of its own.

use chaos::history::{Frozen, Function, History, Operation, Outcome};

/// The operations of a script.
pub(crate) fn operations(script: &str) -> Vec<Operation> {
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.zip(1..).map(|(line, id)| operation(line, id)).collect()
}

/// A run that consists of a script's history.
pub(crate) fn run(script: &str) -> Frozen {
    frozen(operations(script))
}

/// A run that consists of these operations.
pub(crate) fn frozen(operations: Vec<Operation>) -> Frozen {
    let history = History::new(operations).expect("operations are consistent");
    Frozen { history, ..Frozen::default() }
}

fn operation(line: &str, id: u64) -> Operation {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (times, words) = words.split_last().expect("a line ends with its times");
    let (invoked, completed) = times.split_once("..").expect("times are from..to");
    let outcome = match words.last() {
        Some(&"unknown") => Outcome::Unknown,
        Some(&"fail") => Outcome::Fail,
        _ => Outcome::Ok,
    };
    let (f, value, expected, result) = match words {
        ["read", "unknown" | "fail"] => (Function::Read, None, None, None),
        ["read", found] => (Function::Read, None, None, value(found)),
        ["write", stored, ..] => (Function::Write, value(stored), None, None),
        ["cas", expected, stored, "found", found] => {
            (Function::Cas, value(stored), value(expected), value(found))
        }
        ["cas", expected, stored, ..] => (Function::Cas, value(stored), value(expected), None),
        _ => panic!("no operation: {line}"),
    };
    let invoked_ns = milliseconds(invoked).expect("every operation was invoked");
    Operation {
        client: id,
        id,
        f,
        key: 1,
        value,
        expected,
        result,
        outcome,
        intended_ns: invoked_ns,
        invoked_ns,
        completed_ns: milliseconds(completed),
        node: None,
        term: None,
        index: None,
        request: None,
    }
}

fn value(word: &str) -> Option<u64> {
    (word != "-").then(|| word.parse().expect("a value is a number or -"))
}

fn milliseconds(word: &str) -> Option<u64> {
    let number = |word: &str| word.parse::<u64>().expect("a time is a number") * 1_000_000;
    (!word.is_empty()).then(|| number(word))
}
