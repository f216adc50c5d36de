//! Which inputs to throw, from the environment: tests have no command line of their own.
//!
//! Invariant: a word that cannot be read is an error that names it.

use crate::input;

/// See above.
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) first: u64,
    pub(crate) inputs: u64,
    /// Those of the one input that is thrown in place of all others.
    pub(crate) choices: Option<Vec<u8>>,
}

impl Options {
    /// From `FUZZ_SEED`, `FUZZ_FIRST`, `FUZZ_INPUTS` and `FUZZ_CHOICES`.
    pub(crate) fn read(inputs: u64) -> Self {
        Self {
            seed: number("FUZZ_SEED").unwrap_or(0),
            first: number("FUZZ_FIRST").unwrap_or(0),
            inputs: number("FUZZ_INPUTS").unwrap_or(inputs),
            choices: word("FUZZ_CHOICES", "pairs of hexadecimal digits", input::bytes),
        }
    }
}

/// A whole number, if there is one.
pub(crate) fn number(name: &str) -> Option<u64> {
    word(name, "a whole number", |word| word.parse().ok())
}

fn word<T>(name: &str, what: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let word = std::env::var_os(name)?;
    let read = word.to_str().and_then(read);
    Some(read.unwrap_or_else(|| panic!("{name} is {word:?}, but must be {what}")))
}
