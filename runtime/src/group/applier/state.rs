//! The session table as a part of a snapshot, before the machine's own state.
//!
//! Its length, then the table with the kept replies. Knows no machine. Invariant: what is read is
//! a table that keeps to the limits that all members have agreed on.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use raft::{Index, Position, SessionLimits, Sessions};
use serde::{Deserialize, Serialize};

use super::{
    OUTPUTS_BYTES_MAX, Reply,
    output::{Output, SMALL_BYTES_MAX},
};
use crate::{group::budget::Budget, storage::SnapshotFile};

/// A kept reply as it is written.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    position: Position,
    output: KeptOutput,
}

#[derive(Serialize, Deserialize)]
enum KeptOutput {
    Encoded(Bytes),
    NotKept,
    Undecodable,
    TooLarge,
}

impl Kept {
    fn of(reply: &Reply) -> Self {
        let output = match &reply.output {
            kept @ (Output::Small { .. } | Output::Encoded { .. }) => {
                KeptOutput::Encoded(kept.bytes().unwrap_or_default())
            }
            Output::NotKept => KeptOutput::NotKept,
            Output::Undecodable => KeptOutput::Undecodable,
            Output::TooLarge => KeptOutput::TooLarge,
        };
        Self { position: reply.position, output }
    }

    /// The reply, with room taken for it as when it was kept first: all that is kept together
    /// had room together.
    pub(super) fn restored(&self, outputs: &Arc<Budget>) -> Reply {
        let output = match &self.output {
            KeptOutput::Encoded(bytes) => Output::keep(bytes, outputs),
            KeptOutput::NotKept => Output::NotKept,
            KeptOutput::Undecodable => Output::Undecodable,
            KeptOutput::TooLarge => Output::TooLarge,
        };
        Reply { position: self.position, output }
    }
}

/// Writes the table.
pub(super) fn write(replies: &Sessions<Reply>, writer: &mut dyn Write) -> io::Result<()> {
    let encoded = postcard::to_stdvec(&replies.map(Kept::of)).map_err(io::Error::other)?;
    writer.write_all(&(encoded.len() as u64).to_le_bytes())?;
    writer.write_all(&encoded)
}

/// Reads the table back.
pub(super) fn read(reader: &mut dyn Read, limits: SessionLimits) -> io::Result<Sessions<Kept>> {
    let mut length = [0; 8];
    reader.read_exact(&mut length)?;
    let (length, max) = (u64::from_le_bytes(length), bytes_max(limits));
    if length > max {
        return Err(invalid(format!("a session table of {length} bytes; allowed are {max}")));
    }
    let mut encoded = Vec::new();
    // Takes memory by what is there, not by what is announced.
    reader.take(length).read_to_end(&mut encoded)?;
    let (sessions, rest): (Sessions<Kept>, _) = postcard::take_from_bytes(&encoded)
        .map_err(|error| invalid(format!("the session table cannot be decoded: {error}")))?;
    if !rest.is_empty() || (encoded.len() as u64) < length {
        return Err(invalid("the session table is not as long as it says".into()));
    }
    if sessions.limits() != limits {
        let found = sessions.limits();
        return Err(invalid(format!("a session table of {found:?}, configured are {limits:?}")));
    }
    if !sessions.is_sound() {
        return Err(invalid("the session table contradicts itself".into()));
    }
    Ok(sessions)
}

/// The table of a snapshot as the core keeps it.
pub(crate) fn session_indexes(
    file: &SnapshotFile,
    limits: SessionLimits,
) -> io::Result<Sessions<Index>> {
    let sessions = read(&mut file.body(), limits)?;
    Ok(sessions.map(|reply| reply.position.index))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What a table within its limits takes up at most.
fn bytes_max(limits: SessionLimits) -> u64 {
    let sessions = limits.sessions_max as u64;
    let replies = sessions.saturating_mul(limits.replies_per_session_max as u64);
    let small = sessions.saturating_add(replies).saturating_mul(ENTRY_BYTES_MAX);
    small.saturating_add(OUTPUTS_BYTES_MAX as u64)
}

/// A session or a reply, encoded, with its output if that takes no room.
const ENTRY_BYTES_MAX: u64 = 64 + SMALL_BYTES_MAX as u64;

#[cfg(test)]
mod tests {
    use fuzz::Target;
    use raft::{Entry, Payload, RequestId, SessionId, Term};

    use super::*;

    const LIMITS: SessionLimits = SessionLimits { sessions_max: 3, replies_per_session_max: 4 };

    fn position(index: u64) -> Position {
        Position { term: Term(1), index: Index(index) }
    }

    /// A table with two sessions and some replies.
    fn table() -> Vec<u8> {
        let mut sessions = Sessions::new(LIMITS);
        for index in 1..=2 {
            let payload = Payload::OpenSession { nonce: index };
            let opening: Entry = Entry { position: position(index), payload };
            sessions.observe(opening.view(), |_| unreachable!());
        }
        for index in 3..=6 {
            let request = RequestId { session: SessionId(Index(1 + index % 2)), sequence: index };
            let payload = Payload::Command { request, floor: 0, command: Bytes::new() };
            let output = match index {
                3 => Output::TooLarge,
                4 => Output::Undecodable,
                5 => Output::NotKept,
                _ => Output::keep(&[7; 50], &Budget::new(100)),
            };
            let reply = Reply { position: position(index), output };
            let command: Entry = Entry { position: position(index), payload };
            sessions.observe(command.view(), |kept| *kept = reply);
        }
        let mut written = Vec::new();
        write(&sessions, &mut written).expect("a vector takes all");
        written
    }

    #[test]
    fn a_session_table_reads_back_as_it_was_written() {
        let written = table();
        let read = read(&mut written.as_slice(), LIMITS).expect("its own");
        let outputs = Budget::new(100);
        let mut again = Vec::new();
        write(&read.map(|reply| reply.restored(&outputs)), &mut again).expect("a vector");
        assert_eq!(again, written);
    }

    #[test]
    fn garbage_in_a_session_table_is_refused() {
        let samples = [table()];
        let target = Target {
            name: "session tables",
            command: "cargo test -p runtime --lib garbage",
            inputs: 20_000,
            heap_bytes_max: (1 << 20, 256),
        };
        target.throw(
            [],
            |draws| draws.garbled(&samples, &[]),
            |words| {
                let Ok(sessions) = read(&mut &words[..], LIMITS) else { return };
                assert!(sessions.is_sound() && sessions.limits() == LIMITS);
            },
        );
    }
}
