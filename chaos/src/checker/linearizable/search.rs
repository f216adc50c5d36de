//! Looks for an order of one key's operations that explains what everybody saw.
//!
//! The search of Wing and Gong (*Testing and Verifying Concurrent Objects*, 1993) with Lowe's
//! list and memory of configurations. It keeps its own stack, ends on a budget, and is
//! deterministic. Invariant: every shortcut below leaves a linearization if there is one.

use super::Budget;
use super::problem::{Action, Problem, State, UNWRITTEN};
use super::seen::{Chosen, Entered, Seen};
use super::timeline::{END, Event, Place, Timeline};

/// What the search found.
pub(super) enum Finding {
    /// There is an order.
    Linearizable,
    /// There is none.
    Impossible(Furthest),
    /// The budget ended first.
    Exhausted,
}

/// The longest beginning of an order that was found.
#[derive(Default)]
pub(super) struct Furthest {
    /// Its steps.
    pub(super) order: Vec<usize>,
    /// How many of them are required ones.
    pub(super) required: usize,
    /// What the register holds after it.
    pub(super) state: State,
    /// The step that returns first of those which remain.
    pub(super) deadline: usize,
    /// How many steps of `order` the current path still has in common with it.
    shared: usize,
}

pub(super) struct Search<'p, 'a> {
    problem: &'p Problem<'a>,
    budget: Budget,
    /// Events visited and words compared so far.
    spent: u64,
    timeline: Timeline,
    chosen: Chosen,
    seen: Seen,
    state: State,
    required_left: usize,
    observers_left: Vec<u32>,
    writers_left: Vec<u32>,
    outlook: Outlook,
    path: Vec<Taken>,
    furthest: Furthest,
}

/// What can be said of a settled configuration before any choice is made.
#[derive(Clone, Copy, Default)]
struct Outlook {
    /// The step that returns first of those which remain; meaningless when none must.
    deadline: usize,
    /// The only write worth trying, if there is one.
    closed: Option<usize>,
}

struct Taken {
    step: usize,
    /// The register before it.
    state: State,
    /// The outlook before it.
    outlook: Outlook,
    /// Whether there was nothing else to consider.
    forced: bool,
}

impl<'p, 'a> Search<'p, 'a> {
    pub(super) fn new(problem: &'p Problem<'a>, budget: Budget) -> Self {
        Self {
            problem,
            budget,
            spent: 0,
            timeline: Timeline::new(problem),
            chosen: Chosen::new(problem.required, problem.steps.len()),
            seen: Seen::new(budget.bytes_per_key_max),
            state: UNWRITTEN,
            required_left: problem.required,
            observers_left: problem.observers.clone(),
            writers_left: problem.writers.clone(),
            outlook: Outlook::default(),
            path: Vec::with_capacity(problem.steps.len()),
            furthest: Furthest::default(),
        }
    }

    pub(super) fn run(mut self) -> Finding {
        loop {
            self.settle();
            if self.required_left == 0 {
                return Finding::Linearizable;
            }
            self.spent += self.chosen.words() as u64;
            let mut place = match self.seen.enter(&self.chosen, self.state) {
                Entered::New => {
                    self.outlook.closed = self.closed();
                    self.timeline.first()
                }
                Entered::Known => END,
                Entered::Full => return Finding::Exhausted,
            };
            let step = loop {
                if let Some(step) = self.candidate(place) {
                    break step;
                }
                if self.spent > self.budget.steps_per_key_max {
                    return Finding::Exhausted;
                }
                match self.retreat() {
                    Some(untried) => place = untried,
                    None => return Finding::Impossible(self.furthest),
                }
            };
            self.take(step, false);
            if self.spent > self.budget.steps_per_key_max {
                return Finding::Exhausted;
            }
        }
    }

    /// Takes every step that may come now, changes nothing and finds what the register holds;
    /// and finds the deadline.
    ///
    /// No other choice need be considered for such a step: in any order that completes this
    /// configuration it can be moved to the front, where it finds the same and harms nobody.
    /// Nor is a second pass needed: what is taken changes neither the state nor what stands
    /// before it in the timeline.
    fn settle(&mut self) {
        let mut place = self.timeline.first();
        loop {
            self.spent += 1;
            match self.timeline.event(place) {
                Event::End => return,
                Event::Return(step) => {
                    self.outlook.deadline = step;
                    return;
                }
                Event::Call(step) => {
                    let next = self.timeline.after(place);
                    if self.problem.steps[step].action == Action::Observe(self.state) {
                        self.take(step, true);
                        // Its return may have been what stood next.
                        place = if self.timeline.event(next) == Event::Return(step) {
                            self.timeline.after(next)
                        } else {
                            next
                        };
                    } else {
                        place = next;
                    }
                }
            }
        }
    }

    /// The first write that may come now together with everybody who must find its value.
    ///
    /// While there is one, other writes need not be tried. Let an order complete this
    /// configuration and begin with another write `x`. Move the write, and after it all that
    /// find its value, to the front: they may come now, and change nothing but what `x` stores
    /// over anyway. Where the write stood, or another one of the same value, nobody is left who
    /// finds it; so a write follows there, or nothing, and it stores whatever it finds.
    fn closed(&mut self) -> Option<usize> {
        let now_ns = self.problem.steps[self.outlook.deadline].completed_ns;
        let mut place = self.timeline.first();
        loop {
            self.spent += 1;
            match self.timeline.event(place) {
                Event::End | Event::Return(_) => return None,
                Event::Call(step) if self.problem.is_closed_by(now_ns, step) => return Some(step),
                Event::Call(_) => place = self.timeline.after(place),
            }
        }
    }

    /// The first step from `place` on that may come now and is worth trying. A step may come now
    /// if it was called before the first return of those that remain.
    fn candidate(&mut self, mut place: Place) -> Option<usize> {
        loop {
            self.spent += 1;
            match self.timeline.event(place) {
                Event::End | Event::Return(_) => return None,
                Event::Call(step) if self.is_worth_trying(step) => return Some(step),
                Event::Call(_) => place = self.timeline.after(place),
            }
        }
    }

    fn is_worth_trying(&self, step: usize) -> bool {
        let to = match self.problem.steps[step].action {
            // Settled: it finds something else than the register holds.
            Action::Observe(_) => return false,
            Action::Write(_) if self.outlook.closed.is_some_and(|closed| closed != step) => {
                return false;
            }
            Action::Write(to) => to,
            Action::Swap { from, to } if from == self.state => to,
            Action::Swap { .. } => return false,
        };
        if to == self.state {
            return true;
        }
        !self.abandons(step) && !self.comes_too_early(step, to)
    }

    /// Whether the register would never again hold what somebody else must still find in it.
    fn abandons(&self, step: usize) -> bool {
        let finds = self.problem.is_required(step)
            && self.problem.steps[step].action.finds() == Some(self.state);
        let others = self.observers_left[self.state] - u32::from(finds);
        others > 0 && self.writers_left[self.state] == 0
    }

    /// Whether the register would have to hold `to` from now until after the deadline's return,
    /// though the step at the deadline can't come while it does.
    ///
    /// So it is if `step` is the last to store `to`, somebody must still find it, and that one
    /// was invoked only after the deadline's return. (Of those that must find `to` the one
    /// invoked last is still there: it can't come before what returned before its invocation.)
    fn comes_too_early(&self, step: usize, to: State) -> bool {
        let deadline = &self.problem.steps[self.outlook.deadline];
        step != self.outlook.deadline
            && self.observers_left[to] > 0
            && self.writers_left[to] == 1
            && deadline.completed_ns < self.problem.observed_until_ns[to]
            && deadline.action.finds() != Some(to)
    }

    fn take(&mut self, step: usize, forced: bool) {
        let (state, outlook) = (self.state, self.outlook);
        self.path.push(Taken { step, state, outlook, forced });
        self.chosen.insert(step);
        self.timeline.lift(step);
        let action = self.problem.steps[step].action;
        if self.problem.is_required(step) {
            self.required_left -= 1;
            if let Some(found) = action.finds() {
                self.observers_left[found] -= 1;
            }
        }
        if let Some(stored) = action.stores() {
            self.writers_left[stored] -= 1;
            self.state = stored;
        }
    }

    /// Goes back to the last choice; answers from where to look for another one.
    fn retreat(&mut self) -> Option<Place> {
        self.remember();
        while let Some(Taken { step, state, outlook, forced }) = self.path.pop() {
            self.furthest.shared = self.furthest.shared.min(self.path.len());
            self.timeline.unlift(step);
            self.chosen.remove(step);
            let action = self.problem.steps[step].action;
            if self.problem.is_required(step) {
                self.required_left += 1;
                if let Some(found) = action.finds() {
                    self.observers_left[found] += 1;
                }
            }
            if let Some(stored) = action.stores() {
                self.writers_left[stored] += 1;
            }
            (self.state, self.outlook) = (state, outlook);
            if !forced {
                return Some(self.timeline.after_call(step));
            }
        }
        None
    }

    /// Keeps the path if it is the longest so far; copies only what differs.
    fn remember(&mut self) {
        let required = self.problem.required - self.required_left;
        let furthest = &mut self.furthest;
        if required <= furthest.required && !furthest.order.is_empty() {
            return;
        }
        furthest.order.truncate(furthest.shared);
        furthest.order.extend(self.path[furthest.shared..].iter().map(|taken| taken.step));
        furthest.shared = self.path.len();
        furthest.required = required;
        furthest.state = self.state;
        furthest.deadline = self.outlook.deadline;
    }
}
