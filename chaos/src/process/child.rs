//! One node as the harness holds it: its process, and the way to speak with it.
//!
//! Knows no group. Invariant: a signal is sent only while the process is certainly ours: it is
//! reaped and signalled under one lock, so that its number cannot have passed to another.

mod pipes;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc as blocking,
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use runtime::{Clock, Time};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::{
    cluster::{ClusterError, NodeEvent},
    fault::NodeNumber,
    process::{
        HostClock,
        control::{Answer, Ask, Request, to_line},
        spawner,
    },
};

/// A running node.
pub(super) struct Child {
    node: NodeNumber,
    pid: Pid,
    shared: Arc<Shared>,
    requests: blocking::SyncSender<Vec<u8>>,
    ids: AtomicU64,
    log: PathBuf,
    ended: watch::Receiver<Option<ExitStatus>>,
}

type Pending = BTreeMap<u64, oneshot::Sender<Result<Answer, String>>>;

/// What the pipes' threads need too.
struct Shared {
    process: Mutex<std::process::Child>,
    pending: Mutex<Pending>,
    /// Whether its end is no news: it is our doing, or whoever starts it learns of it.
    condemned: AtomicBool,
}

impl Child {
    /// Starts the program as a node. It waits for its first request.
    ///
    /// # Errors
    /// What the host has not got for it.
    pub(super) async fn start(
        program: &Path,
        node: NodeNumber,
        log: PathBuf,
        events: mpsc::Sender<NodeEvent>,
    ) -> Result<Self, ClusterError> {
        let failed =
            |reason: String| ClusterError::World(format!("node {node} did not start: {reason}"));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.map_err(|error| failed(format!("{}: {error}", log.display())))?;
        let mut command = Command::new(program);
        command
            .args(["node", "--parent", &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            // Ctrl-C at the terminal is the harness's affair.
            .process_group(0);
        let spawned = spawner::spawn(command).await;
        let mut process =
            spawned.map_err(|error| failed(format!("{}: {error}", program.display())))?;
        let pid = i32::try_from(process.id()).map(Pid::from_raw);
        let pid = pid.map_err(|_| failed("its process number is out of range".into()))?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let shared = Arc::new(Shared {
            process: Mutex::new(process),
            pending: Mutex::default(),
            condemned: AtomicBool::new(true),
        });
        let (Some(input), Some(output)) = (input, output) else {
            return Err(failed("it has no pipes".into()));
        };
        let (requests, to_write) = blocking::sync_channel(REQUESTS_MAX);
        let (ending, ended) = watch::channel(None);
        let reader =
            pipes::Reader { node, log: log.clone(), shared: shared.clone(), events, ending };
        pipes::start(input, to_write, output, reader)
            .map_err(|error| failed(format!("no thread for its pipes: {error}")))?;
        Ok(Self { node, pid, shared, requests, ids: AtomicU64::new(0), log, ended })
    }

    /// It listens: from now on its end is told, unless it is our doing.
    pub(super) fn listens(&self) {
        self.shared.condemned.store(false, Ordering::SeqCst);
    }

    /// Asks, and waits for the answer no longer than `bound`.
    pub(super) async fn ask(
        &self,
        ask: Ask,
        what: &'static str,
        bound: Duration,
    ) -> Result<Answer, ClusterError> {
        self.ask_of(FIRST_GROUP, ask, what, bound).await
    }

    /// The same of the node as a member of one of its groups.
    pub(super) async fn ask_of(
        &self,
        group: u64,
        ask: Ask,
        what: &'static str,
        bound: Duration,
    ) -> Result<Answer, ClusterError> {
        let node = self.node;
        let gone = |reason: &str| ClusterError::Gone { node, reason: reason.into() };
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        lock(&self.shared.pending).insert(id, reply);
        let sent = self.requests.try_send(to_line(&Request { id, group, ask }));
        let answered = match sent {
            Ok(()) => timeout(bound, answer).await,
            Err(_) => Ok(Ok(Err("its control channel is closed or full".into()))),
        };
        lock(&self.shared.pending).remove(&id);
        match answered {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(reason))) => Err(ClusterError::Refused { node, reason }),
            Ok(Err(_)) => Err(gone("it ended before it answered")),
            Err(_) => Err(ClusterError::Late {
                node,
                what,
                bound_ms: u64::try_from(bound.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// Kills it.
    pub(super) fn strike(&self) -> Result<(), ClusterError> {
        self.signal(Signal::SIGKILL).map(drop)
    }

    /// Resolves once it is reaped and was seen to have died of that.
    pub(super) async fn has_died(&self) -> Result<(), ClusterError> {
        let status = self.ended(KILL_BOUND).await?;
        match status.signal() {
            Some(signal) if signal == Signal::SIGKILL as i32 => Ok(()),
            _ => Err(self.no_fault(format!("it ended by itself: {status}"))),
        }
    }

    /// Stops it; resolves once the kernel says that it stands still.
    pub(super) async fn pause(&self) -> Result<Time, ClusterError> {
        let at = self.signal(Signal::SIGSTOP)?;
        let deadline = at.plus(PAUSE_BOUND);
        while HostClock.now() < deadline {
            if self.state() == Some('T') {
                return Ok(at);
            }
            HostClock.sleep_until(HostClock.now().plus(PAUSE_POLL)).await;
        }
        Err(self.no_fault(format!("its state is {:?}, not 'T'", self.state())))
    }

    /// Lets it go on.
    pub(super) fn resume(&self) -> Result<Time, ClusterError> {
        self.signal(Signal::SIGCONT)
    }

    /// Has it end in good order, or kills it if it does not.
    pub(super) async fn stop(&self) -> Result<(), ClusterError> {
        if !self.condemn() {
            return Ok(());
        }
        let asked = self.ask(Ask::Shutdown, "the wish to end", STOP_BOUND).await;
        if asked.is_ok() && self.ended(STOP_BOUND).await.is_ok() {
            return Ok(());
        }
        if self.ended.borrow().is_some() {
            return Ok(());
        }
        tracing::debug!(node = %self.node, "it does not end by itself");
        // One that has ended meanwhile cannot be killed, and need not be.
        let killed = self.signal(Signal::SIGKILL);
        self.ended(KILL_BOUND).await.map(drop).map_err(|error| killed.err().unwrap_or(error))
    }

    /// The error of a node that does not even listen. Unless it fell, what is in its way is the
    /// host's, and no fault of its own.
    pub(super) async fn not_listening(&self, reason: &str) -> ClusterError {
        let error = self.not_started(reason).await;
        let status = *self.ended.borrow();
        match status.and_then(|status| status.signal()) {
            Some(signal) if signal != Signal::SIGKILL as i32 => error,
            _ => ClusterError::World(error.to_string()),
        }
    }

    /// The error of a node that could not be started, with the end of its log.
    pub(super) async fn not_started(&self, reason: &str) -> ClusterError {
        // What it said last is in the log once it has ended.
        let ended = self.ended(NOT_STARTED_BOUND).await;
        let status = ended.map_or("still runs".to_owned(), |status| status.to_string());
        let tail = pipes::tail(&self.log);
        let reason = format!("{reason} (the process: {status}){tail}");
        ClusterError::Start { node: self.node, reason }
    }

    async fn ended(&self, bound: Duration) -> Result<ExitStatus, ClusterError> {
        let mut ended = self.ended.clone();
        let waited = timeout(bound, ended.wait_for(Option::is_some)).await;
        let status = waited.ok().and_then(|seen| seen.ok().and_then(|status| *status));
        status.ok_or_else(|| self.no_fault(format!("it still runs after {bound:?}")))
    }

    /// Whom it kills it condemns under the same lock: one that had ended did so by itself.
    fn signal(&self, signal: Signal) -> Result<Time, ClusterError> {
        // Whoever is reaped has given up its number, also while its end is still to be told.
        let mut process = lock(&self.shared.process);
        match process.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => {
                return Err(self.no_fault(format!("it has ended already: {status}")));
            }
            Err(error) => return Err(self.no_fault(format!("cannot be waited for: {error}"))),
        }
        if signal == Signal::SIGKILL {
            self.shared.condemned.store(true, Ordering::SeqCst);
        }
        let at = HostClock.now();
        kill(self.pid, signal).map_err(|error| self.no_fault(format!("{signal}: {error}")))?;
        Ok(at)
    }

    /// From now on its end is our doing, unless it has ended by itself; whether that is so.
    fn condemn(&self) -> bool {
        let mut process = lock(&self.shared.process);
        let runs = !matches!(process.try_wait(), Ok(Some(_)));
        if runs {
            self.shared.condemned.store(true, Ordering::SeqCst);
        }
        runs
    }

    /// The letter of its state in `/proc`.
    fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The name before it may hold anything, parentheses too.
        stat.rsplit_once(')')?.1.trim_start().chars().next()
    }

    fn no_fault(&self, reason: String) -> ClusterError {
        ClusterError::Fault { node: self.node, reason }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A node without an owner must not run; the reader's thread reaps it.
        drop(self.signal(Signal::SIGKILL));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is about no group is said to be about this one.
const FIRST_GROUP: u64 = 1;
const REQUESTS_MAX: usize = 256;
const KILL_BOUND: Duration = Duration::from_secs(10);
const STOP_BOUND: Duration = Duration::from_secs(3);
const PAUSE_BOUND: Duration = Duration::from_secs(2);
const PAUSE_POLL: Duration = Duration::from_millis(1);
const NOT_STARTED_BOUND: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that has ended by itself and is reaped, while nobody has told of it yet.
    fn reaped() -> Child {
        let mut process = Command::new("/bin/true").spawn().expect("every host has it");
        let pid = i32::try_from(process.id()).expect("process numbers fit");
        process.wait().expect("it is ours");
        let shared = Shared {
            process: Mutex::new(process),
            pending: Mutex::default(),
            condemned: AtomicBool::new(false),
        };
        let (requests, _) = blocking::sync_channel(1);
        let (_, ended) = watch::channel(None);
        Child {
            node: NodeNumber(1),
            pid: Pid::from_raw(pid),
            shared: Arc::new(shared),
            requests,
            ids: AtomicU64::new(0),
            log: PathBuf::new(),
            ended,
        }
    }

    #[tokio::test]
    async fn a_number_that_may_be_anothers_is_sent_no_signal() {
        let child = reaped();
        for signal in [Signal::SIGCONT, Signal::SIGKILL] {
            let error = child.signal(signal).expect_err("it is reaped").to_string();
            assert!(error.ends_with("it has ended already: exit status: 0"), "{error}");
        }
        child.stop().await.expect("there is nothing to do");
        let is_news = !child.shared.condemned.load(Ordering::SeqCst);
        assert!(is_news, "it ended by itself, and that is still to be told");
    }
}
