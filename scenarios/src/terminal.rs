//! Where progress is shown: a bar on a terminal, plain lines elsewhere, on standard error.
//!
//! Knows no run. Invariant: a slow or closed terminal never fails one.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar, or lines.
pub(crate) struct Terminal {
    bar: Option<ProgressBar>,
}

impl Terminal {
    /// A bar that can be filled only where it is known how much there is to do.
    pub(crate) fn new(has_end: bool) -> Self {
        Self { bar: io::stderr().is_terminal().then(|| bar(has_end)) }
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

fn bar(has_end: bool) -> ProgressBar {
    let template = if has_end { "{bar:30} {msg}" } else { "{msg}" };
    let style = ProgressStyle::with_template(template).expect("a constant template is valid");
    let bar = ProgressBar::with_draw_target(Some(1_000), ProgressDrawTarget::stderr());
    bar.set_style(style);
    bar
}

/// A closed standard error is no reason to end a run.
fn print(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// Longer than a usual trial, which has a line of its own.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
