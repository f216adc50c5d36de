//! The way of a command through a member without anybody else: mailbox, driver, core, machine,
//! answer. A group of one with memory for its store, so nothing is sent and nothing written.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use runtime::{Bootstrap, Consistency, Group, GroupKey, Network, storage};
use tokio::runtime::Runtime;

#[path = "../src/echo.rs"]
#[allow(dead_code)] // the machine is used here, the yardstick is not
mod echo;

use echo::Echo;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let tokio = tokio.expect("a runtime of tokio's");
    let (network, group) = tokio.block_on(alone());
    execute(&mut criterion, &tokio, &group);
    query(&mut criterion, &tokio, &group);
    tokio.block_on(network.shutdown());
    criterion.final_summary();
}

fn execute(criterion: &mut Criterion, tokio: &Runtime, group: &Group<Echo>) {
    let mut benches = criterion.benchmark_group("group/execute");
    for commands in [1, 100, 1_000] {
        benches.throughput(Throughput::Elements(commands as u64));
        benches.bench_function(BenchmarkId::from_parameter(commands), |bencher| {
            bencher.iter(|| {
                let batch = vec![Bytes::from_static(&[7; 64]); commands];
                for executed in tokio.block_on(group.execute_many(batch)) {
                    executed.expect("a group of one executes");
                }
            });
        });
    }
    benches.finish();
}

fn query(criterion: &mut Criterion, tokio: &Runtime, group: &Group<Echo>) {
    let mut benches = criterion.benchmark_group("group/query");
    for (name, consistency) in [("strong", Consistency::Strong), ("weak", Consistency::Weak)] {
        benches.bench_function(name, |bencher| {
            bencher.iter(|| {
                let queried = tokio.block_on(group.query((), consistency));
                queried.expect("a group of one answers")
            });
        });
    }
    benches.finish();
}

/// A group of one that keeps little of its log.
async fn alone() -> (Network, Group<Echo>) {
    let network = Network::builder("bench").bind(([127, 0, 0, 1], 0).into());
    let network = network.build().await.expect("a socket on loopback");
    let config = runtime::ConsensusProfile::Lan.config();
    let consensus = runtime::ConsensusConfig { snapshot_log_entries: 100_000, ..config };
    let group = network
        .group(GroupKey::from_secret("bench group of one"))
        .machine(Echo::default())
        .consensus(consensus)
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Solo)
        .join();
    let group = group.await.expect("a group of one");
    group.when().is_leader().await.expect("who is alone leads");
    (network, group)
}
