//! Snapshots that are lent, that are outdated, and that nobody needs any more.

use raft::{Appended, RequestId, SessionId, Sessions};

use super::*;
use crate::{
    group::{
        driver::snapshots::{RENEWAL_PAUSE_MIN, renewal_pause},
        samples::until,
        transfer::{Ask, SnapshotFrame},
        wire::Until,
    },
    metric::{SNAPSHOTS_OUTRUN, recorder::Record},
    storage::{Mounted, SnapshotHead, SnapshotWriter, Written, model::Model},
};

impl Scene {
    fn shelf(&self) -> Shelf {
        self.store.state().shelf.clone().expect("memory keeps snapshots")
    }

    /// A snapshot of what is applied by now.
    fn written(&self, shelf: &Shelf, lineage: Lineage) -> Written {
        let covers = self.driver.core.snapshot_at(self.driver.core.applied());
        let head = SnapshotHead {
            group: self.driver.body.group,
            lineage,
            machine: MACHINE.into(),
            covers: covers.expect("it is in the log"),
        };
        let writer = shelf.draft().and_then(|draft| SnapshotWriter::begin(draft, head));
        writer.and_then(SnapshotWriter::finish).expect("there is room")
    }

    /// Puts it on the shelf; yields where it ends.
    fn put(&self, lineage: Lineage) -> Position {
        let shelf = self.shelf();
        let mut written = self.written(&shelf, lineage);
        shelf.put(&mut written).expect("there is room");
        shelf.show(Some(written.id()));
        written.id().position
    }

    /// A snapshot of this member's own is durable; yields its last entry.
    fn keep(&mut self) -> Index {
        let position = self.put(self.founding().lineage);
        self.driver.snapshot_kept(position);
        position.index
    }

    /// What a driver does first.
    fn begin(&mut self) {
        let Driver { snapshots, body, .. } = &mut self.driver;
        snapshots.begin(body);
    }

    /// So many entries are appended and committed.
    fn grow_by(&mut self, entries: usize) {
        for _ in 0..entries {
            self.append();
            self.settle();
        }
    }

    /// The same with so many commands of a mebibyte each.
    fn grow_by_mib(&mut self, count: u64) {
        self.grow_by(1);
        let session = SessionId(self.driver.core.last().index);
        let command = Bytes::from(vec![7; 1 << 20]);
        for sequence in 1..=count {
            let (request, command) = (RequestId { session, sequence }, command.clone());
            let until = Until::Applied;
            self.call(Call::Command { request, nonce: 7, floor: 1, command, until });
            self.settle();
            // What is taken from the applier's queue here is applied by nobody.
            self.leave(2 * ENTRIES_ROOM);
            self.open.applied.send_replace(self.driver.core.last().index);
            self.driver.publish();
        }
    }

    /// A learner, which has nothing yet, asks for the present snapshot.
    async fn lend(&mut self) {
        self.bond(LEARNER, Some(self.founding().lineage));
        self.propose(Change::AddLearner(LEARNER));
        let ask = Ask { id: 1, least: Index(0), digest: None, offset: 0, bytes_max: 0 };
        self.hear(LEARNER, MemberFrame::Snapshot(SnapshotFrame::Ask(ask)));
        let (snapshots, now) = (&self.driver.snapshots, self.clock.now());
        until("a look at the snapshot", || snapshots.lent(LEARNER, now).is_some()).await;
    }

    /// Where its log starts.
    fn start(&self) -> Index {
        self.driver.core.log().start().index
    }

    /// How often the applier was asked for a snapshot since the last look.
    fn begun(&mut self) -> usize {
        let works = std::iter::from_fn(|| self.work.try_recv().ok());
        works.filter(|work| matches!(work, Work::Snapshot { .. })).count()
    }

    fn fail(&mut self) {
        self.driver.reported(Report::Snapshot(Err("no room".into())));
    }
}

const LEARNER: NodeId = NodeId::small(2);

/// Or it would be offered another one when it has the first, and so on.
#[tokio::test]
async fn the_log_keeps_what_follows_a_snapshot_until_who_reads_it_goes_on_from_there_or_is_gone() {
    let ends: [fn(&mut Scene); 2] = [
        |scene| {
            let (term, last) = (scene.driver.core.term(), scene.driver.core.last().index);
            let outcome = Appended::Matched(last);
            scene.hear(LEARNER, MemberFrame::Raft(Message::AppendReply { term, outcome }));
        },
        |scene| scene.clock.advance(Duration::from_secs(60)),
    ];
    for end in ends {
        let consensus = ConsensusConfig { snapshot_tail_entries: 1, ..ConsensusConfig::default() };
        let heartbeat = consensus.heartbeat_interval;
        let mut scene = Scene::set_with(consensus).await;
        scene.begin();
        scene.grow_by(3);
        let lent = scene.keep();
        let mut kept = lent;
        assert_eq!(scene.start(), lent.prev(), "nobody reads it: but for its tail the log goes");
        scene.lend().await;
        for _ in 0..2 {
            scene.grow_by(3);
            kept = scene.keep();
            assert!(kept > lent);
            scene.advance(heartbeat);
            assert_eq!(scene.start(), lent);
        }
        end(&mut scene);
        scene.advance(heartbeat);
        assert_eq!(scene.start(), kept.prev(), "it waits for no other snapshot");
    }
}

#[tokio::test]
async fn a_log_that_grew_too_large_outruns_a_snapshot_that_is_read() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let consensus = ConsensusConfig {
        snapshot_tail_entries: 1,
        snapshot_log_bytes: 0,
        ..ConsensusConfig::default()
    };
    let mut scene = Scene::set_with(consensus).await;
    scene.begin();
    let lent = scene.keep();
    scene.lend().await;
    let outrun = || record.counter(SNAPSHOTS_OUTRUN, &[]);
    scene.grow_by_mib(40);
    scene.keep();
    assert_eq!((scene.start(), outrun()), (lent, 0));
    scene.grow_by_mib(30);
    let kept = scene.keep();
    assert_eq!((scene.start(), outrun()), (kept.prev(), 1));
}

#[tokio::test]
async fn an_outdated_snapshot_is_replaced_however_often_that_fails() {
    let mut scene = Scene::set().await;
    scene.put(Lineage::of(scene.driver.body.group, &Configuration::of([LEARNER])));
    scene.begin();
    scene.settle();
    assert_eq!(scene.begun(), 0, "there is nothing new");
    scene.grow_by(1);
    assert_eq!(scene.begun(), 1, "it is of another lineage");
    scene.fail();
    let moment = Duration::from_millis(1);
    for pauses in [1, 2, 4] {
        let half = pauses * RENEWAL_PAUSE_MIN / 2;
        scene.grow_by(1);
        assert_eq!(scene.begun(), 0, "it is not tried at once");
        scene.advance(half - moment);
        assert_eq!(scene.begun(), 0, "nor before half of {pauses} pauses");
        scene.advance(half + moment);
        assert_eq!(scene.begun(), 1, "after {pauses} pauses at the latest");
        scene.fail();
    }
    scene.advance(8 * RENEWAL_PAUSE_MIN);
    assert_eq!(scene.begun(), 1, "also where nothing has come since");
    scene.keep();
    scene.grow_by(1);
    scene.advance(60 * RENEWAL_PAUSE_MIN);
    assert_eq!(scene.begun(), 0, "it is replaced");
}

#[test]
fn pauses_of_members_that_failed_together_double_up_to_a_minute_and_differ() {
    for (failures, whole_s) in [(0, 1), (1, 2), (5, 32), (6, 60), (u32::MAX, 60)] {
        let whole = Duration::from_secs(whole_s);
        for draw in [0, 1 << 40, u64::MAX] {
            let pause = renewal_pause(failures, draw);
            assert!((whole / 2..whole).contains(&pause), "{pause:?} of {whole:?}");
        }
        assert_ne!(renewal_pause(failures, 1), renewal_pause(failures, 2));
    }
}

#[tokio::test]
async fn a_snapshot_that_nobody_needs_any_more_is_dropped_without_a_wait_for_the_disk() {
    let mut scene = Scene::set().await;
    let model = Model::default();
    let (group, peer) = (scene.driver.body.group, scene.driver.body.node.peer);
    let store = Box::new(Mounted::on(Box::new(model.clone())));
    let store = store.open(Owner { group, peer, fresh: STORE }).expect("nothing is there");
    let shelf = store.shelf().expect("disks keep snapshots");
    let written = scene.written(&shelf, scene.founding().lineage);
    let sessions = Sessions::new(scene.driver.body.consensus.session_limits());
    let began = scene.clock.now();
    scene.driver.snapshots.arrived(Fetched { written, sessions, began });
    model.hold_up_names(true);
    scene.settle();
    assert!(!scene.driver.snapshots.waits_for_room(), "its log has come so far by itself");
    until("the store's own thread", || model.hangs_at("draft")).await;
    model.hold_up_names(false);
    let is_there = || model.image().keys().any(|name| name.starts_with("draft"));
    until("the end of the draft", || !is_there()).await;
}
