//! Leads a plan through its phases: form, load, trials, heal, prove, freeze.
//!
//! Does what the runs with real time do, one virtual event after the other. Invariant: every wait
//! has a bound in the world's own time, what was hit is brought back before anything is proven,
//! and whatever ends the run, all that was asked is in the history.

use std::time::Duration;

use raft::Time;

use super::{asking::CallerEvent, planned::seat, strikes::Strikes};
use crate::{
    fault::NodeNumber,
    invariant::Violation,
    member::nanos,
    outage::{fullest_window, needed},
    plan::{Plan, WorkloadPlan},
    run::{
        FORM_BOUND, Found, Journal, Outcome, Phase, RATE_BOUND, RunError, Stop, View, demand,
        formed, judge_all, not_formed, returned, too_slow, well_again_ns,
    },
    schedule,
    seed::Seed,
    swarm::{event::Event, node::Seat, queue::EVENTS_MAX, world::World},
};

/// Carries one plan out in one world.
pub(super) struct Conductor<'a> {
    pub(super) plan: &'a Plan,
    pub(super) seed: Seed,
    pub(super) world: World,
    pub(super) journal: Journal,
    pub(super) found: Found,
    /// The cluster as its servers' notes tell it.
    pub(super) view: View,
    pub(super) lost: Vec<String>,
    stop: &'a Stop,
    turns: u64,
    stopped: bool,
}

/// Why a plan does not go on.
#[derive(Debug)]
pub(super) enum Broken {
    /// An invariant does not hold.
    Rule(Violation),
    /// What happens cannot be written down, or the plan not be carried out.
    Run(RunError),
}

impl<'a> Conductor<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        seed: Seed,
        world: World,
        journal: Journal,
        stop: &'a Stop,
    ) -> Self {
        let found = Found::default();
        let (view, lost) = (View::default(), Vec::new());
        Self { plan, seed, world, journal, found, view, lost, stop, turns: 0, stopped: false }
    }

    /// All phases up to the freeze.
    pub(super) fn conduct(&mut self) -> Result<(), Broken> {
        let Some(load) = self.plan.workload.clone() else { return Ok(()) };
        self.world.begin()?;
        for node in self.nodes() {
            self.welcome(seat(node));
        }
        self.journal.phase(Phase::Assume)?;
        let nodes = self.plan.nodes;
        if !self.until(FORM_BOUND, |run| run.view.formed(nodes))? {
            self.found.checks.push(not_formed(self.stopped));
            return Ok(());
        }
        let forming_ms = self.view.changed_ns / 1_000_000;
        self.found.counts.insert("formed_after_ms".into(), forming_ms);
        self.found.checks.push(formed(forming_ms));
        self.open_sessions(load.clients)?;
        self.start_load(&load);
        match self.under_load(&load) {
            Ok(()) => {}
            // The servers broke nothing: what is under way may still be answered.
            Err(Broken::Run(error @ RunError::Lab(_))) => {
                self.found.failure = Some(error.to_string());
            }
            // After a broken rule no answer is worth waiting for.
            Err(broken) => return Err(broken),
        }
        let end_ns = self.now_ns();
        self.journal.phase(Phase::Heal)?;
        self.end_load()?;
        // Whether clients were served in time is judged only where all of them had their answers.
        self.found.load_ns = self.found.load_ns.map(|(from, _)| (from, end_ns));
        if self.found.failure.is_none() {
            self.prove_and_freeze()?;
        }
        Ok(())
    }

    /// Judges what there is.
    pub(super) fn conclude(mut self) -> Result<Outcome, RunError> {
        // A run that was given up midway leaves questions open, and readers may have seen what
        // these wrote: without them in the history that would look like a broken guarantee.
        if let Some(planned) = &mut self.world.planned {
            planned.callers.give_up_all();
        }
        self.collect()?;
        if let Some(planned) = &mut self.world.planned {
            self.found.counts.append(&mut planned.callers.reasons);
            if let Some(load) = &planned.callers.load {
                self.found.driven = load.driven;
            }
        }
        let counts = self.world.counts;
        let simulated_ms = nanos(self.world.now) / 1_000_000;
        let told = [
            ("steps", counts.steps),
            ("simulated_ms", simulated_ms),
            ("messages_delivered", counts.delivered),
            ("messages_lost", counts.lost),
            ("elections", counts.elections),
            ("truncations", counts.truncations),
        ];
        self.found.counts.extend(told.map(|(name, count)| (name.to_owned(), count)));
        let records = self.journal.freeze();
        self.journal.phase(Phase::Check)?;
        let mut outcome = judge_all(self.plan, self.found, records, self.stopped)?;
        outcome.trace_hash = Some(self.world.trace_hash());
        Ok(outcome)
    }

    /// Goes on until something holds, for as long as the bound; whether it does. A wish to stop
    /// ends it as well.
    pub(super) fn until(
        &mut self,
        bound: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<bool, Broken> {
        let end = self.world.now.plus(bound);
        while !holds(self) {
            if self.is_stopped() || !self.turn_before(end)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes on until this moment, whatever anybody wishes.
    pub(super) fn advance(&mut self, to: Time) -> Result<(), Broken> {
        while self.turn_before(to)? {}
        Ok(())
    }

    /// The next thing happens, if that is due before `end`; else it is `end` now.
    pub(super) fn turn_before(&mut self, end: Time) -> Result<bool, Broken> {
        if self.world.next_at().is_none_or(|at| at > end) {
            self.world.now = self.world.now.max(end);
            return Ok(false);
        }
        self.refuse_storm()?;
        self.turns += 1;
        self.world.turn()?;
        self.collect()?;
        Ok(true)
    }

    /// What this world carries at once is a limit of the model. Clients that ask for more than is
    /// served come to it as well, each asking again and again, so it says nothing of the servers.
    fn refuse_storm(&self) -> Result<(), RunError> {
        let Some(count) = self.world.queue.overflow() else { return Ok(()) };
        Err(RunError::Lab(format!(
            "{count} things are under way at once, and world swarm carries {EVENTS_MAX}: lower \
             workload.rate_per_s (--rate)"
        )))
    }

    /// Whether somebody wants the run to end. Looked at now and then, and once is for ever.
    pub(super) fn is_stopped(&mut self) -> bool {
        if self.turns.is_multiple_of(TURNS_PER_LOOK) {
            self.stopped |= self.stop.is_stopped();
        }
        self.stopped
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeNumber> + use<> {
        (1..=self.plan.nodes).map(NodeNumber)
    }

    pub(super) fn now_ns(&self) -> u64 {
        nanos(self.world.now)
    }

    /// A server is there: its role is known from here on, also if it follows in silence, and it
    /// holds bonds to all others, from its own side.
    pub(super) fn welcome(&mut self, seat: Seat) {
        let now = self.world.now;
        let Some(planned) = &self.world.planned else { return };
        if let Some(core) = &self.world.nodes[seat.0].core {
            planned.became(seat, now, core.role(), core.term());
        }
        let others = (0..self.world.nodes.len()).map(Seat).filter(|other| *other != seat);
        others.for_each(|other| planned.bonded(seat, now, other));
    }

    /// Hands on what was noted and answered meanwhile.
    fn collect(&mut self) -> Result<(), RunError> {
        let Some(planned) = &mut self.world.planned else { return Ok(()) };
        let told = planned.take_told();
        for operation in planned.callers.take_done() {
            self.journal.operation(operation)?;
        }
        if told.is_empty() {
            return Ok(());
        }
        for event in told {
            self.journal.event(event)?;
        }
        self.view = self.journal.view();
        Ok(())
    }

    fn open_sessions(&mut self, clients: u64) -> Result<(), Broken> {
        let now = self.world.now;
        let count = usize::try_from(clients).unwrap_or(0) + self.world.nodes.len();
        for caller in 0..count {
            let Some(planned) = &mut self.world.planned else { return Ok(()) };
            let task = planned.callers.want_session(caller, now);
            self.world.ask(task);
        }
        let open = |run: &Self| {
            let planned = run.world.planned.as_ref();
            planned.is_some_and(|planned| planned.callers.tasks.is_empty())
        };
        self.until(RATE_BOUND, open)?;
        Ok(())
    }

    fn start_load(&mut self, load: &WorkloadPlan) {
        let now = self.world.now;
        if let Some(planned) = &mut self.world.planned {
            planned.callers.load(load, self.seed, now);
        }
        self.world.queue.put(now, Event::Caller(CallerEvent::Burst(0)));
    }

    fn under_load(&mut self, load: &WorkloadPlan) -> Result<(), Broken> {
        if !self.comes_to_rate(load, "after the group had formed")? {
            return Ok(());
        }
        self.journal.phase(Phase::Load)?;
        let now_ns = self.now_ns();
        self.found.load_ns = Some((now_ns, now_ns));
        let mut schedule = schedule::draw(self.plan, self.seed);
        self.journal.schedule(&schedule)?;
        for trial in 1..=self.plan.trials {
            if self.is_stopped() {
                break;
            }
            self.journal.progress(trial, self.plan.trials)?;
            let strikes = Strikes::new(self, &mut schedule, trial).carry_out(load)?;
            self.journal.measure(&strikes, |set| demand(self.plan, load, set))?;
            self.found.strikes.extend(strikes);
            if self.plan.steps.is_empty() || self.is_stopped() {
                continue;
            }
            let nodes = self.plan.nodes;
            if !self.until(FORM_BOUND, |run| run.view.formed(nodes))? {
                self.found.checks.push(not_formed(self.stopped));
                break;
            }
            // The next trial starts from health, or it would measure this one's rest.
            if !self.comes_to_rate(load, &format!("after trial {trial}"))? {
                break;
            }
        }
        if !self.plan.steps.is_empty() {
            let faults = self.found.strikes.len();
            self.found.checks.push(returned(&self.lost, faults));
        }
        if let Some(until_ns) = well_again_ns(self.plan, &self.found.strikes) {
            let bound = Time(Duration::from_nanos(until_ns)).since(self.world.now);
            self.until(bound, |_| false)?;
        }
        Ok(())
    }

    /// Waits until successes reach nine tenths of the rate; says so where that takes too long.
    fn comes_to_rate(&mut self, load: &WorkloadPlan, when: &str) -> Result<bool, Broken> {
        let (from_ns, end) = (self.now_ns(), self.world.now.plus(RATE_BOUND));
        let mut successes = Vec::new();
        while self.world.now < end && !self.is_stopped() {
            successes = self.journal.successes(1, from_ns);
            if fullest_window(&successes) >= needed(load.rate_per_s) {
                return Ok(true);
            }
            self.advance(self.world.now.plus(RATE_PAUSE))?;
        }
        if !self.stopped {
            self.found.checks.push(too_slow(load, when, fullest_window(&successes)));
        }
        Ok(false)
    }

    /// Nothing more is asked; what is under way is answered or given up.
    fn end_load(&mut self) -> Result<(), Broken> {
        let Some(planned) = &mut self.world.planned else { return Ok(()) };
        if let Some(load) = &mut planned.callers.load {
            load.going = false;
        }
        let answered = |run: &Self| {
            let planned = run.world.planned.as_ref();
            planned.is_none_or(|planned| planned.callers.tasks.is_empty())
        };
        let end = self.world.now.plus(DRAIN_BOUND);
        while !answered(self) && self.turn_before(end)? {}
        Ok(())
    }
}

impl From<Violation> for Broken {
    fn from(violation: Violation) -> Self {
        Self::Rule(violation)
    }
}

impl From<RunError> for Broken {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Run(RunError::Listener(error))
    }
}

/// Between two looks at whether the rate is reached.
const RATE_PAUSE: Duration = Duration::from_millis(20);
/// Every operation has ended long before.
const DRAIN_BOUND: Duration = Duration::from_secs(60);
/// Events between two looks at whether somebody wants the run to end.
const TURNS_PER_LOOK: u64 = 1_024;
