//! Says in words why no order exists, for a person who has the history open beside it.
//!
//! Shows the end of the longest order that was found, what the register holds after it, and
//! which operations contradict each other there. Knows nothing that the search does not.

use std::fmt::Write;

use super::problem::{Action, Problem, State, Step};
use super::search::Furthest;
use crate::history::{Function, Operation, Outcome};

/// A value was found that no write can have stored.
pub(super) fn phantom(key: u64, step: &Step<'_>, operations: &[&Operation]) -> String {
    let found = step.operation.result;
    let suspect = operations.iter().find(|operation| operation.value == found);
    let origin = match suspect {
        Some(suspect) => format!("only {} could have stored that", described(suspect)),
        None => "no operation was ever invoked to store that".to_owned(),
    };
    format!("key {key}: {}, but {origin}", described(step.operation))
}

/// The search could not go on anywhere.
pub(super) fn stuck(key: u64, problem: &Problem<'_>, furthest: &Furthest) -> String {
    let held = shown(problem.values[furthest.state]);
    let mut text = format!(
        "key {key}: no order explains its {} acknowledged operations; the longest beginning \
         found orders {} of them",
        problem.required, furthest.required
    );
    let recent = furthest.order.len().saturating_sub(RECENT_MAX);
    for (number, step) in furthest.order[recent..].iter().enumerate() {
        let before = if number == 0 { ", at last " } else { ", then " };
        add(&mut text, format_args!("{before}{}", described(problem.steps[*step].operation)));
    }
    let deadline = &problem.steps[furthest.deadline];
    add(
        &mut text,
        format_args!(
            "; after it the register holds {held}, and {} must have its turn by {} ms",
            described(deadline.operation),
            milliseconds(deadline.completed_ns)
        ),
    );
    let ordered = Ordered::new(problem, furthest);
    if let Some(state) = deadline.action.finds().filter(|found| *found != furthest.state) {
        add(&mut text, format_args!("; {}", missing(problem, &ordered, state)));
    }
    let waits = ordered.remaining().find(|step| {
        problem.steps[*step].action.finds() == Some(furthest.state) && *step != furthest.deadline
    });
    if let Some(waits) = waits {
        let operation = described(problem.steps[waits].operation);
        add(&mut text, format_args!("; but {operation} must still find {held}"));
    }
    text
}

/// Where the value stays that somebody must find.
fn missing(problem: &Problem<'_>, ordered: &Ordered, state: State) -> String {
    let value = shown(problem.values[state]);
    let writer = (0..problem.steps.len()).find(|step| stores(problem, *step, state));
    match writer {
        None => format!("{value} was overwritten before"),
        Some(step) => {
            let operation = described(problem.steps[step].operation);
            if ordered.steps[step] {
                format!("{value} was stored by {operation} and overwritten since")
            } else {
                format!("{value} is yet to be stored by {operation}")
            }
        }
    }
}

fn stores(problem: &Problem<'_>, step: usize, state: State) -> bool {
    match problem.steps[step].action {
        Action::Observe(_) => false,
        Action::Write(to) | Action::Swap { to, .. } => to == state,
    }
}

/// Which steps the longest beginning contains.
struct Ordered {
    steps: Vec<bool>,
    required: usize,
}

impl Ordered {
    fn new(problem: &Problem<'_>, furthest: &Furthest) -> Self {
        let mut steps = vec![false; problem.steps.len()];
        for step in &furthest.order {
            steps[*step] = true;
        }
        Self { steps, required: problem.required }
    }

    /// The required steps that it does not contain.
    fn remaining(&self) -> impl Iterator<Item = usize> {
        (0..self.required).filter(|step| !self.steps[*step])
    }
}

fn described(operation: &Operation) -> String {
    let Operation { id, client, value, expected, result, .. } = operation;
    let mut text = match operation.f {
        Function::Read => "read".to_owned(),
        Function::Write => format!("write {}", shown(*value)),
        Function::Cas => format!("cas {} to {}", shown(*expected), shown(*value)),
    };
    match (operation.f, operation.outcome) {
        (Function::Write, Outcome::Ok) => {}
        (_, Outcome::Ok) => add(&mut text, format_args!(" that found {}", shown(*result))),
        (_, Outcome::Fail) => text.push_str(" that was refused"),
        (_, Outcome::Unknown) => text.push_str(" of unknown outcome"),
    }
    let invoked = milliseconds(operation.invoked_ns);
    add(&mut text, format_args!(" (operation {id} of client {client}, "));
    match operation.completed_ns {
        Some(completed) => {
            add(&mut text, format_args!("{invoked} to {} ms)", milliseconds(completed)));
        }
        None => add(&mut text, format_args!("from {invoked} ms on)")),
    }
    text
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes all that is written to it");
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}

fn milliseconds(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns / 1_000 % 1_000)
}

const RECENT_MAX: usize = 3;
