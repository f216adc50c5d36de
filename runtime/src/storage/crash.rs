//! Every crash, every flipped byte and every cut that a store of a few segments can meet.
//!
//! The rule that all these tests share: a store opens with exactly the writes of some prefix of
//! what was submitted, and the prefix holds everything that was reported durable; or, when what
//! was synced is damaged, it refuses and names a file.

mod drawn;
mod names;

use std::{
    ops::Range,
    pin::pin,
    sync::Arc,
    task::{Context, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use raft::{HardState, Index, NodeId, Term, Write, WriteId};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{
    Contents, Rest, Storage, StorageError,
    disk::{Opened, open_stream},
    forcing::Forced,
    model::{Image, Model, Step, Trace},
    samples::{entry, founding, owner, position},
    segment,
    snapshot::tests as snapshots,
    stream::Stream,
};

pub(super) const SEGMENT_BYTES: u64 = 4096;

/// One thing that a member does with its store.
#[derive(Clone)]
enum Act {
    Found(u8),
    Renew(u64),
    /// Into the lineage of that number, in that term, after that entry.
    Force(u8, u64, u64),
    /// Of its own, at that term and index.
    Snapshot(u64, u64),
    /// Another's, at that term and index.
    Install(u64, u64, Rest),
    Write(Write),
}

fn elect(term: u64, vote: Option<u8>) -> Act {
    let vote = vote.map(NodeId::small);
    Act::Write(Write::HardState(HardState { term: Term(term), vote }))
}

fn replace(term: u64, after: u64, sizes_bytes: &[usize]) -> Act {
    let entries = (after + 1..).zip(sizes_bytes).map(|(index, size)| entry(term, index, *size));
    Act::Write(Write::Entries { after: Index(after), entries: entries.collect() })
}

/// Groups of acts: terms, votes, suffixes replaced, ends of segments, a record larger than one.
fn script() -> Vec<Vec<Act>> {
    let mut script = vec![
        vec![elect(4, Some(2)), Act::Found(9)],
        vec![replace(4, 0, &[50]), Act::Renew(77)],
        vec![elect(1, None)],
        vec![Act::Found(1)],
        vec![elect(1, Some(1)), replace(1, 0, &[10, 20, 30])],
        vec![replace(1, 3, &[100, 100])],
        vec![elect(2, Some(2)), replace(2, 2, &[0, 7]), replace(2, 4, &[64])],
    ];
    script.extend((5..13).map(|last| vec![replace(2, last, &[700])]));
    script.push(vec![replace(2, 13, &[9000]), replace(2, 14, &[1])]);
    script.push(vec![elect(3, None), replace(3, 15, &[2500]), replace(3, 16, &[2500, 5])]);
    script.push(vec![replace(3, 18, &[33]), elect(3, Some(3)), replace(3, 19, &[5])]);
    script.push(vec![Act::Force(4, 4, 20), replace(4, 21, &[40])]);
    script
}

/// The same, and then the log is compacted, gives way to another's snapshot, and is again.
fn compacting() -> Vec<Vec<Act>> {
    let mut script = script();
    script.insert(9, vec![Act::Snapshot(2, 5)]);
    script.push(vec![Act::Snapshot(3, 17), replace(4, 22, &[10])]);
    script.push(vec![elect(6, None), Act::Install(4, 22, Rest::Stays)]);
    script.push(vec![replace(5, 23, &[1200, 1200, 1200])]);
    script.push(vec![replace(6, 24, &[40]), Act::Install(6, 40, Rest::GivesWay)]);
    script.push(vec![replace(6, 40, &[30, 30]), elect(7, Some(2))]);
    script.extend((42..50).map(|last| vec![replace(7, last, &[700])]));
    script.push(vec![replace(7, 50, &[20]), Act::Snapshot(7, 47), elect(8, None)]);
    script.push(vec![replace(8, 51, &[20, 20])]);
    script
}

fn cover(contents: &mut Contents, term: u64, index: u64) {
    let covers = snapshots::head(position(term, index)).covers;
    contents.entries.retain(|entry| entry.position.index > covers.position.index);
    contents.snapshot = Some(covers);
}

fn perform(contents: &mut Contents, act: &Act) {
    match act {
        Act::Found(number) => contents.founding = Some(founding(*number)),
        Act::Renew(_) => *contents = Contents::default(),
        Act::Force(number, term, after) => {
            let forced = forced(*number, *term, *after);
            contents.founding = Some(forced.founding);
            contents.hard_state = forced.hard_state;
            contents.entries.push(forced.entry);
        }
        Act::Snapshot(term, index) | Act::Install(term, index, Rest::Stays) => {
            cover(contents, *term, *index);
        }
        Act::Install(term, index, Rest::GivesWay) => {
            contents.entries.clear();
            cover(contents, *term, *index);
        }
        Act::Write(Write::HardState(hard_state)) => contents.hard_state = *hard_state,
        Act::Write(Write::Entries { after, entries }) => {
            contents.entries.retain(|entry| entry.position.index <= *after);
            contents.entries.extend(entries.view().owned());
        }
    }
}

fn forced(number: u8, term: u64, after: u64) -> Forced {
    let (node, term, index) = (NodeId::small(1), Term(term), Index(after + 1));
    let payload = raft::Payload::Configuration(raft::Configuration::of([node]));
    Forced {
        founding: founding(number),
        hard_state: HardState { term, vote: Some(node) },
        entry: raft::Entry { position: raft::Position { term, index }, payload },
    }
}

fn append(stream: &mut Stream, act: &Act) -> Result<(), StorageError> {
    match act {
        Act::Found(number) => stream.append_founding(&founding(*number)),
        Act::Renew(store) => stream.append_renewal(raft::StoreId(u128::from(*store))),
        Act::Force(number, term, after) => stream.append_forced(&forced(*number, *term, *after)),
        Act::Snapshot(term, index) => adopt(stream, *term, *index, Rest::Stays),
        Act::Install(term, index, rest) => adopt(stream, *term, *index, *rest),
        Act::Write(write) => stream.append(write),
    }
}

fn adopt(stream: &mut Stream, term: u64, index: u64, rest: Rest) -> Result<(), StorageError> {
    let body = vec![index as u8; 500];
    let mut written = snapshots::written(stream.shelf(), position(term, index), &body);
    stream.adopt(&mut written, rest).map(|is_news| assert!(is_news, "{term}.{index}"))
}

/// A store that lived on a model.
pub(super) struct Life {
    pub(super) model: Model,
    script: Vec<Vec<Act>>,
    /// What the store holds after so many acts.
    pub(super) states: Vec<Contents>,
    /// After so many steps of the disk, so many acts were begun and so many durable.
    progress: Vec<(usize, usize, usize)>,
}

impl Life {
    /// Lives through the script; a seal follows every third group, and the last if asked for.
    pub(super) fn lead(sealed: bool) -> Self {
        Self::through(script(), sealed)
    }

    /// The same of the script that compacts.
    pub(super) fn compact(sealed: bool) -> Self {
        Self::through(compacting(), sealed)
    }

    fn through(script: Vec<Vec<Act>>, sealed: bool) -> Self {
        let model = Model::default();
        let medium = Box::new(model.clone());
        let (mut stream, contents) = open_stream(medium, owner(7), SEGMENT_BYTES).expect("new");
        let mut states = vec![contents];
        let mut progress = vec![(0, 0, 0)];
        for (turn, group) in script.iter().enumerate() {
            let done = states.len() - 1;
            progress.push((model.steps(), done + group.len(), done));
            for act in group {
                append(&mut stream, act).expect("the script is free of contradictions");
                let mut next = states.last().expect("never empty").clone();
                perform(&mut next, act);
                states.push(next);
            }
            stream.commit().expect("the model works");
            progress.push((model.steps(), states.len() - 1, states.len() - 1));
            if if turn + 1 == script.len() { sealed } else { turn % 3 == 2 } {
                stream.seal().expect("the model works");
                stream.prepare().expect("the model works");
            }
        }
        Self { model, script, states, progress }
    }

    fn acts(&self) -> Vec<Act> {
        self.script.iter().flatten().cloned().collect()
    }

    /// Which states a store may have that crashed before step `end`.
    fn allowed(&self, end: usize) -> Range<usize> {
        let begun = self.progress.iter().take_while(|(steps, _, _)| *steps < end);
        let done = self.progress.iter().take_while(|(steps, _, _)| *steps <= end);
        let begun = begun.map(|(_, begun, _)| *begun).max().unwrap_or(0);
        let done = done.map(|(_, _, done)| *done).max().unwrap_or(0);
        done..begun + 1
    }

    /// Opens what a crash left and yields the state that it is in.
    fn reopen(&self, model: &Model, allowed: Range<usize>, story: &str) -> usize {
        let opened = open_stream(Box::new(model.clone()), owner(7), SEGMENT_BYTES);
        let (_, contents) = opened.unwrap_or_else(|error| panic!("{story}: {error}"));
        let state = allowed.clone().rev().find(|state| self.states[*state] == contents);
        state.unwrap_or_else(|| panic!("{story}: not a state of {allowed:?}"))
    }
}

fn last_write(trace: &Trace, end: usize) -> Option<usize> {
    match trace.0[..end].last() {
        Some(Step::Write { bytes, .. }) => Some(bytes.len()),
        _ => None,
    }
}

#[test]
fn a_crash_before_any_step_loses_nothing_that_was_durable() {
    let (fewer, unnamed) = crash_before_each_step(&Life::lead(true));
    assert!(fewer > 100, "only {fewer} crashes lost anything: the model is too kind");
    assert!(unnamed > 30, "only {unnamed} crashes found no directory in its place");
}

#[test]
fn a_crash_finds_the_old_snapshot_with_the_old_log_or_the_new_with_the_new() {
    let (fewer, _) = crash_before_each_step(&Life::compact(true));
    assert!(fewer > 200, "only {fewer} crashes lost anything: the model is too kind");
}

/// How many crashes lost what was not durable, and how many found no directory in its place.
fn crash_before_each_step(life: &Life) -> (usize, usize) {
    let trace = life.model.trace();
    let acts = life.acts();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(0x5707e);
    let (mut fewer, mut unnamed) = (0, 0);
    for end in 0..=trace.0.len() {
        let allowed = life.allowed(end);
        for (names, survivors) in [(0, 0), (9, 0), (0, 1), (9, 1), (9, 2), (9, 3), (9, 4)] {
            let image = trace.image(end, names, |_, length| match survivors {
                0 => 0..0,
                1 => 0..length,
                _ => {
                    let cut = random.random_range(0..=length);
                    if survivors == 2 { 0..cut } else { cut..random.random_range(cut..=length) }
                }
            });
            let story = format!("before step {end}, names {names}, survivors {survivors}");
            let named = trace.is_named(end, survivors % 2 == 1);
            unnamed += usize::from(!named);
            let model = Model::left(&image, named);
            let state = life.reopen(&model, allowed.clone(), &story);
            fewer += usize::from(state + 1 < allowed.end);

            go_on(life, &model, state, acts.get(state), &story);
        }
    }
    (fewer, unnamed)
}

/// The store goes on, with the very act that was lost if there was one: what was cut must not come
/// back behind what is written next.
fn go_on(life: &Life, model: &Model, state: usize, lost: Option<&Act>, story: &str) {
    let medium = Box::new(model.clone());
    let (mut stream, contents) =
        open_stream(medium, owner(7), SEGMENT_BYTES).expect("opened before");
    assert_eq!(contents, life.states[state], "{story}: changed by being opened");
    let term = contents.hard_state.term.next().0;
    let act = lost.cloned().unwrap_or_else(|| elect(term, None));
    let mut next = contents;
    perform(&mut next, &act);
    append(&mut stream, &act).and_then(|()| stream.commit()).expect("fits");
    let contents = open_image(&model.image())
        .unwrap_or_else(|error| panic!("{story}, then continued: {error}"));
    assert_eq!(contents, next, "{story}, then continued");
}

#[test]
fn a_write_torn_at_any_byte_loses_nothing_that_was_durable() {
    let torn = tear_each_write(&Life::lead(true));
    assert!(torn > 5_000, "only {torn} torn writes");
}

#[test]
fn a_write_torn_at_any_byte_of_a_compaction_loses_nothing_that_was_durable() {
    let torn = tear_each_write(&Life::compact(true));
    assert!(torn > 10_000, "only {torn} torn writes");
}

/// How many torn writes there were.
fn tear_each_write(life: &Life) -> usize {
    let trace = life.model.trace();
    let mut torn = 0;
    for end in 0..=trace.0.len() {
        let Some(length) = last_write(&trace, end) else { continue };
        // The two long records are the same at most of their bytes.
        let stride = if length > 2000 { 97 } else { 1 };
        for cut in (0..=length).step_by(stride) {
            for part in [0..cut, cut..length] {
                let image = trace.image(
                    end,
                    9,
                    |at, all| {
                        if at + 1 == end { part.clone() } else { 0..all }
                    },
                );
                let model = Model::left(&image, trace.is_named(end, true));
                life.reopen(&model, life.allowed(end), &format!("step {end}: {part:?} survives"));
                torn += 1;
            }
        }
    }
    torn
}

/// Where the bytes are that mean something: all of the marker, the written part of segments.
fn written_bytes(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

pub(super) fn open_image(image: &Image) -> Result<Contents, StorageError> {
    let medium = Box::new(Model::holding(image));
    open_stream(medium, owner(7), SEGMENT_BYTES).map(|(_, contents)| contents)
}

#[test]
fn a_flipped_byte_is_refused_or_changes_nothing() {
    let (refused, harmless) = flip_each_byte(&Life::lead(true));
    // Harmless are the last seal and what lies behind the records; all else must be refused.
    assert!(refused > 20_000, "{refused} refused");
    assert!(harmless < 2_000, "{harmless} harmless");
}

#[test]
fn a_flipped_byte_in_a_compacted_store_is_refused_or_changes_nothing() {
    let (refused, harmless) = flip_each_byte(&Life::compact(true));
    assert!(refused > 4_000, "{refused} refused");
    assert!(harmless < 500, "{harmless} harmless");
}

/// How many flipped bytes were refused, and how many changed nothing.
fn flip_each_byte(life: &Life) -> (usize, usize) {
    let whole = life.states.last().expect("never empty");
    let image = life.model.image();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(0xf11b);
    let (mut refused, mut harmless) = (0, 0);
    for (name, bytes) in &image {
        let written = written_bytes(bytes);
        let unwritten = (written..bytes.len()).step_by(61);
        for at in (0..written).chain(unwritten) {
            let mut damaged = image.clone();
            let file = damaged.get_mut(name).expect("listed");
            file[at] ^= 1 << random.random_range(0..8);
            match open_image(&damaged) {
                Ok(contents) => {
                    assert_eq!(&contents, whole, "{name}: byte {at} changed what was read");
                    harmless += 1;
                }
                Err(error) => {
                    assert!(error.to_string().contains(name), "{name}: byte {at}: {error}");
                    refused += 1;
                }
            }
        }
    }
    (refused, harmless)
}

#[test]
fn a_flipped_byte_in_a_group_that_nothing_seals_loses_that_group_at_most() {
    let life = Life::lead(false);
    let (whole, image) = (life.states.len() - 1, life.model.image());
    let last = script().last().expect("not empty").len();
    let mut lost = 0;
    for (name, bytes) in &image {
        for at in 0..written_bytes(bytes) {
            let mut damaged = image.clone();
            damaged.get_mut(name).expect("listed")[at] ^= 0x10;
            let Ok(contents) = open_image(&damaged) else { continue };
            let state = life.states.iter().rposition(|state| *state == contents);
            let state = state.unwrap_or_else(|| panic!("{name}: byte {at} made something up"));
            assert!(state >= whole - last, "{name}: byte {at} lost an older group");
            lost += usize::from(state < whole);
        }
    }
    assert!(lost > 0, "the case that cannot be told was not met");
}

#[test]
fn the_first_record_after_an_opening_proves_what_the_opening_accepted() {
    let life = Life::lead(false);
    let image = life.model.image();
    let newest = image.iter().filter(|(_, bytes)| written_bytes(bytes) > 64);
    let newest = newest.filter_map(|(name, _)| segment::number(name)).max().expect("segments");
    let name = segment::name(newest);
    let accepted = written_bytes(&image[&name]);

    let model = Model::holding(&image);
    let medium = Box::new(model.clone());
    let (mut stream, _) = open_stream(medium, owner(7), SEGMENT_BYTES).expect("whole");
    append(&mut stream, &elect(9, None)).and_then(|()| stream.commit()).expect("fits");
    for at in 64..accepted {
        let mut damaged = model.image();
        damaged.get_mut(&name).expect("listed")[at] ^= 1;
        let error = open_image(&damaged).expect_err("acknowledged before the opening");
        assert!(error.to_string().contains(&name), "byte {at}: {error}");
    }
}

#[test]
fn a_cut_lengthened_or_missing_file_is_refused() {
    cut_each_file(&Life::lead(true));
    cut_each_file(&Life::compact(true));
}

fn cut_each_file(life: &Life) {
    let image = life.model.image();
    let prepared = image.keys().filter_map(|name| segment::number(name)).max();
    let prepared = segment::name(prepared.expect("segments"));
    assert_eq!(written_bytes(&image[&prepared]), 64, "the last segment is a prepared one");
    for (name, bytes) in &image {
        let written = written_bytes(bytes);
        for length in (0..written).chain((written..bytes.len()).step_by(61)) {
            let mut damaged = image.clone();
            damaged.get_mut(name).expect("listed").truncate(length);
            let error = open_image(&damaged).expect_err("a cut file");
            assert!(error.to_string().contains(name), "{name} cut to {length}: {error}");
        }
        let mut damaged = image.clone();
        damaged.get_mut(name).expect("listed").push(0);
        let error = open_image(&damaged).expect_err("a lengthened file");
        assert!(error.to_string().contains(name), "{name} lengthened: {error}");

        let mut damaged = image.clone();
        damaged.remove(name);
        match open_image(&damaged) {
            // Nothing stood in it yet.
            Ok(contents) => assert_eq!((name, life.states.last()), (&prepared, Some(&contents))),
            Err(error) => assert!(error.to_string().contains("model"), "{name}: {error}"),
        }
    }
}

#[test]
fn compaction_takes_away_all_segments_but_those_that_are_needed() {
    let (image, whole) = (Life::compact(true).model.image(), Life::lead(true).model.image());
    let segments = |image: &Image| image.keys().filter_map(|name| segment::number(name)).collect();
    let (kept, all): (Vec<u64>, Vec<u64>) = (segments(&image), segments(&whole));
    assert!(kept[0] > all[all.len() - 1], "{kept:?} after {all:?}");
    assert!(kept.len() <= 4, "{kept:?}");
    let snapshots = image.keys().filter(|name| name.ends_with(".snapshot")).count();
    assert_eq!(snapshots, 1, "{:?}", image.keys());
    assert_eq!(image.len(), kept.len() + 3, "marker, base, snapshot: {:?}", image.keys());
}

#[test]
fn a_snapshot_of_another_group_or_another_snapshot_in_its_place_is_refused_by_name() {
    let life = Life::compact(true);
    let image = life.model.image();
    let name = image.keys().find(|name| name.ends_with(".snapshot")).expect("one").clone();
    let foreign = |change: fn(&mut super::SnapshotHead)| {
        let model = Model::default();
        let shelf = super::Shelf::new(Arc::new(model.clone()), None);
        let mut head = snapshots::head(position(7, 47));
        change(&mut head);
        let draft = shelf.draft().expect("the model works");
        let mut writer = super::SnapshotWriter::begin(draft, head).expect("small");
        std::io::Write::write_all(&mut writer, &[47; 500]).expect("small");
        let _written = writer.finish().expect("the model works");
        let mut damaged = image.clone();
        damaged.insert(name.clone(), model.image().into_values().next().expect("a draft"));
        let error = open_image(&damaged).err().map(|error| error.to_string());
        assert!(error.as_ref().is_none_or(|error| error.contains(&name)), "{error:?}");
        error
    };
    assert_eq!(foreign(|_| {}), None, "the same again");
    foreign(|head| head.group = owner(8).group).expect("of another group");
    foreign(|head| head.machine = "test/2".into()).expect("of another machine");
    foreign(|head| head.covers.position.index.0 += 1).expect("of another position");
    foreign(|head| head.covers.configuration.voters.clear()).expect("of other members");
}

#[test]
fn a_range_of_zeros_over_what_is_sealed_is_refused() {
    let life = Life::lead(true);
    let image = life.model.image();
    let mut refused = 0;
    for (name, bytes) in &image {
        for at in (0..written_bytes(bytes).saturating_sub(600)).step_by(64) {
            let mut damaged = image.clone();
            damaged.get_mut(name).expect("listed")[at..at + 512].fill(0);
            match open_image(&damaged) {
                Ok(contents) => assert_eq!(Some(&contents), life.states.last(), "{name} at {at}"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 200, "{refused} refused");
}

/// Waits, with a bound, until the store says something.
fn wait(storage: &mut dyn Storage) -> Result<WriteId, StorageError> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut word = pin!(std::future::poll_fn(|context| storage.poll_persisted(context)));
    for _ in 0..1000 {
        if let std::task::Poll::Ready(word) = word.as_mut().poll(&mut context) {
            return word;
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    panic!("the store says nothing for 20 s");
}

#[test]
fn the_first_failure_of_the_disk_is_reported_for_ever_and_nothing_is_written_after_it() {
    let mut failed_while_open = 0;
    for healthy_steps in 0..60 {
        let model = Model::default();
        model.fail_after(healthy_steps);
        let opened = Opened::open(Box::new(model.clone()), owner(7), SEGMENT_BYTES);
        let Ok(mut storage) = opened else { continue };
        let mut states = vec![Contents::default()];
        let (mut durable, mut failure) = (0, None);
        for act in script().into_iter().flatten() {
            let Act::Write(write) = &act else { continue };
            let mut next = states.last().expect("never empty").clone();
            perform(&mut next, &act);
            states.push(next);
            storage.submit(WriteId(states.len() as u64 - 1), write.clone());
            match wait(&mut storage) {
                Ok(id) => durable = id.0 as usize,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let steps = model.steps();
        if let Some(failure) = failure {
            failed_while_open += 1;
            storage.submit(WriteId(100), Write::HardState(HardState::default()));
            let again = wait(&mut storage).expect_err("failed for ever");
            assert_eq!(again.to_string(), failure.to_string());
            assert!(again.to_string().contains("model"), "{again}");
            assert_eq!(storage.backlog_bytes(), 0);
            let refused = storage.found(&founding(1)).expect_err("failed for ever");
            assert_eq!(refused.to_string(), failure.to_string());
            drop(storage);
            assert_eq!(model.steps(), steps, "written after a failure");
        } else {
            drop(storage);
        }
        let trace = model.trace();
        let contents = open_image(&trace.image(trace.0.len(), 0, |_, _| 0..0)).expect("opens");
        let state = states.iter().rposition(|state| *state == contents);
        assert!(state >= Some(durable), "{healthy_steps} steps: {durable} lost");
    }
    assert!(failed_while_open > 20, "{failed_while_open} failures");
}

#[test]
fn the_thread_makes_snapshots_count_in_order_with_the_writes_around_them() {
    let model = Model::default();
    let mut storage = Opened::open(Box::new(model.clone()), owner(7), SEGMENT_BYTES).expect("new");
    let shelf = storage.shelf().expect("disks keep snapshots");
    let entries = |after: u64, count: u64| Write::Entries {
        after: Index(after),
        entries: (after + 1..=after + count).map(|index| entry(2, index, 9)).collect(),
    };
    let persisted = |storage: &mut Opened, id: u64| {
        while wait(storage).expect("the model works") < WriteId(id) {}
    };
    storage.submit(WriteId(1), Write::HardState(HardState { term: Term(2), vote: None }));
    storage.submit(WriteId(2), entries(0, 3));
    storage.keep(snapshots::written(&shelf, position(2, 2), b"two"));
    storage.submit(WriteId(3), entries(3, 1));
    persisted(&mut storage, 3);
    let kept = storage.poll_kept(&mut Context::from_waker(Waker::noop()));
    assert_eq!(kept, std::task::Poll::Ready(position(2, 2)));

    storage.submit(WriteId(4), entries(4, 1));
    let elsewhere = snapshots::written(&shelf, position(2, 9), b"nine");
    storage.install(elsewhere, Rest::GivesWay).expect("the model works");
    assert_eq!(shelf.current().map(|id| id.position), Some(position(2, 9)));
    storage.submit(WriteId(5), entries(9, 1));
    persisted(&mut storage, 5);
    drop(storage);
    let contents = open_image(&model.image()).expect("whole");
    assert_eq!(contents.snapshot, Some(snapshots::head(position(2, 9)).covers));
    assert_eq!(contents.entries, [entry(2, 10, 9)]);
    assert!(matches!(shelf.draft(), Err(StorageError::Stopped { .. })), "the store is closed");
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_durable_before_it_is_believed() {
    let mut believed = 0;
    for healthy_steps in 9..120 {
        let model = Model::default();
        model.fail_after(healthy_steps);
        let opened = open_stream(Box::new(model.clone()), owner(7), SEGMENT_BYTES);
        let Ok((mut stream, _)) = opened else { continue };
        let mut durable = 0;
        for group in script() {
            let appended = group.iter().try_for_each(|act| append(&mut stream, act));
            if appended.and_then(|()| stream.commit()).is_err() {
                break;
            }
            durable += 1;
        }
        drop(stream);
        model.heal();
        let (stream, contents) =
            open_stream(Box::new(model.clone()), owner(7), SEGMENT_BYTES).expect("a torn tail");
        drop(stream);
        let trace = model.trace();
        let after_crash = open_image(&trace.image(trace.0.len(), 0, |_, _| 0..0)).expect("opens");
        assert_eq!(after_crash, contents, "{healthy_steps} steps: believed and then lost");
        let mut acknowledged = Contents::default();
        script()[..durable].iter().flatten().for_each(|act| perform(&mut acknowledged, act));
        believed += usize::from(contents != acknowledged);
    }
    assert!(believed > 10, "only {believed} times was there anything to believe");
}

#[test]
fn a_write_that_contradicts_the_store_stops_it_before_it_is_written() {
    let model = Model::default();
    let mut storage = Opened::open(Box::new(model.clone()), owner(7), SEGMENT_BYTES).expect("new");
    storage.submit(WriteId(1), Write::HardState(HardState { term: Term(2), vote: None }));
    assert_eq!(wait(&mut storage).expect("durable"), WriteId(1));
    storage.submit(WriteId(2), Write::HardState(HardState { term: Term(1), vote: None }));
    let error = wait(&mut storage).expect_err("a term forgotten");
    assert!(matches!(error, StorageError::Refused { .. }), "{error}");
    drop(storage);
    assert_eq!(open_image(&model.image()).expect("whole").hard_state.term, Term(2));
}
