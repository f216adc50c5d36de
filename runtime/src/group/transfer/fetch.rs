//! The end that needs a snapshot: it asks one member after the other until it has all of it.
//!
//! A task of its own, beside the driver. What is there already is kept when another member goes
//! on with the very same snapshot, and thrown away when nobody has that any more. Invariant: what
//! is handed out is whole, of this group, lineage and machine, and ends no earlier than asked.

use std::{collections::BTreeSet, future, io, sync::Arc, time::Duration};

use metrics::Counter;
use raft::{Index, NodeId, Sessions, Time};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{Ask, Part, SnapshotFrame, part_bytes_max, parts::Parts};
use crate::{
    Clock, ConsensusConfig, GroupId, Lineage, Network, Status, StorageError,
    group::{alarm::Alarm, applier::session_indexes, bond::Bonds, wire::MemberFrame},
    storage::{Draft, LEAD_BYTES, Shelf, SnapshotHead, SnapshotId, Written},
};

/// Whose snapshots can be gone on from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Kin {
    pub(crate) group: GroupId,
    pub(crate) lineage: Lineage,
    pub(crate) machine: &'static str,
}

/// A fetch that is to be.
pub(crate) struct Fetch {
    pub(crate) kin: Kin,
    pub(crate) shelf: Shelf,
    pub(crate) bonds: Bonds,
    pub(crate) network: Network,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) consensus: ConsensusConfig,
    /// Counts what came to nothing.
    pub(crate) failed: Counter,
    /// Shows who is bonded.
    pub(crate) status: watch::Receiver<Status>,
}

/// What came of it.
pub(crate) struct Fetched {
    pub(crate) written: Written,
    /// The session table in it.
    pub(crate) sessions: Sessions<Index>,
    pub(crate) began: Time,
}

/// A fetch at work; ends when this is dropped.
pub(crate) struct Fetching {
    task: JoinHandle<()>,
    answers: mpsc::Sender<(NodeId, u64, Option<Part>)>,
    wanted: watch::Sender<(NodeId, Index)>,
    fetched: mpsc::Receiver<Fetched>,
}

impl Fetching {
    /// The fetch of a snapshot that ends at the index or later, which that node offers.
    pub(crate) fn spawn(fetch: Fetch, from: NodeId, least: Index, alarm: Alarm) -> Self {
        let (answers, answered) = mpsc::channel(ANSWERS_MAX);
        let (wanted, wants) = watch::channel((from, least));
        let (done, fetched) = mpsc::channel(1);
        let courier = Courier::new(fetch, answered, wants);
        let task = tokio::spawn(async move {
            let fetched = alarm.caught("the task that fetches a snapshot", courier.run()).await;
            if let Some(fetched) = fetched {
                // Errs if nobody wants it any more.
                drop(done.send(fetched).await);
            }
        });
        Self { task, answers, wanted, fetched }
    }

    /// Another offer was made. What is under way goes on, if it is of use still.
    pub(crate) fn want(&self, from: NodeId, least: Index) {
        self.wanted.send_if_modified(|wanted| {
            let is_news = *wanted != (from, least);
            *wanted = (from, least.max(wanted.1));
            is_news
        });
    }

    /// Where the snapshot is to end at least.
    pub(crate) fn least(&self) -> Index {
        self.wanted.borrow().1
    }

    /// A member answers. Returns whether there is room for it: what finds none is asked for again.
    pub(crate) fn answered(&self, from: NodeId, id: u64, part: Option<Part>) -> bool {
        self.answers.try_send((from, id, part)).is_ok()
    }

    /// Resolves once it is there.
    pub(crate) async fn fetched(&mut self) -> Option<Fetched> {
        self.fetched.recv().await
    }

    /// The same without a wait.
    pub(crate) fn try_fetched(&mut self) -> Option<Fetched> {
        self.fetched.try_recv().ok()
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task.
struct Courier {
    fetch: Fetch,
    answered: mpsc::Receiver<(NodeId, u64, Option<Part>)>,
    wanted: watch::Receiver<(NodeId, Index)>,
    /// Of what is there.
    file: Option<(Draft, Parts)>,
    /// They do not have it.
    without: BTreeSet<NodeId>,
    asked: u64,
    vain: Vain,
    attempts: usize,
}

/// What came to nothing, as far as it says how long to wait before the next attempt.
#[derive(Default)]
struct Vain {
    /// Attempts in a row that brought nothing.
    attempts: u32,
    /// Snapshots that could not be used, or not be kept here. Parts of another one are no sign that
    /// this is over, so they count for as long as this task lives: until one is accepted.
    snapshots: u32,
}

/// Why a member is left.
enum Left {
    /// It has no such snapshot.
    Without,
    /// It says nothing, or what was not asked.
    Silent,
    /// What all of it came to cannot be used.
    Useless(StorageError),
    /// Our own disk fails.
    Disk(StorageError),
}

impl Courier {
    fn new(
        fetch: Fetch,
        answered: mpsc::Receiver<(NodeId, u64, Option<Part>)>,
        wanted: watch::Receiver<(NodeId, Index)>,
    ) -> Self {
        let (file, without) = (None, BTreeSet::new());
        let (asked, vain, attempts) = (0, Vain::default(), 0);
        Self { fetch, answered, wanted, file, without, asked, vain, attempts }
    }

    async fn run(mut self) -> Fetched {
        let began = self.fetch.clock.now();
        loop {
            let peer = self.choose().await;
            let left = match self.fetch_from(peer).await {
                Ok((written, sessions)) => return Fetched { written, sessions, began },
                Err(left) => left,
            };
            self.vain.count(&left);
            match left {
                Left::Without => {
                    self.without.insert(peer);
                }
                Left::Silent => tracing::debug!(%peer, "a snapshot is asked for elsewhere"),
                Left::Useless(error) | Left::Disk(error) => {
                    self.file = None;
                    self.fetch.failed.increment(1);
                    tracing::warn!(%peer, %error, "a snapshot came to nothing");
                }
            }
            if let Some((_, parts)) = &mut self.file {
                parts.give_up();
            }
            self.attempts += 1;
            self.pause().await;
        }
    }

    /// Who is asked next: who offered it first, then the others in turn.
    async fn choose(&mut self) -> NodeId {
        loop {
            let (offered, least) = *self.wanted.borrow_and_update();
            if self.file.as_ref().is_some_and(|(_, parts)| !parts.serves(least)) {
                self.file = None;
                self.without.clear();
            }
            let mut bonded = self.fetch.status.borrow_and_update().bonded.clone();
            bonded.sort_by_key(|node| (*node != offered, *node));
            let having: Vec<_> =
                bonded.iter().filter(|node| !self.without.contains(*node)).copied().collect();
            if let Some(peer) = having.get(self.attempts % having.len().max(1)) {
                return *peer;
            }
            // Nobody has what is there of it: another one is begun.
            self.file = None;
            self.without.clear();
            if bonded.is_empty() && self.fetch.status.changed().await.is_err() {
                // The member has stopped, and this task is about to be ended.
                return future::pending().await;
            }
            self.pause().await;
        }
    }

    /// Waits a while, longer each time, so that many that lag do not ask in step.
    async fn pause(&mut self) {
        let ConsensusConfig { redial_backoff_min: min, redial_backoff_max: max, .. } =
            self.fetch.consensus;
        let longest = self.vain.pause(min, max);
        let half = u64::try_from(longest.as_nanos() / 2).unwrap_or(u64::MAX).max(1);
        let wait = Duration::from_nanos(half + self.fetch.network.draw() % half);
        self.fetch.clock.sleep_until(self.fetch.clock.now().plus(wait)).await;
    }

    async fn fetch_from(&mut self, peer: NodeId) -> Result<(Written, Sessions<Index>), Left> {
        if self.file.is_none() {
            self.begin(peer).await?;
        }
        let patience = self.fetch.consensus.forward_timeout;
        let mut due = self.fetch.clock.now().plus(patience);
        loop {
            let Some((draft, parts)) = &mut self.file else { return Err(Left::Silent) };
            while parts.under_way() < PARTS_UNDER_WAY_MAX {
                let Some(ask) = parts.ask(self.asked) else { break };
                self.asked += 1;
                self.fetch.bonds.send(peer, MemberFrame::Snapshot(SnapshotFrame::Ask(ask)));
            }
            if parts.is_whole() {
                break;
            }
            let clock = &*self.fetch.clock;
            let (id, part) = hear(&mut self.answered, clock, peer, due).await?;
            let Some(part) = part else {
                if parts.is_under_way(id) {
                    return Err(Left::Without);
                }
                in_time(clock, due)?;
                continue;
            };
            let Some(offset) = parts.take(id, &part) else {
                in_time(clock, due)?;
                continue;
            };
            draft.write_at(offset, &part.bytes).map_err(Left::Disk)?;
            self.vain.heard();
            due = self.fetch.clock.now().plus(patience);
        }
        let Some((draft, parts)) = self.file.take() else { return Err(Left::Silent) };
        self.accept(draft, parts.snapshot())
    }

    /// Asks which snapshot the member has.
    async fn begin(&mut self, peer: NodeId) -> Result<(), Left> {
        let (_, least) = *self.wanted.borrow();
        let id = self.asked;
        self.asked += 1;
        let ask = Ask { id, least, digest: None, offset: 0, bytes_max: 0 };
        self.fetch.bonds.send(peer, MemberFrame::Snapshot(SnapshotFrame::Ask(ask)));
        let due = self.fetch.clock.now().plus(self.fetch.consensus.forward_timeout);
        let snapshot = loop {
            match hear(&mut self.answered, &*self.fetch.clock, peer, due).await? {
                (answered, Some(Part { snapshot, .. })) if answered == id => break snapshot,
                (answered, None) if answered == id => return Err(Left::Without),
                _ => in_time(&*self.fetch.clock, due)?,
            }
        };
        let fits = (LEAD_BYTES as u64..=SNAPSHOT_BYTES_MAX).contains(&snapshot.bytes);
        if snapshot.position.index < least || !fits {
            return Err(Left::Without);
        }
        let draft = self.fetch.shelf.draft().map_err(Left::Disk)?;
        let parts = Parts::new(snapshot, part_bytes_max(&self.fetch.consensus));
        self.file = Some((draft, parts));
        Ok(())
    }

    /// Holds all of it against what was said, and against what can be gone on from.
    fn accept(
        &mut self,
        draft: Draft,
        wanted: SnapshotId,
    ) -> Result<(Written, Sessions<Index>), Left> {
        let path = draft.path().to_path_buf();
        let useless = |what: String| Left::Useless(StorageError::corrupt(&path, 0, what));
        let limits = self.fetch.consensus.session_limits();
        let mut sessions = Err(io::Error::other("it was not read"));
        let written =
            draft.finish(|file| sessions = session_indexes(file, limits)).map_err(Left::Useless)?;
        if written.id() != wanted {
            return Err(useless("it is not the snapshot that was announced".into()));
        }
        self.fetch.kin.accepts(written.head()).map_err(useless)?;
        Ok((written, sessions.map_err(|error| useless(error.to_string()))?))
    }
}

impl Vain {
    fn count(&mut self, left: &Left) {
        self.attempts = self.attempts.saturating_add(1);
        if matches!(left, Left::Useless(_) | Left::Disk(_)) {
            self.snapshots = self.snapshots.saturating_add(1);
        }
    }

    /// A part came.
    fn heard(&mut self) {
        self.attempts = 0;
    }

    /// The longest wait, which doubles.
    fn pause(&self, min: Duration, max: Duration) -> Duration {
        let doublings = self.attempts.max(self.snapshots).min(16);
        min.saturating_mul(1 << doublings).min(max)
    }
}

impl Kin {
    /// Whether a snapshot with this head can be gone on from.
    pub(crate) fn accepts(&self, head: &SnapshotHead) -> Result<(), String> {
        let SnapshotHead { group, lineage, machine, covers } = head;
        if *group != self.group {
            return Err(format!("a snapshot of group {group}, not of {}", self.group));
        }
        if *lineage != self.lineage {
            return Err(format!("a snapshot of lineage {lineage}, not of {}", self.lineage));
        }
        if machine != self.machine {
            return Err(format!("a snapshot of machine {machine:?}, not of {:?}", self.machine));
        }
        if !covers.configuration.is_sound() {
            return Err("a snapshot with members that no group can have".into());
        }
        Ok(())
    }
}

/// Errs once it is late. Said after each answer that is of no use: however many of these come,
/// they keep nobody waiting for longer than silence does.
fn in_time(clock: &dyn Clock, due: Time) -> Result<(), Left> {
    match clock.now() < due {
        true => Ok(()),
        false => Err(Left::Silent),
    }
}

/// What that member answers next.
async fn hear(
    answered: &mut mpsc::Receiver<(NodeId, u64, Option<Part>)>,
    clock: &dyn Clock,
    peer: NodeId,
    due: Time,
) -> Result<(u64, Option<Part>), Left> {
    let mut late = clock.sleep_until(due);
    loop {
        tokio::select! {
            biased;
            Some((from, id, part)) = answered.recv() => {
                if from == peer {
                    return Ok((id, part));
                }
                in_time(clock, due)?;
            }
            () = &mut late => return Err(Left::Silent),
        }
    }
}

/// Questions to one member that are not answered yet.
const PARTS_UNDER_WAY_MAX: usize = 4;
/// Answers that wait for the disk: all that was asked for, and some that nobody asked for.
const ANSWERS_MAX: usize = 16;
/// No disk has room for more; what is taken is only what comes.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 44;

#[cfg(test)]
mod tests {
    use raft::{Configuration, Snapshot};

    use super::*;
    use crate::{GroupKey, clock::Standing};

    const PEER: NodeId = NodeId::small(1);
    const OTHER: NodeId = NodeId::small(2);

    /// What is heard of these answers, which are there already, so long before it is late.
    async fn heard(answers: &[(NodeId, u64)], left: Duration) -> Result<u64, Left> {
        let (answer, mut answered) = mpsc::channel(ANSWERS_MAX);
        for (from, id) in answers {
            assert!(answer.try_send((*from, *id, None)).is_ok(), "there is room");
        }
        let clock = Standing::default();
        hear(&mut answered, &clock, PEER, clock.now().plus(left)).await.map(|(id, _)| id)
    }

    #[tokio::test]
    async fn of_many_offers_the_last_peer_and_the_highest_index_are_kept_and_of_answers_a_few() {
        let (answers, _answered) = mpsc::channel(ANSWERS_MAX);
        let (wanted, _wants) = watch::channel((PEER, Index(5)));
        let (_done, fetched) = mpsc::channel(1);
        let task = tokio::spawn(future::pending());
        let fetching = Fetching { task, answers, wanted, fetched };
        let offers = [(PEER, 5, 5), (OTHER, 9, 9), (PEER, 7, 9), (OTHER, 0, 9), (OTHER, 12, 12)];
        for (from, least, kept) in offers {
            fetching.want(from, Index(least));
            assert_eq!(*fetching.wanted.borrow(), (from, Index(kept)), "{least}");
            assert_eq!(fetching.least(), Index(kept));
        }
        let taken = (0..).take_while(|id| fetching.answered(PEER, *id, None));
        assert_eq!(taken.count(), ANSWERS_MAX);
    }

    #[tokio::test]
    async fn answers_of_who_was_not_asked_are_passed_over_and_hold_up_no_longer_than_silence() {
        let (late, second) = (Duration::ZERO, Duration::from_secs(1));
        let answers = [(OTHER, 1), (OTHER, 2), (PEER, 3)];
        assert!(matches!(heard(&answers, second).await, Ok(3)));
        assert!(
            matches!(heard(&answers, late).await, Err(Left::Silent)),
            "who was asked is silent"
        );
        // It may have come in time, and waited while we were stopped.
        assert!(matches!(heard(&answers[2..], late).await, Ok(3)));
    }

    #[test]
    fn an_answer_of_no_use_that_comes_late_is_the_last() {
        let clock = Standing::default();
        let due = clock.now().plus(Duration::from_secs(1));
        assert!(in_time(&clock, due).is_ok());
        clock.advance(Duration::from_secs(1));
        assert!(matches!(in_time(&clock, due), Err(Left::Silent)));
    }

    #[test]
    fn who_fetches_what_is_never_of_use_waits_longer_each_time_whatever_parts_come_between() {
        let (min, max) = (Duration::from_millis(20), Duration::from_millis(500));
        let useless = || Left::Useless(StorageError::corrupt("a.snapshot", 0, "cut"));
        let full = || Left::Disk(StorageError::corrupt("a.snapshot", 0, "no room"));
        let mut vain = Vain::default();
        let mut pauses = Vec::new();
        for left in [useless(), full(), useless(), full(), useless()] {
            // All parts of it came.
            vain.heard();
            vain.count(&left);
            pauses.push(vain.pause(min, max).as_millis());
        }
        assert_eq!(pauses, [40, 80, 160, 320, 500]);
        let mut silent = Vain::default();
        for _ in 0..3 {
            silent.count(&Left::Silent);
        }
        assert_eq!(silent.pause(min, max), 8 * min);
        silent.heard();
        silent.count(&Left::Without);
        assert_eq!(silent.pause(min, max), 2 * min, "there was one that answered");
    }

    #[test]
    fn a_snapshot_of_another_group_lineage_or_machine_is_refused_by_what_is_wrong() {
        let group = |secret: &str| {
            GroupId::of(&GroupKey::from_secret(secret), "", &ConsensusConfig::default())
        };
        let lineage = |byte| postcard::from_bytes(&[byte; 32]).expect("32 bytes are a lineage");
        let kin = Kin { group: group("ours"), lineage: lineage(1), machine: "counter 1" };
        let configuration = Configuration::of([NodeId::small(1)]);
        let head = SnapshotHead {
            group: kin.group,
            lineage: kin.lineage,
            machine: kin.machine.into(),
            covers: Snapshot { configuration, ..Snapshot::default() },
        };
        assert_eq!(kin.accepts(&head), Ok(()));
        let wrong = [
            ("group", SnapshotHead { group: group("theirs"), ..head.clone() }),
            ("lineage", SnapshotHead { lineage: lineage(2), ..head.clone() }),
            ("machine \"counter 2\"", SnapshotHead { machine: "counter 2".into(), ..head.clone() }),
            ("members", SnapshotHead { covers: Snapshot::default(), ..head.clone() }),
        ];
        for (what, head) in wrong {
            let error = kin.accepts(&head).expect_err(what);
            assert!(error.contains(what), "{error}");
        }
    }
}
