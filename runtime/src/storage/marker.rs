//! The file `store`: whose store a directory is.
//!
//! Written first and under another name, by which an unfinished store is known; named last.
//! Without it a directory is no store, and with it never an empty one. Knows nothing of the
//! stream.

use super::{Owner, StorageError, medium::Medium, segment, slip::Slip};

/// The marker's file name.
pub(crate) const NAME: &str = "store";
/// Its name until the store is complete: that of an unfinished file.
pub(crate) const BEGUN: &str = "store.new";

/// Writes the marker of a store that is begun, durably.
pub(crate) fn begin(medium: &dyn Medium, owner: Owner) -> Result<(), StorageError> {
    let bytes = MARKER.encode(&owner).expect("three plain numbers can be encoded");
    segment::write_file(medium, BEGUN, bytes.len() as u64, &bytes)?;
    medium.sync().map_err(StorageError::io(medium.path(), "sync the directory"))
}

/// Names the marker, durably: with it the store exists.
pub(crate) fn finish(medium: &dyn Medium) -> Result<(), StorageError> {
    let path = medium.path().join(NAME);
    medium.rename(BEGUN, NAME).map_err(StorageError::io(path, "name"))?;
    medium.sync().map_err(StorageError::io(medium.path(), "sync the directory"))
}

/// Reads the marker of that name and compares it with who opens the store; yields the owner on
/// record.
pub(crate) fn read(medium: &dyn Medium, name: &str, owner: Owner) -> Result<Owner, StorageError> {
    let stored = self::owner(medium, name)?;
    let path = medium.path().join(name);
    let foreign = |what, found: String, expected: String| {
        Err(StorageError::Foreign { path: path.clone(), what, found, expected })
    };
    if stored.group != owner.group {
        return foreign("group", stored.group.to_string(), owner.group.to_string());
    }
    if stored.peer != owner.peer {
        return foreign("peer", stored.peer.to_string(), owner.peer.to_string());
    }
    Ok(stored)
}

/// The owner that the marker of that name has on record.
pub(crate) fn owner(medium: &dyn Medium, name: &str) -> Result<Owner, StorageError> {
    MARKER.read(medium, name)
}

const MARKER: Slip = Slip { magic: *b"TsMarker", noun: "the marker of a store", bytes_max: 4096 };
