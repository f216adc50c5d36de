//! Founding: all founders meet once, and agree on who they are without a vote.
//!
//! Each founder hashes the same peer and store ids to the same lineage, so nobody needs to be
//! told. Invariant: a group is founded by all of its founders, never by a majority of them, so
//! two halves of one set of founders can never become two groups.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use raft::{Configuration, NodeId, PeerId};

use crate::{
    group::{GroupId, Lineage, body::Body, bond::BondEvent, calls::Due, mailbox::Mail},
    storage::Founding,
};

/// How a group comes into being.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Bootstrap {
    /// These peers found it together, this one among them. All must meet once; afterwards a
    /// majority suffices for ever.
    Voters(BTreeSet<PeerId>),
    /// This node founds it alone.
    Solo,
}

impl Bootstrap {
    /// The founders, this peer among them.
    pub(crate) fn founders(&self, me: PeerId) -> BTreeSet<PeerId> {
        match self {
            Self::Voters(peers) => peers.clone(),
            Self::Solo => BTreeSet::from([me]),
        }
    }
}

/// Waits until bonds to all founders stand at the same time.
///
/// # Errors
/// The reason to stop instead.
pub(crate) async fn meet(
    body: &mut Body,
    group: GroupId,
    founders: &BTreeSet<PeerId>,
) -> Result<Founding, String> {
    let mut met = BTreeMap::from([(body.node.peer, body.node)]);
    while !founders.iter().all(|founder| met.contains_key(founder)) {
        let calls_due = body.calls.deadline();
        let clock = body.clock.clone();
        tokio::select! {
            biased;
            event = body.events.recv() => match event {
                Some(BondEvent::Up { node }) => {
                    met.insert(node.peer, node);
                    body.bond_came(node);
                }
                Some(BondEvent::Down { node }) => {
                    met.remove(&node.peer);
                    body.bond_went(node);
                }
                // Others may have met everyone already and hold their first election.
                Some(BondEvent::Frame { .. }) => body.metrics.dropped_while_founding(),
                None => return Err("the network is shut down".into()),
            },
            mail = body.mail.recv() => match mail {
                // Calls wait for a leader, until their own deadline.
                Some(Mail::Call { call, deadline, answerer }) => {
                    body.admit(call, deadline, answerer);
                }
                // Nothing is committed, nobody leads: dropping the reply says so.
                Some(Mail::Entries { .. } | Mail::Transfer { .. }) => {}
                None => return Err("all its handles are gone".into()),
            },
            Err(_) = body.handles.changed() => return Err("all its handles are gone".into()),
            () = clock.sleep_until(calls_due.unwrap_or_default()), if calls_due.is_some() => {}
        }
        // Not left to the timer, where under load something else is always ready first.
        let now = clock.now();
        while let Some(Due::Retry(_) | Due::Over) = body.calls.due(now) {}
        let status: Vec<NodeId> = body.bonded.iter().copied().collect();
        body.status.send_modify(|shown| shown.bonded = status);
    }
    let founders = founders.iter().filter_map(|founder| met.get(founder)).copied();
    let configuration = Configuration::of(founders);
    Ok(Founding { lineage: Lineage::of(group, &configuration), configuration })
}
