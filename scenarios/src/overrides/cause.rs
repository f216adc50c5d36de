//! Which option a refusal is about, where one is.
//!
//! Plans are refused by their fields, and who typed an option may never have seen those.
//! Invariant: what an option sets, or what could be carried out without it, is refused by its name
//! with its value as it may be typed; any other refusal stays what it was.

use chaos::plan::{PlanError, StorageKind, profile_name};

use super::{Overrides, value::typed};

/// Takes an option away.
type Without = fn(&mut Overrides);

/// An option that was typed.
struct Given {
    option: &'static str,
    value: String,
    /// Nothing where its own fields say all that can be wrong with it.
    without: Option<Without>,
}

impl Overrides {
    /// The refusal of a plan with all these, in the words of the command line where one of them
    /// caused it; `is_fit` says whether the plan could be carried out with others.
    pub(crate) fn blamed(&self, error: PlanError, is_fit: impl Fn(&Self) -> bool) -> PlanError {
        let (field, value, allowed) = match error {
            PlanError::Field { field, value, allowed } if !field.starts_with("--") => {
                (field, value, allowed)
            }
            other => return other,
        };
        let given = self.given();
        let sets = |option: &&str| given.iter().find(|one| one.option == *option);
        if let Some(Given { option, value: typed, .. }) = options(&field).iter().find_map(sets) {
            let allowed = allowed.strip_suffix(format!(" ({option})").as_str()).unwrap_or(&allowed);
            // What was refused may be a part of what was typed, or say more of it.
            let is_told = *option == "--batch-size" || value.starts_with(typed.as_str());
            let (field, allowed) = ((*option).to_owned(), allowed.to_owned());
            return PlanError::Field {
                field,
                value: if is_told { value } else { typed.clone() },
                allowed,
            };
        }
        let is_cause = |one: &&Given| {
            one.without.is_some_and(|without| {
                let mut others = self.clone();
                without(&mut others);
                is_fit(&others)
            })
        };
        match given.iter().find(is_cause) {
            Some(Given { option, value: typed, .. }) => PlanError::Field {
                field: (*option).to_owned(),
                value: typed.clone(),
                allowed: format!("beside it {field} is {value}, and {allowed}"),
            },
            None => PlanError::Field { field, value, allowed },
        }
    }

    /// All that were given and may be the cause of a refusal, those first that say what is done.
    fn given(&self) -> Vec<Given> {
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let flag = |is_given: bool| is_given.then(|| "given".to_owned());
        let storage = self.storage.map(|storage| match storage {
            StorageKind::Memory => "memory".to_owned(),
            StorageKind::Disk => "disk".to_owned(),
        });
        let own: [(_, _, Without); 14] = [
            ("--fault", self.fault.map(|fault| fault.to_string()), |given| given.fault = None),
            ("--disk", self.disk.map(|kind| kind.to_string()), |given| given.disk = None),
            ("--overlap", flag(self.overlap), |given| given.overlap = false),
            ("--random-faults", flag(self.random_faults), |given| given.random_faults = false),
            ("--kind", self.kind.clone(), |given| given.kind = None),
            ("--storage", storage, |given| given.storage = None),
            ("--lease-reads", flag(self.lease_reads), |given| given.lease_reads = false),
            ("--groups", number(self.groups), |given| given.groups = None),
            ("--nodes", number(self.nodes), |given| given.nodes = None),
            ("--trials", number(self.trials), |given| given.trials = None),
            ("--rate", number(self.rate), |given| given.rate = None),
            ("--clients", number(self.clients), |given| given.clients = None),
            ("--duration", self.duration.map(typed), |given| given.duration = None),
            ("--background-load", number(self.background_load), |given| {
                given.background_load = None;
            }),
        ];
        let profile = self.profile.map(|profile| profile_name(profile).to_owned());
        let profile: (_, _, Without) = ("--profile", profile, |given| given.profile = None);
        let own = own.into_iter().chain([profile]);
        let own = own.map(|(option, value, without)| (option, value, Some(without)));
        let of_lag = self.lag.given().into_iter().map(|(option, value)| (option, value, None));
        own.chain(of_lag)
            .filter_map(|(option, value, without)| Some(Given { option, value: value?, without }))
            .collect()
    }
}

/// The options that set a field, those first that say more of it.
fn options(field: &str) -> &'static [&'static str] {
    let of_a_step = field.strip_prefix("steps[").and_then(|rest| Some(rest.split_once("].")?.1));
    match of_a_step {
        Some("fault" | "among") => return &["--fault", "--disk"],
        Some("disk" | "disk.kind" | "disk.sync_ms") => return &["--disk", "--fault"],
        Some(_) => return &[],
        None => {}
    }
    match field {
        "nodes" => &["--nodes", "--peers"],
        "groups" => &["--groups"],
        "trials" => &["--trials"],
        "background_load" => &["--background-load"],
        "random" | "random.faults" => &["--random-faults"],
        "workload.rate_per_s" => &["--rate"],
        "workload.clients" => &["--clients"],
        "workload.duration_ms" => &["--duration"],
        "lag.fault" => &["--fault"],
        "lag.entries" => &["--entries", "--command-bytes", "--from"],
        "lag.command_bytes" => &["--command-bytes"],
        "lag.batch_sizes" => &["--batch-size"],
        "lag.inflight_per_peer_max" => &["--inflight"],
        "lag.rate_bytes_per_s_max" => &["--rate-max"],
        "lag.links" => &["--loss", "--link-delay", "--link-bandwidth"],
        "lag.links.loss" => &["--loss"],
        "lag.links.delay_ms" => &["--link-delay"],
        "lag.links.bandwidth_bytes_per_s" => &["--link-bandwidth"],
        "snapshot_log_entries" => &["--from"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use chaos::fault::Fault;
    use chaos::plan::{self, Plan, WorldKind};
    use chaos::{disk::DiskKind, link::Share};
    use runtime::ConsensusProfile;

    use super::*;
    use crate::catalogue;
    use crate::overrides::{LagOverrides, Struck};

    fn fit(own: &Plan, given: &Overrides, world: WorldKind) -> Result<(), PlanError> {
        let mut plan = own.clone();
        given.apply(&mut plan, world)?;
        plan::settle(&mut plan, world);
        plan::keep_times(&mut plan);
        plan::validate(&plan).and_then(|()| plan::fits(&plan, world))
    }

    /// What is said of a plan with these options in that world.
    fn refused_in(own: &Plan, given: &Overrides, world: WorldKind) -> String {
        let error = fit(own, given, world).expect_err("it cannot be carried out");
        given.blamed(error, |others| fit(own, others, world).is_ok()).to_string()
    }

    fn refused(name: &str, given: &Overrides) -> String {
        let all = catalogue::all().unwrap();
        let own = all.into_iter().find(|builtin| builtin.plan.scenario == name).unwrap().plan;
        refused_in(&own, given, WorldKind::Process)
    }

    fn none() -> Overrides {
        Overrides::default()
    }

    fn by(fault: Fault) -> Option<Struck> {
        Some(Struck::By(fault))
    }

    #[test]
    fn what_an_option_sets_is_refused_by_its_name() {
        let lag = |lag: LagOverrides| Overrides { lag, ..none() };
        for (name, given, told) in [
            (
                "leader-failover",
                Overrides { nodes: Some(10), ..none() },
                "--nodes is 10, but must lie between 1 and 9",
            ),
            (
                "leader-failover",
                Overrides { fault: by(Fault::Transfer), nodes: Some(1), ..none() },
                "--fault is transfer, but of one node there is nobody to hand over to",
            ),
            (
                "leader-failover",
                Overrides { fault: by(Fault::Disk), ..none() },
                "--fault is disk, but fault = \"disk\" must say how it fails",
            ),
            (
                "leader-failover",
                Overrides {
                    disk: Some(DiskKind::Flip),
                    storage: Some(StorageKind::Memory),
                    ..none()
                },
                "--disk is flip, but it is for nodes that keep a store",
            ),
            (
                "leader-failover",
                Overrides { duration: Some(500), ..none() },
                "--duration is 500ms, but must lie between 1000 and",
            ),
            (
                "steady",
                Overrides { trials: Some(2), ..none() },
                "--trials is 2, but steady has one",
            ),
            (
                "steady",
                Overrides { rate: Some(0), ..none() },
                "--rate is 0, but must lie between 1",
            ),
            (
                "lagging-follower",
                lag(LagOverrides { batch_size: vec![100, 0], ..LagOverrides::default() }),
                "--batch-size is 0, but must lie between 1 and 1048576",
            ),
            (
                "lagging-follower",
                lag(LagOverrides { loss: Some(Share::ALL), ..LagOverrides::default() }),
                "--loss is 1, but over such links nobody catches up",
            ),
            (
                "lagging-follower",
                lag(LagOverrides { link_bandwidth: Some(100), ..LagOverrides::default() }),
                "--link-bandwidth is 100, but must lie between 1500",
            ),
        ] {
            let text = refused(name, &given);
            assert!(text.starts_with(told), "{told}: {text}");
            assert!(!text.ends_with("(--batch-size)"), "it is said once: {text}");
        }
    }

    #[test]
    fn an_option_without_which_the_plan_would_be_fit_is_named_with_what_is_beside_it() {
        let memory = Overrides { storage: Some(StorageKind::Memory), nodes: Some(2), ..none() };
        let text = refused("leader-failover", &memory);
        let told = "--storage is memory, but beside it steps[0].fault is kill with storage = \
                    \"memory\", and of 2 nodes 0 may lose";
        assert!(text.starts_with(told), "{text}");
        let text = refused("cold-restart", &Overrides { fault: by(Fault::Transfer), ..none() });
        let told =
            "--fault is transfer, but beside it steps[0].target is all nodes, and only a leader";
        assert!(text.starts_with(told), "{text}");
        let plan = "scenario = \"mine\"\nkind = \"failover\"\n[workload]\n[[steps]]\nat = 500\n\
                    fault = \"kill\"\nreturn_after_ms = { lan = 900, wan = 9000, loopback = 900 }\n";
        let wan = Overrides { profile: Some(ConsensusProfile::Wan), ..none() };
        let text = refused_in(&plan::parse(plan).unwrap(), &wan, WorldKind::Process);
        let told = "--profile is wan, but beside it steps[0].return_after_ms is 9000, and the";
        assert!(text.starts_with(told), "{text}");
    }

    #[test]
    fn what_no_option_caused_is_refused_by_its_field() {
        let plan = "scenario = \"mine\"\nkind = \"failover\"\n[workload]\nclients = 0\n[[steps]]\n\
                    at = 500\nfault = \"kill\"\nreturn_after_ms = 900\n";
        let own = plan::parse(plan).unwrap();
        for given in [none(), Overrides { nodes: Some(3), rate: Some(9), ..none() }] {
            let text = refused_in(&own, &given, WorldKind::Process);
            assert!(text.starts_with("workload.clients is 0, but must lie between"), "{text}");
        }
        let text = refused_in(&own, &Overrides { clients: Some(999), ..none() }, WorldKind::Sim);
        assert!(text.starts_with("--clients is 999, but must lie between 1 and"), "{text}");
    }

    #[test]
    fn what_names_an_option_already_stays_as_it_is() {
        let overlap = Overrides { overlap: true, ..none() };
        let text = refused("steady", &overlap);
        assert_eq!(text, "--overlap is given, but steady has no faults: its kind is steady");
    }
}
