//! Planted faults: each must be caught, and by the fault alone.
//!
//! The healthy core is run on the same seeds: what it fails as well says nothing of the fault.

use chaos::swarm::{Options, Plant, run};
use runtime::{Clock, SystemClock};

use crate::{
    abreast::abreast,
    faults::{FAULTS, Fault},
    flags::Flags,
    told,
};

/// How a fault was caught.
pub(crate) struct Catch {
    /// Seeds until then, the last one included.
    seeds: u64,
    /// Steps until then.
    steps: u64,
    seconds: f64,
    /// Which invariant, and what it said.
    invariant: &'static str,
    message: String,
    seed: chaos::seed::Seed,
}

/// Plants every fault, prints what each took, and holds the healthy core against the same seeds.
pub(crate) fn table(flags: &Flags) -> Result<(), String> {
    // A core that panics is a catch like any other, and is told of below.
    std::panic::set_hook(Box::new(|_| {}));
    println!(
        "{:<28}{:<8}{:<8}{:<28}{:>7}{:>10}{:>9}  seed",
        "planted", "rule of", "world", "caught by", "seeds", "steps", "seconds"
    );
    let mut escaped = Vec::new();
    let mut seeds = 0;
    for fault in &FAULTS {
        let of = match fault.plant {
            Plant::Core(_) => "core",
            #[cfg(feature = "planted-faults")]
            Plant::Rule(_) => "core",
            Plant::Driver(_) => "driver",
        };
        let caught = search(flags, fault)?;
        seeds = seeds.max(caught.as_ref().map_or(0, |caught| caught.seeds));
        let Some(caught) = caught else {
            let most = fault.seeds_max;
            println!("{:<28}{of:<8}{:<8}nothing in {most} seeds", fault.name, "swarm");
            escaped.push(fault.name);
            continue;
        };
        let Catch { seeds, steps, seconds, invariant, seed, .. } = caught;
        println!(
            "{:<28}{of:<8}{:<8}{invariant:<28}{seeds:>7}{steps:>10}{seconds:>9.2}  {seed}",
            fault.name, "swarm"
        );
    }
    healthy(flags, seeds)?;
    if escaped.is_empty() {
        return Ok(());
    }
    Err(format!("{} of {} escaped: {}", escaped.len(), FAULTS.len(), escaped.join(", ")))
}

/// The fault is caught, in a seed that the healthy core passes.
pub(crate) fn catches(flags: &Flags, fault: &Fault) -> Result<Catch, String> {
    let Some(caught) = search(flags, fault)? else {
        return Err(format!("planted {}: not noticed in {} seeds", fault.name, fault.seeds_max));
    };
    let Catch { seeds, steps, invariant, message, seed, .. } = &caught;
    println!("planted {}: caught in seed {seeds}, after {steps} steps", fault.name);
    println!("  seed {seed}: {invariant}: {message}");
    let plan = flags.seeds(fault.seeds_max);
    let (seed, steps) = plan.run(caught.seeds - 1);
    let healthy = Options { seed, steps, nodes: flags.nodes, plant: None };
    run(&healthy).map_err(|failure| told(flags, &failure, steps))?;
    Ok(caught)
}

/// The first seed that shows the fault, if one of those allowed does.
fn search(flags: &Flags, fault: &Fault) -> Result<Option<Catch>, String> {
    let plan = match (flags.steps, flags.seeds) {
        (None, None) => flags.seeds(fault.seeds_max),
        _ => flags.plan(0),
    };
    let clock = SystemClock::new();
    let one = |number| {
        let (seed, steps) = plan.run(number);
        run(&Options { seed, steps, nodes: flags.nodes, plant: Some(fault.plant) }).map(|_| 0)
    };
    let Err((number, failure)) = abreast::<u64, _>(flags.jobs, plan.seeds, one) else {
        return Ok(None);
    };
    if flags.verbose {
        println!("{failure}");
    }
    let before: u64 = (0..number).map(|number| plan.run(number).1).sum();
    Ok(Some(Catch {
        seeds: number + 1,
        steps: before + failure.step,
        seconds: clock.now().0.as_secs_f64(),
        invariant: failure.violation.invariant,
        message: failure.violation.message,
        seed: failure.seed,
    }))
}

/// Nothing breaks in the first seeds when nothing is planted.
fn healthy(flags: &Flags, seeds: u64) -> Result<(), String> {
    let plan = flags.seeds(seeds.max(1));
    let clock = SystemClock::new();
    let one = |number| {
        let (seed, steps) = plan.run(number);
        let options = Options { seed, steps, nodes: flags.nodes, plant: None };
        run(&options).map(|outcome| outcome.counts)
    };
    let seen = abreast(flags.jobs, plan.seeds, one)
        .map_err(|(number, failure)| told(flags, &failure, plan.run(number).1))?;
    let (steps, seconds) = (seen.steps, clock.now().0.as_secs_f64());
    println!("nothing planted: {seeds} seeds, {steps} steps, {seconds:.2} s, nothing broke");
    Ok(())
}
