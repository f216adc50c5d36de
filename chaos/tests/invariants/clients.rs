//! Invariants of what clients are told: each shown what breaks it, and what beside it does not.
//!
//! At most once, `Fail` is final, linearizable reads.

use chaos::invariant::Invariants;
use raft::{Index, NodeId, Role};

use super::story::{Story, applied, at, breaks, command, holds, noop, request};

#[test]
fn a_request_that_stands_twice_in_a_log_breaks_at_most_once() {
    let mut invariants = Invariants::default();
    let mut leader = Story::of(1, &[command(1, 1, 7), command(1, 2, 8)]);
    leader.role = Role::Leader;
    holds(invariants.stepped(&leader.view(Some(Index(0)))));
    // Elsewhere, in a log that has it nowhere else, it may stand once more.
    let mut parted = Story::of(2, &[noop(2, 1), command(2, 2, 7)]);
    parted.role = Role::Leader;
    holds(invariants.stepped(&parted.view(Some(Index(0)))));
    let mut twice = Story::of(3, &[command(1, 1, 7), command(3, 2, 7)]);
    twice.role = Role::Leader;
    breaks("at most once", invariants.stepped(&twice.view(Some(Index(0)))));
}

#[test]
fn a_request_that_takes_effect_twice_breaks_at_most_once() {
    let mut invariants = Invariants::default();
    let mut leader = Story::of(1, &[noop(1, 1), noop(1, 2)]);
    leader.role = Role::Leader;
    leader.commit = Index(2);
    holds(invariants.stepped(&leader.view(Some(Index(0)))));
    holds(invariants.applied(&applied(1, 1, Some(request(7)), 1)));
    holds(invariants.acknowledged(request(7), Index(1)));
    breaks("at most once", invariants.acknowledged(request(7), Index(2)));
    breaks("at most once", invariants.acknowledged(request(8), Index(1)));
    breaks("at most once", invariants.applied(&applied(1, 2, Some(request(7)), 2)));
}

#[test]
fn a_read_behind_an_earlier_commit_is_not_linearizable() {
    let mut invariants = Invariants::default();
    let mut leader = Story::of(1, &[noop(1, 1), noop(1, 2)]);
    leader.role = Role::Leader;
    leader.commit = Index(1);
    holds(invariants.stepped(&leader.view(Some(Index(0)))));
    let early = invariants.read_asked();
    leader.commit = Index(2);
    holds(invariants.stepped(&leader.view(None)));
    let late = invariants.read_asked();
    holds(invariants.read_answered(NodeId::small(1), early, Index(1)));
    holds(invariants.read_answered(NodeId::small(1), late, Index(2)));
    breaks("linearizable read", invariants.read_answered(NodeId::small(1), late, Index(1)));
}

#[test]
fn a_failed_request_that_takes_effect_breaks_fail_is_final() {
    let committed = || {
        let mut invariants = Invariants::default();
        let mut leader = Story::of(1, &[noop(1, 1), command(1, 2, 7)]);
        leader.role = Role::Leader;
        leader.commit = Index(2);
        holds(invariants.stepped(&leader.view(Some(Index(0)))));
        holds(invariants.applied(&applied(1, 1, None, 1)));
        invariants
    };
    // It was proposed where another term's entry is committed: it never takes effect.
    let mut elsewhere = committed();
    holds(elsewhere.failed(request(7), at(2, 1)));
    breaks("fail is final", elsewhere.applied(&applied(1, 2, Some(request(7)), 2)));
    let mut late = committed();
    holds(late.applied(&applied(1, 2, Some(request(7)), 2)));
    breaks("fail is final", late.failed(request(7), at(2, 1)));
}

#[test]
fn fail_before_anything_else_is_committed_there_breaks_fail_is_final() {
    let mut invariants = Invariants::default();
    let mut leader = Story::of(1, &[noop(1, 1), command(1, 2, 7), command(1, 3, 8)]);
    leader.role = Role::Leader;
    leader.commit = Index(2);
    holds(invariants.stepped(&leader.view(Some(Index(0)))));
    breaks("fail is final", invariants.failed(request(7), at(1, 2)));
    breaks("fail is final", invariants.failed(request(8), at(1, 3)));
}
