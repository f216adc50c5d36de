//! Raft §5.1, §5.2, §5.4.1; thesis §4.2.3, §6.2, §9.6.

use std::{collections::BTreeSet, time::Duration};

use raft::{
    Barrier, Dropped, Effect, Halt, HardState, Index, Input, Message, NodeId, Note, Phase, Role,
    Term, Write, WriteId,
};

use crate::lone::{Lone, append, at, grant, has_note, heartbeat, is_granted, request, sent};

const THREE: &[u8] = &[1, 2, 3];

/// Raft §5.1: "if one server's current term is smaller than the other's, then it updates".
#[test]
fn a_later_term_makes_a_follower_of_anyone() {
    let mut leader = Lone::of(THREE);
    leader.win(&[2]);
    let effects = leader.hear(2, Message::HeartbeatReply { term: Term(9), round: 1 });
    assert_eq!((leader.raft.role(), leader.raft.term()), (Role::Follower, Term(9)));
    let write = Write::HardState(HardState { term: Term(9), vote: None });
    assert!(effects.contains(&Effect::Persist { id: WriteId(3), write }));
}

/// Raft §5.1: "if a server receives a request with a stale term number, it rejects".
#[test]
fn a_stale_request_is_answered_with_the_present_term() {
    let mut server = Lone::with_log(THREE, 5, &[]);
    let stale = [
        append(4, at(0, 0), &[4], 0),
        heartbeat(4, 0),
        request(4, Phase::Vote, at(3, 9)),
        request(4, Phase::PreVote, at(3, 9)),
    ];
    for message in stale {
        let effects = server.hear(2, message);
        assert_eq!(sent(&effects).iter().map(|(to, _)| *to).collect::<Vec<_>>(), [2]);
        assert_eq!(sent(&effects)[0].1.term(), Term(5));
    }
    assert_eq!((server.raft.term(), server.raft.leader()), (Term(5), None));
}

/// Raft §5.2: a follower that hears nothing for an election timeout campaigns.
#[test]
fn a_follower_campaigns_when_its_timeout_elapses_and_not_before() {
    let mut server = Lone::of(THREE);
    assert_eq!(server.input(Input::Timeout), [], "not due yet");
    let effects = server.timeout();
    assert_eq!(server.raft.role(), Role::Candidate);
    assert_eq!(sent(&effects).len(), 2);
}

/// Raft §5.2: heartbeats and appends keep a follower calm.
#[test]
fn hearing_the_leader_restarts_the_wait() {
    let mut server = Lone::of(THREE);
    server.pass(100);
    server.hear(2, heartbeat(1, 0));
    let first = server.raft.deadline();
    assert!(first >= server.now.plus(Duration::from_millis(150)));
    server.pass(100);
    server.hear(2, append(1, at(0, 0), &[], 0));
    assert!(server.raft.deadline() >= server.now.plus(Duration::from_millis(150)));
    assert_eq!(server.raft.leader(), Some(NodeId::small(2)));
}

/// Raft §5.2: timeouts are random, anew for each wait and different on each server.
#[test]
fn election_timeouts_are_drawn_from_their_interval() {
    let mut server = Lone::of(THREE);
    let mut drawn = BTreeSet::new();
    for _ in 0..50 {
        server.hear(2, heartbeat(1, 0));
        let timeout = server.raft.deadline().since(server.now);
        assert!((150..300).contains(&timeout.as_millis()), "{timeout:?} is out of bounds");
        drawn.insert(timeout);
    }
    assert!(drawn.len() > 40, "only {} different ones of 50", drawn.len());
    // A reluctant server waits as many times longer.
    let mut reluctant = Lone::tuned(THREE, 0, &[], |config| config.reluctance = 3);
    reluctant.hear(2, heartbeat(1, 0));
    assert!(reluctant.raft.deadline().since(reluctant.now) >= Duration::from_millis(450));
}

/// Raft §5.2: "each server will vote for at most one candidate in a given term".
#[test]
fn one_vote_per_term_first_come_first_served() {
    let mut server = Lone::of(THREE);
    assert!(is_granted(&votes(server.hear(2, request(1, Phase::Vote, at(0, 0))))));
    assert!(!is_granted(&votes(server.hear(3, request(1, Phase::Vote, at(0, 0))))));
    assert!(is_granted(&votes(server.hear(2, request(1, Phase::Vote, at(0, 0))))), "repeated");
    assert!(is_granted(&votes(server.hear(3, request(2, Phase::Vote, at(0, 0))))), "a new term");
}

/// Raft figure 2: term and vote are on stable storage before the vote is sent.
#[test]
fn a_vote_waits_for_the_disk() {
    let mut server = Lone::of(THREE);
    let effects = server.hear(2, request(1, Phase::Vote, at(0, 0)));
    let vote = HardState { term: Term(1), vote: Some(NodeId::small(2)) };
    let mut barrier = Barrier::default();
    let mut written = None;
    for effect in effects {
        match effect {
            Effect::Persist { id, write } => {
                assert_eq!(write, Write::HardState(vote));
                barrier.submitted(id);
                written = Some(id);
            }
            Effect::Send { to, message } => assert_eq!(barrier.pass(to, message), None),
            _ => {}
        }
    }
    let id = written.expect("the vote is written");
    assert_eq!(barrier.persisted(id).count(), 1);
}

/// Raft §5.4.1: the voter denies its vote if its own log is more up-to-date: by the term of the
/// last entry, and then by length.
#[test]
fn a_candidate_with_an_older_log_gets_no_vote() {
    let cases = [(at(2, 9), false), (at(3, 2), false), (at(3, 3), true), (at(4, 1), true)];
    for (last, granted) in cases {
        for phase in [Phase::PreVote, Phase::Vote] {
            let mut server = Lone::with_log(THREE, 3, &[1, 1, 3]);
            let effects = votes(server.hear(2, request(5, phase, last)));
            assert_eq!(is_granted(&effects), granted, "{phase:?} with {last}");
        }
    }
}

/// Raft §5.2: a majority of the votes, no less, makes a leader.
#[test]
fn a_majority_elects() {
    let mut server = Lone::of(&[1, 2, 3, 4, 5]);
    server.stand(&[2, 3]);
    server.sync();
    server.hear(2, grant(Term(1), Phase::Vote));
    server.hear(2, grant(Term(1), Phase::Vote));
    assert_eq!(server.raft.role(), Role::Candidate, "the same vote twice is one vote");
    server.hear(4, Message::Vote { term: Term(1), phase: Phase::Vote, granted: false });
    server.hear(9, grant(Term(1), Phase::Vote));
    assert_eq!(server.raft.role(), Role::Candidate, "strangers do not vote");
    server.hear(3, grant(Term(1), Phase::Vote));
    assert_eq!(server.raft.role(), Role::Leader);
}

/// Raft §5.2 and figure 2: a candidate's vote for itself counts once it is durable.
#[test]
fn the_own_vote_counts_when_it_is_durable() {
    let mut server = Lone::of(THREE);
    server.stand(&[2]);
    server.hear(2, grant(Term(1), Phase::Vote));
    assert_eq!(server.raft.role(), Role::Candidate);
    server.sync();
    assert_eq!(server.raft.role(), Role::Leader);
}

/// Raft §5.2: a candidate that hears the leader of its term returns to follower.
#[test]
fn a_candidate_gives_way_to_the_leader_of_its_term() {
    let mut server = Lone::of(THREE);
    server.stand(&[2]);
    assert_eq!((server.raft.role(), server.raft.term()), (Role::Candidate, Term(1)));
    server.hear(3, heartbeat(1, 0));
    assert_eq!(server.raft.role(), Role::Follower);
    assert_eq!(server.raft.leader(), Some(NodeId::small(3)));
}

/// Raft §5.2 (election safety): two leaders in one term cannot be; who sees them stops.
#[test]
fn two_leaders_in_a_term_stop_the_server() {
    let mut server = Lone::of(THREE);
    server.hear(2, heartbeat(1, 0));
    let effects = server.hear(3, heartbeat(1, 0));
    assert_eq!(effects, [Effect::Halt(Halt::TwoLeaders { term: Term(1) })]);
    assert_eq!(server.timeout(), [], "a stopped core does nothing any more");
}

/// Thesis §9.6: a pre-vote raises no term, binds nobody and needs no write.
#[test]
fn a_pre_vote_changes_nothing() {
    let mut server = Lone::of(THREE);
    let before = (server.raft.hard_state(), server.raft.deadline());
    for candidate in [2, 3] {
        let effects = server.hear(candidate, request(1, Phase::PreVote, at(0, 0)));
        assert!(is_granted(&effects), "both may be told yes");
        assert_eq!(sent(&effects)[0].1.term(), Term(1), "it repeats the term it was asked for");
        assert_eq!(effects.len(), 1);
    }
    assert_eq!((server.raft.hard_state(), server.raft.deadline()), before);
}

/// Thesis §9.6: only who could win raises its term.
#[test]
fn the_term_is_raised_after_a_majority_of_pre_votes() {
    let mut server = Lone::of(&[1, 2, 3, 4, 5]);
    server.timeout();
    server.hear(2, grant(Term(1), Phase::PreVote));
    assert_eq!(server.raft.term(), Term(0));
    let effects = server.hear(3, grant(Term(1), Phase::PreVote));
    assert_eq!(server.raft.term(), Term(1));
    assert!(matches!(effects[0], Effect::Persist { write: Write::HardState(_), .. }));
    let asks = |(_, message): &(u8, &Message)| {
        matches!(message, Message::RequestVote { phase: Phase::Vote, term: Term(1), .. })
    };
    assert_eq!(sent(&effects).iter().filter(|sent| asks(sent)).count(), 4);
}

/// Thesis §4.2.3: who hears a leader neither votes nor takes over the term.
#[test]
fn a_vote_is_refused_while_a_leader_is_heard() {
    let mut server = Lone::of(THREE);
    server.hear(2, heartbeat(1, 0));
    server.pass(149);
    let effects = server.hear(3, request(7, Phase::Vote, at(6, 9)));
    assert!(!is_granted(&votes(effects.clone())));
    let reason = Dropped::LeaderAlive;
    assert!(has_note(&effects, &Note::Dropped { from: NodeId::small(3), reason }));
    assert_eq!(server.raft.term(), Term(1));
    server.pass(1);
    assert!(is_granted(&votes(server.hear(3, request(7, Phase::Vote, at(6, 9))))));
}

/// Thesis §4.2.3: a leader that has its quorum is not deposed by a request for votes.
#[test]
fn a_leader_refuses_votes_while_it_leads() {
    let mut leader = Lone::of(THREE);
    leader.win(&[2]);
    let effects = leader.hear(3, request(7, Phase::Vote, at(6, 9)));
    assert!(!is_granted(&votes(effects)));
    assert_eq!((leader.raft.role(), leader.raft.term()), (Role::Leader, Term(1)));
}

/// Thesis §4.2.3, end: a campaign that the leader asked for is exempt.
#[test]
fn a_transfer_overrides_the_refusal() {
    let mut server = Lone::of(THREE);
    server.hear(2, heartbeat(1, 0));
    let term = Term(2);
    let last = at(0, 0);
    let message = Message::RequestVote { term, phase: Phase::Vote, last, transfer: true };
    assert!(is_granted(&votes(server.hear(3, message))));
}

/// Thesis §6.2: a leader that hears no majority for an election timeout steps down.
#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut leader = Lone::of(THREE);
    leader.win(&[2]);
    for _ in 0..6 {
        leader.timeout();
        assert_eq!(leader.raft.role(), Role::Leader, "300 ms are not over");
    }
    let effects = leader.timeout();
    assert!(has_note(&effects, &Note::QuorumLost { term: Term(1) }));
    assert_eq!((leader.raft.role(), leader.raft.leader()), (Role::Follower, None));
}

/// Raft §5.2, §8: a new leader speaks at once, and opens its term with an entry of its own.
#[test]
fn a_new_leader_appends_and_sends_before_it_writes() {
    let mut leader = Lone::of(THREE);
    let effects = leader.win(&[2]);
    let first = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted);
    let send =
        first(|effect| matches!(effect, Effect::Send { message: Message::Append { .. }, .. }));
    let write =
        first(|effect| matches!(effect, Effect::Persist { write: Write::Entries { .. }, .. }));
    // Thesis §10.2.1: the followers write in parallel with the leader.
    assert!(send.is_some() && send < write);
    assert_eq!((leader.terms(), leader.raft.commit()), (vec![1], Index(0)));
}

/// The votes among the effects.
fn votes(effects: Vec<Effect>) -> Vec<Effect> {
    let is_vote =
        |effect: &Effect| matches!(effect, Effect::Send { message: Message::Vote { .. }, .. });
    effects.into_iter().filter(is_vote).collect()
}
