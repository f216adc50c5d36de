//! Where in a store a bit is cold: written long ago, and proven durable by what came later.
//!
//! Knows names and lengths of a store's files and none of their bytes. What the last writes of all
//! prove is nothing, so damage to those cannot be told from what a power cut tears. Invariant: a
//! store in which this bit has changed is one that must not open.

use std::collections::BTreeMap;

use crate::seed::Stream;

/// One bit of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColdBit {
    /// The name of its file.
    pub file: String,
    /// The byte.
    pub offset: u64,
    /// Which of its bits, from the lowest.
    pub bit: u8,
}

/// Draws a bit of a store, of whose files it is told how long the part is that was written;
/// nothing where there is no log.
pub fn cold_bit(written_bytes: &BTreeMap<String, u64>, stream: &mut Stream) -> Option<ColdBit> {
    // Names are in the order of their numbers: this is what was written first.
    let log = written_bytes.iter().find(|(name, _)| name.ends_with(LOG));
    let snapshot =
        written_bytes.iter().find(|(name, bytes)| name.ends_with(SNAPSHOT) && **bytes > 0);
    let in_snapshot = stream.chance(500);
    let (file, bytes) = snapshot.filter(|_| in_snapshot).or(log)?;
    let end = match file.ends_with(SNAPSHOT) {
        // It counts only once all of it is durable.
        true => *bytes,
        false if *bytes >= LOG_BYTES_MIN => bytes / 2,
        // A log that has hardly begun has a head, which was durable before its name.
        false => HEAD_BYTES.min(*bytes),
    };
    let (offset, bit) = (stream.below(end), stream.below(8));
    Some(ColdBit { file: file.clone(), offset, bit: u8::try_from(bit).unwrap_or(0) })
}

/// How long the part of a file is that was written: a log is zero behind it.
pub(crate) fn written_bytes(name: &str, content: &[u8]) -> u64 {
    let written = match name.ends_with(LOG) {
        true => content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1),
        false => content.len(),
    };
    written as u64
}

const LOG: &str = ".log";
const SNAPSHOT: &str = ".snapshot";
/// What stands in the first half of as much is behind by several groups of writes.
const LOG_BYTES_MIN: u64 = 8 << 10;
const HEAD_BYTES: u64 = 64;

#[cfg(test)]
mod tests {
    use runtime::{
        Entry, HardState, Index, Payload, PeerId, Position, RequestId, SessionId, StoreId, Term,
        storage::{Disk, Journal, Owner, StorageError, Write},
    };

    use super::*;
    use crate::seed::Seed;

    fn open(path: &std::path::Path) -> Result<Journal, StorageError> {
        let owner = Owner {
            group: postcard::from_bytes(&[1; 32]).expect("it is 32 bytes"),
            peer: PeerId([2; 32]),
            fresh: StoreId(3),
        };
        Journal::open(Disk::at(path).medium()?, owner, 64 << 10)
    }

    fn entry(index: u64) -> Entry {
        let request = RequestId { session: SessionId(Index(1)), sequence: index };
        let command = vec![7; 40].into();
        let payload = Payload::Command { request, floor: 1, command };
        Entry { position: Position { term: Term(1), index: Index(index) }, payload }
    }

    /// A store with so many entries, whose process died before it could seal them.
    fn store(path: &std::path::Path, entries: u64) {
        let mut journal = open(path).expect("a new store");
        let term = Write::HardState(HardState { term: Term(1), vote: None });
        journal.commit([&term]).expect("the disk works");
        for index in 1..=entries {
            let after = Index(index - 1);
            let write = Write::Entries { after, entries: vec![entry(index)].into() };
            journal.commit([&write]).expect("the disk works");
        }
    }

    #[test]
    fn a_store_with_a_cold_bit_flipped_never_opens_and_says_which_file() {
        let mut files = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let folder = tempfile::tempdir().expect("a place for files");
            let path = folder.path().join("store");
            store(&path, [1, 40, 200, 2_000][usize::try_from(seed % 4).expect("small")]);
            let lengths = std::fs::read_dir(&path).expect("it is there").map(|file| {
                let file = file.expect("a file");
                let name = file.file_name().to_str().expect("UTF-8").to_owned();
                let content = std::fs::read(file.path()).expect("it can be read");
                (name.clone(), written_bytes(&name, &content))
            });
            let mut stream = Stream::named(Seed(seed), "cold");
            let cold = cold_bit(&lengths.collect(), &mut stream).expect("there is a log");
            let file = path.join(&cold.file);
            let mut content = std::fs::read(&file).expect("it can be read");
            content[usize::try_from(cold.offset).expect("small")] ^= 1 << cold.bit;
            std::fs::write(&file, content).expect("it can be written");
            let error = open(&path).err().unwrap_or_else(|| panic!("{cold:?} was not noticed"));
            assert!(error.to_string().contains(&cold.file), "{cold:?}: {error}");
            files.insert(cold.offset / 64);
        }
        assert!(files.len() > 20, "it is not always the same place: {files:?}");
    }

    #[test]
    fn a_snapshot_is_cold_as_a_whole_and_an_empty_store_has_nothing_cold() {
        let mut stream = Stream::named(Seed(1), "cold");
        assert_eq!(cold_bit(&BTreeMap::new(), &mut stream), None);
        let files = [("1.log".to_owned(), 100_000), ("1.snapshot".to_owned(), 900)];
        let files = BTreeMap::from(files);
        let drawn: Vec<ColdBit> = (0..200).filter_map(|_| cold_bit(&files, &mut stream)).collect();
        let of_log: Vec<_> = drawn.iter().filter(|cold| cold.file == "1.log").collect();
        assert!((50..150).contains(&of_log.len()));
        assert!(of_log.iter().all(|cold| cold.offset < 50_000));
        assert!(drawn.iter().any(|cold| cold.file == "1.snapshot" && cold.offset > 800));
    }
}
