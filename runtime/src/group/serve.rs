//! Serves clients: brings their calls to the mailbox and the driver's answers back.
//!
//! A client has proved the group's key before it comes here, and how many there are is bounded at
//! the door. Invariant: a client that sends nonsense, falls silent or does not read loses its
//! link, and is told why; it costs no more than its queue, and alone it leaves the others room.
//! Each has a task of its own, whose panic costs this client its link and nobody anything else.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use metrics::counter;
use raft::{PeerId, Time};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};

use crate::{
    Clock, ConsensusConfig, GroupId, GroupKey, Link, Network, Status,
    group::{
        alarm::Alarm,
        answer::Answerer,
        answers::{Answer, AnswerRoom, Answers},
        mailbox::Mailbox,
        metric::{CLIENTS_TURNED_AWAY, Refused, refused},
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
    /// The peer that this member knows to lead.
    leader: watch::Receiver<Option<PeerId>>,
    answers: AnswerRoom,
}

/// Serves the group's clients until the member stops.
pub(crate) fn spawn(
    network: &Network,
    group: GroupId,
    key: &GroupKey,
    consensus: &ConsensusConfig,
    mailbox: &Mailbox,
    status: &watch::Receiver<Status>,
    alarm: Alarm,
) {
    let links = network.serve_clients(group, key);
    let (tell, leader) = watch::channel(None);
    let counter = Counter {
        clock: Arc::clone(network.clock()),
        consensus: consensus.clone(),
        mailbox: mailbox.clone(),
        leader,
        answers: AnswerRoom::new(),
    };
    let status = status.clone();
    tokio::spawn(async move {
        alarm.caught("the task of its clients", counter.open(links, status, tell)).await;
    });
}

impl Counter {
    /// Takes clients in until the member stops.
    async fn open(
        self,
        mut links: mpsc::Receiver<Link>,
        mut status: watch::Receiver<Status>,
        tell: watch::Sender<Option<PeerId>>,
    ) {
        let mut clients = JoinSet::new();
        loop {
            // Every commit changes the status, and few of them the leader: clients wake for that.
            let leads = status.borrow_and_update().leader.map(|leader| leader.peer);
            tell.send_if_modified(|leader| std::mem::replace(leader, leads) != leads);
            tokio::select! {
                Ok(()) = status.changed() => {}
                link = links.recv() => match link {
                    Some(link) => {
                        clients.spawn(self.clone().serve(link));
                    }
                    None => break,
                },
                Some(_) = clients.join_next() => {}
                () = self.mailbox.closed() => break,
            }
        }
        // Each of them says goodbye.
        while clients.join_next().await.is_some() {}
    }

    async fn serve(self, mut link: Link) {
        link.set_frame_bytes_max(self.consensus.frame_bytes_max());
        let (answers, outgoing) = self.answers.queue();
        let (sender, receiver) = link.split();
        let first_awaited = Notify::new();
        // Two futures, not two turns: reading never waits for writing.
        tokio::select! {
            () = self.read(receiver, &answers, &first_awaited) => {}
            () = self.write(sender, outgoing, &answers, &first_awaited) => {}
        }
    }

    async fn read(&self, mut receiver: LinkReceiver, answers: &Answers, first_awaited: &Notify) {
        let interval = self.consensus.heartbeat_interval;
        let silence_max = self.consensus.silence_max();
        let mut due = self.clock.now().plus(silence_max);
        let mailbox = self.mailbox.share();
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
                    if !answers.are_awaited() {
                        first_awaited.notify_one();
                    }
                    match answers.expect(id) {
                        Some(awaited) => {
                            let answerer = Answerer::client(awaited);
                            mailbox.call(call, self.deadline(patience_ms), answerer);
                        }
                        None => {
                            refused(Refused::Client);
                            answers.refuse(id, Outcome::Refused(Reason::Busy));
                        }
                    }
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

    async fn write(
        &self,
        mut sender: LinkSender,
        mut outgoing: mpsc::Receiver<Answer>,
        answers: &Answers,
        first_awaited: &Notify,
    ) {
        let mut leader = self.leader.clone();
        // A client that looks for a leader hears first of all whether it has come to the right one.
        let mut spoke = None;
        loop {
            // Who waits for an answer must soon know that none will come; who does not has time.
            let silence = match answers.are_awaited() {
                true => self.consensus.heartbeat_interval,
                false => self.consensus.ping_interval(),
            };
            let ping_at = spoke.map_or(Time::default(), |spoke: Time| spoke.plus(silence));
            // Answers are a sign of life, but do not say who leads: a client that is kept busy must
            // hear of it as well, or it looks for a leader of long ago once this node is gone.
            let is_due = self.clock.now() >= ping_at || leader.has_changed().unwrap_or(false);
            // The answer's room is held until it is written.
            let (frame, _rooms) = tokio::select! {
                biased;
                () = std::future::ready(()), if is_due => (ping(&mut leader), Vec::new()),
                answer = outgoing.recv() => match answer {
                    Some(Answer { id, outcome, rooms }) => {
                        (ClientFrame::Answer { id, outcome }, rooms)
                    }
                    None => return,
                },
                // The last answers have gone before.
                () = self.mailbox.closed() => {
                    return sender.close(Code::GracefulShutdown, "this member leaves the group");
                }
                Ok(()) = leader.changed() => (ping(&mut leader), Vec::new()),
                () = first_awaited.notified() => {
                    // Its patience begins with its call, which is mostly answered before a ping.
                    spoke = Some(self.clock.now());
                    continue;
                }
                () = self.clock.sleep_until(ping_at) => (ping(&mut leader), Vec::new()),
            };
            spoke = Some(self.clock.now());
            let Ok(bytes) = postcard::to_stdvec(&frame) else { return };
            let patience = self.consensus.handshake_timeout;
            // Biased: a client that reads again is not turned away because our timer came late.
            let sent = tokio::select! {
                biased;
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

    /// A client may wait as long as the group's settings allow, and no longer.
    fn deadline(&self, patience_ms: u32) -> Time {
        let most = self.consensus.forward_timeout.max(self.consensus.query_timeout);
        self.clock.now().plus(Duration::from_millis(patience_ms.into()).min(most))
    }
}

/// Says that this member lives, and whom it knows to lead.
fn ping(leader: &mut watch::Receiver<Option<PeerId>>) -> ClientFrame {
    ClientFrame::Ping { leader: *leader.borrow_and_update() }
}

/// Closes the link of a client that misbehaves, and counts it.
fn turn_away(close: impl FnOnce(Code), code: Code) {
    counter!(CLIENTS_TURNED_AWAY, "code" => code.name()).increment(1);
    close(code);
}
