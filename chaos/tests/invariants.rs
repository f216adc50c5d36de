//! Each invariant, shown a state that breaks it and one beside it that does not.
//!
//! The states are made by hand: servers started from logs that no correct group could have, and
//! views that claim what the story needs.

#[path = "invariants/clients.rs"]
mod clients;
#[path = "invariants/elections.rs"]
mod elections;
#[path = "invariants/story.rs"]
mod story;

use std::time::Duration;

use chaos::invariant::{
    Cause, ConfigurationSafety, Departure, Invariants, LeaderHearsQuorum, LeaseExclusive, Server,
    View,
};
use raft::{
    Appended, Configuration, Entry, HardState, Index, Message, NodeId, Payload, Phase, Position,
    Role, Term, Time,
};
use story::{ELECTION_TIMEOUT_MAX, Story, applied, at, breaks, command, holds, noop};

#[test]
fn two_leaders_of_one_term_break_election_safety() {
    let (mut one, mut two) = (Story::of(1, &[]), Story::of(2, &[]));
    let mut invariants = Invariants::default();
    one.role = Role::Leader;
    two.role = Role::Leader;
    (one.state.term, two.state.term) = (Term(3), Term(4));
    holds(invariants.stepped(&one.view(None)));
    holds(invariants.stepped(&two.view(None)));
    (one.state.term, two.state.term) = (Term(5), Term(5));
    holds(invariants.stepped(&one.view(None)));
    breaks("election safety", invariants.stepped(&two.view(None)));
}

#[test]
fn two_leases_at_one_moment_break_their_exclusiveness() {
    let millis = |count| Time(Duration::from_millis(count));
    let mut exclusive = LeaseExclusive::default();
    let (mut one, mut two) = (Story::of(1, &[]), Story::of(2, &[]));
    (one.role, two.role) = (Role::Leader, Role::Leader);
    (one.lease, one.now) = (Some(millis(100)), millis(10));
    holds(exclusive.observe(&one.view(None)));
    // One that is over at the moment when the next is held, and one that was given up.
    (two.lease, two.now) = (Some(millis(200)), millis(100));
    holds(exclusive.observe(&two.view(None)));
    (two.lease, two.now) = (None, millis(110));
    holds(exclusive.observe(&two.view(None)));
    (one.lease, one.now) = (Some(millis(190)), millis(120));
    holds(exclusive.observe(&one.view(None)));
    // Its holder is heard of no more: nobody can know that it is gone.
    (two.lease, two.now) = (Some(millis(300)), millis(189));
    breaks("lease exclusive", exclusive.observe(&two.view(None)));
    // Nor may anybody else be elected meanwhile, lease or no lease.
    let mut three = Story::of(3, &[]);
    (three.role, three.now, three.state.term) = (Role::Leader, millis(150), Term(9));
    breaks("lease exclusive", exclusive.observe(&three.view(None)));
    three.now = millis(301);
    holds(exclusive.observe(&three.view(None)));
}

#[test]
fn one_position_with_two_payloads_breaks_log_matching() {
    let mut invariants = Invariants::default();
    let one = Story::of(1, &[command(1, 1, 1), command(1, 2, 2)]);
    let same = Story::of(2, &[command(1, 1, 1), command(1, 2, 2)]);
    let parted = Story::of(3, &[command(1, 1, 1), command(2, 2, 3)]);
    let other = Story::of(4, &[command(1, 1, 1), command(1, 2, 9)]);
    for story in [&one, &same, &parted] {
        holds(invariants.stepped(&story.view(Some(Index(0)))));
    }
    breaks("log matching", invariants.stepped(&other.view(Some(Index(0)))));
}

#[test]
fn one_position_after_two_pasts_breaks_log_matching() {
    let mut invariants = Invariants::default();
    let one = Story::of(1, &[command(1, 1, 1), command(3, 2, 2)]);
    let other = Story::of(2, &[command(2, 1, 1), command(3, 2, 2)]);
    holds(invariants.stepped(&one.view(Some(Index(0)))));
    breaks("log matching", invariants.stepped(&other.view(Some(Index(0)))));
}

#[test]
fn a_leader_without_a_committed_entry_breaks_leader_completeness() {
    let mut invariants = Invariants::default();
    let mut old = Story::of(1, &[noop(1, 1), noop(2, 2)]);
    old.role = Role::Leader;
    old.state.term = Term(2);
    old.commit = Index(2);
    holds(invariants.stepped(&old.view(Some(Index(0)))));
    let mut complete = Story::of(2, &[noop(1, 1), noop(2, 2), noop(3, 3)]);
    complete.role = Role::Leader;
    complete.state.term = Term(3);
    holds(invariants.stepped(&complete.view(Some(Index(0)))));
    let mut lacking = Story::of(3, &[noop(1, 1), noop(4, 2)]);
    lacking.role = Role::Leader;
    lacking.state.term = Term(4);
    breaks("leader completeness", invariants.stepped(&lacking.view(Some(Index(0)))));
}

#[test]
fn an_old_leader_that_commits_what_a_newer_one_lacks_breaks_leader_completeness() {
    let mut invariants = Invariants::default();
    let mut old = Story::of(1, &[noop(1, 1), noop(2, 2)]);
    old.role = Role::Leader;
    old.state.term = Term(2);
    old.commit = Index(1);
    let mut new = Story::of(2, &[noop(1, 1), noop(3, 2)]);
    new.role = Role::Leader;
    new.state.term = Term(3);
    holds(invariants.stepped(&old.view(Some(Index(0)))));
    holds(invariants.stepped(&new.view(Some(Index(0)))));
    old.commit = Index(2);
    breaks("leader completeness", invariants.stepped(&old.view(None)));
}

#[test]
fn two_committed_entries_at_one_index_break_state_machine_safety() {
    let mut invariants = Invariants::default();
    let mut leader = Story::of(1, &[noop(1, 1), noop(1, 2)]);
    leader.role = Role::Leader;
    leader.commit = Index(2);
    holds(invariants.stepped(&leader.view(Some(Index(0)))));
    let mut follower = Story::of(2, &[noop(1, 1), noop(2, 2)]);
    follower.commit = Index(1);
    holds(invariants.stepped(&follower.view(Some(Index(0)))));
    follower.commit = Index(2);
    breaks("state machine safety", invariants.stepped(&follower.view(None)));
}

#[test]
fn a_commit_that_no_leader_made_breaks_state_machine_safety() {
    let mut invariants = Invariants::default();
    let mut follower = Story::of(2, &[noop(1, 1)]);
    follower.commit = Index(1);
    breaks("state machine safety", invariants.stepped(&follower.view(Some(Index(0)))));
}

#[test]
fn two_states_after_one_entry_break_state_machine_safety() {
    let mut invariants = Invariants::default();
    for number in 1..=3 {
        let mut server = Story::of(number, &[noop(1, 1)]);
        server.role = if number == 1 { Role::Leader } else { Role::Follower };
        server.commit = Index(1);
        holds(invariants.stepped(&server.view(Some(Index(0)))));
    }
    holds(invariants.applied(&applied(1, 1, None, 7)));
    holds(invariants.applied(&applied(2, 1, None, 7)));
    breaks("state machine safety", invariants.applied(&applied(3, 1, None, 8)));
    let mut restored = |state| invariants.restored(Server(4), NodeId::small(4), at(1, 1), state);
    holds(restored(7));
    breaks("state machine safety", restored(8));
}

#[test]
fn applying_out_of_turn_breaks_the_applied_prefix() {
    let entries = [noop(1, 1), noop(1, 2), noop(1, 3)];
    let seen = || {
        let mut invariants = Invariants::default();
        let mut leader = Story::of(1, &entries);
        leader.role = Role::Leader;
        leader.commit = Index(2);
        holds(invariants.stepped(&leader.view(Some(Index(0)))));
        holds(invariants.applied(&applied(1, 1, None, 1)));
        invariants
    };
    holds(seen().applied(&applied(1, 2, None, 2)));
    breaks("applied prefix", seen().applied(&applied(1, 1, None, 1)));
    breaks("applied prefix", seen().applied(&applied(1, 3, None, 3)));
    let mut ahead = seen();
    holds(ahead.applied(&applied(1, 2, None, 2)));
    // It is the next one, but it is not known to be committed.
    breaks("applied prefix", ahead.applied(&applied(1, 3, None, 3)));
}

#[test]
fn a_snapshot_moves_the_applied_prefix() {
    let mut invariants = Invariants::default();
    let mut leader = Story::of(1, &[noop(1, 1), noop(1, 2)]);
    leader.role = Role::Leader;
    leader.commit = Index(2);
    holds(invariants.stepped(&leader.view(Some(Index(0)))));
    let mut follower = Story::of(2, &[noop(1, 1), noop(1, 2)]);
    follower.commit = Index(2);
    holds(invariants.stepped(&follower.view(Some(Index(0)))));
    holds(invariants.applied(&applied(1, 1, None, 1)));
    holds(invariants.restored(Server(2), NodeId::small(2), at(1, 1), 1));
    holds(invariants.applied(&applied(2, 2, None, 2)));
}

#[test]
fn a_second_vote_after_a_restart_breaks_vote_once() {
    let mut invariants = Invariants::default();
    let vote = Message::Vote { term: Term(2), phase: Phase::Vote, granted: true };
    let left = |to: u8, message| Departure {
        server: Server(1),
        node: NodeId::small(1),
        to: NodeId::small(to),
        message,
        hard_state: HardState { term: Term(2), vote: Some(NodeId::small(to)) },
        durable: Position::default(),
    };
    holds(invariants.left(&left(2, &vote)));
    holds(invariants.left(&left(2, &vote)));
    let pre = Message::Vote { term: Term(2), phase: Phase::PreVote, granted: true };
    holds(invariants.left(&left(3, &pre)));
    breaks("vote once", invariants.left(&left(3, &vote)));
}

#[test]
fn a_vote_that_changes_in_one_life_breaks_vote_once() {
    let mut invariants = Invariants::default();
    let mut story = Story::of(1, &[]);
    story.state = HardState { term: Term(2), vote: Some(NodeId::small(2)) };
    holds(invariants.stepped(&story.view(None)));
    // What was lost before anyone heard of it may be given anew.
    story.incarnation += 1;
    story.state.vote = Some(NodeId::small(3));
    holds(invariants.stepped(&story.view(None)));
    story.state.vote = None;
    breaks("vote once", invariants.stepped(&story.view(None)));
}

#[test]
fn rewriting_what_is_committed_breaks_no_truncation() {
    let mut invariants = Invariants::default();
    let mut leader = Story::of(1, &[noop(1, 1), noop(1, 2), noop(1, 3)]);
    leader.role = Role::Leader;
    leader.commit = Index(2);
    holds(invariants.stepped(&leader.view(Some(Index(0)))));
    holds(invariants.stepped(&leader.view(Some(Index(2)))));
    breaks("no truncation below commit", invariants.stepped(&leader.view(Some(Index(1)))));
}

#[test]
fn going_back_breaks_monotony() {
    let entries = [noop(1, 1), noop(1, 2)];
    let mut story = Story::of(1, &entries);
    story.role = Role::Leader;
    (story.commit, story.applied) = (Index(2), Index(1));
    let seen = || {
        let mut invariants = Invariants::default();
        holds(invariants.stepped(&story.view(Some(Index(0)))));
        invariants
    };
    let with = |change: fn(&mut Story)| {
        let mut after = Story { raft: Story::of(1, &entries).raft, ..story };
        change(&mut after);
        seen().stepped(&after.view(None))
    };
    holds(with(|_| {}));
    breaks("monotonic", with(|after| after.commit = Index(1)));
    breaks("monotonic", with(|after| after.applied = Index(0)));
    breaks("monotonic", with(|after| after.applied = Index(3)));
    breaks("monotonic", with(|after| after.commit = Index(3)));
    breaks("monotonic", with(|after| after.state.term = Term(0)));
}

#[test]
fn forgetting_a_term_over_a_restart_breaks_monotony() {
    let mut before = Story::of(1, &[]);
    before.state.term = Term(5);
    let after = |memory, disk| {
        let mut invariants = Invariants::default();
        holds(invariants.stepped(&before.view(None)));
        let mut after = Story::of(1, &[]);
        after.incarnation += 1;
        after.state.term = Term(memory);
        let durable_state = HardState { term: Term(disk), vote: None };
        invariants.stepped(&View { durable_state, ..after.view(None) })
    };
    holds(after(5, 5));
    holds(after(7, 5));
    breaks("monotonic", after(4, 4));
    breaks("monotonic", after(4, 5));
}

#[test]
fn leading_on_in_silence_breaks_leader_hears_quorum() {
    // Servers 1 to 4 found the group: a quorum is the leader and two more.
    let mut leader = Story::of(1, &[]);
    leader.role = Role::Leader;
    let mut invariant = LeaderHearsQuorum::default();
    let mut step = |millis, cause| {
        leader.now = Time(Duration::from_millis(millis));
        leader.cause = cause;
        invariant.observe(&leader.view(None))
    };
    let heard = |number, term| Cause::Answered(NodeId::small(number), Term(term));
    holds(step(0, Cause::Other));
    holds(step(200, heard(2, 1)));
    holds(step(300, heard(3, 1)));
    let late = 200 + u64::try_from(ELECTION_TIMEOUT_MAX.as_millis()).expect("a short time");
    holds(step(late, Cause::Timer));
    // From here on only one other was heard in time; answers may still wait unread, once.
    holds(step(late + 1, Cause::Timer));
    holds(step(late + 2, heard(4, 1)));
    holds(step(late + 3, Cause::Timer));
    holds(step(2 * late, Cause::Timer));
    // What belongs to an older term, or comes from a stranger, is no sign of a quorum.
    holds(step(2 * late + 1, heard(2, 0)));
    holds(step(2 * late + 1, heard(9, 1)));
    breaks("leader hears quorum", step(2 * late + 2, Cause::Timer));
}

#[test]
fn a_follower_may_be_silent_for_ever() {
    let mut follower = Story::of(1, &[]);
    let mut invariant = LeaderHearsQuorum::default();
    for seconds in 0..100 {
        follower.now = Time(Duration::from_secs(seconds));
        follower.cause = Cause::Timer;
        holds(invariant.observe(&follower.view(None)));
    }
}

#[test]
fn a_hasty_or_large_change_breaks_configuration_safety() {
    let change = |index, voters: &[u8]| Entry {
        position: at(2, index),
        payload: Payload::Configuration(Configuration::of(
            voters.iter().copied().map(NodeId::small),
        )),
    };
    let led = |before: &[Entry], commit, after: Entry| {
        let mut safety = ConfigurationSafety::default();
        let mut follower = Story::of(1, before);
        follower.commit = Index(commit);
        holds(safety.observe(&follower.view(Some(Index(0)))));
        let mut entries = before.to_vec();
        entries.push(after);
        let mut leader = Story::of(1, &entries);
        leader.role = Role::Leader;
        leader.commit = Index(commit);
        safety.observe(&leader.view(Some(Index(before.len() as u64))))
    };
    holds(led(&[noop(2, 1)], 1, change(2, &[1, 2, 3])));
    breaks("configuration safety", led(&[noop(2, 1)], 1, change(2, &[1, 2])));
    breaks("configuration safety", led(&[noop(1, 1)], 1, change(2, &[1, 2, 3])));
    let pending = [noop(2, 1), change(2, &[1, 2, 3])];
    breaks("configuration safety", led(&pending, 1, change(3, &[1, 2])));
    holds(led(&pending, 2, change(3, &[1, 2])));
}

#[test]
fn a_promise_that_the_disk_does_not_hold_breaks_durability() {
    let left = |message: Message, vote: u8, durable: u64| {
        Invariants::default().left(&Departure {
            server: Server(1),
            node: NodeId::small(1),
            to: NodeId::small(2),
            message: &message,
            hard_state: HardState { term: Term(2), vote: Some(NodeId::small(vote)) },
            durable: at(2, durable),
        })
    };
    let vote = |term| Message::Vote { term: Term(term), phase: Phase::Vote, granted: true };
    holds(left(vote(2), 2, 0));
    breaks("durability", left(vote(2), 3, 0));
    breaks("durability", left(vote(3), 2, 0));
    let matched = |term, index| Message::AppendReply {
        term: Term(term),
        outcome: Appended::Matched(Index(index)),
    };
    holds(left(matched(2, 5), 2, 5));
    breaks("durability", left(matched(2, 6), 2, 5));
    // The entries of an earlier term may have been replaced since.
    holds(left(matched(1, 6), 2, 5));
}

#[test]
fn applying_what_is_not_on_disk_breaks_durability() {
    let mut story = Story::of(1, &[noop(1, 1)]);
    story.role = Role::Leader;
    (story.commit, story.applied) = (Index(1), Index(1));
    holds(Invariants::default().stepped(&story.view(Some(Index(0)))));
    let unwritten = View { durable: Position::default(), ..story.view(Some(Index(0))) };
    breaks("durability", Invariants::default().stepped(&unwritten));
}

#[test]
fn leading_by_a_vote_that_is_not_on_disk_breaks_durability() {
    let mut story = Story::of(1, &[]);
    story.role = Role::Leader;
    holds(Invariants::default().stepped(&story.view(None)));
    let unvoted = View { durable_state: story.state, ..story.view(None) };
    breaks("durability", Invariants::default().stepped(&unvoted));
}
