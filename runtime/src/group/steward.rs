//! Who shall be a member: at most one change of the configuration at a time, for a leader to
//! propose.
//!
//! A policy and nothing more: it sees what its leader sees, changes nothing, and reads no clock.
//! What makes a change safe is the core's business, whatever is advised here. Invariants: no
//! advice leaves fewer than `voters_min` voters unless the one who goes has gone already or asks
//! to; nobody who asks to is let go while those who stay could commit nothing without it; none
//! gives a peer two places; an observer never becomes a voter.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use raft::{Change, Configuration, Index, NodeId, Standing, Time};

use crate::ConsensusConfig;

/// Decides for one leader, for as long as it leads.
pub(crate) struct Steward {
    me: NodeId,
    voters_max: usize,
    voters_min: usize,
    learners_max: usize,
    evict_after: Duration,
    /// The longest wait for a leader: what counts as a while.
    patience: Duration,
    rounds: BTreeMap<NodeId, Round>,
    /// When it looked last, and since when it has looked without a gap.
    looked: Option<Time>,
    watching: Time,
}

/// What a leader sees of its group at one moment.
pub(crate) struct Sight<'a> {
    pub(crate) now: Time,
    /// The last entry of the leader's log.
    pub(crate) last: Index,
    pub(crate) configuration: &'a Configuration,
    pub(crate) standings: &'a [Standing],
    /// Bonded nodes that have said who they are.
    pub(crate) present: &'a BTreeMap<NodeId, Present>,
    /// Those of them that want to be members no longer, and when they last said so.
    pub(crate) leaving: &'a BTreeMap<NodeId, Time>,
    /// The group is its founder alone, and may be given up for another one.
    pub(crate) fresh: bool,
}

/// A bonded node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Present {
    /// Since when.
    pub(crate) since: Time,
    /// It never wants to vote.
    pub(crate) observer: bool,
}

/// Why a change is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// A newcomer is there.
    Came,
    /// A learner has caught up.
    CaughtUp,
    /// It asked to leave.
    Left,
    /// Its peer has come with another store, so this one is gone for good.
    Replaced,
    /// It was not heard for `evict_after`.
    Silent,
}

/// A learner on its way to have caught up (thesis §4.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Round {
    /// It ends when the learner has the log through here.
    target: Index,
    began: Time,
    /// The round before was short enough.
    caught_up: bool,
}

impl Steward {
    pub(crate) fn new(me: NodeId, consensus: &ConsensusConfig) -> Self {
        Self {
            me,
            voters_max: consensus.voters_max as usize,
            voters_min: consensus.voters_min as usize,
            learners_max: consensus.learners_max as usize,
            evict_after: consensus.evict_after,
            patience: consensus.election_timeout_max(),
            rounds: BTreeMap::new(),
            looked: None,
            watching: Time::default(),
        }
    }

    /// The change that is due next, if one is. To be asked often: learners are timed by it.
    pub(crate) fn look(&mut self, sight: &Sight<'_>) -> Option<(Change, Cause)> {
        // Who was stopped or starved itself has heard nobody meanwhile, and that proves nothing.
        if self.looked.is_none_or(|looked| sight.now.since(looked) > self.patience) {
            self.watching = sight.now;
        }
        self.looked = Some(sight.now);
        self.time_learners(sight);
        self.leaves(sight)
            .or_else(|| self.replaced(sight))
            .or_else(|| self.silent(sight))
            .or_else(|| self.caught_up(sight))
            .or_else(|| self.came(sight))
    }

    fn leaves(&self, sight: &Sight<'_>) -> Option<(Change, Cause)> {
        let mut members = sight.configuration.members().filter(|member| *member != self.me);
        let leaver = members
            .find(|member| sight.leaving.contains_key(member) && self.can_spare(*member, sight))?;
        Some((Change::Remove(leaver), Cause::Left))
    }

    /// Whether enough of those who stay were heard to do without it. A removal is in force as soon
    /// as it is appended: where the leaver was needed for a majority, nothing would be committed
    /// from then on, not even that it has left.
    fn can_spare(&self, leaver: NodeId, sight: &Sight<'_>) -> bool {
        let stays = |node: &NodeId| *node != leaver && sight.configuration.voters.contains(node);
        let is_heard = |standing: &&Standing| {
            // Who was not heard yet counts as heard when the leader was elected.
            stays(&standing.node)
                && standing.heard > self.watching
                && sight.now.since(standing.heard) <= self.patience
        };
        let heard = sight.standings.iter().filter(is_heard).count() + usize::from(stays(&self.me));
        let left = sight.configuration.voters.iter().filter(|node| stays(node)).count();
        2 * heard > left || !sight.configuration.voters.contains(&leaver)
    }

    /// A member whose peer proves another store has forgotten what it promised, and will not be
    /// back: to count on it only makes majorities harder to find, however few voters are left.
    /// It must have been so for a while, for two processes that share one key by mistake take
    /// each other's bond away in turns, and shall not take each other's place as fast.
    fn replaced(&self, sight: &Sight<'_>) -> Option<(Change, Cause)> {
        let others = sight.present.iter().filter(|(node, present)| {
            !sight.configuration.contains(**node)
                && !sight.leaving.contains_key(node)
                && sight.now.since(present.since) >= self.patience
        });
        let mut gone = others.filter_map(|(node, _)| sight.configuration.of_peer(node.peer));
        // A leader whose own key another node has must not depose itself for that.
        let gone = gone.find(|gone| *gone != self.me)?;
        Some((Change::Remove(gone), Cause::Replaced))
    }

    fn silent(&self, sight: &Sight<'_>) -> Option<(Change, Cause)> {
        let voters = &sight.configuration.voters;
        let may_go = |node: &NodeId| !voters.contains(node) || voters.len() > self.voters_min;
        let mut silent = self.overdue(sight).filter(may_go);
        silent.next().map(|node| (Change::Remove(node), Cause::Silent))
    }

    fn caught_up(&self, sight: &Sight<'_>) -> Option<(Change, Cause)> {
        // A voter that may be gone for good keeps nobody from taking its place, or a group whose
        // least and greatest number are one could never replace it.
        let overdue: BTreeSet<NodeId> = self.overdue(sight).collect();
        let lively = sight.configuration.voters.difference(&overdue).count();
        if lively >= self.voters_max {
            return None;
        }
        // A round that lasts too long already has failed: whose disk hangs was quick once, too.
        let keeps_up =
            |round: &Round| round.caught_up && sight.now.since(round.began) <= self.patience;
        let mut learners = sight.standings.iter().filter(|standing| {
            let present = sight.present.get(&standing.node);
            sight.configuration.learners.contains(&standing.node)
                && present.is_some_and(|present| !present.observer)
                && sight.now.since(standing.heard) <= self.patience
                && self.rounds.get(&standing.node).is_some_and(keeps_up)
        });
        learners.next().map(|learner| (Change::Promote(learner.node), Cause::CaughtUp))
    }

    fn came(&self, sight: &Sight<'_>) -> Option<(Change, Cause)> {
        if sight.configuration.learners.len() >= self.learners_max {
            return None;
        }
        // Two founders that one newcomer has found shall hear of each other from it, and one of
        // them give way: once they have taken it in, neither may.
        let settled = if sight.fresh { self.patience } else { Duration::ZERO };
        let newcomers = sight.present.iter().filter(|(node, present)| {
            sight.configuration.of_peer(node.peer).is_none()
                && !sight.leaving.contains_key(node)
                && sight.now.since(present.since) >= settled
        });
        // Who waits longest comes first.
        let (node, _) = newcomers.min_by_key(|(node, present)| (present.since, **node))?;
        Some((Change::AddLearner(*node), Cause::Came))
    }

    /// Members that were not heard for `evict_after` under this leader.
    fn overdue<'a>(&'a self, sight: &'a Sight<'_>) -> impl Iterator<Item = NodeId> + 'a {
        let is_silent = |standing: &&Standing| {
            sight.configuration.contains(standing.node)
                && sight.now.since(standing.heard.max(self.watching)) >= self.evict_after
        };
        sight.standings.iter().filter(is_silent).map(|standing| standing.node)
    }

    /// Thesis §4.2.1: a learner catches up in rounds, each up to where the log ended when it
    /// began, and has caught up once a round takes no longer than an election may: then its
    /// promotion keeps commits waiting no longer than that. Where the thesis gives up after some
    /// rounds, this goes on: the learner costs the same either way.
    fn time_learners(&mut self, sight: &Sight<'_>) {
        let learners = &sight.configuration.learners;
        self.rounds.retain(|node, _| learners.contains(node));
        for standing in sight.standings.iter().filter(|other| learners.contains(&other.node)) {
            let fresh = Round { target: sight.last, began: sight.now, caught_up: false };
            let round = self.rounds.entry(standing.node).or_insert(fresh);
            if standing.matched >= round.target && sight.now > round.began {
                let caught_up = sight.now.since(round.began) <= self.patience;
                *round = Round { caught_up, ..fresh };
            }
        }
    }
}
