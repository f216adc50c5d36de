//! Small values for the tests of this folder.

use raft::{Configuration, Entry, Index, NodeId, Payload, PeerId, Position, RequestId, SessionId};
use raft::{StoreId, Term};

use super::{Founding, Owner};
use crate::{GroupId, Lineage};

pub(crate) fn owner(number: u8) -> Owner {
    let group: GroupId = postcard::from_bytes(&[number; 32]).expect("32 bytes are a group");
    Owner { group, peer: PeerId([number; 32]), fresh: StoreId(u128::from(number) << 100 | 5) }
}

pub(crate) fn founding(number: u8) -> Founding {
    let lineage: Lineage = postcard::from_bytes(&[number; 32]).expect("32 bytes are a lineage");
    Founding { lineage, configuration: Configuration::of([NodeId::small(1), NodeId::small(2)]) }
}

pub(crate) fn position(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

/// An entry with a command of that many bytes.
pub(crate) fn entry(term: u64, index: u64, command_bytes: usize) -> Entry {
    let request = RequestId { session: SessionId(Index(1)), sequence: index };
    let command = vec![index as u8 ^ 0x5a; command_bytes].into();
    Entry {
        position: Position { term: Term(term), index: Index(index) },
        payload: Payload::Command { request, floor: 0, command },
    }
}
