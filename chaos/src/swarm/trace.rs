//! What happened, folded into one number.
//!
//! Two runs with the same number delivered the same messages at the same moments.

use raft::{Appended, Message};

use crate::seed::mix;

/// Tells messages apart, for the trace.
pub(super) fn fingerprint(message: &Message) -> u64 {
    let term = message.term().0;
    let (kind, first, second) = match message {
        Message::RequestVote { phase, last, transfer, .. } => {
            (1, last.index.0, last.term.0 << 2 | u64::from(*transfer) << 1 | (*phase as u64))
        }
        Message::Vote { phase, granted, .. } => (2, *phase as u64, u64::from(*granted)),
        Message::Append { prev, entries, commit, .. } => {
            (3, mix(prev.index.0, prev.term.0), mix(entries.len() as u64, commit.0))
        }
        Message::AppendReply { outcome: Appended::Matched(index), .. } => (4, index.0, 0),
        Message::AppendReply { outcome: Appended::Rejected { prev, hint }, .. } => {
            (5, prev.0, mix(hint.index.0, hint.term.0))
        }
        Message::Heartbeat { round, commit, .. } => (6, *round, commit.0),
        Message::HeartbeatReply { round, .. } => (7, *round, 0),
        Message::TimeoutNow { .. } => (8, 0, 0),
        Message::InstallSnapshot { snapshot, .. } => {
            (9, snapshot.position.index.0, snapshot.position.term.0)
        }
    };
    mix(mix(kind, term), mix(first, second))
}
