//! A snapshot reads back as it was written, and nothing else passes for one.

use std::io::{Read, Write as _};

use raft::{Configuration, NodeId, Snapshot};

use super::*;
use crate::storage::{
    Shelf,
    model::{Image, Model},
    samples::{founding, owner, position},
    segment,
};

pub(crate) fn head(place: Position) -> SnapshotHead {
    let configuration = Configuration::of([1, 2, 3].map(NodeId::small));
    SnapshotHead {
        group: owner(7).group,
        lineage: founding(1).lineage,
        machine: "test/1".into(),
        covers: Snapshot { position: place, configuration },
    }
}

/// A finished draft with that body.
pub(crate) fn written(shelf: &Shelf, place: Position, body: &[u8]) -> Written {
    let draft = shelf.draft().expect("the model works");
    let mut writer = SnapshotWriter::begin(draft, head(place)).expect("the model works");
    writer.write_all(body).expect("the model works");
    writer.finish().expect("the model works")
}

fn shelf(model: &Model) -> Shelf {
    Shelf::new(std::sync::Arc::new(model.clone()), None)
}

fn open(bytes: &[u8]) -> Result<SnapshotFile, StorageError> {
    let name = "a.snapshot";
    let model = Model::holding(&Image::from([(name.to_owned(), bytes.to_vec())]));
    let file = crate::storage::Medium::open(&model, name).expect("it is there");
    SnapshotFile::open(name.into(), file)
}

/// The bytes of a snapshot with that body.
fn bytes(body: &[u8]) -> Vec<u8> {
    let model = Model::default();
    let _written = written(&shelf(&model), position(3, 9), body);
    model.image().into_values().next().expect("one draft")
}

/// A machine may pass over what its writer is told.
#[test]
fn what_was_written_after_a_failed_write_is_no_snapshot() {
    let model = Model::default();
    let draft = shelf(&model).draft().expect("the model works");
    let mut writer = SnapshotWriter::begin(draft, head(position(3, 9))).expect("the model works");
    let body = vec![7; CHUNK_BYTES + 1];
    model.fail_after(0);
    writer.write_all(&body).expect_err("the first chunk is full");
    model.heal();
    writer.write_all(&body).expect_err("the disk works again, but a chunk is missing");
    let error = writer.finish().err().expect("it is not whole").to_string();
    assert!(error.contains("a chunk of it could not be written"), "{error}");
}

#[test]
fn a_snapshot_reads_back_as_it_was_written_however_large_it_is() {
    for size in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 17] {
        let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let file = open(&bytes(&body)).expect("whole");
        assert_eq!(file.head(), &head(position(3, 9)));
        file.verify().expect("whole");
        let mut read = Vec::new();
        file.body().read_to_end(&mut read).expect("whole");
        assert!(read == body, "{size} bytes");
    }
}

#[test]
fn whatever_is_flipped_or_cut_in_a_snapshot_is_refused_by_name() {
    let whole = bytes(&[7; 3_000]);
    let refused = |damaged: &[u8]| {
        let verified = open(damaged).and_then(|file| file.verify());
        let error = verified.expect_err("damaged").to_string();
        assert!(error.contains("a.snapshot"), "{error}");
    };
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        refused(&damaged);
        refused(&whole[..at]);
    }
    refused(&[&whole[..], &[0]].concat());
    let mut other = whole.clone();
    other[8] += 1;
    let error = open(&other).err().expect("another version");
    assert!(matches!(error, StorageError::Version { .. }), "{error}");
}

#[test]
fn a_draft_that_nobody_wants_leaves_nothing_and_is_known_for_what_it_is() {
    let model = Model::default();
    let shelf = shelf(&model);
    let draft = shelf.draft().expect("the model works");
    let name = model.image().into_keys().next().expect("a draft");
    let finished = name.strip_suffix(segment::TEMPORARY).expect("unfinished");
    assert!(is_snapshot(finished));
    drop(draft);
    assert!(model.image().is_empty());
    let written = written(&shelf, position(1, 1), b"state");
    shelf.close();
    drop(written);
    assert_eq!(model.image().len(), 1, "a store that is closed is not touched");
    assert!(matches!(shelf.draft(), Err(StorageError::Stopped { .. })));
}
