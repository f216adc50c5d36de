//! A disk that remembers how it came to be, so that it can lose what a power cut may lose.
//!
//! Every change is a step of a trace. [`Trace::image`] is what could be found after a crash
//! behind any step: what was synced is there; of the rest, what the caller lets survive. Names
//! become durable in order, as on a journaling file system. Writes do not. Syncs can be held up,
//! and so can whoever makes, opens or removes a file; and any single read can fail.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use super::medium::{Medium, MediumFile};

/// All files by name.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// A directory in memory. Clones are the same directory.
#[derive(Clone, Default)]
pub(crate) struct Model(Arc<(Mutex<Inner>, Condvar)>);

#[derive(Default)]
struct Inner {
    /// Whether the directory has its name.
    named: bool,
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
    steps: Vec<Step>,
    /// From this step on, every change fails.
    fail_from: Option<usize>,
    reads: usize,
    /// This read fails, and no other.
    fail_read: Option<usize>,
    /// Syncs of files wait.
    held_up: bool,
    /// Whoever makes, opens or removes a file waits.
    names_held_up: bool,
    /// These files.
    hanging: Vec<String>,
}

/// One change of the disk.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create {
        name: String,
        file: usize,
        bytes: Vec<u8>,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    SyncNames,
    /// The directory gets its name.
    Publish,
    SyncPublished,
    Write {
        file: usize,
        offset: u64,
        bytes: Vec<u8>,
    },
    SyncFile {
        file: usize,
    },
    /// Writes since the last sync stay visible but will not reach the disk by a later sync, as
    /// on hosts that take a failed page for clean.
    SyncFailed {
        file: usize,
    },
}

impl Step {
    /// Whether a sync of that file succeeded, if this is one.
    fn syncs(&self, written: usize) -> Option<bool> {
        match self {
            Self::SyncFile { file } if *file == written => Some(true),
            Self::SyncFailed { file } if *file == written => Some(false),
            _ => None,
        }
    }
}

/// What became of a disk, step by step.
pub(crate) struct Trace(pub(crate) Vec<Step>);

impl Model {
    /// A disk with these files, all durable, in a directory that has its name.
    pub(crate) fn holding(image: &Image) -> Self {
        Self::left(image, true)
    }

    /// A disk with these files, all durable.
    pub(crate) fn left(image: &Image, named: bool) -> Self {
        let model = Self::default();
        let mut inner = model.inner();
        inner.named = named;
        if named {
            inner.steps.extend([Step::Publish, Step::SyncPublished]);
        }
        for (name, bytes) in image {
            let (file, bytes) = (inner.files.len(), bytes.clone());
            inner.files.push(bytes.clone());
            inner.names.insert(name.clone(), file);
            inner.steps.push(Step::Create { name: name.clone(), file, bytes });
            inner.steps.push(Step::SyncFile { file });
        }
        inner.steps.push(Step::SyncNames);
        drop(inner);
        model
    }

    /// Lets the change after `steps` more, and all later ones, fail.
    pub(crate) fn fail_after(&self, steps: usize) {
        let mut inner = self.inner();
        inner.fail_from = Some(inner.steps.len() + steps);
    }

    /// Lets changes succeed again.
    pub(crate) fn heal(&self) {
        self.inner().fail_from = None;
    }

    /// Lets one read fail: the one after `reads` more.
    pub(crate) fn fail_read_after(&self, reads: usize) {
        let mut inner = self.inner();
        inner.fail_read = Some(inner.reads + reads);
    }

    /// How many reads there were.
    pub(crate) fn reads(&self) -> usize {
        self.inner().reads
    }

    /// Lets syncs hang, or go on.
    pub(crate) fn hold_up(&self, held_up: bool) {
        self.inner().held_up = held_up;
        self.0.1.notify_all();
    }

    /// Lets whoever makes, opens or removes a file hang, or go on.
    pub(crate) fn hold_up_names(&self, held_up: bool) {
        self.inner().names_held_up = held_up;
        self.0.1.notify_all();
    }

    /// Whether somebody hangs at a file whose name begins so.
    pub(crate) fn hangs_at(&self, begin: &str) -> bool {
        self.inner().hanging.iter().any(|name| name.starts_with(begin))
    }

    /// How many changes there were.
    pub(crate) fn steps(&self) -> usize {
        self.inner().steps.len()
    }

    pub(crate) fn trace(&self) -> Trace {
        Trace(self.inner().steps.clone())
    }

    /// What is on it, as long as nothing crashes.
    pub(crate) fn image(&self) -> Image {
        let inner = self.inner();
        inner.names.iter().map(|(name, file)| (name.clone(), inner.files[*file].clone())).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.0.lock().expect("no test panics while it holds the model")
    }

    /// Once syncs do not hang any more.
    fn released(&self) -> MutexGuard<'_, Inner> {
        let waited = self.0.1.wait_timeout_while(self.inner(), HELD_UP_MAX, |inner| inner.held_up);
        let (inner, bound) = waited.expect("no test panics while it holds the model");
        assert!(!bound.timed_out(), "nobody lets the model go on");
        inner
    }

    /// Waits until names are not held up any more.
    fn pass(&self, name: &str) {
        let mut inner = self.inner();
        inner.hanging.push(name.into());
        let holds = |inner: &mut Inner| inner.names_held_up;
        let waited = self.0.1.wait_timeout_while(inner, HELD_UP_MAX, holds);
        let (mut inner, bound) = waited.expect("no test panics while it holds the model");
        inner.hanging.retain(|hanging| hanging != name);
        drop(inner);
        assert!(!bound.timed_out(), "nobody lets the model go on");
    }

    /// Counts a read, which may be the one that fails.
    fn read(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.inner();
        inner.reads += 1;
        if inner.fail_read == Some(inner.reads - 1) {
            return Err(io::Error::other("the model cannot be read"));
        }
        Ok(inner)
    }
}

impl Inner {
    fn step(&mut self, step: Step) -> io::Result<()> {
        if self.fail_from.is_some_and(|from| self.steps.len() >= from) {
            return Err(io::Error::other("the model fails"));
        }
        self.steps.push(step);
        Ok(())
    }
}

impl Trace {
    /// Whether a crash before step `end` finds the directory under its name; what is not synced
    /// by then if it `survives`.
    pub(crate) fn is_named(&self, end: usize, survives: bool) -> bool {
        let has = |wanted: fn(&Step) -> bool| self.0[..end].iter().any(wanted);
        has(|step| matches!(step, Step::SyncPublished))
            || survives && has(|step| matches!(step, Step::Publish))
    }

    /// What a crash before step `end` may leave. `survives` is asked about each write that is
    /// not synced by then, with its step and its length, for the part of it that survives; and
    /// `names` says how many changes of names survive beyond those that are synced.
    pub(crate) fn image(
        &self,
        end: usize,
        names: usize,
        mut survives: impl FnMut(usize, usize) -> Range<usize>,
    ) -> Image {
        self.left(end, names, |at, _, length| vec![survives(at, length)])
    }

    /// The same, but of a write several parts may survive; asked with its place in its file and
    /// its length.
    pub(crate) fn torn_image(
        &self,
        end: usize,
        names: usize,
        mut survives: impl FnMut(u64, usize) -> Vec<Range<usize>>,
    ) -> Image {
        self.left(end, names, |_, offset, length| survives(offset, length))
    }

    fn left(
        &self,
        end: usize,
        names: usize,
        mut survives: impl FnMut(usize, u64, usize) -> Vec<Range<usize>>,
    ) -> Image {
        let steps = &self.0[..end];
        let synced_names = steps.iter().rposition(|step| matches!(step, Step::SyncNames));
        let mut lost = names;
        let mut found = BTreeMap::new();
        let mut files: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            let changes_names =
                matches!(step, Step::Create { .. } | Step::Rename { .. } | Step::Remove { .. });
            if let Step::Create { file, bytes, .. } = step {
                files.insert(*file, bytes.clone());
            }
            if changes_names && synced_names.is_none_or(|synced| at > synced) {
                if lost == 0 {
                    continue;
                }
                lost -= 1;
            }
            match step {
                Step::Create { name, file, .. } => {
                    found.insert(name.clone(), *file);
                }
                Step::Rename { from, to } => {
                    let file = found.remove(from).expect("a file that exists is renamed");
                    found.insert(to.clone(), file);
                }
                Step::Remove { name } => {
                    found.remove(name);
                }
                Step::Write { file, offset, bytes } => {
                    let synced = steps[at..].iter().find_map(|step| step.syncs(*file));
                    let whole = 0..bytes.len();
                    let parts = match synced {
                        Some(true) => vec![whole],
                        Some(false) | None => survives(at, *offset, bytes.len()),
                    };
                    let target = files.get_mut(file).expect("a file that exists is written");
                    for part in parts {
                        put(target, *offset as usize + part.start, &bytes[part]);
                    }
                }
                Step::SyncNames
                | Step::Publish
                | Step::SyncPublished
                | Step::SyncFile { .. }
                | Step::SyncFailed { .. } => {}
            }
        }
        found.into_iter().map(|(name, file)| (name, files[&file].clone())).collect()
    }
}

impl Medium for Model {
    fn path(&self) -> &Path {
        Path::new("model")
    }

    fn is_named(&self) -> bool {
        self.inner().named
    }

    fn publish(&mut self) -> io::Result<()> {
        let mut inner = self.inner();
        if !inner.named {
            inner.step(Step::Publish)?;
            inner.named = true;
        }
        inner.step(Step::SyncPublished)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.read()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Box<dyn MediumFile>> {
        self.pass(name);
        let mut inner = self.inner();
        let (file, bytes) = (inner.files.len(), vec![0; size_bytes as usize]);
        inner.step(Step::Create { name: name.into(), file, bytes: bytes.clone() })?;
        inner.files.push(bytes);
        inner.names.insert(name.into(), file);
        Ok(Box::new(ModelFile { model: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        self.pass(name);
        let file = *self.read()?.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(ModelFile { model: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.step(Step::Rename { from: from.into(), to: to.into() })?;
        let file = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.pass(name);
        let mut inner = self.inner();
        inner.step(Step::Remove { name: name.into() })?;
        inner.names.remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.released().step(Step::SyncNames)
    }
}

struct ModelFile {
    model: Model,
    file: usize,
}

impl MediumFile for ModelFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.model.read()?.files[self.file].len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inner = self.model.read()?;
        let bytes = inner.files[self.file].get(offset as usize..).unwrap_or_default();
        let bytes = bytes.get(..buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.model.inner();
        inner.step(Step::Write { file: self.file, offset, bytes: bytes.into() })?;
        put(&mut inner.files[self.file], offset as usize, bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.model.released();
        let synced = inner.step(Step::SyncFile { file: self.file });
        if synced.is_err() {
            inner.steps.push(Step::SyncFailed { file: self.file });
        }
        synced
    }
}

/// Writes into a file, which grows if it must.
fn put(file: &mut Vec<u8>, start: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = start + bytes.len();
    file.resize(file.len().max(end), 0);
    file[start..end].copy_from_slice(bytes);
}

const HELD_UP_MAX: Duration = Duration::from_secs(20);
