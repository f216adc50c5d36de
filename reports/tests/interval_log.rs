//! `latency.hlog` as another program reads it: through hdrhistogram's own iterator.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use reports::{Kind, Outcome, Recorder, RunFolder, Sample};
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

type Intervals = BTreeMap<(u64, String), Histogram<u64>>;

fn read(log: &[u8]) -> (Option<Duration>, Intervals) {
    let (mut started, mut intervals) = (None, BTreeMap::new());
    for entry in IntervalLogIterator::new(log) {
        match entry.expect("the log can be parsed") {
            LogEntry::StartTime(at) => started = Some(at),
            LogEntry::BaseTime(_) => panic!("timestamps are relative to the start"),
            LogEntry::Interval(interval) => {
                assert_eq!(interval.duration(), Duration::from_secs(1));
                let bytes = base64(interval.encoded_histogram());
                let histogram: Histogram<u64> =
                    Deserializer::new().deserialize(&mut bytes.as_slice()).expect("a histogram");
                let max_ms = histogram.max() as f64 / 1e6;
                assert!(
                    (interval.max() - max_ms).abs() < 0.001,
                    "{} is not {max_ms} ms",
                    interval.max()
                );
                let tag = interval.tag().map_or("", |tag| tag.as_str()).to_owned();
                intervals.insert((interval.start_timestamp().as_secs(), tag), histogram);
            }
        }
    }
    (started, intervals)
}

/// Standard base64; that no character is foreign is part of what is tested.
fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("{byte} is no base64"),
    };
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | digit(byte);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

fn sample(intended_ns: u64, completed_ns: Option<u64>, kind: Kind, outcome: Outcome) -> Sample {
    Sample { intended_ns, completed_ns, kind, outcome, client: 1, id: 1, key: 1, node: None }
}

#[test]
fn the_log_holds_every_success_in_its_second_and_kind() {
    let mut recorder = Recorder::new();
    let mut expected: Intervals = BTreeMap::new();
    let empty = || Histogram::new_with_bounds(1, 120_000_000_000, 3).unwrap();
    for n in 0..3_000_u64 {
        let second = [0, 1, 4][(n % 3) as usize];
        let intended_ns = second * 1_000_000_000 + n * 300_000;
        let latency_us = 300 + n * n % 250_000;
        let kind = Kind::ALL[(n / 3 % 2) as usize];
        let outcome = if n % 10 == 0 { Outcome::Unknown } else { Outcome::Ok };
        let completed_ns = Some(intended_ns + latency_us * 1_000);
        recorder.record(&sample(intended_ns, completed_ns, kind, outcome));
        if outcome == Outcome::Ok {
            for tag in ["", kind.as_str()] {
                let interval = expected.entry((second, tag.to_owned())).or_insert_with(empty);
                interval.record(latency_us * 1_000).unwrap();
            }
        }
    }
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(parent.path(), "steady", 0, 1, 2).unwrap();
    let started = Duration::from_millis(1_763_705_000_250);
    folder.write_series(&mut recorder, SystemTime::UNIX_EPOCH + started).unwrap();
    let log = fs::read(folder.path().join("latency.hlog")).unwrap();
    let (read_started, intervals) = read(&log);
    assert_eq!(read_started, Some(started));
    assert_eq!(intervals.len(), 9, "three seconds; all, read and write");
    assert_eq!(intervals, expected);
}

#[test]
fn other_tools_find_version_start_and_legend_ahead_of_the_intervals() {
    let mut recorder = Recorder::new();
    recorder.record(&sample(0, Some(5), Kind::Read, Outcome::Ok));
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(parent.path(), "steady", 0, 1, 2).unwrap();
    // Even a clock that stands before 1970 gives a log that tools can read.
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(9);
    folder.write_series(&mut recorder, before).unwrap();
    let log = fs::read_to_string(folder.path().join("latency.hlog")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], "#[Histogram log format version 1.3]");
    let at = |start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap();
    assert!(at("#[StartTime: 1.000 (seconds since epoch)]") < at("\"StartTimestamp\""));
    assert!(at("\"StartTimestamp\"") < at("0.000,1.000,0.001,HIST"), "{log}");
    assert!(at("0.000,") < at("Tag=read,0.000,1.000,"), "{log}");
}
