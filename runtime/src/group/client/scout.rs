//! Looks for a node that knows a leader, while the client's own lives and knows of none.
//!
//! A node may be cut off from its peers while others are not. Whoever left it at once would wander
//! about in every election, so it is kept until another node names a leader. Invariant: one node
//! is asked at a time, and none for longer than its deadline.

use std::{sync::Arc, time::Duration};

use raft::{PeerId, Time};
use tokio::task::JoinSet;

use crate::{
    Clock, Link,
    group::{ConsensusConfig, wire::ClientFrame},
};

/// See the module.
pub(super) struct Scout {
    /// Whom to ask now, or next: a place among the members.
    place: usize,
    /// How many had no answer for us.
    failures: u32,
    /// Not to ask before.
    at: Time,
    asking: JoinSet<Result<Found, String>>,
}

/// A node that knows a leader.
pub(super) struct Found {
    pub(super) link: Link,
    pub(super) leader: PeerId,
}

impl Scout {
    /// One that is to ask the member at that place, and not before that time.
    pub(super) fn new(place: usize, at: Time) -> Self {
        Self { place, failures: 0, at, asking: JoinSet::new() }
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// When to send it; never while it is on its way.
    pub(super) fn due(&self) -> Time {
        if self.asking.is_empty() { self.at } else { Time(Duration::MAX) }
    }

    /// Sends it to the node that is dialed so.
    pub(super) fn ask(
        &mut self,
        dialing: impl Future<Output = Result<Link, String>> + Send + 'static,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) {
        self.asking.spawn(async move {
            let mut link = dialing.await?;
            // The first that a node says to a client is whom it knows to lead.
            let bound = clock.now().plus(patience);
            let said = tokio::select! {
                biased;
                said = link.recv() => said.ok_or("the node let us go")?,
                () = clock.sleep_until(bound) => return Err("the node says nothing".into()),
            };
            match postcard::from_bytes(&said) {
                Ok(ClientFrame::Ping { leader: Some(leader) }) => Ok(Found { link, leader }),
                Ok(ClientFrame::Ping { leader: None }) => Err("the node knows no leader".into()),
                _ => Err("the node says something else".into()),
            }
        });
    }

    /// What it brings; never resolves while it is not on its way.
    pub(super) async fn back(&mut self) -> Result<Found, String> {
        match self.asking.join_next().await {
            Some(found) => found.unwrap_or_else(|error| Err(error.to_string())),
            None => std::future::pending().await,
        }
    }

    /// Nothing there: it is to ask that one next. Returns how many it has asked before.
    pub(super) fn go_on(&mut self, next: usize) -> u32 {
        self.place = next;
        self.failures = self.failures.saturating_add(1);
        self.failures - 1
    }

    pub(super) fn wait_until(&mut self, at: Time) {
        self.at = at;
    }
}

/// How long a node may be without a leader before others are asked: an election that goes well
/// is over by then. Drawn in part, so that a node's clients do not all set out together.
pub(super) fn first_pause(consensus: &ConsensusConfig, draw: u64) -> Duration {
    let interval = consensus.heartbeat_interval;
    interval + Duration::from_nanos(draw % (interval.as_nanos() as u64).max(1))
}
