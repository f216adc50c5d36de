//! Keeps the processors awake: whoever has something to do comes first, and finds them running.
//!
//! A virtual machine's processor that sleeps takes many times as long to wake as a real one, and a
//! catch-up of some 20 ms, which wakes them often, took twice as long for that alone. Invariant:
//! the process that does it ends when its input closes, and after `SPIN_MAX` in any case.

use std::{
    hint, io,
    process::{self, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

/// Until it is dropped.
pub(crate) struct Awake {
    _child: Child,
}

impl Awake {
    /// Starts a process that spins where nobody else wants to run.
    ///
    /// # Errors
    /// Where `chrt`, of util-linux, is not found.
    pub(crate) fn keep() -> Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let child = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(program)
            .arg("--spin")
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting chrt to keep processors awake (--let-sleep does without)")?;
        Ok(Self { _child: child })
    }
}

/// The body of that process.
pub(crate) fn spin() -> Result<()> {
    for _ in 0..thread::available_parallelism()?.get() {
        // They end with the process.
        thread::spawn(|| {
            loop {
                hint::spin_loop();
            }
        });
    }
    thread::spawn(|| {
        // Whatever ends its input, there is nobody left to keep awake for.
        drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
        process::exit(0);
    });
    thread::sleep(SPIN_MAX);
    Ok(())
}

/// Longer than any comparison takes.
const SPIN_MAX: Duration = Duration::from_secs(4 * 3_600);
