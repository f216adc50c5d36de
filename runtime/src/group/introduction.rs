//! What bonded nodes say of themselves and of those they are bonded to, and what follows from it:
//! whom to dial.
//!
//! Everyone says where it is reached itself, and passes on what its neighbours said of
//! themselves, never what it has from hearsay: so no address goes round for ever, and none is
//! believed that its owner did not give. Plain bookkeeping: sends and dials nothing. Invariant:
//! whoever speaks, it has heard of no more than `PEERS_MAX` peers and of those that it was bonded
//! with, of each no more than `ADDRESSES_MAX` addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use raft::{Configuration, NodeId, PeerId, Time};
use serde::{Deserialize, Serialize};

use crate::{
    Peer,
    group::{config::VOTERS_LIMIT, steward::Present},
    storage::Founding,
};

/// What a node says of itself to whom it is bonded with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Introduction {
    /// How its group began; `None` while it waits to learn that.
    pub(crate) founding: Option<Founding>,
    /// It never wants to vote.
    pub(crate) observer: bool,
    /// Where it is reached, and then those it is bonded to.
    pub(crate) peers: Vec<Peer>,
}

/// Peers by id, and where they are reached.
pub(crate) type Addresses = BTreeMap<PeerId, Vec<SocketAddr>>;

/// What is known of others.
pub(crate) struct Acquaintances {
    me: Peer,
    observer: bool,
    /// What the program said. Dialed for ever.
    given: Addresses,
    /// What bonded nodes said of themselves.
    present: BTreeMap<NodeId, Known>,
    /// Where a peer was last said to be: by itself, or else by one who was bonded to it.
    heard: Addresses,
}

struct Known {
    present: Present,
    introduction: Introduction,
}

impl Introduction {
    /// Whether it keeps to the limits.
    pub(crate) fn check(&self) -> Result<(), String> {
        at_most("peers", self.peers.len(), PEERS_MAX)?;
        for peer in &self.peers {
            at_most("addresses of a peer", peer.addresses.len(), ADDRESSES_MAX)?;
        }
        let Some(founding) = &self.founding else { return Ok(()) };
        at_most("founders", founding.configuration.len(), VOTERS_LIMIT as usize)?;
        match founding.configuration.is_sound() {
            true => Ok(()),
            false => Err("a founding in which nobody votes, or a peer has two stores".into()),
        }
    }
}

fn at_most(what: &str, count: usize, count_max: usize) -> Result<(), String> {
    match count <= count_max {
        true => Ok(()),
        false => Err(format!("{count} {what}, but at most {count_max} are allowed")),
    }
}

impl Acquaintances {
    /// Those that the program named.
    pub(crate) fn new(me: Peer, observer: bool, given: &[Peer]) -> Self {
        let given = given.iter().filter(|peer| peer.id != me.id);
        let given = given.map(|peer| (peer.id, peer.addresses.clone())).collect();
        Self { me, observer, given, present: BTreeMap::new(), heard: Addresses::new() }
    }

    /// What this node says of itself.
    pub(crate) fn introduction(&self, founding: Option<&Founding>) -> Introduction {
        let cut = |mut peer: Peer| {
            peer.addresses.truncate(ADDRESSES_MAX);
            peer
        };
        let neighbours = self.present.iter().filter_map(|(node, known)| {
            known.introduction.peers.iter().find(|peer| peer.id == node.peer).cloned()
        });
        let peers = std::iter::once(self.me.clone()).chain(neighbours).map(cut);
        Introduction {
            founding: founding.cloned(),
            observer: self.observer,
            peers: peers.take(PEERS_MAX).collect(),
        }
    }

    /// A bonded node introduces itself. Returns whether there is something in it that others
    /// have not heard from us.
    pub(crate) fn meet(&mut self, now: Time, node: NodeId, introduction: Introduction) -> bool {
        for peer in &introduction.peers {
            let is_own = peer.id == node.peer;
            let is_present = self.present.keys().any(|present| present.peer == peer.id);
            let is_room = self.heard.contains_key(&peer.id) || self.heard.len() < PEERS_MAX;
            // Of itself everyone knows best.
            if peer.id != self.me.id && (is_own || !is_present) && (is_own || is_room) {
                self.heard.insert(peer.id, peer.addresses.clone());
            }
        }
        let observer = introduction.observer;
        let before = self.present.remove(&node);
        let since = before.as_ref().map_or(now, |known| known.present.since);
        let own = |introduction: &Introduction| {
            introduction.peers.iter().find(|peer| peer.id == node.peer).cloned()
        };
        let is_news = before.is_none_or(|known| own(&known.introduction) != own(&introduction));
        let present = Present { since, observer };
        self.present.insert(node, Known { present, introduction });
        is_news
    }

    /// The bond is gone.
    pub(crate) fn part(&mut self, node: NodeId) {
        self.present.remove(&node);
    }

    /// Bonded nodes that have introduced themselves.
    pub(crate) fn present(&self) -> BTreeMap<NodeId, Present> {
        self.present.iter().map(|(node, known)| (*node, known.present)).collect()
    }

    /// Whom to dial while there is no bond: whom the program named, and the members. Who is no
    /// member yet, or only of a group that is none, dials everyone that it has heard of. Peers
    /// that concern nobody any more are forgotten.
    pub(crate) fn whom_to_dial(&mut self, members: Option<&Configuration>) -> Addresses {
        let present: BTreeSet<PeerId> = self.present.keys().map(|node| node.peer).collect();
        let wanted = |peer: &PeerId| members.is_none_or(|members| members.of_peer(*peer).is_some());
        self.heard.retain(|peer, _| present.contains(peer) || wanted(peer));
        let heard = self.heard.iter().filter(|(peer, _)| wanted(peer));
        let mut to_dial = self.given.clone();
        for (peer, addresses) in heard {
            let known = to_dial.entry(*peer).or_default();
            // What was heard last is likelier to hold, and goes first.
            let older: Vec<_> =
                known.iter().filter(|address| !addresses.contains(address)).copied().collect();
            *known = addresses.iter().copied().chain(older).collect();
        }
        to_dial
    }
}

/// As many as a group has members at most, and some on their way.
const PEERS_MAX: usize = 96;
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::small(number)
    }

    fn peer(number: u8, ports: &[u16]) -> Peer {
        let addresses = ports.iter().map(|port| ([127, 0, 0, number], *port).into()).collect();
        Peer { id: node(number).peer, addresses }
    }

    fn of(peers: &[Peer]) -> Introduction {
        Introduction { founding: None, observer: false, peers: peers.to_vec() }
    }

    fn members(numbers: &[u8]) -> Configuration {
        Configuration::of(numbers.iter().copied().map(node))
    }

    fn ports(addresses: &Addresses, number: u8) -> Option<Vec<u16>> {
        let known = addresses.get(&node(number).peer)?;
        Some(known.iter().map(SocketAddr::port).collect())
    }

    #[test]
    fn a_newcomer_dials_whom_its_neighbours_know_and_passes_on_only_its_own_neighbours() {
        let mut newcomer = Acquaintances::new(peer(4, &[4]), false, &[peer(1, &[1])]);
        assert!(newcomer.meet(Time::default(), node(1), of(&[peer(1, &[1]), peer(2, &[2])])));
        let to_dial = newcomer.whom_to_dial(None);
        assert_eq!((ports(&to_dial, 1), ports(&to_dial, 2)), (Some(vec![1]), Some(vec![2])));
        let said: Vec<PeerId> =
            newcomer.introduction(None).peers.iter().map(|peer| peer.id).collect();
        assert_eq!(said, [4, 1].map(|number| node(number).peer), "2 is hearsay");
        newcomer.part(node(1));
        assert_eq!(newcomer.introduction(None).peers, [peer(4, &[4])]);
    }

    #[test]
    fn a_member_dials_members_and_forgets_who_is_none() {
        let mut member = Acquaintances::new(peer(1, &[1]), false, &[]);
        member.meet(Time::default(), node(2), of(&[peer(2, &[2]), peer(3, &[3])]));
        let to_dial = member.whom_to_dial(Some(&members(&[1, 2])));
        assert_eq!((ports(&to_dial, 2), ports(&to_dial, 3)), (Some(vec![2]), None));
        let to_dial = member.whom_to_dial(Some(&members(&[1, 2, 3])));
        assert_eq!(ports(&to_dial, 3), None, "it was forgotten, and comes by itself");
    }

    #[test]
    fn of_itself_everyone_knows_best_and_the_newest_word_goes_first() {
        let mut member = Acquaintances::new(peer(1, &[1]), false, &[peer(2, &[2])]);
        let news = |member: &mut Acquaintances, from: u8, peers: &[Peer]| {
            member.meet(Time::default(), node(from), of(peers))
        };
        assert!(news(&mut member, 2, &[peer(2, &[22])]));
        assert!(!news(&mut member, 2, &[peer(2, &[22])]), "the same again");
        assert!(news(&mut member, 3, &[peer(3, &[3]), peer(2, &[99])]));
        let to_dial = member.whom_to_dial(Some(&members(&[1, 2, 3])));
        assert_eq!(ports(&to_dial, 2), Some(vec![22, 2]));
        // Once it is gone, a neighbour of its may know better where it has returned to.
        member.part(node(2));
        assert!(!news(&mut member, 3, &[peer(3, &[3]), peer(2, &[222])]));
        let to_dial = member.whom_to_dial(Some(&members(&[1, 2, 3])));
        assert_eq!(ports(&to_dial, 2), Some(vec![222, 2]));
        assert!(!to_dial.contains_key(&node(1).peer), "nobody dials itself");
    }

    #[test]
    fn a_node_is_there_since_its_first_word() {
        let mut member = Acquaintances::new(peer(1, &[1]), false, &[]);
        for ms in [5, 9] {
            let now = Time(std::time::Duration::from_millis(ms));
            member.meet(now, node(2), Introduction { observer: ms == 9, ..of(&[]) });
        }
        let since = Time(std::time::Duration::from_millis(5));
        let present = BTreeMap::from([(node(2), Present { since, observer: true })]);
        assert_eq!(member.present(), present);
    }

    #[test]
    fn what_is_known_is_bounded_whoever_speaks() {
        let mut member = Acquaintances::new(peer(1, &[1]), false, &[]);
        let crowd: Vec<Peer> = (0..200).map(|number| peer(number, &[9])).collect();
        member.meet(Time::default(), node(2), of(&crowd));
        assert!(member.heard.len() <= PEERS_MAX + 1, "{}", member.heard.len());
        assert!(of(&crowd).check().expect_err("too many").contains("200 peers, but at most 96"));
        let many = peer(2, &[7; 9]);
        let error = of(&[many]).check().expect_err("too many");
        assert!(error.contains("9 addresses of a peer, but at most 8"), "{error}");
        assert_eq!(of(&crowd[..PEERS_MAX]).check(), Ok(()));
    }
}
