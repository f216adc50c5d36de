//! The same catch-up with mosaik and with Tessera, by turns, on one machine in one run.
//!
//! mosaik's groups are in this process and Tessera's in another: the two ask for versions of one
//! cipher of which cargo lets only one into a program. All groups stand full and idle; then one
//! fresh follower after the other joins one of them, and whose turn it is goes round.

mod awake;
mod ours;
mod outcome;
mod relay;
mod side;
mod theirs;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use reports::Verdict;

use crate::{
    awake::Awake,
    ours::Ours,
    outcome::Outcome,
    relay::Relay,
    side::Side,
    theirs::{Founders, Full},
};

/// How fast a fresh follower catches up with a group of three in memory: Tessera's beside
/// mosaik's, from its first bond until it has applied everything. Build with --release.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    wish: Wish,
    /// Followers for each side and each size
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    trials: u32,
    /// Tessera's benchmarks, built; otherwise cargo is asked to build and run them
    #[arg(long)]
    bench: Option<PathBuf>,
    /// Where `runs` is
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// Print the record as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Only spin, until the input closes
    #[arg(long, hide = true)]
    spin: bool,
}

/// What is the same on both sides.
#[derive(clap::Args, serde::Serialize)]
struct Wish {
    /// Commands in each group's log
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    entries: u32,
    /// Bytes in each command
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    bytes: u32,
    /// Entries in a chunk: one group of each side for each of these
    #[arg(long, value_delimiter = ',', default_value = "500,2000,10000", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    batch_sizes: Vec<u32>,
    /// Let processors sleep where nobody has anything to do: then much of a short catch-up is how
    /// long a virtual machine takes to wake them
    #[arg(long)]
    let_sleep: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Printing to a closed terminal has nobody to complain to.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    if arguments.spin {
        return match awake::spin() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(EXIT_USAGE),
        };
    }
    match carry_out(&arguments) {
        Ok(Verdict::Valid) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_UNKNOWN),
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn carry_out(arguments: &Arguments) -> Result<Verdict> {
    let Arguments { wish, trials, bench, out, json, spin: _ } = arguments;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(measure(wish, *trials, bench.as_deref()));
    // What mosaik's networks still have to say goodbye to holds nobody up.
    runtime.shutdown_background();
    outcome?.finish(out, *json)
}

async fn measure(wish: &Wish, trials: u32, bench: Option<&Path>) -> Result<Outcome> {
    eprintln!("filling Tessera's groups");
    let mut ours = Ours::start(wish, bench).await?;
    eprintln!("filling mosaik's groups");
    let relay = Relay::start().await?;
    let founders = Founders::bind(&relay).await?;
    let theirs = Full::build_all(&founders, wish).await?;

    let _awake = (!wish.let_sleep).then(Awake::keep).transpose()?;
    let mut outcome = Outcome::new(wish, trials);
    let cut_short = tokio::select! {
        done = take_turns(wish, trials, &mut ours, (&founders, &theirs), &mut outcome) => done.err(),
        heard = tokio::signal::ctrl_c() => Some(match heard {
            Ok(()) => anyhow!("interrupted"),
            Err(error) => anyhow!(error).context("listening for an interrupt"),
        }),
    };
    // What was measured until then took long, and is as true as it was.
    if let Some(error) = cut_short {
        outcome.cut_short(&error);
    }
    Ok(outcome)
}

async fn take_turns(
    wish: &Wish,
    trials: u32,
    ours: &mut Ours,
    (founders, theirs): (&Founders, &BTreeMap<(Side, u32), Full>),
    outcome: &mut Outcome,
) -> Result<()> {
    for trial in 0..trials as usize {
        eprintln!("trial {} of {trials}", trial + 1);
        for &size in &wish.batch_sizes {
            for place in 0..Side::ALL.len() {
                // Who came after whom once comes before it next time.
                let side = Side::ALL[(place + trial) % Side::ALL.len()];
                // Who followed before still closes what it had open.
                tokio::time::sleep(REST).await;
                let took = match theirs.get(&(side, size)) {
                    Some(full) => full.follow(founders).await,
                    None => ours.follow(size).await.map(Some),
                };
                let took = took.with_context(|| format!("{side} with chunks of {size}"))?;
                outcome.add(side, size, took);
            }
        }
    }
    Ok(())
}

/// Before each turn, which nobody's turn is measured in.
const REST: Duration = Duration::from_millis(500);
/// Not all of it was measured. The same codes as the scenarios'.
const EXIT_UNKNOWN: u8 = 2;
/// A usage error, or the benchmark itself failed.
const EXIT_USAGE: u8 = 3;
