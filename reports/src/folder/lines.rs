//! Files of lines that grow while a run goes on: the history, the events.
//!
//! Knows nothing of what the lines mean. Invariant: whole lines only.

use crate::{Error, Result};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Appends without buffering: what was appended survives the harness.
#[derive(Debug)]
pub struct LineWriter {
    file: File,
    path: PathBuf,
}

impl LineWriter {
    /// Begins the file anew.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        Ok(Self { file, path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one or more whole lines with one write; who has many hands over many.
    pub fn append(&mut self, lines: &[u8]) -> Result<()> {
        if lines.last().is_some_and(|&byte| byte != b'\n') {
            return Err(Error::Line { reason: "the last byte is not a line feed" });
        }
        self.file.write_all(lines).map_err(Error::io("append to", &self.path))
    }
}
