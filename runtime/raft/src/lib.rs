//! The consensus core: Raft as a pure state machine.
//!
//! `step(now, input, effects)` and `deadline()` are the whole of it. It knows no clock, no
//! entropy, no disk and no network: time and seed are handed in, effects are handed out.
//! Sections cited as "Raft" are of *In Search of an Understandable Consensus Algorithm*
//! (extended version, 2014), as "thesis" of Ongaro's *Consensus: Bridging Theory and Practice*.

#![warn(clippy::missing_errors_doc)]

mod candidate;
mod config;
mod effect;
mod entries;
mod follower;
mod leader;
mod lease;
mod log;
mod membership;
mod message;
mod planted;
mod position;
mod progress;
mod quorum;
mod raft;
mod read;
mod sequenced;
mod server;
mod session;
mod voter;
mod writes;

pub use config::{Config, Inconsistent, Restored};
pub use effect::{
    Answer, Barrier, Dropped, Effect, Halt, HardState, Input, Note, Proposal, ProposalId, ReadId,
    Refusal, Write, WriteId,
};
pub use entries::{Entries, EntriesRef, PackedBuilder};
pub use lease::LeaseLimits;
pub use log::Log;
pub use membership::{Change, Configuration};
pub use message::{Appended, Entry, EntryRef, Message, NO_ROUND, Payload, Phase, Snapshot};
pub use planted::Planted;
pub use position::{Index, NodeId, PeerId, Position, StoreId, Term, Time};
pub use progress::Standing;
pub use raft::{Raft, Role};
pub use session::{Admission, RequestId, SessionId, SessionLimits, Sessions};
