//! Where a store keeps snapshots: the one that its log starts after, and drafts.
//!
//! The near end for those who write and read them; which of them counts the store decides.
//! Invariants: nobody waits for the place while another waits for the disk; and once it is said
//! that the shelf is closed nothing of the store's directory is held open through it, so that the
//! store can be opened again.

use std::{
    ops::Deref,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::{
    StorageError,
    medium::Medium,
    snapshot::{self, Draft, SnapshotFile, SnapshotId, Written},
};

/// See above. Clones are the same shelf.
#[derive(Clone)]
pub struct Shelf(Arc<Mutex<Place>>);

struct Place {
    path: PathBuf,
    /// `None` once the store is closed.
    medium: Option<Arc<dyn Medium>>,
    current: Option<SnapshotId>,
    drafts_ever: u64,
    /// Has abandoned drafts taken away by whoever may wait for the disk.
    sweeper: Option<Sweeper>,
    visits: usize,
    /// Waits for the last visit to end.
    closer: Waker,
}

/// Is told the name of each.
type Sweeper = Arc<dyn Fn(String) + Send + Sync>;

/// Somebody is at work in the directory.
struct Visit {
    shelf: Shelf,
    medium: Option<Arc<dyn Medium>>,
}

impl Shelf {
    pub(crate) fn new(medium: Arc<dyn Medium>, current: Option<SnapshotId>) -> Self {
        let path = medium.path().to_path_buf();
        let closer = Waker::noop().clone();
        Self(Arc::new(Mutex::new(Place {
            path,
            medium: Some(medium),
            current,
            drafts_ever: 0,
            sweeper: None,
            visits: 0,
            closer,
        })))
    }

    /// Begins a snapshot.
    ///
    /// # Errors
    /// Of the disk, and a store that is closed.
    pub fn draft(&self) -> Result<Draft, StorageError> {
        let visit = self.visit()?;
        let (name, path) = self.place().next_draft();
        let file = visit.create(&name, 0).map_err(StorageError::io(&path, "create"))?;
        Ok(Draft::new(self.clone(), name, path, file))
    }

    /// Which snapshot the log starts after, if there is one.
    pub fn current(&self) -> Option<SnapshotId> {
        self.place().current
    }

    /// The snapshot that the log starts after. It stays readable when another takes its place.
    ///
    /// # Errors
    /// Of the disk, a store that is closed, and a file that is not that snapshot.
    pub fn open(&self) -> Result<Option<SnapshotFile>, StorageError> {
        loop {
            let Some(current) = self.current() else { return Ok(None) };
            let visit = self.visit()?;
            match open(&*visit, current) {
                // Another has taken its place meanwhile, and it is gone.
                Err(StorageError::Missing { .. }) if self.current() != Some(current) => {}
                opened => return opened.map(Some),
            }
        }
    }

    /// Gives a snapshot its name, durably; whether it counts is not decided by that.
    pub(crate) fn put(&self, written: &mut Written) -> Result<(), StorageError> {
        let visit = self.visit()?;
        let directory = self.place().path.clone();
        let name = snapshot::name(written.id().position);
        let path = directory.join(&name);
        visit.rename(written.name(), &name).map_err(StorageError::io(path, "name"))?;
        written.placed();
        visit.sync().map_err(StorageError::io(directory, "sync the directory"))
    }

    /// From now on this one counts, and none before it.
    pub(crate) fn show(&self, current: Option<SnapshotId>) {
        self.place().current = current;
    }

    /// From now on nobody who abandons a draft waits until it is gone: it is left to this.
    pub(crate) fn sweep_by(&self, sweeper: impl Fn(String) + Send + Sync + 'static) {
        self.place().sweeper = Some(Arc::new(sweeper));
    }

    /// Has an abandoned draft taken away, at once where nobody else does it. What cannot be taken
    /// away is for the next opening.
    pub(crate) fn discard(&self, name: &str) {
        // Called without the place: it may have to wait.
        let sweeper = self.place().sweeper.clone();
        match sweeper {
            Some(sweeper) => sweeper(name.into()),
            None => self.sweep(name),
        }
    }

    /// Takes an abandoned draft away.
    pub(crate) fn sweep(&self, name: &str) {
        if let Ok(visit) = self.visit()
            && let Err(error) = visit.remove(name)
        {
            tracing::debug!(name, %error, "a draft is left for the next opening");
        }
    }

    /// Lets go of the directory, once nobody is at work in it any more; nobody new comes in.
    pub(crate) fn close(&self) {
        // Dropped without the place, for the last one closes the directory.
        let medium = self.place().medium.take();
        drop(medium);
    }

    /// Closes the shelf, and says when nobody is at work in the directory any more.
    pub(crate) fn poll_closed(&self, context: &Context<'_>) -> Poll<()> {
        self.close();
        let mut place = self.place();
        if place.visits == 0 {
            return Poll::Ready(());
        }
        place.closer.clone_from(context.waker());
        Poll::Pending
    }

    fn visit(&self) -> Result<Visit, StorageError> {
        let mut place = self.place();
        let stopped = || StorageError::Stopped { path: place.path.clone() };
        let medium = place.medium.clone().ok_or_else(stopped)?;
        place.visits += 1;
        Ok(Visit { shelf: self.clone(), medium: Some(medium) })
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        // Each change of the place is complete in itself; a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The name of the next draft, and where it is.
    fn next_draft(&mut self) -> (String, PathBuf) {
        let name = snapshot::draft_name(self.drafts_ever);
        self.drafts_ever += 1;
        let path = self.path.join(&name);
        (name, path)
    }
}

impl Deref for Visit {
    type Target = dyn Medium;

    fn deref(&self) -> &Self::Target {
        self.medium.as_deref().expect("it is there until the visit ends")
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // First, for whoever closes the shelf counts on it; and without the place, as there.
        drop(self.medium.take());
        let mut place = self.shelf.place();
        place.visits -= 1;
        if place.visits == 0 {
            let closer = place.closer.clone();
            drop(place);
            closer.wake();
        }
    }
}

/// Opens the file of that snapshot, and no other.
pub(crate) fn open(medium: &dyn Medium, wanted: SnapshotId) -> Result<SnapshotFile, StorageError> {
    let name = snapshot::name(wanted.position);
    let path = medium.path().join(&name);
    let file = match medium.open(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let why = "the log starts after it".into();
            return Err(StorageError::Missing { path, why });
        }
        Err(error) => return Err(StorageError::io(path, "open")(error)),
    };
    let file = SnapshotFile::open(path, file)?;
    if file.id() != wanted {
        let found = file.id();
        let what = format!(
            "it is the snapshot at {} of {} bytes, not that at {} of {} which the log starts after",
            found.position, found.bytes, wanted.position, wanted.bytes
        );
        return Err(StorageError::corrupt(file.path(), 0, what));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::storage::{model::Model, samples::position, snapshot::tests as snapshots};

    #[test]
    fn whoever_opens_a_snapshot_that_gives_way_to_another_gets_the_other() {
        let model = Model::default();
        let shelf = Shelf::new(Arc::new(model.clone()), None);
        let [mut old, mut new] =
            [3, 9].map(|index| snapshots::written(&shelf, position(1, index), b"body"));
        for written in [&mut old, &mut new] {
            shelf.put(written).expect("the model works");
        }
        shelf.show(Some(old.id()));
        model.hold_up_names(true);
        let reader = shelf.clone();
        let reading = thread::spawn(move || reader.open());
        while !model.hangs_at("") {
            thread::yield_now();
        }
        shelf.show(Some(new.id()));
        model.rename(&snapshot::name(old.id().position), "gone").expect("the model works");
        model.hold_up_names(false);
        let opened = reading.join().expect("it does not panic").expect("the model works");
        assert_eq!(opened.map(|file| file.id()), Some(new.id()));
        model.rename(&snapshot::name(new.id().position), "gone too").expect("the model works");
        let error = shelf.open().err().expect("nothing takes its place");
        assert!(matches!(error, StorageError::Missing { .. }), "{error}");
    }
}
