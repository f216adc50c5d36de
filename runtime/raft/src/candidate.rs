//! The candidate: asks the voters of its configuration, first whether it could win, then to win.
//!
//! Invariant: its own vote counts only once it is durable, so a vote counted is never forgotten.

use crate::{
    Effect, Input, Message, NodeId, Phase, Term, WriteId,
    quorum::Votes,
    server::{Server, Turn},
};

/// The state of a campaign.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The term that it campaigns in: its own, or in the pre-vote phase the next.
    term: Term,
    phase: Phase,
    transfer: bool,
    /// The write of its vote for itself. Pre-votes bind nobody and need none.
    own_vote: Option<WriteId>,
    votes: Votes,
}

impl Candidate {
    /// Someone who asks whether it could win `term` (thesis §9.6).
    pub(crate) fn before(term: Term) -> Self {
        let phase = Phase::PreVote;
        Self { term, phase, transfer: false, own_vote: None, votes: Votes::default() }
    }

    /// Someone who stands in `term` and has voted for itself with that write.
    pub(crate) fn standing(term: Term, own_vote: WriteId, transfer: bool) -> Self {
        let votes = Votes::default();
        Self { term, phase: Phase::Vote, transfer, own_vote: Some(own_vote), votes }
    }

    /// Asks all other voters.
    pub(crate) fn campaign(&mut self, server: &Server, effects: &mut Vec<Effect>) -> Turn {
        let voters = server.configuration().voters.iter();
        voters.for_each(|voter| self.ask(*voter, server, effects));
        self.count(server)
    }

    /// Takes one input; messages are of this term, or grant a pre-vote.
    pub(crate) fn step(
        &mut self,
        server: &mut Server,
        input: Input,
        effects: &mut Vec<Effect>,
    ) -> Turn {
        match input {
            Input::Timeout => self.timeout(server),
            Input::Message { from, message } => self.heed(server, from, &message),
            Input::Persisted(_) => self.count(server),
            Input::Connected(voter) => {
                if !self.votes.has(voter) && server.configuration().voters.contains(&voter) {
                    self.ask(voter, server, effects);
                }
                Turn::Stay
            }
            Input::Propose { .. } | Input::Read { .. } | Input::Transfer { .. } => {
                server.refuse(&input, effects);
                Turn::Stay
            }
            Input::SnapshotTaken(_)
            | Input::SnapshotInstalled { .. }
            | Input::Fetched { .. }
            | Input::Fetching { .. } => Turn::Stay,
        }
    }

    fn timeout(&mut self, server: &mut Server) -> Turn {
        if server.woke_late {
            server.arm_heartbeat();
            return Turn::Stay;
        }
        if !server.may_campaign() {
            return Turn::StepDown;
        }
        // Nobody won: begin again (Raft §5.2), with pre-votes again, for the others may have
        // found a leader meanwhile.
        Turn::Campaign { phase: Phase::PreVote, transfer: false }
    }

    fn heed(&mut self, server: &Server, from: NodeId, message: &Message) -> Turn {
        let Message::Vote { term, phase, granted } = *message else { return Turn::Stay };
        // A grant repeats the term of the campaign; a refusal carries the voter's own term,
        // which is not above ours, or we would not be candidate any more.
        if phase != self.phase || (granted && term != self.term) {
            return Turn::Stay;
        }
        self.votes.cast(from, granted);
        self.count(server)
    }

    fn count(&mut self, server: &Server) -> Turn {
        if self.own_vote.is_none_or(|write| server.writes.is_durable(write)) {
            self.votes.cast(server.id(), true);
        }
        if !self.votes.won(&server.configuration().voters) {
            return Turn::Stay;
        }
        match self.phase {
            Phase::PreVote => Turn::Campaign { phase: Phase::Vote, transfer: false },
            Phase::Vote => Turn::Lead,
        }
    }

    fn ask(&self, voter: NodeId, server: &Server, effects: &mut Vec<Effect>) {
        if voter == server.id() {
            return;
        }
        let Self { term, phase, transfer, .. } = *self;
        let message = Message::RequestVote { term, phase, last: server.log.last(), transfer };
        effects.push(Effect::Send { to: voter, message });
    }
}
