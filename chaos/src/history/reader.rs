//! Reads histories and logs back; every error names the file, the line and the field.
//!
//! Nothing here trusts the file: a line, and the number of lines, have a limit. Invariant: no line
//! is left out, but for a last one that its writer did not come to end, and that is said.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::de::IgnoredAny;

use super::fields::Fields;
use super::{Function, History, HistoryError, LogLine, Malformed, NodeLog, Operation, Outcome};

/// The longest line accepted, its end included. An operation takes about 300 bytes.
pub const LINE_BYTES_MAX: usize = 4096;

/// The most operations, or log lines, accepted from one file.
pub const OPERATIONS_MAX: usize = 5_000_000;

/// Reads `history.jsonl`. Lines may stand in any order.
pub fn read_history(path: &Path) -> Result<History, HistoryError> {
    parse_history(path, BufReader::new(open(path)?))
}

/// Reads `history.jsonl` of a harness that may have been killed: a last line that was begun and has
/// no end is left out, and its number is told. An operation is missing then, of which others may
/// have seen the effect.
pub fn read_history_so_far(path: &Path) -> Result<(History, Option<u64>), HistoryError> {
    parse_history_so_far(path, BufReader::new(open(path)?))
}

/// What each log must be like that is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogOrder {
    /// Entry after entry, and terms that never fall.
    Gapless,
    /// The same, but for what is left out since it only fills the log.
    Growing,
    /// Whatever it is: that a log is odd is what was found out.
    Any,
}

/// Reads what [`super::write_logs`] wrote.
pub fn read_logs(path: &Path, order: LogOrder) -> Result<Vec<NodeLog>, HistoryError> {
    parse_logs(path, order, BufReader::new(open(path)?))
}

/// Reads a history from anywhere; `file` is what errors call it.
pub fn parse_history(file: &Path, input: impl BufRead) -> Result<History, HistoryError> {
    match parse_history_so_far(file, input)? {
        (history, None) => Ok(history),
        // To leave it out would hide an operation, and others may have seen its effect.
        (_, Some(line)) => Err(cut_off(file, line)),
    }
}

/// What [`read_history_so_far`] reads, from anywhere.
fn parse_history_so_far(
    file: &Path,
    input: impl BufRead,
) -> Result<(History, Option<u64>), HistoryError> {
    let mut operations = Vec::new();
    let mut line_of: BTreeMap<u64, u64> = BTreeMap::new();
    let begun = each_line(file, input, |line, fields| {
        let operation = operation(fields)?;
        operation.check()?;
        if let Some(first) = line_of.insert(operation.id, line) {
            return Err(Malformed::new("id", format!("line {first} has the same")));
        }
        operations.push(operation);
        Ok(())
    })?;
    Ok((History::new(operations)?, begun))
}

/// Reads logs from anywhere; `file` is what errors call it.
pub fn parse_logs(
    file: &Path,
    order: LogOrder,
    input: impl BufRead,
) -> Result<Vec<NodeLog>, HistoryError> {
    let mut logs: BTreeMap<(u64, u64), Vec<LogLine>> = BTreeMap::new();
    let begun = each_line(file, input, |_, mut fields| {
        let node = fields.number("node")?;
        let group = fields.number_if_there("group")?.unwrap_or(1);
        let line = LogLine {
            term: fields.number("term")?,
            index: fields.number("index")?,
            request: fields.request()?,
            value: fields.number_or_null("value")?,
        };
        fields.end()?;
        let lines = logs.entry((group, node)).or_default();
        if let Some(last) = lines.last() {
            goes_on((group, node), last, &line, order)?;
        }
        lines.push(line);
        Ok(())
    })?;
    // Logs are written whole or not at all.
    if let Some(line) = begun {
        return Err(cut_off(file, line));
    }
    let log = |((group, node), lines)| NodeLog { node, group, lines };
    Ok(logs.into_iter().map(log).collect())
}

/// Whether a line of a node's log may come after another; if not, the file is damaged.
fn goes_on(
    (group, node): (u64, u64),
    last: &LogLine,
    line: &LogLine,
    order: LogOrder,
) -> Result<(), Malformed> {
    let damaged = |field: &str, what: String| {
        let whose = format!("node {node} of group {group}");
        Err(Malformed::new(field, format!("damaged: {whose}: {what}")))
    };
    let (before, index) = (last.index, line.index);
    match order {
        LogOrder::Any => Ok(()),
        _ if index <= before => damaged("index", format!("{index} comes after {before}")),
        LogOrder::Gapless if index - before > 1 => {
            let lacking = index - before - 1;
            damaged("index", format!("{index} follows on {before}, {lacking} are missing"))
        }
        _ if line.term < last.term => {
            let (before, term) = (last.term, line.term);
            damaged("term", format!("{term} at index {index} comes after {before}"))
        }
        _ => Ok(()),
    }
}

fn cut_off(file: &Path, line: u64) -> HistoryError {
    let problem = "cut off: the line has no end".to_owned();
    HistoryError::Line { file: file.to_owned(), line, problem }
}

fn open(path: &Path) -> Result<File, HistoryError> {
    File::open(path).map_err(|source| HistoryError::Io { file: path.to_owned(), source })
}

fn operation(mut fields: Fields) -> Result<Operation, Malformed> {
    let operation = Operation {
        client: fields.number("client")?,
        id: fields.number("id")?,
        f: fields.word("f", &FUNCTIONS)?,
        key: fields.number("key")?,
        value: fields.number_or_null("value")?,
        expected: fields.number_or_null("expected")?,
        result: fields.number_or_null("result")?,
        outcome: fields.word("outcome", &OUTCOMES)?,
        intended_ns: fields.number("intended_ns")?,
        invoked_ns: fields.number("invoked_ns")?,
        completed_ns: fields.number_or_null("completed_ns")?,
        node: fields.number_or_null("node")?,
        term: fields.number_or_null("term")?,
        index: fields.number_or_null("index")?,
        request: fields.request()?,
    };
    fields.end()?;
    Ok(operation)
}

/// Takes line after line; the number of the last one, if it was begun and has no end.
fn each_line(
    file: &Path,
    mut input: impl BufRead,
    mut take: impl FnMut(u64, Fields) -> Result<(), Malformed>,
) -> Result<Option<u64>, HistoryError> {
    let mut bytes = Vec::with_capacity(LINE_BYTES_MAX);
    for line in 1_u64.. {
        bytes.clear();
        let mut limited = input.by_ref().take(LINE_BYTES_MAX as u64);
        limited
            .read_until(b'\n', &mut bytes)
            .map_err(|source| HistoryError::Io { file: file.to_owned(), source })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let wrong = |problem: String| HistoryError::Line { file: file.to_owned(), line, problem };
        if line > OPERATIONS_MAX as u64 {
            return Err(wrong(format!("more than {OPERATIONS_MAX} lines")));
        }
        // The writer ends every line. One without an end was cut off while it was written.
        if bytes.last() != Some(&b'\n') {
            return match bytes.len() {
                LINE_BYTES_MAX => Err(wrong(format!("longer than {LINE_BYTES_MAX} bytes"))),
                _ => begins_object(&bytes).map(|()| Some(line)).map_err(wrong),
            };
        }
        bytes.pop();
        let fields = Fields::parse(&bytes).map_err(wrong)?;
        take(line, fields).map_err(|malformed| HistoryError::Field {
            file: file.to_owned(),
            line,
            malformed,
        })?;
    }
    Ok(None)
}

/// Whether this is the beginning of an object, or all of it: what a writer leaves that is killed.
fn begins_object(bytes: &[u8]) -> Result<(), String> {
    match serde_json::from_slice::<IgnoredAny>(bytes) {
        _ if bytes.first() != Some(&b'{') => Err("cut off, and no JSON object".to_owned()),
        Err(error) if !error.is_eof() => Err(format!("cut off, and not a JSON object: {error}")),
        _ => Ok(()),
    }
}

const FUNCTIONS: [(&str, Function); 3] =
    [("read", Function::Read), ("write", Function::Write), ("cas", Function::Cas)];

const OUTCOMES: [(&str, Outcome); 3] =
    [("ok", Outcome::Ok), ("fail", Outcome::Fail), ("unknown", Outcome::Unknown)];

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = concat!(
        r#"{"client":1,"id":7,"f":"cas","key":2,"value":5,"expected":null,"result":4,"#,
        r#""outcome":"ok","intended_ns":1,"invoked_ns":2,"completed_ns":3,"#,
        r#""node":1,"term":2,"index":9,"request":{"session":4,"sequence":6}}"#
    );

    fn parse(bytes: &[u8]) -> Result<History, HistoryError> {
        parse_history("history.jsonl".as_ref(), bytes)
    }

    #[track_caller]
    fn refused(text: &str, says: &str) {
        let error = parse(text.as_bytes()).expect_err("not a history").to_string();
        assert!(error.contains(says), "`{says}` is not said: {error}");
    }

    #[test]
    fn a_line_is_read_field_by_field() {
        let history = parse(format!("{GOOD}\n").as_bytes()).expect("well formed");
        let [operation] = history.operations() else { panic!("one operation") };
        assert_eq!((operation.id, operation.f, operation.result), (7, Function::Cas, Some(4)));
        assert_eq!(operation.request.map(|request| request.sequence), Some(6));
        let written = serde_json::to_string(operation).expect("plain data");
        assert_eq!(written, GOOD);
    }

    #[test]
    fn a_wrong_field_is_named_with_its_line() {
        let wrong = [
            (r#""key":2"#, r#""key":-2"#, "field `key`: -2 is not a whole number"),
            (r#""key":2"#, r#""key":2.5"#, "field `key`: 2.5 is not a whole number"),
            (r#""key":2"#, r#""key":null"#, "field `key`: must not be null"),
            (r#""key":2,"#, "", "field `key`: is missing"),
            (r#""key":2"#, r#""key":2,"colour":1"#, "field `colour`: no such field"),
            (r#""cas""#, r#""add""#, r#"field `f`: "add" is not one of read, write, cas"#),
            (r#""ok""#, "true", "field `outcome`: true is not one of ok, fail, unknown"),
            (r#""completed_ns":3"#, r#""completed_ns":1"#, "field `completed_ns`: lies before"),
            (r#""term":2"#, r#""term":null"#, "field `index`: term and index stand together"),
            (r#""sequence":6"#, r#""sequence":"x""#, "field `request.sequence`"),
            (r#"{"session":4,"sequence":6}"#, "[4,6]", "field `request`: [4,6] is not null or"),
        ];
        for (part, instead, says) in wrong {
            let second = GOOD.replacen(part, instead, 1).replace(r#""id":7"#, r#""id":8"#);
            refused(&format!("{GOOD}\n{second}\n"), &format!("history.jsonl:2: {says}"));
        }
        refused(&format!("{GOOD}\n{GOOD}\n"), "history.jsonl:2: field `id`: line 1 has the same");
    }

    #[test]
    fn a_wrong_line_is_named() {
        refused("nonsense\n", "history.jsonl:1: not a JSON object");
        refused("[1]\n", "history.jsonl:1: expected one JSON object");
        refused("\n", "history.jsonl:1: not a JSON object");
        refused(&"[".repeat(4000).replacen('[', "", 1), "history.jsonl:1: cut off");
        refused(&format!("{}\n", "[".repeat(4000)), "history.jsonl:1: not a JSON object");
        let long = GOOD.replace(r#""key":2"#, &format!(r#""key":{}"#, "9".repeat(LINE_BYTES_MAX)));
        refused(&format!("{long}\n"), "history.jsonl:1: longer than 4096 bytes");
        let unreadable = read_history("/nowhere/history.jsonl".as_ref()).expect_err("no file");
        assert!(unreadable.to_string().starts_with("/nowhere/history.jsonl: "), "{unreadable}");
    }

    #[test]
    fn a_file_cut_anywhere_but_between_lines_is_refused() {
        let whole = format!("{GOOD}\n{}\n", GOOD.replace(r#""id":7"#, r#""id":8"#));
        for length in 0..=whole.len() {
            let cut = &whole.as_bytes()[..length];
            let is_whole_lines = cut.is_empty() || cut.ends_with(b"\n");
            assert_eq!(parse(cut).is_ok(), is_whole_lines, "cut at {length}");
        }
    }

    #[test]
    fn of_a_harness_that_was_killed_only_the_last_line_may_lack_its_end() {
        let so_far = |bytes: &[u8]| parse_history_so_far("history.jsonl".as_ref(), bytes);
        let second = GOOD.replace(r#""id":7"#, r#""id":8"#);
        let whole = format!("{GOOD}\n{second}\n");
        let first = GOOD.len() + 1;
        for length in first..=whole.len() {
            let (history, begun) = so_far(&whole.as_bytes()[..length]).expect("as far as it went");
            let is_whole_lines = length == first || length == whole.len();
            assert_eq!(begun, (!is_whole_lines).then_some(2), "cut at {length}");
            let found = history.operations().len();
            assert_eq!(found, if length == whole.len() { 2 } else { 1 }, "cut at {length}");
        }
        let half = &second[..second.len() / 2];
        let broken = [format!("{half}\n{GOOD}\n"), format!("{GOOD}\n{half}\n")];
        for (text, line) in broken.iter().zip(1..) {
            let error = so_far(text.as_bytes()).expect_err("a line in between").to_string();
            assert!(error.contains(&format!("history.jsonl:{line}: ")), "{error}");
        }
        for last in ["nonsense", "{nonsense", "[1", r#"{"client":1}}"#] {
            let error = so_far(format!("{GOOD}\n{last}").as_bytes()).expect_err("garbled");
            assert!(error.to_string().contains("history.jsonl:2: cut off, and no"), "{error}");
        }
    }

    /// Lines of a log, each of a node, a term and an index.
    fn logs(lines: &[(u64, u64, u64)], order: LogOrder) -> Result<Vec<NodeLog>, HistoryError> {
        let line = |(node, term, index): &(u64, u64, u64)| {
            format!("{{\"node\":{node},\"term\":{term},\"index\":{index},")
                + "\"request\":null,\"value\":null}\n"
        };
        let text: String = lines.iter().map(line).collect();
        parse_logs("logs.jsonl".as_ref(), order, text.as_bytes())
    }

    #[test]
    fn a_log_with_a_hole_or_out_of_order_is_damaged() {
        use LogOrder::{Any, Gapless, Growing};
        let sound = [(1, 1, 4), (1, 2, 5), (2, 1, 1), (1, 2, 6), (2, 1, 2)];
        assert_eq!(logs(&sound, Gapless).expect("each by itself").len(), 2);
        let hole = [(1, 1, 4), (1, 2, 5), (1, 2, 8)];
        let fallen = [(1, 1, 4), (1, 3, 5), (1, 2, 6)];
        let back = [(1, 1, 5), (2, 1, 1), (1, 1, 4)];
        let twice = [(1, 1, 4), (1, 1, 5), (1, 1, 5)];
        let says = [
            (hole, "field `index`: damaged: node 1 of group 1: 8 follows on 5, 2 are missing"),
            (fallen, "field `term`: damaged: node 1 of group 1: 2 at index 6 comes after 3"),
            (back, "field `index`: damaged: node 1 of group 1: 4 comes after 5"),
            (twice, "field `index`: damaged: node 1 of group 1: 5 comes after 5"),
        ];
        for (lines, says) in says {
            let told = logs(&lines, Gapless).expect_err(says).to_string();
            assert_eq!(told, format!("logs.jsonl:3: {says}"));
            assert_eq!(logs(&lines, Growing).is_err(), lines != hole, "{says}");
            assert!(logs(&lines, Any).is_ok(), "{says}");
        }
    }
}
