//! What a node says, line by line, from a thread of its own.
//!
//! Invariant: saying something never delays the node. Events are dropped, and counted, when the
//! harness does not listen; replies are waited for.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use runtime::{Clock, Time};
use tokio::sync::mpsc;

use crate::{
    cluster::{NodeEvent, What},
    fault::NodeNumber,
    member::nanos,
    process::{
        HostClock,
        control::{Answer, Said, to_line},
    },
};

/// The way to the thread. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outbox {
    node: NodeNumber,
    said: mpsc::Sender<Option<Said>>,
    lost: Arc<AtomicU64>,
    closing: Arc<AtomicBool>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Outbox {
    pub(super) fn start(node: NodeNumber) -> io::Result<Self> {
        let (said, mut to_say) = mpsc::channel::<Option<Said>>(SAID_MAX);
        let thread = thread::Builder::new().name("output".into()).spawn(move || {
            let mut output = io::stdout().lock();
            while let Some(Some(said)) = to_say.blocking_recv() {
                if let Said::Event(event) = &said {
                    note(event);
                }
                if output.write_all(&to_line(&said)).and_then(|()| output.flush()).is_err() {
                    // The harness is gone; the end of the input says so too.
                    return;
                }
            }
        })?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Self { node, said, lost: Arc::default(), closing: Arc::default(), thread })
    }

    /// Tells of something that happened now.
    pub(super) fn event(&self, what: What) {
        self.event_at(HostClock.now(), what);
    }

    /// Tells of something that happened then.
    pub(super) fn event_at(&self, at: Time, what: What) {
        if self.closing.load(Ordering::Relaxed) {
            return;
        }
        let event = NodeEvent { at_ns: nanos(at), node: self.node, what };
        if self.said.try_send(Some(Said::Event(event))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From now on nothing is told unasked: that a node which was told to end does end is no
    /// event.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Answers a request.
    pub(super) async fn reply(
        &self,
        id: u64,
        answer: Result<Answer, String>,
    ) -> Result<(), String> {
        let said = self.said.send(Some(Said::Reply { id, answer })).await;
        said.map_err(|_| "the harness does not listen".into())
    }

    /// How many events could not be told.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until all is said.
    pub(super) fn finish(&self) {
        // A full or closed queue ends in the same way: with the process.
        drop(self.said.try_send(None));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            eprintln!("the output's thread fell");
        }
    }
}

/// The same in the node's log, for people. Samples of usage would drown the rest.
fn note(event: &NodeEvent) {
    if !matches!(event.what, What::Usage { .. }) {
        eprintln!("{:>16.6} {:?}", event.at_ns as f64 / 1e9, event.what);
    }
}

const SAID_MAX: usize = 16_384;
