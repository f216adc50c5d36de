//! What clients get that have proved the key and then misbehave.

mod unread;

use std::time::Duration;

use raft::NodeId;

use super::*;
use crate::{
    Client, ConsensusProfile, Group, StateMachine as _, SystemClock,
    group::{
        mailbox::Mail,
        samples::{JumpingClock, Sum, alone, network, network_on, soon, until},
        wire::{Call, Outcome, Reason},
    },
    metric::{ANSWERS_DROPPED, CLIENTS_TURNED_AWAY, REFUSALS, recorder::Record},
    network::header,
};

/// A member that leads alone, a client that behaves, and a hand to misbehave with.
struct Scene {
    group: Group<Sum>,
    good: Client<Sum>,
    hand: Network,
    served: Network,
    key: GroupKey,
}

impl Scene {
    async fn set(consensus: &ConsensusConfig) -> Self {
        Self::on(Arc::new(SystemClock::new()), consensus).await
    }

    /// The member's time comes from this clock.
    async fn on(clock: Arc<dyn Clock>, consensus: &ConsensusConfig) -> Self {
        let (served, hand) = (network_on(clock).await, network().await);
        let key = GroupKey::from_secret("serve");
        let group = alone(&served, &key, consensus).await;
        let good = network()
            .await
            .client(key.clone())
            .consensus(consensus.clone())
            .members([served.peer()])
            .connect();
        let good = soon("a link", good).await.expect("it is served");
        Self { group, good, hand, served, key }
    }

    /// A link that has been let in.
    async fn link(&self) -> Link {
        let bound = Duration::from_secs(20);
        let (peer, group) = (self.served.peer(), self.group.id());
        let dialed = self.hand.dial_client(&peer, group, &self.key, bound);
        soon("a link", dialed).await.expect("it proves the key")
    }
}

/// A member that is played by hand, as its clients see it, and the link of one of them.
struct Played {
    served: Network,
    shown: watch::Sender<Status>,
    delivered: mpsc::Receiver<Mail>,
    link: Link,
    _hand: Network,
}

impl Played {
    async fn by(consensus: &ConsensusConfig) -> Self {
        let (served, hand) = (network().await, network().await);
        let key = GroupKey::from_secret("serve");
        let group = GroupId::of(&key, Sum::SIGNATURE, consensus);
        let (mailbox, delivered) = Mailbox::open(consensus);
        let (shown, status) = watch::channel(Status::new(NodeId::small(1)));
        spawn(&served, group, &key, consensus, &mailbox, &status, Alarm::default());
        let (peer, bound) = (served.peer(), Duration::from_secs(20));
        let dialed = hand.dial_client(&peer, group, &key, bound);
        let link = soon("a link", dialed).await.expect("it proves the key");
        Self { served, shown, delivered, link, _hand: hand }
    }

    async fn hears(&mut self) -> ClientFrame {
        let told = soon("a word", self.link.recv()).await.expect("it is served");
        postcard::from_bytes(&told).expect("a node's frame")
    }
}

/// With what the member closed the link.
async fn closed(link: &Link) -> (Code, String) {
    until("a close", || link.closing().is_some()).await;
    let closing = link.closing().expect("it is closed");
    (closing.code().expect("a closing has a code"), closing.to_string())
}

fn framed(frame: &ClientFrame) -> Vec<u8> {
    postcard::to_stdvec(frame).expect("plain values always encode")
}

/// Asks for so many bytes.
fn query(id: u64, bytes: u32) -> Vec<u8> {
    let query = postcard::to_stdvec(&bytes.to_le_bytes().to_vec()).expect("plain").into();
    framed(&ClientFrame::Call { id, call: Call::WeakQuery { query }, patience_ms: 10_000 })
}

#[tokio::test]
async fn what_is_no_clients_frame_closes_its_link_by_name_and_harms_nobody() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let consensus = ConsensusProfile::Lan.config();
    let scene = Scene::set(&consensus).await;
    let beyond = consensus.frame_bytes_max() + 1;
    let of_a_node = ClientFrame::Answer { id: 1, outcome: Outcome::Refused(Reason::Busy) };
    let mut executed = 0;
    for (frame, named) in [
        (vec![0xff; 40], "not a client's frame".to_owned()),
        (Vec::new(), "not a client's frame".to_owned()),
        (query(1, 4)[..3].to_vec(), "not a client's frame".to_owned()),
        (framed(&of_a_node), "not a client's frame".to_owned()),
        (vec![0; beyond], format!("a frame of {beyond} bytes, but at most {}", beyond - 1)),
    ] {
        let mut link = scene.link().await;
        link.send(&query(7, 4)).await.expect("it is open");
        soon("an answer", link.recv()).await.expect("it is served like any other");
        executed += 1;
        let done = soon("an answer", scene.good.execute(1)).await.expect("commits");
        assert_eq!(done.output, executed);
        link.send(&frame).await.expect("it is open");
        let (code, reason) = closed(&link).await;
        assert_eq!(code, Code::ProtocolViolation, "{reason}");
        assert!(reason.contains(&named), "{reason}");
    }
    let done = soon("an answer", scene.good.execute(1)).await.expect("the group goes on");
    assert_eq!(done.output, executed + 1, "nothing was lost");
    assert_eq!(scene.good.node(), Some(scene.served.peer().id), "its link is the same");
    let code: [(&str, &str); 1] = [("code", "protocol_violation")];
    assert_eq!(record.counter(CLIENTS_TURNED_AWAY, &code), 4);
    assert_eq!(record.counter(REFUSALS, &code), 1, "the one that was too large");
}

/// What the node answers to this call.
async fn answer(link: &mut Link, id: u64) -> Outcome {
    loop {
        let frame = soon("a frame", link.recv()).await.expect("it is served");
        match postcard::from_bytes(&frame).expect("a node's frame") {
            ClientFrame::Answer { id: answered, outcome } if answered == id => return outcome,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_call_that_is_too_large_is_refused_and_costs_no_link() {
    let consensus = ConsensusProfile::Lan.config();
    let scene = Scene::set(&consensus).await;
    let mut link = scene.link().await;
    let largest = consensus.command_bytes_max as usize;
    // By hand: a client of ours does not send it.
    for (bytes, answered) in [(largest, Reason::Undecodable), (largest + 1, Reason::TooLarge)] {
        let query = vec![0xff; bytes].into();
        let call = Call::WeakQuery { query };
        let frame = framed(&ClientFrame::Call { id: 1, call, patience_ms: 10_000 });
        link.send(&frame).await.expect("it is open");
        let outcome = answer(&mut link, 1).await;
        let undecodable = matches!(outcome, Outcome::Queried { answer: None, .. });
        let told = if undecodable { Reason::Undecodable } else { Reason::TooLarge };
        assert_eq!(told, answered, "{bytes} bytes: {outcome:?}");
    }
    assert!(link.closing().is_none());
}

#[tokio::test]
async fn a_client_with_as_many_calls_under_way_as_may_be_is_told_so_and_others_are_served() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let mut consensus = ConsensusProfile::Lan.config();
    // It does not ping; that is not what this is about.
    consensus.max_missed_heartbeats = 400;
    let scene = Scene::set(&consensus).await;
    let mut greedy = scene.link().await;
    let calls = 10_000;
    for id in 0..calls {
        greedy.send(&query(id, 4)).await.expect("its calls are read");
    }
    // Some of the words that it has too many under way may find no place: those are counted.
    let unheard = || record.counter(ANSWERS_DROPPED, &[("reason", "count")]);
    let (mut done, mut refused) = (0, 0);
    while done + refused + unheard() < calls {
        let Some(frame) = soon("a frame", greedy.recv()).await else {
            panic!("its link is closed: {:?}", greedy.closing())
        };
        match postcard::from_bytes(&frame).expect("a node's frame") {
            ClientFrame::Answer { outcome: Outcome::Queried { .. }, .. } => done += 1,
            ClientFrame::Answer { outcome: Outcome::Refused(Reason::Busy), .. } => refused += 1,
            ClientFrame::Answer { outcome, .. } => panic!("{outcome:?}"),
            _ => {}
        }
    }
    assert!(done > 0, "{refused} refused, {} unheard", unheard());
    soon("an answer", scene.good.execute(1)).await.expect("the group goes on");
}

#[tokio::test]
async fn a_client_that_is_kept_busy_hears_who_leads() {
    let mut played = Played::by(&ConsensusProfile::Lan.config()).await;
    assert_eq!(played.hears().await, ClientFrame::Ping { leader: None });
    let leads = NodeId::small(2);
    // Answer upon answer, so that there is never a pause for another.
    let mut told = None;
    for id in 0..ANSWERS_UNTIL_TOLD {
        played.link.send(&query(id, 4)).await.expect("it is open");
        let Some(Mail::Call { answerer, .. }) = soon("a call", played.delivered.recv()).await
        else {
            panic!("a client can only call")
        };
        answerer.answer(Outcome::Refused(Reason::Busy));
        match played.hears().await {
            ClientFrame::Ping { leader } => told = leader,
            _ => played.shown.send_modify(|status| status.leader = Some(leads)),
        }
        if told.is_some() {
            break;
        }
    }
    assert_eq!(told, Some(leads.peer));
}

#[tokio::test]
async fn a_client_waits_no_longer_than_any_call_may_take_whatever_it_says() {
    let consensus = ConsensusProfile::Lan.config();
    let mut played = Played::by(&consensus).await;
    let most = consensus.forward_timeout.max(consensus.query_timeout);
    let ms = Duration::from_millis;
    for (patience_ms, borne) in [(0, ms(0)), (7, ms(7)), (u32::MAX, most)] {
        let call = Call::WeakQuery { query: Vec::new().into() };
        let frame = framed(&ClientFrame::Call { id: patience_ms.into(), call, patience_ms });
        let before = played.served.clock().now();
        played.link.send(&frame).await.expect("it is open");
        let mail = soon("the call", played.delivered.recv()).await.expect("it is open");
        let after = played.served.clock().now();
        let Mail::Call { deadline, .. } = mail else { panic!("a client can only call") };
        assert!((before.plus(borne)..=after.plus(borne)).contains(&deadline), "{patience_ms} ms");
    }
}

#[tokio::test]
async fn a_client_is_told_who_leads_as_soon_as_it_is_known() {
    let hour = Duration::from_secs(3_600);
    let consensus = ConsensusConfig { heartbeat_interval: hour, ..ConsensusProfile::Lan.config() };
    let mut played = Played::by(&consensus).await;
    for leads in [None, Some(NodeId::small(2)), None, Some(NodeId::small(3))] {
        played.shown.send_modify(|status| status.leader = leads);
        let told = played.hears().await;
        assert_eq!(told, ClientFrame::Ping { leader: leads.map(|leader| leader.peer) });
        // What is no news of the leader is none for clients.
        let next = |status: &mut Status| status.commit = raft::Index(status.commit.0 + 1);
        played.shown.send_modify(next);
    }
}

#[tokio::test]
async fn a_client_hears_each_heartbeat_while_it_waits_for_an_answer_and_little_before() {
    let consensus =
        ConsensusConfig { max_missed_heartbeats: 10_000, ..ConsensusProfile::Lan.config() };
    let mut played = Played::by(&consensus).await;
    let ping = ClientFrame::Ping { leader: None };
    assert_eq!(played.hears().await, ping);
    let idle = tokio::time::timeout(10 * consensus.heartbeat_interval, played.link.recv()).await;
    assert!(idle.is_err(), "it waits for nothing, and hears {idle:?}");
    // Nobody takes the call out of the mailbox: it stays unanswered.
    played.link.send(&query(1, 4)).await.expect("it is open");
    for _ in 0..5 {
        assert_eq!(played.hears().await, ping);
    }
}

#[tokio::test]
async fn a_client_that_falls_silent_loses_its_link_and_one_that_pings_keeps_it() {
    let consensus = ConsensusProfile::Lan.config();
    let scene = Scene::set(&consensus).await;
    let (silent, mut pinging) = (scene.link().await, scene.link().await);
    let mut ticks = tokio::time::interval(consensus.heartbeat_interval);
    let pings = async {
        loop {
            ticks.tick().await;
            let ping = framed(&ClientFrame::Ping { leader: None });
            pinging.send(&ping).await.expect("it is open");
        }
    };
    let (code, reason) = tokio::select! {
        closed = closed(&silent) => closed,
        () = pings => unreachable!("it never ends"),
    };
    assert_eq!(code, Code::Timeout, "{reason}");
    assert!(reason.contains("not a word for 1s"), "{reason}");
    assert!(pinging.closing().is_none());
}

#[tokio::test]
async fn half_a_frame_is_no_word_also_when_it_comes_byte_by_byte() {
    let consensus = ConsensusProfile::Lan.config();
    let scene = Scene::set(&consensus).await;
    // It takes longer than anybody waits here.
    let begun = [&header(10_000)[..], &[7; 10_000]].concat();
    for drips in [false, true] {
        let (mut sender, receiver) = scene.link().await.split();
        let (half, rest) = begun.split_at(begun.len() / 2);
        let mut ticks = tokio::time::interval(consensus.heartbeat_interval);
        let speaks = async {
            sender.send_raw(half).await.expect("it is open");
            for byte in rest.iter().filter(|_| drips) {
                ticks.tick().await;
                if sender.send_raw(&[*byte]).await.is_err() {
                    break;
                }
            }
            // That its link is closed is seen beside this.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = until("a close", || receiver.closing().is_some()) => {}
            () = speaks => unreachable!("it never ends"),
        }
        let closing = receiver.closing().expect("it is closed");
        assert_eq!(closing.code(), Some(Code::Timeout), "{closing}");
        assert!(closing.to_string().contains("not a word for 1s"), "{closing}");
    }
    soon("an answer", scene.good.execute(1)).await.expect("the group goes on");
}

#[tokio::test]
async fn a_node_that_was_stopped_reads_before_it_judges_its_clients() {
    let clock = Arc::new(JumpingClock::default());
    let consensus = ConsensusConfig {
        heartbeat_interval: Duration::from_millis(500),
        max_missed_heartbeats: 2,
        election_timeout: Duration::from_secs(1),
        client_silence_max: Duration::from_secs(1),
        ..ConsensusProfile::Lan.config()
    };
    let scene = Scene::on(Arc::new(Arc::clone(&clock)), &consensus).await;
    let mut link = scene.link().await;
    for id in 0..20 {
        // As after SIGCONT: an hour is gone between two looks at the clock.
        clock.jump(Duration::from_secs(3_600));
        link.send(&query(id, 4)).await.expect("it is open");
        let answered = async {
            while let Some(frame) = link.recv().await {
                match postcard::from_bytes(&frame) {
                    Ok(ClientFrame::Answer { id: answered, .. }) if answered == id => return true,
                    _ => {}
                }
            }
            false
        };
        assert!(soon("an answer", answered).await, "its link was closed: {:?}", link.closing());
    }
}

#[tokio::test]
async fn answers_that_are_not_read_have_a_limit_in_bytes_and_then_cost_the_link() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let mut consensus = ConsensusProfile::Lan.config();
    consensus.handshake_timeout = Duration::from_secs(1);
    // It does not ping either; that is not what this is about.
    consensus.max_missed_heartbeats = 400;
    let scene = Scene::set(&consensus).await;
    let mut greedy = scene.link().await;
    // Three times what may wait for one client, and it reads none of it.
    for id in 0..48 {
        greedy.send(&query(id, 1_000_000)).await.expect("its calls are read");
    }
    let (code, reason) = closed(&greedy).await;
    assert_eq!(code, Code::Timeout, "{reason}");
    assert!(reason.contains("it has not read for 1s"), "{reason}");
    let cut = record.counter(ANSWERS_DROPPED, &[("reason", "bytes")]);
    assert!((1..48).contains(&cut), "{cut} of 48");
    let done = soon("an answer", scene.good.execute(1)).await.expect("the group goes on");
    assert_eq!(done.output, 1);
}

#[tokio::test]
async fn a_member_that_leaves_says_goodbye_to_its_clients() {
    let scene = Scene::set(&ConsensusProfile::Lan.config()).await;
    let link = scene.link().await;
    let Scene { group, served: _served, .. } = scene;
    drop(group);
    let (code, reason) = closed(&link).await;
    assert_eq!(code, Code::GracefulShutdown, "{reason}");
    assert!(reason.contains("this member leaves the group"), "{reason}");
}

/// Each answer could be the last before the word that one leads; it comes with the next.
const ANSWERS_UNTIL_TOLD: u64 = 1_000;
