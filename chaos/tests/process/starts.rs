//! How nodes start, how they refuse to, and what they keep through a fault.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use chaos::{
    cluster::{Cluster, ClusterError, World},
    fault::{CrashPoint, NodeNumber},
    process::{Places, ProcessWorld},
    register,
};
use runtime::Index;
use tokio::sync::mpsc;

use crate::lab::{all, block_on, cluster, eventually, folder, places, settings, world};

pub(crate) fn a_node_without_its_harness_is_refused() {
    for parent in ["1", "x"] {
        let output = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["node", "--parent", parent])
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        let why = if parent == "1" { "is gone" } else { "expected `--parent`" };
        assert!(said.contains(why), "{said}");
    }
}

pub(crate) fn a_node_that_hears_garbage_ends() {
    let me = std::process::id().to_string();
    for garbage in ["{}\n", "\u{0}\n", "{\"id\":1,\"ask\":\"status\"}\n", "no end"] {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["node", "--parent", &me])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut input = child.stdin.take().expect("it was asked for");
        input.write_all(garbage.as_bytes()).expect("a pipe takes that much");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        assert!(!output.status.success(), "{garbage:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("the node cannot go on"), "{garbage:?}: {said}");
    }
}

pub(crate) fn a_store_that_is_no_store() {
    let folder = folder();
    let store = folder.path().join("stores/1/1");
    std::fs::create_dir_all(&store).expect("a place for it");
    std::fs::write(store.join("marker"), b"not ours").expect("it can be written");
    std::fs::write(store.join("something"), b"else").expect("it can be written");
    let reason = start_error(&world(folder.path()));
    assert!(matches!(reason, ClusterError::Start { node: NodeNumber(1), .. }), "{reason}");
    assert!(reason.to_string().contains("stores/1/1"), "names the store: {reason}");
}

pub(crate) fn a_program_that_is_no_node() {
    let folder = folder();
    let missing = Places { program: folder.path().join("absent"), ..places(folder.path()) };
    let reason = start_error(&ProcessWorld::new(missing)).to_string();
    assert!(reason.contains("absent"), "{reason}");
    let other = Places { program: "/bin/true".into(), ..places(folder.path()) };
    let reason = start_error(&ProcessWorld::new(other)).to_string();
    assert!(reason.contains("did not start"), "{reason}");
}

fn start_error(world: &ProcessWorld) -> ClusterError {
    block_on(async {
        let (events, _noted) = mpsc::channel(64);
        match world.start(settings(1), events).await {
            Ok(_) => panic!("it must not start"),
            Err(error) => error,
        }
    })
}

pub(crate) fn nodes_keep_address_and_log() {
    let folder = folder();
    let world = world(folder.path());
    block_on(async {
        let cluster = cluster(&world, 3).await;
        eventually("a leader", Duration::from_secs(20), || async {
            cluster.status(NodeNumber(1)).await.is_ok_and(|status| status.leader.is_some())
        })
        .await;
        let client = cluster.client(1, &all(3)).await.expect("it connects");
        let executed = client.execute(register::Command::Write { key: 1, value: 10 }).await;
        let position = executed.expect("three healthy nodes").position;
        let victim = NodeNumber(2);
        cluster.kill(&[victim], CrashPoint::Any).await.expect("it is proven to be gone");
        cluster.status(victim).await.expect_err("nobody is there");
        let at = cluster.restart(victim).await.expect("its store opens again");
        // Only the old address is known to the others: it catches up only if it listens there.
        let reached = cluster.reached(victim, position.index).await.expect("it catches up");
        assert!(reached >= at);
        let lines = cluster.log(victim, Index(1)).await.expect("its log");
        let line = lines.iter().find(|line| line.index == position.index.0).expect("is there");
        assert_eq!((line.term, line.value), (position.term.0, Some(10)));
        assert!(line.request.is_some());
        cluster.stop().await.expect("all end");
    });
}

pub(crate) fn a_paused_node_stands_still() {
    let folder = folder();
    let world = world(folder.path());
    block_on(async {
        let cluster = &cluster(&world, 3).await;
        let victim = NodeNumber(3);
        eventually("a leader", Duration::from_secs(20), || async {
            cluster.status(victim).await.is_ok_and(|status| status.leader.is_some())
        })
        .await;
        // Resolves only once the kernel says that it is stopped.
        let paused = cluster.pause(victim).await.expect("it takes place");
        let client = cluster.client(1, &all(2)).await.expect("the others serve");
        let executed = client.execute(register::Command::Write { key: 1, value: 10 }).await;
        let index = executed.expect("two of three are a majority").position.index;
        let resumed = cluster.resume(victim).await.expect("it goes on");
        let reached = cluster.reached(victim, index).await.expect("it catches up");
        assert!(paused < resumed && resumed < reached);
        cluster.stop().await.expect("all end");
    });
}

pub(crate) fn a_taken_address_is_waited_for() {
    let folder = folder();
    let world = world(folder.path());
    block_on(async {
        let cluster = &cluster(&world, 3).await;
        let victim = NodeNumber(1);
        let address = cluster.peer(victim).expect("it was started").addresses[0];
        cluster.kill(&[victim], CrashPoint::Any).await.expect("it is proven to be gone");
        let squatter = std::net::UdpSocket::bind(address).expect("its owner is gone");
        let log = folder.path().join("nodes/1.log");
        let waits = || async {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            said.contains("waits for its address") && said.contains(&address.to_string())
        };
        let leaves = async {
            eventually("it says what it waits for", Duration::from_secs(10), waits).await;
            drop(squatter);
        };
        let (restarted, ()) = tokio::join!(cluster.restart(victim), leaves);
        restarted.expect("the address was free in time");
        cluster.stop().await.expect("all end");
    });
}
