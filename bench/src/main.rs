//! How fast the runtime is, with no faults: measured beside what it cannot beat.
//!
//! Exit codes: 0 measured and every bound kept, 1 a bound broke, 2 ended before its time, 3 usage
//! error or the benchmark itself failed: the same codes as the scenarios'.

mod catch_up;
mod commit;
mod companion;
mod counted;
mod echo;
mod filled;
mod join;
mod lanes;
mod memory;
mod narrow;
mod newcomer;
mod node;
mod open;
mod outcome;
mod progress;
mod series;
mod spinner;
mod stranger;
mod strangers;
mod stream;
mod tally;
mod terminal;
mod throughput;
mod turns;
mod versus;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use reports::Verdict;

/// Measures the runtime. Build with --release: figures of other builds mean nothing.
#[derive(Parser)]
#[command(version, about, after_help = AFTER_HELP)]
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
    /// A fresh node joins an idle group of three that has a history, until it votes; exit code 1 if
    /// one took longer than two seconds
    Join {
        /// Commands in the group's log
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        entries: u32,
        /// How many nodes join, one after the other
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        joins: u32,
        /// Bytes in each command
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
        bytes: u32,
        /// Where `runs` is
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Print the record as JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// A fresh follower catches up with a group of three in memory, by the size of the chunks that it
    /// fetches, in turns with each other and with one plain stream of as many bytes
    CatchUp {
        /// Commands in each group's log
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
        entries: u32,
        /// Bytes in each command
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
        bytes: u32,
        /// Entries in a chunk: one group for each of these, which must differ
        #[arg(long, value_delimiter = ',', default_value = "500,2000,10000", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
        batch_sizes: Vec<u32>,
        /// Followers for each size, one after the other
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        trials: u32,
        /// Where `runs` is
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Print the record as JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Opening a store on disk, by turns beside reading its files once, with the files in memory and
    /// not
    Open {
        /// Entries in the store: one store for each of these, which must differ
        #[arg(long, value_delimiter = ',', default_value = "1000000,5000000", value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
        entries: Vec<u32>,
        /// Bytes in each command
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
        bytes: u32,
        /// Openings of each store, with the files in memory and as often without
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
        turns: u32,
        /// Where `runs` is
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Print the record as JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Resident memory of three members in one process while commands go through their group, with
    /// snapshots; exit code 1 if the last quarter holds 5 % more than the second
    Memory {
        /// Commands in all
        #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
        commands: u32,
        /// Bytes in each command
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
        bytes: u32,
        /// After so many entries a member takes a snapshot; 0 is never
        #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(0..=1 << 30))]
        snapshot_entries: u32,
        /// Where `runs` is
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Print the record as JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Commits at a steady pace, by turns left alone and while strangers dial the leader; exit code
    /// 1 if a term changed, or if the p99 grew to more than three times its idle value
    Strangers {
        /// Strangers, each with an identity and a socket of its own
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=4_000))]
        strangers: u32,
        /// From how many addresses of loopback they come
        #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=4_000))]
        addresses: u32,
        /// Dials each second, of all strangers together
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2_000))]
        rate: u32,
        /// Seconds of dials; as many are timed without
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(2..=600))]
        seconds: u32,
        /// Where `runs` is
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Print the record as JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Heartbeat rounds, as strong queries see them, by turns idle, while large entries fill the append
    /// lane, while a newcomer that catches up fills the bulk lanes, and while busy loops fill the cores;
    /// then over a link of 25 Mbit/s and 20 ms, idle and while its bulk lane is full; exit code 1
    /// if a term changed, or if with the bulk lane full the p99 is more than twice what it is with
    /// that lane empty: on the idle link, and beside the busy loops
    Lanes {
        /// Rounds, each with about two seconds of each kind
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=20))]
        rounds: u32,
        /// How many write 64 KiB at a time, each one after the other
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
        writers: u32,
        /// Where `runs` is
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Print the record as JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Commands that a group of three with disks commits, by how many are under way at a time, in
    /// turns of two seconds; exit code 1 if a term changed
    Throughput {
        /// Callers, each with one command after the other on the leader: numbers that differ
        #[arg(long, value_delimiter = ',', default_value = "1,16,64,256", value_parser = clap::value_parser!(u32).range(1..=4_096))]
        concurrency: Vec<u32>,
        /// Bytes in each command
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
        bytes: u32,
        /// Turns of each
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// Where `runs` is
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Print the record as JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Two commands by turns, each printing a record with --json, and the ratio of their medians
    Versus {
        /// The first command, in one word: "target/release/scenarios steady --duration 10s"
        a: String,
        /// The second one; ratios are its figures divided by those of the first
        b: String,
        /// How often each is carried out
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
        turns: u32,
        /// Where `runs` is, for the commands too
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Print the record as JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// A node in a process of its own; started by the benchmarks
    #[command(hide = true)]
    Node,
    /// A process full of strangers; started by the benchmarks
    #[command(hide = true)]
    Stranger,
    /// A member that comes and goes, in a process of its own; started by the benchmarks
    #[command(hide = true)]
    Newcomer,
    /// Busy loops on every core; started by the benchmarks
    #[command(hide = true)]
    Spinner,
    /// Followers that catch up, one for each line of input; started by the program in bench/peers
    #[command(hide = true)]
    Turns {
        #[arg(long)]
        entries: u32,
        #[arg(long)]
        bytes: usize,
        #[arg(long, value_delimiter = ',')]
        batch_sizes: Vec<u32>,
    },
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
    match carry_out(arguments.bench) {
        Ok(Verdict::Valid) => ExitCode::SUCCESS,
        Ok(Verdict::Invalid) => ExitCode::from(EXIT_BROKEN),
        Ok(Verdict::Unknown) => ExitCode::from(EXIT_UNKNOWN),
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn carry_out(bench: Bench) -> anyhow::Result<Verdict> {
    match bench {
        Bench::Commit { rounds, bytes, out, json } => {
            commit::main(rounds, bytes as usize, &out, json)
        }
        Bench::Strangers { strangers, addresses, rate, seconds, out, json } => {
            let wish = strangers::Wish { strangers, addresses, rate_per_s: rate, seconds };
            strangers::main(&wish, &out, json)
        }
        Bench::Lanes { rounds, writers, out, json } => lanes::main(rounds, writers, &out, json),
        Bench::Throughput { concurrency, bytes, rounds, out, json } => {
            let (concurrency, bytes, out) = (&*concurrency, bytes as usize, &*out);
            throughput::main(&throughput::Wish { concurrency, bytes, rounds, out, json })
        }
        Bench::Versus { a, b, turns, out, json } => versus::main([&a, &b], turns, &out, json),
        Bench::Join { entries, joins, bytes, out, json } => {
            join::main(&join::Wish { entries, joins, bytes: bytes as usize, out: &out, json })
        }
        Bench::CatchUp { entries, bytes, batch_sizes, trials, out, json } => {
            let (bytes, batch_sizes, out) = (bytes as usize, &*batch_sizes, &*out);
            catch_up::main(&catch_up::Wish { entries, bytes, batch_sizes, trials, out, json })
        }
        Bench::Open { entries, bytes, turns, out, json } => {
            let (entries, bytes, out) = (&*entries, bytes as usize, &*out);
            open::main(&open::Wish { entries, bytes, turns, out, json })
        }
        Bench::Memory { commands, bytes, snapshot_entries, out, json } => {
            let (bytes, out) = (bytes as usize, &*out);
            memory::main(&memory::Wish { commands, bytes, snapshot_entries, out, json })
        }
        Bench::Node => node::main().map(|()| Verdict::Valid),
        Bench::Stranger => stranger::main().map(|()| Verdict::Valid),
        Bench::Newcomer => newcomer::main().map(|()| Verdict::Valid),
        Bench::Spinner => spinner::main().map(|()| Verdict::Valid),
        Bench::Turns { entries, bytes, batch_sizes } => {
            turns::main(entries, bytes, batch_sizes).map(|()| Verdict::Valid)
        }
    }
}

/// A bound was not kept.
const EXIT_BROKEN: u8 = 1;
/// It was ended before its time.
const EXIT_UNKNOWN: u8 = 2;
/// A usage error, or the benchmark itself failed.
const EXIT_USAGE: u8 = 3;
const AFTER_HELP: &str = "\
While it measures, standard error shows how far it has come and for how long it still goes on. \
Ctrl-C ends it: what was measured until then is printed and written, as `unknown`. A second one, a \
second or more after the first, ends it at once.

Exit codes: 0 measured and every bound kept, 1 a bound broke, 2 ended before its time, 3 usage \
error or the benchmark itself failed";
