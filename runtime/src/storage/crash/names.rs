//! Disks that fail at some step of a store's life and work again afterwards.
//!
//! The process goes on and opens the store anew, with whatever the page cache shows of it: also
//! names whose sync failed. The rule: what an opening has believed no later crash takes back.

use std::io::Write as _;

use super::{Act, Life, SEGMENT_BYTES, append, compacting, elect, open_image, perform};
use crate::storage::{
    Rest, SnapshotWriter, StorageError,
    disk::open_stream,
    model::Model,
    samples::{owner, position},
    snapshot::tests as snapshots,
    stream::Stream,
};

/// As `append`, on a disk that may fail.
fn dare(stream: &mut Stream, act: &Act) -> Result<(), StorageError> {
    let (end, rest) = match act {
        Act::Snapshot(term, index) => (position(*term, *index), Rest::Stays),
        Act::Install(term, index, rest) => (position(*term, *index), *rest),
        _ => return append(stream, act),
    };
    let mut writer = SnapshotWriter::begin(stream.shelf().draft()?, snapshots::head(end))?;
    writer.write_all(&[7; 500]).expect("the first chunk is in memory until it is full");
    stream.adopt(&mut writer.finish()?, rest).map(drop)
}

/// Lives until the disk fails.
fn live(model: &Model) -> Result<(), StorageError> {
    let (mut stream, _) = open_stream(Box::new(model.clone()), owner(7), SEGMENT_BYTES)?;
    for (turn, group) in compacting().iter().enumerate() {
        group.iter().try_for_each(|act| dare(&mut stream, act))?;
        stream.commit()?;
        if turn % 3 == 2 {
            stream.seal()?;
            stream.prepare()?;
        }
    }
    Ok(())
}

#[test]
fn names_that_a_failed_sync_left_in_doubt_are_durable_before_anything_rests_on_them() {
    let mut failures = 0;
    for healthy_steps in 0..Life::compact(false).model.steps() {
        let model = Model::default();
        model.fail_after(healthy_steps);
        failures += usize::from(live(&model).is_err());
        model.heal();
        let opened = open_stream(Box::new(model.clone()), owner(7), SEGMENT_BYTES);
        let (mut stream, mut contents) =
            opened.unwrap_or_else(|error| panic!("{healthy_steps} steps: {error}"));
        let act = elect(contents.hard_state.term.next().0, None);
        perform(&mut contents, &act);
        append(&mut stream, &act).and_then(|()| stream.commit()).expect("the model works again");
        let trace = model.trace();
        let after_crash = open_image(&trace.image(trace.0.len(), 0, |_, _| 0..0))
            .unwrap_or_else(|error| panic!("{healthy_steps} steps, then a crash: {error}"));
        assert_eq!(after_crash, contents, "{healthy_steps} steps: believed and then lost");
    }
    assert!(failures > 100, "only {failures} disks failed");
}
