//! Carries out the schedule of one trial: the nemesis of this world.
//!
//! Aims, rules and marks are those of the other worlds. Invariant: what was hit is always brought
//! back, also when the run is to end between the two.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use raft::{Index, Input, Time};

use super::{
    conductor::{Broken, Conductor},
    planned::seat,
    witness::Witness,
};
use crate::{
    fault::{Fault, NodeNumber},
    link::LinkCounts,
    member::nanos,
    nemesis::{
        Hit, LEADER_BOUND, REJOIN_BOUND, STRIKE_PAUSE,
        aim::{Aim, draw_beside},
        cuts::Cuts,
        due::{Action, Due, flap_at, may_wait, simultaneous},
        in_order, mark,
    },
    outage::Strike,
    plan::{Step, WorkloadPlan, reach, rules},
    run::RunError,
    schedule::{Schedule, Scheduled},
    swarm::node::{Node, Seat},
};

/// One trial of the schedule.
pub(super) struct Strikes<'r, 'a> {
    run: &'r mut Conductor<'a>,
    schedule: &'r mut Schedule,
    due: Due,
    /// Whom strikes will hit that are due at a moment at which another one struck, by place in the
    /// schedule.
    aimed: BTreeMap<usize, Hit>,
    /// What was carried out, by place in the schedule.
    strikes: BTreeMap<usize, Strike>,
    /// Nodes that are away from the majority, by the strike that took them.
    taken: BTreeMap<usize, BTreeSet<NodeNumber>>,
    cuts: Cuts,
    /// Of the packet faults that are on, by place in the schedule.
    witnesses: BTreeMap<usize, Witness>,
    returning: Vec<Returning>,
    /// The highest index that was seen to be committed: who returns must come at least there.
    commit: Index,
    begin: Time,
}

/// A node that is back and has not caught up yet.
#[derive(Clone, Copy)]
struct Returning {
    place: usize,
    node: NodeNumber,
    commit: Index,
    bound: Time,
}

impl<'r, 'a> Strikes<'r, 'a> {
    /// The faults of a trial that begins now.
    pub(super) fn new(run: &'r mut Conductor<'a>, schedule: &'r mut Schedule, trial: u64) -> Self {
        let begin = run.world.now;
        let of_trial = schedule.faults.iter().enumerate().filter(|(_, fault)| fault.trial == trial);
        let due = of_trial.map(|(place, fault)| {
            ((begin.plus(Duration::from_nanos(fault.due_ns)), place), Action::Strike)
        });
        let due = due.collect();
        Self {
            run,
            schedule,
            due,
            aimed: BTreeMap::new(),
            strikes: BTreeMap::new(),
            taken: BTreeMap::new(),
            cuts: Cuts::default(),
            witnesses: BTreeMap::new(),
            returning: Vec::new(),
            commit: Index(0),
            begin,
        }
    }

    /// Carries all of it out, goes on to the end of the trial, and waits until those who returned
    /// have caught up.
    pub(super) fn carry_out(mut self, load: &WorkloadPlan) -> Result<Vec<Strike>, Broken> {
        while let Some(((at, place), action)) = self.due.pop_first() {
            let returns = matches!(action, Action::Return);
            self.advance(at, returns)?;
            match action {
                Action::Strike | Action::Flap { .. } if self.run.is_stopped() => {}
                Action::Strike => self.strike(place, at)?,
                Action::Flap { is_gone } => self.flap(place, is_gone, at),
                Action::Return => self.bring_back(place)?,
            }
        }
        let load_ms = load.duration_ms.of(self.run.plan.profile);
        self.advance(self.begin.plus(Duration::from_millis(load_ms)), false)?;
        while let Some(bound) = self.returning.iter().map(|returning| returning.bound).max() {
            if !self.run.turn_before(bound)? {
                break;
            }
            self.see_them_catch_up()?;
        }
        for Returning { place, node, .. } in std::mem::take(&mut self.returning) {
            let Some(strike) = self.strikes.get(&place) else { continue };
            let bound = REJOIN_BOUND.as_secs();
            let what = format!("node {node} had not caught up within {bound} s");
            self.run.lost.push(format!("trial {}: {what}", strike.trial));
        }
        Ok(in_order(self.strikes.into_values().collect(), self.run.now_ns()))
    }

    /// Goes on until then. A wish to stop ends it, unless somebody has to return by then.
    fn advance(&mut self, to: Time, returns: bool) -> Result<(), Broken> {
        while returns || !self.run.is_stopped() {
            if !self.run.turn_before(to)? {
                break;
            }
            self.see_them_catch_up()?;
        }
        Ok(())
    }

    fn strike(&mut self, place: usize, due: Time) -> Result<(), Broken> {
        let Some((hit, led)) = self.victims(place, due)? else { return Ok(()) };
        let (now, at_ns) = (self.run.world.now, self.run.now_ns());
        let Scheduled { trial, step, fault, return_after_ms, .. } = self.schedule.faults[place];
        let planned = self.planned(place);
        let reach = reach(self.run.plan, &planned.drawn(fault), &hit);
        let back_at = now.plus(Duration::from_millis(return_after_ms));
        // Where all are hit nobody is left who could be asked when they return.
        self.see_commit();
        self.hit(place, &hit, back_at)?;
        let mut nodes = match reach.away.is_empty() {
            true => hit.clone(),
            false => Vec::from_iter(reach.away.clone()),
        };
        let leader = led.map(|(leader, _)| leader);
        // The one that led stands for all.
        nodes.sort_by_key(|node| leader != Some(*node));
        self.due.insert((back_at, place), Action::Return);
        if let Some(flap) = planned.flap {
            flap_at(&mut self.due, place, now.plus(Duration::from_millis(flap.on_ms)), true);
        }
        let strike = Strike {
            trial,
            step,
            fault,
            led: leader.is_some_and(|leader| nodes.contains(&leader)),
            nodes,
            deposed: leader.is_some_and(|leader| !reach.able.contains(&leader)),
            away: reach.away,
            served: reach.served,
            at_ns,
            in_force_ns: at_ns,
            term_before: led.map_or(0, |(_, term)| term),
            until_ns: u64::MAX,
            returned_ns: None,
            rejoined_ns: None,
        };
        self.take_away(place, &strike.away);
        let entry = &mut self.schedule.faults[place];
        (entry.node, entry.struck_ns) = (Some(strike.node()), Some(at_ns));
        entry.nodes = hit;
        self.run.journal.mark(mark(&strike))?;
        self.run.journal.schedule(self.schedule)?;
        self.strikes.insert(place, strike);
        Ok(())
    }

    /// Whom the strike hits, and who leads then; waits until there is somebody of that kind. If
    /// something else is due before that, it comes first, and the strike after it. Whom others hit
    /// that are due at the same moment is settled with it.
    fn victims(&mut self, place: usize, due: Time) -> Result<Option<Hit>, Broken> {
        if let Some(hit) = self.aimed.remove(&place) {
            return Ok(Some(hit));
        }
        let (aim, down) = (self.aim(place), self.down());
        let next = self.due.first_key_value().map(|((at, _), _)| *at);
        let now = self.run.world.now;
        let bound = next.map_or(LEADER_BOUND, |at| at.since(now).min(LEADER_BOUND));
        if self.run.until(bound, |run| aim.at(&run.view, &down).is_some())? {
            let view = &self.run.view;
            let Some(hit) = aim.at(view, &down) else { return Ok(None) };
            let beside = simultaneous(&self.due, due);
            let aims = beside.map(|place| (place, self.aim(place)));
            let (aimed, led) = (draw_beside(aims, view, (&down, &hit[..])), view.leader());
            self.aimed.extend(aimed);
            return Ok(Some((hit, led)));
        }
        match next {
            _ if self.run.is_stopped() => Ok(None),
            Some(next) if may_wait(self.begin, &self.schedule.faults[place], now) => {
                self.due.insert((next.max(now).plus(STRIKE_PAUSE), place), Action::Strike);
                Ok(None)
            }
            _ => {
                let bound = LEADER_BOUND.as_secs();
                let portrait = self.run.world.portrait();
                let what = format!("nobody to hit: no leader for {bound} s; {portrait}");
                Err(RunError::Lab(what).into())
            }
        }
    }

    fn hit(&mut self, place: usize, nodes: &[NodeNumber], back_at: Time) -> Result<(), Broken> {
        let node = nodes.first().copied().unwrap_or_default();
        let world = &mut self.run.world;
        match self.schedule.faults[place].fault {
            Fault::Kill => {
                for node in nodes {
                    world.power_off(seat(*node));
                    world.forget_callers_of(seat(*node));
                }
            }
            Fault::Pause => nodes.iter().for_each(|node| world.stop_until(seat(*node), back_at)),
            Fault::Transfer => self.hand_over(seat(node))?,
            // No plan with these comes here: that is refused before.
            Fault::Clock | Fault::Disk | Fault::Restart | Fault::Leave | Fault::Wipe => {}
            Fault::Isolate | Fault::Partition | Fault::Link => {
                let rules = rules(self.run.plan, self.planned(place), nodes);
                let Some(planned) = &mut self.run.world.planned else { return Ok(()) };
                let before = planned.link_counts();
                let in_force = self.cuts.begin(place, rules, before);
                planned.hurt(&in_force);
                self.witnesses.insert(place, Witness::of(&self.run.world, &in_force));
            }
        }
        Ok(())
    }

    /// A leader hands over to the first other voter that is up.
    fn hand_over(&mut self, leader: Seat) -> Result<(), Broken> {
        let up = |node: &&Node| node.core.is_some();
        let others = self.run.world.nodes.iter().enumerate();
        let others = others.filter(|(place, _)| *place != leader.0).map(|(_, node)| node);
        let to = others.filter(up).map(|node| node.id).next();
        match to {
            Some(to) => Ok(self.run.world.input(leader, Input::Transfer { to })?),
            None => Ok(()),
        }
    }

    /// A packet fault comes or goes, and will go or come again, unless it is healed before.
    fn flap(&mut self, place: usize, is_gone: bool, at: Time) {
        let Some(flap) = self.planned(place).flap else { return };
        let Some(rules) = self.cuts.flap(place, is_gone) else { return };
        if let Some(planned) = &mut self.run.world.planned {
            planned.hurt(&rules);
        }
        let lasts_ms = if is_gone { flap.off_ms } else { flap.on_ms };
        flap_at(&mut self.due, place, at.plus(Duration::from_millis(lasts_ms)), !is_gone);
    }

    /// Whoever the strike takes away from the majority says nothing that counts until it is back.
    fn take_away(&mut self, place: usize, away: &BTreeSet<NodeNumber>) {
        let taken: BTreeSet<_> = away.difference(&self.down()).copied().collect();
        taken.iter().for_each(|node| self.run.journal.away(*node));
        self.run.view = self.run.journal.view();
        self.taken.insert(place, taken);
    }

    fn bring_back(&mut self, place: usize) -> Result<(), Broken> {
        let Some(strike) = self.strikes.get(&place) else { return Ok(()) };
        let (node, fault, now_ns) = (strike.node(), strike.fault, self.run.now_ns());
        let hit = strike.nodes.clone();
        let commit = self.see_commit();
        let taken = self.taken.remove(&place).unwrap_or_default();
        for node in &taken {
            self.run.journal.back(*node, fault.ends_process());
        }
        self.run.view = self.run.journal.view();
        match fault {
            Fault::Kill | Fault::Restart | Fault::Leave | Fault::Wipe => {
                for node in &hit {
                    self.run.world.restart(seat(*node))?;
                    self.run.welcome(seat(*node));
                }
            }
            // It goes on by itself, just then.
            Fault::Pause | Fault::Clock | Fault::Disk | Fault::Transfer => {}
            Fault::Isolate | Fault::Partition | Fault::Link => self.heal(place, node)?,
        }
        // Of a partition that takes nobody away, those at its ends may have fallen behind.
        let behind = match fault {
            Fault::Partition if taken.is_empty() => hit.into_iter().collect(),
            _ => taken,
        };
        if let Some(strike) = self.strikes.get_mut(&place) {
            strike.returned_ns = Some(now_ns);
            if behind.is_empty() {
                // Nobody was away, so there is nothing to catch up with.
                strike.rejoined_ns = Some(now_ns);
                self.run.journal.mark(mark(strike))?;
            }
        }
        self.schedule.faults[place].returned_ns = Some(now_ns);
        self.run.journal.schedule(self.schedule)?;
        let bound = self.run.world.now.plus(REJOIN_BOUND);
        let returning = behind.into_iter().map(|node| Returning { place, node, commit, bound });
        self.returning.extend(returning);
        Ok(())
    }

    /// Heals the links of a strike, and sees that it took place.
    fn heal(&mut self, place: usize, node: NodeNumber) -> Result<(), Broken> {
        let Some((rules, cut)) = self.cuts.end(place) else { return Ok(()) };
        let Some(witness) = self.witnesses.remove(&place) else { return Ok(()) };
        let Some(planned) = &mut self.run.world.planned else { return Ok(()) };
        planned.hurt(&rules);
        let befallen: LinkCounts = cut.befallen(&planned.link_counts());
        // Of those that were lost the world counts all, whatever they were lost by.
        let befell = |(name, count): &(&str, u64)| *count > 0 && *name != "lost";
        for (name, count) in befallen.faults().into_iter().filter(befell) {
            *self.run.found.counts.entry(format!("messages_{name}")).or_default() += count;
        }
        // Where a majority may be lost there may have been nobody to send anything.
        let excused = self.run.is_stopped() || self.run.plan.expect.majority_may_be_lost;
        if let Some(why) = witness.missed(&self.run.world, &befallen, excused) {
            let what = format!("the fault on node {node} did not take place: {why}");
            return Err(RunError::Lab(what).into());
        }
        // Bonds that were silent for long are made anew, and both ends know.
        let links: Vec<(Seat, Seat)> =
            rules.iter().map(|rule| (seat(rule.from), seat(rule.to))).collect();
        self.run.world.connect(&links);
        Ok(())
    }

    /// Notes who has caught up. A node that is killed before it has will return once more.
    fn see_them_catch_up(&mut self) -> Result<(), Broken> {
        if self.returning.is_empty() {
            return Ok(());
        }
        let (world, now) = (&self.run.world, self.run.world.now);
        let Some(planned) = &world.planned else { return Ok(()) };
        let is_back =
            |returning: &Returning| planned.applied(seat(returning.node)) >= returning.commit;
        let is_gone = |returning: &Returning| world.nodes[seat(returning.node).0].core.is_none();
        let back: Vec<usize> =
            self.returning.iter().filter(|who| is_back(who)).map(|who| who.place).collect();
        self.returning.retain(|who| !is_back(who) && !is_gone(who));
        for place in back {
            let Some(strike) = self.strikes.get_mut(&place) else { continue };
            // Of several, the last to catch up counts.
            strike.rejoined_ns = strike.rejoined_ns.max(Some(nanos(now)));
            self.run.journal.mark(mark(strike))?;
        }
        Ok(())
    }

    /// What is committed now, as far as anybody who is up knows, and at least what was before.
    fn see_commit(&mut self) -> Index {
        self.commit = self.commit.max(self.committed());
        self.commit
    }

    /// What is committed now, as the leader or else any node that is up knows it.
    fn committed(&self) -> Index {
        let down = self.down();
        let leader = self.run.view.leader().map(|(leader, _)| leader);
        let others = self.run.nodes().filter(|node| Some(*node) != leader);
        let up = leader.into_iter().chain(others).filter(|node| !down.contains(node));
        let mut cores = up.filter_map(|node| self.run.world.nodes[seat(node).0].core.as_ref());
        cores.next().map_or(Index(0), raft::Raft::commit)
    }

    fn down(&self) -> BTreeSet<NodeNumber> {
        self.taken.values().flatten().copied().collect()
    }

    fn planned(&self, place: usize) -> &'a Step {
        let step = usize::try_from(self.schedule.faults[place].step).expect("a place in memory");
        &self.run.plan.steps[step]
    }

    fn aim(&self, place: usize) -> Aim<'a> {
        let Scheduled { target, draw, .. } = self.schedule.faults[place];
        Aim { step: self.planned(place), target, draw, nodes: self.run.plan.nodes }
    }
}
