//! Reads that wait until their leader has proved that it still leads (thesis §6.4, Raft §8).
//!
//! Knows neither members nor terms. Invariant: a read is only answered by a heartbeat round that
//! began after the read had arrived, with the commit index of that moment.

use std::collections::VecDeque;

use crate::{Index, ReadId};

/// The reads of one leader.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// They wait for a round to begin.
    waiting: Vec<ReadId>,
    /// They wait for their round to be answered; rounds rise.
    asked: VecDeque<Asked>,
}

#[derive(Debug)]
struct Asked {
    round: u64,
    index: Index,
    reads: Vec<ReadId>,
}

impl Reads {
    /// How many reads wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.asked.iter().map(|asked| asked.reads.len()).sum::<usize>()
    }

    /// A read arrives.
    pub(crate) fn wait(&mut self, read: ReadId) {
        self.waiting.push(read);
    }

    /// Whether reads wait and no round is under way that others would share.
    pub(crate) fn want_round(&self) -> bool {
        !self.waiting.is_empty() && self.asked.is_empty()
    }

    /// A round begins: all waiting reads join it.
    pub(crate) fn begin(&mut self, round: u64, index: Index) {
        if !self.waiting.is_empty() {
            let reads = std::mem::take(&mut self.waiting);
            self.asked.push_back(Asked { round, index, reads });
        }
    }

    /// A quorum answered this round: it and all before it are confirmed. Yields their reads.
    pub(crate) fn confirm(&mut self, round: u64) -> impl Iterator<Item = (ReadId, Index)> + '_ {
        let count = self.asked.iter().take_while(|asked| asked.round <= round).count();
        self.asked
            .drain(..count)
            .flat_map(|asked| asked.reads.into_iter().map(move |read| (read, asked.index)))
    }

    /// All reads, when leadership ends.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = ReadId> + '_ {
        let asked = self.asked.drain(..).flat_map(|asked| asked.reads);
        asked.chain(self.waiting.drain(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_waits_for_a_round_that_began_after_it() {
        let mut reads = Reads::default();
        reads.wait(ReadId(1));
        assert!(reads.want_round());
        reads.begin(5, Index(7));
        reads.wait(ReadId(2));
        assert!(!reads.want_round(), "a round is under way; the next one is shared");
        assert_eq!(reads.confirm(4).count(), 0);
        assert_eq!(reads.confirm(5).collect::<Vec<_>>(), [(ReadId(1), Index(7))]);
        assert!(reads.want_round());
        assert_eq!(reads.len(), 1);
        reads.begin(6, Index(9));
        reads.wait(ReadId(3));
        assert_eq!(reads.drain().collect::<Vec<_>>(), [ReadId(2), ReadId(3)]);
        assert_eq!(reads.len(), 0);
    }
}
