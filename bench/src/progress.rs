//! How far a measurement has come: at what it is, how much of that is done, and how long it takes.
//!
//! Pure: it is told what is done, and asked with a moment. Invariants: stages follow each other;
//! the time left of the present one follows its own pace as soon as there is one, and what was
//! planned before that.

use std::time::Duration;

use runtime::Time;

/// A part of a measurement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stage {
    /// What is done in it.
    pub(crate) words: String,
    /// What is counted of it, in words.
    pub(crate) unit: &'static str,
    /// How many of these there are.
    pub(crate) units: u64,
    /// How long one of them may take; zero where nobody knows.
    pub(crate) each: Duration,
}

/// How far the stages have come.
#[derive(Debug)]
pub(crate) struct Progress {
    stages: Vec<Stage>,
    /// How many have begun.
    begun: usize,
    /// Units of the present one.
    done: u64,
    /// When the first and the present one began.
    first_began: Time,
    began: Time,
}

impl Progress {
    /// Nothing has begun.
    pub(crate) fn new(stages: Vec<Stage>) -> Self {
        let (first_began, began) = (Time::default(), Time::default());
        Self { stages, begun: 0, done: 0, first_began, began }
    }

    /// The next stage begins.
    pub(crate) fn go_on(&mut self, now: Time) {
        if self.begun == 0 {
            self.first_began = now;
        }
        self.begun = (self.begun + 1).min(self.stages.len());
        (self.done, self.began) = (0, now);
    }

    /// So much more of the present stage is done.
    pub(crate) fn add(&mut self, units: u64) {
        self.done += units;
    }

    /// How many stages have begun.
    pub(crate) fn begun(&self) -> usize {
        self.begun
    }

    /// What is done, how much of it, how fast, and how long all of it still takes.
    pub(crate) fn line(&self, now: Time) -> String {
        let Some(stage) = self.present() else { return "starting".into() };
        let Stage { words, unit, units, .. } = stage;
        let mut parts = vec![format!("{words}, {} of {units} {unit}", self.done.min(*units))];
        if let Some(each) = self.pace(now).filter(|each| *each < SLOW_S) {
            parts.push(format!("{:.0}/s", 1.0 / each));
        }
        if let Some(left_s) = self.left_s(now) {
            parts.push(format!("about {:.0} s left", left_s.ceil()));
        }
        parts.join(", ")
    }

    /// How much of the whole time is over.
    pub(crate) fn permille(&self, now: Time) -> u64 {
        let Some(left_s) = self.left_s(now) else { return 0 };
        let spent_s = now.since(self.first_began).as_secs_f64();
        let whole_s = spent_s + left_s;
        if whole_s > 0.0 { (spent_s / whole_s * 1_000.0) as u64 } else { 0 }
    }

    fn present(&self) -> Option<&Stage> {
        self.stages.get(self.begun.checked_sub(1)?)
    }

    /// Seconds for each unit of the present stage, once there is enough to tell.
    fn pace(&self, now: Time) -> Option<f64> {
        let spent = now.since(self.began);
        (spent >= TOLD_MIN && self.done > 0).then(|| spent.as_secs_f64() / self.done as f64)
    }

    /// Of the present stage and all that follow; nothing where nobody knows of one of them.
    fn left_s(&self, now: Time) -> Option<f64> {
        let stage = self.present()?;
        let planned = |stage: &Stage| (!stage.each.is_zero()).then_some(stage.each.as_secs_f64());
        let each = self.pace(now).or_else(|| planned(stage))?;
        let left = stage.units.saturating_sub(self.done);
        let mut left_s = each * left as f64;
        for later in &self.stages[self.begun..] {
            left_s += planned(later)? * later.units as f64;
        }
        Some(left_s)
    }
}

/// Over less than this a pace means nothing.
const TOLD_MIN: Duration = Duration::from_millis(500);
/// How many there are in a second means nothing where one takes longer.
const SLOW_S: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn stage(words: &str, units: u64, each_ms: u64) -> Stage {
        let each = Duration::from_millis(each_ms);
        Stage { words: words.into(), unit: "entries", units, each }
    }

    #[test]
    fn a_line_says_what_is_done_how_fast_and_how_long() {
        let stages = vec![stage("filling", 1_000, 1), stage("reading", 10, 2_000)];
        let mut progress = Progress::new(stages);
        assert_eq!(progress.line(at(1)), "starting");
        progress.go_on(at(1_000));
        assert_eq!(progress.line(at(1_100)), "filling, 0 of 1000 entries, about 21 s left");
        progress.add(200);
        // Five milliseconds for each, and not the one that was planned.
        let line = "filling, 200 of 1000 entries, 200/s, about 24 s left";
        assert_eq!(progress.line(at(2_000)), line);
        progress.go_on(at(6_000));
        assert_eq!(progress.line(at(6_000)), "reading, 0 of 10 entries, about 20 s left");
        progress.add(5);
        let line = "reading, 5 of 10 entries, about 15 s left";
        assert_eq!(progress.line(at(21_000)), line, "three seconds for each are no rate");
        assert_eq!(progress.permille(at(21_000)), 571);
    }

    #[test]
    fn no_time_is_promised_where_nobody_knows_it() {
        let mut progress = Progress::new(vec![stage("carrying out", 4, 0)]);
        progress.go_on(at(0));
        assert_eq!(progress.line(at(90)), "carrying out, 0 of 4 entries");
        assert_eq!(progress.permille(at(90)), 0);
        progress.add(1);
        let line = "carrying out, 1 of 4 entries, about 30 s left";
        assert_eq!(progress.line(at(10_000)), line);
    }

    #[test]
    fn what_is_beyond_the_last_stage_stays_in_it() {
        let mut progress = Progress::new(vec![stage("filling", 4, 1)]);
        for _ in 0..3 {
            progress.go_on(at(0));
            progress.add(9);
        }
        assert_eq!(progress.begun(), 1);
        assert_eq!(progress.line(at(100)), "filling, 4 of 4 entries, about 0 s left");
    }
}
