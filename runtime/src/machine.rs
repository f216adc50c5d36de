//! What a group replicates: the user's state machine.
//!
//! Invariant: the machine is a function of the log. It reads no clock and no entropy, and what
//! it returns depends on nothing but the commands applied so far.

use std::io;

use raft::Position;
use serde::{Serialize, de::DeserializeOwned};

/// A replicated state machine.
///
/// Commands, queries and their results travel in postcard. A machine that panics stops its member,
/// which says with what; the command that it panics at stays in the log, and every member comes to
/// it.
pub trait StateMachine: Send + 'static {
    /// Changes the state; goes through the log.
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// What applying a command yields.
    type Output: Serialize + DeserializeOwned + Send + 'static;
    /// Reads the state; never goes through the log.
    type Query: Serialize + DeserializeOwned + Send + 'static;
    /// What a query yields.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// Names the machine and the version of its encoding and behaviour. Part of the group's id:
    /// members with different signatures are different groups.
    const SIGNATURE: &'static str;

    /// Applies a committed command. Must be deterministic.
    fn apply(&mut self, command: Self::Command, context: &ApplyContext) -> Self::Output;

    /// Answers from the present state.
    fn query(&self, query: Self::Query) -> Self::Answer;

    /// Writes the whole state.
    ///
    /// # Errors
    /// Those of the writer.
    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()>;

    /// Replaces the state by one that [`StateMachine::snapshot`] wrote.
    ///
    /// # Errors
    /// Those of the reader, and `InvalidData` for what no snapshot holds.
    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()>;
}

/// Where in history a command is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApplyContext {
    /// The command's own position in the log.
    pub position: Position,
}
