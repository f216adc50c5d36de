//! The driver's one timer.
//!
//! Invariant: it never comes later than asked for; it may come earlier, and then in vain.

use std::{pin::Pin, sync::Arc, time::Duration};

use raft::Time;

use crate::Clock;

/// A timer that is re-armed only when it would come too late.
pub(super) struct Timer {
    clock: Arc<dyn Clock>,
    armed: Time,
    sleep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Timer {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, armed: Time(Duration::MAX), sleep: Box::pin(std::future::pending()) }
    }

    /// Resolves at `due`, or earlier: heartbeats move the deadline on all the time, and it is
    /// cheaper to wake once in vain than to arm a timer for each of them.
    pub(super) async fn reach(&mut self, due: Time) {
        if due < self.armed {
            self.armed = due;
            self.sleep = self.clock.sleep_until(due);
        }
        (&mut self.sleep).await;
        self.armed = Time(Duration::MAX);
        self.sleep = Box::pin(std::future::pending());
    }
}
