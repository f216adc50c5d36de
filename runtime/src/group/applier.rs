//! Applies committed entries to the machine, in a task of its own.
//!
//! A slow machine delays answers, never heartbeats. Owns the machine and the replies of open
//! sessions; while it writes them into a snapshot, or reads them from one, nothing is applied.
//! Invariant: entries are applied once each, in order of their index, and what is kept and
//! answered follows from nothing but the log.

mod output;
mod state;

use std::{future::poll_fn, io, sync::Arc, time::Duration};

use bytes::Bytes;
use output::Output;
use raft::{
    Admission, Entries, EntryRef, Index, Payload, Position, RequestId, SessionId, Sessions,
};
pub(crate) use state::session_indexes;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, watch},
    task,
};

use crate::{
    ApplyContext, Clock, ConsensusConfig, StateMachine,
    group::{
        answer::Answerer,
        budget::Budget,
        wire::{Outcome, Reason},
    },
    storage::{Shelf, SnapshotFile, SnapshotHead, SnapshotWriter, StorageError, Written},
};

/// What the driver asks of the applier.
pub(crate) enum Work {
    /// Apply these, in order, and answer those who wait for some of them.
    Apply {
        /// Consecutive, right after the last that were applied.
        entries: Entries,
        /// Who waits, by index, ascending.
        waiting: Vec<(Index, Answerer)>,
    },
    /// Answer a query from the state as it is when its turn comes.
    Query {
        /// Encoded.
        query: Bytes,
        /// Who asks.
        answerer: Answerer,
    },
    /// Answer a retried request that was applied before.
    Repeat {
        /// Its name.
        request: RequestId,
        /// Who asks.
        answerer: Answerer,
    },
    /// Write all of it as it is now, and say so.
    Snapshot {
        /// What the snapshot says of itself.
        head: SnapshotHead,
        /// Where it is written.
        shelf: Shelf,
    },
    /// Put another's state in place of it, and say so.
    Restore {
        /// Checked already.
        file: SnapshotFile,
    },
}

/// The driver's end of an applier at work.
pub(crate) struct Applying {
    pub(crate) work: mpsc::Sender<Work>,
    /// How far it has come.
    pub(crate) applied: watch::Receiver<Index>,
    pub(crate) reports: mpsc::Receiver<Report>,
}

/// What the applier tells the driver beside how far it has come.
pub(crate) enum Report {
    /// The snapshot that was asked for.
    Snapshot(Result<Written, String>),
    /// The machine could not take over a snapshot, and is what no machine should be.
    Broken(String),
}

/// A state machine whose types are encoded.
pub(crate) trait EncodedMachine: Send {
    /// Encodes into the empty `output` what came of it. Says whether the command could be decoded.
    /// Deterministic, like the machine.
    fn apply(&mut self, command: &[u8], context: &ApplyContext, output: &mut Vec<u8>) -> bool;
    /// `None` when the query does not decode.
    fn query(&self, query: &[u8]) -> Option<Bytes>;
    /// See [`StateMachine::snapshot`].
    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()>;
    /// See [`StateMachine::restore`].
    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()>;
}

impl<M: StateMachine> EncodedMachine for M {
    fn apply(&mut self, command: &[u8], context: &ApplyContext, output: &mut Vec<u8>) -> bool {
        let Ok(command) = postcard::from_bytes(command) else { return false };
        let came_of_it = StateMachine::apply(self, command, context);
        match postcard::to_extend(&came_of_it, std::mem::take(output)) {
            Ok(encoded) => *output = encoded,
            Err(_) => return false,
        }
        true
    }

    fn query(&self, query: &[u8]) -> Option<Bytes> {
        let answer = StateMachine::query(self, postcard::from_bytes(query).ok()?);
        postcard::to_stdvec(&answer).ok().map(Bytes::from)
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        StateMachine::snapshot(self, writer)
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        StateMachine::restore(self, reader)
    }
}

/// The task's state.
pub(crate) struct Applier {
    machine: Box<dyn EncodedMachine>,
    replies: Sessions<Reply>,
    /// What the larger outputs of kept replies may weigh together. Room is taken and given back as
    /// entries are applied, so that all members keep and let go of the same.
    outputs: Arc<Budget>,
    applied: Index,
    answer_bytes_max: usize,
    /// Outputs are encoded here, and then take no more room than they need.
    scratch: Vec<u8>,
}

#[derive(Default)]
struct Reply {
    position: Position,
    output: Output,
}

impl Applier {
    pub(crate) fn new(machine: Box<dyn EncodedMachine>, consensus: &ConsensusConfig) -> Self {
        let replies = Sessions::new(consensus.session_limits());
        let answer_bytes_max = consensus.command_bytes_max as usize;
        let outputs = Budget::new(OUTPUTS_BYTES_MAX);
        let (applied, scratch) = (Index(0), Vec::new());
        Self { machine, replies, outputs, applied, answer_bytes_max, scratch }
    }

    /// Works until the driver is gone; says after each batch how far it has come. Gives itself
    /// back with a machine that no command has touched, for another log, if that is so.
    ///
    /// Whoever this task wakes may stand in a slot of its own thread that no other thread takes
    /// from: the driver too, which would then be silent for as long as the machine takes. So where
    /// there are other threads these are given all that waits before a state is written or read,
    /// and batches that together take long are not applied one right after the other.
    pub(crate) async fn run(
        mut self,
        mut work: mpsc::Receiver<Work>,
        applied: watch::Sender<Index>,
        reports: mpsc::Sender<Report>,
        clock: Arc<dyn Clock>,
    ) -> Option<Self> {
        let has_threads = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        let mut is_restored = self.applied > Index(0);
        // When what is done since it last waited or gave way was begun.
        let mut began = None;
        loop {
            let next = poll_fn(|context| {
                let next = work.poll_recv(context);
                if next.is_pending() {
                    began = None;
                }
                next
            });
            let Some(next) = next.await else { break };
            let before = self.applied;
            is_restored |= matches!(next, Work::Restore { .. });
            let is_whole = matches!(next, Work::Snapshot { .. } | Work::Restore { .. });
            if has_threads && began.is_none() {
                began = Some(clock.now());
            }
            let report = match has_threads && is_whole {
                true => task::block_in_place(|| self.carry_out(next)),
                false => self.carry_out(next),
            };
            let is_broken = matches!(report, Some(Report::Broken(_)));
            if let Some(report) = report
                && reports.send(report).await.is_err()
            {
                break;
            }
            if is_broken {
                return None;
            }
            if self.applied > before && applied.send(self.applied).is_err() {
                break;
            }
            let took = began.map(|began| clock.now().since(began));
            if took > Some(LONG) && !work.is_empty() {
                began = None;
                task::yield_now().await;
            }
        }
        if is_restored || !self.replies.is_empty() {
            return None;
        }
        self.applied = Index(0);
        Some(self)
    }

    /// Through where the machine has applied the log.
    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// The session table as the core keeps it.
    pub(crate) fn sessions(&self) -> Sessions<Index> {
        self.replies.map(|reply| reply.position.index)
    }

    /// Goes on from a snapshot, as if everything up to its position had been applied here.
    ///
    /// # Errors
    /// Of the disk or the machine, which is not to be used then.
    pub(crate) fn restore(&mut self, file: &SnapshotFile) -> io::Result<()> {
        let mut body = file.body();
        let kept = state::read(&mut body, self.replies.limits())?;
        self.outputs = Budget::new(OUTPUTS_BYTES_MAX);
        let outputs = &self.outputs;
        self.replies = kept.map(|reply| reply.restored(outputs));
        self.machine.restore(&mut body)?;
        // Also checks the digest, which is said at the end.
        let left = io::copy(&mut body, &mut io::sink())?;
        if left > 0 {
            let what = format!("the machine left {left} bytes of its own snapshot unread");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        self.applied = file.id().position.index;
        Ok(())
    }

    fn carry_out(&mut self, work: Work) -> Option<Report> {
        match work {
            Work::Apply { entries, waiting } => self.apply(&entries, waiting),
            Work::Query { query, answerer } => {
                let answer = self.machine.query(&query);
                let fits = answer.as_ref().is_none_or(|bytes| bytes.len() <= self.answer_bytes_max);
                answerer.answer(match fits {
                    true => Outcome::Queried { applied: self.applied, answer },
                    false => Outcome::Refused(Reason::TooLarge),
                });
            }
            Work::Repeat { request, answerer } => {
                answerer.answer(match self.replies.reply(request) {
                    Some(reply) => reply.outcome(),
                    // The floor has passed it since the core saw it.
                    None => Outcome::Unknown(Reason::SessionExpired),
                });
            }
            Work::Snapshot { head, shelf } => {
                let written = self.snapshot(head, &shelf);
                return Some(Report::Snapshot(written.map_err(|error| error.to_string())));
            }
            Work::Restore { file } => {
                let restored = self.restore(&file).err();
                return restored.map(|error| Report::Broken(error.to_string()));
            }
        }
        None
    }

    /// Streams sessions and machine into a draft: what is held of them at a time is one chunk.
    fn snapshot(&self, head: SnapshotHead, shelf: &Shelf) -> io::Result<Written> {
        let (position, applied) = (head.covers.position, self.applied);
        if position.index != applied {
            // It would stand for what it does not hold; without it nothing is lost.
            let what = format!("a snapshot at {position} of a machine that is at {applied}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let begun = shelf.draft().and_then(|draft| SnapshotWriter::begin(draft, head));
        let mut writer = begun.map_err(failed)?;
        state::write(&self.replies, &mut writer)?;
        self.machine.snapshot(&mut writer)?;
        writer.finish().map_err(failed)
    }

    fn apply(&mut self, entries: &Entries, waiting: Vec<(Index, Answerer)>) {
        let mut waiting = waiting.into_iter().peekable();
        for entry in entries {
            let index = entry.position.index;
            let is_awaited = waiting.peek().is_some_and(|(awaited, _)| *awaited == index);
            let Some(outcome) = self.apply_one(entry, is_awaited) else { continue };
            // A request retried through several members may have several callers.
            while let Some((_, answerer)) = waiting.next_if(|(awaited, _)| *awaited == index) {
                answerer.answer(outcome.clone());
            }
        }
    }

    /// What came of it is said only if somebody waits for it.
    fn apply_one(&mut self, entry: EntryRef<'_>, is_awaited: bool) -> Option<Outcome> {
        let position = entry.position;
        let next = self.applied.next();
        assert!(position.index == next, "entry {position} to apply where {next} is due");
        self.applied = position.index;
        let (machine, bytes_max) = (&mut self.machine, self.answer_bytes_max);
        let (outputs, scratch, mut fresh) = (&self.outputs, &mut self.scratch, None);
        let admission = self.replies.observe(entry, |kept| {
            kept.position = position;
            let Payload::Command { command, .. } = entry.payload else {
                kept.output = Output::Undecodable;
                return;
            };
            scratch.clear();
            match machine.apply(command, &ApplyContext { position }, scratch) {
                true if scratch.len() <= bytes_max => {
                    kept.output.set(scratch, outputs);
                    if is_awaited {
                        let given = || Bytes::copy_from_slice(scratch);
                        let output = Some(kept.output.bytes().unwrap_or_else(given));
                        fresh = Some(Outcome::Applied { position, output });
                    }
                }
                true => kept.output = Output::TooLarge,
                false => kept.output = Output::Undecodable,
            }
            if scratch.capacity() > SCRATCH_BYTES_MAX {
                *scratch = Vec::new();
            }
        });
        let refused = match admission {
            Admission::Fresh => None,
            Admission::Duplicate(reply) => return is_awaited.then(|| reply.outcome()),
            Admission::Expired | Admission::Full => Some(Reason::SessionExpired),
        };
        if !is_awaited || fresh.is_some() {
            return fresh;
        }
        Some(match (refused, entry.request()) {
            (Some(reason), _) => Outcome::Unknown(reason),
            (None, Some(request)) => match self.replies.reply(request) {
                Some(reply) => reply.outcome(),
                None => Outcome::Unknown(Reason::SessionExpired),
            },
            (None, None) => Outcome::Opened(SessionId(position.index)),
        })
    }
}

impl Reply {
    fn outcome(&self) -> Outcome {
        let position = self.position;
        match &self.output {
            kept @ (Output::Small { .. } | Output::Encoded { .. }) => {
                Outcome::Applied { position, output: kept.bytes() }
            }
            // It took effect: to call it refused would be a lie.
            Output::NotKept => Outcome::Unknown(Reason::Busy),
            Output::Undecodable => Outcome::Applied { position, output: None },
            Output::TooLarge => Outcome::Unknown(Reason::TooLarge),
        }
    }
}

fn failed(error: StorageError) -> io::Error {
    io::Error::other(error)
}

/// Far more than callers leave unanswered; whoever never moves its floor on fills it.
const OUTPUTS_BYTES_MAX: usize = 64 << 20;
/// A buffer that grew beyond this is given back.
const SCRATCH_BYTES_MAX: usize = 64 << 10;
/// What takes longer is worth a turn of the others behind it: a small part of any heartbeat.
const LONG: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use raft::{Entry, Term};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        GroupId, GroupKey, PeerId, StoreId,
        clock::Standing,
        group::answer::Answered,
        storage::{Memory, Owner, Store as _},
    };

    /// Answers every command with a mebibyte.
    struct Generous(Bytes);

    impl EncodedMachine for Generous {
        fn apply(&mut self, _: &[u8], _: &ApplyContext, output: &mut Vec<u8>) -> bool {
            output.extend_from_slice(&self.0);
            true
        }

        fn query(&self, _: &[u8]) -> Option<Bytes> {
            None
        }

        fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
            writer.write_all(&self.0)
        }

        fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
            let mut state = vec![0; self.0.len()];
            reader.read_exact(&mut state)?;
            self.0 = state.into();
            Ok(())
        }
    }

    struct Scene {
        applier: Applier,
        last: Index,
    }

    impl Scene {
        fn apply(&mut self, payload: Payload) -> Outcome {
            let index = self.last.next();
            self.last = index;
            let (answerer, answer) = caller();
            let entries = vec![Entry { position: Position { term: Term(1), index }, payload }];
            self.applier.carry_out(Work::Apply {
                entries: entries.into(),
                waiting: vec![(index, answerer)],
            });
            answered(answer)
        }

        fn command(&mut self, sequence: u64, floor: u64) -> Outcome {
            let request = RequestId { session: SessionId(Index(1)), sequence };
            self.apply(Payload::Command { request, floor, command: Bytes::new() })
        }

        fn repeat(&mut self, sequence: u64) -> Outcome {
            let request = RequestId { session: SessionId(Index(1)), sequence };
            let (answerer, answer) = caller();
            self.applier.carry_out(Work::Repeat { request, answerer });
            answered(answer)
        }
    }

    fn caller() -> (Answerer, oneshot::Receiver<Answered>) {
        let (reply, answer) = oneshot::channel();
        (Answerer::local(reply, raft::NodeId::small(1).peer), answer)
    }

    fn answered(mut answer: oneshot::Receiver<Answered>) -> Outcome {
        answer.try_recv().expect("it is answered at once").outcome
    }

    fn shelf() -> Shelf {
        let key = GroupKey::from_secret("applier");
        let group = GroupId::of(&key, "generous", &ConsensusConfig::default());
        let owner = Owner { group, peer: PeerId([1; 32]), fresh: StoreId(1) };
        let storage = Box::new(Memory).open(owner).expect("memory opens");
        storage.shelf().expect("memory keeps snapshots")
    }

    fn head(applied: u64) -> SnapshotHead {
        let position = Position { term: Term(1), index: Index(applied) };
        SnapshotHead {
            group: GroupId::of(&GroupKey::from_secret("applier"), "", &ConsensusConfig::default()),
            lineage: postcard::from_bytes(&[3; 32]).expect("32 bytes are a lineage"),
            machine: "generous".into(),
            covers: raft::Snapshot { position, ..raft::Snapshot::default() },
        }
    }

    /// What the applier writes when it is told to.
    fn snapshot(scene: &mut Scene, shelf: &Shelf) -> SnapshotFile {
        let work = Work::Snapshot { head: head(scene.last.0), shelf: shelf.clone() };
        let Some(Report::Snapshot(Ok(mut written))) = scene.applier.carry_out(work) else {
            panic!("memory takes all")
        };
        shelf.put(&mut written).expect("memory takes all");
        shelf.show(Some(written.id()));
        shelf.open().expect("it is there").expect("it is there")
    }

    #[test]
    fn a_restored_applier_answers_a_retry_from_before_the_snapshot_and_applies_what_follows() {
        let machine = Generous(vec![7; 1 << 20].into());
        let applier = Applier::new(Box::new(machine), &ConsensusConfig::default());
        let mut scene = Scene { applier, last: Index(0) };
        scene.apply(Payload::OpenSession { nonce: 0 });
        let first = scene.command(1, 0);
        assert!(is_applied(&scene.command(2, 0)));
        let file = snapshot(&mut scene, &shelf());

        let fresh = Box::new(Generous(vec![0; 1 << 20].into()));
        let applier = Applier::new(fresh, &ConsensusConfig::default());
        let mut other = Scene { applier, last: scene.last };
        other.applier.carry_out(Work::Restore { file });
        assert_eq!(other.applier.applied(), scene.last);
        assert_eq!(other.command(1, 0), first, "answered as it was, and not applied again");
        assert_eq!(other.repeat(1), first);
        assert_eq!(other.command(3, 0), scene_after(&mut scene), "the state is the same");
        // Room is taken for what was kept, or members would not let go of the same.
        let kept = (OUTPUTS_BYTES_MAX >> 20) as u64;
        (4..=kept).for_each(|sequence| assert!(is_applied(&other.command(sequence, 0))));
        other.command(kept + 1, 0);
        assert_eq!(other.repeat(kept + 1), Outcome::Unknown(Reason::Busy));
    }

    /// The same two entries as the other has been given, at the same places.
    fn scene_after(scene: &mut Scene) -> Outcome {
        scene.command(1, 0);
        scene.command(3, 0)
    }

    #[test]
    fn a_snapshot_of_another_state_than_the_machines_is_not_written() {
        let applier = Applier::new(Box::new(Generous("x".into())), &ConsensusConfig::default());
        let mut scene = Scene { applier, last: Index(0) };
        scene.apply(Payload::OpenSession { nonce: 0 });
        let work = Work::Snapshot { head: head(2), shelf: shelf() };
        let Some(Report::Snapshot(Err(error))) = scene.applier.carry_out(work) else {
            panic!("the machine is at 1")
        };
        assert!(error.contains("at 1.2 of a machine that is at 1"), "{error}");
    }

    #[test]
    fn a_machine_that_cannot_take_a_snapshot_over_is_reported_as_broken() {
        let machine = Generous(vec![7; 10].into());
        let applier = Applier::new(Box::new(machine), &ConsensusConfig::default());
        let mut scene = Scene { applier, last: Index(0) };
        scene.apply(Payload::OpenSession { nonce: 0 });
        let shelf = shelf();
        for size in [9, 11] {
            let file = snapshot(&mut scene, &shelf);
            let other = Box::new(Generous(vec![0; size].into()));
            let mut applier = Applier::new(other, &ConsensusConfig::default());
            let report = applier.carry_out(Work::Restore { file });
            assert!(matches!(report, Some(Report::Broken(_))), "{size} of 10 bytes");
        }
        let narrow = ConsensusConfig { sessions_max: 5, ..ConsensusConfig::default() };
        let file = snapshot(&mut scene, &shelf);
        let other = Box::new(Generous(vec![0; 10].into()));
        let mut applier = Applier::new(other, &narrow);
        let Some(Report::Broken(why)) = applier.carry_out(Work::Restore { file }) else {
            panic!("members have not agreed on these limits")
        };
        assert!(why.contains("sessions_max: 4096"), "{why}");
    }

    fn is_applied(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Applied { output: Some(_), .. })
    }

    #[test]
    fn outputs_kept_for_retries_have_a_limit_in_bytes_and_the_first_answer_does_not_suffer() {
        let machine = Generous(vec![7; 1 << 20].into());
        let applier = Applier::new(Box::new(machine), &ConsensusConfig::default());
        let mut scene = Scene { applier, last: Index(0) };
        scene.apply(Payload::OpenSession { nonce: 0 });
        let kept = (OUTPUTS_BYTES_MAX >> 20) as u64;
        for sequence in 1..=kept + 1 {
            assert!(is_applied(&scene.command(sequence, 0)), "{sequence}");
        }
        assert!(is_applied(&scene.repeat(kept)));
        let busy = Outcome::Unknown(Reason::Busy);
        assert_eq!(scene.repeat(kept + 1), busy, "it took effect, and nobody knows how");
        assert_eq!(scene.command(kept + 1, 0), busy, "the same when its entry is repeated");
        // The caller has heard of the first two: there is room for two more.
        for sequence in [kept + 2, kept + 3] {
            assert!(is_applied(&scene.command(sequence, 3)));
            assert!(is_applied(&scene.repeat(sequence)), "{sequence}");
        }
    }

    /// Takes its time for every command, and for a state, or a command that says something, until
    /// word comes that another task had a turn.
    struct Slow {
        clock: Standing,
        each: Duration,
        word: std::sync::mpsc::Receiver<()>,
    }

    impl Slow {
        fn wait(&self) -> io::Result<()> {
            self.word.recv_timeout(Duration::from_secs(20)).map_err(io::Error::other)
        }
    }

    impl EncodedMachine for Slow {
        fn apply(&mut self, command: &[u8], _: &ApplyContext, _: &mut Vec<u8>) -> bool {
            self.clock.advance(self.each);
            command.is_empty() || self.wait().is_ok()
        }

        fn query(&self, _: &[u8]) -> Option<Bytes> {
            None
        }

        fn snapshot(&self, _: &mut dyn io::Write) -> io::Result<()> {
            self.wait()
        }

        fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
            self.wait()
        }
    }

    /// Has a slow machine do this, to which a task gives word that is woken once something is
    /// applied. Each command takes so long. Yields what is reported.
    async fn carried_out(works: Vec<Work>, each: Duration) -> Vec<Report> {
        let (word, heard) = std::sync::mpsc::channel();
        let (work, to_do) = mpsc::channel(works.len());
        let (progress, mut applied) = watch::channel(Index(0));
        let (report, mut reports) = mpsc::channel(1);
        let (waits, is_waiting) = oneshot::channel();
        let woken = tokio::spawn(async move {
            let mut changed = pin!(applied.changed());
            let seen = poll_fn(|context| Poll::Ready(changed.as_mut().poll(context))).await;
            assert!(seen.is_pending(), "nothing is applied yet");
            waits.send(()).expect("the test waits for it");
            changed.await.expect("something is applied");
            word.send(()).expect("the machine is there until it is heard");
        });
        is_waiting.await.expect("it waits");
        for next in works {
            assert!(work.try_send(next).is_ok(), "there is room for all");
        }
        drop(work);
        let clock = Standing::default();
        let machine = Box::new(Slow { clock: clock.clone(), each, word: heard });
        let applier = Applier::new(machine, &ConsensusConfig::default());
        let applying = tokio::spawn(applier.run(to_do, progress, report, Arc::new(clock)));
        let mut reported = Vec::new();
        while let Some(report) = reports.recv().await {
            reported.push(report);
        }
        woken.await.expect("it gives word");
        drop(applying.await.expect("it does not panic"));
        reported
    }

    /// Consecutive entries with this in them.
    fn batch(first: u64, payloads: Vec<Payload>, waiting: Vec<(Index, Answerer)>) -> Work {
        let entry = |(index, payload)| Entry {
            position: Position { term: Term(1), index: Index(index) },
            payload,
        };
        Work::Apply { entries: (first..).zip(payloads).map(entry).collect(), waiting }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn whoever_hears_what_is_applied_has_a_turn_while_a_state_is_written_or_read() {
        let machine = Box::new(Generous(Bytes::new()));
        let applier = Applier::new(machine, &ConsensusConfig::default());
        let (mut scene, shelf) = (Scene { applier, last: Index(0) }, shelf());
        scene.apply(Payload::OpenSession { nonce: 0 });
        let file = snapshot(&mut scene, &shelf);
        let first = || batch(1, vec![Payload::OpenSession { nonce: 0 }], Vec::new());
        let write = Work::Snapshot { head: head(1), shelf };
        let written = carried_out(vec![first(), write], LONG).await;
        assert!(matches!(written[..], [Report::Snapshot(Ok(_))]), "word came in time");
        let read = carried_out(vec![first(), Work::Restore { file }], LONG).await;
        assert!(read.is_empty(), "word came in time");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn whoever_hears_what_is_applied_has_a_turn_between_batches_that_take_long_together() {
        let command = |sequence, command: &'static str| {
            let request = RequestId { session: SessionId(Index(1)), sequence };
            Payload::Command { request, floor: 0, command: command.into() }
        };
        // As many short batches before the last as take long.
        for (each, batches) in [(2 * LONG, 1), (LONG * 3 / 5, 2)] {
            let session = Payload::OpenSession { nonce: 0 };
            let mut works = vec![batch(1, vec![session, command(1, "")], Vec::new())];
            works.extend((2..=batches).map(|n| batch(n + 1, vec![command(n, "")], Vec::new())));
            let (answerer, answer) = caller();
            let (last, index) = (command(batches + 1, "waits"), batches + 2);
            works.push(batch(index, vec![last], vec![(Index(index), answerer)]));
            carried_out(works, each).await;
            assert!(is_applied(&answered(answer)), "word came in time after {batches}");
        }
    }
}
