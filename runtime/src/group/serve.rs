//! Serves clients: brings their calls to the driver and its answers back.
//!
//! A client has proved the group's key before it comes here. Invariant: a client that sends
//! nonsense, falls silent or does not read loses its link; it costs no more than its queue.

use std::{sync::Arc, time::Duration};

use raft::Time;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    Clock, ConsensusConfig, GroupId, GroupKey, Link, Network, Status,
    group::{
        answer::Answerer,
        driver::Mail,
        metric::QUEUE_FULL,
        wire::{ClientFrame, Outcome, Reason},
    },
    network::{Code, LinkReceiver, LinkSender},
};

#[derive(Clone)]
struct Counter {
    clock: Arc<dyn Clock>,
    consensus: ConsensusConfig,
    mail: mpsc::Sender<Mail>,
    status: watch::Receiver<Status>,
}

/// Serves the group's clients until the member stops.
pub(crate) fn spawn(
    network: &Network,
    group: GroupId,
    key: &GroupKey,
    consensus: &ConsensusConfig,
    mail: &mpsc::Sender<Mail>,
    status: &watch::Receiver<Status>,
) {
    let mut links = network.serve_clients(group, key);
    let counter = Counter {
        clock: Arc::clone(network.clock()),
        consensus: consensus.clone(),
        mail: mail.clone(),
        status: status.clone(),
    };
    tokio::spawn(async move {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                link = links.recv() => match link {
                    Some(link) if clients.len() >= CLIENTS_MAX => {
                        metrics::counter!("tessera.client.refused").increment(1);
                        link.close(Code::NoCapacity, "this node serves as many clients as it may");
                    }
                    Some(link) => {
                        clients.spawn(counter.clone().serve(link));
                    }
                    None => return,
                },
                Some(_) = clients.join_next() => {}
                () = counter.mail.closed() => return,
            }
        }
    });
}

impl Counter {
    async fn serve(self, mut link: Link) {
        link.set_frame_bytes_max(self.consensus.frame_bytes_max());
        let (frames, outgoing) = mpsc::channel(ANSWERS_MAX);
        let (sender, receiver) = link.split();
        // Two futures, not two turns: reading never waits for writing.
        tokio::select! {
            () = self.read(receiver, frames) => {}
            () = self.write(sender, outgoing) => {}
        }
    }

    async fn read(&self, mut receiver: LinkReceiver, frames: mpsc::Sender<ClientFrame>) {
        let silence_max = self.consensus.heartbeat_interval * self.consensus.max_missed_heartbeats;
        loop {
            let patience = self.clock.sleep_until(self.clock.now().plus(silence_max));
            let received = tokio::select! {
                received = receiver.recv() => received,
                () = patience => None,
            };
            let Some(bytes) = received else { return };
            match postcard::from_bytes(&bytes) {
                Ok(ClientFrame::Call { id, call, patience_ms }) => {
                    let answerer = Answerer::client(frames.clone(), id);
                    let deadline = self.deadline(patience_ms);
                    match self.mail.try_send(Mail::Call { call, deadline, answerer }) {
                        Ok(()) => {}
                        Err(mpsc::error::TrySendError::Full(mail)) => {
                            metrics::counter!(QUEUE_FULL).increment(1);
                            refuse(mail, Reason::Busy);
                        }
                        Err(mpsc::error::TrySendError::Closed(mail)) => {
                            refuse(mail, Reason::Stopped);
                            return;
                        }
                    }
                }
                Ok(ClientFrame::Ping { .. }) => {}
                Ok(ClientFrame::Answer { .. }) | Err(_) => {
                    metrics::counter!("tessera.client.violations").increment(1);
                    return receiver.close(Code::ProtocolViolation, "not a client's frame");
                }
            }
        }
    }

    async fn write(&self, mut sender: LinkSender, mut outgoing: mpsc::Receiver<ClientFrame>) {
        let interval = self.consensus.heartbeat_interval;
        let mut ping_at = self.clock.now().plus(interval);
        loop {
            let frame = tokio::select! {
                biased;
                frame = outgoing.recv() => frame,
                () = self.clock.sleep_until(ping_at) => Some(self.ping()),
            };
            let Some(frame) = frame else { return };
            ping_at = self.clock.now().plus(interval);
            let Ok(bytes) = postcard::to_stdvec(&frame) else { return };
            let patience = self.clock.now().plus(self.consensus.handshake_timeout);
            tokio::select! {
                sent = sender.send(&bytes) => if sent.is_err() { return },
                // It does not read.
                () = self.clock.sleep_until(patience) => return,
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

fn refuse(mail: Mail, reason: Reason) {
    if let Mail::Call { answerer, .. } = mail {
        answerer.answer(Outcome::Refused(reason));
    }
}

const CLIENTS_MAX: usize = 1_024;
const ANSWERS_MAX: usize = 4_096;
