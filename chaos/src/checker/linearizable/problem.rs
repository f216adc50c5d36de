//! The operations of one key, made small for the search: steps over numbered states.
//!
//! Knows nothing of order beyond the times it carries. Invariant: a linearization of the steps
//! exists if and only if one of the operations exists.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Function, Operation, Outcome};

/// A value that the register may hold, by number; [`UNWRITTEN`] is its first.
pub(super) type State = usize;

/// What a register holds that was never written.
pub(super) const UNWRITTEN: State = 0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Finds this state and changes nothing: a read, or a compare-and-set that found another
    /// value than it expected.
    Observe(State),
    /// Stores this state whatever it finds.
    Write(State),
    /// Finds one state and stores another.
    Swap { from: State, to: State },
}

impl Action {
    pub(super) fn finds(self) -> Option<State> {
        match self {
            Self::Observe(state) | Self::Swap { from: state, .. } => Some(state),
            Self::Write(_) => None,
        }
    }

    pub(super) fn stores(self) -> Option<State> {
        match self {
            Self::Write(state) | Self::Swap { to: state, .. } => Some(state),
            Self::Observe(_) => None,
        }
    }
}

pub(super) struct Step<'a> {
    pub(super) operation: &'a Operation,
    pub(super) action: Action,
    pub(super) invoked_ns: u64,
    /// `u64::MAX` for an optional step: it may take effect at any later time, or never.
    pub(super) completed_ns: u64,
}

pub(super) struct Problem<'a> {
    /// First those that must take effect, then those that may; each part by invocation.
    pub(super) steps: Vec<Step<'a>>,
    /// How many must take effect.
    pub(super) required: usize,
    /// What each state stands for.
    pub(super) values: Vec<Option<u64>>,
    /// By state: how many required steps must find it.
    pub(super) observers: Vec<u32>,
    /// By state: how many steps can store it.
    pub(super) writers: Vec<u32>,
    /// By state: when the last required step that must find it was invoked.
    pub(super) observed_until_ns: Vec<u64>,
    /// By state: how many steps, required or not, swap it for another.
    swaps: Vec<u32>,
}

impl<'a> Problem<'a> {
    /// Of the operations of one key, in order of invocation.
    ///
    /// Left out are failed operations, which took no effect; unknown reads, which nobody saw; and
    /// unknown writes and compare-and-sets whose value is not [`wanted`].
    pub(super) fn new(operations: &[&'a Operation]) -> Self {
        let wanted = wanted(operations);
        let is_required = |operation: &&&Operation| operation.outcome == Outcome::Ok;
        let is_optional = |operation: &&&Operation| {
            operation.outcome == Outcome::Unknown
                && operation.value.is_some_and(|value| wanted.contains(&Some(value)))
        };
        let required: Vec<&Operation> = operations.iter().filter(is_required).copied().collect();
        let optional = operations.iter().filter(is_optional).copied();
        let mut problem = Self {
            steps: Vec::with_capacity(operations.len()),
            required: required.len(),
            values: Vec::new(),
            observers: Vec::new(),
            writers: Vec::new(),
            observed_until_ns: Vec::new(),
            swaps: Vec::new(),
        };
        let mut states = BTreeMap::new();
        assert_eq!(problem.state(None, &mut states), UNWRITTEN);
        for operation in required.into_iter().chain(optional) {
            problem.add(operation, &mut states);
        }
        problem
    }

    pub(super) fn is_required(&self, step: usize) -> bool {
        step < self.required
    }

    /// Whether a step is a write whose value only steps without effect find, all of them invoked
    /// by `now_ns`.
    pub(super) fn is_closed_by(&self, now_ns: u64, step: usize) -> bool {
        let Action::Write(state) = self.steps[step].action else { return false };
        self.swaps[state] == 0 && self.observed_until_ns[state] <= now_ns
    }

    /// A required step that found a value which no step can have stored.
    pub(super) fn phantom(&self) -> Option<&Step<'a>> {
        self.steps[..self.required].iter().find(|step| {
            step.action.finds().is_some_and(|state| state != UNWRITTEN && self.writers[state] == 0)
        })
    }

    fn add(&mut self, operation: &'a Operation, states: &mut BTreeMap<Option<u64>, State>) {
        let action = match operation.f {
            Function::Read => Action::Observe(self.state(operation.result, states)),
            Function::Write => Action::Write(self.state(operation.value, states)),
            Function::Cas if operation.outcome == Outcome::Ok && !operation.swapped() => {
                Action::Observe(self.state(operation.result, states))
            }
            Function::Cas => Action::Swap {
                from: self.state(operation.expected, states),
                to: self.state(operation.value, states),
            },
        };
        let invoked_ns = operation.invoked_ns;
        if let Some(state) = action.finds()
            && operation.outcome == Outcome::Ok
        {
            self.observers[state] += 1;
            self.observed_until_ns[state] = self.observed_until_ns[state].max(invoked_ns);
        }
        if let Some(state) = action.stores() {
            self.writers[state] += 1;
        }
        if let Action::Swap { from, .. } = action {
            self.swaps[from] += 1;
        }
        let completed_ns = operation.completed_ns.unwrap_or(u64::MAX);
        self.steps.push(Step { operation, action, invoked_ns, completed_ns });
    }

    fn state(&mut self, value: Option<u64>, states: &mut BTreeMap<Option<u64>, State>) -> State {
        *states.entry(value).or_insert_with(|| {
            self.values.push(value);
            self.observers.push(0);
            self.writers.push(0);
            self.observed_until_ns.push(0);
            self.swaps.push(0);
            self.values.len() - 1
        })
    }
}

/// The values that somebody may need to find: those that an acknowledged read or compare-and-set
/// found, and, again and again until nothing is added, those that an unknown compare-and-set with
/// a wanted value expects. (A compare-and-set that found another value than it expected names the
/// value it found, so the write which explains its refusal is wanted too.)
///
/// An unknown write or compare-and-set whose value is not wanted can be left out. Take any
/// linearization of all operations, and delete those from it. Let `o` be an operation that is
/// left and must find a value `v`: an acknowledged read or compare-and-set, or an unknown
/// compare-and-set that was kept and swapped. Then `v` is wanted, so the last operation before
/// `o` that stored anything, which stored `v`, was not deleted; it still is the last one before
/// `o`, since deletion adds none. If there was none, there is none now. So `o` still finds `v`,
/// and what is left is a linearization. The other way round, a linearization without the deleted
/// operations is one of all: unknown operations need not take effect.
///
/// The argument needs no unique values, but it does not hold for *acknowledged* writes that
/// nobody saw: they must stand somewhere between their invocation and their completion.
fn wanted(operations: &[&Operation]) -> BTreeSet<Option<u64>> {
    let acknowledged = operations.iter().filter(|operation| operation.outcome == Outcome::Ok);
    let mut wanted: BTreeSet<Option<u64>> = acknowledged
        .filter(|operation| operation.f != Function::Write)
        .map(|operation| operation.result)
        .collect();
    let mut expectations: BTreeMap<Option<u64>, Vec<Option<u64>>> = BTreeMap::new();
    for operation in operations {
        if operation.f == Function::Cas && operation.outcome == Outcome::Unknown {
            expectations.entry(operation.value).or_default().push(operation.expected);
        }
    }
    let mut unvisited: Vec<Option<u64>> = wanted.iter().copied().collect();
    while let Some(value) = unvisited.pop() {
        for expected in expectations.remove(&value).into_iter().flatten() {
            if wanted.insert(expected) {
                unvisited.push(expected);
            }
        }
    }
    wanted
}
