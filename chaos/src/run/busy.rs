//! Busy loops beside the nodes: work for the processor that nobody needs.
//!
//! Invariant: they end when their owner does.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Threads that never rest. Their end is waited for when this is dropped.
pub(crate) struct BusyLoops {
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl BusyLoops {
    /// Starts `count` of them; fewer where the host has no more threads to give.
    pub(crate) fn start(count: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..count)
            .map_while(|number| {
                let over = Arc::clone(&over);
                let builder = std::thread::Builder::new().name(format!("busy-{number}"));
                builder.spawn(move || spin(&over)).ok()
            })
            .collect();
        Self { over, threads }
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A loop cannot fail.
            drop(thread.join());
        }
    }
}

fn spin(over: &AtomicBool) {
    let turns = AtomicU64::new(0);
    while !over.load(Ordering::Relaxed) {
        // Seen from outside, the counter keeps the loop from being optimised away.
        for _ in 0..1_000 {
            std::hint::black_box(turns.fetch_add(1, Ordering::Relaxed));
        }
    }
}
