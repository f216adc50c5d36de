//! Vote once: a server votes for at most one candidate in a term, across restarts (Raft §5.2).
//!
//! What binds is what others have heard: a vote that was lost with the disk before anyone heard
//! of it may be given anew. So votes are recorded where they leave the server, and, for the vote
//! for itself, where it makes a leader; within one life the vote in memory must not change.

use std::collections::BTreeMap;

use raft::{HardState, Message, NodeId, Phase, Role, Term};

use super::{Departure, PerServer, Server, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct VoteOnce {
    heard: PerServer<BTreeMap<Term, NodeId>>,
    held: PerServer<Held>,
}

#[derive(Debug, Default)]
struct Held {
    incarnation: u64,
    term: Term,
    vote: Option<NodeId>,
    led: Term,
}

impl VoteOnce {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let held = self.held.of(view.server);
        let state = view.hard_state;
        let same = held.incarnation == view.incarnation && held.term == state.term;
        if let (true, Some(before)) = (same, held.vote)
            && state.vote != Some(before)
        {
            return Err(violation(view.node, state.term, before, state.vote));
        }
        let led = if view.role == Role::Leader { state.term } else { held.led };
        let elected = led != held.led;
        *held = Held { incarnation: view.incarnation, term: state.term, vote: state.vote, led };
        if elected { self.record(view.server, view.node, led, view.node) } else { Ok(()) }
    }

    /// A server's disk is known to keep what was once durable.
    pub fn kept(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let HardState { term, vote } = view.durable_state;
        vote.map_or(Ok(()), |vote| self.record(view.server, view.node, term, vote))
    }

    /// A message leaves a server.
    pub fn left(&mut self, departure: &Departure<'_>) -> Result<(), Violation> {
        let (term, vote) = match departure.message {
            Message::Vote { term, phase: Phase::Vote, granted: true } => (*term, departure.to),
            Message::RequestVote { term, phase: Phase::Vote, .. } => (*term, departure.node),
            _ => return Ok(()),
        };
        self.record(departure.server, departure.node, term, vote)
    }

    fn record(
        &mut self,
        server: Server,
        node: NodeId,
        term: Term,
        vote: NodeId,
    ) -> Result<(), Violation> {
        let before = *self.heard.of(server).entry(term).or_insert(vote);
        if before == vote { Ok(()) } else { Err(violation(node, term, before, Some(vote))) }
    }
}

fn violation(node: NodeId, term: Term, before: NodeId, after: Option<NodeId>) -> Violation {
    Violation::of(
        "vote once",
        format!("{node:?} votes in term {term} for {before:?}, then for {after:?}"),
    )
}
