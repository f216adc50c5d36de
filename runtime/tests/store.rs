//! Stores on the host's own disk, through the public face: what opens again, and what is refused.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use raft::{NodeId, Payload, SessionId, Write, WriteId};
use runtime::{
    Configuration, ConsensusConfig, Entry, GroupId, GroupKey, HardState, Index, Lineage, PeerId,
    Position, RequestId, StorageError, StoreId, Term,
    storage::{Contents, Disk, Founding, Mounted, Owner, Storage, Store},
};
use tempfile::TempDir;

fn owner() -> Owner {
    let key = GroupKey::from_secret("store test");
    let group = GroupId::of(&key, "machine", &ConsensusConfig::default());
    Owner { group, peer: PeerId([3; 32]), fresh: StoreId(0xfeed) }
}

fn founding() -> Founding {
    let configuration = Configuration::of([NodeId::small(1)]);
    Founding { lineage: Lineage::of(owner().group, &configuration), configuration }
}

fn entries(term: u64, first: u64, count: u64, command_bytes: usize) -> Vec<Entry> {
    let entry = |index| Entry {
        position: Position { term: Term(term), index: Index(index) },
        payload: Payload::Command {
            request: RequestId { session: SessionId(Index(1)), sequence: index },
            floor: 1,
            command: vec![index as u8; command_bytes].into(),
        },
    };
    (first..first + count).map(entry).collect()
}

fn open(path: &Path) -> Result<Box<dyn Storage>, StorageError> {
    Box::new(Disk::at(path).segment_bytes(64 << 10)).open(owner())
}

fn refusal(path: &Path) -> String {
    match open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    }
}

/// Waits, with a bound, until that write is durable.
fn wait(storage: &mut dyn Storage, id: WriteId) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    for _ in 0..1000 {
        match storage.poll_persisted(&mut context) {
            Poll::Ready(durable) if durable.as_ref().is_ok_and(|durable| *durable >= id) => return,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => thread::park_timeout(Duration::from_millis(20)),
        }
    }
    panic!("write {} is not durable after 20 s", id.0);
}

/// A store of several segments, closed in order.
fn filled(path: &Path) -> Contents {
    let mut storage = open(path).expect("a new store");
    storage.found(&founding()).expect("the first founding");
    let hard_state = HardState { term: Term(2), vote: Some(NodeId::small(1)) };
    storage.submit(WriteId(1), Write::HardState(hard_state));
    let mut expected = Vec::new();
    for turn in 0..20 {
        let entries = entries(2, 1 + 10 * turn, 10, 1_000);
        expected.extend(entries.clone());
        let after = Index(10 * turn);
        storage.submit(WriteId(2 + turn), Write::Entries { after, entries: entries.into() });
    }
    wait(&mut *storage, WriteId(21));
    Contents { founding: Some(founding()), hard_state, snapshot: None, entries: expected }
}

/// A folder, and a place in it where no store is yet.
fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("store");
    (folder, path)
}

fn names(path: &Path) -> Vec<String> {
    let files = fs::read_dir(path).expect("a directory").map(|file| file.expect("a file"));
    let mut names: Vec<_> = files.map(|file| file.file_name().display().to_string()).collect();
    names.sort();
    names
}

fn segments(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path).expect("a directory").map(|file| file.expect("a file").path());
    let mut segments: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|suffix| suffix == "log")).collect();
    segments.sort();
    segments
}

#[test]
fn a_store_holds_after_reopening_what_was_durable_and_keeps_its_id() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("a/new/folder");
    let expected = filled(&path);
    assert!(segments(&path).len() > 3, "{:?}", segments(&path));

    let other = Owner { fresh: StoreId(1), ..owner() };
    let mut storage = Box::new(Disk::at(&path)).open(other).expect("the same group and peer");
    assert_eq!(storage.id(), owner().fresh);
    assert_eq!(storage.take_contents(), expected);
    assert_eq!(storage.take_contents(), Contents::default());

    // A suffix is replaced, by a command that no segment of the ordinary size can hold.
    let entries = entries(2, 101, 2, 17 << 20);
    storage
        .submit(WriteId(1), Write::Entries { after: Index(100), entries: entries.clone().into() });
    assert!(storage.backlog_bytes() <= 2 * (17 << 20) + 1024);
    wait(&mut *storage, WriteId(1));
    assert_eq!(storage.backlog_bytes(), 0);
    drop(storage);
    let contents = open(&path).expect("whole").take_contents();
    assert_eq!(contents.entries[..100], expected.entries[..100]);
    assert_eq!(contents.entries[100..], entries);
}

#[test]
fn only_a_directory_that_does_not_exist_becomes_a_store() {
    let (folder, path) = place();
    drop(open(&path).expect("nothing is there"));
    drop(open(&path).expect("the store that it became"));
    assert_eq!(names(folder.path()), ["store"], "nothing is left beside it");

    let empty = folder.path().join("empty");
    fs::create_dir(&empty).expect("a directory");
    let why = refusal(&empty);
    assert!(why.starts_with(&format!("{} is an empty directory", empty.display())), "{why}");
    assert!(names(&empty).is_empty(), "nothing was written into it");

    let other = folder.path().join("other");
    fs::create_dir(&other).expect("a directory");
    fs::write(other.join("letter.txt"), "dear").expect("written");
    assert!(refusal(&other).contains("letter.txt"), "{}", refusal(&other));
    let file = other.join("letter.txt");
    assert!(refusal(&file).contains("letter.txt"), "{}", refusal(&file));

    // As a link to a disk that is not mounted.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).expect("a link");
    assert!(refusal(&link).contains("link"), "{}", refusal(&link));
    assert!(link.is_symlink(), "it is still there");

    let nameless = refusal(&folder.path().join("nowhere/.."));
    assert!(nameless.contains("does not end in a name"), "{nameless}");
}

#[test]
fn a_store_that_must_exist_is_never_made() {
    let (folder, path) = place();
    let refused = |path: &Path| {
        let opened = Box::new(Disk::existing(path)).open(owner());
        opened.err().map(|error| error.to_string()).expect("refused")
    };
    let why = refused(&path);
    assert!(why.starts_with(&format!("{} is missing: ", path.display())), "{why}");
    assert!(names(folder.path()).is_empty(), "nothing was made");

    filled(&path);
    let storage = Box::new(Disk::existing(&path)).open(owner()).expect("whole");
    assert_eq!(storage.id(), owner().fresh);
    drop(storage);
    fs::rename(path.join("store"), path.join("store.new")).expect("renamed");
    let why = refused(&path);
    assert!(why.contains("never finished"), "{why}");
    let why = refusal(&path);
    assert!(why.contains("no store marker"), "it is no unfinished one either: {why}");
}

#[test]
fn a_creation_that_was_cut_short_is_finished_by_the_next() {
    let (folder, path) = place();
    drop(open(&path).expect("new"));
    let beside = folder.path().join("store.new");
    for step in ["only a directory", "a torn marker", "a marker", "in its place", "a segment"] {
        match step {
            "only a directory" => {
                fs::remove_dir_all(&path).expect("removed");
                fs::create_dir(&beside).expect("a directory");
            }
            "a torn marker" | "a marker" => {
                fs::rename(&path, &beside).expect("moved");
                fs::rename(beside.join("store"), beside.join("store.new")).expect("renamed");
                for segment in segments(&beside) {
                    fs::remove_file(segment).expect("removed");
                }
                if step == "a torn marker" {
                    fs::write(beside.join("store.new"), "TsMa").expect("written");
                }
            }
            _ => {
                fs::rename(path.join("store"), path.join("store.new")).expect("renamed");
                if step == "in its place" {
                    fs::remove_file(&segments(&path)[0]).expect("removed");
                }
            }
        }
        let mut storage = open(&path).unwrap_or_else(|error| panic!("{step}: {error}"));
        assert_eq!(storage.take_contents(), Contents::default(), "{step}");
        drop(storage);
        assert_eq!(names(folder.path()), ["store"], "{step}");
        assert_eq!(names(&path), ["0000000000000000.log", "store"], "{step}");
    }
}

#[test]
fn a_directory_where_a_file_of_the_store_belongs_is_refused_by_name() {
    let (_folder, path) = place();
    filled(&path);
    let mut files = segments(&path);
    files.push(path.join("store"));
    for file in files {
        let aside = path.with_file_name("aside");
        fs::rename(&file, &aside).expect("moved");
        fs::create_dir(&file).expect("a directory");
        let why = refusal(&path);
        assert!(why.contains(&file.display().to_string()), "{why}");
        fs::remove_dir(&file).expect("removed");
        fs::rename(&aside, &file).expect("moved back");
    }
    open(&path).expect("whole again");
}

#[test]
fn a_second_founding_that_differs_is_refused() {
    let (_folder, path) = place();
    filled(&path);
    let mut storage = open(&path).expect("whole");
    storage.found(&founding()).expect("the same again");
    let configuration = Configuration::of([NodeId::small(2)]);
    let lineage = Lineage::of(owner().group, &configuration);
    let error = storage.found(&Founding { lineage, configuration }).expect_err("another");
    assert!(matches!(error, StorageError::Founded { .. }), "{error}");
}

#[test]
fn one_member_at_a_time_has_a_store_open() {
    let (_folder, path) = place();
    let storage = open(&path).expect("new");
    assert!(refusal(&path).ends_with("is in use by another member"));
    drop(storage);
    open(&path).expect("free again");
}

#[test]
fn a_store_of_another_group_peer_or_version_is_refused() {
    let (_folder, path) = place();
    filled(&path);
    let key = GroupKey::from_secret("another");
    let group = GroupId::of(&key, "machine", &ConsensusConfig::default());
    for (stranger, what) in [
        (Owner { group, ..owner() }, "group"),
        (Owner { peer: PeerId([4; 32]), ..owner() }, "peer"),
    ] {
        let opened = Box::new(Disk::at(&path)).open(stranger);
        let error = opened.err().expect("foreign").to_string();
        assert!(error.contains(what) && error.contains("store belongs to"), "{error}");
    }

    let marker = path.join("store");
    let mut bytes = fs::read(&marker).expect("the marker");
    bytes[8] = 9;
    fs::write(&marker, bytes).expect("written");
    assert!(refusal(&path).contains("has format version 9; this program reads 2"));
}

#[test]
fn a_segment_of_another_store_is_refused() {
    let ((_one, one), (_two, two)) = (place(), place());
    filled(&one);
    let other = Owner { fresh: StoreId(0xbeef), ..owner() };
    drop(Box::new(Disk::at(&two)).open(other).expect("new"));
    let (from, to) = (&segments(&two)[0], &segments(&one)[0]);
    fs::copy(from, to).expect("copied");
    assert!(refusal(&one).contains("belongs to store beef, not to feed"));
}

#[test]
fn an_empty_missing_or_cut_file_is_refused_and_nothing_starts_empty() {
    let (_folder, whole) = place();
    filled(&whole);
    let names = names(&whole);
    let newest = segments(&whole).pop().expect("segments");
    for name in &names {
        for damage in ["empty", "missing", "cut"] {
            let folder = TempDir::new().expect("a temporary folder");
            for name in &names {
                fs::copy(whole.join(name), folder.path().join(name)).expect("copied");
            }
            let file = folder.path().join(name);
            let length = fs::metadata(&file).expect("a file").len();
            let length = if damage == "empty" { 0 } else { length - 1 };
            match damage {
                // The newest segment may be one that was prepared and not used yet.
                "missing" if newest.ends_with(name) => continue,
                "missing" => fs::remove_file(&file).expect("removed"),
                _ => fs::File::options()
                    .write(true)
                    .open(&file)
                    .and_then(|file| file.set_len(length))
                    .expect("cut"),
            }
            let refusal = refusal(folder.path());
            let says = match (damage, name.as_str()) {
                ("missing", "store") => "no store marker",
                ("missing", _) => "is missing",
                _ => " bytes where ",
            };
            assert!(refusal.contains(says), "{damage} {name}: {refusal}");
        }
    }
}

#[test]
fn a_store_mounted_on_its_directory_is_the_same_store_and_locked_as_well() {
    let (_folder, path) = place();
    let whole = filled(&path);
    let medium = Disk::existing(&path).medium().expect("it is there");
    assert!(refusal(&path).contains("is in use"), "the directory is held");
    let mut mounted = Box::new(Mounted::on(medium)).open(owner()).expect("whole");
    assert_eq!(mounted.take_contents(), whole);
    drop(mounted);
    let nowhere = path.with_file_name("nowhere");
    let error = Disk::existing(&nowhere).medium().err().expect("nothing is there").to_string();
    assert!(error.contains("nowhere is missing"), "{error}");
}

#[test]
fn an_option_out_of_range_is_refused_by_name() {
    let (_folder, path) = place();
    let store = Box::new(Disk::at(&path).segment_bytes(100));
    let error = store.open(owner()).err().expect("too small").to_string();
    assert_eq!(error, "segment_bytes is 100; allowed is 4096 to 1073741824");
}

#[test]
fn what_is_queued_when_a_store_is_closed_is_written_in_order() {
    let (_folder, path) = place();
    let mut storage = open(&path).expect("new");
    storage.submit(WriteId(1), Write::HardState(HardState { term: Term(1), vote: None }));
    for index in 1..=500 {
        let (after, entries) = (Index(index - 1), entries(1, index, 1, 64));
        storage.submit(WriteId(1 + index), Write::Entries { after, entries: entries.into() });
    }
    drop(storage);
    let contents = open(&path).expect("whole").take_contents();
    assert_eq!(contents.entries, entries(1, 1, 500, 64));
}
