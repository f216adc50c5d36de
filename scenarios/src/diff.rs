//! Where two traces of one seed part: the first line that differs, and what came before it.
//!
//! Reads line by line and keeps a few; of a line it knows that it begins with the virtual time in
//! nanoseconds, and where a node stands in it. Invariant: *identical* means to the last byte.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use reports::RunFolder;

use crate::rerun;
use crate::worlds::TRACE;

/// What a comparison came to.
#[derive(Debug, PartialEq)]
pub(crate) enum Compared {
    /// Not a byte differs.
    Identical,
    /// They part somewhere.
    Differ,
}

/// Compares two traces: run folders that have one, or the files. Also says it in words.
///
/// # Errors
/// What cannot be read, and how to get what is missing.
pub(crate) fn compare(one: &Path, other: &Path) -> anyhow::Result<(Compared, String)> {
    let [mut one, mut other] = [Trace::open(one)?, Trace::open(other)?];
    let mut before = VecDeque::new();
    let mut same: u64 = 0;
    loop {
        match (one.next()?, other.next()?) {
            (None, None) => return Ok((Compared::Identical, format!("identical: {same} lines\n"))),
            (Some(line), Some(its)) if line == its => {
                same += 1;
                before.push_back(line);
                if before.len() > LINES_BEFORE {
                    before.pop_front();
                }
            }
            lines => {
                let told = parting(same, &before, &[(&one, lines.0), (&other, lines.1)]);
                return Ok((Compared::Differ, told));
            }
        }
    }
}

/// The same for programs.
pub(crate) fn json(compared: &Compared, told: &str) -> String {
    let identical = *compared == Compared::Identical;
    format!("{}\n", serde_json::json!({ "identical": identical, "told": told.trim_end() }))
}

/// A trace that is being read.
struct Trace {
    file: PathBuf,
    reader: BufReader<File>,
    /// How many nodes there are, where the run's record says so.
    nodes: u64,
}

impl Trace {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let (mut file, mut nodes) = (path.to_owned(), 0);
        if path.is_dir() {
            file = path.join(TRACE);
            // It is of use without its record, too.
            let record = RunFolder::open(path).and_then(|folder| folder.read_record()).ok();
            nodes = record.and_then(|record| record.plan["nodes"].as_u64()).unwrap_or(0);
            if !file.exists() {
                let replay = ["replay".into(), path.display().to_string(), "--trace".into()];
                let replay = rerun::of(&replay);
                bail!("{} has no {TRACE}; this makes a run that has:\n{replay}", path.display());
            }
        }
        let opened = File::open(&file).with_context(|| format!("cannot read {}", file.display()));
        Ok(Self { reader: BufReader::new(opened?), file, nodes })
    }

    fn next(&mut self) -> anyhow::Result<Option<String>> {
        let shown = || self.file.display().to_string();
        let mut bytes = Vec::new();
        let mut limited = self.reader.by_ref().take(LINE_BYTES_MAX);
        let count = limited.read_until(b'\n', &mut bytes).with_context(shown)? as u64;
        ensure!(count < LINE_BYTES_MAX, "{}: a line is too long for a trace", shown());
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        Ok((count > 0).then(|| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A line with its time in seconds and its addresses as nodes.
    fn told(&self, line: &str) -> String {
        let Some((at_ns, rest)) = timed(line) else { return line.to_owned() };
        let (s, ns) = (at_ns / 1_000_000_000, at_ns % 1_000_000_000);
        let words: Vec<String> = rest.split(' ').map(|word| self.named(word)).collect();
        format!("{s:>6}.{ns:09} s  {}", words.join(" "))
    }

    /// Hosts have their addresses in the order of the nodes.
    fn named(&self, word: &str) -> String {
        let host = word.strip_prefix(SUBNET).and_then(|rest| rest.split_once(':'));
        let node = host.and_then(|(host, _)| host.parse::<u64>().ok());
        match node {
            Some(node) if (1..=self.nodes).contains(&node) => format!("{word} (node {node})"),
            _ => word.to_owned(),
        }
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

    /// Two run folders with these traces.
    fn compared(one: &str, other: &str) -> (Compared, String) {
        let folders = [one, other].map(|trace| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(TRACE), trace).unwrap();
            folder
        });
        compare(folders[0].path(), folders[1].path()).unwrap()
    }

    #[test]
    fn what_is_the_same_to_the_last_byte_is_identical() {
        let (compared_, told) = compared(LINES, LINES);
        assert_eq!((compared_, told.as_str()), (Compared::Identical, "identical: 3 lines\n"));
    }

    #[test]
    fn the_first_difference_is_told_with_what_came_before_when_and_where() {
        let (found, told) = compared(LINES, &LINES.replace("00bb", "00cc"));
        assert_eq!(found, Compared::Differ);
        for words in [
            "line 3 differs, after 2 that are the same\n",
            "       1.000000000 s  event node 1 {\"became\"",
            "A      1.300000000 s  packet 192.168.0.2:7 192.168.0.1:7 60 00bb\n",
            "B      1.300000000 s  packet 192.168.0.2:7 192.168.0.1:7 60 00cc\n",
            "trace.log: 1.300000000 s of virtual time, from 192.168.0.2:7\n",
        ] {
            assert!(told.contains(words), "{words:?} in {told}");
        }
        let (found, told) = compared(LINES, &LINES.replace("event node 1", "event node 2"));
        assert_eq!(found, Compared::Differ);
        assert!(told.contains("virtual time, node 2\n"), "{told}");
    }

    #[test]
    fn a_trace_that_ends_early_differs() {
        let shorter: String = LINES.lines().take(2).map(|line| format!("{line}\n")).collect();
        let (found, told) = compared(LINES, &shorter);
        assert_eq!(found, Compared::Differ);
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
        let record = "{\"schema_version\":1,\"scenario\":\"x\",\"world\":\"sim\",\"transport\":\
                      \"\",\"seed\":\"0x1\",\"verdict\":\"valid\",\"plan\":{\"nodes\":5},\
                      \"environment\":{\"commit\":\"\",\"build_profile\":\"\",\"rustc\":\"\",\
                      \"machine\":\"\"}}";
        fs::write(folder.path().join("a/run.json"), record).unwrap();
        let (_, told) = compare(&folder.path().join("a"), &folder.path().join("b")).unwrap();
        assert_eq!(told.lines().count(), 1 + LINES_BEFORE + 4, "{told}");
        assert!(told.contains("packet 192.168.0.3:7 (node 3) 192.168.0.9:7 60"), "{told}");
    }

    #[test]
    fn a_run_without_a_trace_is_told_how_to_get_one() {
        let folder = tempfile::tempdir().unwrap();
        let text = compare(folder.path(), folder.path()).unwrap_err().to_string();
        assert!(text.contains("has no trace.log") && text.ends_with(" --trace"), "{text}");
        assert!(text.contains("-- replay "), "{text}");
        let missing = folder.path().join("missing");
        let text = format!("{:#}", compare(&missing, &missing).unwrap_err());
        assert!(text.contains("cannot read") && text.contains("missing"), "{text}");
    }
}
