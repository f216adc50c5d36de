//! Which inputs to throw, from the environment: tests have no command line of their own.
//!
//! Invariant: a word that cannot be read is an error that names it.

/// See above.
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) first: u64,
    pub(crate) inputs: u64,
}

impl Options {
    /// From `FUZZ_SEED`, `FUZZ_FIRST` and `FUZZ_INPUTS`.
    pub(crate) fn read(inputs: u64) -> Self {
        Self {
            seed: number("FUZZ_SEED", 0),
            first: number("FUZZ_FIRST", 0),
            inputs: number("FUZZ_INPUTS", inputs),
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    let Some(word) = std::env::var_os(name) else { return otherwise };
    let number = word.to_str().and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("{name} is {word:?}, but must be a whole number"))
}
