//! What the driver of one server owes to clients whose commands stand in its log.
//!
//! Plain bookkeeping: where each command stands, until the index is applied and its fate known.
//! A crash takes it all, and then nobody is answered. Judges nothing; the world tells clients.

use raft::{Index, Position, RequestId};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Calls(Vec<Call>);

/// A command of a client that stands in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Where it was put.
    pub(super) position: Position,
    /// Who asked.
    pub(super) client: usize,
    /// For what.
    pub(super) request: RequestId,
}

impl Calls {
    /// A client waits for this command.
    pub(super) fn open(&mut self, call: Call) {
        self.0.push(call);
    }

    /// The entry at this index is applied: yields who waited for it.
    pub(super) fn ended(&mut self, index: Index) -> Vec<Call> {
        if self.0.is_empty() {
            return Vec::new();
        }
        self.0.extract_if(.., |call| call.position.index == index).collect()
    }

    /// The log after this index gave way: yields who waits for something in it.
    pub(super) fn cut_off(&mut self, after: Index) -> Vec<Call> {
        self.0.extract_if(.., |call| call.position.index > after).collect()
    }

    /// A snapshot covers the log up to here: what became of those commands is not known.
    pub(super) fn covered(&mut self, through: Index) {
        self.0.retain(|call| call.position.index > through);
    }
}
