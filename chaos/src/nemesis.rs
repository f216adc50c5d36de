//! Carries out the schedule of one trial: hits nodes and links, lets them return, and sees the
//! nodes catch up.
//!
//! Knows no load and no checker. Invariant: what was hit is always brought back, also when the
//! run is stopped between the two.

pub(crate) mod aim;
mod clocks;
pub(crate) mod cuts;
mod disks;
pub(crate) mod due;
mod ending;
mod returning;
mod together;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use runtime::Time;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    cluster::{Cluster, ClusterError},
    fault::{Fault, NodeNumber, Target},
    link::LinkCounts,
    outage::Strike,
    plan::{Step, reach, rules},
    run::{Befallen, Lab, Labs, Mark, RunError, View},
    schedule::{Schedule, Scheduled},
};

use aim::{Aim, draw_beside};
use clocks::Clocks;
use cuts::Cuts;
use disks::Disks;
use due::{Action, Due, flap_at, may_wait, simultaneous};
use together::together;

/// What came of the faults of one trial.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// In order of time.
    pub(crate) strikes: Vec<Strike>,
    /// What befell the links that were hit.
    pub(crate) befallen: LinkCounts,
    /// What came of disks that were made to fail.
    pub(crate) disks: Vec<Befallen>,
    /// Which other groups were led by nodes that were hit, by the moment of the strike.
    pub(crate) led: BTreeMap<u64, BTreeSet<u64>>,
}

/// One trial of the schedule.
pub(crate) struct Nemesis<'a, C> {
    labs: &'a Labs<'a, C>,
    lab: &'a Lab<C>,
    schedule: &'a mut Schedule,
    begin: Time,
    due: Due,
    /// Whom strikes will hit that are due at a moment at which another one struck, by their place
    /// in the schedule.
    aimed: BTreeMap<usize, Hit>,
    /// The strikes that were carried out, by their place in the schedule.
    strikes: BTreeMap<usize, Strike>,
    /// Nodes that are away from the majority, by the strike that took them.
    taken: BTreeMap<usize, BTreeSet<NodeNumber>>,
    cuts: Cuts,
    clocks: Clocks,
    disks: Disks,
    befallen: LinkCounts,
    /// The highest index that was seen to be committed: who returns must come at least there.
    commit: u64,
    returning: JoinSet<(usize, NodeNumber, Result<Time, ClusterError>)>,
    /// Nodes that did not return or did not catch up.
    lost: &'a mut Vec<String>,
    led: BTreeMap<u64, BTreeSet<u64>>,
}

/// Who leads, and in which term.
pub(crate) type Led = Option<(NodeNumber, u64)>;

/// Whom a strike hits, and who leads then.
pub(crate) type Hit = (Vec<NodeNumber>, Led);

impl<'a, C: Cluster> Nemesis<'a, C> {
    /// The faults of a trial that begins at `begin`. Who is lost is told, whatever comes of it.
    pub(crate) fn new(
        labs: &'a Labs<'a, C>,
        (schedule, lost): (&'a mut Schedule, &'a mut Vec<String>),
        trial: u64,
        begin: Time,
    ) -> Self {
        let of_trial = schedule.faults.iter().enumerate().filter(|(_, fault)| fault.trial == trial);
        let due = of_trial
            .map(|(place, fault)| {
                let at = begin.plus(Duration::from_nanos(fault.due_ns));
                ((at, place), Action::Strike)
            })
            .collect();
        Self {
            labs,
            lab: labs.first,
            schedule,
            begin,
            due,
            aimed: BTreeMap::new(),
            strikes: BTreeMap::new(),
            taken: BTreeMap::new(),
            cuts: Cuts::default(),
            clocks: Clocks::default(),
            disks: Disks::default(),
            befallen: LinkCounts::default(),
            commit: 0,
            returning: JoinSet::new(),
            lost,
            led: BTreeMap::new(),
        }
    }

    /// Carries all of it out and waits until `end`, and until those who returned have caught up.
    ///
    /// # Errors
    /// A fault that did not take place, a node that the host has nothing for, and the failure of the
    /// recorder.
    pub(crate) async fn carry_out(mut self, end: Time) -> Result<Carried, RunError> {
        while let Some(((at, place), action)) = self.due.pop_first() {
            let advance = self.lab.cluster.advance(at);
            // Stopped: those who are down return at once, and nobody else is hit.
            let stopped = self.lab.stop.or(advance).await.is_none();
            match action {
                Action::Strike | Action::Flap { .. } if stopped => {}
                Action::Strike => self.strike(place, at).await?,
                Action::Flap { is_gone } => self.flap(place, is_gone, at).await?,
                Action::Return => self.bring_back(place).await?,
            }
        }
        if self.lab.stop.or(self.lab.cluster.advance(end)).await.is_none() {
            tracing::debug!("the trial is cut short");
        }
        self.see_them_catch_up().await?;
        Ok(self.finish())
    }

    async fn strike(&mut self, place: usize, due: Time) -> Result<(), RunError> {
        let Some((hit, led)) = self.victims(place, due).await? else { return Ok(()) };
        if self.drawn(place).changes_members() && !self.all_vote().await {
            return self.postpone(place, "not every node was a voter");
        }
        let led_beside = self.labs.led_by(&hit).await;
        if self.schedule.faults[place].target == Target::All {
            // Nobody is left who could be asked when they return.
            self.see_commit().await;
        }
        let Some(at) = self.hit(place, &hit).await? else {
            return self.postpone(place, "the group refused it");
        };
        let scheduled = &self.schedule.faults[place];
        let (trial, return_after_ms) = (scheduled.trial, scheduled.return_after_ms);
        let in_force_ns = self.lab.since_origin(self.lab.cluster.now());
        let reach = reach(&self.lab.plan, &self.drawn(place), &hit);
        let mut nodes = match reach.away.is_empty() {
            true => hit.clone(),
            false => Vec::from_iter(reach.away.clone()),
        };
        let leader = led.map(|(leader, _)| leader);
        // The one that led stands for all.
        nodes.sort_by_key(|node| leader != Some(*node));
        let at_ns = self.lab.since_origin(at);
        self.led.insert(at_ns, led_beside);
        let back_at = at.plus(Duration::from_millis(return_after_ms));
        self.due.insert((back_at, place), Action::Return);
        if let Some(flap) = self.planned(place).flap {
            flap_at(&mut self.due, place, at.plus(Duration::from_millis(flap.on_ms)), true);
        }
        let strike = Strike {
            trial,
            step: self.schedule.faults[place].step,
            fault: self.schedule.faults[place].fault,
            led: leader.is_some_and(|leader| nodes.contains(&leader)),
            nodes,
            deposed: leader.is_some_and(|leader| !reach.able.contains(&leader)),
            away: reach.away,
            served: reach.served,
            at_ns,
            in_force_ns,
            term_before: led.map_or(0, |(_, term)| term),
            until_ns: u64::MAX,
            returned_ns: None,
            rejoined_ns: None,
        };
        self.take_away(place, &strike.away).await?;
        let entry = &mut self.schedule.faults[place];
        entry.node = Some(strike.node());
        entry.nodes = hit;
        entry.struck_ns = Some(at_ns);
        self.lab.recorder.schedule(self.schedule).await?;
        self.strikes.insert(place, strike);
        self.mark(place).await
    }

    /// Whom the strike hits, and who leads then; waits until there is somebody of that kind. If
    /// something else is due before that, it comes first, and the strike after it. Whom others hit
    /// that are due at the same moment is settled with it: once this one has struck, nobody may
    /// lead for a while.
    async fn victims(&mut self, place: usize, due: Time) -> Result<Option<Hit>, RunError> {
        if let Some(hit) = self.aimed.remove(&place) {
            return Ok(Some(hit));
        }
        let (aim, down) = (self.aim(place), self.down());
        let wanted = |view: &View| aim.at(view, &down).is_some();
        let next = self.due.first_key_value().map(|((at, _), _)| *at);
        let now = self.lab.cluster.now();
        let bound = next.map_or(LEADER_BOUND, |at| at.since(now).min(LEADER_BOUND));
        let may_wait = may_wait(self.begin, &self.schedule.faults[place], now);
        let found = timeout(bound, self.lab.recorder.until(wanted)).await;
        match (found, next.filter(|_| may_wait)) {
            (Ok(view), _) => {
                let view = view?;
                let Some(hit) = aim.at(&view, &down) else { return Ok(None) };
                let beside = simultaneous(&self.due, due);
                let aims = beside.map(|place| (place, self.aim(place)));
                let aimed = draw_beside(aims, &view, (&down, &hit[..]));
                self.aimed.extend(aimed);
                Ok(Some((hit, view.leader())))
            }
            (Err(_), Some(next)) => {
                let after = next.max(now).plus(STRIKE_PAUSE);
                self.due.insert((after, place), Action::Strike);
                Ok(None)
            }
            (Err(_), None) => Err(RunError::Lab(format!(
                "nobody to hit: no leader for {} s",
                LEADER_BOUND.as_secs()
            ))),
        }
    }

    /// When it struck; nothing where the group would not have it now.
    async fn hit(&mut self, place: usize, nodes: &[NodeNumber]) -> Result<Option<Time>, RunError> {
        let cluster = Arc::clone(&self.lab.cluster);
        let node = nodes.first().copied().unwrap_or_default();
        Ok(Some(match self.schedule.faults[place].fault {
            Fault::Kill | Fault::Wipe => cluster.kill(nodes, self.planned(place).point).await?,
            Fault::Pause => {
                together(&cluster, nodes, |cluster, node| async move { cluster.pause(node).await })
                    .await?
            }
            Fault::Restart if nodes.len() > 1 => {
                together(&cluster, nodes, |cluster, node| async move { cluster.end(node).await })
                    .await?
            }
            Fault::Restart => self.end(place, node).await?,
            fault @ (Fault::Transfer | Fault::Leave) => {
                let asked = match fault {
                    Fault::Transfer => cluster.hand_over(node).await,
                    _ => cluster.leave(node).await,
                };
                match asked {
                    Ok(at) => at,
                    // While another fault keeps a successor, or a majority, away.
                    Err(ClusterError::Refused { .. }) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            }
            Fault::Clock => {
                let fault = self.planned(place).clock.unwrap_or_default();
                cluster.clock(node, &self.clocks.begin(place, node, fault)).await?
            }
            Fault::Disk => {
                let Some(disk) = self.planned(place).disk else { return Ok(None) };
                self.disks.begin(self.lab, place, (node, disk)).await?
            }
            Fault::Isolate | Fault::Partition | Fault::Link => {
                let rules = rules(&self.lab.plan, self.planned(place), nodes);
                let before = cluster.link_counts().await?;
                cluster.link(&self.cuts.begin(place, rules, before)).await?
            }
        }))
    }

    /// Whether nobody who left or lost its store has to be made up for yet: members go one at a
    /// time, for a second store that is lost before the first is made up for could be a
    /// majority's, which is lost for ever.
    async fn all_vote(&self) -> bool {
        let is_gone = |place: &usize| self.drawn(*place).changes_members();
        !self.taken.keys().any(is_gone) && self.lab.all_vote(&self.down()).await
    }

    /// What the group would not have now is tried again; what else is due meanwhile comes first.
    fn postpone(&mut self, place: usize, why: &str) -> Result<(), RunError> {
        let now = self.lab.cluster.now();
        if !may_wait(self.begin, &self.schedule.faults[place], now) {
            let fault = self.schedule.faults[place].fault;
            let waited = LEADER_BOUND.as_secs();
            let reason = format!("no {fault}: {why} for {waited} s");
            return Err(RunError::Lab(reason));
        }
        self.due.insert((now.plus(STRIKE_PAUSE), place), Action::Strike);
        Ok(())
    }

    /// Has a node end in good order; one that leads hands over before, where the plan says so.
    async fn end(&mut self, place: usize, node: NodeNumber) -> Result<Time, RunError> {
        let cluster = Arc::clone(&self.lab.cluster);
        let at = cluster.now();
        let leads = self.lab.recorder.view().leader().is_some_and(|(leader, _)| leader == node);
        if self.planned(place).hand_over && leads {
            match cluster.hand_over(node).await {
                // Whoever does not lead any more has nothing to hand over.
                Ok(_) | Err(ClusterError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        cluster.end(node).await?;
        Ok(at)
    }

    /// A packet fault comes or goes, and will go or come again, unless it is healed before.
    async fn flap(&mut self, place: usize, is_gone: bool, at: Time) -> Result<(), RunError> {
        let Some(flap) = self.planned(place).flap else { return Ok(()) };
        let Some(rules) = self.cuts.flap(place, is_gone) else { return Ok(()) };
        self.lab.cluster.link(&rules).await?;
        let lasts_ms = if is_gone { flap.off_ms } else { flap.on_ms };
        flap_at(&mut self.due, place, at.plus(Duration::from_millis(lasts_ms)), !is_gone);
        Ok(())
    }

    /// Whoever the strike takes away from the majority says nothing that counts until it is back.
    async fn take_away(
        &mut self,
        place: usize,
        away: &BTreeSet<NodeNumber>,
    ) -> Result<(), RunError> {
        let down = self.down();
        let taken: BTreeSet<_> = away.difference(&down).copied().collect();
        for node in &taken {
            self.lab.recorder.away(*node).await?;
        }
        self.taken.insert(place, taken);
        Ok(())
    }

    async fn mark(&self, place: usize) -> Result<(), RunError> {
        let Some(strike) = self.strikes.get(&place) else { return Ok(()) };
        let mut mark = mark(strike);
        if let Some(disk) = self.planned(place).disk {
            mark.detail = format!("{disk}; {}", mark.detail);
        }
        self.lab.recorder.mark(mark).await
    }

    fn down(&self) -> BTreeSet<NodeNumber> {
        self.taken.values().flatten().copied().collect()
    }

    fn planned(&self, place: usize) -> &'a Step {
        let step = usize::try_from(self.schedule.faults[place].step).expect("a place in memory");
        &self.lab.plan.steps[step]
    }

    fn drawn(&self, place: usize) -> Step {
        self.planned(place).drawn(self.schedule.faults[place].fault)
    }

    fn aim(&self, place: usize) -> Aim<'a> {
        let Scheduled { target, draw, .. } = self.schedule.faults[place];
        Aim { step: self.planned(place), target, draw, nodes: self.lab.plan.nodes }
    }

    fn finish(self) -> Carried {
        let end_ns = self.lab.since_origin(self.lab.cluster.now());
        let strikes = in_order(self.strikes.into_values().collect(), end_ns);
        let (disks, befallen) = (self.disks.befallen, self.befallen);
        Carried { strikes, befallen, disks, led: self.led }
    }
}

/// The strikes of a trial in order of time: the window of each ends where the next begins.
pub(crate) fn in_order(mut strikes: Vec<Strike>, end_ns: u64) -> Vec<Strike> {
    strikes.sort_by_key(|strike| strike.at_ns);
    let mut until_ns = end_ns;
    for strike in strikes.iter_mut().rev() {
        strike.until_ns = until_ns;
        until_ns = strike.at_ns;
    }
    strikes
}

/// The band of a fault: until the node had caught up, or as far as is known.
pub(crate) fn mark(strike: &Strike) -> Mark {
    let role = match (strike.led, &strike.nodes[..]) {
        (true, [_]) => "leader".to_owned(),
        (false, [_]) => "follower".to_owned(),
        (is_led, nodes) => {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            let led = if is_led { "the leader first, " } else { "" };
            format!("nodes {}, {led}", nodes.join(", "))
        }
    };
    let back = match (strike.rejoined_ns, strike.fault) {
        (None, _) => "",
        (Some(_), Fault::Link) => ", healed",
        (Some(_), Fault::Clock | Fault::Transfer) => ", over",
        (Some(_), Fault::Isolate | Fault::Partition) => ", healed and caught up",
        (Some(_), Fault::Disk) if strike.away.is_empty() => ", over",
        (Some(_), Fault::Kill | Fault::Pause | Fault::Restart | Fault::Disk) => {
            ", returned and caught up"
        }
        (Some(_), Fault::Leave | Fault::Wipe) => ", joined again and caught up",
    };
    let detail = format!("{role} of term {}{back}", strike.term_before);
    Mark {
        at_ns: strike.at_ns,
        kind: strike.fault.word().into(),
        node: Some(strike.node()),
        nodes: strike.nodes.clone(),
        detail,
        until_ns: strike.rejoined_ns,
    }
}

pub(crate) const LEADER_BOUND: Duration = Duration::from_secs(20);
/// Before a strike is tried again that found nobody to hit.
pub(crate) const STRIKE_PAUSE: Duration = Duration::from_millis(20);
pub(crate) const REJOIN_BOUND: Duration = Duration::from_secs(30);
