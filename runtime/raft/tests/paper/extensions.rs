//! Membership (thesis §4), transfer (§3.10), sessions (§6.3), reads (§6.4), snapshots (Raft §7).

use std::time::Duration;

use bytes::Bytes;
use raft::{
    Admission, Answer, Appended, Change, Config, Configuration, Dropped, Effect, Entry, Index,
    Input, LeaseLimits, Message, NodeId, Note, Payload, Phase, Proposal, ReadId, Refusal,
    RequestId, Role, SessionId, SessionLimits, Sessions, Snapshot, Term,
};

use crate::{
    cluster::{command, with_store},
    lone::{Lone, answers, append, at, has_note, is_granted, outcome, request, sent},
};

const THREE: &[u8] = &[1, 2, 3];

/// Thesis §4.1: a server uses the newest configuration in its log, committed or not.
#[test]
fn a_configuration_is_in_force_when_it_is_appended() {
    let mut leader = settled(THREE);
    leader.propose(Proposal::Change(Change::AddLearner(NodeId::small(4))));
    assert!(leader.raft.configuration().learners.contains(&NodeId::small(4)));
    assert!(leader.raft.commit() < leader.raft.last().index);
}

/// Thesis §4.1: one change at a time, and none before an entry of the term (Ongaro, 2015).
#[test]
fn changes_wait_for_each_other_and_for_the_term() {
    let change = || Proposal::Change(Change::AddLearner(NodeId::small(4)));
    let mut leader = Lone::of(THREE);
    leader.win(&[2]);
    assert_eq!(refusal(&leader.propose(change())), Some(Refusal::ChangePending));
    leader.sync();
    leader.acknowledge(2, 1);
    assert_eq!(refusal(&leader.propose(change())), None);
    let other = Proposal::Change(Change::Remove(NodeId::small(3)));
    assert_eq!(refusal(&leader.propose(other)), Some(Refusal::ChangePending));
}

/// The same two rules, for whoever would propose: and not while leadership is handed over.
#[test]
fn a_leader_says_when_a_change_may_begin() {
    let mut leader = Lone::of(THREE);
    assert!(!leader.raft.may_change(), "a follower begins none");
    leader.win(&[2]);
    assert!(!leader.raft.may_change(), "no entry of its term is committed");
    leader.sync();
    leader.acknowledge(2, 1);
    assert!(leader.raft.may_change());
    leader.propose(Proposal::Change(Change::AddLearner(NodeId::small(4))));
    assert!(!leader.raft.may_change(), "one is under way");
    leader.sync();
    leader.acknowledge(2, 2);
    assert!(leader.raft.may_change());
    leader.input(Input::Transfer { to: NodeId::small(3) });
    assert!(!leader.raft.may_change(), "leadership is on its way to another");
}

/// Design: a voter is a peer with its store. The old server goes before the new one comes.
#[test]
fn a_peer_is_a_member_with_one_store() {
    let wiped = with_store(3, 77);
    let mut leader = settled(THREE);
    let add = || Proposal::Change(Change::AddLearner(wiped));
    assert_eq!(refusal(&leader.propose(add())), Some(Refusal::ChangeInvalid));
    leader.propose(Proposal::Change(Change::Remove(NodeId::small(3))));
    leader.sync();
    leader.acknowledge(2, 2);
    assert_eq!(refusal(&leader.propose(add())), None);

    let twice = Configuration { learners: [wiped].into(), ..leader.raft.configuration().clone() };
    let voters = twice.voters.iter().copied().chain([NodeId::small(3)]).collect();
    let payload = Payload::Configuration(Configuration { voters, ..twice });
    let entries = vec![Entry { position: at(1, 1), payload }];
    let message = Message::Append {
        term: Term(1),
        prev: at(0, 0),
        entries: entries.into(),
        commit: Index(0),
    };
    let mut follower = Lone::of(THREE);
    let effects = follower.hear(2, message);
    let (from, reason) = (NodeId::small(2), Dropped::Invalid);
    assert!(has_note(&effects, &Note::Dropped { from, reason }), "no correct leader says that");
}

/// Thesis §4.2: requests are heeded whoever sends them; only answers need membership.
#[test]
fn a_server_votes_for_and_follows_servers_it_does_not_know() {
    let mut server = Lone::of(THREE);
    let effects = server.hear(8, request(1, Phase::PreVote, at(0, 0)));
    assert!(is_granted(&effects));
    server.hear(9, append(1, at(0, 0), &[1], 0));
    assert_eq!(server.raft.leader(), Some(NodeId::small(9)));
}

/// Thesis §4.2.2: who is no voter does not campaign, nor do observers.
#[test]
fn only_voters_campaign() {
    let stranger = Lone::of(&[2, 3]);
    let observer = Lone::tuned(THREE, 0, &[], |config| config.observer = true);
    for mut server in [stranger, observer] {
        assert_eq!(server.timeout(), []);
        server.hear(2, crate::lone::heartbeat(1, 0));
        server.hear(2, Message::TimeoutNow { term: Term(1) });
        assert_eq!(server.raft.role(), Role::Follower);
    }
}

/// Design: a voter is a peer with its store. The same peer with another store is someone else.
#[test]
fn the_same_peer_with_another_store_does_not_count() {
    let mut server = Lone::of(THREE);
    server.stand(&[2]);
    server.sync();
    let message = crate::lone::grant(Term(1), Phase::Vote);
    server.input(Input::Message { from: with_store(2, 77), message });
    assert_eq!(server.raft.role(), Role::Candidate);
}

/// Thesis §3.10: the successor is told when it has the whole log, and not before.
#[test]
fn a_successor_is_told_once_it_has_caught_up() {
    let mut leader = settled(THREE);
    let effects = leader.input(Input::Transfer { to: NodeId::small(3) });
    assert!(sent(&effects).is_empty(), "3 has acknowledged nothing yet");
    assert_eq!(refusal(&leader.propose(command(1, "x"))), Some(Refusal::Transferring));
    let effects = leader.acknowledge(3, 1);
    let told =
        |(to, message): &(u8, &Message)| *to == 3 && matches!(message, Message::TimeoutNow { .. });
    assert!(sent(&effects).iter().any(told));
}

/// Thesis §3.10: the successor campaigns at once, without pre-votes.
#[test]
fn the_successor_campaigns_at_once() {
    let mut server = Lone::of(THREE);
    server.hear(2, crate::lone::heartbeat(1, 0));
    let effects = server.hear(2, Message::TimeoutNow { term: Term(1) });
    assert_eq!((server.raft.role(), server.raft.term()), (Role::Candidate, Term(2)));
    let asks = |(_, message): &(u8, &Message)| {
        matches!(message, Message::RequestVote { phase: Phase::Vote, transfer: true, .. })
    };
    assert!(sent(&effects).iter().all(asks) && sent(&effects).len() == 2);
}

/// Thesis §6.3: a request that the log or the table has is not appended again.
#[test]
fn a_repeated_request_is_not_appended_again() {
    let mut leader = settled(THREE);
    let first = leader.propose(command(1, "x"));
    assert_eq!(first.last(), leader.propose(command(1, "x")).last(), "the same place again");
    leader.sync();
    leader.acknowledge(2, 2);
    assert_eq!(refusal(&leader.propose(command(1, "x"))), Some(Refusal::Applied(Index(2))));
    assert_eq!(leader.raft.last().index, Index(2));
}

/// Thesis §6.3: a new leader may not have applied yet what its log holds; the log answers too.
#[test]
fn a_session_that_is_opened_in_the_unapplied_log_counts() {
    let mut leader = Lone::of(THREE);
    let opening = Entry { position: at(1, 1), payload: Payload::OpenSession { nonce: 3 } };
    let entries = vec![opening];
    let (term, prev, commit) = (Term(1), at(0, 0), Index(0));
    leader.hear(2, Message::Append { term, prev, entries: entries.into(), commit });
    leader.sync();
    leader.win(&[3]);
    let request = RequestId { session: SessionId(Index(1)), sequence: 1 };
    let proposal = Proposal::Command { request, floor: 0, command: Bytes::new() };
    assert_eq!(refusal(&leader.propose(proposal)), None);
}

/// Thesis §6.3: sessions end in the order of the log, so that all servers end the same ones.
#[test]
fn the_session_that_is_silent_longest_gives_way() {
    let limits = SessionLimits { sessions_max: 2, replies_per_session_max: 2 };
    let mut table: Sessions<u64> = Sessions::new(limits);
    let open = |index| -> Entry {
        Entry { position: at(1, index), payload: Payload::OpenSession { nonce: 0 } }
    };
    let say = |index, session, sequence, floor| -> Entry {
        let request = RequestId { session: SessionId(Index(session)), sequence };
        let command = Bytes::new();
        Entry { position: at(1, index), payload: Payload::Command { request, floor, command } }
    };
    table.observe(open(1).view(), |kept| *kept = 0);
    table.observe(open(2).view(), |kept| *kept = 0);
    assert_eq!(table.observe(say(3, 1, 1, 0).view(), |kept| *kept = 30), Admission::Fresh);
    table.observe(open(4).view(), |kept| *kept = 0);
    assert_eq!(table.len(), 2);
    assert_eq!(
        table.observe(say(5, 2, 1, 0).view(), |kept| *kept = 50),
        Admission::Expired,
        "2 was silent"
    );
    assert_eq!(table.observe(say(6, 1, 1, 0).view(), |kept| *kept = 60), Admission::Duplicate(&30));
    assert_eq!(table.observe(say(7, 1, 2, 0).view(), |kept| *kept = 70), Admission::Fresh);
    assert_eq!(table.observe(say(8, 1, 3, 0).view(), |kept| *kept = 80), Admission::Full);
    assert_eq!(
        table.observe(say(9, 1, 3, 2).view(), |kept| *kept = 90),
        Admission::Fresh,
        "1 is forgotten"
    );
    assert_eq!(table.observe(say(10, 1, 1, 2).view(), |kept| *kept = 100), Admission::Expired);
}

/// Thesis §6.4: a read waits for an entry of the term, and for a round begun after it came.
#[test]
fn a_read_waits_for_the_term_and_for_a_round() {
    let mut leader = Lone::of(THREE);
    leader.win(&[2]);
    leader.input(Input::Read { id: ReadId(1) });
    leader.sync();
    leader.hear(2, Message::HeartbeatReply { term: Term(1), round: 0 });
    let effects = leader.acknowledge(2, 1);
    assert!(answers(&effects).is_empty(), "committed; the round begins only now");
    let round = sent(&effects).iter().find_map(|(_, message)| match message {
        Message::Heartbeat { round, .. } => Some(*round),
        _ => None,
    });
    let round = round.expect("a round begins");
    let effects = leader.hear(2, Message::HeartbeatReply { term: Term(1), round });
    assert_eq!(answers(&effects), [&Answer::Read { id: ReadId(1), outcome: Ok(Index(1)) }]);
}

/// Thesis §6.4: reads that come while a round is under way share the next one.
#[test]
fn reads_share_rounds() {
    let mut leader = settled(THREE);
    let first = sent(&leader.input(Input::Read { id: ReadId(1) })).len();
    let second = sent(&leader.input(Input::Read { id: ReadId(2) })).len();
    let third = sent(&leader.input(Input::Read { id: ReadId(3) })).len();
    assert_eq!((first, second, third), (2, 0, 0));
    let effects = leader.hear(2, Message::HeartbeatReply { term: Term(1), round: 1 });
    assert_eq!((answers(&effects).len(), sent(&effects).len()), (1, 2));
    let effects = leader.hear(3, Message::HeartbeatReply { term: Term(1), round: 2 });
    assert_eq!(answers(&effects).len(), 2);
}

/// Thesis §6.4.1: a lease runs from the sending of a round that a majority has answered.
#[test]
fn a_lease_runs_from_the_sending_of_an_answered_round() {
    let mut leader = leasing();
    let began = leader.now;
    leader.input(Input::Read { id: ReadId(1) });
    leader.pass(100);
    leader.hear(2, Message::HeartbeatReply { term: Term(1), round: 1 });
    assert_eq!(leader.raft.lease_until(), Some(began.plus(LEASE)));
    let effects = leader.input(Input::Read { id: ReadId(2) });
    assert_eq!(answers(&effects), [&Answer::Read { id: ReadId(2), outcome: Ok(Index(1)) }]);
    leader.now = began.plus(LEASE);
    let effects = leader.input(Input::Read { id: ReadId(3) });
    assert!(answers(&effects).is_empty(), "it ends at this very moment");
    assert_eq!(sent(&effects).len(), 2, "so it asks");
}

/// Thesis §6.4.1: a leader that has committed nothing in its term does not know what is.
#[test]
fn a_fresh_leader_has_no_lease() {
    let mut leader = Lone::tuned(THREE, 0, &[], lease);
    leader.win(&[2]);
    leader.timeout();
    leader.hear(2, Message::HeartbeatReply { term: Term(1), round: 1 });
    assert_eq!(leader.raft.lease_until(), None);
}

/// Thesis §6.4.1: the successor in a transfer need not wait, so the lease is dropped before.
#[test]
fn a_lease_ends_for_good_before_a_successor_is_told() {
    let mut leader = leasing();
    leader.input(Input::Read { id: ReadId(1) });
    leader.hear(2, Message::HeartbeatReply { term: Term(1), round: 1 });
    assert!(leader.raft.lease_until().is_some());
    leader.input(Input::Transfer { to: NodeId::small(2) });
    assert_eq!(leader.raft.lease_until(), None);
    leader.timeout();
    leader.hear(2, Message::HeartbeatReply { term: Term(1), round: 2 });
    assert_eq!(leader.raft.lease_until(), None, "the word may still be on its way");
}

/// Thesis §6.4.1: leases count on voters that have heard the leader, whatever they know by now.
#[test]
fn a_voter_keeps_to_a_lease_it_does_not_know_of() {
    // Just started: it may have answered a leader and forgotten it.
    let mut voter = Lone::tuned(THREE, 1, &[], lease);
    let asks = || request(2, Phase::PreVote, at(1, 1));
    assert!(!is_granted(&voter.hear(2, asks())));
    voter.pass(150);
    assert!(is_granted(&voter.hear(2, asks())));
    // It heard a leader, and then of a later term.
    voter.hear(3, crate::lone::heartbeat(1, 0));
    let told = Message::Vote { term: Term(5), phase: Phase::Vote, granted: false };
    voter.hear(2, told);
    assert_eq!((voter.raft.term(), voter.raft.leader()), (Term(5), None));
    assert!(!is_granted(&voter.hear(2, request(6, Phase::Vote, at(1, 1)))));
    voter.pass(150);
    assert!(is_granted(&voter.hear(2, request(6, Phase::Vote, at(1, 1)))));
}

/// Raft §7: who needs what is compacted away is offered the snapshot.
#[test]
fn a_follower_that_needs_compacted_entries_is_offered_the_snapshot() {
    let mut leader = settled(THREE);
    leader.propose(command(1, "x"));
    leader.sync();
    leader.acknowledge(2, 2);
    let snapshot = leader.raft.snapshot_at(Index(2)).expect("2 is applied");
    leader.input(Input::SnapshotTaken(snapshot.clone()));
    assert_eq!(leader.raft.log().start(), at(1, 2));
    let effects = leader.timeout();
    assert!(has_note(&effects, &Note::SnapshotOffered { to: NodeId::small(3) }));
    let offer = Message::InstallSnapshot { term: Term(1), snapshot };
    assert!(sent(&effects).contains(&(3, &offer)));
    leader.acknowledge(3, 2);
    let effects = leader.propose(command(2, "y"));
    let append =
        |(to, message): &(u8, &Message)| *to == 3 && matches!(message, Message::Append { .. });
    assert!(sent(&effects).iter().any(append), "after the snapshot, entries again");
}

/// Raft §7: an installed snapshot replaces the log unless that has its last entry.
#[test]
fn an_installed_snapshot_takes_the_place_of_the_log() {
    let mut server = Lone::with_log(THREE, 2, &[1, 2, 2]);
    let configuration = Configuration::of([1, 2, 4].map(NodeId::small));
    let snapshot = Snapshot { position: at(3, 9), configuration };
    let offer = Message::InstallSnapshot { term: Term(3), snapshot: snapshot.clone() };
    let effects = server.hear(2, offer);
    let from = NodeId::small(2);
    assert!(effects.contains(&Effect::Install { from, snapshot: snapshot.clone() }));
    let sessions = server.raft.sessions().clone();
    let effects = server.input(Input::SnapshotInstalled { snapshot: snapshot.clone(), sessions });
    assert_eq!((server.raft.last(), server.raft.applied()), (at(3, 9), Index(9)));
    assert_eq!(*server.raft.configuration(), snapshot.configuration);
    assert_eq!(outcome(&effects), Appended::Matched(Index(9)));
    let effects = server.hear(2, append(3, at(3, 9), &[3], 10));
    assert_eq!(
        (outcome(&effects), server.raft.commit()),
        (Appended::Matched(Index(10)), Index(10))
    );
}

/// Raft §7: a snapshot of what the log has already is not fetched.
#[test]
fn a_snapshot_that_brings_nothing_is_not_fetched() {
    let mut server = Lone::with_log(THREE, 2, &[1, 2, 2]);
    let configuration = server.raft.configuration().clone();
    let snapshot = Snapshot { position: at(2, 2), configuration };
    let effects = server.hear(2, Message::InstallSnapshot { term: Term(3), snapshot });
    assert_eq!((outcome(&effects), server.raft.commit()), (Appended::Matched(Index(2)), Index(2)));
    assert_eq!(server.terms(), [1, 2, 2]);
}

/// A leader whose opening entry is committed with the help of server 2.
fn settled(voters: &[u8]) -> Lone {
    let mut leader = Lone::of(voters);
    leader.win(&[2]);
    leader.sync();
    leader.acknowledge(2, 1);
    assert_eq!(leader.raft.commit(), Index(1));
    leader
}

fn lease(config: &mut Config) {
    config.lease = Some(LeaseLimits { drift_ppm_max: 0, margin: Duration::from_millis(20) });
}

/// A leader that may hold leases, with its opening entry committed.
fn leasing() -> Lone {
    let mut leader = Lone::tuned(THREE, 0, &[], lease);
    leader.win(&[2]);
    leader.sync();
    leader.acknowledge(2, 1);
    assert_eq!(leader.raft.lease_until(), None, "no round was answered");
    leader
}

/// What the margin leaves of the shortest election timeout.
const LEASE: Duration = Duration::from_millis(130);

/// Why the one proposal was refused, if it was.
fn refusal(effects: &[Effect]) -> Option<Refusal> {
    match answers(effects)[..] {
        [Answer::Proposed { outcome, .. }] => outcome.err(),
        ref other => panic!("not one answer but {other:?}"),
    }
}
