//! Times of a plan: one number of milliseconds, or one for each consensus profile.
//!
//! Plain data. Invariant: every profile has a number, since `--profile` may choose any of them.

use std::fmt;

use runtime::ConsensusProfile;
use serde::{Deserialize, Serialize};

use crate::plan::{At, ByProfile, Plan};

/// Every consensus profile.
pub const PROFILES: [ConsensusProfile; 3] =
    [ConsensusProfile::Lan, ConsensusProfile::Wan, ConsensusProfile::Loopback];

/// Milliseconds for every consensus profile: `1000`, or
/// `{ lan = 1000, wan = 5500, loopback = 1000 }`, where none may be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "ByProfile<u64>", into = "ByProfile<u64>")]
pub struct MsByProfile {
    /// For `lan`.
    pub lan: u64,
    /// For `wan`.
    pub wan: u64,
    /// For `loopback`.
    pub loopback: u64,
}

impl MsByProfile {
    /// The same for all.
    pub fn all(ms: u64) -> Self {
        Self { lan: ms, wan: ms, loopback: ms }
    }

    /// What is said of one profile.
    pub fn of(self, profile: ConsensusProfile) -> u64 {
        match profile {
            ConsensusProfile::Lan => self.lan,
            ConsensusProfile::Wan => self.wan,
            ConsensusProfile::Loopback => self.loopback,
        }
    }

    /// What comes of the two of each profile.
    #[must_use]
    pub fn with(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            lan: join(self.lan, other.lan),
            wan: join(self.wan, other.wan),
            loopback: join(self.loopback, other.loopback),
        }
    }
}

impl TryFrom<ByProfile<u64>> for MsByProfile {
    type Error = &'static str;

    fn try_from(given: ByProfile<u64>) -> Result<Self, Self::Error> {
        match given {
            ByProfile { lan: Some(lan), wan: Some(wan), loopback: Some(loopback) } => {
                Ok(Self { lan, wan, loopback })
            }
            _ => Err("there must be a number for each of lan, wan, loopback"),
        }
    }
}

impl From<MsByProfile> for ByProfile<u64> {
    fn from(MsByProfile { lan, wan, loopback }: MsByProfile) -> Self {
        Self { lan: Some(lan), wan: Some(wan), loopback: Some(loopback) }
    }
}

impl fmt::Display for MsByProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lan, wan, loopback } = self;
        match lan == wan && wan == loopback {
            true => lan.fmt(f),
            false => write!(f, "{{ lan = {lan}, wan = {wan}, loopback = {loopback} }}"),
        }
    }
}

/// Keeps of each time what is said of the plan's own profile, once that is settled.
pub fn keep_times(plan: &mut Plan) {
    let profile = plan.profile;
    let keep = |times: &mut MsByProfile| *times = MsByProfile::all(times.of(profile));
    if let Some(load) = &mut plan.workload {
        keep(&mut load.duration_ms);
    }
    if let Some(evict_after_ms) = &mut plan.evict_after_ms {
        keep(evict_after_ms);
    }
    let of_variants = plan.variants.iter_mut().flat_map(|variant| variant.steps.iter_mut());
    for step in plan.steps.iter_mut().chain(of_variants) {
        keep(&mut step.return_after_ms);
        if let At::Ms(times) = &mut step.at {
            keep(times);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        plan::{RandomFaults, WorldKind, consensus, draw_faults, parse, validate},
        schedule,
        seed::Seed,
    };

    const GOOD: &str = "scenario = \"x\"\nkind = \"failover\"\n[workload]\n\
        duration_ms = { lan = 5000, wan = 36000, loopback = 4000 }\n\
        [[steps]]\nat = { lan = 500, wan = 700, loopback = 300 }\nfault = \"kill\"\n\
        return_after_ms = { lan = 1000, wan = 5500, loopback = 900 }\n";

    fn of(profile: ConsensusProfile) -> Plan {
        Plan { profile, ..parse(GOOD).expect("well formed") }
    }

    /// The load, and when the step strikes and is over.
    fn times(plan: &Plan) -> (MsByProfile, At, MsByProfile) {
        let load = plan.workload.as_ref().expect("it has one");
        (load.duration_ms, plan.steps[0].at, plan.steps[0].return_after_ms)
    }

    #[test]
    fn a_time_is_one_number_or_one_for_each_profile_and_is_written_as_it_reads_best() {
        let plan = parse(GOOD).expect("well formed");
        let (load, at, returns) = times(&plan);
        assert_eq!(load, MsByProfile { lan: 5_000, wan: 36_000, loopback: 4_000 });
        assert_eq!(at, At::Ms(MsByProfile { lan: 500, wan: 700, loopback: 300 }));
        assert_eq!(returns.to_string(), "{ lan = 1000, wan = 5500, loopback = 900 }");
        let plain = GOOD.replace("{ lan = 1000, wan = 5500, loopback = 900 }", "800");
        let plain = parse(&plain).expect("well formed");
        assert_eq!(times(&plain).2, MsByProfile::all(800));
        assert_eq!(times(&plain).2.to_string(), "800");
        for (plan, is_a_number) in [(plan, false), (plain, true)] {
            let json = serde_json::to_value(&plan).expect("plain data");
            assert_eq!(json["steps"][0]["return_after_ms"].is_number(), is_a_number, "{json}");
            assert_eq!(serde_json::from_value::<Plan>(json).expect("its own text"), plan);
            let text = toml::to_string(&plan).expect("plain data");
            assert_eq!(parse(&text).expect("its own text"), plan);
        }
    }

    #[test]
    fn the_profile_of_the_plan_says_which_is_meant() {
        for (profile, load_ms, at_ms, returns_ms) in [
            (ConsensusProfile::Lan, 5_000, 500, 1_000),
            (ConsensusProfile::Wan, 36_000, 700, 5_500),
            (ConsensusProfile::Loopback, 4_000, 300, 900),
        ] {
            let mut plan = of(profile);
            assert_eq!(validate(&plan), Ok(()));
            let drawn = schedule::draw(&plan, Seed(7));
            assert_eq!(drawn.faults[0].due_ns, at_ms * 1_000_000);
            assert_eq!(drawn.faults[0].return_after_ms, returns_ms);
            keep_times(&mut plan);
            let all = MsByProfile::all;
            assert_eq!(times(&plan), (all(load_ms), At::Ms(all(at_ms)), all(returns_ms)));
            assert_eq!(schedule::draw(&plan, Seed(7)).faults, drawn.faults);
        }
    }

    #[test]
    fn how_much_silence_is_borne_may_be_said_of_each_profile() {
        let evicting = |profile: ConsensusProfile, ms: &str| {
            let text = format!("evict_after_ms = {ms}\n{GOOD}");
            Plan { profile, ..parse(&text).expect("well formed") }
        };
        let each = "{ lan = 3000, wan = 12000, loopback = 700 }";
        for (profile, ms) in PROFILES.into_iter().zip([3_000, 12_000, 700]) {
            let mut plan = evicting(profile, each);
            assert_eq!(validate(&plan), Ok(()));
            assert_eq!(consensus(&plan).evict_after, Duration::from_millis(ms));
            keep_times(&mut plan);
            assert_eq!(plan.evict_after_ms, Some(MsByProfile::all(ms)));
            assert_eq!(validate(&plan), Ok(()), "it is of no other profile any more");
        }
        let short = "{ lan = 3000, wan = 9999, loopback = 700 }";
        for (profile, ms, expected) in [
            (ConsensusProfile::Lan, short, "evict_after_ms is 9999 for wan, but must"),
            (ConsensusProfile::Wan, short, "evict_after_ms is 9999, but must"),
            // One number is of the plan's own profile alone: few are right for all three.
            (ConsensusProfile::Wan, "3000", "evict_after_ms is 3000, but must"),
            (ConsensusProfile::Lan, "3000", ""),
        ] {
            let refused = validate(&evicting(profile, ms)).err();
            let error = refused.map_or(String::new(), |error| error.to_string());
            assert_eq!(error.is_empty(), expected.is_empty(), "{error}");
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_is_drawn_is_drawn_for_the_profile_of_the_plan() {
        let plan = of(ConsensusProfile::Wan);
        let random = Plan { steps: Vec::new(), random: Some(RandomFaults::default()), ..plan };
        let late = (0..20).any(|seed| {
            let drawn = draw_faults(&random, WorldKind::Process, Seed(seed)).expect("some fault");
            let (load, ..) = times(&drawn);
            assert_eq!(load, MsByProfile::all(36_000));
            drawn.steps.iter().any(|step| matches!(step.at, At::Ms(at) if at.wan > 5_000))
        });
        assert!(late, "it may come when a load of lan were over");
    }

    #[test]
    fn a_bad_time_of_any_profile_is_refused_by_its_name() {
        for (from, to, expected) in [
            ("wan = 36000", "wan = 10", "workload.duration_ms is 10 for wan, but must lie"),
            ("wan = 5500", "wan = 0", "steps[0].return_after_ms is 0 for wan, but must lie"),
            ("wan = 5500", "wan = 35000", "steps[0].return_after_ms is 35000 for wan, but the"),
            ("loopback = 300", "loopback = 3000", "steps[0].return_after_ms is 900 for loopback"),
            ("lan = 1000", "lan = 5000", "steps[0].return_after_ms is 5000, but the fault"),
        ] {
            let plan = parse(&GOOD.replacen(from, to, 1)).expect("well formed");
            let error = validate(&plan).expect_err(to).to_string();
            assert!(error.starts_with(expected), "{to}: {error}");
        }
        for (from, to, expected) in [
            ("lan = 1000, ", "", "a number for each of lan, wan, loopback"),
            ("lan = 5000", "moon = 5000", "unknown field `moon`, expected one of `lan`"),
            ("wan = 700", "wan = -1", "-1"),
        ] {
            let error = parse(&GOOD.replacen(from, to, 1)).expect_err(to).to_string();
            assert!(error.contains(expected) && error.contains("line "), "{to}: {error}");
        }
    }
}
