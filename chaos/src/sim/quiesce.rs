//! Runs a future so that the blocking work it starts is done before anything else happens.
//!
//! tokio does blocking work on threads, whose wake-ups would come at any moment. Here the
//! simulated thread waits for them, in real time, and polls again itself: their wakers never
//! reach tokio's queue. Needs the runtime's own counts, which are behind `tokio_unstable`.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    thread::{self, ThreadId},
    time::Duration,
};

use tokio::runtime::{Handle, RuntimeMetrics};

use super::shim::MayStartThreads;

/// Tells wakers of the simulated thread from those of others.
struct Gate {
    owner: ThreadId,
    inner: Mutex<Waker>,
    woken_by_another: AtomicBool,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        if thread::current().id() == self.owner {
            self.inner.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        } else {
            self.woken_by_another.store(true, Ordering::SeqCst);
        }
    }
}

/// What the future yields.
pub(super) async fn quiesce<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut gate: Option<Arc<Gate>> = None;
    poll_fn(move |context| {
        let gate = gate.get_or_insert_with(|| {
            Arc::new(Gate {
                owner: thread::current().id(),
                inner: Mutex::new(context.waker().clone()),
                woken_by_another: AtomicBool::new(false),
            })
        });
        gate.inner.lock().unwrap_or_else(PoisonError::into_inner).clone_from(context.waker());
        let waker = Waker::from(Arc::clone(gate));
        loop {
            let may_start = MayStartThreads::new();
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            drop(may_start);
            let metrics = Handle::current().metrics();
            while is_at_work(&metrics) {
                thread::sleep(REST);
            }
            if polled.is_ready() || !gate.woken_by_another.swap(false, Ordering::SeqCst) {
                return polled;
            }
        }
    })
    .await
}

fn is_at_work(metrics: &RuntimeMetrics) -> bool {
    let (threads, idle) = (metrics.num_blocking_threads(), metrics.num_idle_blocking_threads());
    metrics.blocking_queue_depth() > 0 || threads != idle
}

/// In real time.
const REST: Duration = Duration::from_micros(20);
