//! Each rule alone, then all of them against every small group there can be.

use raft::StoreId;

use super::*;
use crate::ConsensusProfile;

/// A group as a leader numbered 1 sees it.
struct Scene {
    steward: Steward,
    now: Time,
    last: Index,
    configuration: Configuration,
    standings: BTreeMap<NodeId, Standing>,
    present: BTreeMap<NodeId, Present>,
    leaving: BTreeMap<NodeId, Time>,
    fresh: bool,
}

fn node(number: u8) -> NodeId {
    NodeId::small(number)
}

/// The same peer with another store.
fn wiped(number: u8) -> NodeId {
    NodeId { store: StoreId(100 + u128::from(number)), ..node(number) }
}

fn consensus() -> ConsensusConfig {
    ConsensusConfig { learners_max: 2, ..ConsensusProfile::Lan.config() }
}

impl Scene {
    /// Everyone is bonded and has what the leader has.
    fn of(voters: &[u8], learners: &[u8]) -> Self {
        let nodes = |numbers: &[u8]| numbers.iter().copied().map(node).collect();
        let configuration = Configuration { voters: nodes(voters), learners: nodes(learners) };
        let mut scene = Self {
            steward: Steward::new(node(1), &consensus()),
            now: Time(Duration::from_secs(1_000)),
            last: Index(10),
            configuration,
            standings: BTreeMap::new(),
            present: BTreeMap::new(),
            leaving: BTreeMap::new(),
            fresh: false,
        };
        let members: Vec<NodeId> = scene.configuration.members().collect();
        for member in members.into_iter().filter(|member| *member != node(1)) {
            scene.bond(member);
            scene.stand(member);
        }
        scene
    }

    fn bond(&mut self, node: NodeId) {
        self.present.insert(node, Present { since: self.now, observer: false });
    }

    /// The leader follows it from now on, and it has everything.
    fn stand(&mut self, node: NodeId) {
        let (matched, next, heard) = (self.last, self.last.next(), self.now);
        self.standings.insert(node, Standing { node, matched, next, inflight: 0, heard });
    }

    /// Time passes, in which all but these are heard.
    fn pass(&mut self, time: Duration, mute: &[NodeId]) {
        self.now = self.now.plus(time);
        for standing in self.standings.values_mut().filter(|other| !mute.contains(&other.node)) {
            standing.heard = self.now;
        }
    }

    /// The same for a long time, in which the steward looks as often as it must.
    fn watch(&mut self, time: Duration, mute: &[NodeId]) {
        let end = self.now.plus(time);
        while self.now < end {
            self.look();
            self.pass(LOOKS.min(end.since(self.now)), mute);
        }
    }

    fn look(&mut self) -> Option<(Change, Cause)> {
        let standings: Vec<Standing> = self.standings.values().copied().collect();
        self.steward.look(&Sight {
            now: self.now,
            last: self.last,
            configuration: &self.configuration,
            standings: &standings,
            present: &self.present,
            leaving: &self.leaving,
            fresh: self.fresh,
        })
    }

    /// The advice is taken.
    fn take(&mut self, change: Change) {
        self.configuration = self.configuration.after(change).expect("the advice fits");
        self.standings.retain(|other, _| self.configuration.contains(*other));
        let members: Vec<NodeId> = self.configuration.members().collect();
        for member in members.into_iter().filter(|member| *member != node(1)) {
            if !self.standings.contains_key(&member) {
                self.stand(member);
            }
        }
    }
}

const TICK: Duration = Duration::from_millis(50);
const LOOKS: Duration = Duration::from_millis(300);

#[test]
fn a_group_in_order_needs_no_change() {
    let mut scene = Scene::of(&[1, 2, 3], &[]);
    for _ in 0..10 {
        assert_eq!(scene.look(), None);
        scene.pass(Duration::from_secs(100), &[]);
    }
}

#[test]
fn a_newcomer_learns_and_votes_once_a_round_was_short() {
    let mut scene = Scene::of(&[1, 2, 3], &[]);
    scene.bond(node(4));
    let added = Change::AddLearner(node(4));
    assert_eq!(scene.look(), Some((added, Cause::Came)));
    scene.take(added);
    scene.standings.get_mut(&node(4)).expect("it is followed").matched = Index(0);
    // A long first round, since there is much to send; meanwhile the log grows.
    assert_eq!(scene.look(), None);
    for _ in 0..10 {
        scene.pass(TICK, &[]);
        scene.last = scene.last.next();
        assert_eq!(scene.look(), None);
    }
    scene.standings.get_mut(&node(4)).expect("it is followed").matched = scene.last;
    assert_eq!(scene.look(), None, "that took ten ticks, more than an election");
    scene.pass(TICK, &[]);
    assert_eq!(scene.look(), Some((Change::Promote(node(4)), Cause::CaughtUp)));
}

#[test]
fn a_founder_that_may_give_way_waits_a_while_before_it_takes_anyone_in() {
    let mut scene = Scene::of(&[1], &[]);
    scene.fresh = true;
    scene.bond(node(2));
    scene.pass(Duration::from_millis(299), &[]);
    assert_eq!(scene.look(), None);
    scene.pass(Duration::from_millis(1), &[]);
    assert_eq!(scene.look(), Some((Change::AddLearner(node(2)), Cause::Came)));
}

#[test]
fn a_learner_that_fell_silent_or_has_no_bond_is_not_promoted() {
    let mut scene = Scene::of(&[1, 2, 3], &[4]);
    assert_eq!(scene.look(), None, "its first round has only begun");
    scene.pass(TICK, &[]);
    let promoted = Some((Change::Promote(node(4)), Cause::CaughtUp));
    assert_eq!(scene.look(), promoted);
    let bond = scene.present.remove(&node(4)).expect("it was bonded");
    assert_eq!(scene.look(), None);
    scene.present.insert(node(4), bond);
    assert_eq!(scene.look(), promoted);
    scene.pass(Duration::from_secs(1), &[node(4)]);
    scene.last = scene.last.next();
    assert_eq!(scene.look(), None);
}

#[test]
fn observers_learn_for_ever_and_there_are_never_too_many_of_anyone() {
    let mut scene = Scene::of(&[1, 2, 3, 4], &[5, 6]);
    scene.present.get_mut(&node(5)).expect("it is bonded").observer = true;
    scene.bond(node(7));
    scene.look();
    scene.pass(TICK, &[]);
    assert_eq!(scene.look(), Some((Change::Promote(node(6)), Cause::CaughtUp)));
    scene.take(Change::Promote(node(6)));
    scene.pass(TICK, &[]);
    assert_eq!(scene.look(), Some((Change::AddLearner(node(7)), Cause::Came)));
    scene.take(Change::AddLearner(node(7)));
    scene.bond(node(8));
    for _ in 0..5 {
        scene.pass(TICK, &[]);
        assert_eq!(scene.look(), None, "five voters and two learners are as many as may be");
    }
}

#[test]
fn the_silent_are_evicted_after_their_time_but_not_below_the_least() {
    let minute = Duration::from_secs(60);
    let mut scene = Scene::of(&[1, 2, 3, 4], &[5]);
    let mute = [node(2), node(3), node(5)];
    scene.present.retain(|node, _| !mute.contains(node));
    scene.watch(5 * minute - TICK, &mute);
    assert_eq!(scene.look(), None);
    scene.pass(TICK, &mute);
    for gone in [2, 5] {
        let removed = Change::Remove(node(gone));
        assert_eq!(scene.look(), Some((removed, Cause::Silent)));
        scene.take(removed);
    }
    scene.watch(10 * minute, &mute);
    assert_eq!(scene.look(), None, "three voters are the least");
}

#[test]
fn a_leader_that_was_stopped_holds_nobodys_silence_against_them() {
    let mut scene = Scene::of(&[1, 2, 3, 4, 5], &[]);
    let all = [2, 3, 4, 5].map(node);
    scene.look();
    scene.pass(Duration::from_secs(3_600), &all);
    assert_eq!(scene.look(), None, "it heard nobody for an hour, and was away itself");
    scene.watch(Duration::from_secs(299), &all);
    assert_eq!(scene.look(), None);
    scene.watch(Duration::from_secs(1), &all);
    assert_eq!(scene.look(), Some((Change::Remove(node(2)), Cause::Silent)));
}

#[test]
fn where_the_least_is_the_most_one_in_reserve_comes_before_the_silent_one_goes() {
    let mut scene = Scene::of(&[1, 2, 3], &[4]);
    scene.steward.voters_max = 3;
    scene.look();
    scene.pass(TICK, &[]);
    assert_eq!(scene.look(), None, "three are the most");
    scene.watch(Duration::from_secs(301), &[node(3)]);
    let promoted = Change::Promote(node(4));
    scene.look();
    scene.pass(TICK, &[node(3)]);
    assert_eq!(scene.look(), Some((promoted, Cause::CaughtUp)));
    scene.take(promoted);
    assert_eq!(scene.look(), Some((Change::Remove(node(3)), Cause::Silent)));
}

#[test]
fn one_in_reserve_that_fell_behind_is_not_promoted_for_a_round_of_long_ago() {
    let mut scene = Scene::of(&[1, 2, 3], &[4]);
    scene.steward.voters_max = 3;
    scene.look();
    scene.pass(TICK, &[]);
    assert_eq!(scene.look(), None, "it is as quick as any, and three are the most");
    // From here on its disk hangs; it answers heartbeats all the same.
    scene.last = scene.last.next();
    scene.watch(Duration::from_secs(301), &[node(3)]);
    assert_eq!(scene.look(), None, "with it, nothing would be committed");
    scene.standings.get_mut(&node(4)).expect("it is followed").matched = scene.last;
    assert_eq!(scene.look(), None, "that was a long round");
    scene.pass(TICK, &[node(3)]);
    assert_eq!(scene.look(), Some((Change::Promote(node(4)), Cause::CaughtUp)));
}

#[test]
fn who_asks_to_leave_goes_whatever_is_left_and_does_not_come_back_unasked() {
    let mut scene = Scene::of(&[1, 2], &[3]);
    scene.leaving.extend([2, 3].map(|number| (node(number), scene.now)));
    for gone in [2, 3] {
        let removed = Change::Remove(node(gone));
        assert_eq!(scene.look(), Some((removed, Cause::Left)));
        scene.take(removed);
    }
    assert_eq!(scene.look(), None, "they are still bonded");
    scene.leaving.clear();
    assert_eq!(scene.look(), Some((Change::AddLearner(node(2)), Cause::Came)));
}

#[test]
fn who_asks_to_leave_stays_while_the_others_could_commit_nothing_without_it() {
    let mut scene = Scene::of(&[1, 2, 3, 4, 5], &[6]);
    scene.look();
    scene.leaving.insert(node(3), scene.now);
    assert_eq!(scene.look(), None, "nobody was heard since the leader was elected");
    scene.watch(2 * LOOKS, &[node(4), node(5)]);
    assert_eq!(scene.look(), None, "of the four who would be left two are there");
    scene.leaving.insert(node(6), scene.now);
    assert_eq!(scene.look(), Some((Change::Remove(node(6)), Cause::Left)), "it has no vote");
    scene.leaving.remove(&node(6));
    scene.pass(TICK, &[node(5)]);
    assert_eq!(scene.look(), Some((Change::Remove(node(3)), Cause::Left)));
}

#[test]
fn a_wiped_peer_gets_its_place_back_only_as_a_new_server() {
    let mut scene = Scene::of(&[1, 2, 3], &[]);
    scene.present.remove(&node(3));
    scene.bond(wiped(3));
    assert_eq!(scene.look(), None, "it may be two processes with one key");
    scene.pass(Duration::from_millis(300), &[node(3)]);
    for (change, cause) in
        [(Change::Remove(node(3)), Cause::Replaced), (Change::AddLearner(wiped(3)), Cause::Came)]
    {
        assert_eq!(scene.look(), Some((change, cause)));
        scene.take(change);
    }
    scene.look();
    scene.pass(TICK, &[]);
    assert_eq!(scene.look(), Some((Change::Promote(wiped(3)), Cause::CaughtUp)));
}

#[test]
fn a_leader_does_not_give_way_to_a_node_with_its_own_key() {
    let mut scene = Scene::of(&[1, 2, 3], &[]);
    scene.bond(wiped(1));
    scene.pass(Duration::from_secs(10), &[]);
    assert_eq!(scene.look(), None);
}

/// Every group of up to four peers, each of them a voter, a learner or nobody; bonded with its
/// store, with another one, or not at all; heard or silent; with or without a wish to leave.
#[test]
fn in_every_small_group_advice_fits_and_keeps_its_promises() {
    let mut advised = 0;
    for pattern in 0..24_u32.pow(3) {
        let mut rest = pattern;
        let mut draw = |of: u32| {
            let drawn = rest % of;
            rest /= of;
            drawn
        };
        let mut scene = Scene::of(&[1], &[]);
        let mut mute = Vec::new();
        for number in 2..=4 {
            match draw(3) {
                0 => drop(scene.configuration.voters.insert(node(number))),
                1 => drop(scene.configuration.learners.insert(node(number))),
                _ => {}
            }
            let bonded = [node(number), wiped(number)];
            match draw(4) {
                0 => {}
                1 => scene.bond(bonded[0]),
                2 => scene.bond(bonded[1]),
                _ => {
                    scene.bond(bonded[0]);
                    scene.leaving.insert(node(number), scene.now);
                }
            }
            if draw(2) == 1 {
                mute.push(node(number));
            }
            if scene.configuration.contains(node(number)) {
                scene.stand(node(number));
            }
        }
        scene.steward.evict_after = 4 * LOOKS;
        scene.watch(4 * LOOKS, &mute);
        scene.look();
        scene.pass(TICK, &mute);
        let Some((change, cause)) = scene.look() else { continue };
        advised += 1;
        let (before, after) = (&scene.configuration, scene.configuration.after(change));
        let after = after.unwrap_or_else(|| panic!("{change:?} does not fit {before:?}"));
        assert!(after.is_sound() && after.contains(node(1)), "{after:?}");
        let lost = before.voters.len() - after.voters.len().min(before.voters.len());
        if lost > 0 && cause == Cause::Silent {
            assert!(after.voters.len() >= 3, "{change:?} of {before:?}");
        }
        assert!(after.learners.len() <= before.learners.len().max(2));
        if cause == Cause::Left && lost > 0 {
            let heard = after.voters.iter().filter(|voter| !mute.contains(voter)).count();
            assert!(2 * heard > after.voters.len(), "{change:?} stops {before:?}");
        }
        if let Change::Remove(gone) = change {
            let asked = scene.leaving.contains_key(&gone);
            let heard = !mute.contains(&gone);
            let bonded = scene.present.contains_key(&gone);
            assert!(asked || !heard || !bonded, "{gone:?} is in good health: {before:?}");
        }
    }
    assert!(advised > 1_000, "only {advised} scenes called for a change");
}
