//! A member that is let in and then says what no core says, to a group that is at work.

use raft::{Entry, Payload, Snapshot};

use super::*;
use crate::{
    Bootstrap, Group, StateMachine, Status,
    group::{
        introduction::Introduction,
        samples::{Sum, alone},
        transfer::{Ask, SnapshotFrame},
        wire::{Call, Outcome, Reason},
    },
    metric::{MESSAGES_DROPPED, recorder::Record},
    storage::{self, Founding},
};

/// Founders are numbers 1, 2 and 3; this one is a real member.
async fn member(wish: &Wish, network: &Network, peers: &[Peer]) -> Group<Sum> {
    network
        .group(wish.key.clone())
        .machine(Sum::default())
        .consensus(wish.consensus.clone())
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Voters(peers.iter().map(|peer| peer.id).collect()))
        .peers(peers.iter().cloned())
        .join()
        .await
        .expect("nothing stands against it")
}

#[tokio::test]
async fn a_member_that_says_what_no_core_says_is_counted_and_the_group_goes_on() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let wish = |number: u8| {
        let mut wish = Wish::new(number);
        // So patient that nobody stands because this machine is busy.
        wish.consensus.election_timeout = Duration::from_secs(1);
        wish.consensus.election_timeout_jitter = Duration::from_millis(500);
        wish.consensus.forward_timeout = Duration::from_secs(15);
        // Nor is it left for its silence meanwhile.
        wish.consensus.max_missed_heartbeats = 400;
        Wish { group: GroupId::of(&wish.key, Sum::SIGNATURE, &wish.consensus), ..wish }
    };
    let wishes = [1, 2, 3].map(wish);
    let mut networks = Vec::new();
    for wish in &wishes {
        networks.push(wish.network().await);
    }
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let first = member(&wishes[0], &networks[0], &peers).await;
    let third = member(&wishes[2], &networks[2], &peers).await;
    // It is dialed and dials nobody: two dials that cross could replace a bond.
    let mut hand = wishes[1].on(&networks[1], &[]);
    let bonded = [hand.up().await, hand.up().await];
    let introduce = |hand: &Node, founding: Option<Founding>| {
        let introduction = Introduction { founding, observer: false, peers: Vec::new() };
        for to in bonded {
            assert!(hand.bonds.send(to, MemberFrame::Introduction(introduction.clone())));
        }
    };
    // It waits like they do: without that they have not met it.
    introduce(&hand, None);
    // It votes for nobody and acknowledges nothing: the other two are a majority.
    soon("a leader", first.when().leader_elected()).await.expect("two of three");
    let Status { term, lineage, configuration, .. } = first.status();
    // And it is of their lineage then: without that they heed nothing that it says of its log.
    introduce(&hand, lineage.map(|lineage| Founding { lineage, configuration }));
    let gap = Entry { position: Position { term, index: Index(9) }, payload: Payload::Noop };
    let prev = Position { term, index: Index(1) };
    let ahead = Position { term: term.next(), index: Index(1) };
    let snapshot = Snapshot { position: ahead, ..Snapshot::default() };
    let unsound = [
        // First what goes by the lane on which it has just said so: others may overtake that.
        Message::TimeoutNow { term: Term(u64::MAX) },
        Message::Append { term, prev, entries: vec![gap].into(), commit: Index(0) },
        Message::Append { term: Term(0), prev, entries: Vec::new().into(), commit: Index(0) },
        Message::InstallSnapshot { term, snapshot },
    ];
    for (sent, message) in (1..).zip(&unsound) {
        for to in bonded {
            assert!(hand.bonds.send(to, MemberFrame::Raft(message.clone())));
        }
        until("all of it counted", || {
            record.counter(MESSAGES_DROPPED, &[("reason", "invalid")]) >= 2 * sent
        })
        .await;
    }
    for to in bonded {
        let outcome = Outcome::Proposed(prev);
        assert!(hand.bonds.send(to, MemberFrame::Answer { id: 7, outcome }));
    }
    for group in [&first, &third] {
        soon("an answer", group.execute(1)).await.expect("the group goes on");
        assert_eq!(group.status().term, term, "nobody had to stand");
    }
}

#[tokio::test]
async fn calls_of_who_is_no_member_are_refused() {
    let wish = Wish::new(1);
    let network = wish.network().await;
    let group = alone(&network, &wish.key, &wish.consensus).await;
    let guest = Wish::new(2);
    let guest = Wish { group: GroupId::of(&wish.key, Sum::SIGNATURE, &wish.consensus), ..guest };
    let mut guest = guest.start(&[network.peer()]).await;
    let leader = guest.up().await;
    assert_eq!(leader, group.status().node);
    // It never says who it is, so nobody takes it in.
    let call = Call::Query { query: bytes::Bytes::new() };
    assert!(guest.bonds.send(leader, MemberFrame::Forward { id: 7, call }));
    loop {
        if let BondEvent::Frame { frame: MemberFrame::Answer { id, outcome }, .. } =
            guest.event().await
        {
            assert_eq!((id, outcome), (7, Outcome::Refused(Reason::Unavailable)));
            break;
        }
    }
    soon("an answer", group.execute(1)).await.expect("the group goes on");
}

#[tokio::test]
async fn a_guest_is_given_no_entries() {
    let wish = Wish::new(1);
    let network = wish.network().await;
    let group = alone(&network, &wish.key, &wish.consensus).await;
    soon("an answer", group.execute(1)).await.expect("commits");
    let guest = Wish::new(2);
    let guest = Wish { group: GroupId::of(&wish.key, Sum::SIGNATURE, &wish.consensus), ..guest };
    let mut guest = guest.start(&[network.peer()]).await;
    let leader = guest.up().await;
    let (after, last, term) = (Index(0), Index(1), group.status().term);
    // Nor a file of its own to read a snapshot from.
    let ask = Ask { id: 4, least: Index(0), digest: None, offset: 0, bytes_max: 1 };
    assert!(guest.bonds.send(leader, MemberFrame::Snapshot(SnapshotFrame::Ask(ask))));
    for frame in [
        ReplayFrame::Fetch { id: 1, after, last },
        ReplayFrame::AskMarks { id: 2, term, after },
        ReplayFrame::AskHeld { id: 3 },
    ] {
        assert!(guest.bonds.send(leader, MemberFrame::Replay(frame)));
    }
    let mut answers = Vec::new();
    while answers.len() < 3 {
        match guest.event().await {
            BondEvent::Frame { frame: MemberFrame::Replay(answer), .. } => answers.push(answer),
            BondEvent::Frame { frame: MemberFrame::Snapshot(answer), .. } => panic!("{answer:?}"),
            _ => {}
        }
    }
    let commit = group.status().commit;
    let held = ReplayFrame::Held { id: 3, after, commit };
    assert_eq!(answers, [ReplayFrame::Busy { id: 1 }, ReplayFrame::Busy { id: 2 }, held]);
}
