//! Whom a fault hits: the schedule says of what kind, the cluster as it is now says who that is.
//!
//! Pure functions of a view. Invariant: nobody is hit who is away already.

use std::collections::BTreeSet;

use crate::{
    fault::{NodeNumber, Target},
    run::View,
    schedule::Scheduled,
};

/// Whom a strike is meant for.
pub(super) struct Aim {
    pub(super) scheduled: Scheduled,
    /// For a partition: those who lose the majority.
    pub(super) side: Vec<NodeNumber>,
}

impl Aim {
    /// The node that is hit as the cluster is now; `None` while there is none. Of a partition
    /// that is the leader if it loses its majority, and else the first who does.
    pub(super) fn at(&self, view: &View, down: &BTreeSet<NodeNumber>) -> Option<NodeNumber> {
        if self.side.is_empty() {
            return choose(&self.scheduled, view, down);
        }
        let (leader, _) = view.leader()?;
        if self.side.contains(&leader) { Some(leader) } else { self.side.first().copied() }
    }
}

/// Whom a fault hits, as the cluster is now; `None` while there is nobody of that kind.
fn choose(scheduled: &Scheduled, view: &View, down: &BTreeSet<NodeNumber>) -> Option<NodeNumber> {
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

#[cfg(test)]
mod tests {
    use runtime::Role;

    use super::*;
    use crate::{
        cluster::{NodeEvent, What},
        fault::Fault,
    };

    fn scheduled(target: Target, draw: u32) -> Scheduled {
        Scheduled {
            trial: 1,
            step: 0,
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
    fn a_partition_hits_the_leader_if_it_loses_its_majority() {
        let aim = |side: &[u64]| {
            let side = side.iter().copied().map(NodeNumber).collect();
            Aim { scheduled: scheduled(Target::Leader, 0), side }
        };
        let none = BTreeSet::new();
        assert_eq!(aim(&[1, 2]).at(&view(Some(2)), &none), Some(NodeNumber(2)));
        assert_eq!(aim(&[1, 3]).at(&view(Some(2)), &none), Some(NodeNumber(1)));
        assert_eq!(aim(&[1, 3]).at(&view(None), &none), None);
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
