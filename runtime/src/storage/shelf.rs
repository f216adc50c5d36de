//! Where a store keeps snapshots: the one that its log starts after, and drafts.
//!
//! The near end for those who write and read them; which of them counts the store decides.
//! Invariant: once the shelf is closed nothing of the store's directory is held open through it,
//! so that the store can be opened again.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
}

impl Shelf {
    pub(crate) fn new(medium: Arc<dyn Medium>, current: Option<SnapshotId>) -> Self {
        let path = medium.path().to_path_buf();
        let place = Place { path, medium: Some(medium), current, drafts_ever: 0 };
        Self(Arc::new(Mutex::new(place)))
    }

    /// Begins a snapshot.
    ///
    /// # Errors
    /// Of the disk, and a store that is closed.
    pub fn draft(&self) -> Result<Draft, StorageError> {
        let mut place = self.place();
        let medium = place.medium()?;
        let name = snapshot::draft_name(place.drafts_ever);
        let path = place.path.join(&name);
        let file = medium.create(&name, 0).map_err(StorageError::io(&path, "create"))?;
        place.drafts_ever += 1;
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
        let place = self.place();
        let Some(current) = place.current else { return Ok(None) };
        open(&*place.medium()?, current).map(Some)
    }

    /// Gives a snapshot its name, durably; whether it counts is not decided by that.
    pub(crate) fn put(&self, written: &mut Written) -> Result<(), StorageError> {
        // The place is not held meanwhile: a directory that hangs must not hold up who closes the
        // shelf. Only the writer puts, and a store is closed once its writer has ended.
        let (medium, directory) = {
            let place = self.place();
            (place.medium()?, place.path.clone())
        };
        let name = snapshot::name(written.id().position);
        let path = directory.join(&name);
        medium.rename(written.name(), &name).map_err(StorageError::io(path, "name"))?;
        written.placed();
        medium.sync().map_err(StorageError::io(directory, "sync the directory"))
    }

    /// From now on this one counts, and none before it.
    pub(crate) fn show(&self, current: Option<SnapshotId>) {
        self.place().current = current;
    }

    /// Takes an abandoned draft away. What cannot be taken away is for the next opening.
    pub(crate) fn discard(&self, name: &str) {
        if let Ok(medium) = self.place().medium()
            && let Err(error) = medium.remove(name)
        {
            tracing::debug!(name, %error, "a draft is left for the next opening");
        }
    }

    /// Lets go of the directory.
    pub(crate) fn close(&self) {
        self.place().medium = None;
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        // Each change of the place is complete in itself; a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn medium(&self) -> Result<Arc<dyn Medium>, StorageError> {
        let stopped = || StorageError::Stopped { path: self.path.clone() };
        self.medium.clone().ok_or_else(stopped)
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
