//! What no correct server says, what no correct store holds, and timers that come late.

use raft::{
    Appended, Configuration, Dropped, Effect, Entry, HardState, Index, Input, Message, NodeId,
    Note, Payload, Phase, Raft, Role, Snapshot, Term, Time,
};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    cluster::{command, config, founded},
    lone::{Lone, append, at, entries, has_note, heartbeat, request, sent},
};

const THREE: &[u8] = &[1, 2, 3];

/// Messages that contradict themselves are dropped, and change nothing.
#[test]
fn messages_that_contradict_themselves_are_dropped() {
    let last = u64::MAX;
    let overlap =
        Configuration { voters: [NodeId::small(1)].into(), learners: [NodeId::small(1)].into() };
    let payload = Payload::Configuration(overlap.clone());
    let bad_configuration = vec![Entry { position: at(1, 1), payload }].into();
    let (term, prev, commit) = (Term(2), at(0, 0), Index(0));
    let gap = entries(2, &[1]);
    let messages = [
        append(last, prev, &[1], 0),
        append(0, prev, &[], 0),
        append(2, at(3, 1), &[], 0),
        append(2, at(0, 7), &[], 0),
        Message::Append { term, prev: at(1, last), entries: entries(1, &[2]), commit },
        append(2, at(1, 1), &[3], 0),
        append(2, at(2, 1), &[1], 0),
        append(2, prev, &[0], 0),
        Message::Append { term, prev, entries: gap, commit },
        Message::Append { term, prev, entries: bad_configuration, commit },
        request(last, Phase::Vote, at(1, 1)),
        request(2, Phase::PreVote, at(3, 1)),
        Message::InstallSnapshot { term, snapshot: Snapshot::default() },
        Message::InstallSnapshot {
            term,
            snapshot: Snapshot { position: at(1, 1), configuration: overlap },
        },
        Message::TimeoutNow { term: Term(0) },
    ];
    let mut server = Lone::with_log(THREE, 1, &[1]);
    for message in messages {
        let (from, reason) = (NodeId::small(2), Dropped::Invalid);
        let effects = server.hear(2, message.clone());
        assert_eq!(effects, [Effect::Note(Note::Dropped { from, reason })], "{message:?}");
    }
    assert_eq!((server.raft.term(), server.terms()), (Term(1), vec![1]));
}

/// A leader believes no acknowledgement of what it never had, and no answer to no round.
#[test]
fn a_leader_believes_no_impossible_answer() {
    let mut leader = Lone::of(THREE);
    leader.win(&[2]);
    leader.sync();
    let invalid = |effects: &[Effect]| {
        let (from, reason) = (NodeId::small(2), Dropped::Invalid);
        has_note(effects, &Note::Dropped { from, reason })
    };
    assert!(invalid(&leader.acknowledge(2, 2)));
    assert!(invalid(&leader.acknowledge(2, u64::MAX)));
    assert!(invalid(&leader.hear(2, Message::HeartbeatReply { term: Term(1), round: 99 })));
    assert_eq!(leader.raft.commit(), Index(0));
    let outcome = Appended::Rejected { prev: Index(u64::MAX), hint: at(u64::MAX, u64::MAX) };
    leader.hear(2, Message::AppendReply { term: Term(1), outcome });
    let outcome = Appended::Rejected { prev: Index(0), hint: at(0, u64::MAX) };
    leader.hear(2, Message::AppendReply { term: Term(1), outcome });
    leader.acknowledge(2, 1);
    assert_eq!(leader.raft.commit(), Index(1));
}

/// Answers of strangers, and whatever claims to come from ourselves, are dropped.
#[test]
fn strangers_and_echoes_are_dropped() {
    let mut leader = Lone::of(THREE);
    leader.win(&[2]);
    let effects = leader.hear(9, Message::HeartbeatReply { term: Term(7), round: 0 });
    let (from, reason) = (NodeId::small(9), Dropped::NotMember);
    assert_eq!(effects, [Effect::Note(Note::Dropped { from, reason })]);
    let effects = leader.hear(1, heartbeat(7, 0));
    let (from, reason) = (NodeId::small(1), Dropped::Invalid);
    assert_eq!(effects, [Effect::Note(Note::Dropped { from, reason })]);
    assert_eq!(leader.raft.term(), Term(1));
}

/// Who is no member of ours proves nothing by its claim to lead, and excuses no election.
#[test]
fn a_stranger_that_claims_to_lead_or_to_succeed_stops_and_deposes_nobody() {
    let mut follower = Lone::of(THREE);
    follower.hear(2, heartbeat(1, 0));
    let (from, term) = (NodeId::small(9), follower.raft.term());
    let effects = follower.hear(9, heartbeat(1, 0));
    let dropped = |reason| Effect::Note(Note::Dropped { from, reason });
    assert_eq!(effects, [dropped(Dropped::NotMember)]);
    let claim = Message::RequestVote {
        term: Term(u64::MAX - 1),
        phase: Phase::Vote,
        last: at(1, 1),
        transfer: true,
    };
    let effects = follower.hear(9, claim);
    assert!(effects.contains(&dropped(Dropped::LeaderAlive)), "{effects:?}");
    assert_eq!((follower.raft.leader(), follower.raft.term()), (Some(NodeId::small(2)), term));
}

/// Nobody can make a server count past the last term.
#[test]
fn the_last_term_is_the_end() {
    let mut server = Lone::with_log(THREE, u64::MAX - 1, &[]);
    server.timeout();
    server.hear(2, crate::lone::grant(Term(u64::MAX), Phase::PreVote));
    assert_eq!(server.raft.term(), Term(u64::MAX - 1), "an answer of the last term is unsound");
    let mut server = Lone::with_log(THREE, u64::MAX, &[]);
    server.timeout();
    assert_eq!((server.raft.role(), server.raft.term()), (Role::Follower, Term(u64::MAX)));
}

/// Design 2: a timer far past its deadline waits once for what may be unread.
#[test]
fn a_late_timer_waits_once() {
    let mut server = Lone::of(THREE);
    server.now = server.raft.deadline();
    server.pass(51);
    let effects = server.input(Input::Timeout);
    let by = std::time::Duration::from_millis(51);
    assert_eq!(effects, [Effect::Note(Note::TimerLate { by })]);
    assert_eq!(server.raft.deadline().since(server.now).as_millis(), 50);
    server.pass(500);
    server.input(Input::Timeout);
    assert_eq!(server.raft.role(), Role::Candidate, "late again, but it has waited");
}

/// Design 2: a leader that was stopped speaks at once, and judges its quorum later.
#[test]
fn a_leader_that_was_stopped_speaks_before_it_judges() {
    let mut leader = Lone::of(THREE);
    leader.win(&[2]);
    leader.pass(5_000);
    let effects = leader.input(Input::Timeout);
    assert_eq!(leader.raft.role(), Role::Leader);
    let beats = |(_, message): &(u8, &Message)| matches!(message, Message::Heartbeat { .. });
    assert_eq!(sent(&effects).iter().filter(|sent| beats(sent)).count(), 2);
    leader.timeout();
    assert_eq!(leader.raft.role(), Role::Follower, "and nobody answered");
}

/// What a store holds is checked when a server starts; the error names what is wrong.
#[test]
fn an_inconsistent_store_is_refused() {
    let good = || founded(Configuration::of([1, 2, 3].map(NodeId::small)));
    let problem = |restored| match Raft::new(config(1), restored, Time::default()) {
        Ok(_) => panic!("the store should be refused"),
        Err(problem) => problem.to_string(),
    };
    let mut gap = good();
    gap.hard_state.term = Term(4);
    gap.entries = entries(2, &[4]).to_vec();
    assert!(problem(gap).contains("leave a gap"));
    let mut future = good();
    future.hard_state = HardState { term: Term(3), vote: None };
    future.entries = entries(1, &[4]).to_vec();
    assert!(problem(future).contains("pass term 3"));
    let mut snapshot = good();
    snapshot.snapshot.position = at(5, 9);
    assert!(problem(snapshot).contains("snapshot at 5.9"));
    let mut config = config(1);
    config.heartbeat_interval = config.election_timeout_min;
    let refused = Raft::new(config, good(), Time::default());
    assert!(refused.is_err_and(|problem| problem.to_string().contains("heartbeat_interval")));
}

/// Whatever is said to a server, in whatever role: it heeds it, drops it or stops, but it does
/// not fall over. Numbers are small, so that lies come close to the truth.
#[test]
fn no_message_brings_a_server_down() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(0x7e55);
    let (mut halts, mut leaderships) = (0, 0);
    for _ in 0..400 {
        let mut server = Lone::with_log(THREE, 3, &[1, 1, 2, 3]);
        if random.next_u64().is_multiple_of(2) {
            server.win(&[2]);
            leaderships += 1;
        }
        for _ in 0..100 {
            let from = (random.next_u64() % 4 + 1) as u8;
            match random.next_u64() % 12 {
                0 => drop(server.timeout()),
                1 => drop(server.sync()),
                2 => drop(server.propose(command(random.next_u64() % 6, "x"))),
                3 => drop(server.input(Input::Transfer { to: NodeId::small(from) })),
                4 => compact(&mut server),
                _ => drop(server.hear(from, any_message(&mut random))),
            }
            server.pass(random.next_u64() % 40);
        }
        halts += u32::from(server.raft.halted().is_some());
    }
    // The noise would prove nothing if it were all dropped at the door.
    assert!(halts > 40 && leaderships > 100, "{halts} halts, {leaderships} leaderships");
}

fn compact(server: &mut Lone) {
    let snapshot = server.raft.snapshot_at(server.raft.applied());
    snapshot.into_iter().for_each(|snapshot| drop(server.input(Input::SnapshotTaken(snapshot))));
}

fn any_message(random: &mut Xoshiro256PlusPlus) -> Message {
    let mut below = |limit: u64| random.next_u64() % limit;
    // Mostly the term of the servers at hand: other terms end the conversation.
    let term = Term([3, 4, 4, 4, 5, below(9)][below(6) as usize]);
    let position = at(below(6), below(9));
    let (index, granted, transfer) = (Index(below(9)), below(2) == 0, below(4) == 0);
    let phase = if below(2) == 0 { Phase::PreVote } else { Phase::Vote };
    let (first, width) = (position.term.0, below(4));
    let terms: Vec<u64> = (0..width).map(|step| first + step * below(2)).collect();
    let configuration = Configuration::of([NodeId::small(1), NodeId::small(4)]);
    match below(9) {
        0 => Message::RequestVote { term, phase, last: position, transfer },
        1 => Message::Vote { term, phase, granted },
        2 | 3 => append(term.0, position, &terms, index.0),
        4 => Message::AppendReply { term, outcome: Appended::Matched(index) },
        5 => Message::AppendReply {
            term,
            outcome: Appended::Rejected { prev: index, hint: position },
        },
        6 => Message::Heartbeat { term, round: below(4), commit: index },
        7 => Message::HeartbeatReply { term, round: below(4) },
        _ if below(2) == 0 => Message::TimeoutNow { term },
        _ => Message::InstallSnapshot { term, snapshot: Snapshot { position, configuration } },
    }
}

/// Style: everything has a limit. Reads and uncommitted entries beyond theirs are refused.
#[test]
fn queues_are_bounded() {
    use raft::{Answer, Proposal, ProposalId, ReadId, Refusal};
    let mut leader = Lone::tuned(THREE, 0, &[], |config| {
        config.uncommitted_entries_max = 2;
        config.reads_max = 2;
    });
    leader.win(&[2]);
    let mut last = Vec::new();
    for number in 1..=3 {
        last = leader.input(Input::Read { id: ReadId(number) });
    }
    let read = Answer::Read { id: ReadId(3), outcome: Err(Refusal::Full) };
    assert_eq!(last, [Effect::Answer(read)]);
    for number in 1..=2 {
        let proposal = Proposal::OpenSession { nonce: 0 };
        last = leader.input(Input::Propose { id: ProposalId(number), proposal });
    }
    let proposed = Answer::Proposed { id: ProposalId(2), outcome: Err(Refusal::Full) };
    assert_eq!(last, [Effect::Answer(proposed)]);
}

/// Style: everything has a limit. However slowly disks and machines are, what a leader's log holds
/// for them has one in bytes as well; one heavy command always fits.
#[test]
fn what_is_not_applied_is_bounded_by_its_weight() {
    use raft::{Answer, Proposal, ProposalId, Refusal, RequestId, SessionId};
    let mut leader = Lone::tuned(THREE, 0, &[], |config| config.unapplied_bytes_max = 10_000);
    leader.win(&[2]);
    leader.sync();
    leader.acknowledge(2, 1);
    let session = SessionId(leader.raft.last().index.next());
    let open = Proposal::OpenSession { nonce: 0 };
    leader.input(Input::Propose { id: ProposalId(0), proposal: open });
    let outcome = |leader: &mut Lone, sequence: u64| {
        let request = RequestId { session, sequence };
        let command = vec![7; 20_000].into();
        let proposal = Proposal::Command { request, floor: 0, command };
        let effects = leader.input(Input::Propose { id: ProposalId(sequence), proposal });
        effects.into_iter().find_map(|effect| match effect {
            Effect::Answer(Answer::Proposed { outcome, .. }) => Some(outcome.map(drop)),
            _ => None,
        })
    };
    assert_eq!(outcome(&mut leader, 1), Some(Ok(())), "beyond it, and alone");
    assert_eq!(outcome(&mut leader, 2), Some(Err(Refusal::Full)));
    leader.sync();
    leader.acknowledge(2, leader.raft.last().index.0);
    assert_eq!(leader.raft.applied(), leader.raft.last().index);
    assert_eq!(outcome(&mut leader, 2), Some(Ok(())), "the first is applied");
}
