//! What shall befall the datagrams between the nodes of a cluster, and how they are told.
//!
//! Invariant: a rule outlives the node that it is told: one that is started again is told it
//! with its first word, before it listens.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use runtime::Peer;

use crate::{
    fault::{LinkRule, NodeNumber},
    link::{Direction, LinkCounts, LinkFaults, LinkReport},
    process::control::LinkSetting,
};

/// The rules in force. A link without one was never hurt.
#[derive(Default)]
pub(super) struct Links(Mutex<Rules>);

type Rules = BTreeMap<(NodeNumber, NodeNumber), LinkFaults>;
type Peers = BTreeMap<NodeNumber, Peer>;

impl Links {
    /// Takes new rules; the older ones of other links stay.
    pub(super) fn set(&self, rules: &[LinkRule]) {
        let rules = rules.iter().cloned().map(|rule| ((rule.from, rule.to), rule.faults));
        self.rules().extend(rules);
    }

    /// What a node must be told: each link is hurt where its datagrams are sent.
    pub(super) fn of(&self, node: NodeNumber, peers: &Peers) -> Vec<LinkSetting> {
        let rules = self.rules();
        let from_node = rules.iter().filter(|((from, _), _)| *from == node);
        let setting = |((_, to), faults): (&(NodeNumber, NodeNumber), &LinkFaults)| {
            let remote = address(peers, *to)?;
            Some(LinkSetting { remote, direction: Direction::Out, faults: faults.clone() })
        };
        from_node.filter_map(setting).collect()
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The node's own count, by the other end.
pub(super) fn counts(
    node: NodeNumber,
    reports: Vec<LinkReport>,
    peers: &Peers,
) -> impl Iterator<Item = ((NodeNumber, NodeNumber), LinkCounts)> {
    let sent = reports.into_iter().filter(|report| report.direction == Direction::Out);
    sent.filter_map(move |report| {
        let (to, _) = peers.iter().find(|(to, _)| address(peers, **to) == Some(report.remote))?;
        Some(((node, *to), report.counts))
    })
}

fn address(peers: &Peers, node: NodeNumber) -> Option<SocketAddr> {
    peers.get(&node)?.addresses.first().copied()
}

#[cfg(test)]
mod tests {
    use runtime::PeerId;

    use super::*;

    fn peers() -> Peers {
        let peer = |node: u8| Peer {
            id: PeerId([node; 32]),
            addresses: vec![([127, 0, 0, 1], u16::from(node)).into()],
        };
        (1..=3).map(|node| (NodeNumber(u64::from(node)), peer(node))).collect()
    }

    fn rule(from: u64, to: u64, faults: LinkFaults) -> LinkRule {
        LinkRule { from: NodeNumber(from), to: NodeNumber(to), faults }
    }

    #[test]
    fn a_node_is_told_what_befalls_what_it_sends() {
        let links = Links::default();
        links.set(&[rule(1, 2, LinkFaults::blocked()), rule(2, 1, LinkFaults::blocked())]);
        links.set(&[rule(1, 3, LinkFaults::blocked()), rule(1, 2, LinkFaults::default())]);
        let told = links.of(NodeNumber(1), &peers());
        let told: Vec<_> = told
            .iter()
            .map(|link| (link.remote.port(), link.direction, link.faults.block))
            .collect();
        assert_eq!(told, [(2, Direction::Out, false), (3, Direction::Out, true)]);
        assert_eq!(links.of(NodeNumber(3), &peers()), []);
    }

    #[test]
    fn counts_are_named_by_both_ends() {
        let report = |port: u16, direction| LinkReport {
            remote: ([127, 0, 0, 1], port).into(),
            direction,
            faults: LinkFaults::default(),
            counts: LinkCounts { offered: u64::from(port), ..LinkCounts::default() },
        };
        let reports = vec![report(3, Direction::Out), report(3, Direction::In)];
        let counted: Vec<_> = counts(NodeNumber(1), reports, &peers()).collect();
        let expected = LinkCounts { offered: 3, ..LinkCounts::default() };
        assert_eq!(counted, [((NodeNumber(1), NodeNumber(3)), expected)]);
    }
}
