//! Links between real processes: hurt, seen to be, and healed.

use std::time::Duration;

use chaos::{
    cluster::{Cluster, ClusterError, Settings, World},
    fault::{CrashPoint, Fault, LinkRule, NodeNumber},
    link::LinkFaults,
    plan::Plan,
    process::{ProcessCluster, ProcessWorld},
    register,
    run::Outcome,
};
use tokio::sync::mpsc;

use crate::{
    lab::{all, block_on, cluster, eventually, folder, judged, plan, settings, world},
    runs::valid,
};

/// A started cluster whose links can be hurt.
async fn frail(world: &ProcessWorld, nodes: u64) -> ProcessCluster {
    let (events, mut noted) = mpsc::channel(1_024);
    tokio::spawn(async move { while noted.recv().await.is_some() {} });
    let settings = Settings { packet_faults: true, ..settings(nodes) };
    world.start(settings, events).await.expect("it starts")
}

/// Between a node and both others of three, both ways.
fn around(node: u64, faults: &LinkFaults) -> Vec<LinkRule> {
    let others = (1..=3).filter(|other| *other != node);
    let rule =
        |from, to| LinkRule { from: NodeNumber(from), to: NodeNumber(to), faults: faults.clone() };
    others.flat_map(|other| [rule(node, other), rule(other, node)]).collect()
}

async fn blocked(cluster: &ProcessCluster, from: u64, to: u64) -> u64 {
    let counts = cluster.link_counts().await.expect("all are there");
    counts.get(&(NodeNumber(from), NodeNumber(to))).map_or(0, |counts| counts.blocked)
}

pub(crate) fn a_cut_off_node_catches_up() {
    let folder = folder();
    let world = world(folder.path());
    block_on(async {
        let cluster = &frail(&world, 3).await;
        let victim = NodeNumber(3);
        eventually("a leader", BOUND, || async {
            cluster.status(NodeNumber(1)).await.is_ok_and(|status| status.leader.is_some())
        })
        .await;
        let client = cluster.client(1, &all(2)).await.expect("it connects");
        let write = |value| client.execute(register::Command::Write { key: 1, value });
        write(1).await.expect("three healthy nodes");
        let cut = cluster.link(&around(3, &LinkFaults::blocked())).await.expect("they are told");
        let index = write(2).await.expect("two of three are a majority").position.index;
        let both_ways =
            || async { blocked(cluster, 1, 3).await > 0 && blocked(cluster, 3, 1).await > 0 };
        eventually("datagrams stopped both ways", BOUND, both_ways).await;
        let status = cluster.status(victim).await.expect("the control channel is no link");
        assert!(status.commit < index.0, "{status:?} knows of index {index}");
        let healed = cluster.link(&around(3, &LinkFaults::default())).await.expect("are told");
        let reached = cluster.reached(victim, index).await.expect("it catches up");
        assert!(cut < healed && healed < reached);
        cluster.stop().await.expect("all end");
    });
}

pub(crate) fn a_cut_outlives_a_restart() {
    let folder = folder();
    let world = world(folder.path());
    block_on(async {
        let cluster = &frail(&world, 3).await;
        let victim = NodeNumber(2);
        cluster.link(&around(2, &LinkFaults::blocked())).await.expect("they are told");
        cluster.kill(&[victim], CrashPoint::Any).await.expect("it is proven to be gone");
        cluster.restart(victim).await.expect("its store opens again");
        // It counts from nothing, so this is the cut as the new process knows it.
        eventually("its first words are stopped", BOUND, || async {
            blocked(cluster, 2, 1).await > 0 && blocked(cluster, 2, 3).await > 0
        })
        .await;
        cluster.link(&around(2, &LinkFaults::default())).await.expect("they are told");
        eventually("it finds the others", BOUND, || async {
            cluster.status(victim).await.is_ok_and(|status| status.bonded.len() == 2)
        })
        .await;
        cluster.stop().await.expect("all end");
    });
}

pub(crate) fn a_cluster_on_the_hosts_transport() {
    let folder = folder();
    let world = world(folder.path());
    block_on(async {
        let cluster = cluster(&world, 1).await;
        let error = cluster.link(&around(1, &LinkFaults::blocked())).await.expect_err("no links");
        assert!(matches!(error, ClusterError::Fault { node: NodeNumber(1), .. }), "{error}");
        assert!(error.to_string().contains("host's transport"), "{error}");
        cluster.stop().await.expect("all end");
    });
}

/// Each client stays with a node of its own.
fn run(steps: &str, duration_ms: u64) -> Outcome {
    let plan: Plan = plan(&format!(
        "scenario = \"links\"\nkind = \"failover\"\nnodes = 5\n\
         [workload]\nrate_per_s = 200\nclients = 5\npinned = true\n\
         duration_ms = {duration_ms}\n{steps}"
    ));
    let transport = world(folder().path()).transport(&plan);
    assert!(transport.contains("laboratory's"), "{transport}");
    let (outcome, _) = judged(&plan, 11);
    valid(&outcome);
    outcome
}

pub(crate) fn an_isolated_leader() {
    let outcome = run(
        "[[steps]]\nat = 1000\nfault = \"isolate\"\ntarget = \"leader\"\nreturn_after_ms = 2000\n",
        4_000,
    );
    let [trial] = &outcome.trials[..] else { panic!("{:?}", outcome.trials) };
    assert!(trial.leader_after.is_some_and(|leader| leader != trial.node), "{trial:?}");
    assert!(trial.term_after > Some(trial.term_before), "{trial:?}");
    assert!(trial.rejoin_ms.is_some(), "{trial:?}");
    assert!(outcome.counts["packets_blocked"] > 0);
}

fn checked(outcome: &Outcome, name: &str) -> String {
    let check = outcome.checks.iter().find(|check| check.name == name);
    check.unwrap_or_else(|| panic!("{name} is not in {:#?}", outcome.checks)).detail.clone()
}

pub(crate) fn a_leader_in_a_minority() {
    let outcome = run(
        "[[steps]]\nat = 500\nfault = \"partition\"\nside = [\"leader\", \"follower\"]\n\
         return_after_ms = 3000\n",
        4_500,
    );
    let [trial] = &outcome.trials[..] else { panic!("{:?}", outcome.trials) };
    assert_eq!((trial.nodes.len(), trial.nodes[0]), (2, trial.node), "{trial:?}");
    assert!(trial.leader_after.is_some_and(|leader| !trial.nodes.contains(&leader)), "{trial:?}");
    assert!(trial.outage_ms.is_some_and(|ms| ms < 3_000.0), "before they returned: {trial:?}");
    let asked = checked(&outcome, "cut-off-acknowledge-nothing");
    assert!(asked.starts_with("of ") && !asked.starts_with("of 0 "), "{asked}");
    let disturbed = checked(&outcome, "return-disturbs-nobody");
    assert!(disturbed.ends_with("of 1 returns"), "{disturbed}");
}

pub(crate) fn a_ring_and_flapping_links() {
    let outcome = run(
        "[[steps]]\nat = 500\nfault = \"partition\"\n\
         cut = [[1, 3], [1, 4], [2, 4], [2, 5], [3, 5]]\nreturn_after_ms = 1500\n\
         [[steps]]\nat = 3000\nfault = \"isolate\"\ntarget = \"follower\"\n\
         flap = { on_ms = 100, off_ms = 100 }\nreturn_after_ms = 1000\n\
         [[steps]]\nat = 4500\nfault = \"link\"\ntarget = \"follower\"\n\
         faults = { hold = true }\nreturn_after_ms = 500\n",
        5_500,
    );
    assert!(outcome.counts["packets_held"] > 0, "{:?}", outcome.counts);
    // On a slow host two of them may be one trial; then it says little of each.
    let faults: usize = outcome.trials.iter().map(|trial| 1 + trial.also.len()).sum();
    assert_eq!(faults, 3, "{:?}", outcome.trials);
    let alone = |fault: Fault| {
        let mut trials = outcome.trials.iter().filter(|trial| trial.also.is_empty());
        trials.find(|trial| trial.fault == fault)
    };
    if let Some(ring) = alone(Fault::Partition) {
        assert_eq!(ring.nodes.len(), 5, "{ring:?}");
        assert_eq!(ring.term_after, None, "whoever leads keeps a majority: {ring:?}");
    }
    if let Some(flapping) = alone(Fault::Isolate) {
        assert_eq!((flapping.nodes.len(), flapping.term_after), (1, None), "{flapping:?}");
    }
}

pub(crate) fn a_partition_and_bad_links() {
    let outcome = run(
        "[[steps]]\nat = 500\nfault = \"partition\"\nside = [1, 2]\nreturn_after_ms = 1500\n\
         [[steps]]\nat = 3500\nfault = \"link\"\ntarget = { node = 4 }\nreturn_after_ms = 1500\n\
         faults = { loss = 0.05, delay_ms = 2, jitter_ms = 3, reorder = 0.05, reorder_ms = 5, \
         duplicate = 0.1, corrupt = 0.02 }\n\
         [[steps]]\nat = 4700\nfault = \"kill\"\ntarget = { node = 4 }\nreturn_after_ms = 600\n",
        6_000,
    );
    // The links of the node that is killed are healed before it returns.
    let faults: usize = outcome.trials.iter().map(|trial| 1 + trial.also.len()).sum();
    assert_eq!(faults, 3, "{:?}", outcome.trials);
    for fault in ["blocked", "lost", "delayed", "jittered", "reordered", "duplicated", "corrupted"]
    {
        assert!(outcome.counts.contains_key(&format!("packets_{fault}")), "{:?}", outcome.counts);
    }
}

const BOUND: Duration = Duration::from_secs(20);
