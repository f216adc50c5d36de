//! Each invariant, shown a state that breaks it and one beside it that does not.
//!
//! The states are made by hand: servers started from logs that no correct group could have, and
//! views that claim what the story needs.

use std::time::Duration;

use bytes::Bytes;
use chaos::invariant::{
    Application, ConfigurationSafety, Departure, Invariants, Server, View, Violation,
};
use raft::{
    Appended, Config, Configuration, Entry, HardState, Index, Message, NodeId, Payload, Phase,
    Position, Raft, RequestId, Restored, Role, SessionId, SessionLimits, Snapshot, Term, Time,
};

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
    let mut leader = Story::of(1, &[noop(1, 1)]);
    leader.role = Role::Leader;
    leader.commit = Index(1);
    holds(invariants.stepped(&leader.view(Some(Index(0)))));
    let applied =
        |state| Application { node: NodeId::small(1), position: at(1, 1), effective: None, state };
    holds(invariants.applied(&applied(7)));
    holds(invariants.applied(&applied(7)));
    breaks("state machine safety", invariants.applied(&applied(8)));
    holds(invariants.restored(NodeId::small(2), at(1, 1), 7));
    breaks("state machine safety", invariants.restored(NodeId::small(2), at(1, 1), 8));
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
    let applied = |index, effective| Application {
        node: NodeId::small(1),
        position: at(1, index),
        effective,
        state: index,
    };
    holds(invariants.applied(&applied(1, Some(request(7)))));
    holds(invariants.acknowledged(request(7), Index(1)));
    breaks("at most once", invariants.acknowledged(request(7), Index(2)));
    breaks("at most once", invariants.acknowledged(request(8), Index(1)));
    breaks("at most once", invariants.applied(&applied(2, Some(request(7)))));
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
fn a_campaign_of_a_learner_breaks_configuration_safety() {
    let mut stranger = Story::of(9, &[]);
    holds(Invariants::default().stepped(&stranger.view(None)));
    stranger.role = Role::Candidate;
    breaks("configuration safety", Invariants::default().stepped(&stranger.view(None)));
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

/// A server as a story wants it.
struct Story {
    raft: Raft,
    server: Server,
    incarnation: u64,
    role: Role,
    state: HardState,
    commit: Index,
    applied: Index,
}

impl Story {
    /// Server `number` of a group founded by 1 to 4, with this log.
    fn of(number: u8, entries: &[Entry]) -> Self {
        let term = entries.last().map_or(Term(1), |entry| entry.position.term);
        let state = HardState { term, vote: None };
        let founders = Configuration::of((1..=4).map(NodeId::small));
        let restored = Restored {
            hard_state: state,
            snapshot: Snapshot { position: Position::default(), configuration: founders },
            sessions: None,
            entries: entries.to_vec(),
        };
        let raft = Raft::new(config(number), restored, Time::default());
        Self {
            raft: raft.expect("the log is consistent in itself"),
            server: Server(usize::from(number)),
            incarnation: 1,
            role: Role::Follower,
            state,
            commit: Index(0),
            applied: Index(0),
        }
    }

    fn elected(&self) -> Option<NodeId> {
        if self.role == Role::Leader { Some(self.raft.id()) } else { self.state.vote }
    }

    fn view(&self, written: Option<Index>) -> View<'_> {
        View {
            server: self.server,
            node: self.raft.id(),
            incarnation: self.incarnation,
            role: self.role,
            hard_state: self.state,
            commit: self.commit,
            applied: self.applied,
            log: self.raft.log(),
            configuration: self.raft.configuration(),
            // A leader has voted for itself, and its disk knows.
            durable_state: HardState { vote: self.elected(), ..self.state },
            durable: self.raft.last(),
            written,
        }
    }
}

fn config(number: u8) -> Config {
    Config {
        id: NodeId::small(number),
        election_timeout_min: Duration::from_millis(150),
        election_timeout_max: Duration::from_millis(300),
        heartbeat_interval: Duration::from_millis(30),
        inflight_entries_max: 16,
        inflight_bytes_max: 1 << 16,
        message_bytes_max: 1 << 16,
        uncommitted_entries_max: 64,
        reads_max: 16,
        sessions: SessionLimits { sessions_max: 8, replies_per_session_max: 8 },
        reluctance: 1,
        observer: false,
        seed: 1,
    }
}

fn at(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

fn noop(term: u64, index: u64) -> Entry {
    Entry { position: at(term, index), payload: Payload::Noop }
}

fn command(term: u64, index: u64, sequence: u64) -> Entry {
    let command = Bytes::from_static(b"x");
    let payload = Payload::Command { request: request(sequence), floor: 1, command };
    Entry { position: at(term, index), payload }
}

fn request(sequence: u64) -> RequestId {
    RequestId { session: SessionId(Index(1)), sequence }
}

#[track_caller]
fn holds(checked: Result<(), Violation>) {
    if let Err(violation) = checked {
        panic!("{violation}");
    }
}

#[track_caller]
fn breaks(invariant: &str, checked: Result<(), Violation>) {
    let violation = checked.expect_err("the state breaks an invariant");
    assert_eq!(violation.invariant, invariant, "{violation}");
}
