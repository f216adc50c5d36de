//! The calls that a member has under way: who waits, for what, until when.
//!
//! Plain bookkeeping: it sends nothing and asks nobody; the driver acts on what it returns.
//! Invariants: a call leaves the table with its one answer; a call that may have been proposed
//! somewhere ends as `Unknown`, never as refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use raft::{Entries, Index, NodeId, Position, Time};

use crate::group::{
    answer::Answerer,
    wire::{Call, Outcome, Reason, Until},
};

/// Names a call within one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct CallId(pub(crate) u64);

/// All calls under way.
pub(crate) struct Calls {
    /// Counts up from a random number: an answer meant for an earlier start of this node must
    /// not be taken for the answer to a call of this one.
    drawn: u64,
    open: BTreeMap<CallId, Pending>,
    /// Calls whose command stands in our log, by its index.
    proposed: BTreeMap<Index, Vec<CallId>>,
    /// Attempts sent to a leader, by the id in the frame, with whom they were sent to.
    forwarded: BTreeMap<u64, (NodeId, CallId)>,
    timers: BTreeSet<(Time, CallId)>,
}

struct Pending {
    call: Call,
    answerer: Answerer,
    began: Time,
    deadline: Time,
    wake: Time,
    tries: u32,
    /// Where it stands in our own log, if we proposed it and do not know its fate.
    position: Option<Position>,
    /// Attempts elsewhere whose fate we do not know.
    attempts: Vec<u64>,
    /// A leader gave up on an attempt without knowing its fate.
    doubtful: bool,
}

/// What a due timer asks for.
#[derive(Debug)]
pub(crate) enum Due {
    /// Try the call again.
    Retry(CallId),
    /// Its time was up; it has been answered.
    Over,
}

/// What the answer to a forwarded call asks for.
#[derive(Debug)]
pub(crate) enum Forwarded {
    /// The call is answered, or was before; or our own log decides on it.
    Over,
    /// Try it again, after a pause.
    Pause(CallId),
}

impl Calls {
    /// No calls yet. `first` is a random number.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            drawn: first,
            open: BTreeMap::new(),
            proposed: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            timers: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes a call in. It wakes at its deadline unless it is told to wake earlier.
    pub(crate) fn open(
        &mut self,
        call: Call,
        answerer: Answerer,
        now: Time,
        deadline: Time,
    ) -> CallId {
        let id = CallId(self.draw());
        let pending = Pending {
            call,
            answerer,
            began: now,
            deadline,
            wake: deadline,
            tries: 0,
            position: None,
            attempts: Vec::new(),
            doubtful: false,
        };
        self.timers.insert((deadline, id));
        self.open.insert(id, pending);
        id
    }

    /// The call itself; `None` once it is answered.
    pub(crate) fn call(&self, id: CallId) -> Option<&Call> {
        self.open.get(&id).map(|pending| &pending.call)
    }

    /// Whether it came from another member, which sees to its retries itself.
    pub(crate) fn is_members(&self, id: CallId) -> bool {
        self.open.get(&id).is_some_and(|pending| pending.answerer.is_member())
    }

    /// Its command stands in our log. Answers those who wait for no more than that.
    pub(crate) fn proposed(&mut self, id: CallId, position: Position) {
        let Some(pending) = self.open.get_mut(&id) else { return };
        if matches!(pending.call, Call::Command { until: Until::Proposed, .. }) {
            return self.finish(id, Outcome::Proposed(position));
        }
        pending.position = Some(position);
        self.proposed.entry(position.index).or_default().push(id);
        self.set_wake(id, Time(Duration::MAX));
    }

    /// An attempt is about to be sent to a leader; the answer will name the returned id.
    pub(crate) fn forward(&mut self, id: CallId, to: NodeId) -> u64 {
        let attempt = self.draw();
        if let Some(pending) = self.open.get_mut(&id) {
            pending.attempts.push(attempt);
            self.forwarded.insert(attempt, (to, id));
        }
        attempt
    }

    /// The attempt never left.
    pub(crate) fn not_sent(&mut self, attempt: u64) {
        let Some((_, id)) = self.forwarded.remove(&attempt) else { return };
        if let Some(pending) = self.open.get_mut(&id) {
            pending.attempts.retain(|other| *other != attempt);
        }
    }

    /// A leader answered an attempt.
    pub(crate) fn answered(&mut self, from: NodeId, attempt: u64, outcome: Outcome) -> Forwarded {
        // Answers to calls that ended before are as good as lost; so is one from a node that
        // was not asked.
        let Some((asked, id)) = self.forwarded.get(&attempt).copied() else {
            return Forwarded::Over;
        };
        if asked != from {
            return Forwarded::Over;
        }
        match outcome {
            Outcome::Refused(_) if self.stands(id) => {
                self.not_sent(attempt);
                Forwarded::Over
            }
            Outcome::Refused(Reason::LeaderChanged | Reason::Unavailable | Reason::Stopped) => {
                self.not_sent(attempt);
                Forwarded::Pause(id)
            }
            // It is the copy that found no room; what went before may stand in the log already.
            Outcome::Refused(Reason::Busy) if self.attempts(id) > 1 => {
                self.not_sent(attempt);
                Forwarded::Pause(id)
            }
            Outcome::Refused(reason) => {
                self.not_sent(attempt);
                self.refuse(id, reason);
                Forwarded::Over
            }
            Outcome::Unknown(Reason::LeaderChanged | Reason::Timeout | Reason::Stopped) => {
                self.not_sent(attempt);
                if let Some(pending) = self.open.get_mut(&id) {
                    pending.doubtful = true;
                }
                match self.stands(id) {
                    true => Forwarded::Over,
                    false => Forwarded::Pause(id),
                }
            }
            outcome => {
                self.finish(id, outcome);
                Forwarded::Over
            }
        }
    }

    /// Whether it stands in our own log, which then decides on it: what came to nothing is an old
    /// attempt, and no reason to end the call. Tried again, an opening would stand there twice.
    fn stands(&self, id: CallId) -> bool {
        self.open.get(&id).is_some_and(|pending| pending.position.is_some())
    }

    fn attempts(&self, id: CallId) -> usize {
        self.open.get(&id).map_or(0, |pending| pending.attempts.len())
    }

    /// Those who wait for entries that are about to be applied, by index. A call whose place
    /// another term's entry took did not take effect by that attempt: it is tried again. So is one
    /// whose place a snapshot has passed over, but of that nobody knows.
    pub(crate) fn committed(
        &mut self,
        entries: &Entries,
        lost: &mut Vec<CallId>,
    ) -> Vec<(Index, Answerer, Time)> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Vec::new();
        };
        let mut waiting = Vec::new();
        while let Some(place) = self.proposed.first_entry()
            && *place.key() <= last.position.index
        {
            let (index, ids) = place.remove_entry();
            // They are consecutive. One from before them is not among them.
            let place = index.0.checked_sub(first.position.index.0);
            let entry = place.and_then(|place| entries.get(usize::try_from(place).ok()?));
            for id in ids {
                let Some(pending) = self.open.get_mut(&id) else { continue };
                if entry.is_some_and(|entry| pending.position == Some(entry.position)) {
                    let Some(pending) = self.remove(id) else { continue };
                    waiting.push((index, pending.answerer, pending.began));
                } else if pending.position.is_some_and(|position| position.index == index) {
                    pending.position = None;
                    // A snapshot has taken the place of its entry, whichever that was.
                    pending.doubtful |= entry.is_none();
                    lost.push(id);
                }
            }
        }
        waiting
    }

    /// A leader has applied it already, and the answer is on its way.
    pub(crate) fn applied(&mut self, id: CallId) {
        if let Some(pending) = self.open.get_mut(&id) {
            pending.doubtful = true;
        }
    }

    /// We lead no more: what we proposed may yet commit or vanish.
    ///
    /// Peers are told so and try again themselves; the rest is to be tried at the next leader,
    /// under the same request ids.
    pub(crate) fn deposed(&mut self) -> Vec<CallId> {
        self.proposed.clear();
        let proposed: Vec<_> = self
            .open
            .iter()
            .filter(|(_, call)| call.position.is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in &proposed {
            if let Some(pending) = self.open.get_mut(id) {
                pending.position = None;
                pending.doubtful = true;
            }
            if self.is_members(*id) {
                self.finish(*id, Outcome::Unknown(Reason::LeaderChanged));
            }
        }
        proposed.into_iter().filter(|id| self.open.contains_key(id)).collect()
    }

    /// Calls that stand in no log of ours: to be tried when a leader appears.
    pub(crate) fn unproposed(&self) -> Vec<CallId> {
        self.open.iter().filter(|(_, call)| call.position.is_none()).map(|(id, _)| *id).collect()
    }

    /// Ends the call with this answer.
    pub(crate) fn finish(&mut self, id: CallId, outcome: Outcome) {
        if let Some(pending) = self.remove(id) {
            pending.answerer.answer(outcome);
        }
    }

    /// Takes the call out, for someone else to answer.
    pub(crate) fn take(&mut self, id: CallId) -> Option<(Call, Answerer)> {
        self.remove(id).map(|pending| (pending.call, pending.answerer))
    }

    /// Ends the call: as refused if it certainly was proposed nowhere, as unknown otherwise.
    pub(crate) fn refuse(&mut self, id: CallId, reason: Reason) {
        let Some(pending) = self.remove(id) else { return };
        let outcome = match pending.may_take_effect() {
            true => Outcome::Unknown(reason),
            false => Outcome::Refused(reason),
        };
        pending.answerer.answer(outcome);
    }

    /// Wakes the call after a pause that doubles with each try. `spread` is a random number.
    pub(crate) fn pause(&mut self, id: CallId, now: Time, shortest: Duration, spread: u64) {
        let Some(pending) = self.open.get_mut(&id) else { return };
        let pause = shortest.saturating_mul(1 << pending.tries.min(5));
        pending.tries += 1;
        // Half fixed, half drawn, so that callers who failed together do not return together.
        let half = pause / 2;
        let jitter = Duration::from_nanos(spread % (half.as_nanos() as u64).max(1));
        self.set_wake(id, now.plus(half + jitter));
    }

    /// When the next timer is due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next due timer. Answers calls whose time is up, or whose caller went away.
    pub(crate) fn due(&mut self, now: Time) -> Option<Due> {
        let (at, id) = *self.timers.first()?;
        if at > now {
            return None;
        }
        let over = self
            .open
            .get(&id)
            .is_none_or(|pending| now >= pending.deadline || pending.answerer.is_abandoned());
        if !over {
            self.set_wake(id, Time(Duration::MAX));
            return Some(Due::Retry(id));
        }
        self.refuse(id, Reason::Timeout);
        Some(Due::Over)
    }

    /// Ends all calls, because the member stops.
    pub(crate) fn stop(&mut self) {
        while let Some((id, _)) = self.open.first_key_value() {
            self.refuse(*id, Reason::Stopped);
        }
    }

    /// Ends all calls as unknown, because what is noted of them cannot be trusted.
    pub(crate) fn abandon(&mut self) {
        // Their answerers say so as they are dropped.
        *self = Self::new(self.drawn);
    }

    /// Never 0: that number is the driver's own.
    fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.checked_add(1).unwrap_or(1);
        self.drawn
    }

    /// Moves the call's timer; never beyond its deadline.
    fn set_wake(&mut self, id: CallId, wake: Time) {
        let Some(pending) = self.open.get_mut(&id) else { return };
        self.timers.remove(&(pending.wake, id));
        pending.wake = wake.min(pending.deadline);
        self.timers.insert((pending.wake, id));
    }

    fn remove(&mut self, id: CallId) -> Option<Pending> {
        let pending = self.open.remove(&id)?;
        self.timers.remove(&(pending.wake, id));
        for attempt in &pending.attempts {
            self.forwarded.remove(attempt);
        }
        if let Some(position) = pending.position
            && let Some(ids) = self.proposed.get_mut(&position.index)
        {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.proposed.remove(&position.index);
            }
        }
        Some(pending)
    }
}

impl Pending {
    fn may_take_effect(&self) -> bool {
        let changes = matches!(self.call, Call::Command { .. });
        changes && (self.position.is_some() || self.doubtful || !self.attempts.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use raft::{Entry, Payload, PeerId, RequestId, Term};
    use tokio::sync::oneshot;

    use super::*;
    use crate::group::answer::Answered;

    type Answer = oneshot::Receiver<Answered>;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn place(term: u64, index: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }

    fn entry(term: u64, index: u64) -> Entry {
        Entry { position: place(term, index), payload: Payload::Noop }
    }

    /// A command that waits until 1,000 ms.
    fn open(calls: &mut Calls, until: Until) -> (CallId, Answer) {
        let (reply, answer) = oneshot::channel();
        let request = RequestId::default();
        let call = Call::Command { request, nonce: 1, floor: 0, command: "x".into(), until };
        let answerer = Answerer::local(reply, PeerId([0; 32]));
        (calls.open(call, answerer, at(0), at(1_000)), answer)
    }

    fn answered(answer: &mut Answer) -> Option<Outcome> {
        answer.try_recv().ok().map(|answered| answered.outcome)
    }

    #[test]
    fn calls_that_are_abandoned_end_as_unknown_whatever_is_noted_of_them() {
        let mut calls = Calls::new(0);
        let (_, mut noted_nowhere) = open(&mut calls, Until::Applied);
        let (id, mut proposed) = open(&mut calls, Until::Applied);
        calls.proposed(id, place(1, 1));
        calls.abandon();
        for answer in [&mut noted_nowhere, &mut proposed] {
            assert_eq!(answered(answer), Some(Outcome::Unknown(Reason::Stopped)));
        }
        assert_eq!((calls.len(), calls.deadline()), (0, None));
    }

    #[test]
    fn a_call_that_never_left_is_refused_at_its_deadline() {
        let mut calls = Calls::new(0);
        let (id, mut answer) = open(&mut calls, Until::Applied);
        let attempt = calls.forward(id, NodeId::small(2));
        calls.not_sent(attempt);
        assert!(matches!(calls.due(at(1_000)), Some(Due::Over)));
        assert_eq!(answered(&mut answer), Some(Outcome::Refused(Reason::Timeout)));
        assert_eq!((calls.len(), calls.deadline()), (0, None));
    }

    #[test]
    fn a_call_that_may_have_been_proposed_is_unknown_at_its_deadline() {
        let mut calls = Calls::new(0);
        let (id, mut answer) = open(&mut calls, Until::Applied);
        calls.forward(id, NodeId::small(2));
        calls.due(at(1_000));
        assert_eq!(answered(&mut answer), Some(Outcome::Unknown(Reason::Timeout)));
    }

    #[test]
    fn a_refused_attempt_leaves_no_doubt_but_an_earlier_one_does() {
        let two = NodeId::small(2);
        let refused = Outcome::Refused(Reason::LeaderChanged);
        let mut calls = Calls::new(0);
        let (id, mut sure) = open(&mut calls, Until::Applied);
        let attempt = calls.forward(id, two);
        assert!(matches!(calls.answered(two, attempt, refused.clone()), Forwarded::Pause(_)));
        calls.refuse(id, Reason::Busy);
        assert_eq!(answered(&mut sure), Some(Outcome::Refused(Reason::Busy)));

        let (id, mut unsure) = open(&mut calls, Until::Applied);
        calls.forward(id, two);
        let second = calls.forward(id, two);
        calls.answered(two, second, refused);
        calls.refuse(id, Reason::Busy);
        assert_eq!(answered(&mut unsure), Some(Outcome::Unknown(Reason::Busy)));
    }

    #[test]
    fn a_copy_that_finds_no_room_ends_no_call_whose_first_attempt_is_under_way() {
        let (two, busy) = (NodeId::small(2), Outcome::Refused(Reason::Busy));
        let mut calls = Calls::new(0);
        let (id, mut answer) = open(&mut calls, Until::Applied);
        let (first, copy) = (calls.forward(id, two), calls.forward(id, two));
        assert!(matches!(calls.answered(two, copy, busy.clone()), Forwarded::Pause(_)));
        assert_eq!(answered(&mut answer), None);
        assert!(matches!(calls.answered(two, first, busy.clone()), Forwarded::Over));
        assert_eq!(answered(&mut answer), Some(busy), "none is under way: it is refused");
    }

    #[test]
    fn what_stands_in_our_log_is_not_tried_again_for_an_old_attempt() {
        let two = NodeId::small(2);
        let mut calls = Calls::new(0);
        let (id, mut answer) = open(&mut calls, Until::Applied);
        let attempts = [(); 3].map(|()| calls.forward(id, two));
        calls.proposed(id, place(1, 5));
        let changed = Reason::LeaderChanged;
        // The last is the only one that is under way still.
        let busy = Outcome::Refused(Reason::Busy);
        let late = [Outcome::Refused(changed), Outcome::Unknown(changed), busy];
        for (attempt, outcome) in attempts.into_iter().zip(late) {
            assert!(matches!(calls.answered(two, attempt, outcome), Forwarded::Over));
            assert_eq!((answered(&mut answer), calls.deadline()), (None, Some(at(1_000))));
        }
    }

    #[test]
    fn only_the_node_that_was_asked_can_answer() {
        let mut calls = Calls::new(0);
        let (id, mut answer) = open(&mut calls, Until::Applied);
        let attempt = calls.forward(id, NodeId::small(2));
        let outcome = Outcome::Applied { position: place(1, 1), output: None };
        calls.answered(NodeId::small(3), attempt, outcome.clone());
        assert_eq!(answered(&mut answer), None);
        calls.answered(NodeId::small(2), attempt, outcome.clone());
        assert_eq!(answered(&mut answer), Some(outcome));
    }

    /// Node ids outlive a restart with the same store, so attempt ids must not.
    #[test]
    fn an_answer_meant_for_an_earlier_start_is_no_answer() {
        let two = NodeId::small(2);
        let mut earlier = Calls::new(1_000);
        let (id, _answer) = open(&mut earlier, Until::Applied);
        let attempt = earlier.forward(id, two);
        let mut now = Calls::new(u64::MAX);
        let (id, mut answer) = open(&mut now, Until::Applied);
        assert_ne!(now.forward(id, two), attempt);
        let outcome = Outcome::Applied { position: place(1, 1), output: None };
        now.answered(two, attempt, outcome);
        assert_eq!(answered(&mut answer), None);
    }

    #[test]
    fn a_place_that_another_term_took_is_tried_again_without_doubt() {
        let mut calls = Calls::new(0);
        let (id, mut answer) = open(&mut calls, Until::Applied);
        calls.proposed(id, place(1, 5));
        let mut lost = Vec::new();
        assert!(calls.committed(&vec![entry(2, 5)].into(), &mut lost).is_empty());
        assert_eq!(lost, [id]);
        calls.refuse(id, Reason::Timeout);
        assert_eq!(answered(&mut answer), Some(Outcome::Refused(Reason::Timeout)));
    }

    /// The snapshot may hold what came of it.
    #[test]
    fn a_place_that_a_snapshot_passed_over_is_tried_again_with_doubt() {
        let mut calls = Calls::new(0);
        let (id, mut answer) = open(&mut calls, Until::Applied);
        calls.proposed(id, place(1, 5));
        let mut lost = Vec::new();
        assert!(calls.committed(&vec![entry(2, 9)].into(), &mut lost).is_empty());
        assert_eq!(lost, [id]);
        calls.refuse(id, Reason::Timeout);
        assert_eq!(answered(&mut answer), Some(Outcome::Unknown(Reason::Timeout)));
    }

    #[test]
    fn the_entry_itself_by_term_and_index_ends_the_call() {
        let mut calls = Calls::new(0);
        let (id, _answer) = open(&mut calls, Until::Applied);
        calls.proposed(id, place(2, 5));
        let mut lost = Vec::new();
        let waiting = calls.committed(&vec![entry(1, 4), entry(2, 5)].into(), &mut lost);
        assert_eq!(waiting.iter().map(|(index, ..)| *index).collect::<Vec<_>>(), [Index(5)]);
        assert!(lost.is_empty());
        assert_eq!((calls.len(), calls.deadline()), (0, None));
    }

    #[test]
    fn a_deposed_leader_does_not_know_what_becomes_of_its_proposals() {
        let mut calls = Calls::new(0);
        let (id, mut answer) = open(&mut calls, Until::Applied);
        calls.proposed(id, place(1, 5));
        assert_eq!(calls.deposed(), [id], "to be tried at the next leader");
        calls.stop();
        assert_eq!(answered(&mut answer), Some(Outcome::Unknown(Reason::Stopped)));
    }

    #[test]
    fn who_waits_for_the_log_only_is_answered_when_it_stands_there() {
        let mut calls = Calls::new(0);
        let (id, mut answer) = open(&mut calls, Until::Proposed);
        calls.proposed(id, place(1, 5));
        assert_eq!(answered(&mut answer), Some(Outcome::Proposed(place(1, 5))));
    }

    #[test]
    fn pauses_double_and_end_at_the_deadline() {
        let mut calls = Calls::new(0);
        let (id, _answer) = open(&mut calls, Until::Applied);
        let shortest = Duration::from_millis(100);
        let mut pause = || {
            calls.pause(id, at(0), shortest, 0);
            calls.deadline()
        };
        assert_eq!(pause(), Some(at(50)), "half of it is fixed");
        assert_eq!(pause(), Some(at(100)));
        assert_eq!(pause(), Some(at(200)));
        assert!((0..10).filter_map(|_| pause()).all(|wake| wake <= at(1_000)));
    }
}
