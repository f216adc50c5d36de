//! What the clients saw, and what the nodes' logs hold afterwards: all that a checker may read.
//!
//! Plain data. It knows no cluster, no clock and no consensus; times are nanoseconds on the one
//! monotonic clock of the harness. One operation is one line of `history.jsonl`; the meaning of
//! each field stands at [`Operation`], so that a foreign checker can be fed with the file.
//! Invariant: a [`History`] is in order of invocation, its ids are unique, and every operation in
//! it passed [`Operation::check`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod course;
mod fields;
mod reader;
mod writer;

pub use course::{Course, Elected, Stalled, Struck};
pub use reader::{LINE_BYTES_MAX, LogOrder, OPERATIONS_MAX, parse_history, parse_logs};
pub use reader::{read_history, read_history_so_far, read_logs};
pub use writer::{Writer, write_logs};

/// One operation of one client on one register, from its invocation to its answer.
///
/// - `client`: who invoked it; from [`OBSERVERS_FROM`] on no client of the load.
/// - `id`: its number, unique in the history.
/// - `f`: `read`, `write` or `cas` (compare-and-set).
/// - `key`: the register. Registers are independent of each other, and start *never written*.
/// - `value`: what a `write` or `cas` stores, unique over the whole run. `read`: null.
/// - `expected`: what a `cas` compares with, null for *never written*. Otherwise null.
/// - `result`: what a `read` found; what a `cas` found just before it acted, so that it **swapped
///   if and only if `result == expected`**. Null means *never written*. `write`: null. Without
///   meaning, and null, unless `outcome` is `ok`.
/// - `outcome`: `ok`, it took effect between invocation and completion; `fail`, it took no effect
///   and never will; `unknown`, it may take effect at any time after its invocation, or never.
/// - `intended_ns`: when the open-loop schedule wanted it to start; latency counts from here.
/// - `invoked_ns`: when it was handed to the client.
/// - `completed_ns`: when its answer arrived; null if and only if `outcome` is `unknown`. What
///   completes in the nanosecond in which another is invoked overlaps with it.
/// - `node`: the number of the node that answered, or null.
/// - `term`, `index`: the position in the log of an acknowledged `write` or `cas`. Both or neither.
/// - `request`: `{session, sequence}`, the request id under which it stands in the log; null for a
///   `read`, and where the client does not know it.
///
/// A compare-and-set that found another value is `ok`: it was answered, and saw that value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Operation {
    /// Who invoked it.
    pub client: u64,
    /// Its number, unique in the history.
    pub id: u64,
    /// What it does.
    pub f: Function,
    /// The register.
    pub key: u64,
    /// What it stores.
    pub value: Option<u64>,
    /// What a compare-and-set compares with.
    pub expected: Option<u64>,
    /// The value seen by a read, or by a compare-and-set just before it acted.
    pub result: Option<u64>,
    /// The answer.
    pub outcome: Outcome,
    /// Intended start.
    pub intended_ns: u64,
    /// Invocation.
    pub invoked_ns: u64,
    /// Answer; `None` if and only if the outcome is unknown.
    pub completed_ns: Option<u64>,
    /// The node that answered.
    pub node: Option<u64>,
    /// Term of its entry.
    pub term: Option<u64>,
    /// Index of its entry.
    pub index: Option<u64>,
    /// Its request id.
    pub request: Option<RequestId>,
}

/// What an operation does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Reads the register.
    Read,
    /// Stores `value`.
    Write,
    /// Stores `value` if the register holds `expected`.
    Cas,
}

/// What a client may believe (three answers, not two).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It took effect.
    Ok,
    /// It took no effect and never will.
    Fail,
    /// It may take effect at any time after its invocation, or never.
    Unknown,
}

/// Names one request of one client session for ever.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct RequestId {
    /// The session.
    pub session: u64,
    /// The request's number in its session.
    pub sequence: u64,
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.session, self.sequence)
    }
}

/// What is wrong with one field of an operation or a log line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("field `{field}`: {problem}")]
pub struct Malformed {
    /// The field.
    pub field: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl Malformed {
    fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.to_owned(), problem: problem.into() }
    }
}

/// Why a history or a set of logs could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file could not be read.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line that is not what it should be.
    #[error("{}:{line}: {problem}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// A field that is not what it should be.
    #[error("{}:{line}: {malformed}", file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// The field and its problem.
        malformed: Malformed,
    },
    /// An operation that never was in a file.
    #[error("operation {id}: {malformed}")]
    Operation {
        /// The operation.
        id: u64,
        /// The field and its problem.
        malformed: Malformed,
    },
}

impl Operation {
    /// Whether the fields agree with each other as said above.
    pub fn check(&self) -> Result<(), Malformed> {
        let writes = matches!(self.f, Function::Write | Function::Cas);
        let acknowledged = self.outcome == Outcome::Ok;
        if self.value.is_some() != writes {
            return Err(Malformed::new("value", "a write or cas needs one, a read has none"));
        }
        if self.expected.is_some() && self.f != Function::Cas {
            return Err(Malformed::new("expected", "only a cas may have one"));
        }
        if self.result.is_some() && !(acknowledged && self.f != Function::Write) {
            return Err(Malformed::new(
                "result",
                "only a read or cas with outcome ok may have one",
            ));
        }
        if self.completed_ns.is_none() != (self.outcome == Outcome::Unknown) {
            let problem = "must be null for outcome unknown, and a number for ok and fail";
            return Err(Malformed::new("completed_ns", problem));
        }
        if self.completed_ns.is_some_and(|completed| completed < self.invoked_ns) {
            return Err(Malformed::new("completed_ns", "lies before invoked_ns"));
        }
        if self.term.is_some() != self.index.is_some() {
            return Err(Malformed::new("index", "term and index stand together or not at all"));
        }
        Ok(())
    }

    /// Whether it is a compare-and-set that is known to have stored its value.
    pub fn swapped(&self) -> bool {
        self.f == Function::Cas && self.outcome == Outcome::Ok && self.result == self.expected
    }
}

/// Clients from here on are no part of a load: they look at what registers hold once it is over.
/// All others have lower names, also where several groups deal theirs out.
pub const OBSERVERS_FROM: u64 = 1 << 32;

/// The operations of one run, in order of invocation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
}

impl History {
    /// Sorts the operations by invocation, and refuses contradictory ones and ids used twice.
    pub fn new(mut operations: Vec<Operation>) -> Result<Self, HistoryError> {
        let mut ids = BTreeSet::new();
        for operation in &operations {
            let unique = if ids.insert(operation.id) {
                Ok(())
            } else {
                Err(Malformed::new("id", "another operation has the same"))
            };
            if let Err(malformed) = unique.and_then(|()| operation.check()) {
                return Err(HistoryError::Operation { id: operation.id, malformed });
            }
        }
        operations.sort_by_key(|operation| (operation.invoked_ns, operation.id));
        Ok(Self { operations })
    }

    /// All operations, in order of invocation.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operations of each key, in order of invocation.
    pub fn by_key(&self) -> BTreeMap<u64, Vec<&Operation>> {
        let mut keys: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(operation.key).or_default().push(operation);
        }
        keys
    }

    /// How many operations on its own key an acknowledged operation finds open when it is
    /// invoked, itself included; the mean over all acknowledged operations. `None` without any.
    ///
    /// Of operations invoked at the same instant the later in the history finds the earlier, so
    /// that each overlapping pair counts once: `n` that start together count (n + 1) / 2 on
    /// average. Only acknowledged operations count, on both sides: nobody knows how long an
    /// unknown one stays open, and a failed one tests nothing. Whoever looks once the load is over
    /// says nothing of the load.
    pub fn overlap_per_key(&self) -> Option<f64> {
        let mut open: BTreeMap<u64, BinaryHeap<Reverse<u64>>> = BTreeMap::new();
        let (mut found, mut acknowledged) = (0_u64, 0_u64);
        for operation in self.operations.iter().filter(|one| one.client < OBSERVERS_FROM) {
            let (Outcome::Ok, Some(completed)) = (operation.outcome, operation.completed_ns) else {
                continue;
            };
            let open = open.entry(operation.key).or_default();
            while open.peek().is_some_and(|Reverse(end)| *end < operation.invoked_ns) {
                open.pop();
            }
            open.push(Reverse(completed));
            found += open.len() as u64;
            acknowledged += 1;
        }
        (acknowledged > 0).then(|| found as f64 / acknowledged as f64)
    }
}

/// One committed entry in the log of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct LogLine {
    /// The entry's term.
    pub term: u64,
    /// The entry's index.
    pub index: u64,
    /// The request it carries; `None` for what no client asked for.
    pub request: Option<RequestId>,
    /// The value that it stores, if it is a write or a compare-and-set.
    pub value: Option<u64>,
}

impl LogLine {
    /// Whether it was asked for by a client and stores nothing: it only fills the log.
    pub(crate) fn only_fills(&self) -> bool {
        self.request.is_some() && self.value.is_none()
    }
}

/// Adds a page of a node's log to what came before. What only fills the log is left out, since no
/// history knows of it, but for the first entry: where a log begins says what it cannot tell of.
pub(crate) fn add_page(lines: &mut Vec<LogLine>, page: Vec<LogLine>) {
    for line in page {
        if lines.is_empty() || !line.only_fills() {
            lines.push(line);
        }
    }
}

/// The committed part of one node's log after the run has healed: from the first entry, or from
/// where a snapshot took the place of what was before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeLog {
    /// The node's number.
    pub node: u64,
    /// The group's, from 1, where nodes are members of several.
    pub group: u64,
    /// Its entries in order, the first whatever it is, of the others those that do not only fill
    /// it.
    pub lines: Vec<LogLine>,
}

impl NodeLog {
    /// Whether the entry of that index went into a snapshot, so that the log cannot tell of it.
    pub fn hides(&self, index: u64) -> bool {
        self.lines.first().is_some_and(|first| index < first.index)
    }
}

/// A run that is over: what the checkers judge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frozen {
    /// What the clients saw. Every operation invoked is in it.
    pub history: History,
    /// The nodes that must hold what was acknowledged.
    pub nodes: Vec<u64>,
    /// Their logs.
    pub logs: Vec<NodeLog>,
    /// What happened meanwhile; `None` if nobody wrote it down.
    pub course: Option<Course>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A read that was due when it was sent, and was answered; what else it may be is for whoever
    /// asks to change.
    pub(crate) fn read(id: u64, key: u64, invoked_ns: u64, completed_ns: u64) -> Operation {
        Operation {
            client: 0,
            id,
            f: Function::Read,
            key,
            value: None,
            expected: None,
            result: None,
            outcome: Outcome::Ok,
            intended_ns: invoked_ns,
            invoked_ns,
            completed_ns: Some(completed_ns),
            node: None,
            term: None,
            index: None,
            request: None,
        }
    }

    fn overlap(operations: Vec<Operation>) -> Option<f64> {
        History::new(operations).expect("consistent").overlap_per_key()
    }

    #[test]
    fn overlap_counts_each_pair_once() {
        assert_eq!(overlap(vec![]), None);
        assert_eq!(overlap(vec![read(1, 1, 0, 5), read(2, 1, 6, 9)]), Some(1.0));
        assert_eq!(overlap(vec![read(1, 1, 0, 5), read(2, 1, 5, 9)]), Some(1.5));
        assert_eq!(overlap(vec![read(1, 1, 0, 5), read(2, 2, 0, 5)]), Some(1.0));
        let burst = (0..5).map(|id| read(id, 1, 0, 5)).collect();
        assert_eq!(overlap(burst), Some(3.0));
    }

    #[test]
    fn overlap_ignores_what_was_not_acknowledged() {
        let lost = Operation { outcome: Outcome::Unknown, completed_ns: None, ..read(1, 1, 0, 0) };
        let refused = Operation { outcome: Outcome::Fail, ..read(2, 1, 0, 9) };
        assert_eq!(overlap(vec![lost, refused, read(3, 1, 1, 2)]), Some(1.0));
    }

    #[test]
    fn overlap_is_that_of_the_load_whoever_looks_afterwards() {
        let burst = (0..3).map(|id| read(id, 1, 0, 5));
        let looks = (10..90).map(|id| Operation { client: OBSERVERS_FROM, ..read(id, 1, id, id) });
        assert_eq!(overlap(burst.chain(looks).collect()), Some(2.0));
    }

    #[test]
    fn a_log_hides_what_lies_before_its_first_entry_whatever_that_one_is() {
        let line = |index, value| {
            let request = Some(RequestId { session: 1, sequence: index });
            LogLine { term: 1, index, request, value }
        };
        let mut lines = Vec::new();
        add_page(&mut lines, vec![line(5, None), line(6, None), line(7, Some(70))]);
        add_page(&mut lines, vec![line(8, None), line(9, Some(90))]);
        let log = NodeLog { node: 1, group: 1, lines };
        let kept: Vec<u64> = log.lines.iter().map(|line| line.index).collect();
        assert_eq!(kept, [5, 7, 9], "of what only fills it, where it begins");
        assert!(log.hides(4) && !log.hides(5) && !log.hides(6));
    }

    #[test]
    fn contradictory_operations_are_refused() {
        let good = read(1, 1, 4, 5);
        let bad = [
            ("value", Operation { value: Some(1), ..good.clone() }),
            ("value", Operation { f: Function::Write, ..good.clone() }),
            ("expected", Operation { expected: Some(1), ..good.clone() }),
            ("result", Operation { outcome: Outcome::Fail, result: Some(1), ..good.clone() }),
            ("completed_ns", Operation { outcome: Outcome::Unknown, ..good.clone() }),
            ("completed_ns", Operation { completed_ns: None, ..good.clone() }),
            ("completed_ns", Operation { completed_ns: Some(3), ..good.clone() }),
            ("index", Operation { term: Some(3), ..good.clone() }),
        ];
        assert_eq!(good.check(), Ok(()));
        for (field, operation) in bad {
            assert_eq!(operation.check().expect_err("contradictory").field, field);
        }
        let twice = History::new(vec![good.clone(), good]).expect_err("same id");
        assert!(twice.to_string().contains("operation 1: field `id`"), "{twice}");
    }
}
