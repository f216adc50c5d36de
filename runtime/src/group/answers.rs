//! The queues of answers to the clients of one member, each drained by its link.
//!
//! Invariant: what waits for all clients together is bounded, in count and in bytes, and few who
//! do not read leave the others room. What finds none is told so in place of its answer.

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
    budget: Arc<Budget>,
}

/// An answer that waits to be written; its room is held until it is dropped.
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) outcome: Outcome,
    pub(crate) _room: Option<Room>,
}

impl AnswerRoom {
    pub(crate) fn new() -> Self {
        Self(Budget::new(ANSWERS_BYTES_MAX))
    }

    /// The queue of one more client, and its other end.
    pub(crate) fn queue(&self) -> (Answers, mpsc::Receiver<Answer>) {
        let budget = Budget::share(&self.0, ANSWERS_BYTES_MAX / CLIENTS_THAT_MAY_STALL);
        Answers::bounded(ANSWERS_MAX, budget)
    }
}

impl Answers {
    fn bounded(answers_max: usize, budget: Arc<Budget>) -> (Self, mpsc::Receiver<Answer>) {
        let (queue, outgoing) = mpsc::channel(answers_max);
        (Self { queue, budget }, outgoing)
    }

    /// Queues an answer. One whose content finds no room is replaced by one without: the client
    /// then knows that there is nothing to wait for.
    pub(crate) fn give(&self, id: u64, outcome: Outcome) {
        let room = self.budget.take(outcome.content_bytes());
        let outcome = match (&room, outcome) {
            (Some(_), outcome) => outcome,
            (None, Outcome::Queried { .. }) => Outcome::Refused(Reason::Busy),
            // It took effect: to call it refused would be a lie.
            (None, _) => Outcome::Unknown(Reason::Busy),
        };
        let cut = room.is_none();
        let sent = self.queue.try_send(Answer { id, outcome, _room: room });
        if cut || matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
            let reason = if cut { "bytes" } else { "count" };
            counter!(ANSWERS_DROPPED, "reason" => reason).increment(1);
        }
    }

    /// Whether the client's link is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

const ANSWERS_MAX: usize = 4_096;
const ANSWERS_BYTES_MAX: usize = 64 << 20;
/// So many clients that do not read leave the others no room, until they lose their links.
const CLIENTS_THAT_MAY_STALL: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_room_says_so_instead() {
        let (answers, mut queued) = Answers::bounded(8, Budget::new(10));
        let content = Some(bytes::Bytes::from_static(&[7; 10]));
        let (position, applied) = (raft::Position::default(), raft::Index(1));
        let done = Outcome::Applied { position, output: content.clone() };
        let queried = Outcome::Queried { applied, answer: content };
        for (id, outcome) in [(1, &done), (2, &queried), (3, &done)] {
            answers.give(id, outcome.clone());
        }
        let mut next = || queued.try_recv().ok().map(|answer| (answer.id, answer.outcome));
        assert_eq!(next(), Some((1, done.clone())));
        assert_eq!(next(), Some((2, Outcome::Refused(Reason::Busy))));
        assert_eq!(next(), Some((3, Outcome::Unknown(Reason::Busy))), "it did take effect");
        answers.give(4, done.clone());
        assert_eq!(next(), Some((4, done)), "what was read makes room");
    }
}
