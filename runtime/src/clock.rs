//! The clock: the only place of the runtime that reads one.
//!
//! Everything else takes a [`Clock`], so that a simulator can offset, jump and slow it.
//! Invariant: [`Clock::now`] never goes back.

#[cfg(test)]
mod standing;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use raft::Time;

#[cfg(test)]
pub(crate) use standing::Standing;

/// Where a node's time comes from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The monotonic clock. Timers, timeouts and leases follow it.
    fn now(&self) -> Time;

    /// The wall clock, as time since the Unix epoch. Only ticket expiry and display follow it, and
    /// the moments at which connections look how short their paths are.
    fn wall(&self) -> Duration;

    /// Resolves once the monotonic clock has reached `deadline`.
    fn sleep_until(&self, deadline: Time) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The clock of the host. Under a paused tokio runtime it follows that runtime's time.
#[derive(Debug, Clone)]
pub struct SystemClock {
    origin: tokio::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic origin is now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn new() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time(self.origin.elapsed())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn wall(&self) -> Duration {
        // A host whose clock stands before 1970 is treated as if it stood at 1970.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn sleep_until(&self, deadline: Time) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // A deadline beyond what the host's clock can express never comes.
        match self.origin.checked_add(deadline.0) {
            Some(at) => Box::pin(tokio::time::sleep_until(at)),
            None => Box::pin(std::future::pending()),
        }
    }
}
