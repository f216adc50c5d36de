//! What is done to a node or to links, and to which ones: plain data, nothing here acts.
//!
//! Knows no world. Which node a target means is decided when the fault is carried out, since
//! only then is it known who leads.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::link::LinkFaults;

/// A node of a cluster, counted from 1.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct NodeNumber(pub u64);

/// Something that happens to a node, or to its links.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The process ends at once, unasked (`SIGKILL`). It returns with the same store.
    Kill,
    /// The process stands still (`SIGSTOP`) and later goes on as if nothing had been
    /// (`SIGCONT`).
    Pause,
    /// The process ends in good order, and is started again with the same store.
    Restart,
    /// The node leaves the group in good order, and ends. It returns with the same store, and is
    /// taken in anew.
    Leave,
    /// The process ends at once, unasked, and its store is lost. It returns as another server,
    /// which takes the old one's place.
    Wipe,
    /// The leader hands over to another.
    Transfer,
    /// No datagram passes between the node and its peers; clients still reach it.
    Isolate,
    /// No datagram passes between nodes on different sides; clients still reach both.
    Partition,
    /// The node's clocks differ from those of the others.
    Clock,
    /// The node's disk fails, or is slow, or what stood on it is damaged when it returns.
    Disk,
    /// Datagrams between the node and its peers are lost, late, doubled, out of order or changed.
    Link,
}

/// At which moment of what it does a killed node ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashPoint {
    /// Whenever it is struck.
    #[default]
    Any,
    /// While something is on its way to its disk.
    Sync,
    /// It is about to write a vote.
    BeforeVote,
    /// A vote of its is durable, and nobody has heard of it.
    AfterVote,
    /// It is about to write entries.
    BeforeAppend,
    /// Entries are durable, and it has acknowledged none of them.
    AfterAppend,
}

/// Which node it happens to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Whoever leads at that moment.
    #[default]
    Leader,
    /// One that does not lead, drawn.
    Follower,
    /// Any, drawn.
    Random,
    /// All that are up, at one moment.
    All,
    /// This one.
    Node(NodeNumber),
}

impl Target {
    /// The node, if it is given by number.
    pub fn number(&self) -> Option<NodeNumber> {
        let Self::Node(node) = self else { return None };
        Some(*node)
    }
}

/// What shall befall the datagrams from one node to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkRule {
    /// Who sends them.
    pub from: NodeNumber,
    /// Whom to.
    pub to: NodeNumber,
    /// What befalls them.
    pub faults: LinkFaults,
}

impl Fault {
    /// The word for it in plans, marks and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Restart => "restart",
            Self::Leave => "leave",
            Self::Wipe => "wipe",
            Self::Transfer => "transfer",
            Self::Isolate => "isolate",
            Self::Partition => "partition",
            Self::Link => "link",
            Self::Clock => "clock",
            Self::Disk => "disk",
        }
    }

    /// Whether the process ends, and another one returns in its place.
    pub fn ends_process(self) -> bool {
        matches!(self, Self::Kill | Self::Restart | Self::Leave | Self::Wipe)
    }

    /// Whether it changes who is a member.
    pub fn changes_members(self) -> bool {
        matches!(self, Self::Leave | Self::Wipe)
    }

    /// Whether nodes must be told of it, which those that stand still cannot be.
    pub fn is_told(self) -> bool {
        self.hits_links()
            || matches!(
                self,
                Self::Clock | Self::Disk | Self::Transfer | Self::Restart | Self::Leave
            )
    }

    /// Whether it can befall all nodes at one moment: it asks nothing of anybody who is left.
    pub fn can_hit_all(self) -> bool {
        matches!(self, Self::Kill | Self::Pause | Self::Restart)
    }

    /// Whether it hits datagrams on their way and leaves the nodes alone.
    pub fn hits_links(self) -> bool {
        matches!(self, Self::Isolate | Self::Partition | Self::Link)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Sync => "sync",
            Self::BeforeVote => "before-vote",
            Self::AfterVote => "after-vote",
            Self::BeforeAppend => "before-append",
            Self::AfterAppend => "after-append",
        })
    }
}

impl fmt::Display for NodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("the leader"),
            Self::Follower => f.write_str("a follower"),
            Self::Random => f.write_str("any node"),
            Self::All => f.write_str("all nodes"),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}
