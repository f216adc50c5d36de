//! Garbage in stored files: flipped, cut and grown; and well-formed records that say what no
//! store says, with checksums that fit.
//!
//! The rule: a store opens, or refuses and names a file. It never panics, reads each file a few
//! times at most, and takes memory by what is there, not by what is announced.

use std::collections::BTreeMap;

use fuzz::{Draws, Target};
use raft::StoreId;

use super::{
    StorageError,
    crash::{Life, SEGMENT_BYTES},
    disk::open_stream,
    format::{HEADER_BYTES, Header, Kind, Place},
    marker,
    model::{Image, Model},
    samples::owner,
    segment::{self, HEAD_BYTES},
};

const COMMAND: &str = "cargo test -p runtime --lib garbage";

/// Opens whatever it is; false if it is refused.
fn open(image: &Image) -> bool {
    let model = Model::holding(image);
    let files = image.len();
    let opened = open_stream(Box::new(model.clone()), owner(7), SEGMENT_BYTES);
    if let Err(error) = &opened {
        assert!(!matches!(error, StorageError::Io { .. }), "the model can be read: {error}");
        assert!(error.to_string().contains("model"), "it names no file: {error}");
    }
    let reads_max = READS_PER_FILE_MAX * (files + 1);
    assert!(model.reads() <= reads_max, "{} reads of {files} files", model.reads());
    opened.is_ok()
}

fn images() -> Vec<Image> {
    [true, false].map(|sealed| Life::lead(sealed).model.image()).into()
}

#[test]
fn garbage_in_any_file_of_a_store_is_refused_by_name() {
    let mut images = images();
    images.extend([true, false].map(|sealed| Life::compact(sealed).model.image()));
    let mut opened = [0, 0];
    let target = Target {
        name: "stores",
        command: COMMAND,
        inputs: 5_000,
        // The model holds each file twice, and the reader a window over one.
        heap_bytes_max: (1 << 20, 16),
    };
    let is_full = target.throw(
        [],
        |draws| {
            let mut image = draws.one_of(&images).clone();
            let others: Vec<Vec<u8>> = image.values().cloned().collect();
            for _ in 0..=draws.below(3) {
                let names: Vec<String> = image.keys().cloned().collect();
                let name = draws.one_of(&names).clone();
                spoil(&mut image, &name, draws, &others);
                if image.is_empty() {
                    break;
                }
            }
            image
        },
        |image| opened[usize::from(open(image))] += 1,
    );
    assert!(!is_full || opened.iter().all(|count| *count > 100), "refused and opened: {opened:?}");
}

fn spoil(image: &mut Image, name: &str, draws: &mut Draws, others: &[Vec<u8>]) {
    let Some(mut bytes) = image.remove(name) else { return };
    match draws.below(10) {
        0 => return,
        1 => {
            let names = [
                "store",
                "store.new",
                "base",
                "0000000000000000.log",
                "0000000000000009.log",
                "0000000000000009.snapshot",
                "x",
            ];
            image.insert((*draws.one_of(&names)).into(), bytes);
            return;
        }
        // Where the records are: most of a file is zeros.
        2..8 => {
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let size = bytes.len();
            bytes.truncate(written);
            draws.garble(&mut bytes, others, &[]);
            bytes.resize(size, 0);
        }
        _ => draws.garble(&mut bytes, others, &[]),
    }
    image.insert(name.into(), bytes);
}

/// A record as it stands in a segment.
#[derive(Clone)]
struct Record {
    header: Header,
    body: Vec<u8>,
}

#[test]
fn records_that_say_what_no_store_says_are_refused_by_name() {
    let (images, mut opened) = (images(), [0, 0]);
    let store = owner(7).fresh;
    let segments: Vec<BTreeMap<u64, Vec<Record>>> =
        images.iter().map(|image| segments(image, store)).collect();
    let bodies: Vec<Vec<u8>> = segments
        .iter()
        .flat_map(BTreeMap::values)
        .flatten()
        .map(|record| record.body.clone())
        .collect();
    let target =
        Target { name: "records", command: COMMAND, inputs: 5_000, heap_bytes_max: (2 << 20, 16) };
    let is_full = target.throw(
        [],
        |draws| {
            let place = draws.below(images.len());
            let mut segments = segments[place].clone();
            for _ in 0..=draws.below(2) {
                let number = draws.below(segments.len()) as u64;
                if let Some(records) = segments.get_mut(&number) {
                    forge(records, draws, &bodies);
                }
            }
            written(&images[place], store, &segments, draws.once_in(2))
        },
        |image| opened[usize::from(open(image))] += 1,
    );
    assert!(!is_full || opened.iter().all(|count| *count > 100), "refused and opened: {opened:?}");
}

/// Reads the records of all segments.
fn segments(image: &Image, store: StoreId) -> BTreeMap<u64, Vec<Record>> {
    let numbered = image.iter().filter_map(|(name, bytes)| Some((segment::number(name)?, bytes)));
    let read = |(number, bytes): (u64, &Vec<u8>)| {
        let (mut offset, mut records) = (HEAD_BYTES as usize, Vec::new());
        let place = |offset| Place { store, segment: number, offset: offset as u64 };
        while let Some((header, _)) = Header::decode(&bytes[offset..], place(offset)) {
            let start = offset + HEADER_BYTES;
            offset = start + header.padded_bytes() as usize;
            let body = bytes[start..start + header.body_bytes as usize].to_vec();
            records.push(Record { header, body });
        }
        (number, records)
    };
    numbered.map(read).collect()
}

fn forge(records: &mut Vec<Record>, draws: &mut Draws, bodies: &[Vec<u8>]) {
    let at = draws.below(records.len());
    let Some(record) = records.get_mut(at) else { return };
    let kinds = [Kind::Founding, Kind::HardState, Kind::Entries, Kind::Seal, Kind::End];
    match draws.below(8) {
        0 => record.header.kind = *draws.one_of(&kinds),
        1 => record.header.sequence = draws.number() >> draws.below(64),
        2 => record.header.durable = draws.number() >> draws.below(64),
        3 => drop(records.remove(at)),
        4 => {
            let again = record.clone();
            let to = draws.below(records.len() + 1);
            records.insert(to, again);
        }
        _ => draws.garble(&mut record.body, bodies, &[]),
    }
}

/// The image with these records in its segments, as if the store had written them. Sequences
/// count on if they are to be `mended`.
fn written(
    image: &Image,
    store: StoreId,
    segments: &BTreeMap<u64, Vec<Record>>,
    mended: bool,
) -> Image {
    let mut image = image.clone();
    let (mut previous, mut sequence) = (0, 0);
    for (number, records) in segments {
        let Some(file) = image.get_mut(&segment::name(*number)) else { continue };
        let size = file.len();
        file.truncate(HEAD_BYTES as usize);
        for Record { header, body } in records {
            let mut body = body.clone();
            let body_bytes = body.len() as u32;
            body.resize(body.len().next_multiple_of(8), 0);
            sequence += 1;
            let mut header = Header { body_bytes, previous, ..*header };
            header.body_checksum = crc32fast::hash(&body);
            if mended {
                header.sequence = sequence;
                header.durable = header.durable.min(sequence - 1);
            }
            let place = Place { store, segment: *number, offset: file.len() as u64 };
            let (bytes, checksum) = header.encode(place);
            file.extend_from_slice(&bytes);
            file.extend_from_slice(&body);
            previous = checksum;
        }
        file.resize(size, 0);
    }
    image
}

#[test]
fn what_is_forged_without_a_change_is_the_store_itself() {
    for image in images() {
        let store = owner(7).fresh;
        let segments = segments(&image, store);
        assert!(segments.values().map(Vec::len).sum::<usize>() > 20, "records are found");
        assert!(written(&image, store, &segments, false) == image, "not the same bytes");
        assert!(image.contains_key(marker::NAME));
    }
}

const READS_PER_FILE_MAX: usize = 64;
