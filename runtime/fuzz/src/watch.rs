//! Ends the program when an input takes for ever, and tells which.
//!
//! A bound on waiting and no measurement: no input takes a thousandth of it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// Watches for as long as it is held.
pub(crate) struct Watch {
    progress: Arc<Progress>,
    _held: mpsc::Sender<()>,
}

#[derive(Default)]
struct Progress {
    inputs: AtomicU64,
    under_way: Mutex<String>,
}

impl Watch {
    pub(crate) fn start(target: &str) -> Self {
        let progress = Arc::<Progress>::default();
        let (held, ends) = mpsc::channel();
        let (watched, target) = (Arc::clone(&progress), target.to_owned());
        thread::spawn(move || {
            let mut before = 0;
            while ends.recv_timeout(HANG_MIN) == Err(RecvTimeoutError::Timeout) {
                let now = watched.inputs.load(Ordering::Relaxed);
                if now == before {
                    let which = watched.under_way.lock().unwrap_or_else(PoisonError::into_inner);
                    eprintln!("\n{target} hangs: {which}");
                    std::process::exit(HUNG);
                }
                before = now;
            }
        });
        Self { progress, _held: held }
    }

    /// This input is next.
    pub(crate) fn tell(&self, which: &str) {
        self.progress.inputs.fetch_add(1, Ordering::Relaxed);
        let mut under_way = self.progress.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        which.clone_into(&mut under_way);
    }
}

const HANG_MIN: Duration = Duration::from_secs(60);
/// As the test harness ends when a test fails.
const HUNG: i32 = 101;
