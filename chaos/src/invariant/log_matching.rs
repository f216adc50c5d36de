//! Log matching: logs that agree on an entry's position agree on all entries up to it (Raft §5.3).
//!
//! By induction over the index this is the same as: a position names one payload and one
//! preceding term, whichever log it stands in. So every entry is compared once, when it is
//! written, with what its position was first seen to name.

use raft::{EntryRef, Index, Payload, Term};

use super::{View, Violation};
use crate::seed::mix;

/// See the module.
#[derive(Debug, Default)]
pub struct LogMatching {
    /// By index, less one: what stood there, by term.
    places: Vec<Vec<Record>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Record {
    term: Term,
    prev: Term,
    digest: u64,
}

impl LogMatching {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let Some(written) = view.written else { return Ok(()) };
        let mut index = written.max(view.log.start().index);
        let Some(mut prev) = view.log.term_at(index) else {
            return Err(Self::violation(view, index, "the entry before what was written is gone"));
        };
        while index < view.log.last().index {
            index = index.next();
            let Some(entry) = view.log.get(index) else {
                return Err(Self::violation(view, index, "the log has a hole"));
            };
            if entry.position.index != index {
                return Err(Self::violation(view, index, "the entry belongs elsewhere"));
            }
            if entry.position.term < prev || entry.position.term > view.hard_state.term {
                return Err(Self::violation(view, index, "its term is out of order"));
            }
            self.compare(view, entry, prev)?;
            prev = entry.position.term;
        }
        Ok(())
    }

    fn compare(
        &mut self,
        view: &View<'_>,
        entry: EntryRef<'_>,
        prev: Term,
    ) -> Result<(), Violation> {
        let index = entry.position.index;
        let record = Record { term: entry.position.term, prev, digest: digest(entry) };
        let place = usize::try_from(index.prev().0).expect("a model's log fits into memory");
        if self.places.len() <= place {
            self.places.resize_with(place + 1, Vec::new);
        }
        let records = &mut self.places[place];
        match records.iter().find(|known| known.term == record.term) {
            None => records.push(record),
            Some(known) if *known == record => {}
            Some(known) if known.prev != prev => {
                let other = known.prev;
                let what = format!("it follows an entry of term {prev}, elsewhere of term {other}");
                return Err(Self::violation(view, index, &what));
            }
            Some(_) => return Err(Self::violation(view, index, "it holds another payload")),
        }
        Ok(())
    }

    fn violation(view: &View<'_>, index: Index, what: &str) -> Violation {
        let term = view.log.term_at(index).unwrap_or_default();
        Violation::of("log matching", format!("entry {term}.{index} of {:?}: {what}", view.node))
    }
}

/// A number that tells entries apart, position and payload.
pub fn digest(entry: EntryRef<'_>) -> u64 {
    let placed = mix(entry.position.term.0, entry.position.index.0);
    match entry.payload {
        Payload::Noop => mix(placed, 1),
        Payload::OpenSession { nonce } => mix(mix(placed, 2), nonce),
        Payload::Command { request, floor, command } => {
            let named = mix(mix(mix(placed, 3), request.session.0.0), request.sequence);
            command.chunks(8).fold(mix(named, floor), |folded, chunk| {
                chunk
                    .iter()
                    .fold(folded, |word, byte| (word << 8) ^ (word >> 56) ^ u64::from(*byte))
            })
        }
        Payload::Configuration(configuration) => {
            let voters = configuration.voters.iter().map(|node| (4, node));
            let learners = configuration.learners.iter().map(|node| (5, node));
            voters.chain(learners).fold(placed, |folded, (kind, node)| {
                let peer =
                    node.peer.0.iter().fold(kind, |word, byte| (word << 7) ^ u64::from(*byte));
                let [low, high] = [node.store.0 as u64, (node.store.0 >> 64) as u64];
                mix(mix(mix(folded, peer), low), high)
            })
        }
    }
}
