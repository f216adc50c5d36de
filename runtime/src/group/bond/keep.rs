//! Watches over one bond: its lanes, its heartbeats, its end.
//!
//! Invariant: a bond whose peer is silent for `max_missed_heartbeats` ends, but a node that was
//! itself stopped or starved, or whose disk kept it from reading, first reads what has arrived
//! before it judges anyone silent.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use iroh::endpoint::RecvStream;
use raft::Time;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    group::{
        bond::{
            A_TASK, Side,
            lane::Lane,
            part,
            table::{Bond, Opened, Told},
        },
        wire::MemberFrame,
    },
    network::{Code, Refusal},
};

/// A bond that has just been installed.
pub(super) struct Kept {
    pub(super) bond: Arc<Bond>,
    /// The dialer's control lane, its name read, on the side that was dialed.
    pub(super) confirmed: Option<RecvStream>,
    /// The bond that this one takes the place of.
    pub(super) replaced: Option<Arc<Bond>>,
}

/// One bond at work.
struct Keeper {
    side: Arc<Side>,
    tell: mpsc::Sender<Told>,
    bond: Arc<Bond>,
    lanes: JoinSet<()>,
    /// By how much the present heartbeat interval is longer.
    jitter: Duration,
    replaced: Option<Arc<Bond>>,
}

/// Keeps the bond until it ends.
pub(super) fn spawn(side: &Arc<Side>, tell: &mpsc::Sender<Told>, kept: Kept) {
    side.metrics.formed();
    tracing::debug!(node = %kept.bond.node, dialed = kept.confirmed.is_none(), "bonded");
    let mut keeper = Keeper {
        side: Arc::clone(side),
        tell: tell.clone(),
        bond: kept.bond,
        lanes: JoinSet::new(),
        jitter: side.member.consensus.heartbeat_jitter,
        replaced: kept.replaced,
    };
    for lane in Lane::ALL {
        let bond = Arc::clone(&keeper.bond);
        keeper.lanes.spawn(async move { bond.write(lane).await });
    }
    if let Some(control) = kept.confirmed {
        keeper.let_replaced_go();
        keeper.read(control, Some(Lane::Control));
    }
    let alarm = side.alarm.clone();
    tokio::spawn(async move { alarm.caught(A_TASK, keeper.run()).await });
}

impl Keeper {
    async fn run(mut self) {
        let ended = self.watch().await;
        tracing::debug!(node = %self.bond.node, %ended, "the bond ended");
        self.side.metrics.ended(ended.code);
        self.let_replaced_go();
        self.lanes.shutdown().await;
        let room = self.tell.reserve().await.ok();
        self.side.table.remove(&self.bond, room);
    }

    /// Works until the connection is closed, by whomever, and says why it was.
    async fn watch(&mut self) -> Refusal {
        let bond = Arc::clone(&self.bond);
        let clock = Arc::clone(&self.side.clock);
        let mut admittance = self.side.member.admittance.clone();
        let mut closed = std::pin::pin!(bond.connection.closed());
        loop {
            let due = self.due();
            tokio::select! {
                error = &mut closed => {
                    return bond.ended().unwrap_or_else(|| Refusal::of(&error));
                }
                Ok(stream) = bond.connection.accept_uni() => {
                    self.let_replaced_go();
                    self.read(stream, None);
                }
                Some(ended) = self.lanes.join_next() => self.side.alarm.joined(A_TASK, ended),
                () = clock.sleep_until(due) => self.beat(due),
                Ok(()) = admittance.changed() => {
                    let admitted = admittance.borrow().admit(bond.node, &bond.card);
                    if let Err(refusal) = admitted {
                        bond.end(refusal);
                    }
                }
            }
        }
    }

    /// Hands a lane over to whoever listens, without waiting for it.
    fn read(&mut self, stream: RecvStream, lane: Option<Lane>) {
        let opened = Opened { bond: Arc::clone(&self.bond), stream, lane };
        let tell = self.tell.clone();
        self.lanes.spawn(async move {
            // Errs once nobody listens any more.
            drop(tell.send(Told::Lane(opened)).await);
        });
    }

    /// The peer has let this bond in as well, or it is over: either way the other may go.
    fn let_replaced_go(&mut self) {
        if let Some(replaced) = self.replaced.take() {
            replaced.close(&Code::Replaced.because("a newer bond took this one's place"));
        }
    }

    fn due(&self) -> Time {
        self.ping_due().min(self.silence_due())
    }

    fn ping_due(&self) -> Time {
        self.bond.last_spoke().plus(self.side.member.consensus.ping_interval() + self.jitter)
    }

    fn silence_due(&self) -> Time {
        self.bond.last_heard().plus(self.side.silence_max())
    }

    /// Speaks if this side has been silent, ends the bond if the other has been for too long.
    /// The timer was set for `due`.
    fn beat(&mut self, due: Time) {
        let now = self.side.clock.now();
        let consensus = &self.side.member.consensus;
        let interval = consensus.heartbeat_interval;
        // Before what was heard: its end counts as a word of everybody.
        let is_deaf = self.side.is_deaf.load(Ordering::Acquire);
        if now >= self.silence_due() {
            let silence_max = self.side.silence_max();
            if now.since(due) < interval && !is_deaf {
                let reason = format!("not a word for {silence_max:?}");
                return self.bond.end(Code::Timeout.because(reason));
            }
            // This timer came late: we were stopped or starved, and what the peer said
            // meanwhile may still wait to be read. Or nobody reads it now. Look again after two
            // intervals.
            let grace = now.plus(2 * interval).0.saturating_sub(silence_max);
            self.bond.heard(Time(grace));
        }
        if now >= self.ping_due() {
            let whole = consensus.heartbeat_jitter;
            self.jitter = whole - part(whole / 2, self.side.network.draw());
            if let Err(dropped) = self.bond.send(Lane::Control, &MemberFrame::Ping, &self.side) {
                self.side.metrics.dropped(Lane::Control, dropped);
                // Not to try at once again: the next is due as if it had been said.
                self.bond.spoke(now);
            }
        }
    }
}
