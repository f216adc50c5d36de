//! What the command line changes in a plan whose follower lags.
//!
//! Invariant: a plan of another kind refuses each of these by name.

use std::fmt;

use chaos::fault::Fault;
use chaos::link::{LinkFaults, Share};
use chaos::plan::{LagFrom, LagPlan, Plan, PlanError};
use clap::Args;

use super::{Struck, duration_ms, out_of_place, value::typed, within};

/// Fields of `[lag]` that can be set on the command line.
#[derive(Args, Debug, Default, Clone, PartialEq)]
pub(crate) struct LagOverrides {
    /// Commands that are committed while the follower is away; if neither this nor the plan says,
    /// 50000, and 30000 in world sim, where ten trials then take some seconds with a release build
    #[arg(long, value_name = "N", value_parser = within::<1, 5_000_000>)]
    pub(crate) entries: Option<u64>,
    /// What each of them carries
    #[arg(long, value_name = "BYTES", value_parser = within::<0, 1_000_000>)]
    pub(crate) command_bytes: Option<u64>,
    /// Entries in a chunk, or several such sizes to compare: 100,500,2000,10000. Each gets all
    /// trials, by turns
    #[arg(long, value_name = "ENTRIES", value_parser = entries_in_a_chunk, value_delimiter = ',')]
    pub(crate) batch_size: Vec<u32>,
    /// Chunks that the follower asks of each other at a time
    #[arg(long, value_name = "CHUNKS", value_parser = small)]
    pub(crate) inflight: Option<u32>,
    /// How many others the follower may learn from: the group has one node more
    #[arg(long, value_name = "N", value_parser = within::<2, 8>)]
    pub(crate) peers: Option<u64>,
    /// How much later all arrives on the follower's links, each way: 20ms
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) link_delay: Option<u64>,
    /// Which share of the datagrams on the follower's links is lost: 0.01
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) loss: Option<Share>,
    /// How many bytes per second the follower's links take, each way
    #[arg(long, value_name = "BYTES", value_parser = within::<1, BANDWIDTH_MAX>)]
    pub(crate) link_bandwidth: Option<u64>,
    /// What the others still have of what it missed: replay, every entry; or snapshot, a snapshot
    /// and the entries since
    #[arg(long, value_name = "WAY")]
    pub(crate) from: Option<LagFrom>,
    /// Bytes per second that the follower fetches at most
    #[arg(long, value_name = "BYTES", value_parser = small)]
    pub(crate) rate_max: Option<u32>,
}

/// Their names among the arguments.
pub(crate) const NAMES: [&str; 10] = [
    "entries",
    "command_bytes",
    "batch_size",
    "inflight",
    "peers",
    "link_delay",
    "loss",
    "link_bandwidth",
    "from",
    "rate_max",
];

impl LagOverrides {
    /// Changes the plan; `nodes` is how many were asked for as well.
    pub(super) fn apply(&self, plan: &mut Plan, nodes: Option<u64>) -> Result<(), PlanError> {
        let Some(lag) = &mut plan.lag else {
            return match self.first_given() {
                Some((name, value)) => Err(out_of_place(name, value, "follower that lags", plan)),
                None => Ok(()),
            };
        };
        lag.entries = self.entries.or(lag.entries);
        lag.command_bytes = self.command_bytes.unwrap_or(lag.command_bytes);
        if !self.batch_size.is_empty() {
            lag.batch_sizes.clone_from(&self.batch_size);
        }
        lag.inflight_per_peer_max = self.inflight.or(lag.inflight_per_peer_max);
        lag.rate_bytes_per_s_max = self.rate_max.or(lag.rate_bytes_per_s_max);
        lag.from = self.from.unwrap_or(lag.from);
        self.apply_links(lag);
        let Some(peers) = self.peers else { return Ok(()) };
        let of_nodes = nodes.map(|nodes| nodes.saturating_sub(1));
        if let Some(others) = of_nodes.filter(|others| *others != peers) {
            let allowed = format!(
                "with --nodes {} a follower learns from all {others} others: give one of the two",
                others + 1
            );
            return Err(refusal("--peers", &peers, allowed));
        }
        if !(PEERS.0..=PEERS.1).contains(&peers) {
            let allowed = format!(
                "must lie between {} and {}: the group has one node more, and without it a majority",
                PEERS.0, PEERS.1
            );
            return Err(refusal("--peers", &peers, allowed));
        }
        plan.nodes = peers + 1;
        Ok(())
    }

    fn apply_links(&self, lag: &mut LagPlan) {
        let Self { link_delay, loss, link_bandwidth, .. } = self;
        if link_delay.is_none() && loss.is_none() && link_bandwidth.is_none() {
            return;
        }
        let links = lag.links.get_or_insert_with(LinkFaults::default);
        links.delay_ms = link_delay.unwrap_or(links.delay_ms);
        links.loss = loss.unwrap_or(links.loss);
        links.bandwidth_bytes_per_s = link_bandwidth.or(links.bandwidth_bytes_per_s);
        // Nothing of nothing is what a plan without links has.
        if links.is_none() {
            lag.links = None;
        }
    }

    /// The first that is given, with its value.
    fn first_given(&self) -> Option<(&'static str, String)> {
        self.given().into_iter().find_map(|(name, value)| Some((name, value?)))
    }

    /// All of them, with the values of those that are given.
    pub(super) fn given(&self) -> [(&'static str, Option<String>); 10] {
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let sizes: Vec<String> = self.batch_size.iter().map(ToString::to_string).collect();
        [
            ("--entries", number(self.entries)),
            ("--command-bytes", number(self.command_bytes)),
            ("--batch-size", (!sizes.is_empty()).then(|| sizes.join(","))),
            ("--inflight", number(self.inflight.map(u64::from))),
            ("--peers", number(self.peers)),
            ("--link-delay", self.link_delay.map(typed)),
            ("--loss", self.loss.map(|share| share.to_string())),
            ("--link-bandwidth", number(self.link_bandwidth)),
            ("--from", self.from.map(|from| from.to_string())),
            ("--rate-max", number(self.rate_max.map(u64::from))),
        ]
    }
}

/// What takes the follower away.
pub(super) fn follower_fault(fault: Struck) -> Result<Fault, PlanError> {
    match fault {
        Struck::By(fault) => Ok(fault),
        Struck::AtRandom => {
            let allowed = "a follower that lags was away for the same reason in each trial: use \
                           kill, pause, isolate or wipe";
            Err(refusal("--fault", &"random", allowed))
        }
    }
}

fn refusal(name: &str, value: &dyn fmt::Display, allowed: impl Into<String>) -> PlanError {
    PlanError::Field { field: name.to_owned(), value: value.to_string(), allowed: allowed.into() }
}

fn entries_in_a_chunk(text: &str) -> Result<u32, String> {
    small(text).map_err(|_| SIZE.to_owned())
}

fn small(text: &str) -> Result<u32, String> {
    let number = within::<0, SMALL_MAX>(text)?;
    u32::try_from(number).map_err(|_| format!("expected a whole number of at most {SMALL_MAX}"))
}

fn share(text: &str) -> Result<Share, String> {
    let fraction = text.parse().map_err(|_| "expected a fraction from 0 to 1".to_owned())?;
    Share::new(fraction).map_err(|error| error.to_string())
}

const SMALL_MAX: u64 = u32::MAX as u64;
const BANDWIDTH_MAX: u64 = 100_000_000_000;
/// A majority beside the follower, and as many as a plan may have.
const PEERS: (u64, u64) = (2, 8);
const SIZE: &str = "expected a number of entries from 1 to 1048576, or several with commas between \
                    them: 100,500,2000";

#[cfg(test)]
mod tests {
    use chaos::plan::{self, WorldKind};

    use super::*;
    use crate::{catalogue, overrides::Overrides};

    fn builtin(name: &str) -> Plan {
        let all = catalogue::all().unwrap();
        all.into_iter().find(|builtin| builtin.plan.scenario == name).unwrap().plan
    }

    fn applied(overrides: &Overrides) -> Result<Plan, String> {
        let mut plan = builtin("lagging-follower");
        let applied = overrides.apply(&mut plan, WorldKind::Process);
        let fits = applied.and_then(|()| plan::validate(&plan));
        fits.map(|()| plan).map_err(|error| error.to_string())
    }

    fn of(lag: LagOverrides) -> Overrides {
        Overrides { lag, ..Overrides::default() }
    }

    #[test]
    fn each_option_lands_in_the_plan() {
        let given = LagOverrides {
            entries: Some(9_000),
            command_bytes: Some(100),
            batch_size: vec![7, 100],
            inflight: Some(3),
            peers: Some(4),
            link_delay: Some(20),
            loss: Some(Share::new(0.01).unwrap()),
            link_bandwidth: Some(3_000_000),
            from: Some(LagFrom::Snapshot),
            rate_max: Some(1_000_000),
        };
        let fault = Some(Struck::By(Fault::Pause));
        let plan = applied(&Overrides { fault, trials: Some(3), ..of(given) }).unwrap();
        let lag = plan.lag.unwrap();
        assert_eq!((lag.fault, lag.from), (Fault::Pause, LagFrom::Snapshot));
        assert_eq!((lag.entries(), lag.command_bytes, plan.trials), (9_000, 100, 3));
        assert_eq!((lag.batch_sizes, lag.inflight_per_peer_max), (vec![7, 100], Some(3)));
        let links = lag.links.unwrap();
        assert_eq!((plan.nodes, links.delay_ms, links.loss.to_string()), (5, 20, "0.01".into()));
        assert_eq!(links.bandwidth_bytes_per_s, Some(3_000_000));
        assert_eq!(lag.rate_bytes_per_s_max, Some(1_000_000));
    }

    #[test]
    fn what_contradicts_itself_or_cannot_be_is_refused_with_what_is_allowed() {
        let peers = |peers, nodes| {
            let lag = LagOverrides { peers: Some(peers), ..LagOverrides::default() };
            applied(&Overrides { nodes, ..of(lag) }).map(|plan| plan.nodes)
        };
        assert_eq!((peers(2, None), peers(4, Some(5))), (Ok(3), Ok(5)));
        assert!(peers(2, Some(5)).unwrap_err().contains("learns from all 4 others"));
        assert!(peers(1, None).unwrap_err().starts_with("--peers is 1, but must lie between 2"));
        let sizes = |sizes: &[u32]| {
            let batch_size = sizes.to_vec();
            applied(&of(LagOverrides { batch_size, ..LagOverrides::default() })).unwrap_err()
        };
        assert!(sizes(&[0]).contains("between 1 and 1048576 (--batch-size)"), "{}", sizes(&[0]));
        assert!(sizes(&[u32::MAX]).contains("(--batch-size)"));
        let none = LagOverrides { entries: Some(0), ..LagOverrides::default() };
        assert!(applied(&of(none)).unwrap_err().contains("between 1 and 5000000 (--entries)"));
        let narrow = LagOverrides { link_bandwidth: Some(100), ..LagOverrides::default() };
        let narrow = applied(&of(narrow)).unwrap_err();
        assert!(
            narrow.contains("bandwidth_bytes_per_s is 100, but must lie between 1500"),
            "{narrow}"
        );
        let fault = |fault| applied(&Overrides { fault: Some(fault), ..Overrides::default() });
        let random = fault(Struck::AtRandom).unwrap_err();
        assert!(random.contains("use kill, pause, isolate or wipe"), "{random}");
        let transfer = fault(Struck::By(Fault::Transfer)).unwrap_err();
        assert!(transfer.contains("must be kill, pause, isolate or wipe"), "{transfer}");
    }

    #[test]
    fn other_plans_have_no_place_for_them() {
        let given = LagOverrides { batch_size: vec![100, 500], ..LagOverrides::default() };
        let mut steady = builtin("steady");
        let error = of(given).apply(&mut steady, WorldKind::Process).unwrap_err().to_string();
        let expected = "--batch-size is 100,500, but steady has no follower that lags: its kind is \
                        steady";
        assert_eq!(error, expected);
    }
}
