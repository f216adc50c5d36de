//! Carries out the schedule of one trial: hits nodes, lets them return, and sees them catch up.
//!
//! Knows no load and no checker. Invariant: a node that was hit is always brought back, also
//! when the run is stopped between the two.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use runtime::{Index, Time};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    cluster::{Cluster, ClusterError},
    fault::{Fault, NodeNumber, Target},
    outage::Strike,
    run::{Lab, Mark, RunError, View},
    schedule::{Schedule, Scheduled},
};

/// What came of the faults of one trial.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// In order of time.
    pub(crate) strikes: Vec<Strike>,
    /// Nodes that did not return or did not catch up.
    pub(crate) lost: Vec<String>,
}

/// One trial of the schedule.
pub(crate) struct Nemesis<'a, C> {
    lab: &'a Lab<C>,
    schedule: &'a mut Schedule,
    /// What is to be done next, by time.
    due: BTreeMap<(Time, usize), Action>,
    /// The strikes that were carried out, by their place in the schedule.
    strikes: BTreeMap<usize, Strike>,
    down: BTreeSet<NodeNumber>,
    returning: JoinSet<(usize, Result<Time, ClusterError>)>,
    lost: Vec<String>,
}

#[derive(Clone, Copy)]
enum Action {
    Strike,
    Return,
}

impl<'a, C: Cluster> Nemesis<'a, C> {
    /// The faults of a trial that begins at `begin`.
    pub(crate) fn new(
        lab: &'a Lab<C>,
        schedule: &'a mut Schedule,
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
            lab,
            schedule,
            due,
            strikes: BTreeMap::new(),
            down: BTreeSet::new(),
            returning: JoinSet::new(),
            lost: Vec::new(),
        }
    }

    /// Carries all of it out and waits until `end`, and until those who returned have caught up.
    ///
    /// # Errors
    /// A fault that did not take place, and the failure of the recorder.
    pub(crate) async fn carry_out(mut self, end: Time) -> Result<Carried, RunError> {
        while let Some(((at, place), action)) = self.due.pop_first() {
            let advance = self.lab.cluster.advance(at);
            // Stopped: those who are down return at once, and nobody else is hit.
            let stopped = self.lab.stop.or(advance).await.is_none();
            match action {
                Action::Strike if stopped => {}
                Action::Strike => self.strike(place).await?,
                Action::Return => self.bring_back(place).await?,
            }
        }
        if self.lab.stop.or(self.lab.cluster.advance(end)).await.is_none() {
            tracing::debug!("the trial is cut short");
        }
        self.see_them_catch_up().await?;
        Ok(self.finish())
    }

    async fn strike(&mut self, place: usize) -> Result<(), RunError> {
        let scheduled = self.schedule.faults[place].clone();
        let down = self.down.clone();
        let wanted = move |view: &View| choose(&scheduled, view, &down).is_some();
        let waited = timeout(LEADER_BOUND, self.lab.recorder.until(wanted)).await;
        let Ok(view) = waited else {
            return Err(RunError::Lab(format!(
                "nobody to hit: no leader for {} s",
                LEADER_BOUND.as_secs()
            )));
        };
        let view = view?;
        let scheduled = &self.schedule.faults[place];
        // It held a moment ago, of this very view.
        let Some(node) = choose(scheduled, &view, &self.down) else { return Ok(()) };
        let led = view.leader();
        let (fault, cluster) = (scheduled.fault, &self.lab.cluster);
        let at = match fault {
            Fault::Kill => cluster.kill(node).await?,
            Fault::Pause => cluster.pause(node).await?,
        };
        self.lab.recorder.away(node).await?;
        self.down.insert(node);
        let at_ns = self.lab.since_origin(at);
        let back_at = at.plus(Duration::from_millis(scheduled.return_after_ms));
        self.due.insert((back_at, place), Action::Return);
        let strike = Strike {
            trial: scheduled.trial,
            fault,
            node,
            led: led.map(|(leader, _)| leader) == Some(node),
            at_ns,
            term_before: led.map_or(0, |(_, term)| term),
            until_ns: u64::MAX,
            returned_ns: None,
            rejoined_ns: None,
        };
        let entry = &mut self.schedule.faults[place];
        entry.node = Some(node);
        entry.struck_ns = Some(at_ns);
        self.lab.recorder.mark(mark(&strike)).await?;
        self.lab.recorder.schedule(self.schedule).await?;
        self.strikes.insert(place, strike);
        Ok(())
    }

    async fn bring_back(&mut self, place: usize) -> Result<(), RunError> {
        let Some(strike) = self.strikes.get_mut(&place) else { return Ok(()) };
        let (node, fault) = (strike.node, strike.fault);
        let commit = committed(self.lab, &self.down).await;
        self.lab.recorder.back(node, fault == Fault::Kill).await?;
        let returned = match fault {
            Fault::Kill => self.lab.cluster.restart(node).await,
            Fault::Pause => self.lab.cluster.resume(node).await,
        };
        self.down.remove(&node);
        let at = match returned {
            Ok(at) => at,
            // A store that was closed by a kill must open again: this is no fault of the lab.
            Err(error) => {
                self.lost.push(format!("trial {}: {error}", strike.trial));
                return Ok(());
            }
        };
        let at_ns = self.lab.since_origin(at);
        strike.returned_ns = Some(at_ns);
        self.schedule.faults[place].returned_ns = Some(at_ns);
        self.lab.recorder.schedule(self.schedule).await?;
        let cluster = Arc::clone(&self.lab.cluster);
        self.returning.spawn(async move {
            let reached = timeout(REJOIN_BOUND, cluster.reached(node, Index(commit))).await;
            let late = || ClusterError::Late {
                node,
                what: "having caught up",
                bound_ms: u64::try_from(REJOIN_BOUND.as_millis()).unwrap_or(u64::MAX),
            };
            (place, reached.unwrap_or_else(|_| Err(late())))
        });
        Ok(())
    }

    async fn see_them_catch_up(&mut self) -> Result<(), RunError> {
        while let Some(joined) = self.returning.join_next().await {
            let (place, reached) =
                joined.map_err(|error| RunError::Lab(format!("a waiting task ended: {error}")))?;
            let Some(strike) = self.strikes.get_mut(&place) else { continue };
            match reached {
                Ok(at) => {
                    strike.rejoined_ns = Some(self.lab.since_origin(at));
                    self.lab.recorder.mark(mark(strike)).await?;
                }
                Err(error) => self.lost.push(format!("trial {}: {error}", strike.trial)),
            }
        }
        Ok(())
    }

    fn finish(self) -> Carried {
        let end_ns = self.lab.since_origin(self.lab.cluster.now());
        let mut strikes: Vec<Strike> = self.strikes.into_values().collect();
        strikes.sort_by_key(|strike| strike.at_ns);
        let mut until_ns = end_ns;
        for strike in strikes.iter_mut().rev() {
            strike.until_ns = until_ns;
            until_ns = strike.at_ns;
        }
        Carried { strikes, lost: self.lost }
    }
}

/// Whom a fault hits, as the cluster is now; `None` while there is nobody of that kind.
pub(crate) fn choose(
    scheduled: &Scheduled,
    view: &View,
    down: &BTreeSet<NodeNumber>,
) -> Option<NodeNumber> {
    let leader = view.leader().map(|(leader, _)| leader);
    let up = |node: &NodeNumber| !down.contains(node) && !view.is_away(*node);
    let drawn = |candidates: Vec<NodeNumber>| {
        let place = u64::from(scheduled.draw) % (candidates.len() as u64).max(1);
        candidates.get(usize::try_from(place).ok()?).copied()
    };
    match scheduled.target {
        Target::Leader => leader.filter(up),
        Target::Follower => {
            let leader = leader?;
            drawn(view.nodes().filter(|node| *node != leader).filter(up).collect())
        }
        Target::Random => drawn(view.nodes().filter(up).collect()),
        Target::Node(node) => Some(node).filter(up),
    }
}

/// What is committed now, as the leader or else any node that is up knows it.
async fn committed<C: Cluster>(lab: &Lab<C>, down: &BTreeSet<NodeNumber>) -> u64 {
    let leader = lab.recorder.view().leader().map(|(leader, _)| leader);
    let others = lab.nodes().filter(|node| Some(*node) != leader);
    for node in leader.into_iter().chain(others).filter(|node| !down.contains(node)) {
        if let Ok(status) = lab.cluster.status(node).await {
            return status.commit;
        }
    }
    0
}

/// The band of a fault: until the node had caught up, or as far as is known.
fn mark(strike: &Strike) -> Mark {
    let role = if strike.led { "leader" } else { "follower" };
    let back = if strike.rejoined_ns.is_some() { ", returned and caught up" } else { "" };
    let detail = format!("{role} of term {}{back}", strike.term_before);
    Mark {
        at_ns: strike.at_ns,
        kind: strike.fault.word().into(),
        node: Some(strike.node),
        detail,
        until_ns: strike.rejoined_ns,
    }
}

const LEADER_BOUND: Duration = Duration::from_secs(20);
const REJOIN_BOUND: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use runtime::Role;

    use super::*;
    use crate::cluster::{NodeEvent, What};

    fn scheduled(target: Target, draw: u32) -> Scheduled {
        Scheduled {
            trial: 1,
            due_ns: 0,
            fault: Fault::Kill,
            target,
            return_after_ms: 1,
            draw,
            node: None,
            struck_ns: None,
            returned_ns: None,
        }
    }

    fn view(leader: Option<u64>) -> View {
        let roles = (1..=3).map(|node| {
            let role = if leader == Some(node) { Role::Leader } else { Role::Follower };
            NodeEvent { at_ns: 0, node: NodeNumber(node), what: What::Became { role, term: 1 } }
        });
        View::of(roles)
    }

    #[test]
    fn targets_are_chosen_among_those_who_are_up() {
        let none = BTreeSet::new();
        let led = view(Some(2));
        let hit = |target, draw| choose(&scheduled(target, draw), &led, &none);
        assert_eq!(hit(Target::Leader, 5), Some(NodeNumber(2)));
        let followers: BTreeSet<_> = (0..9).map(|draw| hit(Target::Follower, draw)).collect();
        assert_eq!(followers, BTreeSet::from([Some(NodeNumber(1)), Some(NodeNumber(3))]));
        let any: BTreeSet<_> = (0..9).map(|draw| hit(Target::Random, draw)).collect();
        assert_eq!(any.len(), 3);
        assert_eq!(hit(Target::Node(NodeNumber(3)), 0), Some(NodeNumber(3)));
        let down = BTreeSet::from([NodeNumber(3)]);
        assert_eq!(choose(&scheduled(Target::Node(NodeNumber(3)), 0), &led, &down), None);
        let only = choose(&scheduled(Target::Follower, 1), &led, &down);
        assert_eq!(only, Some(NodeNumber(1)));
    }

    #[test]
    fn without_a_leader_nobody_is_leader_or_follower() {
        let none = BTreeSet::new();
        let unled = view(None);
        assert_eq!(choose(&scheduled(Target::Leader, 0), &unled, &none), None);
        assert_eq!(choose(&scheduled(Target::Follower, 0), &unled, &none), None);
        assert!(choose(&scheduled(Target::Random, 0), &unled, &none).is_some());
    }
}
