//! The end of a run: everything is healed, and the group must prove that it lives.
//!
//! Demanded: a leader, a new entry that commits, and every member with a disk applying it. Fair
//! because the world never let a configuration lose its majority for ever.

use std::time::Duration;

use raft::Index;

use super::{
    node::Seat,
    profile::CALM,
    world::{Checked, World},
};
use crate::invariant::Violation;

impl World {
    /// Ends all faults, brings everyone back, and waits for proof within bounds.
    pub(super) fn heal_and_prove_life(&mut self) -> Checked {
        self.calm = true;
        self.network.heal_all();
        self.profile.sync = CALM;
        for seat in (0..self.nodes.len()).map(Seat) {
            self.nodes[seat.0].paused_until = self.now;
            self.nodes[seat.0].held_until = self.now;
            self.nodes[seat.0].words = None;
            self.restart(seat)?;
        }
        let seats = || (0..self.nodes.len()).map(Seat);
        let all: Vec<_> = seats().flat_map(|from| seats().map(move |to| (from, to))).collect();
        let links: Vec<_> = all.into_iter().filter(|(from, to)| from != to).collect();
        self.connect(&links);
        let goal = self.prove_commit()?;
        self.prove_catching_up(goal)
    }

    fn prove_commit(&mut self) -> Result<Index, Violation> {
        let patience = self.profile.patience();
        let until = self.now.plus(patience * ELECTIONS_MAX);
        let mut next_probe = self.now;
        let before = self.applied;
        let steps_max = self.counts.steps + STEPS_MAX;
        while self.now < until && self.counts.steps < steps_max {
            if self.now >= next_probe
                && let Some(leader) = self.leader()
            {
                self.propose_probe(leader)?;
                next_probe = self.now.plus(patience);
            }
            self.turn()?;
            if self.probed > before {
                return Ok(self.probed);
            }
        }
        let leader = self.leader().map(|seat| self.nodes[seat.0].id);
        let healed = patience * ELECTIONS_MAX - until.since(self.now);
        let what = format!(
            "healed for {healed:?}, leader {leader:?}, nothing commits; {}",
            self.portrait()
        );
        Err(Violation::of("liveness", what))
    }

    fn prove_catching_up(&mut self, goal: Index) -> Checked {
        let until = self.now.plus(Duration::from_secs(CATCHING_UP_SECONDS_MAX));
        let steps_max = self.counts.steps + STEPS_MAX;
        while self.now < until && self.counts.steps < steps_max {
            if self.all_have(goal) {
                return Ok(());
            }
            self.turn()?;
        }
        let what = format!("healed, but not all apply entry {goal}; {}", self.portrait());
        Err(Violation::of("liveness", what))
    }

    fn all_have(&self, goal: Index) -> bool {
        let Some(leader) = self.leader() else { return false };
        let Some(core) = &self.nodes[leader.0].core else { return false };
        let behind = self.nodes.iter().find(|node| {
            core.configuration().contains(node.id) && node.machine.applied.index < goal
        });
        behind.is_none()
    }

    /// One line per server.
    pub(super) fn portrait(&self) -> String {
        let line = |node: &super::node::Node| {
            let core = node.core.as_ref()?;
            Some(format!(
                "\n    {:?}: {:?} of {:?} in term {}, log {}..{}, commit {}, applied {}, {:?}",
                node.id,
                core.role(),
                core.leader(),
                core.term(),
                core.log().start(),
                core.last(),
                core.commit(),
                core.applied(),
                core.configuration(),
            ))
        };
        self.nodes.iter().filter_map(line).collect()
    }
}

/// How many of the longest waits for an election may pass before something commits.
const ELECTIONS_MAX: u32 = 100;
/// How long everyone may take to catch up, in the world's seconds.
const CATCHING_UP_SECONDS_MAX: u64 = 120;
/// How many steps either may take, so that a group which talks without end is noticed soon.
const STEPS_MAX: u64 = 200_000;
