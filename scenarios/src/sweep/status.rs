//! How far a sweep has come, for a person: while it goes on, and at its end.
//!
//! Pure but for the terminal. Invariant: a figure that is not known is not shown.

use std::time::Duration;

use super::record::{SweepRecord, Totals};
use crate::terminal::Terminal;

/// Shows it while it goes on.
pub(crate) struct Status {
    terminal: Terminal,
}

impl Status {
    pub(crate) fn new(record: &SweepRecord) -> Self {
        let has_end = record.seeds_max.is_some() || record.minutes_max.is_some();
        Self { terminal: Terminal::new(has_end) }
    }

    /// How often to show it.
    pub(crate) fn interval(&self) -> Duration {
        // A sweep is slower than a run.
        self.terminal.interval().max(Duration::from_millis(500))
    }

    pub(crate) fn show(&self, record: &SweepRecord) {
        self.terminal.show(permille(record), line(record));
    }

    pub(crate) fn say(&self, line: &str) {
        self.terminal.say(line);
    }

    pub(crate) fn end(&self) {
        self.terminal.end();
    }
}

/// Seeds done, how fast, time left, failures.
fn line(record: &SweepRecord) -> String {
    let totals = &record.totals;
    let mut parts = vec![match record.seeds_max {
        Some(seeds_max) => format!("{} of {seeds_max} seeds", totals.seeds),
        None => format!("{} seeds", totals.seeds),
    }];
    if totals.seeds > 0 {
        parts.extend(pace(totals));
        parts.extend(left_s(record).map(|left_s| format!("about {} left", lasting(left_s))));
    }
    parts.push(match totals.failures() {
        0 => "no failure".to_owned(),
        1 => "1 failure".to_owned(),
        failures => format!("{failures} failures"),
    });
    parts.join(", ")
}

/// What all seeds came to.
pub(crate) fn summary(record: &SweepRecord) -> String {
    let totals = &record.totals;
    let Totals { seeds, valid, invalid, unknown, laboratory, .. } = totals;
    let mut text = format!("{seeds} seeds: {valid} valid, {invalid} invalid, {unknown} unknown");
    if *laboratory > 0 {
        text.push_str(&format!(", {laboratory} that the laboratory failed"));
    }
    if totals.twice > 0 {
        let diverged = match totals.diverged {
            0 => "none of them diverged".to_owned(),
            diverged => format!("{diverged} of them diverged"),
        };
        text.push_str(&format!("; {} run twice, in two processes: {diverged}", totals.twice));
    }
    let pace = pace(totals).join(", ");
    text + &format!("\n{pace}, {} at a time, in {}\n", record.jobs, lasting(totals.wall_s))
}

fn pace(totals: &Totals) -> Vec<String> {
    let mut parts = vec![format!("{:.0} seeds/h", totals.seeds_per_hour)];
    if totals.simulated_s > 0.0 {
        let per_wall = totals.simulated_per_wall;
        parts.push(format!("{per_wall:.1} simulated seconds for each second of a run"));
    }
    parts
}

/// By what the seeds took so far, or what the limit leaves.
fn left_s(record: &SweepRecord) -> Option<f64> {
    let totals = &record.totals;
    let by_time = record.minutes_max.map(|minutes| minutes as f64 * 60.0 - totals.wall_s);
    let by_seeds = record.seeds_max.map(|seeds_max| {
        seeds_max.saturating_sub(totals.seeds) as f64 * totals.wall_s / totals.seeds.max(1) as f64
    });
    let left_s = by_time.into_iter().chain(by_seeds).reduce(f64::min)?;
    Some(left_s.max(0.0))
}

fn permille(record: &SweepRecord) -> u64 {
    let Some(left_s) = left_s(record) else { return 0 };
    let whole_s = record.totals.wall_s + left_s;
    if record.totals.seeds == 0 || whole_s <= 0.0 {
        return 0;
    }
    (record.totals.wall_s / whole_s * 1_000.0) as u64
}

/// `42 s`, `7 min 3 s`, `2 h 5 min`.
fn lasting(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::ledger::tests::record;

    fn at(seeds: u64, failures: u64, wall_s: f64) -> SweepRecord {
        let mut record = SweepRecord { seeds_max: Some(40), ..record() };
        let (valid, invalid) = (seeds - failures, failures);
        record.totals = Totals { seeds, valid, invalid, ..Totals::default() };
        record.totals.at(wall_s);
        record
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        assert_eq!(line(&at(0, 0, 3.0)), "0 of 40 seeds, no failure");
        let told = line(&at(10, 1, 30.0));
        assert_eq!(told, "10 of 40 seeds, 1200 seeds/h, about 1 min 30 s left, 1 failure");
        assert_eq!(permille(&at(10, 1, 30.0)), 250);
        let mut simulated = at(10, 0, 30.0);
        (simulated.totals.simulated_s, simulated.totals.runs_wall_s) = (600.0, 15.0);
        simulated.totals.at(30.0);
        let told = line(&simulated);
        assert!(told.contains("40.0 simulated seconds for each second of a run"), "{told}");
    }

    #[test]
    fn the_nearer_limit_says_how_long() {
        let mut record = at(10, 0, 30.0);
        record.minutes_max = Some(1);
        assert_eq!(left_s(&record), Some(30.0));
        record.seeds_max = None;
        assert!(line(&record).starts_with("10 seeds, "));
        record.totals.wall_s = 90.0;
        assert_eq!(left_s(&record), Some(0.0), "the last seeds take their time");
        assert_eq!((lasting(59.2), lasting(3_599.5)), ("1 min 0 s".into(), "1 h 0 min".into()));
    }

    #[test]
    fn the_summary_counts_everything() {
        let mut record = at(10, 1, 30.0);
        let told = summary(&record);
        assert!(
            told.starts_with("10 seeds: 9 valid, 1 invalid, 0 unknown\n1200 seeds/h"),
            "{told}"
        );
        (record.totals.twice, record.totals.diverged, record.totals.laboratory) = (4, 1, 1);
        let told = summary(&record);
        assert!(told.contains("1 that the laboratory failed; 4 run twice"), "{told}");
        assert!(told.contains("1 of them diverged"), "{told}");
    }
}
