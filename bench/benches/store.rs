//! A store on disk without the disk: its files lie in memory, so that what is left is the format.
//!
//! Appending makes records of entries and checks nothing; opening reads every record back and
//! checks it. Reading the same files and doing nothing with them is timed beside it.

#[path = "../src/filled.rs"]
mod filled;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, Throughput};
use runtime::{Clock, SystemClock};

use filled::Filled;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    append(&mut criterion);
    open(&mut criterion);
    criterion.final_summary();
}

/// One write of so many entries, until it is said to be durable: by the writer's thread.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store/append");
    for entries in [1, 100, 1_000] {
        group.throughput(Throughput::Elements(entries));
        group.bench_function(BenchmarkId::from_parameter(entries), |bencher| {
            bencher.iter_custom(|writes| {
                // A store for each sample, so that none grows without end.
                let filled = Filled::create(place(), 0, BYTES, |_| true).expect("an empty store");
                let (_, mut open) = filled.read_back().expect("what was just written");
                let clock = SystemClock::new();
                let began = clock.now();
                for _ in 0..writes {
                    open.append(entries, BYTES).expect("room in memory");
                }
                let took = clock.now().since(began);
                open.close();
                took
            });
        });
    }
    group.finish();
}

fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store/open");
    group.sample_size(20);
    for entries in [10_000, 100_000] {
        let filled = Filled::create(place(), entries, BYTES, |_| true).expect("room in memory");
        group.throughput(Throughput::Elements(entries));
        group.bench_function(BenchmarkId::from_parameter(entries), |bencher| {
            bencher.iter_custom(|openings| (0..openings).map(|_| reopen(&filled, entries)).sum());
        });
        group.bench_function(BenchmarkId::new("its files alone", entries), |bencher| {
            bencher.iter(|| filled.read_files().expect("its files are there"));
        });
    }
    group.finish();
}

/// One opening, without the closing behind it.
fn reopen(filled: &Filled, entries: u64) -> Duration {
    let clock = SystemClock::new();
    let began = clock.now();
    let (contents, open) = filled.read_back().expect("what was just written");
    let took = clock.now().since(began);
    assert_eq!(contents.entries.len() as u64, entries);
    open.close();
    took
}

/// In memory, where the host has such a place.
fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => filled::place(memory),
        false => filled::place(&std::env::temp_dir()),
    }
}

const BYTES: usize = 64;
