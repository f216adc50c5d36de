//! Where progress is shown: a bar on a terminal, plain lines elsewhere, on standard error.
//!
//! Knows no measurement. Invariant: a slow or closed terminal never fails one.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar, or lines.
pub(crate) struct Terminal {
    bar: Option<ProgressBar>,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        Self { bar: io::stderr().is_terminal().then(bar) }
    }

    /// How long a state stands until the next is shown.
    pub(crate) fn interval(&self) -> Duration {
        if self.bar.is_some() { BAR_INTERVAL } else { LINE_INTERVAL }
    }

    /// Shows how far it has come.
    pub(crate) fn show(&self, permille: u64, line: String) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(permille);
                bar.set_message(line);
            }
            None => print(&line),
        }
    }

    /// Prints a line of its own.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print(line)),
            None => print(line),
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:20} {msg}");
    let bar = ProgressBar::with_draw_target(Some(1_000), ProgressDrawTarget::stderr());
    bar.set_style(style.expect("a constant template is valid"));
    bar
}

/// A closed standard error is no reason to end a measurement.
fn print(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

const BAR_INTERVAL: Duration = Duration::from_millis(100);
const LINE_INTERVAL: Duration = Duration::from_secs(10);
