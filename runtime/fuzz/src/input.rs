//! What an input is: something with a weight that can be shown.

use std::{collections::BTreeMap, fmt::Write as _};

/// Something to be thrown.
pub trait Input {
    /// How many bytes it is.
    fn weight_bytes(&self) -> usize;

    /// Its bytes as hexadecimal digits, for the corpus.
    fn show(&self) -> String;
}

impl Input for Vec<u8> {
    fn weight_bytes(&self) -> usize {
        self.len()
    }

    fn show(&self) -> String {
        digits(self)
    }
}

/// Files by name.
impl Input for BTreeMap<String, Vec<u8>> {
    fn weight_bytes(&self) -> usize {
        self.values().map(Vec::len).sum()
    }

    fn show(&self) -> String {
        let files = self.iter().map(|(name, bytes)| format!("{name}: {}", bytes.show()));
        files.collect::<Vec<_>>().join("\n")
    }
}

impl<T: Input> Input for Vec<T> {
    fn weight_bytes(&self) -> usize {
        self.iter().map(Input::weight_bytes).sum()
    }

    fn show(&self) -> String {
        self.iter().map(Input::show).collect::<Vec<_>>().join("\n")
    }
}

/// Two hexadecimal digits for each byte.
pub(crate) fn digits(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes that the digits stand for; `None` if they are not all digits, or not in pairs.
pub(crate) fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        digits.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
