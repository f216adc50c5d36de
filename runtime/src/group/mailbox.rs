//! A member's mailbox: where calls of its program and of its clients wait for the driver.
//!
//! Admission: a call that finds the mailbox full, or more bytes under way than may be, is told
//! so at once. Invariant: a call weighs on the budget from here until it is answered, wherever
//! it waits meanwhile; a call that another member passed on weighs on that member's budget.

use std::sync::Arc;

use raft::{Entry, Index, PeerId, Refusal, Time};
use tokio::sync::{mpsc, oneshot};

use crate::{
    ConsensusConfig,
    group::{
        GroupError,
        answer::Answerer,
        budget::Budget,
        metric::{Refused, refused},
        wire::{Call, Outcome, Reason},
    },
};

/// What handles, clients and operators put into a member's mailbox.
pub(crate) enum Mail {
    /// Someone asks the group for something.
    Call { call: Call, deadline: Time, answerer: Answerer },
    /// Someone wants to see committed entries.
    Entries { from: Index, count_max: usize, reply: oneshot::Sender<Vec<Entry>> },
    /// Leadership shall move.
    Transfer { to: PeerId, reply: oneshot::Sender<Result<(), Refusal>> },
    /// This member shall be one no longer. Answered once that is so, or why it is not.
    Leave { reply: oneshot::Sender<Result<(), GroupError>> },
}

/// The way into a member's mailbox. A cheap handle.
#[derive(Clone)]
pub(crate) struct Mailbox {
    mail: mpsc::Sender<Mail>,
    requests: Arc<Budget>,
}

impl Mailbox {
    /// A mailbox of the size that the group's settings allow, and its other end.
    pub(crate) fn open(consensus: &ConsensusConfig) -> (Self, mpsc::Receiver<Mail>) {
        let (mail, delivered) = mpsc::channel(consensus.requests_max as usize);
        let requests = Budget::new(consensus.requests_bytes_max as usize);
        (Self { mail, requests }, delivered)
    }

    /// The same mailbox for one of many who call: however much it has under way, the others have
    /// half of the bytes.
    pub(crate) fn share(&self) -> Self {
        let requests = Budget::share(&self.requests, self.requests.bytes_max() / 2);
        Self { mail: self.mail.clone(), requests }
    }

    /// Leaves a call for the driver, which answers it at its deadline, unless it is the machine's
    /// turn by then; one for which there is no room is answered here.
    pub(crate) fn call(&self, call: Call, deadline: Time, answerer: Answerer) {
        let Some(room) = self.requests.take(call.content_bytes()) else {
            refused(Refused::Bytes);
            return answerer.answer(Outcome::Refused(Reason::Busy));
        };
        let answerer = answerer.holding(room);
        let (mail, reason) = match self.mail.try_send(Mail::Call { call, deadline, answerer }) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(mail)) => {
                refused(Refused::Mailbox);
                (mail, Reason::Busy)
            }
            Err(mpsc::error::TrySendError::Closed(mail)) => (mail, Reason::Stopped),
        };
        if let Mail::Call { answerer, .. } = mail {
            answerer.answer(Outcome::Refused(reason));
        }
    }

    /// Leaves something else, and waits for room; false once the member has stopped.
    pub(crate) async fn leave(&self, mail: Mail) -> bool {
        self.mail.send(mail).await.is_ok()
    }

    /// Resolves once the member has stopped.
    pub(crate) async fn closed(&self) {
        self.mail.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use raft::NodeId;
    use tokio::sync::oneshot;

    use super::*;
    use crate::group::answer::Answered;

    fn consensus() -> ConsensusConfig {
        ConsensusConfig {
            requests_max: 2,
            command_bytes_max: 100,
            requests_bytes_max: 100,
            ..ConsensusConfig::default()
        }
    }

    /// Leaves a query of so many bytes, and hears what it is told at once.
    fn ask(mailbox: &Mailbox, bytes: usize) -> oneshot::Receiver<Answered> {
        let (reply, answer) = oneshot::channel();
        let query = vec![0; bytes].into();
        let answerer = Answerer::local(reply, NodeId::small(1).peer);
        mailbox.call(Call::Query { query }, Time::default(), answerer);
        answer
    }

    fn told(answer: &mut oneshot::Receiver<Answered>) -> Option<Outcome> {
        answer.try_recv().ok().map(|answered| answered.outcome)
    }

    #[test]
    fn a_call_weighs_until_it_is_answered_wherever_it_waits_meanwhile() {
        let (mailbox, mut delivered) = Mailbox::open(&consensus());
        let _first = ask(&mailbox, 60);
        let Ok(Mail::Call { answerer, .. }) = delivered.try_recv() else {
            panic!("the first is delivered")
        };
        let busy = Some(Outcome::Refused(Reason::Busy));
        assert_eq!(told(&mut ask(&mailbox, 41)), busy, "the first is not answered yet");
        assert_eq!(told(&mut ask(&mailbox, 40)), None, "so much is left");
        answerer.answer(Outcome::Refused(Reason::Timeout));
        assert_eq!(told(&mut ask(&mailbox, 60)), None, "there is room again");
    }

    #[test]
    fn one_of_many_leaves_the_others_room() {
        let (mailbox, mut delivered) = Mailbox::open(&consensus());
        let (greedy, other) = (mailbox.share(), mailbox.share());
        let _held = ask(&greedy, 50);
        let busy = Some(Outcome::Refused(Reason::Busy));
        assert_eq!(told(&mut ask(&greedy, 1)), busy, "it has its half");
        assert_eq!(told(&mut ask(&other, 50)), None);
        let Ok(Mail::Call { answerer, .. }) = delivered.try_recv() else {
            panic!("the first is delivered")
        };
        answerer.answer(Outcome::Refused(Reason::Timeout));
        assert_eq!(told(&mut ask(&greedy, 50)), None, "there is room again");
    }

    #[test]
    fn a_call_that_finds_the_mailbox_full_or_closed_weighs_nothing() {
        let (mailbox, mut delivered) = Mailbox::open(&consensus());
        let _waiting = [ask(&mailbox, 1), ask(&mailbox, 1)];
        let busy = Some(Outcome::Refused(Reason::Busy));
        assert_eq!(told(&mut ask(&mailbox, 98)), busy, "two may wait");
        drop(delivered.try_recv());
        assert_eq!(told(&mut ask(&mailbox, 99)), None, "the one that was refused holds no room");
        drop(delivered);
        let stopped = Some(Outcome::Refused(Reason::Stopped));
        assert_eq!(told(&mut ask(&mailbox, 50)), stopped);
    }
}
