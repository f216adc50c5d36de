//! One file of the stream: its name, its head, how it comes into being.
//!
//! A segment has its full size from the start and gets its name only when it is durable; a
//! shorter one was cut. Knows records only as "what follows the head".
//!
//! Invariant: a segment that carries its name is complete, and zero where nothing was written.

use std::path::PathBuf;

use raft::StoreId;

use super::{
    StorageError,
    format::{VERSION, u32_at, u64_at},
    medium::{Medium, MediumFile},
};

/// An open segment.
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) size_bytes: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn MediumFile>,
}

impl Segment {
    /// Makes a segment without records, durable under its name. Replaces one without records.
    pub(crate) fn create(
        medium: &dyn Medium,
        store: StoreId,
        number: u64,
        size_bytes: u64,
    ) -> Result<Self, StorageError> {
        let name = name(number);
        let path = medium.path().join(&name);
        let file = replace(medium, &name, size_bytes, &head(store, number, size_bytes))?;
        Ok(Self { number, size_bytes, path, file })
    }

    /// Opens a segment; whose it is and what its records say is for the caller to judge.
    pub(crate) fn open(medium: &dyn Medium, number: u64) -> Result<(Self, StoreId), StorageError> {
        let name = name(number);
        let path = medium.path().join(&name);
        let file = medium.open(&name).map_err(StorageError::io(&path, "open"))?;
        let found_bytes = file.size_bytes().map_err(StorageError::io(&path, "measure"))?;
        let mut bytes = [0; HEAD_BYTES as usize];
        if found_bytes < HEAD_BYTES {
            let expected_bytes = HEAD_BYTES;
            return Err(StorageError::Truncated { path, found_bytes, expected_bytes });
        }
        file.read_at(0, &mut bytes).map_err(StorageError::io(&path, "read"))?;
        let corrupt = |what: &str| StorageError::corrupt(&path, 0, what);
        if bytes[..8] != MAGIC {
            return Err(corrupt("not the head of a segment"));
        }
        if u32_at(&bytes, 8) != Some(VERSION) {
            let found = u32_at(&bytes, 8).unwrap_or_default();
            return Err(StorageError::Version { path, found, supported: VERSION });
        }
        let (low, high) = (u64_at(&bytes, 16), u64_at(&bytes, 24));
        let (Some(low), Some(high), Some(expected_bytes)) = (low, high, u64_at(&bytes, 40)) else {
            return Err(corrupt("the head is too short"));
        };
        let store = StoreId(u128::from(low) | u128::from(high) << 64);
        if bytes != head(store, number, expected_bytes) {
            return Err(corrupt("the head contradicts its checksum or the file's name"));
        }
        if found_bytes != expected_bytes {
            return Err(StorageError::Truncated { path, found_bytes, expected_bytes });
        }
        Ok((Self { number, size_bytes: found_bytes, path, file }, store))
    }
}

/// Puts a durable file of this size that begins with these bytes in place of what had the name.
pub(crate) fn replace(
    medium: &dyn Medium,
    name: &str,
    size_bytes: u64,
    bytes: &[u8],
) -> Result<Box<dyn MediumFile>, StorageError> {
    let path = medium.path().join(name);
    let temporary = format!("{name}{TEMPORARY}");
    let file = write_file(medium, &temporary, size_bytes, bytes)?;
    medium.rename(&temporary, name).map_err(StorageError::io(&path, "name"))?;
    medium.sync().map_err(StorageError::io(medium.path(), "sync the directory"))?;
    Ok(file)
}

/// Makes a file of this size that begins with these bytes; its content is durable, its name is
/// not.
pub(crate) fn write_file(
    medium: &dyn Medium,
    name: &str,
    size_bytes: u64,
    bytes: &[u8],
) -> Result<Box<dyn MediumFile>, StorageError> {
    let path = medium.path().join(name);
    let file = medium.create(name, size_bytes).map_err(StorageError::io(&path, "allocate"))?;
    file.write_at(0, bytes).map_err(StorageError::io(&path, "write"))?;
    file.sync().map_err(StorageError::io(&path, "sync"))?;
    Ok(file)
}

/// The segment's file name.
pub(crate) fn name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

/// The segment that the file name stands for.
pub(crate) fn number(file: &str) -> Option<u64> {
    let number = u64::from_str_radix(file.strip_suffix(SUFFIX)?, 16).ok()?;
    (name(number) == file).then_some(number)
}

fn head(store: StoreId, number: u64, size_bytes: u64) -> [u8; HEAD_BYTES as usize] {
    let mut bytes = [0; HEAD_BYTES as usize];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(&store.0.to_le_bytes());
    bytes[32..40].copy_from_slice(&number.to_le_bytes());
    bytes[40..48].copy_from_slice(&size_bytes.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..60]);
    bytes[60..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// What stands before the first record.
pub(crate) const HEAD_BYTES: u64 = 64;
/// What the name of a file, or of the directory itself, ends in until it is complete.
pub(crate) const TEMPORARY: &str = ".new";

const MAGIC: [u8; 8] = *b"TsSegmnt";
const SUFFIX: &str = ".log";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_number_go_both_ways_and_nothing_else_is_a_segment() {
        assert_eq!(name(0x2a), "000000000000002a.log");
        assert_eq!(number("000000000000002a.log"), Some(0x2a));
        for other in ["2a.log", "000000000000002A.log", "+00000000000002a.log", "store", ".log"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
