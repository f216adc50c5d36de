//! One follower as its leader sees it (Raft figure 2: nextIndex, matchIndex).
//!
//! Knows nothing of terms; the leader decides what to send. Invariants: `matched < next`, and
//! what is under way keeps to the windows in entries and bytes.

use std::collections::VecDeque;

use crate::{Index, NodeId, Time};

/// A follower as its leader sees it: for status pages, and for whoever decides on its membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The follower.
    pub node: NodeId,
    /// Its log equals the leader's up to here.
    pub matched: Index,
    /// The next entry to send.
    pub next: Index,
    /// Entries under way.
    pub inflight: u64,
    /// When it was last heard in this term. Who was not yet counts as heard when the term, or
    /// its membership, began.
    pub heard: Time,
}

/// How entries are sent to a follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// It is not known where the logs agree: one append, and in each heartbeat interval without
    /// an answer one without entries.
    Probe {
        /// Whether this interval's append is out.
        sent: bool,
    },
    /// The logs agree up to `next`: send ahead, without waiting for answers (thesis §10.2.1).
    Pipeline,
    /// The next entry is compacted away: the follower needs the snapshot first (Raft §7).
    Snapshot {
        /// Whether this interval's offer is out.
        sent: bool,
    },
}

/// One follower.
#[derive(Debug)]
pub(crate) struct Progress {
    matched: Index,
    next: Index,
    pace: Pace,
    /// Appends under way in the pipeline: the last index of each, and its weight.
    window: VecDeque<(Index, usize)>,
    window_bytes: usize,
    /// A probe is out, and may be on its way still: what repeats it carries no entries.
    repeats: bool,
    /// Where acknowledgements stood in an earlier round while entries were under way.
    mark: Option<Mark>,
    /// Heartbeat intervals without news after which what was sent ahead is in doubt.
    patience: u32,
    /// It is to be asked whether that has come.
    is_in_doubt: bool,
    /// Refusals of what was sent ahead count once it has answered this heartbeat round.
    heeded_from: u64,
    /// The furthest commit index that it was told.
    told: Index,
    /// The last heartbeat round that it answered.
    round: u64,
    heard: Time,
    /// Until then it fetches what it lacks from others.
    fetches_until: Time,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    round: u64,
    matched: Index,
    /// Heartbeat intervals since.
    intervals: u32,
}

impl Progress {
    /// A follower of whom nothing is known. It counts as heard `now`, so that a fresh leader
    /// or a fresh member has a whole election timeout to be heard in.
    pub(crate) fn new(next: Index, now: Time) -> Self {
        Self {
            matched: Index(0),
            next: next.max(Index(1)),
            pace: Pace::Probe { sent: false },
            window: VecDeque::new(),
            window_bytes: 0,
            repeats: false,
            mark: None,
            patience: 1,
            is_in_doubt: false,
            heeded_from: 0,
            told: Index(0),
            round: 0,
            heard: now,
            fetches_until: Time::default(),
        }
    }

    /// Its log equals the leader's up to here.
    pub(crate) fn matched(&self) -> Index {
        self.matched
    }

    /// The next entry to send.
    pub(crate) fn next(&self) -> Index {
        self.next
    }

    /// How entries are sent to it.
    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    /// The last heartbeat round that it answered.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// When it was last heard in this term.
    pub(crate) fn heard(&self) -> Time {
        self.heard
    }

    /// Entries sent ahead and not yet acknowledged.
    pub(crate) fn inflight(&self) -> u64 {
        match self.pace {
            Pace::Pipeline => self.next.prev().since(self.matched),
            Pace::Probe { .. } | Pace::Snapshot { .. } => 0,
        }
    }

    /// The weight of what was sent ahead.
    pub(crate) fn inflight_bytes(&self) -> usize {
        self.window_bytes
    }

    /// It says that until then it fetches what it lacks from others.
    pub(crate) fn fetch(&mut self, until: Time) {
        self.fetches_until = until;
    }

    /// Whether it fetches what it lacks from others, as far as is known.
    pub(crate) fn fetches(&self, now: Time) -> bool {
        now < self.fetches_until
    }

    /// It spoke in this term.
    pub(crate) fn hear(&mut self, now: Time) {
        self.heard = self.heard.max(now);
    }

    /// It answered a heartbeat.
    pub(crate) fn answer(&mut self, round: u64) {
        self.round = self.round.max(round);
    }

    /// Whether the next append carries no entries.
    pub(crate) fn repeats(&self) -> bool {
        self.repeats
    }

    /// Whether the follower is to be asked if what was sent ahead has come.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// It is asked, by an append without entries behind all that was sent ahead: whoever lacks some
    /// of it refuses that.
    pub(crate) fn asked(&mut self) {
        self.is_in_doubt = false;
    }

    /// An append of entries up to `last` goes out.
    pub(crate) fn sent(&mut self, last: Index, weight_bytes: usize) {
        match &mut self.pace {
            Pace::Probe { sent } => *sent = true,
            Pace::Pipeline if last >= self.next => {
                self.next = last.next();
                self.window.push_back((last, weight_bytes));
                self.window_bytes = self.window_bytes.saturating_add(weight_bytes);
            }
            // An append without entries takes no room.
            Pace::Pipeline => {}
            // The log reaches back far enough: what is refused may be retreated from.
            Pace::Snapshot { .. } => self.restart(Pace::Probe { sent: true }),
        }
        self.check();
    }

    /// The snapshot up to `index` is offered.
    pub(crate) fn offered(&mut self) {
        self.restart(Pace::Snapshot { sent: true });
    }

    /// Its log equals the leader's up to `index`, durably. Returns whether that is news.
    pub(crate) fn acknowledge(&mut self, index: Index) -> bool {
        let news = index > self.matched;
        if index < self.matched {
            return false;
        }
        // An answer to what was sent before the probe may confirm less than the probe asks: that
        // is no reason to send everything ahead once more, the probe will tell.
        let confirms = index >= self.next.prev();
        self.matched = index;
        if news {
            (self.is_in_doubt, self.patience) = (false, 1);
        }
        self.next = self.next.max(index.next());
        while let Some((_, bytes)) = self.window.front().copied().filter(|(last, _)| *last <= index)
        {
            self.window.pop_front();
            self.window_bytes = self.window_bytes.saturating_sub(bytes);
        }
        // From the matched place on the logs agree, so the next entries may be sent ahead.
        if self.pace != Pace::Pipeline && confirms {
            self.restart(Pace::Pipeline);
            self.next = index.next();
        }
        self.check();
        news
    }

    /// Whether a refusal of an append after `prev` is an answer to what is under way now.
    ///
    /// What is matched stays matched, so a refusal at or before it is old; and a probe is
    /// refused only at the place that it probes. Where messages overtake each other, one that
    /// comes late has all that were sent behind it refused: it is enough to go back for the first
    /// of these, or each would have the whole window sent again and cause as many more. So after
    /// a retreat the follower has to answer a heartbeat first.
    pub(crate) fn is_refusal(&self, prev: Index) -> bool {
        match self.pace {
            Pace::Probe { .. } => prev == self.next.prev() && prev > self.matched,
            Pace::Pipeline => {
                prev > self.matched && prev < self.next && self.round >= self.heeded_from
            }
            Pace::Snapshot { .. } => false,
        }
    }

    /// The logs agree at most up to before `next`: probe there. `round` is the last that has
    /// begun.
    pub(crate) fn retreat(&mut self, next: Index, round: u64) {
        self.restart(Pace::Probe { sent: false });
        self.next = next.max(self.matched.next());
        self.heeded_from = round.saturating_add(1);
        self.check();
    }

    /// What was sent may be lost: send again, at once.
    ///
    /// What it acknowledged is asked for anew. It may return with a disk that lost the last of
    /// what it had promised; a leader that still took that for matched would hold its refusals
    /// for old ones, and it would never catch up. `round` is the last that has begun.
    pub(crate) fn reconnect(&mut self, round: u64) {
        match &mut self.pace {
            Pace::Probe { sent } | Pace::Snapshot { sent } => {
                *sent = false;
                self.repeats = false;
            }
            Pace::Pipeline => self.retreat(self.matched.next(), round),
        }
        self.matched = Index(0);
        self.told = Index(0);
        self.fetches_until = Time::default();
    }

    /// A heartbeat interval has passed; `round` is about to begin.
    ///
    /// Appends are lost without notice. A follower that answered a round begun after they were
    /// sent, and has acknowledged nothing since, may have lost them; or they are slower than
    /// heartbeats, which do not stand in line behind them. To send them again would make the line
    /// longer, so it is asked, with nothing that weighs, and less often each time. What it refuses
    /// is sent again.
    pub(crate) fn tick(&mut self, round: u64) {
        match self.pace {
            Pace::Probe { sent } => {
                self.repeats |= sent;
                self.pace = Pace::Probe { sent: false };
            }
            Pace::Snapshot { .. } => self.pace = Pace::Snapshot { sent: false },
            Pace::Pipeline if self.inflight() == 0 => self.mark = None,
            Pace::Pipeline => self.doubt_or_mark(round),
        }
    }

    fn doubt_or_mark(&mut self, round: u64) {
        let fresh = Mark { round, matched: self.matched, intervals: 0 };
        let Some(mark) = self.mark.filter(|mark| mark.matched == self.matched) else {
            self.mark = Some(fresh);
            return;
        };
        let intervals = mark.intervals.saturating_add(1);
        self.mark = Some(Mark { intervals, ..mark });
        if self.round >= mark.round && intervals >= self.patience {
            self.is_in_doubt = true;
            self.patience = self.patience.saturating_mul(2).min(PATIENCE_MAX);
            self.mark = Some(fresh);
        }
    }

    /// The commit index that it should be told but was not, no further than what it holds.
    pub(crate) fn untold(&self, commit: Index) -> Option<Index> {
        let known = commit.min(self.matched);
        (known > self.told).then_some(known)
    }

    /// It is told a commit index.
    pub(crate) fn tell(&mut self, commit: Index) {
        self.told = self.told.max(commit);
    }

    /// For those outside the core.
    pub(crate) fn standing(&self, node: NodeId) -> Standing {
        let (matched, next, heard) = (self.matched, self.next, self.heard);
        Standing { node, matched, next, inflight: self.inflight(), heard }
    }

    fn restart(&mut self, pace: Pace) {
        self.pace = pace;
        self.window.clear();
        self.window_bytes = 0;
        self.repeats = false;
        self.mark = None;
        (self.is_in_doubt, self.patience) = (false, 1);
    }

    fn check(&self) {
        assert!(self.matched < self.next, "matched {} not before {}", self.matched, self.next);
    }
}

/// Heartbeat intervals.
const PATIENCE_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn pipelined(matched: u64) -> Progress {
        let mut progress = Progress::new(Index(matched + 1), Time::default());
        progress.acknowledge(Index(matched));
        assert_eq!(progress.pace(), Pace::Pipeline);
        progress
    }

    #[test]
    fn next_runs_ahead_and_acknowledgements_free_the_window() {
        let mut progress = pipelined(3);
        progress.sent(Index(5), 200);
        progress.sent(Index(6), 100);
        assert_eq!((progress.inflight(), progress.inflight_bytes()), (3, 300));
        assert!(progress.acknowledge(Index(5)));
        assert_eq!((progress.inflight(), progress.inflight_bytes()), (1, 100));
        assert!(!progress.acknowledge(Index(4)), "an older acknowledgement takes nothing back");
        assert_eq!(progress.matched(), Index(5));
    }

    #[test]
    fn a_probe_is_sent_once_per_interval_and_does_not_advance() {
        let mut progress = Progress::new(Index(8), Time::default());
        progress.sent(Index(9), 100);
        assert_eq!(progress.pace(), Pace::Probe { sent: true });
        assert_eq!(progress.next(), Index(8));
        progress.tick(1);
        assert_eq!(progress.pace(), Pace::Probe { sent: false });
    }

    #[test]
    fn an_append_in_place_of_a_snapshot_probes_and_its_refusal_counts() {
        let mut progress = pipelined(3);
        progress.offered();
        progress.tick(1);
        assert_eq!(progress.pace(), Pace::Snapshot { sent: false });
        assert!(!progress.is_refusal(Index(3)));
        progress.retreat(Index(6), 1);
        progress.offered();
        progress.sent(Index(8), 100);
        assert_eq!(progress.pace(), Pace::Probe { sent: true }, "one for each interval");
        assert!(progress.is_refusal(Index(5)));
    }

    #[test]
    fn stale_refusals_are_told_apart() {
        let mut progress = pipelined(3);
        progress.sent(Index(6), 300);
        assert!(!progress.is_refusal(Index(3)), "what is matched stays matched");
        assert!(progress.is_refusal(Index(4)));
        assert!(!progress.is_refusal(Index(7)), "nothing was sent after 7");
        progress.retreat(Index(2), 0);
        assert_eq!(progress.next(), Index(4), "never back behind what is matched");
        progress.retreat(Index(6), 0);
        assert!(!progress.is_refusal(Index(4)), "a probe is refused where it probes");
        assert!(progress.is_refusal(Index(5)));
    }

    #[test]
    fn an_acknowledgement_from_before_a_probe_does_not_end_it() {
        let mut progress = pipelined(3);
        progress.sent(Index(9), 600);
        progress.retreat(Index(7), 0);
        progress.sent(Index(7), 100);
        assert!(progress.acknowledge(Index(5)));
        assert_eq!((progress.pace(), progress.next()), (Pace::Probe { sent: true }, Index(7)));
        assert!(progress.acknowledge(Index(6)), "as far as the probe asks");
        assert_eq!((progress.pace(), progress.next()), (Pace::Pipeline, Index(7)));
    }

    #[test]
    fn of_one_disorder_only_the_first_refusal_counts() {
        let mut progress = pipelined(3);
        progress.sent(Index(9), 600);
        assert!(progress.is_refusal(Index(6)));
        progress.retreat(Index(4), 5);
        progress.acknowledge(Index(4));
        progress.sent(Index(9), 500);
        assert!(!progress.is_refusal(Index(7)), "it was sent before the retreat");
        progress.answer(5);
        assert!(!progress.is_refusal(Index(7)), "that round began before the retreat");
        progress.answer(6);
        assert!(progress.is_refusal(Index(7)));
    }

    #[test]
    fn who_reconnects_is_asked_again_what_it_holds() {
        let mut progress = pipelined(3);
        progress.sent(Index(6), 300);
        progress.reconnect(0);
        assert_eq!((progress.pace(), progress.next()), (Pace::Probe { sent: false }, Index(4)));
        assert!(progress.is_refusal(Index(3)), "it may have lost what it acknowledged");
        progress.retreat(Index(3), 0);
        assert!(progress.acknowledge(Index(2)));
        assert_eq!(progress.matched(), Index(2));
    }

    #[test]
    fn lost_appends_are_asked_for_after_an_answered_round() {
        let mut progress = pipelined(3);
        progress.sent(Index(6), 300);
        progress.tick(1);
        progress.tick(2);
        assert!(!progress.is_in_doubt(), "a silent follower may just be slow");
        progress.answer(2);
        progress.tick(3);
        assert!(progress.is_in_doubt());
        progress.asked();
        assert_eq!((progress.next(), progress.inflight_bytes()), (Index(7), 300), "nor sent again");
        assert!(progress.is_refusal(Index(6)), "if it says so, they are");
    }

    #[test]
    fn slow_appends_are_not_sent_again_and_asked_for_less_and_less_often() {
        let mut progress = pipelined(3);
        progress.sent(Index(6), 300);
        let mut asked = Vec::new();
        for round in 1..=50 {
            progress.tick(round);
            progress.answer(round);
            if progress.is_in_doubt() {
                progress.asked();
                asked.push(round);
            }
        }
        assert_eq!(asked, [2, 4, 8, 16, 24, 32, 40, 48]);
        // What came twice is acknowledged twice, and says nothing of what was sent behind it.
        for _ in 0..2 {
            assert!(!progress.acknowledge(Index(3)));
        }
        assert_eq!((progress.pace(), progress.next()), (Pace::Pipeline, Index(7)));
        assert!(progress.acknowledge(Index(4)), "they come after all");
        assert_eq!((progress.pace(), progress.next()), (Pace::Pipeline, Index(7)));
    }

    #[test]
    fn what_repeats_a_probe_carries_no_entries_until_it_is_answered() {
        let mut progress = Progress::new(Index(8), Time::default());
        assert!(!progress.repeats());
        progress.tick(1);
        assert!(!progress.repeats(), "nothing was sent yet");
        progress.sent(Index(9), 100);
        progress.tick(2);
        assert!(progress.repeats());
        progress.retreat(Index(5), 2);
        assert!(!progress.repeats(), "it is another probe");
        progress.sent(Index(6), 100);
        progress.tick(3);
        progress.reconnect(3);
        assert!(!progress.repeats(), "what was under way is lost");
    }

    #[test]
    fn progress_within_a_round_is_no_loss() {
        let mut progress = pipelined(3);
        progress.sent(Index(6), 300);
        progress.tick(1);
        progress.answer(1);
        progress.acknowledge(Index(4));
        progress.tick(2);
        assert_eq!(progress.pace(), Pace::Pipeline);
    }

    #[test]
    fn a_commit_index_is_told_once_and_no_further_than_matched() {
        let mut progress = pipelined(3);
        assert_eq!(progress.untold(Index(9)), Some(Index(3)));
        progress.tell(Index(3));
        assert_eq!(progress.untold(Index(9)), None);
        progress.acknowledge(Index(5));
        assert_eq!(progress.untold(Index(4)), Some(Index(4)));
    }
}
