//! What a person sees while a run goes on, on standard error.
//!
//! A state that changes on a terminal, lines elsewhere: one per phase and trial, or one every few
//! seconds. Knows nothing that was not told to it.

use std::collections::VecDeque;
use std::time::Duration;

use chaos::fault::Fault;
use chaos::history::{Operation, Outcome};
use chaos::outage::Trial;
use chaos::plan::{Plan, WorldKind};
use chaos::run::{MARKS_OPEN_MAX, Mark, Phase};
use runtime::{Clock as _, SystemClock, Time};

use crate::terminal::Terminal;

/// Shows how far a run has come.
pub(crate) struct Progress {
    terminal: Terminal,
    clock: SystemClock,
    shown_at: Time,
    state: State,
}

/// What is shown.
#[derive(Debug, Default)]
struct State {
    phase: Option<Phase>,
    /// What takes a follower away that lags. Then each trial starts a group, and does the rest.
    lag: Option<Fault>,
    /// How far that has come, in words.
    stage: Option<&'static str>,
    /// How much is committed of what it misses in this trial.
    filling: Option<Filling>,
    /// From 1; 0 before the first.
    trial: u64,
    trials: u64,
    /// How long the load of a trial lasts, in the world's own time, where that is all there is.
    load: Option<Duration>,
    /// When the first trial and the present one began.
    first_began: Option<Time>,
    trial_began: Option<Time>,
    outage_ms: Option<f64>,
    /// When the latest successes were told.
    successes: VecDeque<Time>,
    /// When the first operation of the load was told of.
    load_began: Option<Time>,
    has_clients: bool,
    /// How far the world's own time has come, where it is not the host's.
    simulated: Option<Duration>,
}

/// Entries that are committed while a follower is away.
#[derive(Debug, Clone, Copy)]
struct Filling {
    done: u64,
    entries: u64,
    /// When it was told for the first time, and how many were done then.
    began: Time,
    from: u64,
}

impl Progress {
    /// Shows on standard error how a plan is carried out.
    pub(crate) fn new(plan: &Plan, world: WorldKind) -> Self {
        // How long a follower lags, nobody knows before one did.
        let load = plan.workload.as_ref().filter(|_| plan.lag.is_none());
        let load = load.map(|load| Duration::from_millis(load.duration_ms.of(plan.profile)));
        let clock = SystemClock::new();
        let state = State {
            trials: plan.trials,
            lag: plan.lag.as_ref().map(|lag| lag.fault),
            load,
            has_clients: plan.workload.is_some(),
            simulated: world.is_virtual().then_some(Duration::ZERO),
            ..State::default()
        };
        let terminal = Terminal::new(plan.trials > 0);
        Self { terminal, shown_at: clock.now(), clock, state }
    }

    pub(crate) fn phase(&mut self, phase: Phase) {
        // A formation goes through its phases anew for every group.
        let is_new = self.state.phase.is_none_or(|earlier| earlier < phase);
        self.state.phase = Some(phase);
        if is_new {
            self.show();
        }
    }

    pub(crate) fn trial(&mut self, trial: u64, trials: u64) {
        let now = self.clock.now();
        self.state.first_began.get_or_insert(now);
        self.state.trial_began = Some(now);
        (self.state.trial, self.state.trials) = (trial, trials);
        (self.state.stage, self.state.filling) = (None, None);
        // Trials with load last for seconds; others may last for a tenth of one.
        if self.state.has_clients { self.show() } else { self.show_if_due(now) }
    }

    /// The entries that a follower is to miss are being committed.
    pub(crate) fn filling(&mut self, done: u64, entries: u64) {
        let now = self.clock.now();
        self.state.filling(now, done, entries);
        self.show_if_due(now);
    }

    pub(crate) fn operation(&mut self, operation: &Operation) {
        let now = self.clock.now();
        if let Some(simulated) = &mut self.state.simulated {
            let at_ns = operation.completed_ns.unwrap_or(operation.invoked_ns);
            *simulated = (*simulated).max(Duration::from_nanos(at_ns));
        } else {
            self.state.load_began.get_or_insert(now);
            if operation.outcome == Outcome::Ok {
                self.state.succeeded(now);
            }
        }
        self.show_if_due(now);
    }

    pub(crate) fn marks(&mut self, marks: &[Mark]) {
        if let Some(fault) = self.state.lag {
            self.state.stage = stage(marks, fault);
        }
    }

    pub(crate) fn trials(&mut self, trials: &[Trial]) {
        self.state.outage_ms = trials.last().and_then(|trial| trial.outage_ms);
    }

    /// Prints a line of its own.
    pub(crate) fn say(&self, line: &str) {
        self.terminal.say(line);
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.terminal.end();
    }

    fn show_if_due(&mut self, now: Time) {
        if now.0.saturating_sub(self.shown_at.0) >= self.terminal.interval() {
            self.show();
        }
    }

    fn show(&mut self) {
        self.shown_at = self.clock.now();
        let line = self.state.line(self.shown_at);
        self.terminal.show(self.state.permille(self.shown_at), line);
    }
}

impl State {
    fn succeeded(&mut self, now: Time) {
        self.successes.push_back(now);
        while self.successes.len() > SUCCESSES_MAX
            || self.successes.front().is_some_and(|at| now.0.saturating_sub(at.0) > RATE_WINDOW)
        {
            self.successes.pop_front();
        }
    }

    fn filling(&mut self, now: Time, done: u64, entries: u64) {
        let (began, from) =
            self.filling.map_or((now, done), |filling| (filling.began, filling.from));
        self.filling = Some(Filling { done, entries, began, from });
    }

    /// Phase, entries committed for a follower to miss, trial, rate or virtual time, last outage,
    /// time left.
    fn line(&self, now: Time) -> String {
        let is_at_trials = self.phase == Some(Phase::Start);
        let stage = self.stage.filter(|_| is_at_trials);
        let filling = self.filling.filter(|filling| is_at_trials && filling.done < filling.entries);
        let doing = filling.map(|_| AWAY).or(stage).or(self.phase.map(words));
        let mut parts = vec![doing.unwrap_or("starting").to_owned()];
        if let Some(filling) = filling {
            parts.extend(filling.words(now, self.simulated.is_none()));
        }
        if self.trial > 0 && self.trials > 1 {
            parts.push(format!("trial {} of {}", self.trial, self.trials));
        }
        if let Some(simulated) = self.simulated {
            parts.push(format!("{:.1} s simulated", simulated.as_secs_f64()));
            parts.extend(self.pace(now).map(|pace| format!("{pace:.1} in each second")));
        } else if self.has_clients && self.phase == Some(Phase::Load) {
            parts.extend(self.rate(now).map(|per_s| format!("{per_s:.0}/s answered")));
        }
        if let Some(outage_ms) = self.outage_ms {
            parts.push(format!("last outage {outage_ms:.0} ms"));
        }
        if let Some(left) = self.left(now) {
            parts.push(format!("about {} s left", left.as_secs_f64().ceil()));
        }
        parts.join(", ")
    }

    /// From what the trials took so far, or from how long their load shall last.
    fn left(&self, now: Time) -> Option<Duration> {
        if self.phase.is_some_and(|phase| phase > Phase::Load) {
            return None;
        }
        let spent = now.0.saturating_sub(self.trial_began?.0);
        let completed = u32::try_from(self.trial.checked_sub(1)?).ok()?;
        let before = self.trial_began?.0.saturating_sub(self.first_began?.0);
        let planned = || match self.simulated {
            None => self.load,
            // How long virtual time takes is for this host to say.
            Some(_) => Some(self.load?.div_f64(self.pace(now)?)),
        };
        let each = before.checked_div(completed).or_else(planned)?;
        let later = u32::try_from(self.trials.saturating_sub(self.trial)).ok()?;
        Some(each.saturating_mul(later) + each.saturating_sub(spent))
    }

    /// Successes in each second of the latest in which there was load, once there was enough of it
    /// to tell.
    fn rate(&self, now: Time) -> Option<f64> {
        let loaded = now.0.saturating_sub(self.load_began?.0).min(RATE_WINDOW);
        let recent = |at: &&Time| now.0.saturating_sub(at.0) <= loaded;
        let count = self.successes.iter().filter(recent).count();
        (loaded >= TOLD_MIN).then(|| count as f64 / loaded.as_secs_f64())
    }

    /// Virtual time for each second of the host's, once there is enough of both to tell.
    fn pace(&self, now: Time) -> Option<f64> {
        let spent = now.0.saturating_sub(self.first_began?.0);
        let simulated = self.simulated.filter(|simulated| *simulated >= TOLD_MIN)?;
        (spent >= TOLD_MIN).then(|| simulated.as_secs_f64() / spent.as_secs_f64())
    }

    /// By the trials, and by what is committed in the present one, where their time is not known.
    fn filled_permille(&self) -> u64 {
        let Some(Filling { done, entries, .. }) = self.filling else { return 0 };
        let before = self.trial.saturating_sub(1) as f64;
        let share = done as f64 / entries.max(1) as f64;
        ((before + share) / self.trials.max(1) as f64 * 1_000.0) as u64
    }

    fn permille(&self, now: Time) -> u64 {
        let (Some(left), Some(began)) = (self.left(now), self.first_began) else {
            return if self.phase > Some(Phase::Load) { 1_000 } else { self.filled_permille() };
        };
        let spent = now.0.saturating_sub(began.0).as_secs_f64();
        let whole = spent + left.as_secs_f64();
        if whole > 0.0 { (spent / whole * 1_000.0) as u64 } else { 0 }
    }
}

impl Filling {
    /// How far it is, how fast where that is a figure, and for how long it still goes on.
    fn words(&self, now: Time, is_measured: bool) -> Vec<String> {
        let Self { done, entries, .. } = self;
        let mut words = vec![format!("{done} of {entries} entries committed")];
        let Some(per_s) = self.per_s(now) else { return words };
        if is_measured {
            words.push(format!("{per_s:.0}/s"));
        }
        let left_s = entries.saturating_sub(*done) as f64 / per_s;
        words.push(format!("about {} s until it returns", left_s.ceil()));
        words
    }

    /// In each second of the host's, once there is enough to tell.
    fn per_s(&self, now: Time) -> Option<f64> {
        let spent = now.0.saturating_sub(self.began.0);
        let done = self.done.saturating_sub(self.from);
        (spent >= TOLD_MIN && done > 0).then(|| done as f64 / spent.as_secs_f64())
    }
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Start => "starting nodes",
        Phase::Assume => "waiting for a leader and all bonds",
        Phase::Load => "running",
        Phase::Heal => "healing",
        Phase::Liveness => "writing through every node",
        Phase::Freeze => "reading the logs",
        Phase::Check => "checking the history",
    }
}

/// How far the trial of a follower that lags has come, as its newest marks say.
fn stage(marks: &[Mark], lag: Fault) -> Option<&'static str> {
    marks.iter().rev().take(MARKS_OPEN_MAX).find_map(|mark| {
        match (mark.kind.as_str(), mark.until_ns.is_some()) {
            (FORMING, false) => Some(words(Phase::Start)),
            (FORMING, true) => Some("load before the fault"),
            (kind, false) if kind == lag.word() => Some(AWAY_OR_BACK),
            (kind, true) if kind == lag.word() => Some("the follower has caught up"),
            _ => None,
        }
    })
}

const AWAY: &str = "a follower is away";
const AWAY_OR_BACK: &str = "a follower is away or catches up";
/// The mark of a group that forms.
const FORMING: &str = "forming";
/// Over less than this a pace means nothing.
const TOLD_MIN: Duration = Duration::from_millis(500);
const RATE_WINDOW: Duration = Duration::from_secs(1);
const SUCCESSES_MAX: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn state() -> State {
        State {
            phase: Some(Phase::Load),
            trial: 3,
            trials: 10,
            load: Some(Duration::from_secs(5)),
            first_began: Some(at(1_000)),
            trial_began: Some(at(13_000)),
            outage_ms: Some(212.4),
            load_began: Some(at(900)),
            has_clients: true,
            ..State::default()
        }
    }

    #[test]
    fn a_line_says_where_how_fast_and_how_long() {
        let mut state = state();
        for ms in (14_000..15_000).step_by(2) {
            state.succeeded(at(ms));
        }
        // Two trials took 6 s each: 4 s of this one and seven more.
        let line = "running, trial 3 of 10, 500/s answered, last outage 212 ms, about 46 s left";
        assert_eq!(state.line(at(15_000)), line);
        assert_eq!(state.permille(at(15_000)), 233);
    }

    #[test]
    fn a_rate_is_of_the_time_with_load() {
        let mut state = State { load_began: Some(at(14_000)), ..state() };
        for ms in (14_000..14_600).step_by(2) {
            state.succeeded(at(ms));
        }
        assert!(state.line(at(14_600)).contains(", 500/s answered, "), "0.6 s of it");
        // No second in which nobody was answered is left out.
        assert!(state.line(at(15_200)).contains(", 200/s answered, "));
        assert!(!state.line(at(14_400)).contains("answered"), "it is too early to tell");
    }

    #[test]
    fn the_first_trial_is_reckoned_by_its_load() {
        let state = State { trial: 1, first_began: Some(at(13_000)), ..state() };
        assert_eq!(state.left(at(14_000)), Some(Duration::from_secs(4 + 9 * 5)));
    }

    #[test]
    fn virtual_time_is_told_in_place_of_a_rate() {
        let simulated = Some(Duration::from_millis(14_260));
        let state = State { simulated, outage_ms: None, ..state() };
        let line = "running, trial 3 of 10, 14.3 s simulated, 1.0 in each second, about 46 s left";
        assert_eq!(state.line(at(15_000)), line);
        // 7.13 s of virtual time in each second: ten trials of 5 s, one second of which is spent.
        let first = State { trial: 1, first_began: Some(at(13_000)), ..state };
        let first = State { simulated: Some(Duration::from_millis(7_130)), ..first };
        assert_eq!(first.left(at(14_000)).map(|left| left.as_millis()), Some(6_311));
        assert_eq!(first.left(at(13_400)), None, "nobody knows yet");
    }

    #[test]
    fn of_a_follower_that_lags_it_is_told_where_it_is_and_no_time_before_one_did() {
        let mark = |kind: &str, until_ns| Mark {
            at_ns: 1,
            kind: kind.to_owned(),
            node: None,
            nodes: Vec::new(),
            detail: String::new(),
            until_ns,
        };
        let (open, over) = (None, Some(2));
        let past = [mark("forming", over), mark("kill", over)];
        for (new, told) in [
            (vec![mark("forming", open)], "starting nodes"),
            (vec![mark("forming", over)], "load before the fault"),
            (vec![mark("forming", over), mark("leader", open)], "load before the fault"),
            (vec![mark("forming", over), mark("kill", open)], "a follower is away or catches up"),
            (vec![mark("kill", over), mark("stall", over)], "the follower has caught up"),
        ] {
            assert_eq!(stage(&[&past[..], &new[..]].concat(), Fault::Kill), Some(told));
        }
        assert_eq!(stage(&[], Fault::Kill), None);
        let lagging = State {
            phase: Some(Phase::Start),
            lag: Some(Fault::Kill),
            stage: Some("load before the fault"),
            load: None,
            trial: 1,
            first_began: Some(at(13_000)),
            simulated: Some(Duration::from_secs(2)),
            outage_ms: None,
            ..state()
        };
        let line = "load before the fault, trial 1 of 10, 2.0 s simulated, 2.0 in each second";
        assert_eq!(lagging.line(at(14_000)), line);
        assert_eq!(lagging.permille(at(14_000)), 0);
        let second = State { trial: 2, trial_began: Some(at(15_000)), ..lagging };
        let line = second.line(at(16_000));
        assert!(line.ends_with("about 17 s left"), "{line}");
        let checking = State { phase: Some(Phase::Check), ..second };
        assert!(checking.line(at(99_000)).starts_with("checking the history"));
    }

    #[test]
    fn what_a_follower_misses_is_told_while_it_is_committed() {
        let mut state = State {
            phase: Some(Phase::Start),
            lag: Some(Fault::Kill),
            stage: Some(AWAY_OR_BACK),
            load: None,
            trial: 1,
            first_began: Some(at(13_000)),
            outage_ms: None,
            ..state()
        };
        state.filling(at(20_000), 2_000, 1_000_000);
        let line = "a follower is away, 2000 of 1000000 entries committed, trial 1 of 10";
        assert_eq!(state.line(at(20_100)), line, "it is too early to tell how fast");
        state.filling(at(24_000), 102_000, 1_000_000);
        let line = "a follower is away, 102000 of 1000000 entries committed, 25000/s, about 36 s \
                    until it returns, trial 1 of 10";
        assert_eq!(state.line(at(24_000)), line);
        // Nobody knows yet how long a trial takes: of ten a tenth of the first is done.
        assert_eq!(state.permille(at(24_000)), 10);
        let simulated = State { simulated: Some(Duration::ZERO), ..state };
        let line = simulated.line(at(24_000));
        assert!(line.contains("committed, about 36 s until it returns, trial 1"), "{line}");
        let mut state = State { simulated: None, ..simulated };
        state.filling(at(60_000), 1_000_000, 1_000_000);
        assert_eq!(state.line(at(60_000)), "a follower is away or catches up, trial 1 of 10");
        assert_eq!(state.permille(at(60_000)), 100, "the bar does not go back");
        state.filling(at(60_000), 7, 1_000_000);
        let stopped = State { phase: Some(Phase::Check), ..state };
        assert_eq!(stopped.line(at(60_000)), "checking the history, trial 1 of 10");
    }

    #[test]
    fn before_and_after_the_load_no_time_is_promised() {
        assert_eq!(State::default().line(at(1)), "starting");
        let state = State { phase: Some(Phase::Check), ..state() };
        assert_eq!(
            state.line(at(99_000)),
            "checking the history, trial 3 of 10, last outage 212 ms"
        );
        assert_eq!(state.permille(at(99_000)), 1_000);
    }

    #[test]
    fn old_successes_are_forgotten() {
        let mut state = state();
        state.succeeded(at(1));
        state.succeeded(at(5_000));
        assert_eq!(state.successes, [at(5_000)]);
    }
}
