//! Reads histories and logs back; every error names the file, the line and the field.
//!
//! Nothing here trusts the file: a line, and the number of lines, have a limit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

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

/// Reads what [`super::write_logs`] wrote.
pub fn read_logs(path: &Path) -> Result<Vec<NodeLog>, HistoryError> {
    parse_logs(path, BufReader::new(open(path)?))
}

/// Reads a history from anywhere; `file` is what errors call it.
pub fn parse_history(file: &Path, input: impl BufRead) -> Result<History, HistoryError> {
    let mut operations = Vec::new();
    let mut line_of: BTreeMap<u64, u64> = BTreeMap::new();
    each_line(file, input, |line, fields| {
        let operation = operation(fields)?;
        operation.check()?;
        if let Some(first) = line_of.insert(operation.id, line) {
            return Err(Malformed::new("id", format!("line {first} has the same")));
        }
        operations.push(operation);
        Ok(())
    })?;
    History::new(operations)
}

/// Reads logs from anywhere; `file` is what errors call it.
pub fn parse_logs(file: &Path, input: impl BufRead) -> Result<Vec<NodeLog>, HistoryError> {
    let mut logs: BTreeMap<(u64, u64), Vec<LogLine>> = BTreeMap::new();
    each_line(file, input, |_, mut fields| {
        let node = fields.number("node")?;
        let group = fields.number_if_there("group")?.unwrap_or(1);
        let line = LogLine {
            term: fields.number("term")?,
            index: fields.number("index")?,
            request: fields.request()?,
            value: fields.number_or_null("value")?,
        };
        fields.end()?;
        logs.entry((group, node)).or_default().push(line);
        Ok(())
    })?;
    let log = |((group, node), lines)| NodeLog { node, group, lines };
    Ok(logs.into_iter().map(log).collect())
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

fn each_line(
    file: &Path,
    mut input: impl BufRead,
    mut take: impl FnMut(u64, Fields) -> Result<(), Malformed>,
) -> Result<(), HistoryError> {
    let mut bytes = Vec::with_capacity(LINE_BYTES_MAX);
    for line in 1_u64.. {
        bytes.clear();
        let mut limited = input.by_ref().take(LINE_BYTES_MAX as u64);
        limited
            .read_until(b'\n', &mut bytes)
            .map_err(|source| HistoryError::Io { file: file.to_owned(), source })?;
        if bytes.is_empty() {
            return Ok(());
        }
        let wrong = |problem: String| HistoryError::Line { file: file.to_owned(), line, problem };
        if line > OPERATIONS_MAX as u64 {
            return Err(wrong(format!("more than {OPERATIONS_MAX} lines")));
        }
        // The writer ends every line. One without an end was cut off while it was written; to
        // leave it out would hide an operation, and other operations may have seen its effect.
        if bytes.pop() != Some(b'\n') {
            let problem = match bytes.len() + 1 {
                LINE_BYTES_MAX => format!("longer than {LINE_BYTES_MAX} bytes"),
                _ => "cut off: the line has no end".to_owned(),
            };
            return Err(wrong(problem));
        }
        let fields = Fields::parse(&bytes).map_err(wrong)?;
        take(line, fields).map_err(|malformed| HistoryError::Field {
            file: file.to_owned(),
            line,
            malformed,
        })?;
    }
    Ok(())
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
}
