//! Sessions, outputs and snapshots of an applier alone, and whom it lets run beside it.

use std::{pin::pin, task::Poll};

use raft::{Entry, Term};
use tokio::sync::oneshot;

use super::*;
use crate::{
    GroupId, GroupKey, PeerId, StoreId,
    clock::Standing,
    group::answer::Answered,
    storage::{Memory, Owner, Store as _},
};

/// Answers every command with a mebibyte.
struct Generous(Bytes);

impl EncodedMachine for Generous {
    fn apply(&mut self, _: &[u8], _: &ApplyContext, output: &mut Vec<u8>) -> bool {
        output.extend_from_slice(&self.0);
        true
    }

    fn query(&self, _: &[u8]) -> Option<Bytes> {
        None
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        writer.write_all(&self.0)
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut state = vec![0; self.0.len()];
        reader.read_exact(&mut state)?;
        self.0 = state.into();
        Ok(())
    }
}

struct Scene {
    applier: Applier,
    last: Index,
}

impl Scene {
    fn apply(&mut self, payload: Payload) -> Outcome {
        let index = self.last.next();
        self.last = index;
        let (answerer, answer) = caller();
        let entries = vec![Entry { position: Position { term: Term(1), index }, payload }];
        self.applier
            .carry_out(Work::Apply { entries: entries.into(), waiting: vec![(index, answerer)] });
        answered(answer)
    }

    fn command(&mut self, sequence: u64, floor: u64) -> Outcome {
        let request = RequestId { session: SessionId(Index(1)), sequence };
        self.apply(Payload::Command { request, floor, command: Bytes::new() })
    }

    fn repeat(&mut self, sequence: u64) -> Outcome {
        let request = RequestId { session: SessionId(Index(1)), sequence };
        let (answerer, answer) = caller();
        self.applier.carry_out(Work::Repeat { request, answerer });
        answered(answer)
    }
}

fn caller() -> (Answerer, oneshot::Receiver<Answered>) {
    let (reply, answer) = oneshot::channel();
    (Answerer::local(reply, raft::NodeId::small(1).peer), answer)
}

fn answered(mut answer: oneshot::Receiver<Answered>) -> Outcome {
    answer.try_recv().expect("it is answered at once").outcome
}

fn shelf() -> Shelf {
    let key = GroupKey::from_secret("applier");
    let group = GroupId::of(&key, "generous", &ConsensusConfig::default());
    let owner = Owner { group, peer: PeerId([1; 32]), fresh: StoreId(1) };
    let storage = Box::new(Memory).open(owner).expect("memory opens");
    storage.shelf().expect("memory keeps snapshots")
}

fn head(applied: u64) -> SnapshotHead {
    let position = Position { term: Term(1), index: Index(applied) };
    SnapshotHead {
        group: GroupId::of(&GroupKey::from_secret("applier"), "", &ConsensusConfig::default()),
        lineage: postcard::from_bytes(&[3; 32]).expect("32 bytes are a lineage"),
        machine: "generous".into(),
        covers: raft::Snapshot { position, ..raft::Snapshot::default() },
    }
}

/// What the applier writes when it is told to.
fn snapshot(scene: &mut Scene, shelf: &Shelf) -> SnapshotFile {
    let work = Work::Snapshot { head: head(scene.last.0), shelf: shelf.clone() };
    let Some(Report::Snapshot(Ok(mut written))) = scene.applier.carry_out(work) else {
        panic!("memory takes all")
    };
    shelf.put(&mut written).expect("memory takes all");
    shelf.show(Some(written.id()));
    shelf.open().expect("it is there").expect("it is there")
}

#[test]
fn a_restored_applier_answers_a_retry_from_before_the_snapshot_and_applies_what_follows() {
    let machine = Generous(vec![7; 1 << 20].into());
    let applier = Applier::new(Box::new(machine), &ConsensusConfig::default());
    let mut scene = Scene { applier, last: Index(0) };
    scene.apply(Payload::OpenSession { nonce: 0 });
    let first = scene.command(1, 0);
    assert!(is_applied(&scene.command(2, 0)));
    let file = snapshot(&mut scene, &shelf());

    let fresh = Box::new(Generous(vec![0; 1 << 20].into()));
    let applier = Applier::new(fresh, &ConsensusConfig::default());
    let mut other = Scene { applier, last: scene.last };
    other.applier.carry_out(Work::Restore { file });
    assert_eq!(other.applier.applied(), scene.last);
    assert_eq!(other.command(1, 0), first, "answered as it was, and not applied again");
    assert_eq!(other.repeat(1), first);
    assert_eq!(other.command(3, 0), scene_after(&mut scene), "the state is the same");
    // Room is taken for what was kept, or members would not let go of the same.
    let kept = (OUTPUTS_BYTES_MAX >> 20) as u64;
    (4..=kept).for_each(|sequence| assert!(is_applied(&other.command(sequence, 0))));
    other.command(kept + 1, 0);
    assert_eq!(other.repeat(kept + 1), Outcome::Unknown(Reason::Busy));
}

/// The same two entries as the other has been given, at the same places.
fn scene_after(scene: &mut Scene) -> Outcome {
    scene.command(1, 0);
    scene.command(3, 0)
}

#[test]
fn a_snapshot_of_another_state_than_the_machines_is_not_written() {
    let applier = Applier::new(Box::new(Generous("x".into())), &ConsensusConfig::default());
    let mut scene = Scene { applier, last: Index(0) };
    scene.apply(Payload::OpenSession { nonce: 0 });
    let work = Work::Snapshot { head: head(2), shelf: shelf() };
    let Some(Report::Snapshot(Err(error))) = scene.applier.carry_out(work) else {
        panic!("the machine is at 1")
    };
    assert!(error.contains("at 1.2 of a machine that is at 1"), "{error}");
}

#[test]
fn a_machine_that_cannot_take_a_snapshot_over_is_reported_as_broken() {
    let machine = Generous(vec![7; 10].into());
    let applier = Applier::new(Box::new(machine), &ConsensusConfig::default());
    let mut scene = Scene { applier, last: Index(0) };
    scene.apply(Payload::OpenSession { nonce: 0 });
    let shelf = shelf();
    for size in [9, 11] {
        let file = snapshot(&mut scene, &shelf);
        let other = Box::new(Generous(vec![0; size].into()));
        let mut applier = Applier::new(other, &ConsensusConfig::default());
        let report = applier.carry_out(Work::Restore { file });
        assert!(matches!(report, Some(Report::Broken(_))), "{size} of 10 bytes");
    }
    let narrow = ConsensusConfig { sessions_max: 5, ..ConsensusConfig::default() };
    let file = snapshot(&mut scene, &shelf);
    let other = Box::new(Generous(vec![0; 10].into()));
    let mut applier = Applier::new(other, &narrow);
    let Some(Report::Broken(why)) = applier.carry_out(Work::Restore { file }) else {
        panic!("members have not agreed on these limits")
    };
    assert!(why.contains("sessions_max: 4096"), "{why}");
}

fn is_applied(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Applied { output: Some(_), .. })
}

#[test]
fn outputs_kept_for_retries_have_a_limit_in_bytes_and_the_first_answer_does_not_suffer() {
    let machine = Generous(vec![7; 1 << 20].into());
    let applier = Applier::new(Box::new(machine), &ConsensusConfig::default());
    let mut scene = Scene { applier, last: Index(0) };
    scene.apply(Payload::OpenSession { nonce: 0 });
    let kept = (OUTPUTS_BYTES_MAX >> 20) as u64;
    for sequence in 1..=kept + 1 {
        assert!(is_applied(&scene.command(sequence, 0)), "{sequence}");
    }
    assert!(is_applied(&scene.repeat(kept)));
    let busy = Outcome::Unknown(Reason::Busy);
    assert_eq!(scene.repeat(kept + 1), busy, "it took effect, and nobody knows how");
    assert_eq!(scene.command(kept + 1, 0), busy, "the same when its entry is repeated");
    // The caller has heard of the first two: there is room for two more.
    for sequence in [kept + 2, kept + 3] {
        assert!(is_applied(&scene.command(sequence, 3)));
        assert!(is_applied(&scene.repeat(sequence)), "{sequence}");
    }
}

/// Takes its time for every command, and for a state, or a command that says something, until
/// word comes that another task had a turn.
struct Slow {
    clock: Standing,
    each: Duration,
    word: std::sync::mpsc::Receiver<()>,
}

impl Slow {
    fn wait(&self) -> io::Result<()> {
        self.word.recv_timeout(Duration::from_secs(20)).map_err(io::Error::other)
    }
}

impl EncodedMachine for Slow {
    fn apply(&mut self, command: &[u8], _: &ApplyContext, _: &mut Vec<u8>) -> bool {
        self.clock.advance(self.each);
        command.is_empty() || self.wait().is_ok()
    }

    fn query(&self, _: &[u8]) -> Option<Bytes> {
        None
    }

    fn snapshot(&self, _: &mut dyn io::Write) -> io::Result<()> {
        self.wait()
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        self.wait()
    }
}

/// Has a slow machine do this, to which a task gives word that is woken once something is
/// applied. Each command takes so long. Yields what is reported.
async fn carried_out(works: Vec<Work>, each: Duration) -> Vec<Report> {
    let (word, heard) = std::sync::mpsc::channel();
    let (work, to_do) = mpsc::channel(works.len());
    let (progress, mut applied) = watch::channel(Index(0));
    let (report, mut reports) = mpsc::channel(1);
    let (waits, is_waiting) = oneshot::channel();
    let woken = tokio::spawn(async move {
        let mut changed = pin!(applied.changed());
        let seen = poll_fn(|context| Poll::Ready(changed.as_mut().poll(context))).await;
        assert!(seen.is_pending(), "nothing is applied yet");
        waits.send(()).expect("the test waits for it");
        changed.await.expect("something is applied");
        word.send(()).expect("the machine is there until it is heard");
    });
    is_waiting.await.expect("it waits");
    for next in works {
        assert!(work.try_send(next).is_ok(), "there is room for all");
    }
    drop(work);
    let clock = Standing::default();
    let machine = Box::new(Slow { clock: clock.clone(), each, word: heard });
    let applier = Applier::new(machine, &ConsensusConfig::default());
    let (clock, alarm) = (Arc::new(clock), Alarm::default());
    let applying = tokio::spawn(applier.run(to_do, progress, report, clock, alarm));
    let mut reported = Vec::new();
    while let Some(report) = reports.recv().await {
        reported.push(report);
    }
    woken.await.expect("it gives word");
    drop(applying.await.expect("it does not panic"));
    reported
}

/// Consecutive entries with this in them.
fn batch(first: u64, payloads: Vec<Payload>, waiting: Vec<(Index, Answerer)>) -> Work {
    let entry = |(index, payload)| Entry {
        position: Position { term: Term(1), index: Index(index) },
        payload,
    };
    Work::Apply { entries: (first..).zip(payloads).map(entry).collect(), waiting }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_hears_what_is_applied_has_a_turn_while_a_state_is_written_or_read() {
    let machine = Box::new(Generous(Bytes::new()));
    let applier = Applier::new(machine, &ConsensusConfig::default());
    let (mut scene, shelf) = (Scene { applier, last: Index(0) }, shelf());
    scene.apply(Payload::OpenSession { nonce: 0 });
    let file = snapshot(&mut scene, &shelf);
    let first = || batch(1, vec![Payload::OpenSession { nonce: 0 }], Vec::new());
    let write = Work::Snapshot { head: head(1), shelf };
    let written = carried_out(vec![first(), write], LONG).await;
    assert!(matches!(written[..], [Report::Snapshot(Ok(_))]), "word came in time");
    let read = carried_out(vec![first(), Work::Restore { file }], LONG).await;
    assert!(read.is_empty(), "word came in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_hears_what_is_applied_has_a_turn_between_batches_that_take_long_together() {
    let command = |sequence, command: &'static str| {
        let request = RequestId { session: SessionId(Index(1)), sequence };
        Payload::Command { request, floor: 0, command: command.into() }
    };
    // As many short batches before the last as take long.
    for (each, batches) in [(2 * LONG, 1), (LONG * 3 / 5, 2)] {
        let session = Payload::OpenSession { nonce: 0 };
        let mut works = vec![batch(1, vec![session, command(1, "")], Vec::new())];
        works.extend((2..=batches).map(|n| batch(n + 1, vec![command(n, "")], Vec::new())));
        let (answerer, answer) = caller();
        let (last, index) = (command(batches + 1, "waits"), batches + 2);
        works.push(batch(index, vec![last], vec![(Index(index), answerer)]));
        carried_out(works, each).await;
        assert!(is_applied(&answered(answer)), "word came in time after {batches}");
    }
}
