//! Tests only: a clock that stands until it is moved.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use raft::Time;

use super::Clock;

/// See above. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing(Arc<Mutex<Time>>);

impl Standing {
    pub(crate) fn advance(&self, by: Duration) {
        let mut now = self.0.lock().expect("nobody panics with it");
        *now = now.plus(by);
    }
}

impl Clock for Standing {
    fn now(&self) -> Time {
        *self.0.lock().expect("nobody panics with it")
    }

    fn wall(&self) -> Duration {
        self.now().0
    }

    fn sleep_until(&self, deadline: Time) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self.now() >= deadline {
            true => Box::pin(std::future::ready(())),
            false => Box::pin(std::future::pending()),
        }
    }
}
