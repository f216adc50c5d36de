//! How a member comes by a founding: it takes part in one, or is told of one.
//!
//! Founders hash the same peer and store ids to the same lineage, so nobody needs to be told and
//! no vote is held. Invariant: a group is founded by all of its founders, never by a majority of
//! them, so two halves of one set of founders can never become two groups; and who learns that
//! the group is founded already founds nothing.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use raft::{Configuration, NodeId, PeerId, Refusal};

use crate::{
    group::{
        GroupId, Lineage, body::Body, bond::BondEvent, calls::Due, mailbox::Mail, wire::MemberFrame,
    },
    storage::Founding,
};

/// How a group comes into being.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Bootstrap {
    /// These peers found it together, this one among them. All must meet once; afterwards a
    /// majority suffices for ever. One that returns without its store, or comes when the others
    /// have founded already, joins them instead.
    Voters(BTreeSet<PeerId>),
    /// This node founds it alone. As long as nothing was asked of it, it gives its group up for
    /// another one of the same key that it meets.
    Solo,
    /// This node never founds: it joins the first group of its key that one of its peers tells
    /// it of, however long that takes.
    #[default]
    Join,
}

impl Bootstrap {
    /// The founders, this peer among them; `None` if it founds nothing.
    pub(crate) fn founders(&self, me: PeerId) -> Option<BTreeSet<PeerId>> {
        match self {
            Self::Voters(peers) => Some(peers.clone()),
            Self::Solo => Some(BTreeSet::from([me])),
            Self::Join => None,
        }
    }
}

/// The founding of the group by these voters.
pub(crate) fn by(group: GroupId, configuration: Configuration) -> Founding {
    Founding { lineage: Lineage::of(group, &configuration), configuration }
}

/// Waits until bonds to all founders stand at the same time, or someone tells of a founding.
///
/// # Errors
/// The reason to stop instead.
pub(crate) async fn meet(
    body: &mut Body,
    group: GroupId,
    founders: Option<&BTreeSet<PeerId>>,
) -> Result<Founding, String> {
    let mut met = BTreeMap::from([(body.node.peer, body.node)]);
    loop {
        if let Some(founders) = founders
            && founders.iter().all(|founder| met.contains_key(founder))
        {
            let founders = founders.iter().filter_map(|founder| met.get(founder)).copied();
            return Ok(by(group, Configuration::of(founders)));
        }
        let (due, clock) = (body.due(), body.clock.clone());
        tokio::select! {
            biased;
            Ok(()) = body.rung.changed() => {
                return Err(body.alarm.told().unwrap_or_default());
            }
            event = body.events.recv() => {
                let Some(event) = event else { return Err("the network is shut down".into()) };
                if let Some(founding) = hear(body, &mut met, event) {
                    return Ok(founding);
                }
            }
            mail = body.mail.recv() => match mail {
                // Calls wait for a leader, until their own deadline.
                Some(Mail::Call { call, deadline, answerer }) => {
                    body.admit(call, deadline, answerer);
                }
                // Nothing is committed yet, and nobody leads. The askers may have gone.
                Some(Mail::Entries { reply, .. }) => drop(reply.send(Vec::new())),
                Some(Mail::Transfer { reply, .. }) => {
                    let _ = reply.send(Err(Refusal::NotLeader { leader: None }));
                }
                Some(Mail::Leave { reply }) => {
                    drop(reply.send(Ok(())));
                    return Err(LEFT_EARLY.into());
                }
                None => return Err("all its handles are gone".into()),
            },
            Err(_) = body.handles.changed() => return Err("all its handles are gone".into()),
            () = clock.sleep_until(due.unwrap_or_default()), if due.is_some() => {}
        }
        // Not left to the timer, where under load something else is always ready first.
        let now = clock.now();
        while let Some(Due::Retry(_) | Due::Over) = body.calls.due(now) {}
        body.acquaint(now);
        let status: Vec<NodeId> = body.bonded.iter().copied().collect();
        body.status.send_modify(|shown| shown.bonded = status);
    }
}

/// Takes note of what a bond tells. Returns the founding, if it tells of one.
///
/// Whoever has one is a member of the group, or was; so the group exists, and to found it once
/// more would make two of it. If this store is among the founders, the others have met before
/// this member saw them all at once. If not, it is a newcomer, or has lost its store since.
fn hear(body: &mut Body, met: &mut BTreeMap<PeerId, NodeId>, event: BondEvent) -> Option<Founding> {
    match event {
        BondEvent::Up { node, lineage } => body.bond_came(node, lineage),
        BondEvent::Down { node } => {
            met.remove(&node.peer);
            body.bond_went(node);
        }
        BondEvent::Frame { from, frame: MemberFrame::Introduction(introduction) } => {
            let founding = introduction.founding.clone();
            body.introduced(from, introduction);
            // Met is who has said that it waits as well: the bond alone does not show that. Who
            // has a lineage and tells nobody of it may give it up, and its store with it: a group
            // founded with that one would wait for it for ever.
            if founding.is_none() && !body.lineages.contains_key(&from) {
                met.insert(from.peer, from);
            }
            return founding;
        }
        // Others may have met everyone already and hold their first election.
        BondEvent::Frame { .. } => body.metrics.dropped_while_founding(),
        // Without a lineage none is foreign.
        BondEvent::Foreign(_) => {}
    }
    None
}

const LEFT_EARLY: &str = "it left before it was a member of any group";
