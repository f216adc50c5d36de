//! The word that this member has left, and whose word that is.

use super::*;
use crate::group::GroupError;

impl Scene {
    /// Two more members, bonded and of its lineage.
    fn with_others(&mut self) {
        let ours = self.founding().lineage;
        for other in OTHERS {
            self.bond(other, Some(ours));
            self.propose(Change::AddLearner(other));
        }
        assert_eq!(self.driver.core.configuration().learners.len(), 2);
    }

    /// The program wants this member to leave.
    fn leaves(&mut self) -> oneshot::Receiver<Result<(), GroupError>> {
        let (reply, left) = oneshot::channel();
        self.driver.leave(reply);
        self.settle();
        left
    }

    /// Says that this member has left; yields whether it stops for that.
    fn is_believed(&mut self, from: NodeId) -> bool {
        self.driver.bond(BondEvent::Frame { from, frame: MemberFrame::Left });
        matches!(self.driver.over, Some(Over::Stopped(_)))
    }
}

const OTHERS: [NodeId; 2] = [NodeId::small(2), NodeId::small(3)];
const GUEST: NodeId = NodeId::small(4);

#[tokio::test]
async fn that_it_has_left_a_member_believes_of_its_leader_and_of_nobody_else() {
    let mut scene = Scene::set().await;
    scene.with_others();
    let mut left = scene.leaves();
    assert!(!scene.is_believed(OTHERS[0]), "it leads itself");
    scene.later_leader(OTHERS[0]);
    assert!(!scene.is_believed(OTHERS[1]), "its leader counts it still, as far as is known");
    assert!(left.try_recv().is_err(), "its program waits");
    assert!(scene.is_believed(OTHERS[0]));
    assert!(matches!(left.try_recv(), Ok(Ok(()))));
}

/// Who is removed hears no leader any more, and not who the next one is.
#[tokio::test]
async fn without_a_leader_any_member_may_say_that_it_has_left_and_no_guest() {
    let hidden: [fn(&mut Scene); 2] = [
        |scene| {
            let term = scene.driver.core.term().next();
            let reply = Message::HeartbeatReply { term, round: 0 };
            scene.hear(OTHERS[0], MemberFrame::Raft(reply));
            assert_eq!(scene.driver.core.leader(), None);
        },
        |scene| {
            scene.later_leader(OTHERS[0]);
            scene.driver.bond(BondEvent::Down { node: OTHERS[0] });
        },
    ];
    for hide in hidden {
        let mut scene = Scene::set().await;
        scene.with_others();
        let mut left = scene.leaves();
        hide(&mut scene);
        let ours = scene.founding().lineage;
        scene.bond(GUEST, Some(ours));
        assert!(!scene.is_believed(GUEST), "it is no member");
        assert!(scene.is_believed(OTHERS[1]));
        assert!(matches!(left.try_recv(), Ok(Ok(()))));
    }
}

#[tokio::test]
async fn who_does_not_want_to_leave_is_told_so_by_nobody() {
    let mut scene = Scene::set().await;
    scene.with_others();
    scene.later_leader(OTHERS[0]);
    assert!(!scene.is_believed(OTHERS[0]));
}
