//! All nodes die at one moment: all that was acknowledged is there when they are back, and where it
//! is not, that is found.

use std::{fs, io, path::Path, path::PathBuf};

use chaos::{
    checker::Verdict,
    history::Operation,
    outage::Trial,
    plan::Plan,
    run::{Listener, Mark, Outcome, Phase, Stop, run},
    schedule::Schedule,
    seed::Seed,
};

use crate::{
    lab::{block_on, folder, judged, plan, world},
    runs::valid,
};

fn blackout(return_after_ms: u64) -> Plan {
    let duration_ms = 3_000 + return_after_ms;
    plan(&format!(
        "scenario = \"blackout\"\nkind = \"failover\"\nnodes = 3\ntrials = 2\n\
         [workload]\nrate_per_s = 200\nclients = 5\nduration_ms = {duration_ms}\n\
         [[steps]]\nat = \"random\"\nfault = \"kill\"\ntarget = \"all\"\n\
         return_after_ms = {return_after_ms}\n\
         [expect]\nmajority_may_be_lost = true\n"
    ))
}

pub(crate) fn all_nodes_die() {
    let (outcome, _) = judged(&blackout(1_500), 14);
    valid(&outcome);
    assert_eq!(outcome.trials.len(), 2, "of all nodes one fault and one outage");
    for trial in &outcome.trials {
        assert_eq!(trial.nodes.len(), 3, "{trial:?}");
        let outage_ms = trial.outage_ms.expect("it recovered");
        assert!(outage_ms >= 1_500.0, "nobody was there to serve: {trial:?}");
        let parts = [trial.detect_ms, trial.elect_ms, trial.commit_ms, trial.client_ms];
        let sum: f64 = parts.iter().map(|part| part.expect("somebody led again")).sum();
        assert!((sum - outage_ms).abs() < 0.001, "{parts:?} make {sum}, not {outage_ms}");
        assert!(trial.term_after > Some(trial.term_before), "{trial:?}");
        assert!(trial.rejoin_ms > Some(0.0), "{trial:?}");
    }
    for fault in &outcome.schedule.faults {
        assert_eq!(fault.nodes.len(), 3, "{fault:?}");
        assert!(fault.returned_ns > fault.struck_ns, "{fault:?}");
    }
}

/// As if disks had confirmed what they never wrote: each store opens, and lacks its end.
pub(crate) fn stores_that_went_back_in_time() {
    let folder = folder();
    let thief = Thief {
        stores: folder.path().join("stores"),
        kept: folder.path().join("kept"),
        blackouts: 0,
    };
    let (_stopper, stop) = Stop::new();
    // Nobody may be back before the stores are copied.
    let (world, plan) = (world(folder.path()), blackout(3_000));
    let running = run(&world, &plan, Seed(15), Box::new(thief), stop);
    let outcome = block_on(running).expect("the lab works");
    assert_eq!(outcome.exit_code(), 1, "{:?}", outcome.checks);
    let lost = broken(&outcome, "acknowledged");
    assert!(lost.contains("was acknowledged at term"), "{lost}");
    broken(&outcome, "linearizable");
}

/// What the check said, which must have found something.
fn broken<'a>(outcome: &'a Outcome, name: &str) -> &'a str {
    let check = outcome.checks.iter().find(|check| check.name == name).expect(name);
    assert_eq!(check.verdict, Verdict::Invalid, "{check:?}");
    &check.detail
}

/// Keeps the stores as the first blackout leaves them, and puts them back after the second.
struct Thief {
    stores: PathBuf,
    kept: PathBuf,
    blackouts: usize,
}

impl Listener for Thief {
    fn phase(&mut self, _: Phase) -> io::Result<()> {
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn operation(&mut self, _: &Operation) -> io::Result<()> {
        Ok(())
    }

    fn marks(&mut self, marks: &[Mark]) -> io::Result<()> {
        let blackouts = marks.iter().filter(|mark| mark.kind == "kill").count();
        if blackouts == self.blackouts {
            return Ok(());
        }
        self.blackouts = blackouts;
        match blackouts {
            1 => copy(&self.stores, &self.kept),
            _ => {
                fs::remove_dir_all(&self.stores)?;
                copy(&self.kept, &self.stores)
            }
        }
    }

    fn trials(&mut self, _: &[Trial]) -> io::Result<()> {
        Ok(())
    }

    fn schedule(&mut self, _: &Schedule) -> io::Result<()> {
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => fs::copy(entry.path(), to).map(drop)?,
        }
    }
    Ok(())
}
