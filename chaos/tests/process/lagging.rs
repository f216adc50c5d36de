//! Followers that were away, small: what they missed they have again, by each batch size.

use chaos::{
    fault::Fault,
    run::{CatchUp, Since},
};

use crate::{
    lab::{judged, plan},
    runs::valid,
};

pub(crate) fn a_killed_follower() {
    let plan = plan(
        "scenario = \"lag\"\nkind = \"lagging\"\nnodes = 4\ntrials = 1\n\
         [workload]\nrate_per_s = 100\nclients = 3\nduration_ms = 1000\n\
         [lag]\nentries = 60000\ncommand_bytes = 32\nbatch_sizes = [100, 500]\n",
    );
    let (outcome, keeper) = judged(&plan, 21);
    valid(&outcome);
    let sizes: Vec<u32> = outcome.catch_ups.iter().map(|caught| caught.batch_size).collect();
    assert_eq!(sizes, [100, 500], "the sizes take turns");
    for caught in &outcome.catch_ups {
        assert_eq!((caught.fault, caught.since), (Fault::Kill, Since::Bond));
        in_order(caught);
        assert!(caught.entries >= 60_000 && caught.fetched > 0, "{caught:?}");
        assert!((1..=3).contains(&caught.peers), "{caught:?}");
        assert_eq!((caught.wrong, caught.snapshot), (0, false));
        assert!(caught.chunks * u64::from(caught.batch_size) >= caught.fetched, "{caught:?}");
        // A node that was killed says how far it is from its return on.
        let last = caught.progress.last().expect("it was asked");
        let fetched: u64 = last.fetched.iter().map(|(_, entries)| entries).sum();
        assert!(last.applied >= 60_000 && fetched <= caught.fetched, "{last:?}");
    }
    for name in ["catch_up_ms", "batch_100_catch_up_ms", "batch_500_entries_per_s"] {
        assert!(outcome.samples.contains_key(name), "{name}: {:?}", outcome.samples.keys());
    }
    // Each trial has a history and logs of its own, and none of the logs keeps what filled them.
    let logs: Vec<_> = outcome.frozen.logs.iter().map(|log| (log.group, log.node)).collect();
    let of_trial = |trial| (1..=4).map(move |node| (trial, node));
    assert_eq!(logs, (1..=2).flat_map(of_trial).collect::<Vec<_>>());
    assert!(outcome.frozen.logs.iter().all(|log| log.lines.len() < 2_000));
    for name in ["linearizable", "acknowledged", "at most once", "filled", "liveness"] {
        let check = outcome.checks.iter().find(|check| check.name == name).expect(name);
        let of_each = (1..=2).all(|trial| check.detail.contains(&format!("trial {trial}: ")));
        assert!(of_each, "{check:?}");
    }
    let told = keeper.told.lock().expect("the run is over");
    let schedule = told.schedule.as_ref().expect("it was told");
    assert!(schedule.faults.iter().all(|fault| fault.returned_ns > fault.struck_ns));
    // Whoever watches sees the logs fill, once for each trial.
    let filling = &told.filling;
    assert!(filling.iter().any(|(done, _)| (1..60_000).contains(done)), "{filling:?}");
    assert!(filling.iter().filter(|told| **told == (60_000, 60_000)).count() >= 2, "{filling:?}");
    let hit: Vec<_> = told.marks.iter().filter(|mark| mark.kind == "kill").collect();
    assert!(hit.len() == 2 && hit.iter().all(|mark| mark.until_ns > Some(mark.at_ns)), "{hit:?}");
}

pub(crate) fn a_follower_that_was_cut_off() {
    let plan = plan(
        "scenario = \"lag\"\nkind = \"lagging\"\nnodes = 3\ntrials = 1\n\
         [workload]\nrate_per_s = 100\nclients = 3\nduration_ms = 1000\n\
         [lag]\nfault = \"isolate\"\nentries = 5000\ncommand_bytes = 16\n\
         links = { delay_ms = 3, loss = 0.01 }\n",
    );
    let (outcome, _) = judged(&plan, 22);
    valid(&outcome);
    let [caught] = &outcome.catch_ups[..] else { panic!("{:?}", outcome.catch_ups) };
    assert_eq!(caught.fault, Fault::Isolate);
    in_order(caught);
    assert!(caught.entries >= 5_000, "{caught:?}");
}

fn in_order(caught: &CatchUp) {
    let times = [caught.fault_at_ns, caught.filled_ns, caught.returned_ns, caught.from_ns];
    assert!(times.is_sorted(), "{caught:?}");
    assert!(caught.caught_up_ns > Some(caught.from_ns), "{caught:?}");
}
