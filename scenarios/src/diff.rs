//! Where two traces of one seed part: the first line that differs, and what came before it.
//!
//! Reads line by line and keeps a few; of a line it knows that it begins with the virtual time in
//! nanoseconds and what it is of, and where a node stands in it. Invariants: *identical* means to
//! the last byte, and what is no trace is refused, not compared.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use chaos::plan::WorldKind;
use reports::{RunFolder, RunRecord};
use serde::Serialize;

use crate::rerun;
use crate::worlds::TRACE;

/// What a comparison came to.
#[derive(Debug)]
pub(crate) struct Compared {
    /// Lines from the first on in which not a byte differs.
    same: u64,
    /// Both traces where they part; nothing where they are identical.
    parted: Option<[Side; 2]>,
    /// The same in words.
    pub(crate) told: String,
}

/// A trace at the line in which it differs from the other.
#[derive(Debug, Serialize)]
struct Side {
    file: String,
    /// The line as it stands there; nothing where the trace ends before it.
    text: Option<String>,
    /// What it is of: a packet or an event.
    what: Option<String>,
    at_ns: Option<u64>,
    /// Whose it is, as far as that is known: of a packet, who sent it.
    node: Option<u64>,
}

impl Compared {
    /// Whether not a byte differs.
    pub(crate) fn is_identical(&self) -> bool {
        self.parted.is_none()
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> String {
        let Self { same, parted, told } = self;
        let line = parted.as_ref().map(|_| same + 1);
        let [a, b] = match parted {
            Some([a, b]) => [Some(a), Some(b)],
            None => [None, None],
        };
        let json = serde_json::json!({
            "identical": self.is_identical(), "lines_same": same, "line": line, "a": a, "b": b,
            "told": told.trim_end(),
        });
        format!("{json}\n")
    }
}

/// Compares two traces: run folders that have one, or the files.
///
/// # Errors
/// What cannot be read, and how to get what is missing.
pub(crate) fn compare(one: &Path, other: &Path) -> anyhow::Result<Compared> {
    let [mut one, mut other] = [Trace::open(one)?, Trace::open(other)?];
    let mut before = VecDeque::new();
    let mut same: u64 = 0;
    loop {
        match (one.next()?, other.next()?) {
            (None, None) => {
                let told = format!("identical: {same} lines\n");
                return Ok(Compared { same, parted: None, told });
            }
            (Some(line), Some(its)) if line == its => {
                same += 1;
                before.push_back(line);
                if before.len() > LINES_BEFORE {
                    before.pop_front();
                }
            }
            (line, its) => {
                let sides = [(&one, line), (&other, its)];
                let told = parting(same, &before, &sides);
                let parted = Some(sides.map(|(trace, line)| trace.side(line)));
                return Ok(Compared { same, parted, told });
            }
        }
    }
}

/// A trace that is being read.
struct Trace {
    file: PathBuf,
    reader: BufReader<File>,
    /// How many lines of it were read.
    lines: u64,
    /// How many nodes there are, where the run's record says so.
    nodes: u64,
}

impl Trace {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let (mut file, mut nodes) = (path.to_owned(), 0);
        if path.is_dir() {
            file = path.join(TRACE);
            let record = RunFolder::open(path).and_then(|folder| folder.read_record());
            if !file.exists() {
                return Err(lacking(path, &record));
            }
            // It is of use without its record, too.
            nodes = record.ok().and_then(|record| record.plan["nodes"].as_u64()).unwrap_or(0);
        }
        let opened = File::open(&file).with_context(|| format!("cannot read {}", file.display()));
        Ok(Self { reader: BufReader::new(opened?), file, lines: 0, nodes })
    }

    fn next(&mut self) -> anyhow::Result<Option<String>> {
        let shown = || self.file.display().to_string();
        let mut bytes = Vec::new();
        let mut limited = self.reader.by_ref().take(LINE_BYTES_MAX);
        let count = limited.read_until(b'\n', &mut bytes).with_context(shown)? as u64;
        ensure!(count < LINE_BYTES_MAX, "{}: a line is too long for a trace", shown());
        if count == 0 {
            ensure!(self.lines > 0, "{} is empty: it is no trace", shown());
            return Ok(None);
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        let line = String::from_utf8_lossy(&bytes).into_owned();
        // The last line of a run that was killed may be cut off: the first one says what it is.
        ensure!(
            self.lines > 0 || is_of_a_trace(&line),
            "{} is no trace: its first line does not begin with nanoseconds and {}",
            shown(),
            WORDS.join(" or ")
        );
        self.lines += 1;
        Ok(Some(line))
    }

    /// A line with its time in seconds and its addresses as nodes.
    fn told(&self, line: &str) -> String {
        let Some((at_ns, rest)) = timed(line) else { return line.to_owned() };
        let (s, ns) = (at_ns / 1_000_000_000, at_ns % 1_000_000_000);
        let words: Vec<String> = rest.split(' ').map(|word| self.named(word)).collect();
        format!("{s:>6}.{ns:09} s  {}", words.join(" "))
    }

    fn named(&self, word: &str) -> String {
        match self.node_at(word) {
            Some(node) => format!("{word} (node {node})"),
            None => word.to_owned(),
        }
    }

    /// Hosts have their addresses in the order of the nodes.
    fn node_at(&self, address: &str) -> Option<u64> {
        let (host, _) = address.strip_prefix(SUBNET)?.split_once(':')?;
        host.parse().ok().filter(|node| (1..=self.nodes).contains(node))
    }

    /// What a line says, for programs.
    fn side(&self, line: Option<String>) -> Side {
        let (at_ns, rest) = line.as_deref().and_then(timed).unzip();
        let words: Vec<&str> = rest.map_or(Vec::new(), |rest| rest.split(' ').collect());
        let node = match words.as_slice() {
            [_, "node", node, ..] => node.parse().ok(),
            ["packet", from, ..] => self.node_at(from),
            _ => None,
        };
        let what = words.first().map(|what| (*what).to_owned());
        Side { file: self.file.display().to_string(), text: line, what, at_ns, node }
    }

    /// When a line is of, and of which node: of a packet the one that sent it.
    fn place(&self, line: &str) -> String {
        let Some((at_ns, rest)) = timed(line) else { return "nobody knows when".to_owned() };
        let words: Vec<&str> = rest.split(' ').collect();
        let whom = match words.as_slice() {
            [_, "node", node, ..] => format!(", node {node}"),
            ["packet", from, ..] => format!(", from {}", self.named(from)),
            _ => String::new(),
        };
        format!("{:.9} s of virtual time{whom}", at_ns as f64 / 1e9)
    }
}

/// Why a run's folder has no trace, and the way to one where there is one.
fn lacking(path: &Path, record: &reports::Result<RunRecord>) -> anyhow::Error {
    let shown = path.display();
    match record {
        Ok(record) if record.world == WorldKind::Sim.name() => {
            let replay = ["replay".into(), shown.to_string(), "--trace".into()];
            let replay = rerun::of(&replay);
            anyhow!("{shown} has no {TRACE}; this makes a run that has:\n{replay}")
        }
        Ok(RunRecord { world, .. }) => anyhow!(
            "{shown} has no {TRACE}: it is of world {world}, and only a run with --trace in world \
             sim leaves one"
        ),
        Err(error) => anyhow!("{shown} has no {TRACE} and is no run's folder: {error}"),
    }
}

fn is_of_a_trace(line: &str) -> bool {
    let begins = |rest: &str| rest.split(' ').next().is_some_and(|word| WORDS.contains(&word));
    timed(line).is_some_and(|(_, rest)| begins(rest))
}

fn timed(line: &str) -> Option<(u64, &str)> {
    let (at_ns, rest) = line.split_once(' ')?;
    Some((at_ns.parse().ok()?, rest))
}

/// The end of what is the same, and the two lines that are not.
fn parting(same: u64, before: &VecDeque<String>, sides: &[(&Trace, Option<String>); 2]) -> String {
    let mut told = format!("line {} differs, after {same} that are the same\n", same + 1);
    for line in before {
        told.push_str(&format!("  {}\n", sides[0].0.told(line)));
    }
    for ((trace, line), name) in sides.iter().zip(["A", "B"]) {
        let line = line.as_ref().map_or("ends here".to_owned(), |line| trace.told(line));
        told.push_str(&format!("{name} {line}\n"));
    }
    for ((trace, line), name) in sides.iter().zip(["A", "B"]) {
        let place = line.as_ref().map_or("at its end".to_owned(), |line| trace.place(line));
        told.push_str(&format!("{name} is {}: {place}\n", trace.file.display()));
    }
    told
}

/// What a line of a trace may be of.
const WORDS: [&str; 2] = ["packet", "event"];
const LINES_BEFORE: usize = 8;
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Where simulated hosts are.
const SUBNET: &str = "192.168.0.";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LINES: &str = "1000000000 event node 1 {\"became\":{\"role\":\"leader\",\"term\":2}}\n\
                         1200000000 packet 192.168.0.1:7 192.168.0.2:7 60 00aa\n\
                         1300000000 packet 192.168.0.2:7 192.168.0.1:7 60 00bb\n";

    /// `run.json` of a run of five nodes.
    fn record(world: &str) -> String {
        format!(
            "{{\"schema_version\":1,\"scenario\":\"x\",\"world\":\"{world}\",\"transport\":\"\",\
             \"seed\":\"0x1\",\"verdict\":\"valid\",\"plan\":{{\"nodes\":5}},\"environment\":\
             {{\"commit\":\"\",\"build_profile\":\"\",\"rustc\":\"\",\"machine\":\"\"}}}}"
        )
    }

    /// Two run folders with these traces.
    fn compared(one: &str, other: &str) -> Compared {
        let folders = [one, other].map(|trace| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(TRACE), trace).unwrap();
            folder
        });
        compare(folders[0].path(), folders[1].path()).unwrap()
    }

    #[test]
    fn what_is_the_same_to_the_last_byte_is_identical() {
        let compared = compared(LINES, LINES);
        assert!(compared.is_identical());
        assert_eq!(compared.told, "identical: 3 lines\n");
        let json: serde_json::Value = serde_json::from_str(&compared.json()).unwrap();
        let expected = serde_json::json!({
            "identical": true, "lines_same": 3, "line": null, "a": null, "b": null,
            "told": "identical: 3 lines",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn the_first_difference_is_told_with_what_came_before_when_and_where() {
        let found = compared(LINES, &LINES.replace("00bb", "00cc"));
        assert!(!found.is_identical());
        let told = found.told;
        for words in [
            "line 3 differs, after 2 that are the same\n",
            "       1.000000000 s  event node 1 {\"became\"",
            "A      1.300000000 s  packet 192.168.0.2:7 192.168.0.1:7 60 00bb\n",
            "B      1.300000000 s  packet 192.168.0.2:7 192.168.0.1:7 60 00cc\n",
            "trace.log: 1.300000000 s of virtual time, from 192.168.0.2:7\n",
        ] {
            assert!(told.contains(words), "{words:?} in {told}");
        }
        let found = compared(LINES, &LINES.replace("event node 1", "event node 2"));
        assert!(!found.is_identical());
        assert!(found.told.contains("virtual time, node 2\n"), "{}", found.told);
    }

    #[test]
    fn programs_are_told_where_traces_part_and_both_lines() {
        let json =
            |found: Compared| -> serde_json::Value { serde_json::from_str(&found.json()).unwrap() };
        let told = json(compared(LINES, &LINES.replace("event node 1", "event node 2")));
        assert_eq!((&told["lines_same"], &told["line"]), (&0.into(), &1.into()), "{told}");
        for (side, node) in [("a", 1), ("b", 2)] {
            let side = &told[side];
            assert_eq!((&side["what"], &side["node"]), (&"event".into(), &node.into()), "{told}");
            assert_eq!(side["at_ns"], 1_000_000_000, "{told}");
            assert!(side["file"].as_str().unwrap().ends_with("trace.log"), "{told}");
        }
        let told = json(compared(LINES, &LINES.replace("00bb", "00cc")));
        let text = |end: &str| format!("1300000000 packet 192.168.0.2:7 192.168.0.1:7 60 {end}");
        assert_eq!((&told["line"], &told["identical"]), (&3.into(), &false.into()));
        assert_eq!(told["a"]["text"], text("00bb"), "{told}");
        assert_eq!(told["b"]["text"], text("00cc"), "{told}");
        assert_eq!(told["b"]["what"], "packet");
        assert!(told["b"]["node"].is_null(), "no record says how many nodes there are: {told}");
        let shorter: String = LINES.lines().take(2).map(|line| format!("{line}\n")).collect();
        let told = json(compared(LINES, &shorter));
        assert!(told["b"]["text"].is_null() && told["b"]["at_ns"].is_null(), "{told}");
        assert_eq!(told["a"]["at_ns"], 1_300_000_000_u64, "{told}");
    }

    #[test]
    fn a_trace_that_ends_early_differs() {
        let shorter: String = LINES.lines().take(2).map(|line| format!("{line}\n")).collect();
        let found = compared(LINES, &shorter);
        assert!(!found.is_identical());
        let told = found.told;
        assert!(told.contains("B ends here\n") && told.contains("trace.log: at its end"), "{told}");
    }

    #[test]
    fn only_a_few_lines_are_told_and_addresses_are_nodes() {
        let line = |ns: u64| format!("{ns} packet 192.168.0.3:7 192.168.0.9:7 60 00aa\n");
        let trace: String = (1..100).map(line).collect();
        let folder = tempfile::tempdir().unwrap();
        for (name, last) in [("a", 100), ("b", 101)] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join(TRACE), trace.clone() + &line(last)).unwrap();
        }
        fs::write(folder.path().join("a/run.json"), record("sim")).unwrap();
        let found = compare(&folder.path().join("a"), &folder.path().join("b")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&found.json()).unwrap();
        assert_eq!((&json["a"]["node"], &json["b"]["node"]), (&3.into(), &serde_json::Value::Null));
        let told = found.told;
        assert_eq!(told.lines().count(), 1 + LINES_BEFORE + 4, "{told}");
        assert!(told.contains("packet 192.168.0.3:7 (node 3) 192.168.0.9:7 60"), "{told}");
    }

    #[test]
    fn a_run_without_a_trace_is_told_how_to_get_one_where_there_is_a_way() {
        let folder = tempfile::tempdir().unwrap();
        let told = || compare(folder.path(), folder.path()).unwrap_err().to_string();
        let text = told();
        assert!(text.contains("has no trace.log and is no run's folder: "), "{text}");
        assert!(text.contains("run.json") && !text.contains("replay"), "{text}");
        for world in ["process", "swarm"] {
            fs::write(folder.path().join("run.json"), record(world)).unwrap();
            let text = told();
            assert!(text.contains(&format!("it is of world {world}, and only a run")), "{text}");
            assert!(!text.contains("replay"), "it would be refused: {text}");
        }
        fs::write(folder.path().join("run.json"), record("sim")).unwrap();
        let text = told();
        assert!(text.contains("has no trace.log") && text.ends_with(" --trace"), "{text}");
        assert!(text.contains("-- replay "), "{text}");
        let missing = folder.path().join("missing");
        let text = format!("{:#}", compare(&missing, &missing).unwrap_err());
        assert!(text.contains("cannot read") && text.contains("missing"), "{text}");
    }

    #[test]
    fn what_is_no_trace_is_refused_and_not_compared() {
        let folder = tempfile::tempdir().unwrap();
        let (good, other) = (folder.path().join("good"), folder.path().join("other"));
        fs::write(&good, LINES).unwrap();
        for text in ["root:x:0:0:root:/root:/bin/sh\n", "{\n}\n", "12 monkeys\n", "\n", "\u{0}"] {
            fs::write(&other, text).unwrap();
            for (one, two) in [(&good, &other), (&other, &good), (&other, &other)] {
                let error = compare(one, two).unwrap_err().to_string();
                let told = "other is no trace: its first line does not begin with nanoseconds and \
                            packet or event";
                assert!(error.ends_with(told), "{text:?}: {error}");
            }
        }
        fs::write(&other, "").unwrap();
        let error = compare(&good, &other).unwrap_err().to_string();
        assert!(error.ends_with("other is empty: it is no trace"), "{error}");
        // That of a run that was killed.
        fs::write(&other, LINES.strip_suffix(" 60 00bb\n").unwrap()).unwrap();
        assert!(!compare(&good, &other).unwrap().is_identical());
    }
}
