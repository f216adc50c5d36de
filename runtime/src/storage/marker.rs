//! The file `store`: whose store a directory is.
//!
//! Written first and under another name, by which an unfinished store is known; named last.
//! Without it a directory is no store, and with it never an empty one. Knows nothing of the
//! stream.

use std::path::Path;

use super::{
    Owner, StorageError,
    format::{VERSION, decode_body, u32_at},
    medium::Medium,
    segment,
};

/// The marker's file name.
pub(crate) const NAME: &str = "store";
/// Its name until the store is complete: that of an unfinished file.
pub(crate) const BEGUN: &str = "store.new";

/// Writes the marker of a store that is begun, durably.
pub(crate) fn begin(medium: &dyn Medium, owner: Owner) -> Result<(), StorageError> {
    let bytes = encode(owner);
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
    let path = medium.path().join(name);
    let file = medium.open(name).map_err(StorageError::io(&path, "open"))?;
    let found_bytes = file.size_bytes().map_err(StorageError::io(&path, "measure"))?;
    if found_bytes < HEAD_BYTES as u64 {
        let expected_bytes = HEAD_BYTES as u64;
        return Err(StorageError::Truncated { path, found_bytes, expected_bytes });
    }
    if found_bytes > BYTES_MAX {
        let what = format!("{found_bytes} bytes are too many for a marker");
        return Err(StorageError::corrupt(path, BYTES_MAX, what));
    }
    let mut bytes = vec![0; found_bytes as usize];
    file.read_at(0, &mut bytes).map_err(StorageError::io(&path, "read"))?;
    decode(&path, &bytes)
}

fn encode(owner: Owner) -> Vec<u8> {
    let body = postcard::to_stdvec(&owner).expect("three plain numbers can be encoded");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len() + 4);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Owner, StorageError> {
    let corrupt = |offset, what: &str| StorageError::corrupt(path, offset, what);
    if !bytes.starts_with(&MAGIC) {
        return Err(corrupt(0, "not the marker of a store"));
    }
    let (Some(version), Some(body_bytes)) = (u32_at(bytes, 8), u32_at(bytes, 12)) else {
        return Err(corrupt(8, "no version"));
    };
    if version != VERSION {
        let path = path.into();
        return Err(StorageError::Version { path, found: version, supported: VERSION });
    }
    let (found_bytes, expected_bytes) =
        (bytes.len() as u64, HEAD_BYTES as u64 + u64::from(body_bytes) + 4);
    if found_bytes < expected_bytes {
        return Err(StorageError::Truncated { path: path.into(), found_bytes, expected_bytes });
    }
    if found_bytes > expected_bytes {
        return Err(corrupt(expected_bytes, "bytes after the end of the marker"));
    }
    let (checked, checksum) = bytes.split_at(bytes.len() - 4);
    if checksum != crc32fast::hash(checked).to_le_bytes() {
        return Err(corrupt(0, "the checksum does not fit"));
    }
    decode_body(&checked[HEAD_BYTES..])
        .map_err(|what| StorageError::corrupt(path, HEAD_BYTES as u64, what))
}

const MAGIC: [u8; 8] = *b"TsMarker";
const HEAD_BYTES: usize = 16;
/// Far more than a marker has; a bound for what is read before anything is believed.
const BYTES_MAX: u64 = 4096;
