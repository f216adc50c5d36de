//! A segment seen through a buffer that moves forward.
//!
//! Reads large pieces, so that small records cost no call each; what is there to be kept is read
//! to where it stays, so that large ones are not copied. Invariant: the buffer holds at most the
//! piece asked for or [`WINDOW_BYTES`], and never more than the segment has.

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
        let Some(end) = self.end(offset, length) else { return Ok(None) };
        if offset < self.start || end > self.start + self.buffer.len() as u64 {
            self.start = offset;
            let most = WINDOW_BYTES.min(self.segment.size_bytes - offset);
            self.buffer.resize(length.max(most) as usize, 0);
            read(self.segment, offset, &mut self.buffer)?;
        }
        let from = (offset - self.start) as usize;
        Ok(self.buffer.get(from..from + length as usize))
    }

    /// The bytes of that range in memory of their own; `None` if it does not lie within the
    /// segment.
    pub(crate) fn take(&self, offset: u64, length: u64) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(end) = self.end(offset, length) else { return Ok(None) };
        let mut bytes = vec![0; length as usize];
        let held = offset.checked_sub(self.start);
        let held = held.and_then(|from| self.buffer.get(from as usize..)).unwrap_or_default();
        let (known, missing) = bytes.split_at_mut(held.len().min(length as usize));
        known.copy_from_slice(&held[..known.len()]);
        if !missing.is_empty() {
            read(self.segment, end - missing.len() as u64, missing)?;
        }
        Ok(Some(bytes))
    }

    /// Where the range ends, if that is within the segment.
    fn end(&self, offset: u64, length: u64) -> Option<u64> {
        offset.checked_add(length).filter(|end| *end <= self.segment.size_bytes)
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

fn read(segment: &Segment, offset: u64, bytes: &mut [u8]) -> Result<(), StorageError> {
    segment.file.read_at(offset, bytes).map_err(StorageError::io(&segment.path, "read"))
}

const WINDOW_BYTES: u64 = 1 << 18;
static ZEROS: [u8; 4096] = [0; 4096];

#[cfg(test)]
mod tests {
    use raft::StoreId;

    use super::*;
    use crate::storage::{model::Model, segment::HEAD_BYTES};

    #[test]
    fn what_is_taken_is_what_is_seen_wherever_the_buffer_stands() {
        let size_bytes = 4 * WINDOW_BYTES;
        let medium = Model::default();
        let segment = Segment::create(&medium, StoreId(1), 0, size_bytes).expect("it is new");
        let written: Vec<u8> = (HEAD_BYTES..size_bytes).map(|at| (at % 251) as u8).collect();
        segment.file.write_at(HEAD_BYTES, &written).expect("it has room");
        let offsets = [0, HEAD_BYTES, WINDOW_BYTES - 1, WINDOW_BYTES, 2 * WINDOW_BYTES + 7];
        for stands in offsets {
            for (offset, length) in offsets.into_iter().flat_map(|offset| {
                [0, 1, 300, WINDOW_BYTES, 2 * WINDOW_BYTES].map(|length| (offset, length))
            }) {
                let mut window = Window::new(&segment);
                window.bytes(stands, 8).expect("it can be read");
                let taken = window.take(offset, length).expect("it can be read");
                let seen = window.bytes(offset, length).expect("it can be read");
                assert!(taken.as_deref() == seen, "{length} from {offset}, after {stands}");
                assert_eq!(taken.is_some(), offset + length <= size_bytes);
            }
        }
        let window = Window::new(&segment);
        assert!(window.take(u64::MAX, 2).expect("nothing is read").is_none());
        assert!(window.take(0, u64::MAX).expect("nothing is read").is_none());
    }
}
