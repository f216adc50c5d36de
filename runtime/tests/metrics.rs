//! What a program that looks at the metrics sees of a group at work.
//!
//! The tests of this file share a recorder; each has settings, and so a group, of its own.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/members.rs"]
mod members;
#[allow(dead_code)] // the same
#[path = "model/recorder.rs"]
mod recorder;

use std::{collections::BTreeSet, sync::OnceLock, time::Duration};

use futures_util::future::join_all;
use members::{Counter, Member, formed_with, key, network, soon, until};
use metrics::Unit;
use recorder::{Labels, Record};
use runtime::{
    Bootstrap, CommandError, ConsensusConfig, ConsensusProfile, Consistency, Group, Index, Network,
    Payload, Reason, Role, storage,
};

/// The recorder of this process; it must be there before the first node is.
fn record() -> &'static Record {
    static RECORD: OnceLock<Record> = OnceLock::new();
    RECORD.get_or_init(|| {
        let record = Record::default();
        metrics::set_global_recorder(record.clone()).expect("there is no other in this process");
        record
    })
}

/// So patient that no leader falls because this machine is busy. The seed makes another group.
fn patient(seed: u64) -> ConsensusConfig {
    ConsensusConfig {
        election_timeout: Duration::from_millis(600),
        election_timeout_jitter: Duration::from_millis(300),
        forward_timeout: Duration::from_millis(10_000 + seed),
        query_timeout: Duration::from_secs(10),
        ..ConsensusProfile::Lan.config()
    }
}

fn peer(member: &Member) -> String {
    member.network.peer().id.to_string()
}

/// A node alone, and its group.
async fn alone(consensus: ConsensusConfig) -> (Network, Group<Counter>) {
    let network = network().await;
    let group = network
        .group(key())
        .machine(Counter::default())
        .consensus(consensus)
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Solo)
        .join()
        .await
        .expect("nothing stands against joining");
    soon(group.when().is_leader()).await.expect("it leads itself");
    (network, group)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_name_says_what_it_is_and_in_which_unit_and_carries_its_labels() {
    record();
    let members = formed_with(patient(1), 2).await;
    soon(members[1].group.execute(1)).await.expect("commits");
    let (group, raft): (&[&str], &[&str]) = (&["group"], &["group", "peer"]);
    let lane: &[&str] = &["group", "lane"];
    for (name, kind, unit, labels) in [
        ("tessera.group.commit.seconds", "histogram", Unit::Seconds, raft),
        ("tessera.raft.elections", "counter", Unit::Count, raft),
        ("tessera.raft.election.seconds", "histogram", Unit::Seconds, raft),
        ("tessera.raft.leader.changes", "counter", Unit::Count, raft),
        ("tessera.raft.quorums.lost", "counter", Unit::Count, raft),
        ("tessera.raft.timers.late", "counter", Unit::Count, raft),
        ("tessera.raft.truncations", "counter", Unit::Count, raft),
        ("tessera.raft.term", "gauge", Unit::Count, raft),
        ("tessera.raft.role", "gauge", Unit::Count, raft),
        ("tessera.raft.commit", "gauge", Unit::Count, raft),
        ("tessera.raft.messages.held", "gauge", Unit::Count, raft),
        ("tessera.raft.messages.dropped", "counter", Unit::Count, &["group", "peer", "reason"]),
        ("tessera.raft.snapshots.ignored", "counter", Unit::Count, raft),
        ("tessera.snapshot.taken", "counter", Unit::Count, raft),
        ("tessera.snapshot.installed", "counter", Unit::Count, raft),
        ("tessera.snapshot.failed", "counter", Unit::Count, &["group", "peer", "way"]),
        ("tessera.snapshot.parts.dropped", "counter", Unit::Count, &["group", "peer"]),
        ("tessera.snapshot.outrun", "counter", Unit::Count, raft),
        ("tessera.snapshot.seconds", "histogram", Unit::Seconds, &["group", "peer", "way"]),
        ("tessera.snapshot.index", "gauge", Unit::Count, raft),
        ("tessera.snapshot.bytes", "gauge", Unit::Bytes, raft),
        ("tessera.group.calls", "gauge", Unit::Count, raft),
        ("tessera.group.mailbox", "gauge", Unit::Count, raft),
        ("tessera.group.bond.events", "gauge", Unit::Count, raft),
        ("tessera.group.applier", "gauge", Unit::Count, raft),
        ("tessera.group.refused.busy", "counter", Unit::Count, raft),
        ("tessera.storage.backlog.bytes", "gauge", Unit::Bytes, raft),
        ("tessera.storage.hangs", "counter", Unit::Count, raft),
        ("tessera.replay.behind", "gauge", Unit::Count, raft),
        ("tessera.replay.entries", "counter", Unit::Count, raft),
        ("tessera.replay.bytes.fetched", "counter", Unit::Bytes, raft),
        ("tessera.replay.bytes.served", "counter", Unit::Bytes, raft),
        ("tessera.replay.refused", "counter", Unit::Count, raft),
        ("tessera.replay.faults", "counter", Unit::Count, &["group", "peer", "fault"]),
        ("tessera.bond.bytes.sent", "counter", Unit::Bytes, lane),
        ("tessera.bond.bytes.received", "counter", Unit::Bytes, lane),
        ("tessera.bond.messages.sent", "counter", Unit::Count, lane),
        ("tessera.bond.messages.received", "counter", Unit::Count, lane),
        ("tessera.bond.dropped", "counter", Unit::Count, &["group", "lane", "reason"]),
        ("tessera.bond.queue.bytes", "gauge", Unit::Bytes, lane),
        ("tessera.bond.active", "gauge", Unit::Count, group),
        ("tessera.bond.formed", "counter", Unit::Count, group),
        ("tessera.bond.dials", "counter", Unit::Count, &["group", "outcome"]),
        ("tessera.network.handshakes", "gauge", Unit::Count, &[]),
    ] {
        let described =
            record().described(name).unwrap_or_else(|| panic!("{name} is not described"));
        assert_eq!((described.kind, described.unit), (kind, Some(unit)), "{name}");
        let carried = record().registered().remove(name);
        let labels: BTreeSet<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(carried, Some(labels), "{name}");
    }
    for name in record().registered().into_keys().filter(|name| name.starts_with("tessera.")) {
        let described =
            record().described(&name).unwrap_or_else(|| panic!("{name} is not described"));
        assert!(described.meaning.ends_with('.'), "{name}: {described:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_commit_is_timed_once_at_the_leader() {
    record();
    let members = formed_with(patient(2), 3).await;
    let group = members[0].group.id().to_string();
    let began = members[0].network.clock().now();
    for batch in [1, 4, 20] {
        for executed in soon(members[0].group.execute_many(1..=batch)).await {
            executed.expect("commits");
        }
    }
    let most = members[0].network.clock().now().since(began).as_secs_f64();
    let entries = soon(members[0].group.entries(Index(1), 1_000)).await.expect("it runs");
    let asked_for = entries.iter().filter(|entry| {
        matches!(entry.payload, Payload::Command { .. } | Payload::OpenSession { .. })
    });
    let asked_for = asked_for.count();
    assert_eq!(asked_for, 26, "25 commands and their session");
    let labels: Labels = &[("group", &group), ("peer", &peer(&members[0]))];
    let took = record().samples("tessera.group.commit.seconds", labels);
    assert_eq!(took.len(), asked_for);
    assert!(took.iter().all(|took| (0.0..=most).contains(took)), "{took:?} within {most}");
    assert!(took.iter().sum::<f64>() > 0.0);
    // The followers committed the same and were asked nothing.
    let all = record().samples("tessera.group.commit.seconds", &[("group", &group)]);
    assert_eq!(all.len(), asked_for);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn term_role_and_elections_are_those_of_the_status() {
    record();
    let members = formed_with(patient(3), 3).await;
    let group = members[0].group.id().to_string();
    let counted = |name, member: &Member| {
        record().counter(name, &[("group", &group), ("peer", &peer(member))])
    };
    let (successor, before) = (&members[1], members.iter());
    let before: Vec<u64> =
        before.map(|member| counted("tessera.raft.leader.changes", member)).collect();
    assert!(before.iter().all(|count| *count >= 1), "{before:?}");
    let timed = |member: &Member| {
        let labels: Labels = &[("group", &group), ("peer", &peer(member))];
        record().samples("tessera.raft.election.seconds", labels)
    };
    assert!(!timed(&members[0]).is_empty(), "it was elected");
    assert!(counted("tessera.raft.elections", &members[0]) >= 1);
    let stood = counted("tessera.raft.elections", successor);
    soon(members[0].group.transfer(successor.network.peer().id)).await.expect("it is told");
    for member in &members {
        soon(member.group.when().leader_is(successor.network.peer().id)).await.expect("it leads");
    }
    soon(successor.group.execute(1)).await.expect("commits");
    assert!(counted("tessera.raft.elections", successor) > stood);
    assert!(timed(successor).iter().all(|took| *took > 0.0 && *took < 20.0));
    assert!(!timed(successor).is_empty());
    for (member, before) in members.iter().zip(before) {
        assert!(counted("tessera.raft.leader.changes", member) > before);
        until("the gauges of the status", || {
            let status = member.group.status();
            let labels: Labels = &[("group", &group), ("peer", &peer(member))];
            let shown = ["term", "role", "commit"]
                .map(|name| record().gauge(&format!("tessera.raft.{name}"), labels));
            let role = f64::from(status.role as u8);
            shown == [status.term.0 as f64, role, status.commit.0 as f64]
        })
        .await;
    }
    let roles = members.iter().filter(|member| member.group.status().role == Role::Leader);
    assert_eq!(roles.count(), 1);
    let sum = record().gauge("tessera.raft.role", &[("group", &group)]);
    assert_eq!(sum, 2.0, "one leader is 2, two followers are 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_count_what_they_carry_and_bonds_that_they_are() {
    record();
    let members = formed_with(patient(4), 3).await;
    let group = members[0].group.id().to_string();
    let group: (&str, &str) = ("group", &group);
    soon(members[2].group.execute(1)).await.expect("a follower passes it on");
    for (lane, carries) in [("control", true), ("append", true), ("client", true), ("bulk", false)]
    {
        let labels: Labels = &[group, ("lane", lane)];
        let count = |name: &str| record().counter(&format!("tessera.bond.{name}"), labels);
        // A frame may be there before its sender has counted it. Each has a header and more.
        until("all that came to be counted as sent", || {
            let received = (count("messages.received"), count("bytes.received"));
            let sent = (count("messages.sent"), count("bytes.sent"));
            received.0 <= sent.0 && received.1 <= sent.1 && received.1 >= 5 * received.0
        })
        .await;
        assert_eq!(count("messages.received") > 0, carries, "{lane}");
        let waits = || record().gauge("tessera.bond.queue.bytes", labels);
        until("an empty queue", || waits() == 0.0).await;
    }
    until("three bonds, seen from both ends", || {
        let ended = record().counter("tessera.bond.ended", &[group]);
        let formed = record().counter("tessera.bond.formed", &[group]);
        formed == ended + 6 && record().gauge("tessera.bond.active", &[group]) == 6.0
    })
    .await;
    assert!(record().counter("tessera.bond.dials", &[group, ("outcome", "bonded")]) >= 3);
    // One leaves: its bonds end at both ends, and what is sent to it is dropped.
    members[2].network.shutdown().await;
    until("two ends of one bond", || record().gauge("tessera.bond.active", &[group]) == 2.0).await;
    let ends = |code| record().counter("tessera.bond.ended", &[group, ("code", code)]);
    assert!(ends("graceful_shutdown") >= 2, "the others were told why");
    soon(members[0].group.execute(1)).await.expect("a majority is left");
    until("a frame without a bond", || {
        record().counter("tessera.bond.dropped", &[group, ("reason", "no_bond")]) > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_are_seen_and_those_beyond_the_limit_are_counted() {
    record();
    let consensus = ConsensusConfig { requests_max: 2, ..patient(5) };
    let members = formed_with(consensus, 3).await;
    let leader = &members[0];
    soon(leader.group.execute(1)).await.expect("commits");
    for member in &members[1..] {
        member.network.shutdown().await;
    }
    let group = leader.group.id().to_string();
    let labels: Labels = &[("group", &group), ("peer", &peer(leader))];
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let group = leader.group.clone();
            tokio::spawn(async move { group.execute(1).await })
        })
        .collect();
    until("two calls", || leader.group.status().calls == 2).await;
    // The gauge is set before the status is.
    assert_eq!(record().gauge("tessera.group.calls", labels), 2.0);
    let third = soon(leader.group.query((), Consistency::Strong)).await.expect_err("no room");
    assert_eq!(third.reason, Reason::Busy);
    assert_eq!(record().counter("tessera.group.refused.busy", labels), 1);
    until("a quorum lost", || record().counter("tessera.raft.quorums.lost", labels) == 1).await;
    leader.network.shutdown().await;
    for answer in join_all(waiting).await {
        answer.expect("no panic").expect_err("nobody committed it");
    }
}

#[tokio::test]
async fn what_is_refused_before_it_comes_to_a_driver_is_counted_by_its_reason() {
    record();
    let refused = |reason| record().counter("tessera.caller.refused", &[("reason", reason)]);
    let busy = |answers: Vec<Result<_, CommandError>>| {
        let busy = |answer: &Result<_, CommandError>| {
            matches!(answer, Err(CommandError::Failed { reason: Reason::Busy, .. }))
        };
        answers.iter().filter(|answer| busy(answer)).count() as u64
    };
    // All calls of a batch are made before the driver has its turn: there is one thread.
    let mut group = alone(ConsensusConfig { requests_max: 2, ..patient(6) }).await.1;
    group.execute(0).await.expect("commits");
    assert_eq!(busy(soon(group.execute_many(1..=5)).await), 3);
    assert_eq!(refused("mailbox"), 3);
    group = alone(ConsensusConfig { replies_per_session_max: 3, ..patient(7) }).await.1;
    group.execute(0).await.expect("commits");
    assert_eq!(busy(soon(group.execute_many(1..=5)).await), 2);
    assert_eq!(refused("session"), 2);
    let small = ConsensusConfig { command_bytes_max: 64, requests_bytes_max: 64, ..patient(8) };
    group = alone(small).await.1;
    group.execute(0).await.expect("commits");
    // 100 numbers of one byte each.
    assert_eq!(busy(soon(group.execute_many(vec![1; 100])).await), 36);
    assert_eq!(refused("bytes"), 36);
    assert_eq!(busy(soon(group.execute_many(vec![1; 64])).await), 0, "there is room again");
}

#[tokio::test]
async fn who_is_turned_away_at_the_door_is_counted_by_its_code() {
    record();
    let (served, group) = alone(patient(9)).await;
    let code: Labels = &[("code", "group_not_found")];
    let before = record().counter("tessera.network.refusals", code);
    let wrong = runtime::GroupKey::from_secret("another secret");
    let builder = network().await.client(wrong).consensus(patient(9)).members([served.peer()]);
    soon(builder.connect::<Counter>()).await.expect_err("it has the wrong key");
    until("a refusal", || record().counter("tessera.network.refusals", code) > before).await;
    until("no handshake", || record().gauge("tessera.network.handshakes", &[]) == 0.0).await;
    drop(group);
}
