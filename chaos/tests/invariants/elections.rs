//! Stories of who stands for election, and of who is asked for a vote.

use std::time::Duration;

use chaos::invariant::{Cause, ConfigurationSafety, Invariants, UndisturbedLeader};
use raft::{HardState, Index, NodeId, Role, Term, Time};

use crate::story::{ELECTION_TIMEOUT_MIN, Story, at, breaks, holds, noop};

fn asked(term: u64, last: u64, transfer: bool) -> Cause {
    Cause::Asked { from: NodeId::small(2), term: Term(term), last: at(1, last), transfer }
}

#[test]
fn a_campaign_of_a_learner_breaks_configuration_safety() {
    let mut stranger = Story::of(9, &[]);
    holds(Invariants::default().stepped(&stranger.view(None)));
    stranger.role = Role::Candidate;
    breaks("configuration safety", Invariants::default().stepped(&stranger.view(None)));
}

#[test]
fn a_learner_stands_only_where_it_was_asked_for_less_than_it_has() {
    let stood = |last, then: Option<Cause>, commit| {
        let mut safety = ConfigurationSafety::default();
        let mut learner = Story::of(9, &[noop(1, 1), noop(1, 2)]);
        learner.commit = Index(commit);
        for cause in [Some(asked(1, last, false)), then].into_iter().flatten() {
            learner.cause = cause;
            holds(safety.observe(&learner.view(None)));
        }
        (learner.role, learner.cause) = (Role::Candidate, Cause::Timer);
        safety.observe(&learner.view(None))
    };
    holds(stood(1, None, 1));
    breaks("configuration safety", stood(2, None, 1));
    breaks("configuration safety", stood(1, None, 2));
    let led = Cause::Led(NodeId::small(3), Term(1));
    breaks("configuration safety", stood(1, Some(led), 1));
}

#[test]
fn voting_or_moving_on_while_a_leader_is_heard_breaks_undisturbed_leader() {
    let heard_ms = u64::try_from(ELECTION_TIMEOUT_MIN.as_millis()).expect("a short time");
    let moved = |after_ms, cause, state| {
        let mut invariant = UndisturbedLeader::default();
        let mut follower = Story::of(1, &[]);
        follower.leader = Some(NodeId::small(3));
        holds(invariant.observe(&follower.view(None)));
        follower.cause = Cause::Led(NodeId::small(3), Term(1));
        holds(invariant.observe(&follower.view(None)));
        follower.now = Time(Duration::from_millis(after_ms));
        (follower.leader, follower.cause, follower.state) = (None, cause, state);
        invariant.observe(&follower.view(None))
    };
    let vote = HardState { term: Term(2), vote: Some(NodeId::small(2)) };
    let later = HardState { term: Term(2), vote: None };
    for state in [vote, later] {
        breaks("undisturbed leader", moved(heard_ms - 1, asked(2, 0, false), state));
        holds(moved(heard_ms, asked(2, 0, false), state));
        holds(moved(heard_ms - 1, asked(2, 0, true), state));
        holds(moved(heard_ms - 1, Cause::Answered(NodeId::small(2), Term(2)), state));
    }
    holds(moved(1, asked(2, 0, false), HardState { term: Term(1), vote: None }));
}
