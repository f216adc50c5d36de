//! A process that keeps every core busy with nothing: what a full machine alone costs.
//!
//! Invariant: it ends when its input closes, and spins no longer than `SPIN_MAX` in any case.

use std::{
    hint, io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;
use runtime::{Clock, SystemClock};

/// The body of the process.
pub(crate) fn main() -> Result<()> {
    let (clock, closed) = (SystemClock::new(), AtomicBool::new(false));
    let cores = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !closed.load(Ordering::Relaxed) && clock.now().0 < SPIN_MAX {
                    (0..SPINS).for_each(|_| hint::spin_loop());
                }
            });
        }
        let ended = io::copy(&mut io::stdin().lock(), &mut io::sink());
        closed.store(true, Ordering::Relaxed);
        Ok(ended.map(drop)?)
    })
}

/// Between two looks at the clock.
const SPINS: u32 = 1_000;
const SPIN_MAX: Duration = Duration::from_secs(60);
