//! Machines that lag and disks that hang.

use raft::{Appended, RequestId, SessionId};

use super::*;
use crate::{
    group::wire::{Outcome, Reason, Until},
    metric::{SNAPSHOTS_FAILED, STORAGE_HANGS, recorder::Record},
};

impl Scene {
    /// Whether the last call was refused for want of room.
    fn is_busy(&mut self) -> bool {
        let answer = self.answers.last_mut().and_then(|answer| answer.try_recv().ok());
        answer.is_some_and(|answered| answered.outcome == Outcome::Refused(Reason::Busy))
    }

    /// The others hold all that there is.
    fn acknowledge(&mut self) {
        let (term, last) = (self.driver.core.term(), self.driver.core.last().index);
        for other in OTHERS {
            let outcome = Appended::Matched(last);
            self.hear(other, MemberFrame::Raft(Message::AppendReply { term, outcome }));
        }
    }

    /// Time goes on, and the others answer heartbeats.
    fn pass(&mut self, time: Duration) {
        let (term, until) = (self.driver.core.term(), self.clock.now().plus(time));
        while self.clock.now() < until {
            self.advance(self.driver.body.consensus.heartbeat_interval);
            for other in OTHERS {
                let reply = Message::HeartbeatReply { term, round: 0 };
                self.hear(other, MemberFrame::Raft(reply));
            }
        }
    }

    /// Two more voters.
    fn grow(&mut self) {
        let ours = self.founding().lineage;
        for other in OTHERS {
            self.bond(other, Some(ours));
            for change in [Change::AddLearner(other), Change::Promote(other)] {
                self.propose(change);
                self.acknowledge();
            }
        }
        assert_eq!(self.driver.core.configuration().voters.len(), 3);
        assert!(self.driver.core.may_change(), "all is committed");
    }
}

const OTHERS: [NodeId; 2] = [NodeId::small(2), NodeId::small(3)];

#[tokio::test]
async fn a_snapshot_is_begun_however_far_the_machine_lags() {
    let consensus = ConsensusConfig { snapshot_log_entries: 4, ..ConsensusConfig::default() };
    let mut scene = Scene::set_with(consensus).await;
    scene.leave(1);
    (0..REQUESTS_MAX).for_each(|_| scene.append());
    scene.settle();
    assert_eq!(scene.driver.work.capacity(), 0, "it is due, and there is no room");
    scene.append();
    scene.settle();
    assert!(scene.driver.handed < scene.driver.through, "entries wait as well");
    scene.leave(1);
    let turn = scene.turn().expect("there is room");
    scene.driver.go_on(turn);
    let mut begun = 0;
    while let Ok(work) = scene.work.try_recv() {
        begun += usize::from(matches!(work, Work::Snapshot { .. }));
    }
    assert_eq!(begun, 1);
    scene.settle();
    assert_eq!(scene.driver.handed, scene.driver.through, "entries have their turn");
}

#[tokio::test]
async fn what_the_applier_reports_is_heard_however_much_else_happens() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let mut scene = Scene::set().await;
    scene.open.reports.try_send(Report::Snapshot(Err("no room".into()))).expect("a place");
    scene.append();
    let turn = scene.turn().expect("its write is durable");
    assert!(matches!(turn, Turn::Persisted(Ok(_))), "that comes first");
    scene.driver.go_on(turn);
    assert_eq!(record.counter(SNAPSHOTS_FAILED, &[("way", "take")]), 1);
}

#[tokio::test]
async fn changes_are_refused_while_the_machine_is_far_behind_what_is_committed() {
    let mut scene = Scene::set().await;
    scene.append();
    scene.settle();
    let session = SessionId(scene.driver.core.last().index);
    let command = Bytes::from(vec![7; 1 << 20]);
    let change = |scene: &mut Scene, sequence| {
        let (request, command) = (RequestId { session, sequence }, command.clone());
        let until = Until::Applied;
        scene.call(Call::Command { request, nonce: 7, floor: 1, command, until });
        scene.settle();
        let is_busy = scene.is_busy();
        // What is taken from the applier's queue here is applied by nobody.
        scene.leave(2 * ENTRIES_ROOM);
        is_busy
    };
    let taken = (1..=99).take_while(|sequence| !change(&mut scene, *sequence)).count();
    assert_eq!(taken, 64, "a MiB each");
    assert_eq!(scene.driver.core.commit(), scene.driver.core.last().index, "all is committed");
    scene.read();
    scene.settle();
    assert!(!scene.is_busy(), "a query changes nothing");
    scene.open.applied.send_replace(scene.driver.core.last().index);
    scene.driver.publish();
    assert!(!change(&mut scene, 100), "the machine has caught up");
}

#[tokio::test]
async fn what_waits_for_room_in_front_of_the_applier_counts_as_well() {
    let mut scene = Scene::set().await;
    scene.append();
    scene.settle();
    let before = scene.driver.lag.bytes();
    scene.leave(0);
    scene.append();
    scene.settle();
    assert!(scene.driver.handed < scene.driver.through);
    let after = scene.driver.lag.bytes();
    assert!(after > before, "{after} after {before}");
    scene.leave(1);
    scene.settle();
    assert_eq!(scene.driver.lag.bytes(), after, "the applier has it now");
}

#[tokio::test]
async fn a_hand_over_of_our_own_does_not_answer_who_wants_the_same() {
    let mut scene = Scene::set().await;
    scene.grow();
    let wanted = OTHERS[0];
    // It is ahead of the other, and has not all.
    scene.append();
    let (term, last) = (scene.driver.core.term(), scene.driver.core.last().index);
    let outcome = Appended::Matched(last);
    scene.hear(wanted, MemberFrame::Raft(Message::AppendReply { term, outcome }));
    scene.append();
    let (reply, mut moved) = oneshot::channel();
    scene.driver.transfer(wanted.peer, reply);
    let (reply, _left) = oneshot::channel();
    scene.driver.leave(reply);
    scene.settle();
    let not_yet = oneshot::error::TryRecvError::Empty;
    assert_eq!(moved.try_recv(), Err(not_yet), "it is on its way");
    scene.acknowledge();
    assert_eq!(moved.try_recv(), Ok(Ok(())));
}

#[tokio::test]
async fn a_leader_whose_disk_hangs_asks_another_to_lead_and_not_for_a_short_stall() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let mut scene = Scene::set().await;
    scene.grow();
    let asked = || record.counter(STORAGE_HANGS, &[]);
    let election = scene.driver.body.consensus.election_timeout_max();
    for _ in 0..2 {
        scene.store.state().stalls = true;
        scene.append();
        scene.acknowledge();
        assert!(scene.driver.through < scene.driver.core.commit(), "their disks are enough");
        scene.pass(3 * election);
        assert_eq!(asked(), 0, "a short stall");
        assert!(scene.driver.core.may_change(), "nothing is handed over");
        scene.store.state().stalls = false;
        scene.settle();
    }
    scene.store.state().stalls = true;
    scene.append();
    scene.acknowledge();
    scene.pass(4 * election + election / 2);
    assert_eq!((asked(), scene.driver.core.may_change()), (1, false), "it hands over");
    // Whoever was asked is not elected. Somebody is asked again, but not all the time.
    scene.pass(2 * election);
    assert_eq!((asked(), scene.driver.core.role()), (1, Role::Leader));
    scene.pass(20 * election);
    assert!((2..=4).contains(&asked()), "{} times", asked());
}
