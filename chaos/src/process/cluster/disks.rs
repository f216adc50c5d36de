//! What befalls the disks of a cluster of processes, and the stores of those that are down.
//!
//! Invariant: only the store of a node that is not running is touched from here.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::Mutex,
};

use super::lock;
use crate::{
    disk::{DiskFault, cold_bit, written_bytes},
    fault::NodeNumber,
    seed::{Seed, Stream},
};

/// What befalls which disk; outlives the nodes.
#[derive(Debug)]
pub(super) struct Disks {
    faults: Mutex<BTreeMap<NodeNumber, DiskFault>>,
    /// Decides which bits are flipped.
    flips: Mutex<Stream>,
}

impl Disks {
    pub(super) fn new(seed: Seed) -> Self {
        Self { faults: Mutex::default(), flips: Mutex::new(Stream::named(seed, "flips")) }
    }

    /// From now on this befalls the disk of the node, or nothing.
    pub(super) fn set(&self, node: NodeNumber, fault: Option<DiskFault>) {
        let mut faults = lock(&self.faults);
        match fault {
            Some(fault) => faults.insert(node, fault),
            None => faults.remove(&node),
        };
    }

    pub(super) fn of(&self, node: NodeNumber) -> Option<DiskFault> {
        lock(&self.faults).get(&node).copied()
    }

    /// Changes a cold bit of a store that nobody has open, and says of which file.
    pub(super) fn flip(&self, store: &Path) -> Result<String, String> {
        let flipped = flip(store, &mut lock(&self.flips));
        flipped.map_err(|error| format!("{}: {error}", store.display()))
    }
}

fn flip(store: &Path, stream: &mut Stream) -> io::Result<String> {
    let mut lengths = BTreeMap::new();
    for file in fs::read_dir(store)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        let length = written_bytes(&name, &fs::read(file.path())?);
        lengths.insert(name, length);
    }
    let nothing = || io::Error::other("it holds no log");
    let cold = cold_bit(&lengths, stream).ok_or_else(nothing)?;
    let file = File::options().read(true).write(true).open(store.join(&cold.file))?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, cold.offset)?;
    file.write_all_at(&[byte[0] ^ 1 << cold.bit], cold.offset)?;
    file.sync_all()?;
    Ok(cold.file)
}
