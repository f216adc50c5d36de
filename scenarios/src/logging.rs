//! What the program says of itself: lines on standard error, and, if it is asked to, a trace of what
//! the harness did when.
//!
//! The trace is of this program's own spans alone. It is not the run's, which is made of what the
//! nodes noted: it answers whether the harness itself was at work when something was slow.
//! Invariant: nothing that a simulated thread does reaches it, since its clock is the host's.

use std::io;
use std::path::Path;

use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

/// Writes the trace; the end of it is in the file once this is dropped.
#[must_use]
pub(crate) struct Tracing(#[expect(dead_code, reason = "it works by being dropped")] FlushGuard);

/// Logs to standard error. `RUST_LOG` says what, and nodes inherit it; theirs is their log.
pub(crate) fn to_stderr(default: &str) {
    fmt().with_writer(io::stderr).with_ansi(false).with_env_filter(filter(default)).init();
}

/// The same, and what the harness does goes to `folder` as well.
pub(crate) fn to_stderr_and(folder: &Path, default: &str) -> Tracing {
    let (trace, guard) =
        ChromeLayerBuilder::new().file(folder.join(HARNESS)).include_args(true).build();
    let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::INFO);
    let layer = fmt::layer().with_writer(io::stderr).with_ansi(false);
    registry().with(layer.with_filter(filter(default))).with(trace.with_filter(own)).init();
    Tracing(guard)
}

fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default))
}

/// Its name in the run's folder.
const HARNESS: &str = "harness.json";
