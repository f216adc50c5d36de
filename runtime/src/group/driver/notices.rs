//! Holds back messages that only make a commit known, until something better carries it.
//!
//! The next entries for the same follower say the same, and under load there always are some. The
//! core tolerates the delay as it tolerates any other, and a notice that comes after what says more
//! changes nothing, for a commit index never falls. Invariant: a notice waits no longer than
//! `NOTICE_PART` of a heartbeat interval, unless something took its place.

use std::{collections::BTreeMap, time::Duration};

use raft::{Message, NO_ROUND, NodeId, Time};

/// The notices that wait.
pub(super) struct Notices {
    patience: Duration,
    due: Option<Time>,
    held: BTreeMap<NodeId, Message>,
}

impl Notices {
    pub(super) fn new(heartbeat_interval: Duration) -> Self {
        Self { patience: heartbeat_interval / NOTICE_PART, due: None, held: BTreeMap::new() }
    }

    /// Keeps a notice for later and lets every other message pass. What brings a follower entries
    /// carries our commit index itself, and so does a round: each takes the place of a notice that
    /// waits. An append without entries asks whether the follower has what was sent ahead. One that
    /// has not refuses it, and then takes no commit from it: the notice goes all the same.
    pub(super) fn pass(&mut self, now: Time, to: NodeId, message: Message) -> Option<Message> {
        match message {
            Message::Heartbeat { round: NO_ROUND, .. } => {
                self.due.get_or_insert(now.plus(self.patience));
                self.held.insert(to, message);
                None
            }
            Message::Heartbeat { .. } => {
                self.held.remove(&to);
                Some(message)
            }
            Message::Append { ref entries, .. } => {
                if !entries.is_empty() {
                    self.held.remove(&to);
                }
                Some(message)
            }
            message => Some(message),
        }
    }

    /// When the oldest notice must go.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// The notices to send now, if it is time.
    pub(super) fn take(&mut self, now: Time) -> BTreeMap<NodeId, Message> {
        if self.due.is_none_or(|due| now < due) {
            return BTreeMap::new();
        }
        self.due = None;
        std::mem::take(&mut self.held)
    }
}

/// So small a part that a weak read on a follower is hardly later for it.
const NOTICE_PART: u32 = 20;

#[cfg(test)]
mod tests {
    use raft::{Entry, Index, Payload, Position, Term};

    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn beat(round: u64, commit: u64) -> Message {
        Message::Heartbeat { term: Term(1), round, commit: Index(commit) }
    }

    /// With so many entries.
    fn append(commit: u64, entries: u64) -> Message {
        let position = |index| Position { term: Term(1), index: Index(index) };
        let entry = |index| Entry { position: position(index), payload: Payload::Noop };
        let (prev, entries) = (Position::default(), (1..=entries).map(entry).collect());
        Message::Append { term: Term(1), prev, entries, commit: Index(commit) }
    }

    #[test]
    fn a_notice_waits_its_time_and_the_newest_goes() {
        let mut notices = Notices::new(Duration::from_millis(40));
        let two = NodeId::small(2);
        assert_eq!(notices.pass(at(10), two, beat(NO_ROUND, 1)), None);
        assert_eq!(notices.pass(at(11), two, beat(NO_ROUND, 2)), None);
        assert_eq!(notices.due(), Some(at(12)), "counted from the first");
        assert!(notices.take(at(11)).is_empty());
        assert_eq!(notices.take(at(12)), BTreeMap::from([(two, beat(NO_ROUND, 2))]));
        assert_eq!(notices.due(), None);
    }

    #[test]
    fn an_append_or_a_round_to_the_same_follower_carries_the_commit() {
        let mut notices = Notices::new(Duration::from_millis(40));
        let (two, three) = (NodeId::small(2), NodeId::small(3));
        for node in [two, three] {
            notices.pass(at(0), node, beat(NO_ROUND, 1));
        }
        assert_eq!(notices.pass(at(1), two, append(1, 1)), Some(append(1, 1)));
        let left: Vec<NodeId> = notices.take(at(5)).into_keys().collect();
        assert_eq!(left, [three]);
        notices.pass(at(6), three, beat(NO_ROUND, 1));
        assert_eq!(notices.pass(at(7), three, beat(9, 1)), Some(beat(9, 1)));
        assert!(notices.take(at(9)).is_empty());
    }

    #[test]
    fn a_notice_goes_beside_an_append_that_only_asks() {
        let mut notices = Notices::new(Duration::from_millis(40));
        let two = NodeId::small(2);
        notices.pass(at(0), two, beat(NO_ROUND, 1));
        assert_eq!(notices.pass(at(1), two, append(1, 0)), Some(append(1, 0)));
        assert_eq!(notices.take(at(2)), BTreeMap::from([(two, beat(NO_ROUND, 1))]));
    }
}
