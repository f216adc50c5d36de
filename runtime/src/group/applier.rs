//! Applies committed entries to the machine, in a task of its own.
//!
//! A slow machine delays answers, never heartbeats. Owns the machine and the replies of open
//! sessions; while it writes them into a snapshot, or reads them from one, nothing is applied.
//! Invariant: entries are applied once each, in order of their index, and what is kept and
//! answered follows from nothing but the log.

mod output;
mod state;
#[cfg(test)]
mod tests;

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
    task::{self, JoinHandle},
};

use crate::{
    ApplyContext, Clock, ConsensusConfig, StateMachine,
    group::{
        alarm::Alarm,
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
    /// Ends as [`Applier::run`] does.
    pub(crate) task: JoinHandle<Option<Applier>>,
}

impl Applying {
    /// Gives it no more to do and waits until it is done, but not for ever. `false` if it is still
    /// at work: then it ends after what it is at, and the rest is answered as unknown.
    pub(crate) async fn finish(self, clock: &dyn Clock) -> bool {
        let Self { work, task, applied: _applied, reports: _reports } = self;
        drop(work);
        let bound = clock.sleep_until(clock.now().plus(FINISH_BOUND));
        tokio::select! {
            biased;
            // A panic is told elsewhere.
            _ = task => true,
            () = bound => {
                tracing::error!("the machine is still at work, and is waited for no longer");
                false
            }
        }
    }
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
    pub(crate) async fn run(
        mut self,
        mut work: mpsc::Receiver<Work>,
        applied: watch::Sender<Index>,
        reports: mpsc::Sender<Report>,
        clock: Arc<dyn Clock>,
        alarm: Alarm,
    ) -> Option<Self> {
        // Lent, so that the driver hears of a panic before it finds nobody here.
        let working = self.work_off(&mut work, &applied, &reports, &*clock);
        let is_restored = alarm.caught("its machine or the applier", working).await??;
        if is_restored || !self.replies.is_empty() {
            return None;
        }
        self.applied = Index(0);
        Some(self)
    }

    /// Whether the machine's state has come from a snapshot; `None` if it is broken.
    ///
    /// Whoever this task wakes may stand in a slot of its own thread that no other thread takes
    /// from: the driver too, which would then be silent for as long as the machine takes. So where
    /// there are other threads these are given all that waits before a state is written or read,
    /// and batches that together take long are not applied one right after the other.
    async fn work_off(
        &mut self,
        work: &mut mpsc::Receiver<Work>,
        applied: &watch::Sender<Index>,
        reports: &mpsc::Sender<Report>,
        clock: &dyn Clock,
    ) -> Option<bool> {
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
        Some(is_restored)
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
/// Far above what is handed over at a time, for a machine that keeps up. As long as for a disk.
const FINISH_BOUND: Duration = Duration::from_secs(10);
/// What takes longer is worth a turn of the others behind it: a small part of any heartbeat.
const LONG: Duration = Duration::from_millis(1);
