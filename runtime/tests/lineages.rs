//! A lineage that is forced on a store after its group lost a majority: what it keeps, what it
//! loses, and who refuses whom from then on.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/members.rs"]
mod members;

use std::{collections::BTreeSet, path::Path};

use members::{Counter, config, key, network, soon};
use runtime::{
    Bootstrap, Client, CommandError, Configuration, Consistency, Group, Network, Peer, Reason,
    SecretKey, StorageError,
    storage::{Disk, Memory},
};

async fn node(number: u8) -> Network {
    Network::builder("tests")
        .bind(([127, 0, 0, 1], 0).into())
        .secret_key(SecretKey::from_bytes([number; 32]))
        .build()
        .await
        .expect("a free port")
}

async fn join(
    network: &Network,
    store: &Path,
    bootstrap: Bootstrap,
    peers: Vec<Peer>,
) -> Group<Counter> {
    let builder = network.group(key()).machine(Counter::default()).consensus(config());
    let builder = builder.storage(Disk::at(store)).bootstrap(bootstrap).peers(peers);
    builder.join().await.expect("nothing stands against joining")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_goes_on_alone_and_the_old_ones_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = |number: u8| folder.path().join(format!("store-{number}"));
    let networks = [node(1).await, node(2).await, node(3).await];
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let mut groups = Vec::new();
    for (number, network) in (1..).zip(&networks) {
        let founders = Bootstrap::Voters(voters.clone());
        groups.push(join(network, &store(number), founders, peers.clone()).await);
    }
    soon(groups[0].when().leader_elected()).await.expect("all are there");
    let executed = soon(groups[0].execute(7)).await.expect("a majority is there");
    soon(groups[0].when().applied(executed.position.index)).await.expect("it has it");
    let in_use = Disk::survey(store(1)).expect_err("its member runs");
    assert!(matches!(in_use, StorageError::InUse { .. }), "{in_use}");
    for (group, network) in groups.into_iter().zip(networks) {
        network.shutdown().await;
        soon(group.when().stopped()).await;
    }

    let before = Disk::survey(store(1)).expect("it is closed and whole");
    assert_eq!(before.configuration.voters.len(), 3);
    assert!(before.last.index >= executed.position.index);
    let lineage = Disk::force_new_lineage(store(1)).expect("two of three are gone");
    assert_ne!(lineage, before.lineage);
    let after = Disk::survey(store(1)).expect("it is whole");
    assert_eq!((after.lineage, after.node), (lineage, before.node));
    assert_eq!(after.configuration, Configuration::of([before.node]));
    assert_eq!(after.last.index, before.last.index.next());
    let again = Disk::force_new_lineage(store(1)).expect_err("once is enough");
    assert!(again.to_string().contains("its group's only member"), "{again}");

    // It leads alone, with all that its log held, whatever its builder says of founders.
    let here = node(1).await;
    let alone = join(&here, &store(1), Bootstrap::Voters(voters), peers).await;
    soon(alone.when().is_leader()).await.expect("it needs nobody");
    let sum = soon(alone.query((), Consistency::Strong)).await.expect("it answers");
    assert_eq!(sum.answer, 7);

    // One that comes with its old store is of the old lineage still.
    let there = node(2).await;
    let old = join(&there, &store(2), Bootstrap::Join, vec![here.peer()]).await;
    for (group, theirs, peer) in
        [(&alone, before.lineage, there.peer().id), (&old, lineage, here.peer().id)]
    {
        let mut when = group.when();
        let seen = when.status(|status| status.foreign == [(peer, theirs)]);
        soon(seen).await.expect("each names the other");
    }
    assert!(!alone.members().contains(old.status().node));

    // One that comes without a store joins.
    let fresh = join(&network().await, &store(4), Bootstrap::Join, vec![here.peer()]).await;
    soon(fresh.when().is_voter()).await.expect("it is promoted");
    assert_eq!(soon(fresh.execute(1)).await.expect("two of two").output, 8);
    assert_eq!(fresh.status().lineage, Some(lineage));
}

async fn client(of: &Peer) -> Client<Counter> {
    let builder = network().await.client(key()).consensus(config()).members([of.clone()]);
    soon(builder.connect()).await.expect("it lets clients in")
}

/// A session is the index of an entry, so both lineages have one of the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_a_lineage_that_is_gone_is_not_told_what_became_of_anothers_command() {
    let founded = async |here: &Network| {
        let builder = here.group(key()).machine(Counter::default()).consensus(config());
        let builder = builder.storage(Memory).bootstrap(Bootstrap::Solo);
        builder.join().await.expect("nothing stands against joining")
    };
    let here = node(1).await;
    let first = founded(&here).await;
    let old = client(&here.peer()).await;
    let named = soon(old.execute(1)).await.expect("it leads itself").request;
    let when = first.when();
    drop(first);
    soon(when.stopped()).await;

    let second = founded(&here).await;
    let new = client(&here.peer()).await;
    for _ in 0..2 {
        let executed = soon(new.execute(10)).await.expect("it leads itself");
        assert_eq!(executed.request.session, named.session, "or the test shows nothing");
    }
    let error = soon(old.execute(1)).await.expect_err("its session is gone");
    let CommandError::Unknown { reason: Reason::SessionExpired, request } = error else {
        panic!("{error}")
    };
    let request = request.expect("it had a name");
    assert_eq!((request.session, request.sequence), (named.session, 2), "the other's last");
    assert_eq!(soon(old.execute(1)).await.expect("it opens another").output, 21);
    assert_eq!(soon(new.execute(10)).await.expect("its session is untouched").output, 31);
    drop(second);
}

#[test]
fn what_is_no_founded_store_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("nowhere");
    let error = Disk::force_new_lineage(&missing).expect_err("nothing is there");
    assert!(error.to_string().contains("nowhere is missing"), "{error}");
    assert!(!missing.exists(), "and nothing is there now");
    let empty = Disk::survey(folder.path()).expect_err("that is no store");
    assert!(empty.to_string().contains("store"), "{empty}");
}

#[tokio::test]
async fn a_store_that_waits_for_a_founding_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    let here = node(1).await;
    let waiting = join(&here, &store, Bootstrap::Join, vec![]).await;
    let when = waiting.when();
    drop(waiting);
    soon(when.stopped()).await;
    let error = Disk::force_new_lineage(&store).expect_err("there is nothing to go on with");
    assert!(error.to_string().contains("never founded"), "{error}");
}
