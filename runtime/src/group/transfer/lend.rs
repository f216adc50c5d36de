//! The end that has a snapshot: it answers questions, one by one, from the file.
//!
//! A task of its own, so that a slow disk delays no vote. What a member has begun to read stays
//! there for it for a while, also when another snapshot has taken its place; and it can be seen
//! what that is, for the log behind it will be wanted next. Invariants: one file is open for each
//! member at most; what is handed on is of this lineage.

use std::{collections::BTreeMap, future, sync::Arc, time::Duration};

use raft::{Index, NodeId, Time};
use tokio::sync::{mpsc, watch};

use super::{Ask, Part, SnapshotFrame, part_bytes_max};
use crate::{
    Clock, ConsensusConfig, Lineage, StorageError,
    group::{bond::Bonds, wire::MemberFrame},
    storage::{Shelf, SnapshotFile},
};

/// The near end. Its task ends with it.
pub(crate) struct Lender {
    asks: mpsc::Sender<(NodeId, Ask)>,
    loans: watch::Receiver<Loans>,
}

type Loans = BTreeMap<NodeId, Loan>;

/// What a member has begun to read, as others see it.
struct Loan {
    /// The last entry in it.
    end: Index,
    until: Time,
}

struct Desk {
    shelf: Shelf,
    /// One taken before it was forced is of no use to who asks: its members are of this one.
    lineage: Option<Lineage>,
    bonds: Bonds,
    clock: Arc<dyn Clock>,
    part_bytes_max: u32,
    lent: BTreeMap<NodeId, Lent>,
    loans: watch::Sender<Loans>,
    /// A loan is seen so much longer than its file is open: who has read all of it has to say so,
    /// and is then sent what follows.
    grace: Duration,
}

struct Lent {
    file: SnapshotFile,
    until: Time,
}

impl Lender {
    pub(crate) fn spawn(
        shelf: Shelf,
        lineage: Option<Lineage>,
        bonds: Bonds,
        clock: Arc<dyn Clock>,
        consensus: &ConsensusConfig,
    ) -> Self {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (show, loans) = watch::channel(Loans::new());
        let desk = Desk {
            shelf,
            lineage,
            bonds,
            clock,
            part_bytes_max: part_bytes_max(consensus),
            lent: BTreeMap::new(),
            loans: show,
            grace: GRACE_HEARTBEATS * consensus.heartbeat_interval,
        };
        tokio::spawn(desk.serve(asked));
        Self { asks, loans }
    }

    /// A member asks. False if as many questions wait as may: it is not answered.
    pub(crate) fn asked(&self, from: NodeId, ask: Ask) -> bool {
        self.asks.try_send((from, ask)).is_ok()
    }

    /// Where the snapshot ends that this member reads, or has read not long ago.
    pub(crate) fn lent(&self, to: NodeId, now: Time) -> Option<Index> {
        let loans = self.loans.borrow();
        loans.get(&to).filter(|loan| now < loan.until).map(|loan| loan.end)
    }
}

impl Desk {
    async fn serve(mut self, mut asked: mpsc::Receiver<(NodeId, Ask)>) {
        loop {
            let lapse = self.lent.values().map(|lent| lent.until).min();
            let lapse = lapse.map(|until| self.clock.sleep_until(until));
            let lapse = async {
                match lapse {
                    Some(lapse) => lapse.await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                next = asked.recv() => match next {
                    Some((from, ask)) => self.answer(from, &ask),
                    None => return,
                },
                () = lapse => {}
            }
            let now = self.clock.now();
            self.lent.retain(|_, lent| now < lent.until);
        }
    }

    fn answer(&mut self, from: NodeId, ask: &Ask) {
        let part = self.part(from, ask).unwrap_or_else(|error| {
            tracing::warn!(%from, %error, "cannot hand a snapshot on");
            None
        });
        let answer = SnapshotFrame::Answer { id: ask.id, part };
        // What is dropped is asked for again.
        self.bonds.send(from, MemberFrame::Snapshot(answer));
    }

    fn part(&mut self, from: NodeId, ask: &Ask) -> Result<Option<Part>, StorageError> {
        let lineage = self.lineage;
        let is_wanted = |file: &SnapshotFile| {
            let id = file.id();
            Some(file.head().lineage) == lineage
                && id.position.index >= ask.least
                && ask.digest.is_none_or(|digest| digest == id.digest)
        };
        let now = self.clock.now();
        let until = now.plus(LENT_FOR);
        let is_held =
            ask.digest.is_some() && self.lent.get(&from).is_some_and(|lent| is_wanted(&lent.file));
        if !is_held {
            let Some(file) = self.shelf.open()?.filter(is_wanted) else { return Ok(None) };
            self.lent.insert(from, Lent { file, until });
        }
        let Some(lent) = self.lent.get_mut(&from) else { return Ok(None) };
        lent.until = until;
        let snapshot = lent.file.id();
        let loan = Loan { end: snapshot.position.index, until: until.plus(self.grace) };
        self.loans.send_modify(|loans| {
            loans.retain(|_, loan| now < loan.until);
            loans.insert(from, loan);
        });
        let left = snapshot.bytes.saturating_sub(ask.offset);
        let length = left.min(u64::from(ask.bytes_max.min(self.part_bytes_max)));
        let mut bytes = vec![0; length as usize];
        lent.file.read_at(ask.offset.min(snapshot.bytes), &mut bytes)?;
        Ok(Some(Part { snapshot, bytes: bytes.into() }))
    }
}

/// Questions that wait for the disk.
const ASKS_MAX: usize = 64;
/// After its last question a member's file stays open for so long.
const LENT_FOR: Duration = Duration::from_secs(30);
/// Longer than it takes to say that all of it is there, and to be sent the first append.
const GRACE_HEARTBEATS: u32 = 4;

#[cfg(test)]
mod tests {
    use raft::{Position, Snapshot, Term};

    use super::*;
    use crate::{
        GroupId, GroupKey, PeerId, StoreId,
        clock::Standing,
        group::{
            bond::{Admittance, Member},
            samples::network_on,
        },
        storage::{Memory, Owner, SnapshotHead, SnapshotWriter, Store as _},
    };

    #[tokio::test]
    async fn a_snapshot_of_another_lineage_is_not_handed_on() {
        let clock = Standing::default();
        let network = network_on(Arc::new(clock.clone())).await;
        let (key, consensus) = (GroupKey::from_secret("lenders"), ConsensusConfig::default());
        let (group, store) = (GroupId::of(&key, "lent", &consensus), StoreId(1));
        let owner = Owner { group, peer: PeerId([1; 32]), fresh: store };
        let storage = Box::new(Memory).open(owner).expect("memory opens");
        let shelf = storage.shelf().expect("memory keeps snapshots");
        let (_admit, admittance) = watch::channel(Admittance::of(store));
        let member = Member { group, key, consensus, peers: Vec::new(), admittance };
        let (bonds, _events) = Bonds::spawn(&network, member);

        let lineage = |byte| postcard::from_bytes(&[byte; 32]).expect("32 bytes are a lineage");
        let position = Position { term: Term(1), index: Index(1) };
        let covers = Snapshot { position, ..Snapshot::default() };
        let head = SnapshotHead { group, lineage: lineage(1), machine: "lent".into(), covers };
        let writer = shelf.draft().and_then(|draft| SnapshotWriter::begin(draft, head));
        let mut written = writer.and_then(SnapshotWriter::finish).expect("there is room");
        shelf.put(&mut written).expect("there is room");
        shelf.show(Some(written.id()));
        for (served, is_lent) in [(lineage(1), true), (lineage(2), false)] {
            let mut desk = Desk {
                shelf: shelf.clone(),
                lineage: Some(served),
                bonds: bonds.clone(),
                clock: Arc::new(clock.clone()),
                part_bytes_max: 1,
                lent: BTreeMap::new(),
                loans: watch::Sender::new(Loans::new()),
                grace: Duration::ZERO,
            };
            let ask = Ask { id: 1, least: Index(0), digest: None, offset: 0, bytes_max: 0 };
            let part = desk.part(NodeId::small(2), &ask).expect("it can be read");
            let loans = desk.loans.borrow().len();
            assert_eq!((part.is_some(), loans), (is_lent, usize::from(is_lent)));
        }
    }
}
