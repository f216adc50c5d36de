//! A peer-to-peer consensus runtime that other programs embed.
//!
//! Nodes hold direct authenticated QUIC connections ("bonds") to each other and form Raft groups
//! with replicated state machines. A [`Network`] is one node; [`Network::group`] makes it a
//! member of a group; [`Group::execute`] and [`Group::query`] are what a program does with it;
//! a program that is no member speaks to the members through [`Network::client`].
//!
//! ```
//! use runtime::{Bootstrap, Consistency, GroupKey, Network, storage};
//! # use runtime::{ApplyContext, StateMachine};
//! # use std::io;
//! # #[derive(Default)]
//! # struct Counter(u64);
//! # impl StateMachine for Counter {
//! #     type Command = u64;
//! #     type Output = u64;
//! #     type Query = ();
//! #     type Answer = u64;
//! #     const SIGNATURE: &'static str = "counter 1";
//! #     fn apply(&mut self, command: u64, _: &ApplyContext) -> u64 {
//! #         self.0 += command;
//! #         self.0
//! #     }
//! #     fn query(&self, (): ()) -> u64 {
//! #         self.0
//! #     }
//! #     fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
//! #         writer.write_all(&self.0.to_le_bytes())
//! #     }
//! #     fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
//! #         let mut value = [0; 8];
//! #         reader.read_exact(&mut value)?;
//! #         self.0 = u64::from_le_bytes(value);
//! #         Ok(())
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = Network::builder("my-network").bind(([127, 0, 0, 1], 0).into()).build().await?;
//! let group = network
//!     .group(GroupKey::from_secret("shared by all members"))
//!     .machine(Counter::default())
//!     .storage(storage::Memory)
//!     .bootstrap(Bootstrap::Solo)
//!     .join()
//!     .await?;
//! let executed = group.execute(42).await?;
//! let queried = group.query((), Consistency::Strong).await?;
//! assert_eq!((executed.output, queried.answer), (42, 42));
//! network.shutdown().await;
//! # Ok(())
//! # }
//! ```

#![warn(clippy::missing_errors_doc)]

mod clock;
mod encoded;
pub mod group;
mod machine;
mod metric;
pub mod network;
pub mod storage;
#[cfg(feature = "datagram")]
pub mod transport;

pub use clock::{Clock, SystemClock};
pub use group::{
    Bootstrap, Cause, Client, ClientBuilder, CommandError, ConfigError, ConsensusConfig,
    ConsensusProfile, Consistency, Event, Executed, Group, GroupBuilder, GroupError, GroupId,
    GroupKey, LaneBytes, LeadershipPreference, Lineage, Queried, QueryError, Reason, ReplayEnd,
    ReplayEnded, Replayed, SourceTally, Status, When,
};
pub use machine::{ApplyContext, StateMachine};
pub use network::{Link, Network, NetworkBuilder, NetworkError, NetworkId, Peer, SecretKey};
pub use raft::{
    Change, Configuration, Entry, EntryRef, HardState, Index, LeaseLimits, NodeId, Note, Payload,
    PeerId, Phase, Planted, Position, RequestId, Role, SessionId, Snapshot, StoreId, Term, Time,
};
pub use storage::{Storage, StorageError};
