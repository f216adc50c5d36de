//! A plan in words: what `validate` and `--list` print.
//!
//! Reads the plan and nothing else. Invariant: every field that decides what happens is said, but
//! for limits of the load, and for what a step with `among` says of single kinds. As JSON the plan
//! is there as a whole.

use chaos::disk::DiskKind;
use chaos::fault::{CrashPoint, Fault, Target};
use chaos::plan::{
    At, ByProfile, Expect, Flap, GROWTH_LOAD_MS_MIN, Kind, LagFrom, LagPlan, Plan, RandomFaults,
    Step, StorageKind, Variant, Way, WorkloadPlan, WorldKind, fits, keep_times, profile_name,
};

use crate::catalogue::Builtin;
use crate::timeouts;

/// One line per built-in scenario.
pub(crate) fn list(builtins: &[Builtin]) -> String {
    let name = |builtin: &Builtin| builtin.plan.scenario.len();
    let width = builtins.iter().map(name).max().unwrap_or(0);
    let line = |Builtin { plan, .. }: &Builtin| {
        let Plan { scenario, about, nodes, trials, profile, .. } = plan;
        let trials = if *trials > 1 { format!(", {trials} trials") } else { String::new() };
        let profile = profile_name(*profile);
        format!("{scenario:width$}  {about}\n{:width$}  {nodes} nodes{trials}, {profile}\n", "")
    };
    builtins.iter().map(line).collect()
}

/// The same for programs: their plans.
pub(crate) fn list_json(builtins: &[Builtin]) -> String {
    let plans: Vec<&Plan> = builtins.iter().map(|builtin| &builtin.plan).collect();
    format!("{:#}\n", serde_json::json!({ "scenarios": plans }))
}

/// A plan for programs, with its defaults, and why it cannot be carried out where it cannot.
pub(crate) fn plan_json(plan: &Plan) -> String {
    let worlds = WorldKind::ALL.into_iter().map(|world| {
        let reason = fits(plan, world).err().map(|error| error.to_string());
        (world.name().to_owned(), serde_json::json!(reason))
    });
    let worlds: serde_json::Map<_, _> = worlds.collect();
    format!("{:#}\n", serde_json::json!({ "plan": plan, "not_in_world": worlds }))
}

/// What a plan would do.
pub(crate) fn plan(plan: &Plan) -> String {
    let mut own = plan.clone();
    keep_times(&mut own);
    let plan = &own;
    let Plan { scenario, about, nodes, profile, storage, background_load, .. } = plan;
    let mut lines = vec![scenario.clone()];
    if !about.is_empty() {
        lines[0].push_str(": ");
        lines[0].push_str(&printable(about));
    }
    let storage = match storage {
        StorageKind::Memory => "in memory: who ends returns as a new server",
        StorageKind::Disk => "on disk",
    };
    lines.push(format!("{nodes} nodes, profile {}, storage {storage}", profile_name(*profile)));
    lines.extend(timeouts::told(plan));
    if plan.lease_reads {
        lines.push("leaders answer strong reads alone while they hold a lease".to_owned());
    }
    if let Some(evict_after_ms) = plan.evict_after_ms {
        let evict_after_ms = evict_after_ms.of(*profile);
        lines.push(format!("who is silent for {evict_after_ms} ms is evicted"));
    }
    if plan.groups > 1 {
        lines.push(format!(
            "{} groups on the same nodes: the load is divided among them, and faults are aimed at \
             the leader of the first",
            plan.groups
        ));
    }
    if let Some(entries) = plan.snapshot_log_entries {
        lines.push(format!("a snapshot takes the place of the log every {entries} entries"));
    }
    lines.extend(plan.planted.map(|rule| format!("broken on purpose: {rule}")));
    lines.push(trials(plan));
    lines.extend(plan.workload.as_ref().map(workload));
    lines.extend(plan.lag.iter().flat_map(lag));
    lines.extend(plan.steps.iter().map(step));
    lines.extend(plan.random.as_ref().map(random));
    for Variant { name, about, steps, random, expect } in &plan.variants {
        lines.push(format!("kind {}: {}", printable(name), printable(about)));
        lines.extend(steps.iter().map(|of_variant| format!("  {}", step(of_variant))));
        lines.extend(random.as_ref().map(|random| format!("  {}", self::random(random))));
        let expect = expect.iter().flat_map(|expect| self::expect(plan, expect));
        lines.extend(expect.map(|line| format!("  {line}")));
    }
    if *background_load > 0 {
        lines.push(format!("{background_load} busy loops beside it"));
    }
    lines.push(match plan.seed {
        Some(seed) => format!("seed {seed}"),
        None => "a seed drawn for each run".to_owned(),
    });
    lines.extend(expect(plan, &plan.expect));
    lines.join("\n  ") + "\n"
}

/// In which worlds it could be carried out, and why not in the others.
pub(crate) fn worlds(plan: &Plan) -> String {
    let line = |world: WorldKind| match fits(plan, world) {
        Ok(()) => format!("  can be carried out in world {world}\n"),
        Err(error) => format!("  not in world {world}: {error}\n"),
    };
    WorldKind::ALL.into_iter().map(line).collect()
}

fn trials(plan: &Plan) -> String {
    let trials = plan.trials;
    match plan.kind {
        Kind::Failover if trials == 1 => "one trial of load and faults".to_owned(),
        Kind::Failover => format!("{trials} trials of load and faults"),
        Kind::Formation if trials == 1 => "a fresh group, from its start to all bonds".to_owned(),
        Kind::Formation => format!("{trials} fresh groups, each from its start to all bonds"),
        Kind::Steady => "load without faults".to_owned(),
        Kind::Lagging => format!("{trials} trials with each batch size, each with a fresh group"),
    }
}

/// Who lags, how far, and how it catches up.
fn lag(lag: &LagPlan) -> Vec<String> {
    let LagPlan { fault, entries, command_bytes, batch_sizes, from, links, bound_ms, .. } = lag;
    let entries = match entries {
        Some(entries) => format!("{entries} commands"),
        None => {
            let (process, sim) = (LagPlan::entries_in(WorldKind::Process), WorldKind::Sim);
            format!("{process} commands, {} in virtual time,", LagPlan::entries_in(sim))
        }
    };
    let sizes: Vec<String> = batch_sizes.iter().map(ToString::to_string).collect();
    let from = match from {
        LagFrom::Replay => "entry by entry",
        LagFrom::Snapshot => "from a snapshot and the entries since",
    };
    let mut lines = vec![
        format!(
            "{fault} of a follower under load; {entries} of {command_bytes} bytes are committed \
             without it; then it returns"
        ),
        format!(
            "it catches up {from}, in chunks of {} entries by turns, within {bound_ms} ms",
            sizes.join(", ")
        ),
    ];
    lines.extend(lag.inflight_per_peer_max.map(|max| format!("{max} chunks asked of each other")));
    lines.extend(lag.rate_bytes_per_s_max.map(|max| format!("at most {max} bytes per second")));
    lines.extend(links.as_ref().map(|links| format!("its links have {links}")));
    lines
}

fn workload(load: &WorkloadPlan) -> String {
    let WorkloadPlan { rate_per_s, clients, burst, keys_live, duration_ms, mix, .. } = load;
    let pinned = if load.pinned { " that stay with one node each" } else { "" };
    format!(
        "{clients} clients{pinned}, {rate_per_s} operations/s in bursts of {burst} over {keys_live} keys, \
         {} % reads, {} % writes, {} % compare-and-set, {duration_ms} ms per trial",
        mix.read, mix.write, mix.cas
    )
}

fn random(random: &RandomFaults) -> String {
    let RandomFaults { faults, steps_max } = random;
    let kinds: Vec<&str> = faults.iter().map(|fault| fault.word()).collect();
    format!("up to {steps_max} faults drawn from the seed, of {}", kinds.join(", "))
}

fn step(step: &Step) -> String {
    let at = match step.at {
        At::Random => "at a random moment".to_owned(),
        At::Ms(ms) => format!("{ms} ms into the trial"),
    };
    if !step.among.is_empty() {
        let among: Vec<&str> = step.among.iter().map(|fault| fault.word()).collect();
        let Step { target, return_after_ms, .. } = step;
        return format!(
            "{at}: of {} the one that is drawn for the trial hits {target}; over {return_after_ms} \
             ms later",
            among.join(", ")
        );
    }
    match to_a_node(step) {
        Some(told) => format!("{at}: {told}"),
        None => format!("{at}: {}", to_links(step)),
    }
}

/// What happens to the node itself; `None` if that is nothing.
fn to_a_node(step: &Step) -> Option<String> {
    let Step { fault, target, return_after_ms, clock, point, hand_over, .. } = step;
    Some(match fault {
        Fault::Transfer => format!("{target} hands over to another"),
        Fault::Restart => {
            let first = if *hand_over { ", which hands over first if it leads," } else { "" };
            format!("{fault} of {target}{first} in good order; back {return_after_ms} ms later")
        }
        Fault::Leave => {
            format!("{target} leaves the group; it joins again {return_after_ms} ms later")
        }
        Fault::Wipe => format!(
            "{target} is killed and loses its store; a new server in its place joins \
             {return_after_ms} ms later"
        ),
        Fault::Kill | Fault::Pause => {
            let point = match point {
                CrashPoint::Any => String::new(),
                point => format!(" at point {point}"),
            };
            let returns = if *target == Target::All { "return" } else { "returns" };
            format!("{fault} {target}{point}, which {returns} {return_after_ms} ms later")
        }
        Fault::Clock => {
            let clock = clock.map_or(String::new(), |clock| clock.to_string());
            format!("{fault} of {target}, {clock}; over {return_after_ms} ms later")
        }
        Fault::Disk => to_a_disk(step),
        Fault::Isolate | Fault::Partition | Fault::Link => return None,
    })
}

fn to_a_disk(step: &Step) -> String {
    let Step { target, return_after_ms, .. } = step;
    let disk = step.disk.map_or(String::new(), |disk| disk.to_string());
    match step.disk.map(|disk| disk.kind) {
        Some(DiskKind::Stall) => {
            format!("disk of {target}: {disk}; over {return_after_ms} ms later")
        }
        Some(DiskKind::Flip) => format!(
            "{target} is killed and a bit of its store flipped; {return_after_ms} ms later it must \
             refuse that store, loses it, and a new server in its place joins"
        ),
        _ => format!(
            "disk of {target}: {disk}; it must stop, and is started again {return_after_ms} ms \
             later on a sound disk"
        ),
    }
}

fn to_links(step: &Step) -> String {
    let Step { fault, target, to, way, side, cut, return_after_ms, faults, flap, .. } = step;
    let whom = match fault {
        Fault::Partition if side.is_empty() => {
            let pairs = cut.iter().map(|(one, other)| format!("{one} from {other}"));
            pairs.collect::<Vec<_>>().join(", ")
        }
        Fault::Partition => {
            let side: Vec<String> = side.iter().map(ToString::to_string).collect();
            format!("{} from the others", side.join(", "))
        }
        Fault::Link => {
            let to = to.map_or("all others".to_owned(), |to| format!("node {to}"));
            format!("{target} with {to}")
        }
        _ => target.to_string(),
    };
    let way = match way {
        Way::Both => "both ways",
        Way::Out => "one way, outwards",
        Way::In => "one way, inwards",
    };
    let faults = faults.as_ref().map_or(String::new(), |faults| format!(", {faults}"));
    let flap = flap.map_or(String::new(), |Flap { on_ms, off_ms }| {
        format!(", {on_ms} ms on and {off_ms} ms off")
    });
    format!("{fault} {whom}, {way}{faults}{flap}; healed {return_after_ms} ms later")
}

fn expect(plan: &Plan, expect: &Expect) -> Vec<String> {
    let of_profile = |bounds: Option<ByProfile<f64>>| bounds?.of(plan.profile);
    let bounds = [
        ("the median outage", "ms", of_profile(expect.outage_ms_p50_max)),
        ("every outage", "ms", of_profile(expect.outage_ms_max)),
        ("the median forming", "ms", expect.forming_ms_p50_max),
        ("every forming", "ms", expect.forming_ms_max),
    ];
    let bound = |(what, unit, max): (&str, &str, Option<f64>)| {
        Some(format!("expects {what} to be at most {} {unit}", max?))
    };
    let mut lines: Vec<String> = bounds.into_iter().filter_map(bound).collect();
    let terms = expect.term_changes_max.and_then(|bounds| bounds.of(plan.profile));
    let terms = terms.map(|max| match max {
        0 => "expects no change of term".to_owned(),
        _ => format!("expects at most {max} changes of term, each after a stall of the leader"),
    });
    lines.extend(terms);
    let growth = |max| {
        let load = plan.workload.as_ref();
        let lasts =
            load.is_some_and(|load| load.duration_ms.of(plan.profile) >= GROWTH_LOAD_MS_MIN);
        let looked_at = if lasts {
            String::new()
        } else {
            format!("; not looked at, since the load is shorter than {GROWTH_LOAD_MS_MIN} ms")
        };
        format!("expects memory less log to grow by at most {max} kB/min{looked_at}")
    };
    lines.extend(expect.memory_growth_kb_per_min_max.map(growth));
    if expect.majority_may_be_lost {
        lines.push("a majority may be lost for a while".to_owned());
    }
    lines
}

/// A plan's own words are not let loose on a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    #[test]
    fn the_list_names_every_scenario_with_its_purpose() {
        let all = catalogue::all().unwrap();
        let list = list(&all);
        for builtin in &all {
            assert!(list.contains(&builtin.plan.scenario), "{list}");
            assert!(list.contains(&builtin.plan.about), "{list}");
        }
    }

    #[test]
    fn what_is_expected_is_told_as_it_will_be_looked_at() {
        let mut builtins = catalogue::all().unwrap().into_iter();
        let steady = builtins.find(|builtin| builtin.plan.scenario == "steady");
        let mut plan = steady.expect("it is built in").plan;
        let text = super::plan(&plan);
        assert!(text.contains("no change of term") && text.contains("kB/min"), "{text}");
        assert!(!text.contains("not looked at"), "{text}");
        plan.profile = chaos::plan::parse_profile("loopback").unwrap();
        plan.workload.as_mut().unwrap().duration_ms = chaos::plan::MsByProfile::all(60_000);
        let text = super::plan(&plan);
        assert!(text.contains("at most 3 changes of term, each after a stall"), "{text}");
        assert!(text.contains("kB/min; not looked at"), "{text}");
    }

    #[test]
    fn a_bound_on_outages_is_told_of_the_profile() {
        let mut builtins = catalogue::all().unwrap().into_iter();
        let partition = builtins.find(|builtin| builtin.plan.scenario == "partition");
        let mut plan = partition.expect("it is built in").plan;
        for (profile, told) in [("lan", "2000 ms"), ("wan", "6400 ms"), ("loopback", "1500 ms")] {
            plan.profile = chaos::plan::parse_profile(profile).unwrap();
            let text = super::plan(&plan);
            let told = format!("every outage to be at most {told}\n");
            assert!(text.contains(&told), "{told:?} in {text:?}");
        }
    }

    #[test]
    fn times_are_told_of_the_profile() {
        let mut plan = catalogue::all().unwrap().remove(0).plan;
        for (profile, load_ms, returns_ms) in [("lan", 5_000, 1_000), ("wan", 36_000, 5_500)] {
            plan.profile = chaos::plan::parse_profile(profile).unwrap();
            let text = super::plan(&plan);
            let told =
                [format!("{load_ms} ms per trial"), format!("returns {returns_ms} ms later")];
            assert!(told.iter().all(|words| text.contains(words)), "{told:?} in {text:?}");
        }
    }

    #[test]
    fn worlds_are_told_with_why_not() {
        let mut plan = catalogue::all().unwrap().remove(0).plan;
        assert_eq!(worlds(&plan).matches("can be carried out").count(), 3);
        plan.background_load = 1;
        let told = worlds(&plan);
        assert!(told.contains("in world process\n"), "{told}");
        assert!(told.contains("not in world sim: background_load is 1, but"), "{told}");
    }

    #[test]
    fn steps_that_hurt_links_are_told_with_all_they_do() {
        let told = |text: &str| {
            let step = format!("at = 500\nreturn_after_ms = 900\n{text}");
            let plan = format!("scenario = \"x\"\nkind = \"failover\"\n[[steps]]\n{step}");
            step_of(&chaos::plan::parse(&plan).unwrap())
        };
        let isolate = told("fault = \"isolate\"\nway = \"out\"");
        assert_eq!(isolate, "isolate the leader, one way, outwards");
        let partition = told("fault = \"partition\"\nside = [1, 2]");
        assert_eq!(partition, "partition node 1, node 2 from the others, both ways");
        let cut = told("fault = \"partition\"\ncut = [[1, 2], [3, 2]]");
        assert_eq!(cut, "partition 1 from 2, 3 from 2, both ways");
        let clock = "fault = \"clock\"\nat = 500\nclock = { rate_ppm = 5 }\nreturn_after_ms = 9";
        let plan = format!("scenario = \"x\"\nkind = \"failover\"\n[[steps]]\n{clock}");
        let clock = step(&chaos::plan::parse(&plan).unwrap().steps[0]);
        assert_eq!(
            clock,
            "500 ms into the trial: clock of the leader, rate_ppm 5; over 9 ms later"
        );
        let flap = told("fault = \"isolate\"\nflap = { on_ms = 20, off_ms = 30 }");
        assert_eq!(flap, "isolate the leader, both ways, 20 ms on and 30 ms off");
        let link = told("fault = \"link\"\nto = 3\nfaults = { loss = 0.05, delay_ms = 20 }");
        assert_eq!(link, "link the leader with node 3, both ways, loss 0.05, delay_ms 20");
    }

    #[test]
    fn a_step_that_hits_all_says_so() {
        let builtins = catalogue::all().unwrap().into_iter();
        let plan =
            builtins.map(|builtin| builtin.plan).find(|plan| plan.scenario == "cold-restart");
        let text = super::plan(&plan.expect("it is built in"));
        let told = "at a random moment: kill all nodes, which return 1000 ms later";
        assert!(text.contains(told) && text.contains("a majority may be lost"), "{text}");
    }

    #[test]
    fn a_step_whose_fault_is_drawn_names_all_that_it_may_be() {
        let mut plan = catalogue::all().unwrap().remove(0).plan;
        plan.steps[0].among = vec![Fault::Kill, Fault::Pause];
        let text = super::plan(&plan);
        let told = "at a random moment: of kill, pause the one that is drawn for the trial hits the \
                    leader; over 1000 ms later";
        assert!(text.contains(told), "{text}");
    }

    /// Of the only step, what stands between its moment and its end.
    fn step_of(plan: &Plan) -> String {
        let told = step(&plan.steps[0]);
        let told = told.strip_prefix("500 ms into the trial: ").unwrap();
        told.strip_suffix("; healed 900 ms later").unwrap().to_owned()
    }

    #[test]
    fn programs_are_told_the_same() {
        let builtins = catalogue::all().unwrap();
        let list: serde_json::Value = serde_json::from_str(&list_json(&builtins)).unwrap();
        assert_eq!(list["scenarios"][0]["scenario"], "leader-failover");
        let mut plan = builtins.into_iter().next().unwrap().plan;
        plan.background_load = 1;
        let told: serde_json::Value = serde_json::from_str(&plan_json(&plan)).unwrap();
        assert_eq!(told["plan"]["workload"]["rate_per_s"], 500);
        assert!(told["not_in_world"]["process"].is_null());
        assert!(told["not_in_world"]["sim"].as_str().unwrap().contains("background_load"));
    }

    #[test]
    fn a_follower_that_lags_is_told_with_what_it_misses_and_how_it_fetches_that() {
        let all = catalogue::all().unwrap();
        let lagging = all.into_iter().find(|builtin| builtin.plan.kind == Kind::Lagging);
        let mut plan = lagging.expect("it is built in").plan;
        let text = super::plan(&plan);
        for words in [
            "5 trials with each batch size",
            "kill of a follower under load; 50000 commands, 30000 in virtual time, of 64 bytes",
            "entry by entry, in chunks of 500, 2000 entries by turns, within 60000 ms",
        ] {
            assert!(text.contains(words), "{words:?} in {text:?}");
        }
        let lag = plan.lag.as_mut().unwrap();
        (lag.entries, lag.from) = (Some(7), LagFrom::Snapshot);
        (lag.inflight_per_peer_max, lag.rate_bytes_per_s_max) = (Some(9), Some(70_000));
        let text = super::plan(&plan);
        for words in [
            "; 7 commands of 64 bytes",
            "from a snapshot and the entries since",
            "9 chunks asked of each other",
            "at most 70000 bytes per second",
        ] {
            assert!(text.contains(words), "{words:?} in {text:?}");
        }
    }

    #[test]
    fn a_plan_is_told_whole() {
        let mut plan = catalogue::all().unwrap().remove(0).plan;
        plan.expect.outage_ms_max = Some(ByProfile::all(700.0));
        plan.background_load = 2;
        plan.about = "rings \x07".to_owned();
        plan.groups = 4;
        let text = super::plan(&plan);
        for words in [
            "leader-failover: rings  \n",
            "5 nodes, profile lan, storage on disk",
            "4 groups on the same nodes: the load is divided among them, and faults are aimed at",
            "10 trials",
            "8 clients, 500 operations/s",
            "at a random moment: kill the leader, which returns 1000 ms later",
            "2 busy loops",
            "a seed drawn for each run",
            "every outage to be at most 700 ms",
        ] {
            assert!(text.contains(words), "{words:?} in {text:?}");
        }
    }
}
