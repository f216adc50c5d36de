//! The second half of a fault: it ends, its nodes come back, and they catch up.
//!
//! Knows no aim. Invariant: a strike is marked anew as each of its nodes has caught up, and the
//! last counts; one that does not is lost by name, unless a later strike killed it first.

use std::{collections::BTreeSet, sync::Arc};

use runtime::Time;
use tokio::time::timeout;

use super::{
    Nemesis, REJOIN_BOUND,
    returning::{caught_up, committed},
    together::together,
};
use crate::{
    cluster::{Cluster, ClusterError},
    fault::{Fault, LinkRule, NodeNumber},
    link::LinkCounts,
    plan::{forgets, may_unseat},
    run::{RunError, votes_again},
};

impl<C: Cluster> Nemesis<'_, C> {
    pub(super) async fn bring_back(&mut self, place: usize) -> Result<(), RunError> {
        let Some(strike) = self.strikes.get(&place) else { return Ok(()) };
        let (trial, fault, hit) = (strike.trial, strike.fault, strike.nodes.clone());
        let node = strike.node();
        self.disks.see(self.lab, place, self.is_excused(place, node)).await?;
        let commit = self.see_commit().await;
        let taken = self.taken.remove(&place).unwrap_or_default();
        for node in &taken {
            self.lab.recorder.back(*node, self.drawn(place).ends_process()).await?;
        }
        let at = match self.end_fault(place, fault, &hit).await {
            Ok(at) => at,
            // A link that nothing befell was hit by no fault: then there is nothing to judge.
            Err(error @ ClusterError::Fault { .. }) if fault.hits_links() => {
                return Err(error.into());
            }
            // What the host has not got for a node is no guarantee of the group's.
            Err(error @ ClusterError::World(_)) => return Err(error.into()),
            // A store that was closed by a kill must open again: this is no fault of the lab.
            Err(error) => {
                self.lost.push(format!("trial {trial}: {error}"));
                return Ok(());
            }
        };
        let at_ns = self.lab.since_origin(at);
        // Of a partition that takes nobody away, those at its ends may have fallen behind.
        // Whom another fault holds down is awaited when that one is over.
        let down = self.down();
        let behind: BTreeSet<NodeNumber> = match fault {
            Fault::Partition if taken.is_empty() => {
                hit.into_iter().filter(|node| !down.contains(node)).collect()
            }
            _ => taken,
        };
        if let Some(strike) = self.strikes.get_mut(&place) {
            strike.returned_ns = Some(at_ns);
            // Where nobody was away there is nothing to catch up with.
            strike.rejoined_ns = behind.is_empty().then_some(at_ns);
        }
        if behind.is_empty() {
            self.mark(place).await?;
        }
        self.schedule.faults[place].returned_ns = Some(at_ns);
        self.lab.recorder.schedule(self.schedule).await?;
        behind.into_iter().for_each(|node| self.await_return(place, node, commit));
        Ok(())
    }

    /// Has the fault be over; when that was.
    async fn end_fault(
        &mut self,
        place: usize,
        fault: Fault,
        hit: &[NodeNumber],
    ) -> Result<Time, ClusterError> {
        let cluster = &self.lab.cluster;
        let node = hit.first().copied().unwrap_or_default();
        match fault {
            Fault::Kill | Fault::Restart | Fault::Leave => {
                together(cluster, hit, |cluster, node| async move { cluster.restart(node).await })
                    .await
            }
            Fault::Wipe => {
                cluster.wipe(node).await?;
                cluster.restart(node).await
            }
            Fault::Transfer => Ok(cluster.now()),
            Fault::Pause => {
                together(cluster, hit, |cluster, node| async move { cluster.resume(node).await })
                    .await
            }
            Fault::Clock => match self.clocks.end(place) {
                Some((node, fault)) => cluster.clock(node, &fault).await,
                None => Ok(cluster.now()),
            },
            Fault::Disk => self.disks.end(self.lab, place).await,
            Fault::Isolate | Fault::Partition | Fault::Link => self.heal(place, node).await,
        }
    }

    /// What is committed now, as far as anybody who is up knows, and at least what was before.
    pub(super) async fn see_commit(&mut self) -> u64 {
        self.commit = self.commit.max(committed(self.lab, &self.down()).await);
        self.commit
    }

    /// Heals the links of a strike, and sees that it took place.
    async fn heal(&mut self, place: usize, node: NodeNumber) -> Result<Time, ClusterError> {
        let Some((rules, cut)) = self.cuts.end(place) else {
            return Ok(self.lab.cluster.now());
        };
        let healed = self.lab.cluster.link(&rules).await?;
        let befallen = cut.befallen(&self.lab.cluster.link_counts().await?);
        self.befallen += befallen;
        // Stopped, it may not have had the time; and where a majority may be lost there may have
        // been nobody to send anything.
        let excused = self.lab.stop.is_stopped() || self.lab.plan.expect.majority_may_be_lost;
        match missed(&rules, &befallen, excused) {
            Some(reason) => Err(ClusterError::Fault { node, reason }),
            None => Ok(healed),
        }
    }

    /// Waits, beside everything else, until the node has caught up, and votes again if it may
    /// have been a member no longer.
    fn await_return(&mut self, place: usize, node: NodeNumber, commit: u64) {
        let (cluster, recorder) = (Arc::clone(&self.lab.cluster), self.lab.recorder.clone());
        let drawn = self.drawn(place);
        let may_be_out = may_unseat(&self.lab.plan, &drawn);
        let is_new = forgets(&self.lab.plan, drawn.fault);
        let others: Vec<_> = self.labs.others.iter().map(|lab| Arc::clone(&lab.cluster)).collect();
        self.returning.spawn(async move {
            let back = async {
                let reached = caught_up(&*cluster, &others, node, commit, is_new).await?;
                let voted = match may_be_out {
                    true => votes_again(&*cluster, &recorder, node).await,
                    false => None,
                };
                Ok(voted.unwrap_or(reached))
            };
            let late = || ClusterError::Late {
                node,
                what: if is_new { "being a voter again" } else { "having caught up" },
                bound_ms: u64::try_from(REJOIN_BOUND.as_millis()).unwrap_or(u64::MAX),
            };
            let back = timeout(REJOIN_BOUND, back).await;
            (place, node, back.unwrap_or_else(|_| Err(late())))
        });
    }

    /// Whether a fault of the node's disk need not have been felt: where a majority may be lost
    /// there may be nothing to write, and nothing is where another fault holds the node down.
    fn is_excused(&self, place: usize, node: NodeNumber) -> bool {
        let is_down = |(other, taken): (&usize, &BTreeSet<NodeNumber>)| {
            *other != place && taken.contains(&node)
        };
        self.lab.plan.expect.majority_may_be_lost || self.taken.iter().any(is_down)
    }

    pub(super) async fn see_them_catch_up(&mut self) -> Result<(), RunError> {
        while let Some(joined) = self.returning.join_next().await {
            let (place, node, reached) =
                joined.map_err(|error| RunError::Lab(format!("a waiting task ended: {error}")))?;
            if reached.is_err() && self.is_killed_after(place, node) {
                continue;
            }
            let Some(strike) = self.strikes.get_mut(&place) else { continue };
            match reached {
                Ok(at) => {
                    // Of several, the last to catch up counts.
                    strike.rejoined_ns = strike.rejoined_ns.max(Some(self.lab.since_origin(at)));
                    self.mark(place).await?;
                }
                Err(error) => self.lost.push(format!("trial {}: {error}", strike.trial)),
            }
        }
        Ok(())
    }

    /// Whether a later strike killed the node before it had caught up: that one's return counts.
    fn is_killed_after(&self, place: usize, node: NodeNumber) -> bool {
        let returned_ns = self.strikes.get(&place).and_then(|strike| strike.returned_ns);
        self.strikes.iter().any(|(later_place, later)| {
            let kills = self.drawn(*later_place).ends_process() && later.nodes.contains(&node);
            kills && returned_ns.is_some_and(|returned_ns| later.at_ns >= returned_ns)
        })
    }
}

/// Why a fault of these links did not take place; nothing if it did, or if that is excused.
fn missed(links: &[LinkRule], befallen: &LinkCounts, is_excused: bool) -> Option<String> {
    if links.is_empty() {
        // Whoever may be up or not: there was no fault.
        return Some("it crosses no link".to_owned());
    }
    if befallen.struck() > 0 || is_excused {
        return None;
    }
    Some(format!("nothing befell the {} datagrams on its links", befallen.offered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::LinkFaults;

    #[test]
    fn a_fault_took_place_if_anything_befell_its_links_and_it_has_some() {
        let (from, to, faults) = (NodeNumber(1), NodeNumber(2), LinkFaults::blocked());
        let links = [LinkRule { from, to, faults }];
        let struck = LinkCounts { offered: 3, blocked: 3, ..LinkCounts::default() };
        let spared = LinkCounts { offered: 3, arrivals: 3, ..LinkCounts::default() };
        assert_eq!(missed(&links, &struck, false), None);
        assert_eq!(missed(&links, &spared, true), None);
        let why = missed(&links, &spared, false).expect("nothing befell them");
        assert_eq!(why, "nothing befell the 3 datagrams on its links");
        for befallen in [LinkCounts::default(), struck] {
            let why = missed(&[], &befallen, true).expect("nothing can befall what is not there");
            assert_eq!(why, "it crosses no link");
        }
    }
}
