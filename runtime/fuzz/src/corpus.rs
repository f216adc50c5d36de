//! What is kept of coverage-guided runs: for each target a file with the choices of some inputs.
//!
//! They are tried first by every run. A change of samples or of how inputs are drawn gives choices
//! another meaning: then they are garbage like any other, until a guided run keeps new ones.
//! Invariant: a file has one input on each line, and few and short ones.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use crate::input;

/// The choices that are kept for a target.
///
/// # Panics
/// If its file cannot be read, with the line.
pub(crate) fn kept(target: &str) -> Vec<Vec<u8>> {
    let path = path(target);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    let choices = lines.map(|(number, line)| {
        let choices = input::bytes(line).filter(|choices| choices.len() <= CHOICES_BYTES_MAX);
        choices.unwrap_or_else(|| panic!("{}:{}: no choices", path.display(), number + 1))
    });
    choices.collect()
}

/// Keeps these in place of those that were kept.
///
/// # Errors
/// Those of the file.
pub(crate) fn keep(target: &str, choices: &[Vec<u8>]) -> io::Result<()> {
    assert!(choices.len() <= KEPT_MAX, "{} inputs are too many to be kept", choices.len());
    let lines = choices.iter().map(|choices| format!("{}\n", input::digits(choices)));
    fs::write(path(target), format!("{HEAD}{}", lines.collect::<String>()))
}

/// In this package, so that what is kept stands together.
fn path(target: &str) -> PathBuf {
    let name = format!("{}.txt", target.replace(' ', "-"));
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

/// As many as are kept of a target.
pub(crate) const KEPT_MAX: usize = 48;
/// The most that a guided run gives an input.
pub(crate) const CHOICES_BYTES_MAX: usize = 512;
const HEAD: &str = "# Choices of inputs that reach what others do not, the widest first. \
                    Written by a guided run.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_can_be_read_and_is_little() {
        let folder = path("any");
        let folder = folder.parent().expect("it is in a folder");
        for entry in fs::read_dir(folder).expect("the folder of what is kept") {
            let path = entry.expect("it can be listed").path();
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a plain name");
            let kept = kept(name);
            assert!((1..=KEPT_MAX).contains(&kept.len()), "{name}: {} inputs", kept.len());
        }
        assert!(kept("a target without a file").is_empty());
    }
}
