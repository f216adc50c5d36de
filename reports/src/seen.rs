//! All that was seen of a run, handed over at once: what the page and the trace are made of.
//!
//! Plain references. Invariant: whatever is absent, as in a run whose harness was killed, is empty
//! and not guessed.

use crate::event::Events;
use crate::{Recorder, RunRecord};

/// All that was seen of a run.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What it was and what came of it.
    pub record: &'a RunRecord,
    /// Every operation.
    pub recorder: &'a Recorder,
    /// What the nodes noted.
    pub events: &'a Events,
    /// What the plan means, a line for each thing, the first one its title.
    pub plan_in_words: &'a str,
    /// Which timeouts explain how long outages were, in words; nothing where none was measured.
    pub timeouts: Option<&'a str>,
    /// What of the plan makes its figures worth less, in words.
    pub limits: &'a [String],
}

impl Seen<'_> {
    /// When the last of it was over, in milliseconds.
    pub(crate) fn end_ms(&self) -> f64 {
        let marks = self.record.marks.iter().map(|mark| mark.until_ms.unwrap_or(mark.at_ms));
        let faults = self.record.faults.iter().filter_map(|fault| fault.returned_ms);
        let events = self.events.kept().iter().map(|event| crate::lanes::ms(event.at_ns));
        let seen = marks.chain(faults).chain(events).filter(|ms| ms.is_finite());
        seen.fold(self.recorder.end_ms(), f64::max)
    }
}
