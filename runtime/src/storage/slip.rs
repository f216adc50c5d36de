//! A small file that is written whole: what it is, its version, a body, a checksum.
//!
//! The marker is one, and the base is. Knows nothing of what the body says. Invariant: a slip is
//! read back as it was written, or refused by its name and the reason.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    StorageError,
    format::{VERSION, decode_body, u32_at},
    medium::Medium,
};

/// A kind of slip.
pub(crate) struct Slip {
    /// How it begins.
    pub(crate) magic: [u8; 8],
    /// What it is called in errors.
    pub(crate) noun: &'static str,
    /// Far more than one has; a bound for what is read before anything is believed.
    pub(crate) bytes_max: u64,
}

impl Slip {
    /// The bytes of the file.
    pub(crate) fn encode(&self, value: &impl Serialize) -> Result<Vec<u8>, String> {
        let body = postcard::to_stdvec(value)
            .map_err(|error| format!("{} cannot be encoded: {error}", self.noun))?;
        let body_bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&body_bytes.to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        if bytes.len() as u64 > self.bytes_max {
            let (noun, bytes, max) = (self.noun, bytes.len(), self.bytes_max);
            return Err(format!("{noun} of {bytes} bytes; allowed are {max}"));
        }
        Ok(bytes)
    }

    /// Reads the file of that name.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        medium: &dyn Medium,
        name: &str,
    ) -> Result<T, StorageError> {
        let path = medium.path().join(name);
        let file = medium.open(name).map_err(StorageError::io(&path, "open"))?;
        let found_bytes = file.size_bytes().map_err(StorageError::io(&path, "measure"))?;
        if found_bytes < HEAD_BYTES as u64 {
            let expected_bytes = HEAD_BYTES as u64;
            return Err(StorageError::Truncated { path, found_bytes, expected_bytes });
        }
        if found_bytes > self.bytes_max {
            let what = format!("{found_bytes} bytes are too many for {}", self.noun);
            return Err(StorageError::corrupt(path, self.bytes_max, what));
        }
        let mut bytes = vec![0; found_bytes as usize];
        file.read_at(0, &mut bytes).map_err(StorageError::io(&path, "read"))?;
        self.decode(&path, &bytes)
    }

    fn decode<T: DeserializeOwned>(&self, path: &Path, bytes: &[u8]) -> Result<T, StorageError> {
        let corrupt = |offset, what: String| StorageError::corrupt(path, offset, what);
        if !bytes.starts_with(&self.magic) {
            return Err(corrupt(0, format!("not {}", self.noun)));
        }
        let (Some(version), Some(body_bytes)) = (u32_at(bytes, 8), u32_at(bytes, 12)) else {
            return Err(corrupt(8, "no version".into()));
        };
        if version != VERSION {
            let path = path.into();
            return Err(StorageError::Version { path, found: version, supported: VERSION });
        }
        let found_bytes = bytes.len() as u64;
        let expected_bytes = (HEAD_BYTES + CHECKSUM_BYTES) as u64 + u64::from(body_bytes);
        if found_bytes < expected_bytes {
            return Err(StorageError::Truncated { path: path.into(), found_bytes, expected_bytes });
        }
        if found_bytes > expected_bytes {
            return Err(corrupt(expected_bytes, format!("bytes after the end of {}", self.noun)));
        }
        let (checked, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if checksum != crc32fast::hash(checked).to_le_bytes() {
            return Err(corrupt(0, "the checksum does not fit".into()));
        }
        decode_body(&checked[HEAD_BYTES..]).map_err(|what| corrupt(HEAD_BYTES as u64, what))
    }
}

const HEAD_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
