//! Options that a plan has no room for beside its own faults, or beside another option.
//!
//! Looks at what is given, changes nothing, and refuses by the option's name. Invariant: no option
//! that says what is done to nodes is dropped without a word, or carried out under a false name.

use chaos::plan::{Kind, Plan, PlanError};

use super::{Overrides, place::hits_all};

/// Refuses what is given of faults where the plan, or another option, says what they are.
///
/// # Errors
/// The first such option, with what is allowed in its place.
pub(super) fn check(given: &Overrides, plan: &Plan) -> Result<(), PlanError> {
    let flag = |is_given: bool| is_given.then(|| "given".to_owned());
    let fault = ("--fault", given.fault.map(|fault| fault.to_string()));
    let disk = ("--disk", given.disk.map(|kind| kind.to_string()));
    let overlap = ("--overlap", flag(given.overlap));
    let random = ("--random-faults", flag(given.random_faults));
    let name = &plan.scenario;
    let (options, allowed) = match plan.kind {
        Kind::Formation | Kind::Steady => {
            let allowed = format!("{name} has no faults: its kind is {}", plan.kind);
            (vec![fault, disk, overlap, random], allowed)
        }
        Kind::Lagging => {
            let allowed = format!(
                "the one fault of {name} is what takes its follower away: use --fault with kill, \
                 pause, isolate or wipe"
            );
            (vec![disk, overlap, random], allowed)
        }
        Kind::Failover if given.random_faults => {
            let allowed = "--random-faults draws the faults from the seed, in place of those of \
                           the plan: give one of the two";
            // What has no variants refuses a kind for that.
            let kind = given.kind.clone().filter(|_| !plan.variants.is_empty());
            (vec![fault, disk, overlap, ("--kind", kind)], allowed.to_owned())
        }
        Kind::Failover if !plan.variants.is_empty() => {
            let names: Vec<&str> = plan.variants.iter().map(|one| one.name.as_str()).collect();
            let allowed = format!(
                "the variants of {name} say what is done to whom: choose among them with --kind \
                 ({}), or use --random-faults",
                names.join(", ")
            );
            (vec![fault, disk, overlap], allowed)
        }
        Kind::Failover if plan.random.is_some() => {
            let allowed = format!("{name} has its faults drawn from the seed (random)");
            (vec![fault, disk, overlap], allowed)
        }
        Kind::Failover if hits_all(plan) => {
            let why = match given.disk {
                Some(_) => {
                    "each disk fails by itself: leave out --disk, or use --fault with kill, pause \
                     or restart in its place"
                }
                None => "no follower is left that could be hit meanwhile: leave out --overlap",
            };
            let allowed = format!("{name} hits all nodes at one moment, and {why}");
            (vec![disk, overlap], allowed)
        }
        Kind::Failover => return Ok(()),
    };
    match options.into_iter().find_map(|(name, value)| Some((name, value?))) {
        Some((name, value)) => Err(PlanError::Field { field: name.to_owned(), value, allowed }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use chaos::disk::DiskKind;
    use chaos::fault::Fault;
    use chaos::plan::{self, WorldKind};

    use super::*;
    use crate::{catalogue, overrides::Struck};

    fn builtin(name: &str) -> Plan {
        let all = catalogue::all().unwrap();
        all.into_iter().find(|builtin| builtin.plan.scenario == name).unwrap().plan
    }

    fn refused(mut plan: Plan, given: &Overrides) -> String {
        given.apply(&mut plan, WorldKind::Process).unwrap_err().to_string()
    }

    /// `--fault kill`, `--disk stall` and `--overlap`, each with what its refusal begins with.
    fn strikes() -> [(Overrides, &'static str); 3] {
        let none = Overrides::default;
        let fault = Some(Struck::By(Fault::Kill));
        [
            (Overrides { fault, ..none() }, "--fault is kill, but "),
            (Overrides { disk: Some(DiskKind::Stall), ..none() }, "--disk is stall, but "),
            (Overrides { overlap: true, ..none() }, "--overlap is given, but "),
        ]
    }

    #[test]
    fn beside_drawn_faults_no_others_are_given() {
        for (given, named) in strikes() {
            let given = Overrides { random_faults: true, ..given };
            let error = refused(builtin("leader-failover"), &given);
            let drawn = "--random-faults draws the faults from the seed, in place of those of the \
                         plan: give one of the two";
            assert_eq!(error, format!("{named}{drawn}"));
        }
        let kind = Some("bridge".to_owned());
        let given = Overrides { random_faults: true, kind, ..Overrides::default() };
        let error = refused(builtin("partition"), &given);
        assert!(error.starts_with("--kind is bridge, but --random-faults draws"), "{error}");
        let error = refused(builtin("leader-failover"), &given);
        assert_eq!(error, "--kind is bridge, but leader-failover has no variants");
    }

    #[test]
    fn what_variants_say_is_not_said_otherwise() {
        for (name, first) in [("partition", "isolate-leader"), ("rolling-restart", "transfer")] {
            for (given, named) in strikes() {
                let error = refused(builtin(name), &given);
                let said = format!(
                    "{named}the variants of {name} say what is done to whom: choose among them \
                     with --kind ({first}, "
                );
                assert!(error.starts_with(&said), "{error}");
            }
        }
        let text = "scenario = \"mine\"\nkind = \"failover\"\n[workload]\n[random]\n";
        for (given, named) in strikes() {
            let error = refused(plan::parse(text).unwrap(), &given);
            assert_eq!(error, format!("{named}mine has its faults drawn from the seed (random)"));
        }
    }

    #[test]
    fn a_follower_that_lags_is_hit_by_one_fault_alone() {
        let [(kill, _), (disk, _), (overlap, _)] = strikes();
        let both = Overrides { disk: disk.disk, ..kill.clone() };
        let twice = Overrides { overlap: true, ..kill };
        let random = Overrides { random_faults: true, ..Overrides::default() };
        for (given, named) in [
            (disk, "--disk is stall"),
            (both, "--disk is stall"),
            (overlap, "--overlap is given"),
            (twice, "--overlap is given"),
            (random, "--random-faults is given"),
        ] {
            let error = refused(builtin("lagging-follower"), &given);
            let said = "but the one fault of lagging-follower is what takes its follower away: \
                        use --fault with kill, pause, isolate or wipe";
            assert_eq!(error, format!("{named}, {said}"));
        }
    }

    #[test]
    fn where_all_are_hit_at_one_moment_no_disk_fails_and_no_follower_is_left() {
        let [(kill, _), (disk, _), (overlap, _)] = strikes();
        let restart = Overrides { fault: Some(Struck::By(Fault::Restart)), ..overlap.clone() };
        let both = Overrides { overlap: true, ..disk.clone() };
        let by_itself = "each disk fails by itself: leave out --disk, or use --fault with kill, \
                         pause or restart in its place";
        let nobody = "no follower is left that could be hit meanwhile: leave out --overlap";
        for (given, named, why) in [
            (disk, "--disk is stall", by_itself),
            (both, "--disk is stall", by_itself),
            (overlap, "--overlap is given", nobody),
            (restart, "--overlap is given", nobody),
        ] {
            let error = refused(builtin("cold-restart"), &given);
            let all = "but cold-restart hits all nodes at one moment, and";
            assert_eq!(error, format!("{named}, {all} {why}"));
        }
        let mut plan = builtin("cold-restart");
        assert_eq!(kill.apply(&mut plan, WorldKind::Process), Ok(()));
    }

    #[test]
    fn each_option_that_the_help_hides_is_refused_by_its_name() {
        for (name, options) in [
            ("partition", &["fault", "disk", "overlap"][..]),
            ("cold-restart", &["disk", "overlap"]),
            ("lagging-follower", &["disk", "overlap", "random_faults"]),
            ("steady", &["fault", "disk", "overlap", "random_faults"]),
            ("formation", &["fault", "disk", "overlap", "random_faults"]),
        ] {
            let hidden = crate::overrides::out_of_place_in(&builtin(name));
            assert!(options.iter().all(|option| hidden.contains(option)), "{name}: {hidden:?}");
            for (given, named) in strikes() {
                let option = named.trim_start_matches("--").split(' ').next().unwrap();
                if options.contains(&option) {
                    assert!(refused(builtin(name), &given).starts_with(named), "{name}: {named}");
                }
            }
        }
    }
}
