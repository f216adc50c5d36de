//! The voter's side of an election: whether to grant a vote. The same in every role.
//!
//! Judges and changes nothing. Invariant: who is refused here could not lead safely, or is not
//! needed because a leader is alive.

use std::cmp::Ordering;

use crate::{NodeId, Phase, Position, Term, planted::Planted, server::Server};

/// A request for a vote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) from: NodeId,
    pub(crate) term: Term,
    pub(crate) phase: Phase,
    pub(crate) last: Position,
    pub(crate) transfer: bool,
}

/// What a voter makes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The vote is given, or would be.
    Granted,
    /// Not in this term, or not to this candidate.
    Refused,
    /// Not to this candidate: its log is behind ours.
    Behind,
    /// A leader is alive; the request does not even change the term.
    LeaderAlive,
}

/// Judges a request for a vote or a pre-vote.
pub(crate) fn judge(server: &Server, request: &Request) -> Verdict {
    // Thesis §4.2.3: a server that heard a leader within the minimum election timeout neither
    // takes over the term nor grants the vote, so that servers which do not hear the leader
    // cannot depose it. A leader hears itself for as long as CheckQuorum lets it lead. The
    // successor in a transfer has the leader's word and is exempt.
    let is_led = hears_leader(server) && !server.plant.breaks(Planted::VoteBesideLeader);
    if is_led && !request.transfer {
        return Verdict::LeaderAlive;
    }
    let is_free = match request.term.cmp(&server.term()) {
        Ordering::Less => false,
        // Raft §5.2: one vote per term, and none once the term's leader is known.
        Ordering::Equal => match server.hard_state.vote {
            Some(_) if server.plant.breaks(Planted::SecondVote) => true,
            Some(vote) => vote == request.from && request.phase == Phase::Vote,
            None => server.leader.is_none(),
        },
        Ordering::Greater => true,
    };
    // Raft §5.4.1: the candidate's log must be at least as up-to-date as ours, or it may lack
    // committed entries.
    match is_free {
        false => Verdict::Refused,
        true if request.last < server.log.last() => Verdict::Behind,
        true => Verdict::Granted,
    }
}

fn hears_leader(server: &Server) -> bool {
    let silence = server.now.since(server.heard);
    let is_fresh = silence < server.config.election_timeout_min;
    match server.leader {
        Some(leader) => leader == server.id() || is_fresh,
        // A lease counts on whoever heard its leader, also when that voter has learned of a later
        // term since, or has forgotten all of it in a crash: `heard` begins with the start.
        None => server.config.lease.is_some() && is_fresh && !forgets_at_start(server),
    }
}

fn forgets_at_start(server: &Server) -> bool {
    server.plant.breaks(Planted::LeaseForgottenAtStart)
}
