//! Real bonds on loopback: which connection is kept, who is let in, and what peers may do.

mod forming;
mod members;
mod peers;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use raft::{Configuration, Index, Message, NodeId, Phase, Position, StoreId, Term};
use tokio::sync::watch;

use super::{Admittance, BondEvent, BondEvents, Bonds, Member};
use crate::{
    Clock, ConsensusConfig, ConsensusProfile, GroupId, GroupKey, Lineage, Network, Peer, SecretKey,
    SystemClock,
    group::{
        alarm::Alarm,
        replay::ReplayFrame,
        samples::{JumpingClock, soon, until},
        wire::MemberFrame,
    },
};

/// One member of a group of numbered nodes.
struct Node {
    network: Network,
    node: NodeId,
    bonds: Bonds,
    events: BondEvents,
    admit: watch::Sender<Admittance>,
    alarm: Alarm,
}

/// How a member is made.
#[derive(Clone)]
struct Wish {
    number: u8,
    name: &'static str,
    key: GroupKey,
    group: GroupId,
    store: StoreId,
    consensus: ConsensusConfig,
    admittance: Admittance,
    clock: Arc<dyn Clock>,
}

impl Wish {
    /// Member `number` of a group that nodes 1, 2 and 3 are founding.
    fn new(number: u8) -> Self {
        let key = GroupKey::from_secret("bonds");
        let consensus = ConsensusProfile::Lan.config();
        Self {
            number,
            name: "bonds",
            group: GroupId::of(&key, "machine", &consensus),
            key,
            store: StoreId(number.into()),
            consensus,
            admittance: Admittance {
                founders: Some([1, 2, 3].map(|number| secret(number).peer_id()).into()),
                ..Admittance::of(StoreId(number.into()))
            },
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The group is founded, by these stores.
    fn founded(mut self, stores: [u128; 3]) -> Self {
        let members: BTreeSet<_> =
            (1..).zip(stores).map(|(number, store)| id(number, store)).collect();
        let configuration = Configuration::of(members.iter().copied());
        let lineage = Some(Lineage::of(self.group, &configuration));
        self.admittance = Admittance { lineage, members, ..Admittance::of(self.store) };
        self
    }

    async fn network(&self) -> Network {
        Network::builder(self.name)
            .bind(([127, 0, 0, 1], 0).into())
            .secret_key(secret(self.number))
            .clock(Arc::clone(&self.clock))
            .build()
            .await
            .expect("a free port on loopback")
    }

    /// A member on a network of its own that dials these peers.
    async fn start(&self, peers: &[Peer]) -> Node {
        self.on(&self.network().await, peers)
    }

    fn on(&self, network: &Network, peers: &[Peer]) -> Node {
        let shown = Admittance { store: self.store, ..self.admittance.clone() };
        let (admit, admittance) = watch::channel(shown);
        let member = Member {
            group: self.group,
            key: self.key.clone(),
            consensus: self.consensus.clone(),
            peers: peers.to_vec(),
            admittance,
        };
        let node = NodeId { peer: network.peer().id, store: self.store };
        let alarm = Alarm::default();
        let (bonds, events) = Bonds::spawn(network, member, alarm.clone());
        Node { network: network.clone(), node, bonds, events, admit, alarm }
    }
}

impl Node {
    fn peer(&self) -> Peer {
        self.network.peer()
    }

    async fn event(&mut self) -> BondEvent {
        soon("an event", self.events.recv()).await.expect("the bonds are at work")
    }

    async fn up(&mut self) -> NodeId {
        match self.event().await {
            BondEvent::Up { node, .. } => node,
            other => panic!("not up: {other:?}"),
        }
    }

    async fn down(&mut self) -> NodeId {
        match self.event().await {
            BondEvent::Down { node } => node,
            other => panic!("not down: {other:?}"),
        }
    }

    /// The term of the next frame, which must be a vote.
    async fn vote(&mut self) -> (NodeId, u64) {
        match self.event().await {
            BondEvent::Frame {
                from,
                frame: MemberFrame::Raft(Message::Vote { term: Term(term), .. }),
            } => (from, term),
            other => panic!("not a vote: {other:?}"),
        }
    }

    /// The connection with this node by the number that both ends know.
    fn connection(&self, node: NodeId) -> Option<u64> {
        let bond = self.bonds.side.table.bond(node)?;
        Some(crate::network::connection_id(&bond.connection))
    }
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes([number; 32])
}

fn id(number: u8, store: u128) -> NodeId {
    NodeId { peer: secret(number).peer_id(), store: StoreId(store) }
}

/// A small frame of the control lane, told apart by its term.
fn vote(term: u64) -> MemberFrame {
    let (term, phase) = (Term(term), Phase::Vote);
    MemberFrame::Raft(Message::Vote { term, phase, granted: true })
}

/// A frame of the bulk lane.
fn bulk(bytes: usize) -> MemberFrame {
    MemberFrame::Replay(ReplayFrame::Entries { id: 1, entries: vec![7; bytes].into() })
}

/// A frame of the append lane.
fn append(bytes: usize) -> MemberFrame {
    let command = bytes::Bytes::from(vec![7; bytes]);
    let request = raft::RequestId { session: raft::SessionId(Index(1)), sequence: 1 };
    let payload = raft::Payload::Command { request, floor: 1, command };
    let entries =
        vec![raft::Entry { position: Position { term: Term(1), index: Index(1) }, payload }];
    let (prev, commit) = (Position::default(), Index(0));
    MemberFrame::Raft(Message::Append { term: Term(1), prev, entries: entries.into(), commit })
}
