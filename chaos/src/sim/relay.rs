//! What a world tells from a thread of its own, passed on where the host's clock and files are.
//!
//! In a simulated thread time stands still between events, and starting threads is forbidden; a
//! listener wants neither. Invariants: everything is passed on in order; whoever tells waits when
//! the other side is slow, and learns at one of his next words when it has failed.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use crate::{
    cluster::NodeEvent,
    history::Operation,
    outage::Trial,
    run::{Listener, MARKS_OPEN_MAX, Mark, Phase},
    schedule::Schedule,
};

/// The side of the world.
pub(super) struct Relay {
    words: SyncSender<Vec<Word>>,
    /// Those that wait for others to go with: each time that the listener wakes costs the world.
    waiting: Vec<Word>,
    /// Marks told so far.
    marks: usize,
}

/// The side of the listener.
pub(super) struct Told {
    words: Receiver<Vec<Word>>,
}

/// One call of a [`Listener`].
enum Word {
    Phase(Phase),
    Progress(u64, u64),
    Filling(u64, u64),
    Operation(Box<Operation>),
    Event(Box<NodeEvent>),
    /// Those that are new or may have changed, in place of all from the first of them on.
    Marks {
        first: usize,
        marks: Vec<Mark>,
    },
    Trials(Vec<Trial>),
    Schedule(Schedule),
}

/// A relay and where it leads.
pub(super) fn new() -> (Relay, Told) {
    let (sender, receiver) = sync_channel(BATCHES_MAX);
    (Relay { words: sender, waiting: Vec::new(), marks: 0 }, Told { words: receiver })
}

impl Relay {
    fn tell(&mut self, word: Word) -> io::Result<()> {
        let is_patient = matches!(word, Word::Operation(_) | Word::Event(_));
        self.waiting.push(word);
        if is_patient && self.waiting.len() < BATCH_WORDS_MAX {
            return Ok(());
        }
        let failed = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody listens any more");
        self.words.send(std::mem::take(&mut self.waiting)).map_err(failed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Nobody is left to be told that nobody listens.
        drop(self.words.send(std::mem::take(&mut self.waiting)));
    }
}

impl Listener for Relay {
    fn phase(&mut self, phase: Phase) -> io::Result<()> {
        self.tell(Word::Phase(phase))
    }

    fn progress(&mut self, trial: u64, trials: u64) -> io::Result<()> {
        self.tell(Word::Progress(trial, trials))
    }

    fn filling(&mut self, done: u64, entries: u64) -> io::Result<()> {
        self.tell(Word::Filling(done, entries))
    }

    fn operation(&mut self, operation: &Operation) -> io::Result<()> {
        self.tell(Word::Operation(Box::new(operation.clone())))
    }

    fn event(&mut self, event: &NodeEvent) -> io::Result<()> {
        self.tell(Word::Event(Box::new(event.clone())))
    }

    fn marks(&mut self, marks: &[Mark]) -> io::Result<()> {
        // Only the newest are still completed; to copy all of them for each would be quadratic.
        let first = self.marks.saturating_sub(MARKS_OPEN_MAX).min(marks.len());
        self.marks = marks.len();
        self.tell(Word::Marks { first, marks: marks[first..].to_vec() })
    }

    fn trials(&mut self, trials: &[Trial]) -> io::Result<()> {
        self.tell(Word::Trials(trials.to_vec()))
    }

    fn schedule(&mut self, schedule: &Schedule) -> io::Result<()> {
        self.tell(Word::Schedule(schedule.clone()))
    }
}

impl Told {
    /// Passes everything on, until the world has nothing more to tell.
    ///
    /// # Errors
    /// The listener's first.
    pub(super) fn pass_on(self, listener: &mut dyn Listener) -> io::Result<()> {
        let mut known = Vec::new();
        for word in self.words.into_iter().flatten() {
            match word {
                Word::Phase(phase) => listener.phase(phase)?,
                Word::Progress(trial, trials) => listener.progress(trial, trials)?,
                Word::Filling(done, entries) => listener.filling(done, entries)?,
                Word::Operation(operation) => listener.operation(&operation)?,
                Word::Event(event) => listener.event(&event)?,
                Word::Marks { first, marks } => {
                    known.truncate(first);
                    known.extend(marks);
                    listener.marks(&known)?;
                }
                Word::Trials(trials) => listener.trials(&trials)?,
                Word::Schedule(schedule) => listener.schedule(&schedule)?,
            }
        }
        Ok(())
    }
}

const BATCH_WORDS_MAX: usize = 64;
const BATCHES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{cluster::What, fault::NodeNumber};

    /// Writes down what it is told.
    #[derive(Default)]
    struct Heard {
        order: Vec<&'static str>,
        marks: Vec<Mark>,
    }

    impl Listener for Heard {
        fn phase(&mut self, _: Phase) -> io::Result<()> {
            self.order.push("phase");
            Ok(())
        }
        fn progress(&mut self, _: u64, _: u64) -> io::Result<()> {
            self.order.push("progress");
            Ok(())
        }
        fn filling(&mut self, done: u64, entries: u64) -> io::Result<()> {
            assert_eq!((done, entries), (3, 9));
            self.order.push("filling");
            Ok(())
        }
        fn operation(&mut self, _: &Operation) -> io::Result<()> {
            self.order.push("operation");
            Ok(())
        }
        fn event(&mut self, _: &NodeEvent) -> io::Result<()> {
            self.order.push("event");
            Ok(())
        }
        fn marks(&mut self, marks: &[Mark]) -> io::Result<()> {
            self.marks = marks.to_vec();
            Ok(())
        }
        fn trials(&mut self, _: &[Trial]) -> io::Result<()> {
            self.order.push("trials");
            Ok(())
        }
        fn schedule(&mut self, _: &Schedule) -> io::Result<()> {
            self.order.push("schedule");
            Ok(())
        }
    }

    fn noted() -> NodeEvent {
        NodeEvent { at_ns: 1, node: NodeNumber(2), what: What::Founded }
    }

    fn mark(at_ns: u64) -> Mark {
        let (kind, detail) = ("kill".to_owned(), String::new());
        Mark { at_ns, kind, node: None, nodes: Vec::new(), detail, until_ns: None }
    }

    #[test]
    fn all_arrives_in_order_and_marks_are_completed() {
        let (mut relay, told) = new();
        let telling = thread::spawn(move || {
            relay.phase(Phase::Start).unwrap();
            relay.schedule(&Schedule::default()).unwrap();
            relay.progress(1, 2).unwrap();
            relay.filling(3, 9).unwrap();
            relay.event(&noted()).unwrap();
            relay.event(&noted()).unwrap();
            let mut marks: Vec<Mark> = Vec::new();
            for at_ns in 0..3_000 {
                // Each is over when the next begins.
                if let Some(last) = marks.last_mut() {
                    last.until_ns = Some(at_ns);
                }
                marks.push(mark(at_ns));
                relay.marks(&marks).unwrap();
            }
            relay.trials(&[]).unwrap();
            relay.event(&noted()).unwrap();
            marks
        });
        let mut heard = Heard::default();
        told.pass_on(&mut heard).unwrap();
        assert_eq!(
            heard.order,
            ["phase", "schedule", "progress", "filling", "event", "event", "trials", "event"]
        );
        assert_eq!(heard.marks, telling.join().unwrap());
    }

    #[test]
    fn who_tells_learns_that_nobody_listens() {
        let (mut relay, told) = new();
        drop(told);
        let error = relay.phase(Phase::Start).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
