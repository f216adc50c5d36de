//! Nodes die with their harness, however it dies, and also when they stand still.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use chaos::{cluster::Cluster, fault::NodeNumber};

use crate::lab::{block_on, cluster, eventually, folder, world};

/// A harness of three nodes, one of them paused, that says when they are there and waits to be
/// killed.
pub(crate) fn harness(arguments: &[String]) -> ExitCode {
    let [folder] = arguments else { return ExitCode::FAILURE };
    let world = world(Path::new(folder));
    block_on(async {
        let cluster = cluster(&world, 3).await;
        cluster.pause(NodeNumber(2)).await.expect("it stands still");
        println!("ready");
        std::future::pending::<ExitCode>().await
    })
}

pub(crate) fn no_node_outlives_a_killed_harness() {
    let folder = folder();
    let mut harness = Command::new(std::env::current_exe().expect("this program has a path"))
        .arg("harness")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = harness.stdout.take().expect("it was asked for");
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).expect("it says something");
    assert_eq!(line, "ready\n");
    let nodes = children_of(harness.id());
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    harness.kill().expect("it runs");
    harness.wait().expect("it is ours");
    block_on(eventually("all nodes are gone", Duration::from_secs(10), || async {
        nodes.iter().all(|node| is_gone(*node))
    }));
}

/// Processes whose parent this is.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("Linux");
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| field(*pid, 1) == Some(parent.to_string())).collect()
}

/// A dead process that nobody has reaped is gone as well.
pub(crate) fn is_gone(pid: u32) -> bool {
    field(pid, 0).is_none_or(|state| state == "Z" || state == "X")
}

/// A field of `/proc/<pid>/stat`, counted after the name.
fn field(pid: u32, number: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(number).map(str::to_owned)
}
