//! Serves clients: brings their calls to the mailbox and the driver's answers back.
//!
//! A client has proved the group's key before it comes here. Invariant: a client that sends
//! nonsense, falls silent or does not read loses its link, and is told why; it costs no more
//! than its queue.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use metrics::counter;
use raft::Time;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    Clock, ConsensusConfig, GroupId, GroupKey, Link, Network, Status,
    group::{
        answer::Answerer,
        budget::{Budget, Room},
        mailbox::Mailbox,
        metric::{ANSWERS_DROPPED, CLIENTS_REFUSED, CLIENTS_TURNED_AWAY},
        wire::{ClientFrame, Outcome, Reason},
    },
    network::{Code, LinkReceiver, LinkSender},
};

/// What the clients of one member have in common.
#[derive(Clone)]
struct Counter {
    clock: Arc<dyn Clock>,
    consensus: ConsensusConfig,
    mailbox: Mailbox,
    status: watch::Receiver<Status>,
    /// What the answers to all of them may weigh together.
    answers: Arc<Budget>,
}

/// The queue of answers to one client.
#[derive(Clone)]
pub(crate) struct Answers {
    queue: mpsc::Sender<Answer>,
    budget: Arc<Budget>,
}

/// An answer that waits to be written.
struct Answer {
    id: u64,
    outcome: Outcome,
    _room: Option<Room>,
}

/// Serves the group's clients until the member stops.
pub(crate) fn spawn(
    network: &Network,
    group: GroupId,
    key: &GroupKey,
    consensus: &ConsensusConfig,
    mailbox: &Mailbox,
    status: &watch::Receiver<Status>,
) {
    let mut links = network.serve_clients(group, key);
    let counter = Counter {
        clock: Arc::clone(network.clock()),
        consensus: consensus.clone(),
        mailbox: mailbox.clone(),
        status: status.clone(),
        answers: Budget::new(ANSWERS_BYTES_MAX),
    };
    tokio::spawn(async move {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                link = links.recv() => match link {
                    Some(link) if clients.len() >= CLIENTS_MAX => {
                        counter!(CLIENTS_REFUSED).increment(1);
                        link.close(Code::NoCapacity, "this node serves as many clients as it may");
                    }
                    Some(link) => {
                        clients.spawn(counter.clone().serve(link));
                    }
                    None => break,
                },
                Some(_) = clients.join_next() => {}
                () = counter.mailbox.closed() => break,
            }
        }
        // Each of them says goodbye.
        while clients.join_next().await.is_some() {}
    });
}

impl Counter {
    async fn serve(self, mut link: Link) {
        link.set_frame_bytes_max(self.consensus.frame_bytes_max());
        let (queue, outgoing) = mpsc::channel(ANSWERS_MAX);
        let budget = Budget::share(&self.answers, ANSWERS_BYTES_MAX / CLIENTS_THAT_MAY_STALL);
        let answers = Answers { queue, budget };
        let (sender, receiver) = link.split();
        // Two futures, not two turns: reading never waits for writing.
        tokio::select! {
            () = self.read(receiver, answers) => {}
            () = self.write(sender, outgoing) => {}
        }
    }

    async fn read(&self, mut receiver: LinkReceiver, answers: Answers) {
        let interval = self.consensus.heartbeat_interval;
        let silence_max = interval * self.consensus.max_missed_heartbeats;
        let mut due = self.clock.now().plus(silence_max);
        loop {
            let received = tokio::select! {
                biased;
                received = receiver.recv() => received,
                () = self.clock.sleep_until(due) => {
                    let now = self.clock.now();
                    if now.since(due) < interval {
                        let reason = format!("not a word for {silence_max:?}");
                        return turn_away(|code| receiver.close(code, &reason), Code::Timeout);
                    }
                    // This timer came late: we were stopped or starved, and what the client said
                    // meanwhile may still wait to be read.
                    due = now.plus(2 * interval);
                    continue;
                }
            };
            due = self.clock.now().plus(silence_max);
            // Its own end, or a frame too large, of which the link has told it.
            let Some(bytes) = received else { return };
            match postcard::from_bytes(&bytes) {
                Ok(ClientFrame::Call { id, call, patience_ms }) => {
                    let answerer = Answerer::client(answers.clone(), id);
                    self.mailbox.call(call, self.deadline(patience_ms), answerer);
                }
                Ok(ClientFrame::Ping { .. }) => {}
                Ok(ClientFrame::Answer { .. }) | Err(_) => {
                    let reason = "not a client's frame";
                    let close = |code| receiver.close(code, reason);
                    return turn_away(close, Code::ProtocolViolation);
                }
            }
        }
    }

    async fn write(&self, mut sender: LinkSender, mut outgoing: mpsc::Receiver<Answer>) {
        let interval = self.consensus.heartbeat_interval;
        let mut ping_at = self.clock.now().plus(interval);
        loop {
            // The answer's room is held until it is written.
            let (frame, _room) = tokio::select! {
                biased;
                answer = outgoing.recv() => match answer {
                    Some(Answer { id, outcome, _room }) => {
                        (ClientFrame::Answer { id, outcome }, _room)
                    }
                    None => return,
                },
                // The last answers have gone before.
                () = self.mailbox.closed() => {
                    return sender.close(Code::GracefulShutdown, "this member leaves the group");
                }
                () = self.clock.sleep_until(ping_at) => (self.ping(), None),
            };
            ping_at = self.clock.now().plus(interval);
            let Ok(bytes) = postcard::to_stdvec(&frame) else { return };
            let patience = self.consensus.handshake_timeout;
            let sent = tokio::select! {
                sent = sender.send(&bytes) => Some(sent),
                () = self.clock.sleep_until(self.clock.now().plus(patience)) => None,
            };
            match sent {
                Some(Ok(())) => {}
                Some(Err(_)) => return,
                None => {
                    let reason = format!("it has not read for {patience:?}");
                    return turn_away(|code| sender.close(code, &reason), Code::Timeout);
                }
            }
        }
    }

    fn ping(&self) -> ClientFrame {
        ClientFrame::Ping { leader: self.status.borrow().leader.map(|leader| leader.peer) }
    }

    /// A client may wait as long as the group's settings allow, and no longer.
    fn deadline(&self, patience_ms: u32) -> Time {
        let most = self.consensus.forward_timeout.max(self.consensus.query_timeout);
        self.clock.now().plus(Duration::from_millis(patience_ms.into()).min(most))
    }
}

impl Answers {
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

/// Closes the link of a client that misbehaves, and counts it.
fn turn_away(close: impl FnOnce(Code), code: Code) {
    counter!(CLIENTS_TURNED_AWAY, "code" => code.name()).increment(1);
    close(code);
}

const CLIENTS_MAX: usize = 1_024;
const ANSWERS_MAX: usize = 4_096;
/// What the answers that wait for all clients of a member weigh.
const ANSWERS_BYTES_MAX: usize = 64 << 20;
/// So many clients that do not read leave the others no room, until they lose their links.
const CLIENTS_THAT_MAY_STALL: usize = 4;
