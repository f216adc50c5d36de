//! What came of a command, kept for whoever asks for it again.
//!
//! Invariant: whether an output is kept, and whether it takes room, follows from its length and
//! from what was kept before, so that all members keep the same.

use std::sync::Arc;

use bytes::Bytes;

use crate::group::budget::{Budget, Room};

/// See the module.
#[derive(Default)]
pub(super) enum Output {
    /// Stands in the table itself, whose size is bounded.
    Small {
        length: u8,
        bytes: [u8; SMALL_BYTES_MAX],
    },
    Encoded {
        bytes: Bytes,
        _room: Room,
    },
    /// The caller got it; there was no room to keep it for a retry.
    #[default]
    NotKept,
    /// The machine could not decode the command: it changed nothing.
    Undecodable,
    /// The command took effect, but no frame holds what came of it.
    TooLarge,
}

impl Output {
    /// A new one, as [`Output::set`] makes it.
    pub(super) fn keep(encoded: &[u8], outputs: &Arc<Budget>) -> Self {
        let mut kept = Self::default();
        kept.set(encoded, outputs);
        kept
    }

    /// Becomes what is encoded so, if there is room to keep it.
    pub(super) fn set(&mut self, encoded: &[u8], outputs: &Arc<Budget>) {
        if encoded.len() <= SMALL_BYTES_MAX
            && let Ok(length) = u8::try_from(encoded.len())
        {
            *self = Self::Small { length, bytes: [0; SMALL_BYTES_MAX] };
            if let Self::Small { bytes, .. } = self {
                bytes[..encoded.len()].copy_from_slice(encoded);
            }
            return;
        }
        *self = match outputs.take(encoded.len()) {
            Some(_room) => Self::Encoded { bytes: Bytes::copy_from_slice(encoded), _room },
            None => Self::NotKept,
        };
    }

    /// The encoded output, if it is kept.
    pub(super) fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Small { length, bytes } => {
                Some(Bytes::copy_from_slice(&bytes[..usize::from(*length)]))
            }
            Self::Encoded { bytes, .. } => Some(bytes.clone()),
            Self::NotKept | Self::Undecodable | Self::TooLarge => None,
        }
    }
}

/// As much as stands where the other kinds stand.
pub(super) const SMALL_BYTES_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_comes_back_whatever_its_length_and_small_ones_take_no_room() {
        let outputs = Budget::new(SMALL_BYTES_MAX + 1);
        let encoded: Vec<u8> = (0..).take(SMALL_BYTES_MAX + 1).collect();
        for length in 0..=encoded.len() {
            let kept = Output::keep(&encoded[..length], &outputs);
            assert_eq!(kept.bytes().as_deref(), Some(&encoded[..length]));
            assert_eq!(outputs.is_empty(), length <= SMALL_BYTES_MAX, "{length} bytes");
        }
        assert!(outputs.is_empty(), "what is let go of gives its room back");
        let _one = Output::keep(&encoded, &outputs);
        assert!(matches!(Output::keep(&encoded, &outputs), Output::NotKept));
        assert!(Output::keep(&encoded[1..], &outputs).bytes().is_some());
    }

    #[test]
    fn small_outputs_make_no_reply_larger() {
        assert!(size_of::<Output>() <= size_of::<(Bytes, Room)>() + size_of::<usize>());
    }
}
