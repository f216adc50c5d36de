//! Raft groups over bonds: the table of contents.
//!
//! A call's way: [`Group`] or [`Client`], `caller` (a client's agent and the node's `serve`),
//! `mailbox`, `driver`, the core, storage and bonds, `applier`, and back through its `Answerer`.

mod alarm;
mod answer;
mod answers;
mod applier;
mod body;
mod bond;
mod budget;
mod builder;
mod caller;
mod calls;
mod client;
mod config;
mod driver;
mod founding;
#[cfg(test)]
mod garbage;
mod handle;
mod identity;
mod introduction;
mod life;
mod mailbox;
mod metric;
mod replay;
#[cfg(test)]
mod samples;
mod serve;
mod status;
mod steward;
mod transfer;
mod wire;

pub use builder::{GroupBuilder, GroupError};
pub use caller::{CommandError, Consistency, Executed, Queried, QueryError};
pub use client::{Client, ClientBuilder};
pub use config::{ConfigError, ConsensusConfig, ConsensusProfile, LeadershipPreference};
pub use founding::Bootstrap;
pub use handle::Group;
pub use identity::{GroupId, GroupKey, Lineage};
pub use replay::{ReplayEnd, ReplayEnded, Replayed, SourceTally};
pub use status::{Event, LaneBytes, Status, When};
pub use steward::Cause;
pub use wire::Reason;
