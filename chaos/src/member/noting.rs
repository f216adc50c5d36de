//! Turns what a member notes into events for the harness.
//!
//! Called by the member's own task, so it only sorts and hands on. Invariant: what happens with
//! every command is not told, only what happens now and then.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runtime::{Event, NodeId, Note, PeerId, Phase, Time};

use super::Membership;
use crate::{
    cluster::{MemberChange, What},
    fault::NodeNumber,
};

/// Hears a member's events and tells of those that matter.
pub(crate) struct Noting<T> {
    numbers: BTreeMap<PeerId, NodeNumber>,
    tell: T,
    told: Mutex<Told>,
}

/// What was told already.
#[derive(Default)]
struct Told {
    /// Of which term, and whether something was committed since the last change of it or of role.
    term: u64,
    committed: bool,
    /// It has left, as it was asked to.
    left: bool,
}

impl<T: Fn(Time, What)> Noting<T> {
    /// One that knows the members, and hands what matters on with its moment.
    pub(crate) fn new(membership: &Membership, tell: T) -> Self {
        let nodes = membership.nodes.iter();
        Self::of(nodes.map(|(node, peer)| (peer.id, *node)).collect(), tell)
    }

    /// The same, for members that are known by number only.
    pub(crate) fn of(numbers: BTreeMap<PeerId, NodeNumber>, tell: T) -> Self {
        Self { numbers, tell, told: Mutex::default() }
    }

    /// Hears that something happened at a moment of the member's own clock.
    pub(crate) fn hear(&self, at: Time, event: &Event) {
        let what = match event {
            // The member's own word is no excuse: whatever blocks its task is its own fault. That the
            // host kept it from running the thread that watches says, in a process of its own.
            Event::Raft(Note::TimerLate { by }) if *by >= STALL => {
                Some(What::Note { text: format!("{LATE} {} ms", by.as_millis()) })
            }
            Event::Raft(note) => self.note(note),
            Event::Bonded(node) => self.number(node).map(|with| What::Bonded { with }),
            Event::Unbonded(node) => self.number(node).map(|with| What::Unbonded { with }),
            Event::Founded(_) => Some(What::Founded),
            Event::Added(node) => self.member(node, MemberChange::Added),
            Event::Promoted(node) => self.member(node, MemberChange::Promoted),
            Event::Removed(node) => self.member(node, MemberChange::Removed),
            Event::Left => {
                self.lock().left = true;
                None
            }
            Event::Foreign { .. }
            | Event::Dissolved(_)
            | Event::Changing { .. }
            | Event::ReplayBegan { .. }
            | Event::ReplayEnded(_)
            | Event::Distrusted(_) => Some(What::Note { text: format!("{event:?}") }),
            Event::SnapshotTaken(id) => {
                let text = format!("took a snapshot at {} of {} bytes", id.position, id.bytes);
                Some(What::Note { text })
            }
            Event::SnapshotInstalled(id) => {
                let text = format!("{GOES_ON} {}", id.position);
                Some(What::Note { text })
            }
            // As it was asked to.
            Event::Stopped(_) if self.lock().left => None,
            Event::Stopped(reason) => Some(What::Stopped { reason: reason.clone() }),
        };
        if let Some(what) = what {
            (self.tell)(at, what);
        }
    }

    fn note(&self, note: &Note) -> Option<What> {
        let mut in_term = self.lock();
        match note {
            Note::Became { role, term } => {
                (in_term.term, in_term.committed) = (term.0, false);
                Some(What::Became { role: *role, term: term.0 })
            }
            Note::Leader { leader, term } => {
                let leader = leader.as_ref().and_then(|leader| self.number(leader));
                Some(What::Leader { leader, term: term.0 })
            }
            Note::Campaign { term, phase } => {
                Some(What::Campaign { term: term.0, pre_vote: *phase == Phase::PreVote })
            }
            Note::Committed { index } => {
                let first = !std::mem::replace(&mut in_term.committed, true);
                first.then_some(What::Committed { index: index.0, term: in_term.term })
            }
            // A message too many or too late is everyday life after a fault.
            Note::Dropped { .. } => None,
            other => Some(What::Note { text: format!("{other:?}") }),
        }
    }

    fn member(&self, node: &NodeId, is: MemberChange) -> Option<What> {
        self.number(node).map(|node| What::Member { node, is })
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self, node: &NodeId) -> Option<NodeNumber> {
        self.numbers.get(&node.peer).copied()
    }
}

/// How the note begins of a node that goes on from another's snapshot.
pub(crate) const GOES_ON: &str = "goes on from a snapshot at";
/// How the note begins of a node whose own timer came late.
const LATE: &str = "its timer came late, by";
/// How long a node must not have run for a stall to be told, or its timer be late.
pub(crate) const STALL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What is told of a timer that comes so late.
    fn told(late: Duration) -> Vec<What> {
        let told = Arc::<Mutex<Vec<What>>>::default();
        let keeps = Arc::clone(&told);
        let keep = move |_: Time, what| keeps.lock().expect("nobody panicked").push(what);
        let noting = Noting::of(BTreeMap::new(), keep);
        noting.hear(Time(Duration::from_secs(1)), &Event::Raft(Note::TimerLate { by: late }));
        let told = told.lock().expect("nobody panicked");
        told.clone()
    }

    #[test]
    fn a_timer_that_comes_late_is_told_and_is_no_stall_of_the_host() {
        let text = "its timer came late, by 350 ms".to_owned();
        assert_eq!(told(Duration::from_millis(350)), [What::Note { text }]);
        // Less than that is a note like any other.
        let early = told(STALL - Duration::from_nanos(1));
        let is_plain = |what: &What| matches!(what, What::Note { text } if !text.starts_with(LATE));
        assert!(early.len() == 1 && early.iter().all(is_plain), "{early:?}");
    }
}
