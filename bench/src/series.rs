//! Values of one option, each of which is measured as a series of its own.
//!
//! Invariant: a series has one name, so no value is there twice.

use anyhow::{Result, bail};

/// Refuses a value that is given more than once, in the words of the command line.
pub(crate) fn once_each(option: &str, values: &[u32]) -> Result<()> {
    for (place, value) in values.iter().enumerate() {
        if values[..place].contains(value) {
            bail!("{option}: {value} is there twice, and each is measured once");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_there_twice_is_refused_by_name() {
        assert!(once_each("--batch-sizes", &[500, 2_000, 10_000]).is_ok());
        let refused =
            once_each("--batch-sizes", &[500, 2_000, 500]).expect_err("500 is there twice");
        assert_eq!(
            refused.to_string(),
            "--batch-sizes: 500 is there twice, and each is measured once"
        );
    }
}
