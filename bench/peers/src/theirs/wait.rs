//! Waiting for what mosaik tells of its groups. No bounds of its own: callers have them.

use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use mosaik::Group;

use super::machine::Tally;

/// Waits until a member has as many bonds as it takes.
pub(super) async fn until_bonds(group: &Group<Tally>, holds: impl Fn(usize) -> bool) {
    let bonds = group.bonds();
    loop {
        let mut changed = pin!(bonds.changed());
        // It listens from its first poll on: whatever changes after the look below is noticed.
        let is_new =
            poll_fn(|context| Poll::Ready(changed.as_mut().poll(context).is_ready())).await;
        if holds(bonds.len()) {
            return;
        }
        if !is_new {
            changed.await;
        }
    }
}

/// Waits until one member leads and all know it.
pub(super) async fn until_led(groups: &[Group<Tally>]) -> &Group<Tally> {
    loop {
        let leader = groups.iter().find(|group| group.is_leader());
        if let Some(leader) = leader
            && groups.iter().all(|group| group.leader() == leader.leader())
        {
            return leader;
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// The host's monotonic clock.
#[expect(clippy::disallowed_methods, reason = "measures the host, and is no part of a run")]
pub(super) fn now() -> Instant {
    Instant::now()
}

const GLANCE: Duration = Duration::from_millis(20);
