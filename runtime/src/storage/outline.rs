//! What the stream says so far, without the commands: enough to see a contradiction.
//!
//! The same rules judge what is about to be written and what is read back, so that a store never
//! accepts what it would refuse to open. Knows no files and no commit index.
//!
//! Invariant: terms along the log never fall, and none is above the term on record.

use raft::{EntriesRef, HardState, Index, Position, Term};

use super::forcing::Forced;

/// Term, vote, and which terms the log holds where.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outline {
    hard_state: HardState,
    last: Index,
    /// The first index of each term in the log, in order.
    terms: Vec<(Index, Term)>,
    /// A snapshot covers the log up to here: it is committed.
    covered: Index,
}

impl Outline {
    pub(crate) const fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// What a part of the stream goes on from: term and vote, and where the log ended.
    pub(crate) fn after(hard_state: HardState, last: Position) -> Self {
        let terms = if last.index == Index(0) { Vec::new() } else { vec![(last.index, last.term)] };
        Self { hard_state, last: last.index, terms, covered: Index(0) }
    }

    /// The end of the log.
    pub(crate) fn last(&self) -> Position {
        let term = self.terms.last().map_or(Term(0), |(_, term)| *term);
        Position { term, index: self.last }
    }

    /// Takes in that a snapshot covers the log up to there.
    pub(crate) fn cover(&mut self, position: Position) -> Result<(), String> {
        if position.index > self.last {
            return Err(format!("a snapshot at {position} of a log of {}", self.last));
        }
        if position.term > self.hard_state.term {
            return Err(format!("a snapshot at {position} in term {}", self.hard_state.term));
        }
        self.covered = self.covered.max(position.index);
        Ok(())
    }

    /// Takes in a new term or vote.
    pub(crate) fn elect(&mut self, next: HardState) -> Result<(), String> {
        let now = self.hard_state;
        if next.term < now.term {
            return Err(format!("term {} after term {}", next.term, now.term));
        }
        // Raft §5.2: a server votes for at most one candidate in a term, and never forgets it.
        if next.term == now.term && now.vote.is_some() && next.vote != now.vote {
            return Err(format!(
                "vote {:?} after vote {:?} in term {}",
                next.vote, now.vote, now.term
            ));
        }
        self.hard_state = next;
        Ok(())
    }

    /// Takes in a new suffix of the log.
    pub(crate) fn replace(&mut self, after: Index, entries: EntriesRef<'_>) -> Result<(), String> {
        if after > self.last {
            return Err(format!("entries after index {after} of a log of {}", self.last));
        }
        if after < self.covered {
            return Err(format!(
                "entries after index {after}, before a snapshot at {}",
                self.covered
            ));
        }
        self.cut(after);
        for entry in entries {
            self.push(entry.position)?;
        }
        Ok(())
    }

    /// Takes in a new lineage: its term, and its configuration behind the last entry.
    pub(crate) fn force(&mut self, forced: &Forced) -> Result<(), String> {
        self.elect(forced.hard_state)?;
        self.push(forced.entry.position)
    }

    fn cut(&mut self, after: Index) {
        let kept = self.terms.partition_point(|(first, _)| *first <= after);
        self.terms.truncate(kept);
        self.last = after;
    }

    fn push(&mut self, position: Position) -> Result<(), String> {
        if self.last.0.checked_add(1) != Some(position.index.0) {
            return Err(format!("entry {position} after index {}", self.last));
        }
        let newest = self.terms.last().map_or(Term(0), |(_, term)| *term);
        if position.term < newest {
            return Err(format!("entry {position} after an entry of term {newest}"));
        }
        if position.term > self.hard_state.term {
            return Err(format!("entry {position} in term {}", self.hard_state.term));
        }
        if position.term > newest {
            self.terms.push((position.index, position.term));
        }
        self.last = position.index;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use raft::{Entry, NodeId};

    use super::*;
    use crate::storage::samples::entry;

    fn replace(outline: &mut Outline, after: u64, entries: &[Entry]) -> Result<(), String> {
        outline.replace(Index(after), entries.into())
    }

    fn state(term: u64, vote: Option<u8>) -> HardState {
        HardState { term: Term(term), vote: vote.map(NodeId::small) }
    }

    #[test]
    fn terms_never_fall_and_votes_never_change_within_one() {
        let mut outline = Outline::default();
        outline.elect(state(1, None)).expect("a new term");
        outline.elect(state(1, Some(1))).expect("a first vote");
        outline.elect(state(1, Some(1))).expect("the same again");
        outline.elect(state(1, Some(2))).expect_err("another vote");
        outline.elect(state(1, None)).expect_err("a vote forgotten");
        outline.elect(state(0, None)).expect_err("a term forgotten");
        outline.elect(state(2, Some(2))).expect("another term");
        assert_eq!(outline.hard_state(), state(2, Some(2)));
    }

    #[test]
    fn entries_follow_each_other_and_a_suffix_may_be_replaced() {
        let mut outline = Outline::default();
        outline.elect(state(3, None)).expect("a term");
        let three = [entry(1, 1, 0), entry(1, 2, 0), entry(2, 3, 0)];
        replace(&mut outline, 0, &three).expect("new");
        replace(&mut outline, 2, &[entry(3, 3, 0)]).expect("a suffix");
        let then = |after, entries: &[Entry]| replace(&mut outline.clone(), after, entries);
        then(1, &[]).expect("a cut");
        then(4, &[entry(3, 5, 0)]).expect_err("a gap before");
        then(3, &[entry(3, 5, 0)]).expect_err("a gap");
        then(3, &[entry(3, 4, 0), entry(3, 4, 0)]).expect_err("twice");
        then(3, &[entry(2, 4, 0)]).expect_err("a term fallen");
        then(3, &[entry(4, 4, 0)]).expect_err("a term unheard of");
        replace(&mut outline, 2, &[entry(2, 3, 0)]).expect("an older term after a cut");
    }
}
