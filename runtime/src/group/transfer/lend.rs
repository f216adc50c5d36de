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
    group::{alarm::Alarm, bond::Bonds, wire::MemberFrame},
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

/// Answers, one question after the other.
struct Desk {
    lending: Lending,
    bonds: Bonds,
}

/// What is lent to whom, and what of it is given.
pub(crate) struct Lending {
    shelf: Shelf,
    /// One taken before it was forced is of no use to who asks: its members are of this one.
    lineage: Option<Lineage>,
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
        alarm: Alarm,
    ) -> Self {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (show, loans) = watch::channel(Loans::new());
        let lending = Lending {
            shelf,
            lineage,
            clock,
            part_bytes_max: part_bytes_max(consensus),
            lent: BTreeMap::new(),
            loans: show,
            grace: GRACE_HEARTBEATS * consensus.heartbeat_interval,
        };
        let mut desk = Desk { lending, bonds };
        tokio::spawn(async move {
            alarm.caught("the task that hands its snapshot on", desk.serve(asked)).await;
        });
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
    async fn serve(&mut self, mut asked: mpsc::Receiver<(NodeId, Ask)>) {
        loop {
            let lapse = self.lending.lapse();
            let lapse = lapse.map(|until| self.lending.clock.sleep_until(until));
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
            self.lending.close();
        }
    }

    fn answer(&mut self, from: NodeId, ask: &Ask) {
        let part = self.lending.part(from, ask).unwrap_or_else(|error| {
            tracing::warn!(%from, %error, "cannot hand a snapshot on");
            None
        });
        let answer = SnapshotFrame::Answer { id: ask.id, part };
        // What is dropped is asked for again.
        self.bonds.send(from, MemberFrame::Snapshot(answer));
    }
}

impl Lending {
    /// When a file is to be closed next.
    fn lapse(&self) -> Option<Time> {
        self.lent.values().map(|lent| lent.until).min()
    }

    /// Closes what nobody has asked for for long.
    fn close(&mut self) {
        let now = self.clock.now();
        self.lent.retain(|_, lent| now < lent.until);
    }

    /// What that member asks for, if it is here. Whatever it asks for, it has one file open then.
    pub(crate) fn part(&mut self, from: NodeId, ask: &Ask) -> Result<Option<Part>, StorageError> {
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
pub(super) mod tests {
    use std::{
        io::Write,
        pin::pin,
        task::{Context, Waker},
    };

    use raft::{Position, Snapshot, Term};

    use super::*;
    use crate::{
        GroupId, GroupKey, PeerId, StoreId,
        clock::Standing,
        group::{
            bond::{Admittance, Member},
            samples::{JumpingClock, network, until},
        },
        storage::{Memory, Owner, SnapshotHead, SnapshotId, SnapshotWriter, Storage, Store as _},
    };

    /// A store with snapshots of one lineage.
    pub(crate) struct Library {
        storage: Box<dyn Storage>,
        key: GroupKey,
        group: GroupId,
    }

    impl Library {
        pub(crate) fn open() -> Self {
            let key = GroupKey::from_secret("lenders");
            let group = GroupId::of(&key, "lent", &ConsensusConfig::default());
            let owner = Owner { group, peer: PeerId([1; 32]), fresh: StoreId(1) };
            Self { storage: Box::new(Memory).open(owner).expect("memory opens"), key, group }
        }

        fn shelf(&self) -> Shelf {
            self.storage.shelf().expect("memory keeps snapshots")
        }

        /// A snapshot that ends there, in place of the one before.
        pub(crate) fn keep(&mut self, term: u64, index: u64) -> SnapshotId {
            let position = Position { term: Term(term), index: Index(index) };
            let covers = Snapshot { position, ..Snapshot::default() };
            let (group, lineage) = (self.group, lineage(1));
            let head = SnapshotHead { group, lineage, machine: "lent".into(), covers };
            let writer = self.shelf().draft().and_then(|draft| SnapshotWriter::begin(draft, head));
            let mut writer = writer.expect("there is room");
            writer.write_all(&[7; 100]).expect("there is room");
            let written = writer.finish().expect("there is room");
            let id = written.id();
            self.storage.keep(written);
            id
        }

        /// Lends them, in the name of that lineage and by that clock.
        pub(crate) fn lend(&self, lineage: Lineage, clock: Arc<dyn Clock>) -> Lending {
            Lending {
                shelf: self.shelf(),
                lineage: Some(lineage),
                clock,
                part_bytes_max: PART_BYTES,
                lent: BTreeMap::new(),
                loans: watch::Sender::new(Loans::new()),
                grace: Duration::ZERO,
            }
        }

        async fn bonds(&self) -> Bonds {
            let (admit, admittance) = watch::channel(Admittance::of(StoreId(1)));
            let (group, key) = (self.group, self.key.clone());
            let (consensus, peers) = (ConsensusConfig::default(), Vec::new());
            let member = Member { group, key, consensus, peers, admittance };
            let (bonds, events) = Bonds::spawn(&network().await, member, Alarm::default());
            // Nobody is bonded: what is sent goes nowhere.
            drop((admit, events));
            bonds
        }
    }

    pub(crate) fn lineage(byte: u8) -> Lineage {
        postcard::from_bytes(&[byte; 32]).expect("32 bytes are a lineage")
    }

    pub(crate) const PART_BYTES: u32 = 16;
    const ASKER: NodeId = NodeId::small(2);
    const OTHER: NodeId = NodeId::small(3);
    const WHATEVER: Ask =
        Ask { id: 1, least: Index(0), digest: None, offset: 0, bytes_max: u32::MAX };

    #[test]
    fn a_snapshot_of_another_lineage_is_not_handed_on() {
        let mut library = Library::open();
        library.keep(1, 1);
        for (served, is_lent) in [(lineage(1), true), (lineage(2), false)] {
            let mut lending = library.lend(served, Arc::new(Standing::default()));
            let part = lending.part(ASKER, &WHATEVER).expect("it can be read");
            let loans = lending.loans.borrow().len();
            assert_eq!((part.is_some(), loans), (is_lent, usize::from(is_lent)));
        }
    }

    #[test]
    fn whatever_a_member_asks_it_has_one_file_open_and_is_given_no_more_than_a_part() {
        let mut library = Library::open();
        let first = library.keep(1, 1);
        let mut lending = library.lend(lineage(1), Arc::new(Standing::default()));
        let mut given = |from, ask: Ask| {
            let part = lending.part(from, &ask).expect("it can be read");
            (part.map(|part| (part.snapshot, part.bytes.len())), lending.lent.len())
        };
        let most = PART_BYTES as usize;
        for (ask, bytes) in [
            (WHATEVER, most),
            (Ask { bytes_max: 3, ..WHATEVER }, 3),
            (Ask { bytes_max: 0, ..WHATEVER }, 0),
            (Ask { offset: first.bytes - 1, ..WHATEVER }, 1),
            (Ask { offset: first.bytes, ..WHATEVER }, 0),
            (Ask { offset: u64::MAX, ..WHATEVER }, 0),
        ] {
            for digest in [None, Some(first.digest)] {
                assert_eq!(given(ASKER, Ask { digest, ..ask }), (Some((first, bytes)), 1));
            }
        }
        for nothing in
            [Ask { least: Index(2), ..WHATEVER }, Ask { digest: Some([0; 32]), ..WHATEVER }]
        {
            assert_eq!(given(ASKER, nothing), (None, 1), "{nothing:?}");
        }
        let second = library.keep(1, 2);
        let go_on = Ask { digest: Some(first.digest), ..WHATEVER };
        assert_eq!(given(ASKER, go_on), (Some((first, most)), 1), "it reads on");
        assert_eq!(given(OTHER, go_on), (None, 1), "for the other it is gone");
        assert_eq!(given(OTHER, WHATEVER), (Some((second, most)), 2));
        // Whoever begins anew lets go of the one before.
        assert_eq!(given(ASKER, WHATEVER), (Some((second, most)), 2));
        assert_eq!(given(ASKER, go_on), (None, 2));
    }

    #[test]
    fn a_file_stays_open_for_half_a_minute_after_the_last_question() {
        let (clock, mut library) = (Standing::default(), Library::open());
        library.keep(1, 1);
        let mut lending = library.lend(lineage(1), Arc::new(clock.clone()));
        assert_eq!(lending.lapse(), None);
        let moment = Duration::from_millis(1);
        for _ in 0..3 {
            lending.part(ASKER, &WHATEVER).expect("it can be read");
            assert_eq!(lending.lapse(), Some(clock.now().plus(Duration::from_secs(30))));
            clock.advance(Duration::from_secs(30) - moment);
            lending.close();
            assert_eq!(lending.lent.len(), 1);
        }
        clock.advance(moment);
        lending.close();
        assert_eq!((lending.lent.len(), lending.lapse()), (0, None));
    }

    /// No other question has to come for that.
    #[tokio::test]
    async fn a_file_that_nobody_asks_for_any_more_is_closed_by_itself() {
        let (clock, mut library) = (Arc::new(JumpingClock::default()), Library::open());
        library.keep(1, 1);
        let lending = library.lend(lineage(1), Arc::new(Arc::clone(&clock)));
        let mut desk = Desk { lending, bonds: library.bonds().await };
        let (asks, asked) = mpsc::channel(1);
        asks.try_send((ASKER, WHATEVER)).expect("there is room");
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut serving = pin!(desk.serve(asked));
            assert!(serving.as_mut().poll(&mut context).is_pending());
            clock.jump(LENT_FOR);
            assert!(serving.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(desk.lending.lent.len(), 0);
    }

    #[tokio::test]
    async fn as_many_questions_wait_as_may_and_the_next_is_not_taken() {
        let (mut library, consensus) = (Library::open(), ConsensusConfig::default());
        library.keep(1, 1);
        let (shelf, bonds) = (library.shelf(), library.bonds().await);
        let clock = Arc::new(Standing::default());
        let alarm = Alarm::default();
        let lender = Lender::spawn(shelf, Some(lineage(1)), bonds, clock, &consensus, alarm);
        // Its task has no turn until this one waits.
        let taken = (0..).take_while(|id| lender.asked(ASKER, Ask { id: *id, ..WHATEVER }));
        assert_eq!(taken.count(), ASKS_MAX);
        until("a turn for those", || lender.asked(ASKER, WHATEVER)).await;
    }
}
