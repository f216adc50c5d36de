//! Virtual time: one for the whole simulation, and a clock for each who reads it.
//!
//! Invariant: times of all hosts can be compared, also across their restarts: the clocks of their
//! runtimes are set to the simulation's at each start, see [`shim::show_next`].

use std::{future::Future, pin::Pin, time::Duration};

use runtime::{Clock, Time};
use tokio::{sync::watch, time::Instant};

use super::shim;
use crate::skew::Skew;

/// How long the simulation has been going on.
pub(super) fn now() -> Time {
    Time(shim::elapsed())
}

/// Whether the host that runs goes by the simulation's time.
pub(super) fn agrees() -> Result<(), String> {
    let (shown, elapsed) = (now(), turmoil::sim_elapsed().map(Time));
    match elapsed {
        Some(elapsed) if elapsed != shown => {
            Err(format!("its clock shows {shown:?} when the simulation is at {elapsed:?}"))
        }
        _ => Ok(()),
    }
}

/// The harness' clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SimClock;

/// A node's clock. While the node stands still, nothing that it waits for is due.
#[derive(Clone, Debug)]
pub(super) struct NodeClock {
    stands: watch::Receiver<bool>,
    skew: watch::Receiver<Skew>,
}

impl NodeClock {
    /// A clock that stops waking while the other end says `true`, and is off by that much.
    pub(super) fn new(stands: watch::Receiver<bool>, skew: watch::Receiver<Skew>) -> Self {
        Self { stands, skew }
    }

    /// A clock that stops waking with the node, and is never off: what a disk goes by.
    pub(super) fn of_disk(stands: watch::Receiver<bool>) -> Self {
        let (_, skew) = watch::channel(Skew::default());
        Self { stands, skew }
    }
}

/// Resolves when the node's clock shows that, also where its pace changes meanwhile.
async fn shows(mut skew: watch::Receiver<Skew>, deadline: Time) {
    loop {
        let due = skew.borrow_and_update().host(deadline);
        tokio::select! {
            biased;
            () = SimClock.sleep_until(due) => return,
            changed = skew.changed() => if changed.is_err() {
                return SimClock.sleep_until(due).await;
            }
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        now()
    }

    fn wall(&self) -> Duration {
        WALL_START + now().0
    }

    fn sleep_until(&self, deadline: Time) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let began = shim::began().map(Instant::from_std);
        Box::pin(match began.and_then(|began| began.checked_add(deadline.0)) {
            Some(due) => tokio::time::sleep_until(due),
            None => tokio::time::sleep(deadline.since(now())),
        })
    }
}

impl Clock for NodeClock {
    fn now(&self) -> Time {
        self.skew.borrow().monotonic(now())
    }

    fn wall(&self) -> Duration {
        self.skew.borrow().wall(SimClock.wall())
    }

    fn sleep_until(&self, deadline: Time) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut stands = self.stands.clone();
        let due = shows(self.skew.clone(), deadline);
        Box::pin(async move {
            due.await;
            if stands.wait_for(|stands| !stands).await.is_err() {
                // Whoever could let it go on is gone, and the simulation with them.
                std::future::pending::<()>().await;
            }
        })
    }
}

/// 2023-11-14, 22:13:20 UTC.
const WALL_START: Duration = Duration::from_secs(1_700_000_000);

/// Outside of a simulation the clock shows what a test wants.
#[cfg(test)]
pub(super) fn show(at: Time) {
    shim::show(at.0);
}
