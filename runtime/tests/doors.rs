//! What a wrong key, a wrong network, other settings and another lineage get, as a program sees
//! it: an answer that says what is wrong, at once.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/members.rs"]
mod members;
#[allow(dead_code)] // the same
#[path = "model/recorder.rs"]
mod recorder;

use std::{
    collections::BTreeSet,
    fs,
    net::UdpSocket,
    path::Path,
    sync::{Arc, Mutex},
};

use members::{Counter, config, formed, key, network, soon, until};
use recorder::Record;
use runtime::{
    Bootstrap, Client, ConsensusConfig, Consistency, Event, Group, GroupError, GroupKey, Network,
    NetworkId, Peer, SecretKey, storage,
};

/// What a client is told that does not get in.
async fn refused(
    from: &Network,
    key: GroupKey,
    consensus: ConsensusConfig,
    members: Vec<Peer>,
) -> String {
    let builder = from.client(key).consensus(consensus).members(members);
    let connecting = builder.connect();
    let connected: Result<Client<Counter>, GroupError> = soon(connecting).await;
    let error = connected.expect_err("it is to be turned away");
    assert!(matches!(error, GroupError::Unreachable(_)), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_belong_is_told_what_is_wrong() {
    let members = formed(1).await;
    let served = members[0].network.peer();
    let here = network().await;
    let same = "the key, the machine's signature and the consensus settings must be the same";
    let wrong = GroupKey::from_secret("another secret");
    let error = refused(&here, wrong, config(), vec![served.clone()]).await;
    assert!(error.contains("group_not_found") && error.contains(same), "{error}");
    assert!(!error.contains("did not answer"), "that is no timeout: {error}");
    let other = ConsensusConfig { sessions_max: 17, ..config() };
    let error = refused(&here, key(), other, vec![served.clone()]).await;
    assert!(error.contains("group_not_found") && error.contains(same), "{error}");
    let elsewhere = Network::builder("elsewhere").bind(([127, 0, 0, 1], 0).into());
    let elsewhere = elsewhere.build().await.expect("a free port");
    let error = refused(&elsewhere, key(), config(), vec![served.clone()]).await;
    for named in ["different_network", &NetworkId::of("elsewhere").to_string()] {
        assert!(error.contains(named), "{error}");
    }
    assert!(error.contains(&NetworkId::of("tests").to_string()), "{error}");
    // None of this has hurt anybody.
    soon(members[0].group.execute(1)).await.expect("commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_finds_nobody_is_told_what_became_of_each() {
    let members = formed(1).await;
    let here = network().await;
    // Bound, so that nobody else answers there, and silent.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let silent = Peer {
        id: SecretKey::from_bytes([5; 32]).peer_id(),
        addresses: vec![socket.local_addr().expect("it is bound")],
    };
    let wrong = GroupKey::from_secret("another secret");
    let both = vec![silent.clone(), members[0].network.peer()];
    let error = refused(&here, wrong, config(), both).await;
    let named = format!("peer {} did not answer within 1s", silent.id);
    assert!(error.contains(&named) && error.contains("group_not_found"), "{error}");
    assert!(error.starts_with("no member took this client in: "), "{error}");
    let nobody = here.client(key()).connect::<Counter>().await.expect_err("no members");
    assert!(nobody.to_string().contains("at least one member"), "{nobody}");
}

/// A member that founded a group of this key alone, or goes on with that, and dials the peers.
async fn founder(
    network: &Network,
    store: &Path,
    peers: Vec<Peer>,
) -> (Group<Counter>, Arc<Mutex<Vec<Event>>>) {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let noted = Arc::clone(&events);
    let group = network
        .group(key())
        .machine(Counter::default())
        .consensus(config())
        .storage(storage::Disk::at(store))
        .bootstrap(Bootstrap::Solo)
        .peers(peers)
        .observe(move |_, event| noted.lock().expect("nobody panics with it").push(event.clone()))
        .join()
        .await
        .expect("nothing stands against joining");
    soon(group.when().is_leader()).await.expect("it leads itself");
    (group, events)
}

#[tokio::test]
async fn two_lineages_of_one_key_never_bond_and_both_go_on() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let folder = tempfile::tempdir().expect("a folder");
    let stores = ["first", "second"].map(|name| folder.path().join(name));
    let (here, there) = (network().await, network().await);
    let (first, first_events) = founder(&here, &stores[0], vec![]).await;
    soon(first.execute(1)).await.expect("commits");
    // Asked for something before they meet, or the one would give its group up for the other.
    let (second, _) = founder(&there, &stores[1], vec![]).await;
    soon(second.execute(10)).await.expect("commits");
    let when = second.when();
    drop(second);
    soon(when.stopped()).await;
    let (second, second_events) = founder(&there, &stores[1], vec![here.peer()]).await;
    assert_eq!(first.id(), second.id(), "one key, one machine, the same settings");
    let lineages = [&first, &second].map(|group| group.status().lineage.expect("it is founded"));
    assert_ne!(lineages[0], lineages[1]);
    let lineage = [("code", "different_lineage")];
    let dialed = [("outcome", "different_lineage")];
    until("refusals", || {
        record.counter("tessera.network.refusals", &lineage) >= 3
            && record.counter("tessera.bond.dials", &dialed) >= 3
    })
    .await;
    let nodes = [here.peer().id, there.peer().id];
    for (place, (group, events, value)) in
        [(first, first_events, 1), (second, second_events, 10)].into_iter().enumerate()
    {
        let answer = soon(group.query((), Consistency::Strong)).await.expect("it goes on");
        assert_eq!(answer.answer, value, "nothing of the other's");
        let (peer, theirs) = (nodes[1 - place], lineages[1 - place]);
        let mut when = group.when();
        let seen = when.status(|status| status.foreign == [(peer, theirs)]);
        soon(seen).await.expect("the status names it");
        let events = events.lock().expect("nobody panics with it");
        let bonded = events.iter().any(|event| matches!(event, Event::Bonded(_)));
        assert!(!bonded, "{events:?}");
        let foreign = Event::Foreign { peer, theirs, ours: lineages[place] };
        let told = events.iter().filter(|event| **event == foreign).count();
        assert_eq!(told, 1, "it is said once: {events:?}");
    }
}

/// All Rust files below a directory of this package.
fn sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a directory of this package") {
        let path = entry.expect("its files can be listed").path();
        if path.is_dir() {
            sources(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(fs::read_to_string(&path).expect("a Rust file"));
        }
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the table of doors.
fn rows() -> Vec<String> {
    let table = fs::read_to_string(package().join("DOORS.md")).expect("the table of doors");
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| What it sends");
    table.lines().filter(is_row).map(str::to_owned).collect()
}

/// The variants of an enum, as they stand in its file.
fn variants<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let body = text.split_once(&format!("enum {name} {{\n"));
    let (body, _) = body.and_then(|(_, body)| body.split_once("\n}")).expect("it is there");
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let named = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    named.filter_map(|line| line.split(|part: char| !part.is_alphanumeric()).next()).collect()
}

#[test]
fn the_table_of_doors_has_a_row_for_each_kind_of_frame() {
    let travels = [
        ("src/network/handshake.rs", "HelloRole"),
        ("src/group/wire.rs", "ClientFrame"),
        ("src/group/wire.rs", "Call"),
        ("src/group/wire.rs", "MemberFrame"),
        ("src/group/transfer.rs", "SnapshotFrame"),
        ("src/group/replay/frame.rs", "ReplayFrame"),
        ("raft/src/message.rs", "Message"),
    ];
    let rows = rows();
    let sent: Vec<&str> = rows.iter().filter_map(|row| row.split(" | ").next()).collect();
    for (file, name) in travels {
        let text = fs::read_to_string(package().join(file)).expect("a Rust file");
        let variants = variants(&text, name);
        assert!(variants.len() >= 2, "of {name} only {variants:?} are seen");
        for variant in variants {
            let frame = format!("`{name}::{variant}`");
            assert!(sent.iter().any(|cell| cell.contains(&frame)), "no row is about {frame}");
        }
    }
    let mut texts = Vec::new();
    sources(&package().join("src"), &mut texts);
    for rest in texts.iter().flat_map(|text| text.split(" enum ").skip(1)) {
        let name = rest.split(|part: char| !part.is_alphanumeric()).next().unwrap_or_default();
        let is_known = travels.iter().any(|(_, known)| *known == name);
        assert!(is_known || !name.ends_with("Frame"), "does {name} not travel?");
    }
}

#[test]
fn the_table_of_doors_names_tests_that_exist() {
    let (mut texts, mut names) = (Vec::new(), BTreeSet::new());
    for folder in ["src", "tests", "raft/tests"] {
        sources(&package().join(folder), &mut texts);
    }
    for text in &texts {
        let functions = text.split("fn ").skip(1);
        names.extend(functions.filter_map(|rest| Some(rest.split_once('(')?.0)));
    }
    let mut tests = 0;
    for row in rows() {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        for test in last.split('`').skip(1).step_by(2).filter(|name| *name != "tessera-raft") {
            assert!(names.contains(test), "there is no test {test}");
            tests += 1;
        }
    }
    assert!(tests >= 50, "only {tests} tests were found in the table");
}
