//! The seeds that were not valid: those that look alike counted together, the first of each told
//! with the command that reruns it.
//!
//! Pure. Invariant: what is told is bounded, however many seeds fail.

use std::collections::BTreeMap;

use chaos::seed::Seed;

use super::ledger::Ledger;
use super::record::SeedLine;
use crate::rerun;

/// Failures by what they look like.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    kinds: BTreeMap<String, Kind>,
}

#[derive(Debug)]
struct Kind {
    count: u64,
    first: SeedLine,
}

impl Failures {
    /// Takes a seed in; whether it is the first that failed in its way.
    pub(crate) fn add(&mut self, line: &SeedLine) -> bool {
        if line.exit_code == VALID {
            return false;
        }
        if let Some(known) = self.kinds.get_mut(&line.kind()) {
            known.count += 1;
            return false;
        }
        if self.kinds.len() >= KINDS_MAX {
            return false;
        }
        self.kinds.insert(line.kind(), Kind { count: 1, first: line.clone() });
        true
    }

    /// All that look different, what broke a guarantee last: the last command is the one to run.
    pub(crate) fn told(&self, ledger: &Ledger) -> String {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|(_, kind)| kind.first.exit_code == INVALID);
        let told = kinds.into_iter().map(|(name, Kind { count, first })| {
            let head = format!("{count} x {name}; first seed {}", first.seed);
            told_as(head, first, ledger) + "\n"
        });
        told.collect()
    }
}

/// A seed that failed, and the commands that run it again.
pub(crate) fn told_first(line: &SeedLine, ledger: &Ledger) -> String {
    told_as(format!("seed {}: {}", line.seed, line.kind()), line, ledger)
}

fn told_as(mut told: String, line: &SeedLine, ledger: &Ledger) -> String {
    if let Some(check) = line.failed_checks.first() {
        let detail: String = check.detail.chars().take(DETAIL_CHARS_MAX).collect();
        told.push_str(&format!(": {detail}"));
    }
    if let Some(folder) = &line.folder {
        told.push_str(&format!("\n  {}", ledger.path().join(folder).display()));
    }
    for command in commands(line, ledger) {
        told.push_str(&format!("\n{command}"));
    }
    told
}

/// One command, or for a seed that did not repeat: twice the run, and where they part.
fn commands(line: &SeedLine, ledger: &Ledger) -> Vec<String> {
    let record = &ledger.record;
    // The line was written by this program, from a seed.
    let seed: Seed = line.seed.parse().unwrap_or_default();
    if !line.is_diverged() || record.world != "sim" {
        return vec![rerun::command(&record.command, seed)];
    }
    let places = ["a", "b"].map(|name| {
        ledger.path().join("diverged").join(&line.seed).join(name).display().to_string()
    });
    let run = |place: &String| {
        let more = ["--trace", "--out", place].map(str::to_owned);
        rerun::command(&[record.command.as_slice(), &more].concat(), seed)
    };
    let latest = |place: &String| format!("{place}/runs/latest");
    let diff = ["diff".to_owned(), latest(&places[0]), latest(&places[1])];
    vec![run(&places[0]), run(&places[1]), rerun::of(&diff)]
}

const KINDS_MAX: usize = 20;
const DETAIL_CHARS_MAX: usize = 300;
const VALID: u8 = 0;
const INVALID: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::ledger::tests::record;
    use crate::sweep::record::{SeedRun, tests::run};

    fn line(number: u64, runs: &[SeedRun]) -> SeedLine {
        SeedLine::of(number, Seed(number), 1.5, runs, "runs/0x1")
    }

    fn ledger(folder: &tempfile::TempDir, world: &str) -> Ledger {
        let record = crate::sweep::SweepRecord { world: world.to_owned(), ..record() };
        Ledger::begin_in(folder.path().to_owned(), record).unwrap()
    }

    #[test]
    fn the_first_of_each_kind_is_told_and_the_others_counted() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = ledger(&folder, "process");
        let mut failures = Failures::default();
        assert!(!failures.add(&line(1, &[run(0, "0x1")])), "valid");
        assert!(failures.add(&line(2, &[run(1, "0x1")])));
        assert!(!failures.add(&line(3, &[run(1, "0x1")])));
        assert!(failures.add(&line(4, &[run(2, "0x1")])));
        let told = failures.told(&ledger);
        assert!(told.contains("2 x invalid: linearizable; first seed 0x2: key 3\n"), "{told}");
        assert!(told.contains("1 x unknown: linearizable; first seed 0x4"), "{told}");
        let last = told.lines().last().unwrap();
        assert!(last.ends_with("-p scenarios -- leader-failover --seed 0x2"), "{told}");
    }

    #[test]
    fn a_seed_that_did_not_repeat_is_told_with_three_commands() {
        let folder = tempfile::tempdir().unwrap();
        let diverged = line(7, &[run(0, "0x1"), run(0, "0x2")]);
        let told = told_first(&diverged, &ledger(&folder, "sim"));
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 4, "{told}");
        assert!(lines[0].contains("0x1 in one process and 0x2 in another"), "{told}");
        assert!(lines[1].contains("leader-failover --trace --out "), "{told}");
        assert!(lines[1].ends_with("/diverged/0x7/a --seed 0x7"), "{told}");
        assert!(lines[3].contains("-- diff ") && lines[3].ends_with("0x7/b/runs/latest"), "{told}");
    }
}
