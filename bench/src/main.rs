//! How fast the runtime is, with no faults: measured beside what it cannot beat.

mod commit;
mod echo;
mod node;
mod outcome;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Measures the runtime. Build with --release: figures of other builds mean nothing.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// One 64-byte command at a time, beside an echo over the same transport and topology
    Commit {
        /// Rounds, over ten formations; each times 50 echoes, 50 commits on the leader and 50 through
        /// a follower; the first of each formation warms up and is not counted
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rounds: u32,
        /// Bytes in each echo and each command
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
        bytes: u32,
        /// Where `runs` is
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Print the record as JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// A node in a process of its own; started by the benchmarks
    #[command(hide = true)]
    Node,
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
    let done = match arguments.bench {
        Bench::Commit { rounds, bytes, out, json } => {
            commit::main(rounds, bytes as usize, &out, json)
        }
        Bench::Node => node::main(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// A usage error, or the benchmark itself failed: the same codes as the scenarios'.
const EXIT_USAGE: u8 = 3;
