//! The end of a plan: proof that the healed group lives, and the logs for the checkers.

use raft::Index;

use super::{
    conductor::{Broken, Conductor},
    planned::number,
};
use crate::{
    checker::Verdict,
    cluster::{Fetched, NodeStatus},
    run::{
        CATCH_UP_BOUND, LIVENESS_BOUND, PROBE_KEY, Phase, Probed, Statuses, able, caught_up, check,
        lives,
    },
    swarm::node::Seat,
};

impl Conductor<'_> {
    /// A write commits through each node, all apply what is committed, and their logs are read.
    pub(super) fn prove_and_freeze(&mut self) -> Result<(), Broken> {
        self.journal.phase(Phase::Liveness)?;
        let mut probed = Probed::default();
        let clients = self.plan.workload.as_ref().map_or(0, |load| load.clients);
        for node in self.nodes() {
            let begun = self.world.now;
            let caller = usize::try_from(clients + node.0 - 1).unwrap_or(0);
            if self.writes_through(caller)? {
                probed.slowest = probed.slowest.max(self.world.now.since(begun));
            } else {
                let able = able(&self.statuses());
                probed.failed.push((format!("node {node}: no answer"), able));
            }
        }
        self.found.checks.push(lives(self.plan.nodes, &probed));
        self.journal.phase(Phase::Freeze)?;
        self.freeze()
    }

    /// How all servers stand. Their links are healed: whoever runs reaches whoever runs.
    fn statuses(&self) -> Statuses {
        let seats = || (0..self.world.nodes.len()).map(Seat);
        let core = |seat: Seat| self.world.nodes[seat.0].core.as_ref();
        let runs = |seat: &Seat| core(*seat).is_some();
        let status = |seat: Seat| {
            let core = core(seat).ok_or("it is down")?;
            let bonded = seats().filter(|other| *other != seat).filter(runs).map(number);
            Ok(NodeStatus {
                role: core.role(),
                term: core.term().0,
                leader: None,
                commit: core.commit().0,
                applied: core.applied().0,
                last_term: core.last().term.0,
                last: core.last().index.0,
                bonded: bonded.collect(),
                voters: seats().map(number).collect(),
                votes: true,
                stopped: None,
                events_lost: 0,
                fetched: Fetched::default(),
            })
        };
        seats().map(|seat| (number(seat), status(seat))).collect()
    }

    fn writes_through(&mut self, caller: usize) -> Result<bool, Broken> {
        let end = self.world.now.plus(LIVENESS_BOUND);
        while self.world.now < end {
            let now = self.world.now;
            let Some(planned) = &mut self.world.planned else { return Ok(false) };
            let task = planned.callers.want_write(caller, PROBE_KEY, now);
            let before = planned.callers.succeeded;
            self.world.ask(task);
            loop {
                let Some(planned) = &self.world.planned else { return Ok(false) };
                if !planned.callers.tasks.contains_key(&task) {
                    break;
                }
                if !self.turn_before(end)? {
                    return Ok(false);
                }
            }
            let after = self.world.planned.as_ref().map(|planned| planned.callers.succeeded);
            if after > Some(before) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn freeze(&mut self) -> Result<(), Broken> {
        let commits = self.world.nodes.iter().filter_map(|node| node.core.as_ref());
        let commit = commits.map(raft::Raft::commit).max().unwrap_or(Index(0));
        let behind = |run: &Self| -> Vec<Seat> {
            let seats = (0..run.world.nodes.len()).map(Seat);
            let lacks = |seat: &Seat| {
                let planned = run.world.planned.as_ref();
                planned.is_none_or(|planned| planned.applied(*seat) < commit)
            };
            seats.filter(lacks).collect()
        };
        let end = self.world.now.plus(CATCH_UP_BOUND);
        while !behind(self).is_empty() && self.turn_before(end)? {}
        let late = behind(self).into_iter();
        let complaints: Vec<String> = late
            .map(|seat| format!("node {} has not applied index {commit}", number(seat)))
            .collect();
        self.found.checks.push(caught_up(self.plan.nodes, commit.0, &complaints));
        if let Some(planned) = &self.world.planned {
            self.found.logs = planned.logs();
        }
        let up = self.world.nodes.iter().filter(|node| node.core.is_some()).count() as u64;
        let verdict = if up == self.plan.nodes { Verdict::Valid } else { Verdict::Invalid };
        let detail = format!("{up} of {} nodes run, and none stopped unasked", self.plan.nodes);
        self.found.checks.push(check("nodes", verdict, detail));
        Ok(())
    }
}
