//! Raft §5.3, §5.4.2, §5.4.3; thesis §10.2.1.

use raft::{Appended, Effect, Halt, Index, Message, NO_ROUND, NodeId, Note, Position, Term, Write};

use crate::{
    cluster::command,
    lone::{Lone, append, at, has_note, heartbeat, outcome, sent},
};

const THREE: &[u8] = &[1, 2, 3];

/// Raft §5.3: an append fits only where the log has the entry before it.
#[test]
fn an_append_that_leaves_a_gap_is_refused() {
    let mut server = Lone::with_log(THREE, 2, &[1, 1]);
    let effects = server.hear(2, append(2, at(2, 5), &[2], 0));
    assert_eq!(outcome(&effects), Appended::Rejected { prev: Index(5), hint: at(1, 2) });
    assert_eq!(server.terms(), [1, 1]);
}

/// Raft §5.3, end: a refusal skips the whole conflicting term.
#[test]
fn a_refusal_names_the_furthest_place_that_may_agree() {
    let mut server = Lone::with_log(THREE, 6, &[1, 1, 4, 4, 4]);
    let effects = server.hear(2, append(6, at(3, 5), &[6], 0));
    let hint = at(1, 2);
    assert_eq!(outcome(&effects), Appended::Rejected { prev: Index(5), hint });
}

/// Raft §5.3, end: the leader goes back to where its own terms allow, in one step.
#[test]
fn a_leader_skips_terms_that_the_follower_cannot_have() {
    let mut leader = Lone::with_log(THREE, 5, &[1, 1, 5, 5, 5]);
    leader.win(&[2]);
    let outcome = Appended::Rejected { prev: Index(5), hint: at(3, 5) };
    let effects = leader.hear(3, Message::AppendReply { term: Term(6), outcome });
    let [(3, Message::Append { prev, entries, .. })] = sent(&effects)[..] else {
        panic!("not one append: {effects:?}");
    };
    assert_eq!((*prev, entries.len()), (at(1, 2), 4), "5 was not there before term 5");
}

/// Raft §5.3: conflicting entries, and all that follow them, give way to the leader's.
#[test]
fn conflicting_entries_are_replaced() {
    let mut server = Lone::with_log(THREE, 2, &[1, 2, 2, 2]);
    let effects = server.hear(2, append(3, at(1, 1), &[3], 0));
    assert_eq!(server.terms(), [1, 3]);
    assert!(has_note(&effects, &Note::Truncated { after: Index(1), last: Index(4) }));
    assert_eq!(outcome(&effects), Appended::Matched(Index(2)));
}

/// Raft §5.3 (figure 2, step 3: "if an existing entry conflicts"): an old append that arrives
/// late takes nothing away.
#[test]
fn an_old_append_does_not_undo_a_newer_one() {
    let mut server = Lone::of(THREE);
    server.hear(2, append(1, at(0, 0), &[1, 1, 1], 0));
    let effects = server.hear(2, append(1, at(0, 0), &[1], 0));
    assert_eq!(server.terms(), [1, 1, 1]);
    assert_eq!(outcome(&effects), Appended::Matched(Index(1)), "no more than it vouches for");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Persist { .. })));
}

/// Raft §5.3: an acknowledgement stands after the write that it promises.
#[test]
fn an_acknowledgement_follows_its_write() {
    let mut server = Lone::of(THREE);
    let effects = server.hear(2, append(1, at(0, 0), &[1, 1], 0));
    let write = effects.iter().position(|effect| {
        matches!(effect, Effect::Persist { write: Write::Entries { entries, .. }, .. }
            if entries.len() == 2)
    });
    let reply = effects
        .iter()
        .position(|effect| matches!(effect, Effect::Send { message, .. } if message.promises()));
    assert!(write.is_some() && write < reply);
}

/// Raft §5.3 (figure 2, step 5): the commit index goes no further than the last new entry.
#[test]
fn a_follower_commits_only_what_it_knows_to_agree() {
    let mut server = Lone::with_log(THREE, 1, &[1, 1, 1, 1]);
    server.hear(2, append(2, at(1, 1), &[1], 4));
    assert_eq!(server.raft.commit(), Index(2), "3 and 4 may be another leader's");
    server.hear(2, heartbeat(2, 9));
    assert_eq!(server.raft.commit(), Index(2), "an index alone does not say whose");
}

/// Raft §5.4.3 (state machine safety): a committed entry is never replaced.
#[test]
fn truncating_what_is_committed_stops_the_server() {
    let mut server = Lone::of(THREE);
    server.hear(2, append(1, at(0, 0), &[1, 1], 2));
    let effects = server.hear(3, append(2, at(1, 1), &[2], 0));
    let halt = Halt::TruncateCommitted { index: Index(2), commit: Index(2) };
    assert!(effects.contains(&Effect::Halt(halt)));
    assert_eq!((server.terms(), server.raft.halted()), (vec![1, 1], Some(halt)));
}

/// Raft §5.3: committed is what a majority holds, the leader's own disk included.
#[test]
fn a_majority_of_durable_copies_commits() {
    let mut leader = Lone::of(&[1, 2, 3, 4, 5]);
    leader.win(&[2, 3]);
    leader.acknowledge(2, 1);
    leader.acknowledge(3, 1);
    assert_eq!(leader.raft.commit(), Index(0), "two of five");
    leader.sync();
    assert_eq!(leader.raft.commit(), Index(1), "the third is the leader's own disk");
}

/// Thesis §10.2.1: a leader may commit before its own disk is done, but applies only what its
/// disk holds.
#[test]
fn a_leader_counts_its_own_disk_only_when_it_is_done() {
    let mut leader = Lone::of(THREE);
    leader.win(&[2]);
    leader.acknowledge(2, 1);
    leader.acknowledge(3, 1);
    assert_eq!((leader.raft.commit(), leader.raft.applied()), (Index(1), Index(0)));
    assert!(leader.sync().contains(&Effect::Apply { through: Index(1) }));
}

/// Raft §5.4.2, figure 8: entries of older terms are not committed by counting them.
#[test]
fn an_older_terms_entry_is_committed_only_through_one_of_the_own_term() {
    let mut leader = Lone::with_log(THREE, 2, &[1, 2]);
    leader.win(&[2]);
    leader.sync();
    leader.acknowledge(2, 2);
    assert_eq!(leader.raft.commit(), Index(0), "2.2 is on a majority, in term 3");
    leader.acknowledge(2, 3);
    assert_eq!(leader.raft.commit(), Index(3));
}

/// The same rule, broken on purpose: the hook that tests of the checkers use.
#[cfg(feature = "planted-faults")]
#[test]
fn the_planted_fault_breaks_that_rule() {
    let mut leader = Lone::with_log(THREE, 2, &[1, 2]);
    leader.raft.plant(raft::Planted::CommitOlderTermByCount);
    leader.win(&[2]);
    leader.sync();
    leader.acknowledge(2, 2);
    assert_eq!(leader.raft.commit(), Index(2));
}

/// Thesis §6.4: only rounds are counted, so only they are answered; a heartbeat that belongs to
/// none makes the commit index known and costs one message.
#[test]
fn a_heartbeat_of_no_round_is_heeded_and_not_answered() {
    let mut follower = Lone::of(THREE);
    let beat = |round| Message::Heartbeat { term: Term(1), round, commit: Index(0) };
    assert_eq!(sent(&follower.hear(2, beat(7))).len(), 1);
    assert!(sent(&follower.hear(2, beat(NO_ROUND))).is_empty());
    assert_eq!(follower.raft.leader(), Some(NodeId::small(2)));
}

/// Raft §5.3: followers learn of a commit with the next append, or at once if there is none.
#[test]
fn followers_learn_of_a_commit_at_once_and_once() {
    let mut leader = Lone::of(THREE);
    leader.win(&[2]);
    leader.sync();
    leader.acknowledge(3, 1);
    let effects = leader.acknowledge(2, 1);
    assert!(matches!(sent(&effects)[..], [(2, Message::Heartbeat { commit: Index(1), .. })]));
    let effects = leader.propose(command(1, "x"));
    let appends = |(_, message): &(u8, &Message)| matches!(message, Message::Append { .. });
    assert!(sent(&effects).iter().all(appends), "no extra message beside an append");
}

/// Thesis §10.2.1: entries are sent ahead of acknowledgements, within the window.
#[test]
fn replication_is_pipelined_within_its_window() {
    let mut leader = Lone::tuned(THREE, 0, &[], |config| config.inflight_entries_max = 2);
    leader.win(&[2]);
    leader.acknowledge(2, 1);
    let counts: Vec<usize> = (1..=3)
        .map(|sequence| {
            let effects = leader.propose(command(sequence, "x"));
            sent(&effects).iter().filter(|(to, _)| *to == 2).count()
        })
        .collect();
    assert_eq!(counts, [1, 1, 0], "two under way, the third waits");
    let effects = leader.acknowledge(2, 2);
    let appended: Vec<Position> = sent(&effects)
        .iter()
        .filter_map(|(_, message)| match message {
            Message::Append { entries, .. } => Some(entries.first()?.position),
            _ => None,
        })
        .collect();
    assert_eq!(appended, [at(1, 4)]);
}

/// Raft §5.3: "the leader retries indefinitely".
#[test]
fn what_is_not_acknowledged_is_sent_again() {
    let mut leader = Lone::of(THREE);
    leader.win(&[2]);
    let sends = |effects: &[Effect], entries_count: usize| {
        let is_one = |(_, message): &(u8, &Message)| match message {
            Message::Append { entries, .. } => entries.len() == entries_count,
            _ => false,
        };
        sent(effects).iter().filter(|sent| is_one(sent)).count()
    };
    for _ in 0..4 {
        let asked = leader.timeout();
        assert_eq!(sends(&asked, 0), 2, "both are asked again in every heartbeat interval");
        assert_eq!(sends(&asked, 1), 0, "the no-op may be on its way still");
    }
    // It holds what came before the no-op, and nothing else.
    let answered = leader.acknowledge(2, 0);
    assert_eq!(sends(&answered, 1), 1, "and so it is sent again");
}

/// A follower whose disk lost the end of what it had acknowledged may hold an older leader's
/// entries there. An index in a heartbeat commits none of them; an append tells them apart.
#[test]
fn a_heartbeat_commits_only_what_an_append_has_found_equal() {
    let mut follower = Lone::with_log(&[1, 2, 3], 2, &[1, 1, 1]);
    follower.hear(2, heartbeat(2, 3));
    assert_eq!(follower.raft.commit(), Index(0), "entries 2 and 3 may be another leader's");
    follower.hear(2, append(2, at(1, 1), &[2], 1));
    follower.hear(2, heartbeat(2, 3));
    assert_eq!((follower.raft.commit(), follower.terms()), (Index(2), vec![1, 2]));
    // The next leader's log is another one.
    follower.hear(3, heartbeat(3, 3));
    assert_eq!(follower.raft.commit(), Index(2));
}
