//! One core and nobody else: the test plays the other servers, the disk and the clock.

use std::time::Duration;

use raft::{
    Answer, Appended, Config, Configuration, Effect, Entries, Entry, HardState, Index, Input,
    Message, NodeId, Note, Payload, Phase, Position, Proposal, ProposalId, Raft, Restored, Role,
    Term, Time, WriteId,
};

use super::cluster::{config, founded};

/// A server numbered 1.
pub(crate) struct Lone {
    pub(crate) raft: Raft,
    pub(crate) now: Time,
    written: WriteId,
}

impl Lone {
    /// A server of `voters` that has nothing on its disk.
    pub(crate) fn of(voters: &[u8]) -> Self {
        Self::with_log(voters, 0, &[])
    }

    /// A server in `term` with one entry of each of these terms on its disk.
    pub(crate) fn with_log(voters: &[u8], term: u64, terms: &[u64]) -> Self {
        Self::tuned(voters, term, terms, |_| {})
    }

    pub(crate) fn tuned(voters: &[u8], term: u64, terms: &[u64], tune: fn(&mut Config)) -> Self {
        let configuration = Configuration::of(voters.iter().copied().map(NodeId::small));
        let entries = entries(1, terms);
        let hard_state = HardState { term: Term(term), vote: None };
        let disk = Restored { hard_state, entries: entries.to_vec(), ..founded(configuration) };
        let mut config = config(1);
        tune(&mut config);
        let now = Time::default();
        let raft = Raft::new(config, disk, now).expect("the test's disk is consistent");
        Self { raft, now, written: WriteId(0) }
    }

    /// Takes an input, and leaves the disk to the test.
    pub(crate) fn input(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.raft.step(self.now, input, &mut effects);
        for effect in &effects {
            if let Effect::Persist { id, .. } = effect {
                self.written = *id;
            }
        }
        effects
    }

    pub(crate) fn hear(&mut self, from: u8, message: Message) -> Vec<Effect> {
        self.input(Input::Message { from: NodeId::small(from), message })
    }

    /// The disk finishes all it was given.
    pub(crate) fn sync(&mut self) -> Vec<Effect> {
        self.input(Input::Persisted(self.written))
    }

    /// The timer fires when it is due.
    pub(crate) fn timeout(&mut self) -> Vec<Effect> {
        self.now = self.raft.deadline();
        self.input(Input::Timeout)
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now = self.now.plus(Duration::from_millis(millis));
    }

    pub(crate) fn propose(&mut self, proposal: Proposal) -> Vec<Effect> {
        self.input(Input::Propose { id: ProposalId(1), proposal })
    }

    /// Stands for election: the others answer the pre-vote, not yet the vote.
    pub(crate) fn stand(&mut self, granting: &[u8]) -> Vec<Effect> {
        self.timeout();
        let term = self.raft.term().next();
        let mut effects = Vec::new();
        for voter in granting {
            effects.extend(self.hear(*voter, grant(term, Phase::PreVote)));
        }
        effects
    }

    /// Wins an election with these votes. The opening entry is sent, not yet durable.
    pub(crate) fn win(&mut self, granting: &[u8]) -> Vec<Effect> {
        self.stand(granting);
        let mut effects = self.sync();
        for voter in granting {
            effects.extend(self.hear(*voter, grant(self.raft.term(), Phase::Vote)));
        }
        assert_eq!(self.raft.role(), Role::Leader, "the test's votes should elect it");
        effects
    }

    /// A follower acknowledges the log up to `index`.
    pub(crate) fn acknowledge(&mut self, from: u8, index: u64) -> Vec<Effect> {
        let outcome = Appended::Matched(Index(index));
        self.hear(from, Message::AppendReply { term: self.raft.term(), outcome })
    }

    /// The terms of its entries.
    pub(crate) fn terms(&self) -> Vec<u64> {
        let log = self.raft.log();
        (log.start().index.0 + 1..=log.last().index.0)
            .filter_map(|index| Some(log.term_at(Index(index))?.0))
            .collect()
    }
}

pub(crate) fn at(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

/// Consecutive entries from `first` on, one of each of these terms.
pub(crate) fn entries(first: u64, terms: &[u64]) -> Entries {
    let places = (first..).zip(terms);
    places
        .map(|(index, term)| Entry { position: at(*term, index), payload: Payload::Noop })
        .collect()
}

pub(crate) fn append(term: u64, prev: Position, terms: &[u64], commit: u64) -> Message {
    let entries = entries(prev.index.0 + 1, terms);
    Message::Append { term: Term(term), prev, entries, commit: Index(commit) }
}

pub(crate) fn heartbeat(term: u64, commit: u64) -> Message {
    Message::Heartbeat { term: Term(term), round: 1, commit: Index(commit) }
}

pub(crate) fn request(term: u64, phase: Phase, last: Position) -> Message {
    Message::RequestVote { term: Term(term), phase, last, transfer: false }
}

pub(crate) fn grant(term: Term, phase: Phase) -> Message {
    Message::Vote { term, phase, granted: true }
}

/// What was sent, and to whom.
pub(crate) fn sent(effects: &[Effect]) -> Vec<(u8, &Message)> {
    let mut sent = Vec::new();
    for effect in effects {
        if let Effect::Send { to, message } = effect {
            sent.push((to.peer.0[31], message));
        }
    }
    sent
}

/// Whether the one vote that was sent grants.
pub(crate) fn is_granted(effects: &[Effect]) -> bool {
    match sent(effects)[..] {
        [(_, Message::Vote { granted, .. })] => *granted,
        ref other => panic!("not one vote but {other:?}"),
    }
}

/// What the one reply to an append says.
pub(crate) fn outcome(effects: &[Effect]) -> Appended {
    match sent(effects)[..] {
        [(_, Message::AppendReply { outcome, .. })] => *outcome,
        ref other => panic!("not one reply but {other:?}"),
    }
}

pub(crate) fn answers(effects: &[Effect]) -> Vec<&Answer> {
    let mut answers = Vec::new();
    for effect in effects {
        if let Effect::Answer(answer) = effect {
            answers.push(answer);
        }
    }
    answers
}

pub(crate) fn has_note(effects: &[Effect], wanted: &Note) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Note(note) if note == wanted))
}
