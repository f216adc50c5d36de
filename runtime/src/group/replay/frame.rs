//! What members say to each other about entries in bulk.
//!
//! Invariant: every question has a number and every answer repeats it; nothing that is said here
//! is believed: what a chunk must be is vouched for by the leader alone, in its [`Mark`].

use bytes::Bytes;
use raft::{Index, Position, Term};
use serde::{Deserialize, Serialize};

/// Between two members: entries on the bulk lane, all else, which is small, on the control lane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum ReplayFrame {
    /// Which committed entries do you hold?
    AskHeld {
        /// Returns in the answer.
        id: u64,
    },
    /// Those in `(after, commit]`. Also the answer to who asks for others.
    Held {
        /// From the question.
        id: u64,
        /// What came before is compacted away.
        after: Index,
        /// What follows is not known to be committed.
        commit: Index,
    },
    /// To the leader of the term: what do the next chunks look like?
    AskMarks {
        /// Returns in the answer.
        id: u64,
        /// The term that the leader leads.
        term: Term,
        /// The last entry of the chunk before.
        after: Index,
    },
    /// The leader vouches for these.
    Marks(Marks),
    /// Entries in `(after, last]` are wanted.
    Fetch {
        /// Returns in the answer.
        id: u64,
        /// The index before the first.
        after: Index,
        /// The last.
        last: Index,
    },
    /// These are they, as [`super::chunk::encode`] puts it.
    Entries {
        /// From the question.
        id: u64,
        /// One entry after the other.
        entries: Bytes,
    },
    /// Not now: too much is asked already.
    Busy {
        /// From the question.
        id: u64,
    },
    /// To the leader of the term: no entries, please, for the sender fetches what it lacks by
    /// itself; or it does so no more.
    Fetching {
        /// The term that the leader leads.
        term: Term,
        /// It does so no more.
        ends: bool,
    },
}

/// What a leader vouches for: chunks of its log that follow each other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// From the question.
    pub(crate) id: u64,
    /// The term in which it vouches.
    pub(crate) term: Term,
    /// The entry just before the first chunk.
    pub(crate) prev: Position,
    /// All of them committed; none where nothing more is.
    pub(crate) marks: Vec<Mark>,
    /// The leader's commit index.
    pub(crate) commit: Index,
}

/// The end of a chunk, and what the chunk comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Its last entry.
    pub(crate) last: Position,
    /// What its entries take up, encoded.
    pub(crate) bytes: u32,
    /// Of its encoded entries, running on from the mark before.
    pub(crate) digest: Digest,
}

/// A hash that nobody finds two inputs for.
pub(crate) type Digest = [u8; 32];

impl ReplayFrame {
    /// Whether a correct member could have said it, judged by the frame alone; else what is
    /// wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::Marks(marks) => marks.check(),
            Self::Held { after, commit, .. } if after > commit => {
                Err(format!("entries after {after} up to {commit}"))
            }
            Self::Fetch { after, last, .. } if after >= last => {
                Err(format!("a wish for entries after {after} up to {last}"))
            }
            Self::AskHeld { .. }
            | Self::Held { .. }
            | Self::AskMarks { .. }
            | Self::Fetch { .. }
            | Self::Entries { .. }
            | Self::Busy { .. }
            | Self::Fetching { .. } => Ok(()),
        }
    }
}

impl Marks {
    fn check(&self) -> Result<(), String> {
        if self.marks.len() > MARKS_MAX {
            return Err(format!("{} marks, but at most {MARKS_MAX} may be", self.marks.len()));
        }
        let mut before = self.prev;
        for mark in &self.marks {
            let last = mark.last;
            let follows = last.index > before.index && last.term >= before.term;
            if !follows || last.term > self.term || last.index > self.commit || mark.bytes == 0 {
                return Err(format!("a mark at {last} of {} bytes after {before}", mark.bytes));
            }
            before = last;
        }
        Ok(())
    }
}

/// Chunks that a leader vouches for at a time.
pub(crate) const MARKS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(term: u64, index: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }

    fn marks(lasts: &[Position]) -> ReplayFrame {
        let mark = |last: &Position| Mark { last: *last, bytes: 9, digest: [7; 32] };
        let marks = lasts.iter().map(mark).collect();
        ReplayFrame::Marks(Marks { id: 1, term: Term(3), prev: at(1, 5), marks, commit: Index(9) })
    }

    #[test]
    fn marks_follow_each_other_and_end_by_what_is_committed() {
        for good in [&[][..], &[at(1, 6)], &[at(1, 6), at(1, 7), at(3, 9)]] {
            assert_eq!(marks(good).check(), Ok(()), "{good:?}");
        }
        for bad in [
            &[at(1, 5)][..],
            &[at(0, 6)],
            &[at(4, 6)],
            &[at(1, 10)],
            &[at(2, 7), at(1, 8)],
            &[at(1, 7), at(1, 7)],
            &[at(1, 7), at(1, 6)],
        ] {
            marks(bad).check().expect_err("no leader says so");
        }
        let many = vec![at(1, 6); MARKS_MAX + 1];
        assert!(marks(&many).check().expect_err("too many").contains("257 marks"));
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        let (id, five, six) = (1, Index(5), Index(6));
        ReplayFrame::Held { id, after: five, commit: five }.check().expect("it holds nothing");
        ReplayFrame::Held { id, after: six, commit: five }.check().expect_err("the wrong way");
        ReplayFrame::Fetch { id, after: five, last: six }.check().expect("one entry");
        ReplayFrame::Fetch { id, after: five, last: five }.check().expect_err("none");
        ReplayFrame::Fetch { id, after: six, last: five }.check().expect_err("the wrong way");
    }
}
