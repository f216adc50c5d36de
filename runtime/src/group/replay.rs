//! A member far behind fetches committed entries from all others in parallel.
//!
//! `frame` is what is said, `plan` who is asked for what, `chunk` what a piece of the log comes
//! to, `packed` how its entries travel, `vouched` which of them a leader knows, `serve` what
//! others ask of us, `throttle` how fast, `tally` what came of it. The driver's half is
//! `driver/replaying.rs`. Invariants: entries are handed to the core only on the word of the
//! present leader, never on that of who carries them; nothing here moves an election timer.

pub(crate) mod chunk;
mod frame;
mod packed;
mod plan;
mod serve;
mod tally;
#[cfg(test)]
mod tests;
mod throttle;
mod vouched;

pub(crate) use frame::{MARKS_MAX, Mark, Marks, ReplayFrame};
pub(crate) use plan::{Goal, Ledger, Order, Plan};
pub(crate) use serve::{Request, Serving};
pub use tally::{ReplayEnd, ReplayEnded, Replayed, SourceTally};
pub(crate) use vouched::Vouched;

/// Whether a member that lacks so many committed entries fetches them from all others: with
/// fewer, its leader's own appends have done it before questions and answers are exchanged.
pub(crate) fn is_far(behind: u64) -> bool {
    behind >= LAG_ENTRIES_MIN
}

/// What a leader vouches for in one answer, unless one chunk alone is more: hashing it is all
/// that fetching asks of a leader, and must not hold its heartbeats up.
pub(crate) const MARKS_BYTES_MAX: usize = 1 << 20;
/// Several times what is left to the leader at the end, or one would begin as another ends.
const LAG_ENTRIES_MIN: u64 = 4_096;
