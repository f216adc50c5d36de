//! The calls and returns that are not yet linearized, in order of time, as a linked list.
//!
//! Taking a step out and putting it back costs the same few writes, however long the list is
//! (Lowe, *Testing for linearizability*, 2017). Invariant: steps go back in the opposite order
//! in which they were taken out.

use super::problem::Problem;

/// A place in the list.
pub(super) type Place = usize;

/// Both ends of the list.
pub(super) const END: Place = 0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    End,
    Call(usize),
    Return(usize),
}

pub(super) struct Timeline {
    events: Vec<Event>,
    next: Vec<Place>,
    previous: Vec<Place>,
    calls: Vec<Place>,
    /// `END` for a step that never returned.
    returns: Vec<Place>,
}

impl Timeline {
    pub(super) fn new(problem: &Problem<'_>) -> Self {
        let steps = problem.steps.len();
        let mut sorted = Vec::with_capacity(steps + problem.required);
        for (number, step) in problem.steps.iter().enumerate() {
            sorted.push((step.invoked_ns, false, number));
            if problem.is_required(number) {
                sorted.push((step.completed_ns, true, number));
            }
        }
        // At one instant calls stand before returns: only what returned strictly earlier than
        // another was called is certain to precede it.
        sorted.sort_unstable();

        let places = sorted.len() + 1;
        let mut timeline = Self {
            events: vec![Event::End],
            next: (1..places).chain([END]).collect(),
            previous: [places - 1].into_iter().chain(0..places - 1).collect(),
            calls: vec![END; steps],
            returns: vec![END; steps],
        };
        for (_, is_return, step) in sorted {
            let place = timeline.events.len();
            if is_return {
                timeline.events.push(Event::Return(step));
                timeline.returns[step] = place;
            } else {
                timeline.events.push(Event::Call(step));
                timeline.calls[step] = place;
            }
        }
        timeline
    }

    pub(super) fn first(&self) -> Place {
        self.next[END]
    }

    pub(super) fn event(&self, place: Place) -> Event {
        self.events[place]
    }

    pub(super) fn after(&self, place: Place) -> Place {
        self.next[place]
    }

    pub(super) fn after_call(&self, step: usize) -> Place {
        self.next[self.calls[step]]
    }

    pub(super) fn lift(&mut self, step: usize) {
        self.unlink(self.calls[step]);
        if self.returns[step] != END {
            self.unlink(self.returns[step]);
        }
    }

    pub(super) fn unlift(&mut self, step: usize) {
        if self.returns[step] != END {
            self.link(self.returns[step]);
        }
        self.link(self.calls[step]);
    }

    fn unlink(&mut self, place: Place) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    fn link(&mut self, place: Place) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = place;
        self.previous[next] = place;
    }
}
