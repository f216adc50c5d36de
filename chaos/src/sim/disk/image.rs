//! What is on a disk, and what a change makes of it.
//!
//! Knows no clock. Invariant: of a write that is torn each sector arrives as a whole or not at all.

use std::collections::BTreeMap;

use runtime::Time;

/// What is on a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) named: bool,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) files: BTreeMap<u64, Vec<u8>>,
}

/// Something that is done to a disk.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Create {
        name: String,
        file: u64,
        size: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    Write {
        file: u64,
        offset: usize,
        bytes: Vec<u8>,
    },
    /// Done at that moment.
    SyncFile {
        file: u64,
        done: Time,
    },
    SyncNames {
        done: Time,
    },
    /// The directory gets its name; durable when it returns.
    Publish,
}

impl Image {
    /// Makes a change; of a write, the part that the caller leaves.
    pub(super) fn apply(&mut self, change: &Change, leave: impl FnOnce(Written) -> Written) {
        match change {
            Change::Create { name, file, size } => {
                // What was written to it may have become safe before its name does.
                let content = self.files.entry(*file).or_default();
                content.resize((*size).max(content.len()), 0);
                self.names.insert(name.clone(), *file);
            }
            Change::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Change::Remove { name } => {
                self.names.remove(name);
            }
            Change::Write { file, offset, bytes } => {
                let written = leave(Written { offset: *offset, bytes: bytes.clone(), torn: None });
                let content = self.files.entry(*file).or_default();
                written.onto(content);
            }
            Change::Publish => self.named = true,
            Change::SyncFile { .. } | Change::SyncNames { .. } => {}
        }
    }

    pub(super) fn forget_unnamed(&mut self) {
        let named: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }
}

/// A write on its way to a file.
pub(super) struct Written {
    offset: usize,
    bytes: Vec<u8>,
    /// Draws that say which sectors arrive; all of them if absent.
    torn: Option<u64>,
}

pub(super) fn torn(written: Written, draws: u64) -> Written {
    Written { torn: Some(draws), ..written }
}

impl Written {
    fn onto(self, content: &mut Vec<u8>) {
        let end = self.offset + self.bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        let mut at = self.offset;
        while at < end {
            let sector = at / SECTOR_BYTES;
            let upto = ((sector + 1) * SECTOR_BYTES).min(end);
            let arrives = self.torn.is_none_or(|draws| draws >> (sector % 64) & 1 == 1);
            if arrives {
                let from = at - self.offset;
                content[at..upto].copy_from_slice(&self.bytes[from..upto - self.offset]);
            }
            at = upto;
        }
    }
}

const SECTOR_BYTES: usize = 512;
