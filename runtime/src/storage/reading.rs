//! Every read of an opening that can fail.
//!
//! The rule: a store that cannot be read is refused by name, and is afterwards what it was; it
//! never starts empty.

use super::{
    Contents, StorageError,
    crash::{Life, SEGMENT_BYTES},
    disk::open_stream,
    model::{Image, Model},
    samples::owner,
};

fn open(model: &Model) -> Result<Contents, StorageError> {
    open_stream(Box::new(model.clone()), owner(7), SEGMENT_BYTES).map(|(_, contents)| contents)
}

/// Opens the image with each of its reads failing in turn, and then whole; yields how many
/// there were.
fn fail_each(image: &Image, named: bool, story: &str) -> usize {
    let whole = Model::left(image, named);
    let expected = open(&whole).unwrap_or_else(|error| panic!("{story}: {error}"));
    for read in 0..whole.reads() {
        let model = Model::left(image, named);
        model.fail_read_after(read);
        let error = open(&model).expect_err("a read failed");
        let said = error.to_string();
        let named = matches!(error, StorageError::Io { .. }) && said.contains(" model");
        assert!(named && said.ends_with("the model cannot be read"), "{story}, {read}: {said}");
        let contents = open(&model).unwrap_or_else(|error| panic!("{story}, {read}: {error}"));
        assert_eq!(contents, expected, "{story}, read {read} left something else");
    }
    whole.reads()
}

#[test]
fn a_whole_store_that_cannot_be_read_is_refused_by_name_and_keeps_what_it_holds() {
    for sealed in [true, false] {
        for life in [Life::lead(sealed), Life::compact(sealed)] {
            let reads = fail_each(&life.model.image(), true, "whole");
            assert!(reads > 20, "only {reads} reads");
        }
    }
}

#[test]
fn what_a_crash_left_and_cannot_be_read_is_refused_by_name_and_loses_no_more() {
    let reads: usize = [Life::lead(true), Life::compact(true)].iter().map(fail_after_each).sum();
    assert!(reads > 500, "only {reads} reads");
}

/// How many reads failed after a crash before each step.
fn fail_after_each(life: &Life) -> usize {
    let (trace, mut reads) = (life.model.trace(), 0);
    for end in 0..=trace.0.len() {
        let image =
            trace.image(end, 9, |at, length| if at % 2 == 0 { 0..length } else { 0..length / 2 });
        reads += fail_each(&image, trace.is_named(end, true), &format!("before step {end}"));
    }
    reads
}
