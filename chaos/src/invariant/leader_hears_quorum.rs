//! A leader leads only while it hears a quorum (thesis §6.2): else a leader that was deposed
//! where it cannot see keeps its clients waiting for ever.
//!
//! Silence is measured by the leader's own clock and judged when its timer fires. One timer may
//! pass: after a late one the answers may still wait unread.

use raft::{NodeId, Role, Term, Time};

use super::{Cause, PerServer, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct LeaderHearsQuorum {
    reigns: PerServer<Reign>,
}

#[derive(Debug, Default)]
struct Reign {
    incarnation: u64,
    term: Option<Term>,
    /// When each other member was last heard; a new one counts as heard when it joins.
    heard: Vec<(NodeId, Time)>,
    /// Timers in a row that found silence.
    silent: u32,
}

impl LeaderHearsQuorum {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        if view.role != Role::Leader {
            return Ok(());
        }
        let term = view.hard_state.term;
        let reign = self.reigns.of(view.server);
        let elected = reign.incarnation != view.incarnation || reign.term != Some(term);
        if elected {
            (reign.incarnation, reign.term, reign.silent) = (view.incarnation, Some(term), 0);
            reign.heard.clear();
        }
        if elected || view.written.is_some() {
            reign.follow(view);
        }
        if let Some((from, _)) = view.cause.heard().filter(|(_, of)| *of >= term) {
            reign.hear(from, view.now);
        }
        if view.cause == Cause::Timer { reign.judge(view) } else { Ok(()) }
    }
}

impl Reign {
    /// Looks to the members of the configuration in force, and to nobody else.
    fn follow(&mut self, view: &View<'_>) {
        let configuration = view.configuration;
        self.heard.retain(|(node, _)| configuration.contains(*node));
        for node in configuration.members() {
            if self.heard.iter().all(|(known, _)| *known != node) {
                self.heard.push((node, view.now));
            }
        }
    }

    fn hear(&mut self, from: NodeId, now: Time) {
        if let Some((_, heard)) = self.heard.iter_mut().find(|(node, _)| *node == from) {
            *heard = now;
        }
    }

    fn judge(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let heard = |voter: &&NodeId| {
            let last = self.heard.iter().find(|(node, _)| node == *voter);
            let silence = last.map(|(_, heard)| view.now.since(*heard));
            **voter == view.node || silence.is_some_and(|gap| gap <= view.election_timeout_max)
        };
        let voters = &view.configuration.voters;
        let quorum = voters.iter().filter(heard).count() >= view.configuration.quorum();
        self.silent = if quorum { 0 } else { self.silent + 1 };
        if self.silent <= SILENT_MAX {
            return Ok(());
        }
        let (node, term) = (view.node, view.hard_state.term);
        let what = format!("{node:?} leads term {term} on, and has not heard a quorum for long");
        Err(Violation::of("leader hears quorum", what))
    }
}

/// Timers in a row that may find silence.
const SILENT_MAX: u32 = 1;
