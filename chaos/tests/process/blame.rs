//! Whose fault it was: a node that falls breaks a guarantee, whatever fails because of it; what the
//! host has not got for a node breaks none.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use chaos::{
    checker::Verdict,
    cluster::{Cluster, ClusterError, What, World},
    fault::{CrashPoint, NodeNumber},
    plan::Plan,
    process::{Places, ProcessWorld},
    run::{Outcome, Phase, Stop, run},
    seed::Seed,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::mpsc;

use crate::{
    lab::{Keeper, Told, block_on, eventually, folder, places, plan, settings},
    orphans::{children_of, is_gone},
};

const BOUND: Duration = Duration::from_secs(60);

/// A world whose program is a name that can be made to mean another.
struct Renamed {
    folder: tempfile::TempDir,
    world: ProcessWorld,
}

impl Renamed {
    fn new() -> Self {
        let folder = folder();
        let places = Places { program: folder.path().join("program"), ..places(folder.path()) };
        let renamed = Self { world: ProcessWorld::new(places), folder };
        renamed.mean(Some(&me()));
        renamed
    }

    /// From now on the name means this, or nothing.
    fn mean(&self, program: Option<&Path>) {
        let name = self.folder.path().join("program");
        // There may be none yet, or none any more.
        drop(fs::remove_file(&name));
        program.into_iter().for_each(|program| symlink(program, &name).expect("it is free"));
    }

    /// Runs a plan, and does something to the host once that can be told of the run.
    fn run(&self, plan: &Plan, when: impl Fn(&Told) -> bool, act: impl FnOnce(&Self)) -> Outcome {
        let keeper = Keeper::default();
        let (_stopper, stop) = Stop::new();
        block_on(async {
            let meddling = async {
                let told = || async { when(&keeper.told.lock().expect("nobody panics with it")) };
                eventually("it comes so far", BOUND, told).await;
                act(self);
            };
            let listener = Box::new(keeper.clone());
            let running = run(&self.world, plan, Seed(31), listener, stop);
            let (ran, ()) = tokio::join!(running, meddling);
            ran.expect("it is judged")
        })
    }
}

fn me() -> PathBuf {
    std::env::current_exe().expect("this program has a path")
}

fn failover(steps: &str) -> Plan {
    plan(&format!(
        "scenario = \"blame\"\nkind = \"failover\"\nnodes = 3\n\
         [workload]\nrate_per_s = 200\nclients = 5\nduration_ms = 4000\n{steps}"
    ))
}

fn verdict(outcome: &Outcome, name: &str) -> Option<Verdict> {
    outcome.checks.iter().find(|check| check.name == name).map(|check| check.verdict)
}

pub(crate) fn a_node_that_falls() {
    // Of whoever has fallen nobody can cut the links off any more.
    let plan = failover("[[steps]]\nat = 2000\nfault = \"isolate\"\nreturn_after_ms = 500\n");
    let outcome = Renamed::new().run(
        &plan,
        |told| told.phases.contains(&Phase::Load),
        |_| {
            let nodes = children_of(std::process::id());
            let node = nodes.into_iter().find(|node| !is_gone(*node)).expect("three run");
            let pid = i32::try_from(node).expect("process numbers fit");
            kill(Pid::from_raw(pid), Signal::SIGABRT).expect("it is there");
        },
    );
    assert!(outcome.failure.is_some(), "{:?}", outcome.checks);
    assert_eq!((outcome.verdict(), outcome.exit_code()), (Verdict::Invalid, 1));
    let nodes = outcome.checks.iter().find(|check| check.name == "nodes").expect("it is said");
    assert!(nodes.verdict == Verdict::Invalid && nodes.detail.contains("signal: 6"), "{nodes:?}");
}

pub(crate) fn what_the_host_has_not_got() {
    let victim = NodeNumber(2);
    let renamed = Renamed::new();
    block_on(async {
        let (events, mut noted) = mpsc::channel(65_536);
        let cluster = renamed.world.start(settings(3), events).await.expect("it starts");
        cluster.kill(&[victim], CrashPoint::Any).await.expect("it is proven to be gone");
        // No program at all, and one that does not even listen.
        for program in [None, Some(Path::new("/bin/true"))] {
            renamed.mean(program);
            let error = cluster.restart(victim).await.expect_err("there is no such node");
            assert!(matches!(error, ClusterError::World(_)), "{program:?}: {error}");
            assert!(error.to_string().contains("node 2 did not start"), "{error}");
        }
        renamed.mean(Some(&me()));
        cluster.restart(victim).await.expect("nothing was wrong with its store");
        cluster.stop().await.expect("all end");
        while let Ok(event) = noted.try_recv() {
            assert!(!matches!(event.what, What::Died { .. }), "it never was a node: {event:?}");
        }
    });
}

pub(crate) fn a_node_without_its_program() {
    let step = "[[steps]]\nat = 500\nfault = \"kill\"\nreturn_after_ms = 1500\n";
    let is_hit = |told: &Told| told.marks.iter().any(|mark| mark.kind == "kill");
    let outcome = Renamed::new().run(&failover(step), is_hit, |renamed| renamed.mean(None));
    assert_eq!(outcome.exit_code(), 3, "{:?}", outcome.checks);
    let failure = outcome.failure.as_deref().unwrap_or_default();
    assert!(failure.contains("did not start"), "{failure}");
    for name in ["rejoined", "nodes"] {
        assert_ne!(verdict(&outcome, name), Some(Verdict::Invalid), "{:?}", outcome.checks);
    }
}

pub(crate) fn groups_that_formed() {
    let forming = |told: &Told| {
        let formed = told.marks.iter().filter(|mark| mark.until_ns.is_some());
        formed.filter(|mark| mark.kind == "forming").count() >= 2
    };
    for (expect, exit_code) in [("", 3), ("[expect]\nforming_ms_max = 0.001\n", 1)] {
        let text = "scenario = \"f\"\nkind = \"formation\"\nnodes = 1\ntrials = 500\n";
        let plan = plan(&format!("{text}{expect}"));
        let outcome = Renamed::new().run(&plan, forming, |renamed| renamed.mean(None));
        assert_eq!(outcome.exit_code(), exit_code, "{:?}", outcome.checks);
        let failure = outcome.failure.as_deref().unwrap_or_default();
        assert!(failure.starts_with("trial ") && failure.contains("did not start"), "{failure}");
        assert!((2..500).contains(&outcome.samples["forming_ms"].len()), "{:?}", outcome.counts);
    }
}
