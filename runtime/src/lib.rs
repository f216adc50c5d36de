//! A peer-to-peer consensus runtime that other programs embed.
//!
//! Nodes hold direct authenticated QUIC connections ("bonds") to each other and form Raft groups
//! with replicated state machines. A [`Network`] is one node; [`Network::group`] makes it a
//! member of a group; [`Group::execute`] and [`Group::query`] are what a program does with it;
//! a program that is no member speaks to the members through [`Network::client`].

mod clock;
pub mod group;
mod machine;
mod metric;
pub mod network;
pub mod storage;

pub use clock::{Clock, SystemClock};
pub use group::{
    Bootstrap, Client, ClientBuilder, CommandError, ConfigError, ConsensusConfig, ConsensusProfile,
    Consistency, Event, Executed, Group, GroupBuilder, GroupError, GroupId, GroupKey,
    LeadershipPreference, Lineage, Queried, QueryError, Reason, Status, When,
};
pub use machine::{ApplyContext, StateMachine};
pub use network::{Link, Network, NetworkBuilder, NetworkError, NetworkId, Peer, SecretKey};
pub use raft::{
    Configuration, Entry, HardState, Index, NodeId, Note, Payload, PeerId, Phase, Position,
    RequestId, Role, SessionId, StoreId, Term, Time,
};
pub use storage::{Storage, StorageError};
