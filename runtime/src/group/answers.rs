//! The queues of answers to the clients of one member, each drained by its link.
//!
//! Invariant: what waits for all clients together is bounded, in count and in bytes, and few who
//! do not read leave the others room. A call is taken on only with a place for its answer; an
//! answer whose content finds no room says so instead.

use std::sync::Arc;

use metrics::counter;
use tokio::sync::mpsc;

use crate::group::{
    budget::{Budget, Room},
    metric::ANSWERS_DROPPED,
    wire::{Outcome, Reason},
};

/// What the answers that wait for all clients of a member may weigh together.
#[derive(Clone)]
pub(crate) struct AnswerRoom(Arc<Budget>);

/// The queue of answers to one client.
#[derive(Clone)]
pub(crate) struct Answers {
    queue: mpsc::Sender<Answer>,
    /// Of calls under way, and of their answers until they are written.
    places: Arc<Budget>,
    bytes: Arc<Budget>,
}

/// An answer that is to come, and its place in the queue.
pub(crate) struct Awaited {
    answers: Answers,
    id: u64,
    place: Room,
}

/// An answer that waits to be written; its rooms are held until it is dropped.
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) outcome: Outcome,
    pub(crate) rooms: Vec<Room>,
}

impl AnswerRoom {
    pub(crate) fn new() -> Self {
        Self(Budget::new(ANSWERS_BYTES_MAX))
    }

    /// The queue of one more client, and its other end.
    pub(crate) fn queue(&self) -> (Answers, mpsc::Receiver<Answer>) {
        let bytes = Budget::share(&self.0, ANSWERS_BYTES_MAX / CLIENTS_THAT_MAY_STALL);
        Answers::bounded(ANSWERS_MAX, bytes)
    }
}

impl Answers {
    fn bounded(answers_max: usize, bytes: Arc<Budget>) -> (Self, mpsc::Receiver<Answer>) {
        let (queue, outgoing) = mpsc::channel(answers_max + REFUSALS_MAX);
        (Self { queue, places: Budget::new(answers_max), bytes }, outgoing)
    }

    /// A place for the answer to one more call, if the client may have one more under way.
    pub(crate) fn expect(&self, id: u64) -> Option<Awaited> {
        let place = self.places.take(1)?;
        Some(Awaited { answers: self.clone(), id, place })
    }

    /// Whether the client waits for anything.
    pub(crate) fn are_awaited(&self) -> bool {
        !self.places.is_empty()
    }

    /// Answers a call that has no place. It must not take the place of those that have one.
    pub(crate) fn refuse(&self, id: u64, outcome: Outcome) {
        let spare = self.queue.capacity() > self.queue.max_capacity() - REFUSALS_MAX;
        let rooms = Vec::new();
        if !spare || self.queue.try_send(Answer { id, outcome, rooms }).is_err() {
            counter!(ANSWERS_DROPPED, "reason" => "count").increment(1);
        }
    }
}

impl Awaited {
    /// Queues the answer. One whose content finds no room is replaced by one without: the client
    /// then knows that there is nothing to wait for.
    pub(crate) fn give(self, outcome: Outcome) {
        let Self { answers, id, place } = self;
        let room = answers.bytes.take(outcome.content_bytes());
        let outcome = match (&room, outcome) {
            (Some(_), outcome) => outcome,
            (None, Outcome::Queried { .. }) => Outcome::Refused(Reason::Busy),
            // It took effect: to call it refused would be a lie.
            (None, _) => Outcome::Unknown(Reason::Busy),
        };
        if room.is_none() {
            counter!(ANSWERS_DROPPED, "reason" => "bytes").increment(1);
        }
        let rooms = room.into_iter().chain([place]).collect();
        // Errs only once the link is gone: there is a place.
        drop(answers.queue.try_send(Answer { id, outcome, rooms }));
    }

    /// Whether the client's link is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.answers.queue.is_closed()
    }
}

/// Calls that one client may have under way, those included whose answers it has not read.
const ANSWERS_MAX: usize = 4_096;
/// Places for the word that it has too many.
const REFUSALS_MAX: usize = 1_024;
const ANSWERS_BYTES_MAX: usize = 64 << 20;
/// So many clients that do not read leave the others no room, until they lose their links.
const CLIENTS_THAT_MAY_STALL: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn done(content: &'static [u8]) -> Outcome {
        let position = raft::Position::default();
        Outcome::Applied { position, output: Some(bytes::Bytes::from_static(content)) }
    }

    fn give(answers: &Answers, id: u64, outcome: Outcome) {
        answers.expect(id).expect("there is a place").give(outcome);
    }

    #[test]
    fn an_answer_without_room_says_so_instead() {
        let (answers, mut queued) = Answers::bounded(8, Budget::new(10));
        let done = done(&[7; 10]);
        let (applied, answer) = (raft::Index(1), Some(bytes::Bytes::from_static(&[7; 10])));
        let queried = Outcome::Queried { applied, answer };
        for (id, outcome) in [(1, &done), (2, &queried), (3, &done)] {
            give(&answers, id, outcome.clone());
        }
        let mut next = || queued.try_recv().ok().map(|answer| (answer.id, answer.outcome));
        assert_eq!(next(), Some((1, done.clone())));
        assert_eq!(next(), Some((2, Outcome::Refused(Reason::Busy))));
        assert_eq!(next(), Some((3, Outcome::Unknown(Reason::Busy))), "it did take effect");
        give(&answers, 4, done.clone());
        assert_eq!(next(), Some((4, done)), "what was read makes room");
    }

    #[test]
    fn whatever_a_client_asks_and_does_not_read_each_call_taken_on_is_answered() {
        let (answers, mut queued) = Answers::bounded(3, Budget::new(100));
        let awaited: Vec<_> = (0..3).map(|id| answers.expect(id).expect("a place")).collect();
        assert!(answers.expect(3).is_none(), "three are under way");
        for id in 3..2 * REFUSALS_MAX as u64 {
            answers.refuse(id, Outcome::Refused(Reason::Busy));
        }
        for awaited in awaited {
            awaited.give(done(b"x"));
        }
        assert!(answers.expect(9).is_none(), "none of the three is read yet");
        let mut heard = Vec::new();
        while let Ok(answer) = queued.try_recv() {
            heard.push((answer.id, answer.outcome));
        }
        assert_eq!(heard.len(), 3 + REFUSALS_MAX);
        let applied: Vec<u64> =
            heard.iter().filter(|(_, outcome)| *outcome == done(b"x")).map(|(id, _)| *id).collect();
        assert_eq!(applied, [0, 1, 2]);
        assert!(answers.expect(9).is_some(), "all are read");
    }
}
