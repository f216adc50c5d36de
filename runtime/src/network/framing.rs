//! Cuts a stream of bytes into frames: a length, then as many bytes.
//!
//! Knows nothing of what is in a frame. Invariant: never holds more than one frame within its
//! limit and one chunk of the stream, whatever a peer announces.

use bytes::{Buf, Bytes, BytesMut};

/// No more than this is taken from QUIC at a time.
pub(crate) const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Bytes of the length before each frame, little-endian.
pub(crate) const HEADER_BYTES: usize = 4;

/// A frame was announced that is larger than allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Oversized {
    pub(crate) bytes: usize,
    pub(crate) bytes_max: usize,
}

/// The receiving side of a framed stream.
#[derive(Debug)]
pub(crate) struct Deframer {
    frame_bytes_max: usize,
    /// Up to so many bytes have room at once where a frame announces them.
    set_aside_bytes_max: usize,
    /// The beginning of a frame that more than one chunk brings.
    partial: BytesMut,
    /// What the last chunk still has.
    chunk: Bytes,
}

impl Deframer {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        let (partial, chunk) = (BytesMut::new(), Bytes::new());
        Self { frame_bytes_max, set_aside_bytes_max: 0, partial, chunk }
    }

    /// Sets room aside for frames of up to so many bytes when they are announced: what is kept of
    /// one may be kept for long, and no more than itself with it. Any other frame has to bring its
    /// bytes first.
    pub(crate) fn set_aside(mut self, bytes_max: usize) -> Self {
        self.set_aside_bytes_max = bytes_max;
        self
    }

    pub(crate) fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Takes the next chunk, once all frames of the last have been taken out.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        assert!(self.chunk.is_empty(), "{} bytes were left behind", self.chunk.len());
        self.chunk = chunk;
    }

    /// The next whole frame, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Oversized> {
        if self.partial.is_empty() {
            // The usual case: the frame lies whole in the chunk and is not copied.
            if let Some(length) = self.length(&self.chunk)?
                && self.chunk.len() - HEADER_BYTES >= length
            {
                self.chunk.advance(HEADER_BYTES);
                return Ok(Some(self.chunk.split_to(length)));
            }
        }
        self.fill(HEADER_BYTES);
        let Some(length) = self.length(&self.partial)? else { return Ok(None) };
        if length <= self.set_aside_bytes_max {
            self.partial.reserve(HEADER_BYTES + length - self.partial.len());
        }
        self.fill(HEADER_BYTES + length);
        if self.partial.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let frame = match length <= self.set_aside_bytes_max {
            // With its buffer: the next may be smaller, and would keep all of it.
            true => std::mem::take(&mut self.partial),
            false => self.partial.split(),
        };
        let mut frame = frame.freeze();
        frame.advance(HEADER_BYTES);
        Ok(Some(frame))
    }

    /// Brings the partial frame to `bytes`, as far as the chunk goes.
    fn fill(&mut self, bytes: usize) {
        let missing = bytes.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk.split_to(missing));
    }

    fn length(&self, start: &[u8]) -> Result<Option<usize>, Oversized> {
        let Some(header) = start.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let bytes = u32::from_le_bytes(*header) as usize;
        match bytes <= self.frame_bytes_max {
            true => Ok(Some(bytes)),
            false => Err(Oversized { bytes, bytes_max: self.frame_bytes_max }),
        }
    }
}

/// The length that goes before a frame.
pub(crate) fn header(frame_bytes: usize) -> [u8; HEADER_BYTES] {
    u32::try_from(frame_bytes).expect("frame limits lie below 4 GiB").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(frames: &[&[u8]]) -> Vec<u8> {
        frames.iter().flat_map(|frame| [&header(frame.len())[..], frame].concat()).collect()
    }

    #[test]
    fn frames_come_whole_however_the_stream_is_cut() {
        let long = vec![9; 300];
        let frames: [&[u8]; 5] = [b"one", b"", b"three", &long, b"x"];
        let bytes = stream(&frames);
        for cut in 1..bytes.len() {
            let mut deframer = Deframer::new(300);
            let mut found = Vec::new();
            for chunk in bytes.chunks(cut) {
                deframer.push(Bytes::copy_from_slice(chunk));
                while let Some(frame) = deframer.next().expect("within the limit") {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames, "cut into pieces of {cut}");
        }
    }

    #[test]
    fn what_is_set_aside_holds_the_frame_and_no_more() {
        let bytes = stream(&[&[9; 300]]);
        let held = |deframer: Deframer| {
            let mut deframer = deframer;
            deframer.push(Bytes::copy_from_slice(&bytes[..10]));
            assert_eq!(deframer.next(), Ok(None));
            deframer.partial.capacity()
        };
        assert_eq!(held(Deframer::new(300).set_aside(300)), bytes.len());
        let (small, none) = (Deframer::new(300).set_aside(299), Deframer::new(300));
        assert!(held(small) < 100 && held(none) < 100, "larger ones bring their bytes first");
    }

    #[test]
    fn an_oversized_frame_is_refused_by_its_header_alone() {
        let mut deframer = Deframer::new(16);
        deframer.push(Bytes::copy_from_slice(&[17, 0]));
        assert_eq!(deframer.next(), Ok(None));
        deframer.push(Bytes::copy_from_slice(&[0, 0]));
        assert_eq!(deframer.next(), Err(Oversized { bytes: 17, bytes_max: 16 }));
        let mut deframer = Deframer::new(16);
        deframer.push(Bytes::copy_from_slice(&[0xff; 4]));
        assert_eq!(deframer.next(), Err(Oversized { bytes: u32::MAX as usize, bytes_max: 16 }));
    }
}
