//! What happened, folded into one number: every packet and every event, in order.
//!
//! Two runs of one seed must fold to the same number; where they do not, the lines that can be
//! written along tell the first difference. Knows no meaning of what it folds.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    net::SocketAddr,
    path::Path,
    sync::{Mutex, PoisonError},
};

use runtime::Time;

use crate::{cluster::NodeEvent, seed::mix};

/// The fold, shared by all who add to it.
#[derive(Debug, Default)]
pub(super) struct Trace(Mutex<Folded>);

#[derive(Debug, Default)]
struct Folded {
    hash: u64,
    lines: Option<BufWriter<File>>,
    failed: Option<io::Error>,
}

impl Trace {
    /// One that also writes a line for each thing that happens, if there is a place for them.
    pub(super) fn new(path: Option<&Path>) -> io::Result<Self> {
        let lines = path.map(File::create).transpose()?.map(BufWriter::new);
        Ok(Self(Mutex::new(Folded { lines, ..Folded::default() })))
    }

    /// A datagram goes on its way.
    pub(super) fn packet(&self, at: Time, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let content = fold(0, bytes);
        self.add(at, &[address(from), address(to), bytes.len() as u64, content], |lines| {
            let (at, length) = (at.0.as_nanos(), bytes.len());
            writeln!(lines, "{at} packet {from} {to} {length} {content:016x}")
        });
    }

    /// A node noted something, or the world about a node.
    pub(super) fn event(&self, event: &NodeEvent) {
        let at = Time(std::time::Duration::from_nanos(event.at_ns));
        let what = serde_json::to_string(&event.what).expect("plain data always encodes");
        self.add(at, &[event.node.0, fold(0, what.as_bytes())], |lines| {
            writeln!(lines, "{} event node {} {what}", event.at_ns, event.node)
        });
    }

    /// What all of it came to.
    ///
    /// # Errors
    /// Lines that could not be written.
    pub(super) fn finish(&self) -> io::Result<u64> {
        let mut folded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = &mut folded.lines {
            lines.flush()?;
        }
        folded.failed.take().map_or(Ok(folded.hash), Err)
    }

    fn add(
        &self,
        at: Time,
        words: &[u64],
        line: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) {
        let mut folded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at_ns = u64::try_from(at.0.as_nanos()).unwrap_or(u64::MAX);
        folded.hash = words.iter().fold(mix(folded.hash, at_ns), |hash, word| mix(hash, *word));
        let written = folded.lines.as_mut().map(line);
        if let Some(Err(error)) = written {
            folded.lines = None;
            folded.failed.get_or_insert(error);
        }
    }
}

fn address(address: SocketAddr) -> u64 {
    let ip = match address {
        SocketAddr::V4(v4) => u64::from(u32::from(*v4.ip())),
        SocketAddr::V6(v6) => fold(0, &v6.ip().octets()),
    };
    mix(ip, u64::from(address.port()))
}

fn fold(hash: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let folded = words.by_ref().fold(hash, |hash, word| {
        mix(hash, u64::from_le_bytes(word.try_into().expect("chunks of eight")))
    });
    words.remainder().iter().fold(folded, |hash, byte| mix(hash, u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hash_of(packets: &[(u64, u16, &[u8])]) -> u64 {
        let trace = Trace::default();
        for (ns, port, bytes) in packets {
            let to = ([10, 0, 0, 1], *port).into();
            trace.packet(Time(Duration::from_nanos(*ns)), ([10, 0, 0, 2], 7).into(), to, bytes);
        }
        trace.finish().expect("nothing is written")
    }

    #[test]
    fn every_part_of_what_happens_counts() {
        let base: &[(u64, u16, &[u8])] = &[(1, 7, b"a longer one"), (2, 7, b"x")];
        assert_eq!(hash_of(base), hash_of(base));
        let others: [&[(u64, u16, &[u8])]; 6] = [
            &[(1, 7, b"a longer one")],
            &[(2, 7, b"x"), (1, 7, b"a longer one")],
            &[(1, 7, b"a longer one"), (3, 7, b"x")],
            &[(1, 8, b"a longer one"), (2, 7, b"x")],
            &[(1, 7, b"a longer onf"), (2, 7, b"x")],
            &[(1, 7, b"b longer one"), (2, 7, b"x")],
        ];
        for other in others {
            assert_ne!(hash_of(base), hash_of(other), "{other:?}");
        }
    }
}
