//! What a world gives to a run: nodes that can be started, hit, asked and watched.
//!
//! The run, the nemesis and the workload know only these traits, never which world is behind
//! them. Invariant: all times of one cluster, those in the nodes' events included, are of one
//! monotonic clock.

use std::{collections::BTreeMap, future::Future};

use runtime::{Client, ConsensusConfig, Index, PeerId, Planted, Role, Time};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    disk::{DiskFault, DiskReport},
    fault::{CrashPoint, LinkRule, NodeNumber},
    history::LogLine,
    link::LinkCounts,
    plan::{Plan, StorageKind},
    register::Registers,
    seed::Seed,
    skew::ClockFault,
};

/// Makes clusters.
pub trait World: Send + Sync {
    /// What it makes.
    type Cluster: Cluster;

    /// Its name: `process` or `sim`.
    fn name(&self) -> &'static str;

    /// The monotonic clock of all its clusters.
    fn now(&self) -> Time;

    /// What carries the datagrams of a plan's nodes, in words.
    fn transport(&self, plan: &Plan) -> &'static str;

    /// Starts the nodes and has them join the group. Does not wait for a leader.
    fn start(
        &self,
        settings: Settings,
        events: mpsc::Sender<NodeEvent>,
    ) -> impl Future<Output = Result<Self::Cluster, ClusterError>> + Send;

    /// Does what takes its time and waits for nothing, such as judging.
    ///
    /// # Errors
    /// If it falls.
    fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, ClusterError>> + Send;

    /// Removes what the nodes' stores left behind.
    ///
    /// # Errors
    /// In words.
    fn clean(&self) -> Result<(), String>;
}

/// What the nodes of a cluster shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How many.
    pub nodes: u64,
    /// How many groups they are members of.
    pub groups: u64,
    /// How they keep time and how much they take on.
    pub consensus: ConsensusConfig,
    /// Where they remember.
    pub storage: StorageKind,
    /// A rule that they break on purpose.
    pub planted: Option<Planted>,
    /// Whether the links between them can be hurt.
    pub packet_faults: bool,
    /// Decides their identities and all their draws.
    pub seed: Seed,
    /// Which cluster of the run it is, from 1: a cluster never opens another's stores.
    pub number: u64,
}

/// Counts of the datagrams from each node to each.
pub type CountsByLink = BTreeMap<(NodeNumber, NodeNumber), LinkCounts>;

/// Nodes of one group, or of several.
pub trait Cluster: Send + Sync + 'static {
    /// The monotonic clock.
    fn now(&self) -> Time;

    /// Lets time pass until then.
    fn advance(&self, until: Time) -> impl Future<Output = ()> + Send;

    /// When the start of the first node began.
    fn started(&self) -> Time;

    /// Ends nodes, all at one moment: at once, or where it is one alone at a chosen point. Resolves
    /// when they are proven to be gone. The time is that of the moment just before.
    fn kill(
        &self,
        nodes: &[NodeNumber],
        point: CrashPoint,
    ) -> impl Future<Output = Result<Time, ClusterError>> + Send;

    /// Ends a node in good order; resolves when it is gone. The time is that of the moment just
    /// before.
    fn end(&self, node: NodeNumber) -> impl Future<Output = Result<Time, ClusterError>> + Send;

    /// Has a node leave the group in good order and end; resolves when it is gone, or with an
    /// error if it is a member still. The time is that of the moment just before.
    fn leave(&self, node: NodeNumber) -> impl Future<Output = Result<Time, ClusterError>> + Send;

    /// Takes a killed node's store away.
    fn wipe(&self, node: NodeNumber) -> impl Future<Output = Result<(), ClusterError>> + Send;

    /// Has a node that leads hand over to another; resolves when it leads no more, or with an
    /// error if it did not lead. The time is that of the moment just before.
    fn hand_over(
        &self,
        node: NodeNumber,
    ) -> impl Future<Output = Result<Time, ClusterError>> + Send;

    /// Makes a node stand still; resolves when it is proven to. The time is that of the moment
    /// just before.
    fn pause(&self, node: NodeNumber) -> impl Future<Output = Result<Time, ClusterError>> + Send;

    /// Lets a paused node go on. The time is that of the moment just before.
    fn resume(&self, node: NodeNumber) -> impl Future<Output = Result<Time, ClusterError>> + Send;

    /// Starts a killed node again, with its store and at its old address; one that remembers in
    /// memory gets a new store, and is another server. The time is that of the moment just before.
    /// Of what keeps it from its start only [`ClusterError::Start`] is its own doing.
    fn restart(&self, node: NodeNumber) -> impl Future<Output = Result<Time, ClusterError>> + Send;

    /// From now on this befalls the datagrams between nodes; other links stay as they are, and
    /// those of clients are never hurt. A node that is down learns it before it listens again.
    /// Resolves when all who send by these rules have them; the time is that of the moment just
    /// before.
    fn link(&self, rules: &[LinkRule]) -> impl Future<Output = Result<Time, ClusterError>> + Send;

    /// From now on this befalls the node's clocks, in place of what did before; jumps of the wall
    /// clock add up. It outlives a restart of the node. Resolves once the node has been seen to
    /// follow; the time is that of the moment just before.
    fn clock(
        &self,
        node: NodeNumber,
        fault: &ClockFault,
    ) -> impl Future<Output = Result<Time, ClusterError>> + Send;

    /// From now on this befalls the node's disk in place of what did before, or nothing does. It
    /// outlives a restart of the node. The time is that of the moment just before.
    fn disk(
        &self,
        node: NodeNumber,
        fault: Option<DiskFault>,
    ) -> impl Future<Output = Result<Time, ClusterError>> + Send;

    /// What came of the fault of a node's disk, since it began or the node was started.
    fn disk_report(
        &self,
        node: NodeNumber,
    ) -> impl Future<Output = Result<DiskReport, ClusterError>> + Send;

    /// Changes one bit of what a killed node's store holds and what later writes prove durable;
    /// says of which file.
    fn flip(&self, node: NodeNumber) -> impl Future<Output = Result<String, ClusterError>> + Send;

    /// What has befallen the datagrams on all links that were ever hurt, since the start of the
    /// node that sends them. Nodes that are down say nothing.
    fn link_counts(&self) -> impl Future<Output = Result<CountsByLink, ClusterError>> + Send;

    /// A node's own view.
    fn status(
        &self,
        node: NodeNumber,
    ) -> impl Future<Output = Result<NodeStatus, ClusterError>> + Send;

    /// Resolves when a node has applied everything up to the index, with the moment at which it
    /// had.
    fn reached(
        &self,
        node: NodeNumber,
        index: Index,
    ) -> impl Future<Output = Result<Time, ClusterError>> + Send;

    /// A page of a node's committed log; empty at its end.
    fn log(
        &self,
        node: NodeNumber,
        from: Index,
    ) -> impl Future<Output = Result<Vec<LogLine>, ClusterError>> + Send;

    /// A client with an endpoint of its own that may ask these nodes, the first one first.
    fn client(
        &self,
        name: u64,
        nodes: &[NodeNumber],
    ) -> impl Future<Output = Result<Client<Registers>, ClusterError>> + Send;

    /// The same nodes as members of another group, where they are members of several: the first is
    /// that of whoever says nothing. What is done to nodes and links is done to all groups.
    fn beside(&self, _group: u64) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

    /// The number of the node with this id.
    fn number(&self, peer: PeerId) -> Option<NodeNumber>;

    /// Ends all nodes, politely where they still answer.
    fn stop(&self) -> impl Future<Output = Result<(), ClusterError>> + Send;
}

/// A node's own view, in the laboratory's words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Whom it believes to lead.
    pub leader: Option<NodeNumber>,
    /// What it knows to be committed.
    pub commit: u64,
    /// What it has applied.
    pub applied: u64,
    /// The term of the last entry of its log.
    pub last_term: u64,
    /// The last entry of its log.
    pub last: u64,
    /// Members that it holds bonds to, in order.
    pub bonded: Vec<NodeNumber>,
    /// Who votes, in the configuration in force there, in order.
    pub voters: Vec<NodeNumber>,
    /// Whether it is one of them itself, with the store that it has.
    pub votes: bool,
    /// Why it stopped, once it has.
    pub stopped: Option<String>,
    /// Events that it could not tell because the harness did not listen.
    pub events_lost: u64,
    /// What it has fetched in bulk since it started, of what it lacked.
    pub fetched: Fetched,
}

/// What a node has fetched in bulk of what it lacked.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Fetched {
    /// From whom, in order.
    pub sources: Vec<Source>,
    /// Answers that were not what the leader vouches for.
    pub wrong: u64,
}

/// What was fetched from one other node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Source {
    /// The node.
    pub node: NodeNumber,
    /// Chunks.
    pub chunks: u64,
    /// The entries in them.
    pub entries: u64,
    /// Their bytes, encoded.
    pub bytes: u64,
}

/// How a node's part in the group changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberChange {
    /// It learns.
    Added,
    /// It votes.
    Promoted,
    /// It is no member.
    Removed,
}

/// Something that a node noted about itself, or the world about a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeEvent {
    /// When, on the cluster's clock.
    pub at_ns: u64,
    /// Which node.
    pub node: NodeNumber,
    /// What.
    pub what: What,
}

/// What a node noted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// All founders have met.
    Founded,
    /// A configuration is in force at the teller that differs from the one before in this.
    Member {
        /// Whose part.
        node: NodeNumber,
        /// What it is now.
        is: MemberChange,
    },
    /// A bond came up.
    Bonded {
        /// With whom.
        with: NodeNumber,
    },
    /// A bond went down.
    Unbonded {
        /// With whom.
        with: NodeNumber,
    },
    /// A campaign began.
    Campaign {
        /// For which term.
        term: u64,
        /// Whether it only asked whether it could win.
        pre_vote: bool,
    },
    /// The role or the term changed.
    Became {
        /// The role now.
        role: Role,
        /// The term now.
        term: u64,
    },
    /// It knows who leads, itself included; `None`: nobody.
    Leader {
        /// Who.
        leader: Option<NodeNumber>,
        /// Its term.
        term: u64,
    },
    /// The first commit since the last change of role or term. A leader's is of its own term
    /// (Raft §5.4.2); the later ones are not told.
    Committed {
        /// The index.
        index: u64,
        /// The term.
        term: u64,
    },
    /// Anything else of note.
    Note {
        /// In words.
        text: String,
    },
    /// The host kept the node from running for 20 ms or more: a thread beside the member's that
    /// asked to sleep 5 ms woke so late. That the member's own timer came late is only noted.
    Stall {
        /// Since when it should have run.
        from_ns: u64,
    },
    /// A sample of what the node uses.
    Usage {
        /// Resident memory.
        resident_kb: u64,
        /// Of it, what the log is reckoned to take.
        log_kb: u64,
        /// Processor time since its start.
        cpu_ms: u64,
        /// How much waits in its queues.
        queues: Queues,
    },
    /// The member stopped by itself.
    Stopped {
        /// Why.
        reason: String,
    },
    /// The node ended and nobody had asked it to.
    Died {
        /// How, and the end of its log.
        reason: String,
    },
}

/// How much waits in a node's queues, of all its groups together. Kilobytes are rounded up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Queues {
    /// Calls under way for its users, its clients and its peers.
    pub calls: u64,
    /// Calls that its members' own tasks have not taken up yet.
    pub mailbox_calls: u64,
    /// Bonds and lanes that came or went, unheard by those tasks.
    pub bond_events: u64,
    /// Batches that wait for its machines.
    pub applier_batches: u64,
    /// Messages held back until what they promise is durable.
    pub held_messages: u64,
    /// What its stores were given and do not hold durably yet.
    pub storage_backlog_kb: u64,
    /// What waits in front of the lanes of its bonds: votes, heartbeats and acknowledgements;
    pub lane_control_kb: u64,
    /// entries;
    pub lane_append_kb: u64,
    /// calls that are passed on, and their answers;
    pub lane_client_kb: u64,
    /// and what those fetch who are far behind.
    pub lane_bulk_kb: u64,
}

/// Why a cluster does not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ClusterError {
    /// A node did not start, and it is its own doing: it does not open its store, or it fell.
    #[error("node {node} did not start: {reason}")]
    Start {
        /// The node.
        node: NodeNumber,
        /// Why, and the end of its log.
        reason: String,
    },
    /// A node is gone or stands still.
    #[error("node {node} cannot be asked: {reason}")]
    Gone {
        /// The node.
        node: NodeNumber,
        /// Why.
        reason: String,
    },
    /// A node did not answer in time.
    #[error("node {node} did not answer {what} within {bound_ms} ms")]
    Late {
        /// The node.
        node: NodeNumber,
        /// What it was asked.
        what: &'static str,
        /// The bound.
        bound_ms: u64,
    },
    /// A node answered that it cannot.
    #[error("node {node} refused: {reason}")]
    Refused {
        /// The node.
        node: NodeNumber,
        /// Why.
        reason: String,
    },
    /// A fault did not take place.
    #[error("the fault on node {node} did not take place: {reason}")]
    Fault {
        /// The node.
        node: NodeNumber,
        /// What was seen instead.
        reason: String,
    },
    /// A client could not connect.
    #[error("client {client} could not connect: {reason}")]
    Client {
        /// The client.
        client: u64,
        /// Why.
        reason: String,
    },
    /// The world itself failed, or has not got what a node needs.
    #[error("{0}")]
    World(String),
}
