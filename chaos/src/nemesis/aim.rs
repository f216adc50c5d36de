//! Whom a fault hits: the schedule says of what kind, the cluster as it is now says who that is.
//!
//! Pure functions of a view. Invariant: nobody is hit who is away already.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    fault::{Fault, NodeNumber, Target},
    nemesis::Hit,
    plan::Step,
    run::View,
    seed::mix,
};

/// Whom a strike is meant for.
pub(crate) struct Aim<'a> {
    pub(crate) step: &'a Step,
    pub(crate) target: Target,
    /// Decides where the target leaves a choice.
    pub(crate) draw: u32,
    /// How many there are.
    pub(crate) nodes: u64,
}

impl Aim<'_> {
    /// Whom it hits as the cluster is now; `None` while there is nobody of that kind. Of a
    /// partition those on its side, or at the ends of what it cuts.
    pub(crate) fn at(&self, view: &View, down: &BTreeSet<NodeNumber>) -> Option<Vec<NodeNumber>> {
        let Step { fault, side, cut, .. } = self.step;
        match fault {
            Fault::Partition if side.is_empty() => {
                let ends: BTreeSet<_> =
                    cut.iter().flat_map(|(one, other)| [*one, *other]).collect();
                Some(ends.into_iter().collect())
            }
            Fault::Partition => self.members(view, down),
            _ if self.target == Target::All => {
                let all = (1..=self.nodes).map(NodeNumber);
                let up: Vec<_> = all.filter(|node| is_up(*node, view, down)).collect();
                (!up.is_empty()).then_some(up)
            }
            _ => choose(self.target, self.draw, view, down).map(|node| vec![node]),
        }
    }

    /// Those who are meant by number are cut off whether they are up or not.
    fn members(&self, view: &View, down: &BTreeSet<NodeNumber>) -> Option<Vec<NodeNumber>> {
        let mut taken = down.clone();
        let mut members = Vec::new();
        for (target, number) in self.step.side.iter().zip(0..) {
            let draw = u32::try_from(mix(u64::from(self.draw), number) >> 32);
            let member = match target {
                Target::Node(node) => *node,
                word => choose(*word, draw.unwrap_or_default(), view, &taken)?,
            };
            taken.insert(member);
            members.push(member);
        }
        Some(members)
    }
}

/// Whom strikes hit that come at the same moment as one that hits these, by their place in the
/// schedule, with who leads: each as the cluster is before any of them, and nobody is hit twice.
/// Of one for whom there is nobody of its kind nothing is said.
pub(crate) fn draw_beside<'a>(
    aims: impl Iterator<Item = (usize, Aim<'a>)>,
    view: &View,
    (down, hit): (&BTreeSet<NodeNumber>, &[NodeNumber]),
) -> BTreeMap<usize, Hit> {
    let mut taken: BTreeSet<NodeNumber> = down.iter().chain(hit).copied().collect();
    let mut drawn = BTreeMap::new();
    for (place, aim) in aims {
        let Some(hit) = aim.at(view, &taken) else { continue };
        taken.extend(&hit);
        drawn.insert(place, (hit, view.leader()));
    }
    drawn
}

/// A node of that kind, as the cluster is now; `None` while there is nobody.
fn choose(
    target: Target,
    draw: u32,
    view: &View,
    down: &BTreeSet<NodeNumber>,
) -> Option<NodeNumber> {
    let leader = view.leader().map(|(leader, _)| leader);
    let up = |node: &NodeNumber| is_up(*node, view, down);
    let drawn = |candidates: Vec<NodeNumber>| {
        let place = u64::from(draw) % (candidates.len() as u64).max(1);
        candidates.get(usize::try_from(place).ok()?).copied()
    };
    match target {
        Target::Leader => leader.filter(up),
        Target::Follower => {
            let leader = leader?;
            drawn(view.nodes().filter(|node| *node != leader).filter(up).collect())
        }
        Target::Random => drawn(view.nodes().filter(up).collect()),
        Target::Node(node) => Some(node).filter(up),
        // They are no node: nobody is on a side because all are.
        Target::All => None,
    }
}

fn is_up(node: NodeNumber, view: &View, down: &BTreeSet<NodeNumber>) -> bool {
    !down.contains(&node) && !view.is_away(node)
}

#[cfg(test)]
mod tests {
    use runtime::Role;

    use super::*;
    use crate::{
        cluster::{NodeEvent, What},
        plan,
    };

    fn view(leader: Option<u64>) -> View {
        let roles = (1..=3).map(|node| {
            let role = if leader == Some(node) { Role::Leader } else { Role::Follower };
            NodeEvent { at_ns: 0, node: NodeNumber(node), what: What::Became { role, term: 1 } }
        });
        View::of(roles)
    }

    /// Whom a partition of three nodes hits.
    fn hit(partition: &str, draw: u32, led: &View) -> Option<Vec<u64>> {
        let plan = plan::parse(&format!(
            "scenario = \"x\"\nkind = \"failover\"\nnodes = 3\n[workload]\n[[steps]]\nat = 1\n\
             fault = \"partition\"\nreturn_after_ms = 1\n{partition}\n"
        ));
        let plan = plan.expect("a plan");
        let aim = Aim { step: &plan.steps[0], target: Target::Leader, draw, nodes: 3 };
        let hit = aim.at(led, &BTreeSet::new())?;
        Some(hit.into_iter().map(|node| node.0).collect())
    }

    #[test]
    fn targets_are_chosen_among_those_who_are_up() {
        let none = BTreeSet::new();
        let led = view(Some(2));
        let hit = |target, draw| choose(target, draw, &led, &none);
        assert_eq!(hit(Target::Leader, 5), Some(NodeNumber(2)));
        let followers: BTreeSet<_> = (0..9).map(|draw| hit(Target::Follower, draw)).collect();
        assert_eq!(followers, BTreeSet::from([Some(NodeNumber(1)), Some(NodeNumber(3))]));
        let any: BTreeSet<_> = (0..9).map(|draw| hit(Target::Random, draw)).collect();
        assert_eq!(any.len(), 3);
        assert_eq!(hit(Target::Node(NodeNumber(3)), 0), Some(NodeNumber(3)));
        let down = BTreeSet::from([NodeNumber(3)]);
        assert_eq!(choose(Target::Node(NodeNumber(3)), 0, &led, &down), None);
        assert_eq!(choose(Target::Follower, 1, &led, &down), Some(NodeNumber(1)));
    }

    #[test]
    fn a_side_is_chosen_when_it_strikes_and_nobody_is_on_it_twice() {
        let (led, unled) = (view(Some(2)), view(None));
        assert_eq!(hit("side = [3, 1]", 0, &led), Some(vec![3, 1]));
        assert_eq!(hit("side = [3, 1]", 0, &unled), Some(vec![3, 1]), "by number without a leader");
        assert_eq!(hit("side = [\"leader\"]", 0, &unled), None);
        let mut seen = BTreeSet::new();
        for draw in (0..u32::MAX).step_by(1 << 27) {
            let side = hit("side = [\"leader\", \"follower\"]", draw, &led).expect("they are up");
            assert_eq!(side[0], 2);
            assert_ne!(side[1], 2);
            seen.insert(side);
            let both = hit("side = [\"random\", \"random\"]", draw, &led).expect("they are up");
            assert_ne!(both[0], both[1]);
        }
        assert_eq!(seen.len(), 2, "either follower may be drawn");
        assert_eq!(hit("cut = [[3, 2], [2, 1]]", 0, &unled), Some(vec![1, 2, 3]));
    }

    #[test]
    fn all_are_those_who_are_up_whether_anybody_leads_or_not() {
        let plan = plan::parse(
            "scenario = \"x\"\nkind = \"failover\"\n[workload]\n[[steps]]\nat = 1\n\
             fault = \"kill\"\ntarget = \"all\"\nreturn_after_ms = 1\n",
        );
        let plan = plan.expect("a plan");
        let aim = Aim { step: &plan.steps[0], target: Target::All, draw: 0, nodes: 3 };
        let hit = |led: Option<u64>, down: &[u64]| {
            let down = down.iter().copied().map(NodeNumber).collect();
            let hit = aim.at(&view(led), &down)?;
            Some(hit.into_iter().map(|node| node.0).collect::<Vec<_>>())
        };
        assert_eq!(hit(Some(2), &[]), Some(vec![1, 2, 3]));
        assert_eq!(hit(None, &[2]), Some(vec![1, 3]));
        assert_eq!(hit(None, &[1, 2, 3]), None);
    }

    #[test]
    fn what_strikes_at_one_moment_is_aimed_before_any_of_it_strikes() {
        let plan = plan::parse(
            "scenario = \"x\"\nkind = \"failover\"\n[workload]\n[[steps]]\nat = 1\n\
             fault = \"kill\"\nreturn_after_ms = 1\n",
        );
        let plan = plan.expect("a plan");
        let aim = |target| Aim { step: &plan.steps[0], target, draw: 1, nodes: 3 };
        let (led, up) = (view(Some(2)), BTreeSet::new());
        let drawn = |targets: &[Target], hit: &[u64]| {
            let hit: Vec<_> = hit.iter().copied().map(NodeNumber).collect();
            let aims = targets.iter().map(|target| aim(*target));
            draw_beside((7..).zip(aims), &led, (&up, &hit[..]))
        };
        // The leader is hit; two followers are as well, each of them once.
        let both = drawn(&[Target::Follower, Target::Random, Target::Follower], &[2]);
        let nodes: BTreeSet<_> = both.values().flat_map(|(hit, _)| hit).copied().collect();
        assert_eq!(nodes, BTreeSet::from([NodeNumber(1), NodeNumber(3)]));
        assert_eq!(both.keys().copied().collect::<Vec<_>>(), [7, 8], "for the third none is left");
        assert!(both.values().all(|(_, led)| *led == Some((NodeNumber(2), 1))));
        assert!(drawn(&[Target::Leader], &[2]).is_empty(), "it is hit already");
    }

    #[test]
    fn without_a_leader_nobody_is_leader_or_follower() {
        let none = BTreeSet::new();
        let unled = view(None);
        assert_eq!(choose(Target::Leader, 0, &unled, &none), None);
        assert_eq!(choose(Target::Follower, 0, &unled, &none), None);
        assert!(choose(Target::Random, 0, &unled, &none).is_some());
    }
}
