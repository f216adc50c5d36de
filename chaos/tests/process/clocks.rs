//! Clocks of real processes that differ: seen to, and survived.

use std::time::Duration;

use chaos::{
    cluster::Cluster,
    fault::{CrashPoint, NodeNumber},
    process::{ClockReading, ProcessCluster},
    skew::ClockFault,
};

use crate::{
    lab::{block_on, cluster, eventually, folder, judged, plan, world},
    runs::valid,
};

async fn read(cluster: &ProcessCluster, node: NodeNumber) -> ClockReading {
    cluster.clocks(node).await.expect("it answers")
}

/// A later reading, by at least so much of the host's time.
async fn later(cluster: &ProcessCluster, node: NodeNumber, first: &ClockReading) -> ClockReading {
    let due_ns = first.host_ns + 50_000_000;
    eventually("time passes", BOUND, || async { read(cluster, node).await.host_ns >= due_ns })
        .await;
    read(cluster, node).await
}

/// How much further the node's clock went than the host's between two readings, in millionths.
fn rate_ppm(first: &ClockReading, second: &ClockReading) -> i128 {
    let passed = |from: u64, to: u64| i128::from(to) - i128::from(from);
    let host = passed(first.host_ns, second.host_ns);
    let node = passed(first.monotonic_ns, second.monotonic_ns);
    (node - host) * 1_000_000 / host
}

pub(crate) fn a_clock_is_seen_to_differ() {
    let folder = folder();
    let world = world(folder.path());
    block_on(async {
        let cluster = &cluster(&world, 1).await;
        let node = NodeNumber(1);
        let first = read(cluster, node).await;
        assert_eq!((first.monotonic_ns, first.wall_off_ms), (first.host_ns, 0));
        let fast = ClockFault { rate_ppm: 50_000, wall_jump_ms: 9_000, wall_offset_ms: -4_000 };
        cluster.clock(node, &fast).await.expect("it follows");
        let first = read(cluster, node).await;
        assert_eq!(first.wall_off_ms, 5_000);
        let second = later(cluster, node, &first).await;
        // What is rounded is below a millionth of 50 ms.
        assert!((49_999..=50_000).contains(&rate_ppm(&first, &second)), "{first:?} {second:?}");
        cluster.clock(node, &ClockFault::default()).await.expect("it follows");
        let third = later(cluster, node, &second).await;
        assert!(third.monotonic_ns > second.monotonic_ns, "it goes on from where it was");
        let fourth = later(cluster, node, &third).await;
        assert_eq!(rate_ppm(&third, &fourth), 0);
        assert_eq!(fourth.wall_off_ms, 9_000, "nobody takes a jump back");
        let slow = ClockFault { rate_ppm: -200_000, ..ClockFault::default() };
        cluster.clock(node, &slow).await.expect("it follows");
        cluster.kill(&[node], CrashPoint::Any).await.expect("it is proven to be gone");
        cluster.restart(node).await.expect("its store opens again");
        let restarted = read(cluster, node).await;
        assert_eq!((restarted.fault.rate_ppm, restarted.wall_off_ms), (-200_000, 9_000));
        cluster.stop().await.expect("all end");
    });
}

pub(crate) fn a_leader_in_a_hurry() {
    let clock = |at: u64, target: &str, clock: &str| {
        format!(
            "[[steps]]\nat = {at}\nfault = \"clock\"\ntarget = \"{target}\"\n\
             clock = {{ {clock} }}\nreturn_after_ms = 2500\n"
        )
    };
    let plan = plan(&format!(
        "scenario = \"clocks\"\nkind = \"failover\"\nnodes = 3\n\
         [workload]\nrate_per_s = 200\nclients = 3\nduration_ms = 5000\n{}{}{}\
         [[steps]]\nat = 2000\nfault = \"kill\"\ntarget = \"leader\"\nreturn_after_ms = 800\n",
        clock(500, "leader", "rate_ppm = 50000"),
        clock(600, "follower", "rate_ppm = -50000, wall_offset_ms = -5000"),
        clock(700, "random", "wall_jump_ms = 3600000"),
    ));
    let (outcome, _) = judged(&plan, 11);
    valid(&outcome);
    // The first three come within 200 ms, and clients may not be seen to be served in between.
    let faults: usize = outcome.trials.iter().map(|trial| 1 + trial.also.len()).sum();
    assert_eq!(faults, 4, "{:?}", outcome.trials);
    let clocks = outcome.marks.iter().filter(|mark| mark.kind == "clock");
    assert!(clocks.clone().all(|mark| mark.until_ns > Some(mark.at_ns)), "{:?}", outcome.marks);
    assert_eq!(clocks.count(), 3);
}

const BOUND: Duration = Duration::from_secs(20);
