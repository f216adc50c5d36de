//! The operator of the model: adds, promotes and removes servers, hands leadership over.
//!
//! Sees everything, and keeps to one rule: no configuration may come to be whose majority is
//! lost for ever, since such a group is allowed never to answer again.

use raft::{Change, Configuration, Input, NodeId};

use super::{
    node::Seat,
    world::{Checked, World},
};

impl World {
    /// Asks the leader, or sometimes someone else, for one act.
    pub(super) fn operator_acts(&mut self) -> Checked {
        let Some(leader) = self.leader().filter(|seat| self.awake(*seat) && !self.calm) else {
            return Ok(());
        };
        if self.streams.operator.chance(self.profile.transfer_permille) {
            return self.transfer(leader);
        }
        let Some(change) = self.change(leader) else { return Ok(()) };
        let draw = &mut self.streams.operator;
        let anywhere = Seat(usize::try_from(draw.below(self.nodes.len() as u64)).unwrap_or(0));
        let seat = if draw.chance(ASTRAY_PERMILLE) { anywhere } else { leader };
        if self.awake(seat) && self.survives(seat, change) {
            return self.propose_change(seat, change);
        }
        Ok(())
    }

    /// Whether the configuration keeps a majority that still has its disks.
    pub(super) fn is_able(&self, configuration: &Configuration) -> bool {
        let alive = configuration.voters.iter().filter(|voter| !self.dead.contains(voter));
        configuration.is_empty() || alive.count() >= configuration.quorum()
    }

    fn transfer(&mut self, leader: Seat) -> Checked {
        let draw = &mut self.streams.operator;
        let seat = usize::try_from(draw.below(self.nodes.len() as u64)).unwrap_or(0);
        let to = self.nodes[seat].id;
        self.counts.steps += 1;
        self.trace(seat as u64);
        self.tell(|world| format!("{} shall hand over to {to}", world.nodes[leader.0].id));
        self.input(leader, Input::Transfer { to })?;
        self.deafen(leader);
        Ok(())
    }

    fn change(&mut self, leader: Seat) -> Option<Change> {
        let configuration = self.nodes[leader.0].core.as_ref()?.configuration().clone();
        let dead = configuration.members().find(|member| self.dead.contains(member));
        let draw = &mut self.streams.operator;
        if let Some(dead) = dead.filter(|_| draw.chance(BURIES_PERMILLE)) {
            return Some(Change::Remove(dead));
        }
        let seats = 0..self.nodes.len();
        let up: Vec<&super::node::Node> =
            seats.map(|seat| &self.nodes[seat]).filter(|node| node.core.is_some()).collect();
        let outside: Vec<NodeId> =
            up.iter().map(|node| node.id).filter(|id| !configuration.contains(*id)).collect();
        let learners = up.iter().filter(|node| configuration.learners.contains(&node.id));
        let ready: Vec<NodeId> =
            learners.filter(|node| !node.observer).map(|node| node.id).collect();
        let members: Vec<NodeId> = configuration.members().collect();
        match draw.below(10) {
            0..=2 => draw.pick(&outside).copied().map(Change::AddLearner),
            3..=6 => draw.pick(&ready).copied().map(Change::Promote),
            // What fits nowhere must be refused, by name and without harm.
            7 => draw.pick(&members).copied().map(Change::AddLearner),
            _ => draw.pick(&members).copied().map(Change::Remove),
        }
    }

    fn survives(&self, seat: Seat, change: Change) -> bool {
        let Some(core) = &self.nodes[seat.0].core else { return false };
        let after = core.configuration().after(change);
        after.is_none_or(|after| {
            let fewest =
                if core.configuration().voters.len() > VOTERS_MIN { VOTERS_MIN } else { 1 };
            self.is_able(&after)
                && after.voters.len() >= fewest.min(core.configuration().voters.len())
        })
    }
}

/// A lost disk goes before other changes.
const BURIES_PERMILLE: u64 = 800;
/// Changes that go to someone who may not lead.
const ASTRAY_PERMILLE: u64 = 50;
/// The operator removes no voter below this.
const VOTERS_MIN: usize = 2;
