//! Entries that do not come as messages: Raft §5.2 and §5.3 for what a leader vouches for.

use std::time::Duration;

use raft::{
    Appended, Dropped, Effect, Entries, Halt, Index, Input, Message, NodeId, Note, Position, Role,
    Term,
};

use crate::{
    cluster::command,
    lone::{Lone, append, at, entries, has_note, outcome, sent},
};

const THREE: &[u8] = &[1, 2, 3];

fn fetched(leader: u8, term: u64, prev: Position, terms: &[u64]) -> Input {
    let entries = entries(prev.index.next().0, terms);
    Input::Fetched { leader: NodeId::small(leader), term: Term(term), prev, entries }
}

fn dropped(from: u8, reason: Dropped) -> Vec<Effect> {
    vec![Effect::Note(Note::Dropped { from: NodeId::small(from), reason })]
}

/// A follower of server 2 in term 2, with one entry.
fn follower() -> Lone {
    let mut server = Lone::with_log(THREE, 2, &[1]);
    server.hear(2, append(2, at(1, 1), &[], 1));
    server
}

/// Raft §5.3: what is acknowledged is durable first, and may be applied then.
#[test]
fn fetched_entries_are_written_acknowledged_to_the_leader_and_applied() {
    let mut server = follower();
    let effects = server.input(fetched(2, 2, at(1, 1), &[1, 2]));
    let wrote = effects.iter().position(|effect| matches!(effect, Effect::Persist { .. }));
    let said = effects.iter().position(|effect| matches!(effect, Effect::Send { .. }));
    assert!(wrote < said, "{effects:?}");
    assert_eq!(outcome(&effects), Appended::Matched(Index(3)));
    assert_eq!(sent(&effects)[0].0, 2);
    assert_eq!((server.raft.commit(), server.raft.applied()), (Index(3), Index(1)));
    server.sync();
    assert_eq!(server.raft.applied(), Index(3));
}

/// Raft §5.2: only word from the leader itself keeps a follower from standing for election.
#[test]
fn fetched_entries_suppress_no_election() {
    let mut server = follower();
    let deadline = server.raft.deadline();
    for index in 1..=5 {
        server.pass(10);
        server.input(fetched(2, 2, at(1, index), &[1]));
        server.sync();
    }
    assert_eq!((server.raft.last(), server.raft.deadline()), (at(1, 6), deadline));
    server.timeout();
    assert_eq!(server.raft.role(), Role::Candidate);
    let effects = server.input(fetched(2, 2, at(1, 6), &[1]));
    assert_eq!(effects, dropped(2, Dropped::Stale), "a candidate has no leader");
}

/// Raft §5.1: a term has one leader, and no other vouches in it.
#[test]
fn only_the_leader_of_the_present_term_vouches() {
    let mut server = follower();
    for (leader, term) in [(3, 2), (2, 1), (2, 3), (1, 2)] {
        let effects = server.input(fetched(leader, term, at(1, 1), &[1]));
        assert_eq!(effects, dropped(leader, Dropped::Stale), "{leader} in {term}");
    }
    assert_eq!(server.terms(), [1]);
}

/// Entries that no log holds, or that leave a gap, change nothing.
#[test]
fn fetched_entries_that_contradict_themselves_or_leave_a_gap_are_dropped() {
    let mut server = follower();
    let gap: Entries =
        [entries(2, &[1]), entries(4, &[1])].iter().flat_map(|some| some.to_vec()).collect();
    let (leader, term) = (NodeId::small(2), Term(2));
    for input in [
        fetched(2, 2, at(1, 1), &[2, 1]),
        fetched(2, 2, at(1, 1), &[3]),
        fetched(2, 2, at(0, 1), &[1]),
        fetched(2, 2, at(1, u64::MAX), &[]),
        fetched(2, 2, at(1, 2), &[1]),
        fetched(2, 2, at(2, 1), &[2]),
        Input::Fetched { leader, term, prev: at(1, 1), entries: gap },
    ] {
        assert_eq!(server.input(input.clone()), dropped(2, Dropped::Invalid), "{input:?}");
    }
    assert_eq!(server.terms(), [1]);
}

/// Raft §5.4.3: what is committed is never replaced, whoever vouches.
#[test]
fn fetched_entries_replace_nothing_that_is_committed() {
    let mut server = follower();
    server.input(fetched(2, 2, at(1, 1), &[1, 1]));
    let effects = server.input(fetched(2, 2, at(1, 1), &[2]));
    let halt = Halt::TruncateCommitted { index: Index(2), commit: Index(3) };
    assert_eq!(effects, [Effect::Halt(halt)]);
}

/// Who fetches for itself is sent no entries, but kept calm; once it says so no more, it is.
#[test]
fn a_leader_sends_no_entries_to_who_fetches_them_until_that_is_over() {
    let mut leader = Lone::with_log(THREE, 1, &[1, 1, 1]);
    leader.win(&[2]);
    leader.sync();
    let node = NodeId::small(3);
    let until = leader.now.plus(Duration::from_millis(120));
    leader.input(Input::Fetching { node, until });
    let rejected = Appended::Rejected { prev: Index(3), hint: at(0, 0) };
    let term = leader.raft.term();
    let effects = leader.hear(3, Message::AppendReply { term, outcome: rejected });
    assert_eq!(sent(&effects), [], "a refusal has nothing sent to it");
    leader.acknowledge(2, 4);
    let effects = leader.timeout();
    let to_third = |effects: &[Effect]| -> Vec<Message> {
        let sent = sent(effects).into_iter().filter(|(to, _)| *to == 3);
        sent.map(|(_, message)| message.clone()).collect()
    };
    assert!(matches!(to_third(&effects)[..], [Message::Heartbeat { .. }]), "{effects:?}");
    leader.acknowledge(3, 2);
    assert_eq!(to_third(&leader.propose(command(1, "x"))), []);
    // It has not said it again, and the next heartbeats find that out.
    leader.timeout();
    let effects = leader.timeout();
    let sent = to_third(&effects);
    let prev = sent.iter().find_map(|message| match message {
        Message::Append { prev, entries, .. } => Some((prev.index, entries.len())),
        _ => None,
    });
    assert_eq!(prev, Some((Index(2), 3)), "{sent:?}");
    // Said again, and ended by itself.
    leader.input(Input::Fetching { node, until: leader.now.plus(Duration::from_secs(9)) });
    assert_eq!(to_third(&leader.propose(command(2, "y"))), []);
    let effects = leader.input(Input::Fetching { node, until: leader.now });
    assert!(matches!(to_third(&effects)[..], [Message::Append { .. }]), "{effects:?}");
    assert!(!has_note(&effects, &Note::SnapshotOffered { to: node }));
}
