//! Disks that fail below real processes: each kind as the nodes' own words show it.

use std::time::Duration;

use chaos::{
    checker::Verdict,
    cluster::{Cluster, ClusterError},
    disk::{DiskFault, DiskKind},
    fault::CrashPoint,
};

use crate::{
    lab::{block_on, eventually, judged, plan},
    runs::valid,
    stores::{Hit, VICTIM},
};

const BOUND: Duration = Duration::from_secs(20);

pub(crate) fn a_failing_disk() {
    block_on(async {
        let hit = Hit::at_work().await;
        for (kind, action, error) in [
            (DiskKind::SyncError, "cannot sync", "Input/output error"),
            (DiskKind::WriteError, "cannot write", "Input/output error"),
            (DiskKind::NoSpace, "cannot write", "No space left on device"),
            (DiskKind::TornWrite, "cannot write", "Input/output error"),
        ] {
            let fault = Some(DiskFault::of(kind));
            hit.cluster.disk(VICTIM, fault).await.expect("it is told");
            eventually("it stops by itself", BOUND, || async {
                let status = hit.cluster.status(VICTIM).await;
                status.is_ok_and(|status| status.stopped.is_some())
            })
            .await;
            let status = hit.cluster.status(VICTIM).await.expect("its process is there");
            let reason = status.stopped.clone().expect("it has stopped");
            let file = hit.store(VICTIM).join("0000000000000000.log");
            let file = file.to_str().expect("a temporary folder has a plain name");
            assert!(reason.starts_with("its store failed: "), "{kind}: {reason}");
            for said in [action, file, error] {
                assert!(reason.contains(said), "{kind}: {said:?} in {reason}");
            }
            // From then on it takes no part: not in a log that grows, and in no term.
            hit.more_writes().await;
            let later = hit.cluster.status(VICTIM).await.expect("its process is there");
            assert_eq!((later.term, later.last), (status.term, status.last), "{kind}");
            let report = hit.cluster.disk_report(VICTIM).await.expect("it says");
            assert_eq!((report.fault, report.errors, report.later), (fault, 1, 0), "{kind}");
            assert_eq!(report.files, [file], "{kind}");

            hit.cluster.end(VICTIM).await.expect("it ends");
            hit.cluster.disk(VICTIM, None).await.expect("it is down, and learns it later");
            hit.cluster.restart(VICTIM).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
            hit.caught_up().await;
        }
        hit.judge().await;
    });
}

pub(crate) fn a_stalling_disk() {
    block_on(async {
        let hit = Hit::at_work().await;
        let stall = DiskFault { kind: DiskKind::Stall, sync_ms: Some(50) };
        hit.cluster.disk(VICTIM, Some(stall)).await.expect("it is told");
        eventually("syncs take their time", BOUND, || async {
            let report = hit.cluster.disk_report(VICTIM).await;
            report.is_ok_and(|report| report.stalls >= 3)
        })
        .await;
        hit.more_writes().await;
        hit.caught_up().await;
        let status = hit.cluster.status(VICTIM).await.expect("it is up");
        assert_eq!(status.stopped, None);
        // A slow disk is as slow for the node's next process.
        hit.cluster.kill(&[VICTIM], CrashPoint::Any).await.expect("it is proven to be gone");
        hit.cluster.restart(VICTIM).await.expect("its store is whole");
        let report = hit.cluster.disk_report(VICTIM).await.expect("it says");
        assert!(report.stalls > 0 && report.fault == Some(stall), "{report:?}");
        hit.cluster.disk(VICTIM, None).await.expect("it is told");
        let report = hit.cluster.disk_report(VICTIM).await.expect("it says");
        assert_eq!((report.stalls, report.fault), (0, None));
        hit.judge().await;
    });
}

pub(crate) fn a_cold_bit() {
    block_on(async {
        let hit = Hit::at_work().await;
        hit.cluster.flip(VICTIM).await.expect_err("its store is in use");
        hit.cluster.kill(&[VICTIM], CrashPoint::Any).await.expect("it is proven to be gone");
        let file = hit.cluster.flip(VICTIM).await.expect("it has a log");
        let path = hit.store(VICTIM).join(file);
        let path = path.to_str().expect("a temporary folder has a plain name");
        let error = hit.cluster.restart(VICTIM).await.expect_err("its store is damaged");
        let ClusterError::Start { reason, .. } = &error else { panic!("{error}") };
        let said = reason.lines().next().unwrap_or_default();
        assert!(said.contains(path) && said.contains("is corrupt at byte"), "{said}");

        hit.cluster.wipe(VICTIM).await.expect("it is not in use");
        hit.cluster.restart(VICTIM).await.expect("it begins anew");
        eventually("it votes again", BOUND, || async {
            hit.cluster.status(VICTIM).await.is_ok_and(|status| status.votes)
        })
        .await;
        hit.judge().await;
    });
}

pub(crate) fn disks_of_a_plan() {
    let step = |at: u64, target: &str, disk: &str| {
        format!(
            "[[steps]]\nat = {at}\nfault = \"disk\"\ntarget = \"{target}\"\n\
             return_after_ms = 900\ndisk = {{ {disk} }}\n"
        )
    };
    let steps = [
        step(300, "leader", "kind = \"sync-error\""),
        step(2_000, "follower", "kind = \"torn-write\""),
        step(2_200, "leader", "kind = \"stall\", sync_ms = 100"),
        step(4_000, "leader", "kind = \"no-space\""),
        step(5_500, "follower", "kind = \"write-error\""),
        step(7_000, "leader", "kind = \"flip\""),
    ];
    let plan = plan(&format!(
        "scenario = \"disks\"\nkind = \"failover\"\nnodes = 5\n\
         [workload]\nrate_per_s = 200\nclients = 5\nduration_ms = 9000\n{}",
        steps.concat()
    ));
    let (outcome, _) = judged(&plan, 21);
    valid(&outcome);
    let disks = outcome.checks.iter().find(|check| check.name == "disks").expect("it is judged");
    assert_eq!(disks.verdict, Verdict::Valid);
    for kind in DiskKind::ALL {
        assert!(disks.detail.contains(&format!("{kind}: ")), "{}", disks.detail);
    }
    assert!(!disks.detail.contains("nothing befell"), "{}", disks.detail);
    let counted = |name: &str| outcome.counts.get(name).copied().unwrap_or(0);
    assert_eq!((counted("disk_errors"), counted("disk_refusals")), (4, 1));
    assert!(counted("disk_stalls") > 0);
    let voted = outcome.checks.iter().find(|check| check.name == "members").expect("it is judged");
    assert!(voted.detail.contains("0 left, 1 lost their stores; all 5 voted"), "{voted:?}");
    let marks: Vec<_> = outcome.marks.iter().filter(|mark| mark.kind == "disk").collect();
    assert_eq!(marks.len(), 6, "{marks:?}");
    assert!(marks.iter().any(|mark| mark.detail.starts_with("flip; leader of term")), "{marks:?}");
}
