//! While a lease is valid nobody else is elected (thesis §6.4.1): its holder answers reads from
//! its own knowledge alone, so nobody else may have committed anything that it does not know.
//!
//! Told by a clock that all servers share. A server that is down or stands still keeps its lease
//! for as long as it would have lasted: nobody else may count on its being gone.

use raft::{NodeId, Role, Term, Time};

use super::{PerServer, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct LeaseExclusive {
    leases: PerServer<Option<Held>>,
    /// No lease that was ever seen lasts longer.
    latest: Time,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    node: NodeId,
    term: Term,
    until: Time,
}

impl LeaseExclusive {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let (now, term) = (view.lease.now, view.hard_state.term);
        let until = view.lease.until.filter(|until| *until > now);
        if until.is_none() && self.latest <= now {
            return Ok(());
        }
        *self.leases.of(view.server) = until.map(|until| Held { node: view.node, term, until });
        self.latest = self.latest.max(until.unwrap_or_default());
        let others =
            self.leases.0.iter().enumerate().filter(|(server, _)| *server != view.server.0);
        // An older leader may live on for a while; it has no lease, or its own step tells.
        let beaten = |held: &&Held| held.until > now && (until.is_some() || held.term < term);
        let other = others.filter_map(|(_, held)| held.as_ref()).find(beaten);
        let Some(other) = other.filter(|_| view.role == Role::Leader) else { return Ok(()) };
        let what = format!(
            "{:?} leads term {term}, lease until {until:?}, while {:?} holds a lease of term {} \
             until {:?}",
            view.node, other.node, other.term, other.until
        );
        Err(Violation::of("lease exclusive", what))
    }
}
