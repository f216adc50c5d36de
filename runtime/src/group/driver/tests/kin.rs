//! Bonds to nodes of which it is not known, or not yet, that they are of this lineage.

use raft::Snapshot;

use super::*;
use crate::{
    group::introduction::Introduction,
    metric::{MESSAGES_DROPPED, recorder::Record},
};

#[tokio::test]
async fn the_core_hears_only_who_is_known_to_be_of_its_lineage() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let mut scene = Scene::set().await;
    let (other, ours) = (NodeId::small(2), scene.founding());
    let theirs = Lineage::of(scene.driver.body.group, &Configuration::of([other]));
    let dropped = || record.counter(MESSAGES_DROPPED, &[("reason", "no_kin")]);
    for (heard, shown) in (1..).zip([Some(theirs), None]) {
        scene.bond(other, shown);
        scene.later_leader(other);
        assert_eq!((scene.driver.core.role(), dropped()), (Role::Leader, heard), "{shown:?}");
    }
    let introduction = |founding| {
        MemberFrame::Introduction(Introduction { founding, observer: false, peers: Vec::new() })
    };
    scene.hear(other, introduction(None));
    scene.later_leader(other);
    assert_eq!((scene.driver.core.role(), dropped()), (Role::Leader, 3), "it waits to join");
    scene.hear(other, introduction(Some(ours)));
    scene.later_leader(other);
    assert_eq!((scene.driver.core.leader(), dropped()), (Some(other), 3), "it has joined");
}

#[tokio::test]
async fn who_shows_the_lineage_when_it_bonds_is_heeded_at_once_as_long_as_that_bond_stands() {
    let mut scene = Scene::set().await;
    let (other, ours) = (NodeId::small(2), scene.founding().lineage);
    scene.bond(other, Some(ours));
    scene.later_leader(other);
    assert_eq!(scene.driver.core.leader(), Some(other));
    scene.driver.bond(BondEvent::Down { node: other });
    let term = scene.driver.core.term();
    scene.bond(other, None);
    scene.later_leader(other);
    assert_eq!(scene.driver.core.term(), term, "another process may have another store");
}

/// The lane on which nodes are introduced is full, or not there yet.
#[tokio::test]
async fn who_could_not_be_told_of_the_lineage_is_told_again_until_it_is() {
    let mut scene = Scene::set().await;
    let (other, beat) = (NodeId::small(2), scene.driver.body.consensus.heartbeat_interval);
    assert_eq!(scene.driver.body.acquaint_at, None);
    scene.bond(other, None);
    for _ in 0..5 {
        assert_eq!(scene.driver.body.acquaint_at, Some(scene.clock.now().plus(beat)));
        scene.advance(beat);
    }
    scene.driver.bond(BondEvent::Down { node: other });
    scene.advance(beat);
    assert_eq!(scene.driver.body.acquaint_at, None, "nobody is left to be told");
}

/// Either has taken the other in, before it knew of which lineage that is.
#[tokio::test]
async fn a_leader_of_another_lineage_in_the_same_term_stops_nobody() {
    let mut scene = Scene::set().await;
    let (other, term) = (NodeId::small(2), scene.driver.core.term());
    scene.bond(other, Some(Lineage::of(scene.driver.body.group, &Configuration::of([other]))));
    scene.propose(Change::AddLearner(other));
    let configuration = Configuration::of([other]);
    let snapshot = Snapshot { position: Position { term, index: Index(1) }, configuration };
    // In one lineage these would be two leaders, and it would stop.
    scene.hear(other, MemberFrame::Raft(Message::InstallSnapshot { term, snapshot }));
    assert_eq!(scene.driver.core.role(), Role::Leader);
}
