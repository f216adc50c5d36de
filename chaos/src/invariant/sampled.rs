//! What can be told of the invariants from what nodes say of themselves now and then.
//!
//! Where no step can be watched, a sample is all there is. Election safety (Raft §5.2) and what
//! only grows are judged as in [`ElectionSafety`](super::ElectionSafety) and
//! [`Monotonic`](super::Monotonic), between samples of one start of one node; across starts the
//! term stays in which a node led, since its own vote was durable before it counted; of nodes that
//! forget, each start is another server. Log matching (§5.3) is judged entry by entry, over what was committed in the end.

use std::collections::BTreeMap;

use raft::{Index, Position, Role, Term};

use super::Violation;

/// What a node said of itself. What it did not say is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Which node, by its number.
    pub node: u64,
    /// How often it had been started before.
    pub start: u64,
    /// Its role and term.
    pub role: Option<(Role, Term)>,
    /// Its commit index.
    pub commit: Option<Index>,
    /// Its applied index, and the last index of its log.
    pub applied: Option<(Index, Index)>,
}

/// See the module. Samples of a node come in the order in which they were true.
#[derive(Debug, Default)]
pub struct Sampled {
    /// Whether a node that was started again remembers nothing.
    forgets: bool,
    /// By number and start, which is 0 where all starts of a node are one server.
    leaders: BTreeMap<Term, (u64, u64)>,
    nodes: BTreeMap<u64, Seen>,
    entries: BTreeMap<Index, (u64, Term, u64)>,
    ends: BTreeMap<u64, Position>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    start: u64,
    led: Term,
    term: Term,
    commit: Index,
    applied: Index,
}

impl Sampled {
    /// Of nodes that forget everything when they end.
    pub fn of_forgetful() -> Self {
        Self { forgets: true, ..Self::default() }
    }

    /// A node said how it stands.
    ///
    /// # Errors
    /// What contradicts what was said before.
    pub fn observe(&mut self, sample: &Sample) -> Result<(), Violation> {
        if let Some((Role::Leader, term)) = sample.role {
            self.leads(sample.node, sample.start, term)?;
        }
        let forgets = self.forgets;
        let before = self.nodes.entry(sample.node).or_default();
        if before.start != sample.start {
            let led = if forgets { Term::default() } else { before.led };
            *before = Seen { start: sample.start, led, term: led, ..Seen::default() };
        }
        let (_, term) = sample.role.unwrap_or((Role::Follower, before.term));
        let commit = sample.commit.unwrap_or(before.commit);
        let (applied, last) = sample.applied.unwrap_or((before.applied, commit));
        let broken = if term < before.term {
            format!("term goes from {} to {term}", before.term)
        } else if commit < before.commit {
            format!("commit goes from {} to {commit}", before.commit)
        } else if applied < before.applied {
            format!("applied goes from {} to {applied}", before.applied)
        } else if applied > commit {
            format!("applied {applied} is past commit {commit}")
        } else if commit > last {
            format!("commit {commit} is past the last entry {last}")
        } else {
            (before.term, before.commit, before.applied) = (term, commit, applied);
            return Ok(());
        };
        Err(Violation::of("monotonic", format!("node {}: {broken}", sample.node)))
    }

    /// A node leads a term, or did at some time.
    ///
    /// # Errors
    /// Another did as well.
    pub fn leads(&mut self, node: u64, start: u64, term: Term) -> Result<(), Violation> {
        let start = if self.forgets { start } else { 0 };
        let (leader, its_start) = *self.leaders.entry(term).or_insert((node, start));
        if (leader, its_start) != (node, start) {
            let both = match leader == node {
                true => format!("node {node} leads term {term} with two stores"),
                false => format!("nodes {leader} and {node} both lead term {term}"),
            };
            return Err(Violation::of("election safety", both));
        }
        let seen = self.nodes.entry(node).or_default();
        if !self.forgets || seen.start == start {
            seen.led = seen.led.max(term);
        }
        Ok(())
    }

    /// A node's log holds this committed entry; each node's come in order. The digest stands for
    /// all that the entry carries.
    ///
    /// # Errors
    /// An entry that differs from the one at its index in another log, or follows on no other.
    pub fn committed(
        &mut self,
        node: u64,
        position: Position,
        digest: u64,
    ) -> Result<(), Violation> {
        let Position { term, index } = position;
        let violation = |message| Err(Violation::of("log matching", message));
        if let Some(end) = self.ends.insert(node, position)
            && (index != end.index.next() || term < end.term)
        {
            return violation(format!("node {node} holds {position} after {end}"));
        }
        let (other, first, carried) = *self.entries.entry(index).or_insert((node, term, digest));
        match (first == term, carried == digest) {
            (true, true) => Ok(()),
            (false, _) => violation(format!(
                "index {index} is of term {first} on node {other}, of term {term} on node {node}"
            )),
            (true, false) => {
                violation(format!("nodes {other} and {node} hold different entries at {position}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(node: u64, start: u64, term: u64, role: Role) -> Sample {
        Sample { node, start, role: Some((role, Term(term))), commit: None, applied: None }
    }

    fn indexes(commit: u64, applied: u64, last: u64) -> Sample {
        Sample {
            node: 1,
            start: 0,
            role: None,
            commit: Some(Index(commit)),
            applied: Some((Index(applied), Index(last))),
        }
    }

    #[track_caller]
    fn breaks(samples: &[Sample], says: &str) {
        let mut sampled = Sampled::default();
        let (last, before) = samples.split_last().expect("some");
        before.iter().for_each(|sample| sampled.observe(sample).expect("nothing is wrong yet"));
        let violation = sampled.observe(last).expect_err(says);
        assert!(violation.to_string().contains(says), "{violation}");
    }

    #[test]
    fn two_leaders_of_one_term_are_found_however_far_apart() {
        use Role::{Follower, Leader};
        let samples = [
            sample(1, 0, 3, Leader),
            sample(2, 0, 3, Follower),
            sample(2, 0, 4, Leader),
            sample(3, 0, 3, Leader),
        ];
        breaks(&samples, "election safety: nodes 1 and 3 both lead term 3");
    }

    #[test]
    fn of_nodes_that_forget_each_start_is_another_server() {
        use Role::{Follower, Leader};
        let mut sampled = Sampled::of_forgetful();
        let samples = [sample(1, 0, 3, Leader), sample(1, 1, 1, Follower), sample(1, 1, 4, Leader)];
        samples.iter().for_each(|sample| sampled.observe(sample).expect("allowed"));
        let twice = sampled.observe(&sample(1, 2, 4, Leader)).expect_err("its vote was forgotten");
        assert!(twice.to_string().contains("node 1 leads term 4 with two stores"), "{twice}");
    }

    #[test]
    fn what_only_grows_never_falls_while_a_node_lives() {
        use Role::{Candidate, Follower, Leader};
        breaks(&[sample(1, 0, 3, Follower), sample(1, 0, 2, Follower)], "term goes from 3 to 2");
        breaks(&[indexes(5, 5, 5), indexes(4, 4, 5)], "commit goes from 5 to 4");
        breaks(&[indexes(5, 5, 5), indexes(6, 4, 6)], "applied goes from 5 to 4");
        breaks(&[indexes(5, 6, 7)], "applied 6 is past commit 5");
        breaks(&[indexes(5, 5, 4)], "commit 5 is past the last entry 4");
        // A term that was only in memory may be forgotten, one in which it led may not.
        let mut sampled = Sampled::default();
        let samples =
            [sample(1, 0, 3, Leader), sample(1, 0, 9, Candidate), sample(1, 1, 3, Follower)];
        samples.iter().for_each(|sample| sampled.observe(sample).expect("allowed"));
        breaks(&[sample(1, 0, 3, Leader), sample(1, 1, 2, Follower)], "term goes from 3 to 2");
        let mut restarted = indexes(1, 0, 5);
        restarted.start = 1;
        let mut sampled = Sampled::default();
        sampled.observe(&indexes(5, 5, 5)).expect("allowed");
        sampled.observe(&restarted).expect("what is committed is learnt anew");
    }

    #[test]
    fn committed_entries_are_the_same_everywhere() {
        let at = |term, index| Position { term: Term(term), index: Index(index) };
        let judged = |other: [(Position, u64); 2]| {
            let mut sampled = Sampled::default();
            sampled.committed(1, at(1, 1), 7).and_then(|()| sampled.committed(1, at(2, 2), 8))?;
            other.iter().try_for_each(|(position, digest)| sampled.committed(2, *position, *digest))
        };
        let says = |other, part: &str| {
            let violation: Violation = judged(other).expect_err(part);
            assert!(violation.to_string().contains(part), "{violation}");
        };
        assert_eq!(judged([(at(1, 1), 7), (at(2, 2), 8)]), Ok(()));
        says([(at(1, 1), 7), (at(2, 2), 9)], "nodes 1 and 2 hold different entries at 2.2");
        says([(at(1, 1), 7), (at(1, 2), 8)], "index 2 is of term 2 on node 1, of term 1 on node 2");
        says([(at(1, 1), 7), (at(2, 3), 8)], "node 2 holds 2.3 after 1.1");
    }
}
