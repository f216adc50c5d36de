//! How a store comes into being: the marker first, by another name, and the whole store last.
//!
//! In order, each durable before the next: the marker as `store.new` in a directory beside the
//! place; the directory moved into its place; the first segment; the marker's own name. A crash
//! between any two leaves nothing in the place, or a directory that says itself that it was never
//! finished. Nothing is handed out before the last step, so nothing was promised by then.
//!
//! Invariant: a directory in its place that holds no marker of either name is not ours.

use super::{
    Owner, StorageError, marker,
    medium::Medium,
    segment::{self, HEAD_BYTES, Segment},
    stream::{Past, Stream},
    window::Window,
};

/// Begins a store beside its place. What an earlier attempt left there is replaced.
pub(crate) fn begin(medium: &dyn Medium, owner: Owner) -> Result<(), StorageError> {
    if let Some(found) = names(medium)?.into_iter().find(|name| name != marker::BEGUN) {
        return Err(StorageError::Unmarked { path: medium.path().into(), found });
    }
    marker::begin(medium, owner)
}

/// Finishes what was begun, now or before a crash; refuses any other directory.
pub(crate) fn finish(
    mut medium: Box<dyn Medium>,
    owner: Owner,
    segment_bytes: u64,
) -> Result<Stream, StorageError> {
    refuse_others(&*medium)?;
    let begun = marker::read(&*medium, marker::BEGUN, owner)?;
    // Also if it is there already: whoever moved it may have died before that was durable.
    medium.publish().map_err(StorageError::io(medium.path(), "put in its place"))?;
    let first = Segment::create(&*medium, begun.fresh, 0, segment_bytes)?;
    marker::finish(&*medium)?;
    let past = Past::none(begun.fresh);
    Ok(Stream::new(medium.into(), begun.fresh, segment_bytes, (first, None), past))
}

/// A store that must exist is not one that was only begun.
pub(crate) fn refuse_unfinished(medium: &dyn Medium) -> Result<(), StorageError> {
    let names = names(medium)?;
    let holds = |wanted: &str| names.iter().any(|name| name == wanted);
    if holds(marker::NAME) || !holds(marker::BEGUN) {
        return Ok(());
    }
    let path = medium.path().join(marker::NAME);
    Err(StorageError::Missing { path, why: UNFINISHED.into() })
}

/// Beside the marker that begins a store there is at most what a creation that was cut short may
/// leave: its first segment, in which nothing was ever written.
fn refuse_others(medium: &dyn Medium) -> Result<(), StorageError> {
    let names = names(medium)?;
    let path = medium.path().to_path_buf();
    let unmarked = |found: &str| StorageError::Unmarked { path: path.clone(), found: found.into() };
    let Some(least) = names.first() else { return Err(StorageError::Empty { path }) };
    if !names.iter().any(|name| name == marker::BEGUN) {
        return Err(unmarked(least));
    }
    let first = segment::name(0);
    let unfinished = format!("{first}{}", segment::TEMPORARY);
    let known = [marker::BEGUN, &first, &unfinished];
    if let Some(other) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(unmarked(other));
    }
    if names.contains(&first) {
        let (segment, _) = Segment::open(medium, 0)?;
        if Window::new(&segment).first_written(HEAD_BYTES)?.is_some() {
            return Err(unmarked(&first));
        }
    }
    Ok(())
}

/// In order, so that the same directory is always refused for the same file.
fn names(medium: &dyn Medium) -> Result<Vec<String>, StorageError> {
    let mut names = medium.list().map_err(StorageError::io(medium.path(), "list the directory"))?;
    names.sort_unstable();
    Ok(names)
}

const UNFINISHED: &str = "the store was begun and never finished, so nothing was ever promised \
                          on it; `Disk::at` finishes it";

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Contents,
            crash::{Life, SEGMENT_BYTES, open_image},
            disk::open_stream,
            model::{Image, Model},
            samples::owner,
        },
        *,
    };

    fn open(model: &Model) -> Result<Contents, StorageError> {
        open_stream(Box::new(model.clone()), owner(7), SEGMENT_BYTES).map(|(_, contents)| contents)
    }

    /// The names in a new store.
    fn created() -> Image {
        let model = Model::default();
        open(&model).expect("nothing is there");
        model.image()
    }

    #[test]
    fn a_creation_that_fails_at_any_step_is_gone_on_with_and_then_lasts() {
        let whole = Model::default();
        open(&whole).expect("nothing is there");
        for healthy_steps in 0..whole.steps() {
            let model = Model::default();
            model.fail_after(healthy_steps);
            let error = open(&model).expect_err("a step failed").to_string();
            assert!(error.contains("model"), "after {healthy_steps} steps: {error}");
            model.heal();
            let contents = open(&model);
            let contents = contents.unwrap_or_else(|error| panic!("{healthy_steps}: {error}"));
            assert_eq!(contents, Contents::default());
            assert_eq!(model.image(), whole.image());
            let trace = model.trace();
            let last = trace.0.len();
            assert!(trace.is_named(last, false), "{healthy_steps}: the place is not durable");
            open_image(&trace.image(last, 0, |_, _| 0..0)).expect("all of it is durable");
        }
    }

    #[test]
    fn an_empty_directory_in_its_place_is_refused() {
        let error = open(&Model::holding(&Image::new())).expect_err("wiped, or not mounted");
        assert!(matches!(error, StorageError::Empty { .. }), "{error}");
        let error = error.to_string();
        assert!(error.starts_with("model is an empty directory"), "{error}");
    }

    #[test]
    fn a_store_that_lost_its_marker_is_refused_whatever_else_is_left_of_it() {
        let lived = Life::lead(true).model.image();
        for image in [created(), lived] {
            let files: Vec<&String> = image.keys().filter(|name| *name != marker::NAME).collect();
            for kept in 1..=files.len() {
                let kept = files[..kept].iter().map(|name| ((*name).clone(), image[*name].clone()));
                let error = open_image(&kept.collect()).expect_err("no marker");
                assert!(matches!(error, StorageError::Unmarked { .. }), "{error}");
            }
        }
    }

    #[test]
    fn a_store_that_was_used_is_never_taken_for_an_unfinished_one() {
        let mut image = Life::lead(true).model.image();
        let marker = image.remove(marker::NAME).expect("every store has it");
        image.insert(marker::BEGUN.into(), marker.clone());
        let error = open_image(&image).expect_err("several segments");
        assert!(matches!(error, StorageError::Unmarked { .. }), "{error}");
        image.retain(|name, _| [marker::BEGUN, &segment::name(0)].contains(&name.as_str()));
        let error = open_image(&image).expect_err("one segment with records").to_string();
        assert!(error.contains(&segment::name(0)), "{error}");
    }

    #[test]
    fn what_is_beside_the_place_and_not_ours_is_refused() {
        let letter = Image::from([("letter".to_owned(), b"dear".to_vec())]);
        let error = open(&Model::left(&letter, false)).expect_err("not ours").to_string();
        assert!(error.contains("letter"), "{error}");
    }

    #[test]
    fn the_marker_of_an_unfinished_store_is_whole_and_ours_or_refused() {
        let mut image = created();
        let marker = image.remove(marker::NAME).expect("every store has it");
        for length in 0..marker.len() {
            let begun = Image::from([(marker::BEGUN.to_owned(), marker[..length].to_vec())]);
            let error = open_image(&begun).expect_err("cut").to_string();
            assert!(error.contains(marker::BEGUN), "cut to {length}: {error}");
        }
        let model = Model::holding(&Image::from([(marker::BEGUN.to_owned(), marker.clone())]));
        let stranger = open_stream(Box::new(model), owner(8), SEGMENT_BYTES);
        let error = stranger.err().expect("another's");
        assert!(matches!(error, StorageError::Foreign { .. }), "{error}");

        let model = Model::holding(&Image::from([(marker::BEGUN.to_owned(), marker)]));
        let error = refuse_unfinished(&model).expect_err("never finished").to_string();
        assert!(error.contains("never finished"), "{error}");
        open(&model).expect("finished now");
        refuse_unfinished(&model).expect("a store");
    }
}
