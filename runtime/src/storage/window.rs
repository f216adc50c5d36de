//! A segment seen through a buffer that moves forward.
//!
//! Reads large pieces, so that small records cost no call each. Invariant: the buffer holds at
//! most the piece asked for or [`WINDOW_BYTES`], and never more than the segment has.

use super::{StorageError, segment::Segment};

/// The buffer over one segment.
pub(crate) struct Window<'a> {
    segment: &'a Segment,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) const fn new(segment: &'a Segment) -> Self {
        Self { segment, start: 0, buffer: Vec::new() }
    }

    /// The bytes of that range; `None` if it does not lie within the segment.
    pub(crate) fn bytes(
        &mut self,
        offset: u64,
        length: u64,
    ) -> Result<Option<&[u8]>, StorageError> {
        let size = self.segment.size_bytes;
        let Some(end) = offset.checked_add(length).filter(|end| *end <= size) else {
            return Ok(None);
        };
        if offset < self.start || end > self.start + self.buffer.len() as u64 {
            self.start = offset;
            self.buffer.resize(length.max(WINDOW_BYTES.min(size - offset)) as usize, 0);
            self.segment
                .file
                .read_at(offset, &mut self.buffer)
                .map_err(StorageError::io(&self.segment.path, "read"))?;
        }
        let from = (offset - self.start) as usize;
        Ok(self.buffer.get(from..from + length as usize))
    }

    /// Where, from the offset on, the first byte stands that is not zero.
    pub(crate) fn first_written(&mut self, mut offset: u64) -> Result<Option<u64>, StorageError> {
        let size = self.segment.size_bytes;
        while offset < size {
            let length = (size - offset).min(ZEROS.len() as u64);
            let Some(bytes) = self.bytes(offset, length)? else { return Ok(None) };
            // Comparing blocks is far quicker than looking at each byte.
            if bytes != &ZEROS[..bytes.len()] {
                let at = bytes.iter().position(|byte| *byte != 0);
                return Ok(at.map(|at| offset + at as u64));
            }
            offset += length;
        }
        Ok(None)
    }
}

const WINDOW_BYTES: u64 = 1 << 20;
static ZEROS: [u8; 4096] = [0; 4096];
