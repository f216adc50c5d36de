//! The thread that writes: takes what is queued, commits it as one group, says so.
//!
//! While one sync runs, the next group gathers; in a pause the thread seals the stream and
//! prepares the next segment. Knows nothing of the meaning of a write.
//!
//! Invariant: after the first error nothing is written any more, and the error is all that is
//! ever reported. A disk that hangs for longer than anyone can wait is such an error; only what
//! is under way at that time may reach it yet. Once the end is said, all files of the store are
//! closed.

use std::{
    collections::VecDeque,
    io, mem,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures_util::task::AtomicWaker;
use raft::{Position, StoreId, Write, WriteId};

use super::{Founding, Rest, StorageError, Written, stream::Stream};

/// The near end of the thread. Dropping it has the thread finish what is queued and seal the
/// stream.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    mark_wait_max: Duration,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(stream: Stream, path: PathBuf) -> Result<Self, StorageError> {
        Self::bounded(stream, path, MARK_WAIT_MAX)
    }

    /// The same, with that bound for who waits for a mark.
    fn bounded(
        stream: Stream,
        path: PathBuf,
        mark_wait_max: Duration,
    ) -> Result<Self, StorageError> {
        let shared = Arc::new(Shared { path, ..Shared::default() });
        let sweeper = Arc::downgrade(&shared);
        stream.shelf().sweep_by(move |name| {
            if let Some(shared) = sweeper.upgrade() {
                shared.push(Job::Discard(name));
            }
        });
        let worker = Worker { shared: Arc::clone(&shared), stream, jobs: Vec::new() };
        // The thread is not joined: it says itself when it is over.
        thread::Builder::new()
            .name("tessera-store".into())
            .spawn(move || {
                // However this thread ends, a member that waits for it must hear of it; and
                // only once the worker is gone, with its files and the lock.
                let _last_word = LastWord(Arc::clone(&worker.shared));
                worker.run();
            })
            .map_err(StorageError::io(&shared.path, "start the writer of"))?;
        Ok(Self { shared, mark_wait_max })
    }

    pub(crate) fn submit(&self, id: WriteId, write: Write) {
        self.push(Job::Write(id, write));
    }

    /// Writes and seals the founding before it returns.
    pub(crate) fn found(&self, founding: Founding) -> Result<(), StorageError> {
        self.mark(Mark::Founding(founding))
    }

    /// Makes a new store of it before it returns. What was submitted before is never reported.
    pub(crate) fn renew(&self, fresh: StoreId) -> Result<(), StorageError> {
        self.mark(Mark::Renewal(fresh))
    }

    /// See [`super::Storage::keep`].
    pub(crate) fn keep(&self, written: Written) {
        self.push(Job::Keep(written));
    }

    /// See [`super::Storage::install`].
    pub(crate) fn install(&self, written: Written, rest: Rest) -> Result<(), StorageError> {
        self.mark(Mark::Snapshot(written, rest))
    }

    /// See [`super::Storage::poll_kept`].
    pub(crate) fn poll_kept(&self, context: &mut Context<'_>) -> Poll<Position> {
        // Registered before looking, as above; whoever waits for writes waits for this as well.
        self.shared.waker.register(context.waker());
        self.shared.state().kept.take().map_or(Poll::Pending, Poll::Ready)
    }

    fn mark(&self, mark: Mark) -> Result<(), StorageError> {
        let (done, marked) = mpsc::sync_channel(1);
        self.push(Job::Mark(mark, done));
        match marked.recv_timeout(self.mark_wait_max) {
            Ok(outcome) => outcome,
            // The thread drops the sender when it has failed before.
            Err(RecvTimeoutError::Disconnected) => Err(self.shared.failure()),
            Err(RecvTimeoutError::Timeout) => Err(self.shared.give_up()),
        }
    }

    /// See [`super::Storage::poll_persisted`].
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        // Registered before looking, or a word said between the two would be lost.
        self.shared.waker.register(context.waker());
        let mut state = self.shared.state();
        if let Some(error) = &state.failed {
            return Poll::Ready(Err(error.clone()));
        }
        state.durable.take().map_or(Poll::Pending, |id| Poll::Ready(Ok(id)))
    }

    /// See [`super::Storage::poll_closed`].
    pub(crate) fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        // Registered before looking, as above.
        self.shared.closing.register(context.waker());
        let mut state = self.shared.state();
        state.closed = true;
        let ended = state.ended;
        drop(state);
        self.shared.work.notify_one();
        if ended { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) fn backlog_bytes(&self) -> usize {
        self.shared.state().backlog_bytes
    }

    fn push(&self, job: Job) {
        self.shared.push(job);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let given_up = mem::replace(&mut state.closed, true);
        self.shared.work.notify_one();
        // Who has waited for the end already, and gave up, is not made to wait again.
        if given_up {
            return;
        }
        let runs = |state: &mut State| !state.ended;
        let waited = self.shared.end.wait_timeout_while(state, DROP_WAIT_MAX, runs);
        if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            tracing::error!(
                store = %self.shared.path.display(),
                "the disk hangs: the store stays in use until its writer has ended",
            );
        }
    }
}

#[derive(Default)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    work: Condvar,
    end: Condvar,
    waker: AtomicWaker,
    closing: AtomicWaker,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    backlog_bytes: usize,
    closed: bool,
    /// Durable and not yet reported.
    durable: Option<WriteId>,
    /// The snapshot that the log starts after, if it is not yet reported.
    kept: Option<Position>,
    failed: Option<StorageError>,
    /// The thread is over, and the files are closed.
    ended: bool,
}

enum Job {
    Write(WriteId, Write),
    Keep(Written),
    /// Takes an abandoned draft of that name away.
    Discard(String),
    Mark(Mark, mpsc::SyncSender<Result<(), StorageError>>),
}

/// What happens seldom, and is waited for.
enum Mark {
    Founding(Founding),
    Renewal(StoreId),
    Snapshot(Written, Rest),
}

/// What the thread does next.
enum Turn {
    Group(Vec<Job>),
    Pause,
    Close,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete in itself; a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a job to the thread, unless nothing is written any more.
    fn push(&self, job: Job) {
        let mut state = self.state();
        if state.failed.is_some() {
            // The end of a job tells who waits for it, and a draft is left for the next opening.
            return;
        }
        state.backlog_bytes += job.weight_bytes();
        state.jobs.push_back(job);
        drop(state);
        self.work.notify_one();
    }

    /// The error on record.
    fn failure(&self) -> StorageError {
        let stopped = || StorageError::Stopped { path: self.path.clone() };
        self.state().failed.clone().unwrap_or_else(stopped)
    }

    /// Errs once the store has failed.
    fn standing(&self) -> Result<(), StorageError> {
        self.state().failed.clone().map_or(Ok(()), Err)
    }

    /// The disk hangs, so that nobody knows what becomes of its writes: the store has failed, as
    /// by an error of the disk. What is queued is left to the thread, for to drop it may take the
    /// disk as well.
    fn give_up(&self) -> StorageError {
        let hangs = io::Error::new(io::ErrorKind::TimedOut, "the disk hangs");
        let error = StorageError::io(&self.path, "make a change durable in")(hangs);
        let error = self.state().failed.get_or_insert(error).clone();
        tracing::error!(%error, "the store is given up; nothing more is written to it");
        self.work.notify_one();
        self.waker.wake();
        error
    }

    fn fail(&self, error: StorageError) {
        let mut state = self.state();
        state.failed.get_or_insert(error);
        // Whoever waits for a job in the queue learns it from the job's end.
        let jobs = mem::take(&mut state.jobs);
        state.backlog_bytes = 0;
        drop(state);
        drop(jobs);
        self.waker.wake();
    }

    /// Waits for work; when there is something to settle, not for long. Errs once the store was
    /// given up.
    fn turn(&self, settled: bool) -> Result<Turn, StorageError> {
        let mut state = self.state();
        let idle =
            |state: &mut State| state.jobs.is_empty() && !state.closed && state.failed.is_none();
        if settled {
            state = self.work.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        } else {
            let waited = self.work.wait_timeout_while(state, PAUSE, idle);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let mut weight_bytes = 0;
        let mut group = Vec::new();
        while weight_bytes < GROUP_BYTES_MAX
            && let Some(job) = state.jobs.pop_front()
        {
            weight_bytes += job.weight_bytes();
            group.push(job);
        }
        Ok(match (group.is_empty(), state.closed) {
            (false, _) => Turn::Group(group),
            (true, true) => Turn::Close,
            (true, false) => Turn::Pause,
        })
    }
}

impl Job {
    fn weight_bytes(&self) -> usize {
        let content = match self {
            Self::Write(_, Write::Entries { entries, .. }) => entries.view().weight_bytes(),
            Self::Write(_, Write::HardState(_))
            | Self::Keep(_)
            | Self::Discard(_)
            | Self::Mark(..) => 0,
        };
        content + JOB_OVERHEAD_BYTES
    }
}

struct Worker {
    shared: Arc<Shared>,
    stream: Stream,
    /// The group at work. After an error it stays until the error is on record, so that whoever
    /// waits for one of these jobs finds the reason.
    jobs: Vec<Job>,
}

impl Worker {
    fn run(mut self) {
        if let Err(error) = self.serve() {
            tracing::error!(%error, "the store failed; nothing more is written to it");
            self.shared.fail(error);
        }
    }

    fn serve(&mut self) -> Result<(), StorageError> {
        loop {
            match self.shared.turn(self.stream.is_settled())? {
                Turn::Group(jobs) => {
                    self.jobs = jobs;
                    self.commit()?;
                }
                Turn::Pause => {
                    self.stream.seal()?;
                    self.stream.prepare()?;
                }
                Turn::Close => return self.stream.seal(),
            }
        }
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        let (mut newest, mut marks, mut renews) = (None, false, false);
        let mut kept = None;
        for job in &mut self.jobs {
            match job {
                Job::Write(id, write) => {
                    self.stream.append(write)?;
                    newest = Some(*id);
                }
                Job::Keep(written) => {
                    let is_news = self.stream.adopt(written, Rest::Stays)?;
                    kept = is_news.then(|| written.id().position).or(kept);
                }
                // Comes behind all that is waited for.
                Job::Discard(_) => {}
                Job::Mark(Mark::Snapshot(written, rest), _) => {
                    self.stream.adopt(written, *rest)?;
                }
                Job::Mark(Mark::Founding(founding), _) => {
                    self.stream.append_founding(founding)?;
                    marks = true;
                }
                Job::Mark(Mark::Renewal(fresh), _) => {
                    self.stream.append_renewal(*fresh)?;
                    (newest, marks, renews) = (None, true, true);
                }
            }
        }
        self.stream.commit()?;
        // The disk may have hung for so long that the store was given up.
        self.shared.standing()?;
        if marks {
            self.stream.seal()?;
        }
        let weight_bytes: usize = self.jobs.iter().map(Job::weight_bytes).sum();
        let mut state = self.shared.state();
        state.backlog_bytes -= weight_bytes;
        state.durable = newest.or(state.durable.filter(|_| !renews));
        state.kept = kept.or(state.kept);
        drop(state);
        self.shared.waker.wake();
        let mut abandoned = Vec::new();
        for job in self.jobs.drain(..) {
            match job {
                Job::Mark(_, done) => {
                    // Nobody waits any more: it is durable all the same.
                    let _ = done.send(Ok(()));
                }
                Job::Discard(name) => abandoned.push(name),
                Job::Write(..) | Job::Keep(_) => {}
            }
        }
        abandoned.iter().for_each(|name| self.stream.shelf().sweep(name));
        Ok(())
    }
}

/// Reports the end of the thread, also when it panics.
struct LastWord(Arc<Shared>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(store = %self.0.path.display(), "the writer panicked");
        }
        self.0.fail(StorageError::Stopped { path: self.0.path.clone() });
        self.0.state().ended = true;
        self.0.end.notify_all();
        self.0.closing.wake();
    }
}

/// A pause of this length ends a burst: the seal costs a sync that nobody waits for then.
const PAUSE: Duration = Duration::from_millis(10);
/// A group's weight; what is queued beyond it waits for the next, so that acknowledgements flow.
const GROUP_BYTES_MAX: usize = 4 << 20;
const JOB_OVERHEAD_BYTES: usize = 64;
/// How long a disk may hold up the driver, which waits for a founding, a renewal and another's
/// snapshot: far longer than a slow one takes for all that may be queued before, some thirty syncs.
const MARK_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a store that is dropped without being closed may hold up who drops it.
const DROP_WAIT_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use raft::{HardState, Term};

    use super::*;
    use crate::storage::{
        Contents,
        crash::{SEGMENT_BYTES, open_image},
        disk::open_stream,
        model::{Model, Step},
        samples::{founding, owner, position},
        snapshot::tests as snapshots,
    };

    const VOTE: HardState = HardState { term: Term(1), vote: None };
    const BOUND: Duration = Duration::from_millis(50);

    /// A store whose disk hangs from now on, and a snapshot to install in it.
    fn hanging() -> (Model, Writer, Written) {
        let model = Model::default();
        let opened = open_stream(Box::new(model.clone()), owner(7), SEGMENT_BYTES);
        let (stream, _) = opened.expect("nothing is there");
        let written = snapshots::written(stream.shelf(), position(1, 9), b"body");
        let writer = Writer::bounded(stream, "model".into(), BOUND).expect("a thread");
        model.hold_up(true);
        (model, writer, written)
    }

    fn writes(model: &Model) -> usize {
        model.trace().0.iter().filter(|step| matches!(step, Step::Write { .. })).count()
    }

    /// Leaves a job, and waits until it is written and its sync hangs.
    fn begin(model: &Model, writer: &Writer, job: Job) {
        let before = writes(model);
        writer.push(job);
        while writes(model) == before {
            thread::yield_now();
        }
    }

    /// Lets the disk go on, and waits for the end of the thread.
    fn release(model: &Model, writer: &Writer) {
        model.hold_up(false);
        while writer.poll_closed(&mut Context::from_waker(Waker::noop())).is_pending() {
            thread::yield_now();
        }
    }

    #[test]
    fn who_waits_for_a_disk_that_hangs_is_told_so_and_what_was_waited_for_never_begins() {
        type Wait = fn(&Writer, Written) -> Result<(), StorageError>;
        let waits: [Wait; 3] = [
            |writer, _| writer.found(founding(1)),
            |writer, _| writer.renew(StoreId(77)),
            |writer, written| writer.install(written, Rest::GivesWay),
        ];
        for wait in waits {
            let (model, writer, written) = hanging();
            begin(&model, &writer, Job::Write(WriteId(1), Write::HardState(VOTE)));
            let under_way = writes(&model);
            let error = wait(&writer, written).expect_err("the disk hangs").to_string();
            assert_eq!(error, "cannot make a change durable in model: the disk hangs");
            writer.submit(WriteId(2), Write::HardState(HardState { term: Term(2), vote: None }));
            release(&model, &writer);
            assert_eq!(writes(&model), under_way, "written after the store had failed");
            let Poll::Ready(Err(again)) = writer.poll(&mut Context::from_waker(Waker::noop()))
            else {
                panic!("what became durable later is told to nobody")
            };
            assert_eq!(again.to_string(), error, "it has failed for ever");
            let contents = open_image(&model.image()).expect("whole");
            assert_eq!(contents, Contents { hard_state: VOTE, ..Contents::default() });
        }
    }

    #[test]
    fn what_is_under_way_when_a_store_is_given_up_is_told_to_nobody_and_nothing_follows_it() {
        let (model, writer, _written) = hanging();
        let (done, marked) = mpsc::sync_channel(1);
        begin(&model, &writer, Job::Mark(Mark::Founding(founding(1)), done));
        let under_way = writes(&model);
        let error = writer.shared.give_up();
        release(&model, &writer);
        assert_eq!(writes(&model), under_way, "not even a seal");
        marked.recv().expect_err("nobody is told that it is durable");
        let again = writer.found(founding(1)).expect_err("it has failed for ever");
        assert_eq!(again.to_string(), error.to_string());
        let contents = open_image(&model.image()).expect("whole");
        assert_eq!(contents.founding, Some(founding(1)), "it has become durable all the same");
    }

    #[test]
    fn a_draft_of_no_use_holds_up_the_thread_at_most_and_a_store_that_failed_nobody() {
        let (model, writer, written) = hanging();
        model.hold_up(false);
        model.hold_up_names(true);
        drop(written);
        while !model.hangs_at("draft") {
            thread::yield_now();
        }
        model.hold_up_names(false);
        while model.image().keys().any(|name| name.starts_with("draft")) {
            thread::yield_now();
        }
        drop(writer);

        let (model, writer, written) = hanging();
        writer.shared.give_up();
        model.hold_up_names(true);
        writer.keep(written);
        assert!(!model.hangs_at("draft"), "it is for the next opening");
        model.hold_up_names(false);
        release(&model, &writer);
    }
}
