//! A run folder from the outside: what is written is what is read, by us and by others.

use reports::{
    Check, Environment, Error, Event, Kind, Lapse, LatencyRow, Mark, Outcome, Recorder, RunFolder,
    RunRecord, SCHEMA_VERSION, Sample, Summary, ThroughputRow, Trial, Verdict, What,
};
use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, SystemTime};

fn record() -> RunRecord {
    let trial = |node: u64, outage_ms: Option<f64>| Trial {
        fault: "kill".to_owned(),
        node,
        fault_at_ms: 1_000.25 + node as f64 * 2_000.0,
        term_before: Some(node),
        term_after: outage_ms.map(|_| node + 1),
        leader_after: outage_ms.map(|_| node + 1),
        outage_ms,
        longest_gap_ms: Some(0.1 + 0.2),
        detect_ms: Some(100.0),
        elect_ms: Some(20.0),
        ..Trial::default()
    };
    RunRecord {
        schema_version: SCHEMA_VERSION,
        scenario: "leader-failover".to_owned(),
        world: "process".to_owned(),
        transport: "QUIC over loopback UDP".to_owned(),
        seed: 0xfedc_ba98_7654_3210,
        verdict: Verdict::Unknown,
        plan: serde_json::json!({"nodes": 5, "profile": "lan", "steps": [{"fault": "kill"}]}),
        environment: Environment {
            commit: "0123456789abcdef".to_owned(),
            build_profile: "debug".to_owned(),
            rustc: "rustc 1.91.0".to_owned(),
            machine: "2 cores".to_owned(),
        },
        command: None,
        trace_hash: Some("00ff".to_owned()),
        checks: vec![Check {
            name: "linearizable".to_owned(),
            verdict: Verdict::Invalid,
            detail: "key 3: a read of \"7\" after 8 was written".to_owned(),
        }],
        marks: vec![Mark {
            at_ms: 1_000.0,
            kind: "kill".to_owned(),
            node: Some(0),
            nodes: Vec::new(),
            detail: "SIGKILL".to_owned(),
            until_ms: Some(2_500.0),
        }],
        faults: Vec::new(),
        trials: vec![trial(0, Some(212.0)), trial(1, None), trial(2, Some(301.125))],
        lapses: Vec::new(),
        catch_ups: Vec::new(),
        counts: BTreeMap::from([("elections".to_owned(), u64::MAX)]),
        ratios: BTreeMap::from([("overlap".to_owned(), 1.0 / 3.0)]),
        metrics: BTreeMap::from([(
            "forming_ms".to_owned(),
            Summary::from_samples(&[1.5, 2.5, 1e-7]).expect("three samples"),
        )]),
    }
}

fn samples(operations: u64) -> impl Iterator<Item = Sample> {
    (0..operations).map(|n| {
        let intended_ns = n * 2_000_000;
        let latency_ns = 1_000_000 + n % 97 * 13_000 + if n % 50 == 0 { 40_000_000 } else { 0 };
        let outcome = match n % 40 {
            7 => Outcome::Fail,
            9 => Outcome::Unknown,
            _ => Outcome::Ok,
        };
        Sample {
            intended_ns,
            completed_ns: (n % 80 != 9).then_some(intended_ns + latency_ns),
            kind: Kind::ALL[(n % 3) as usize],
            outcome,
            client: 1 + n % 8,
            id: n,
            key: n % 10,
            node: Some(1 + n % 5),
        }
    })
}

fn recorder(operations: u64) -> Recorder {
    let mut recorder = Recorder::new();
    samples(operations).for_each(|sample| recorder.record(&sample));
    recorder
}

fn create(parent: &Path) -> RunFolder {
    RunFolder::create(parent, "leader-failover", 1_763_705_000, 7, 42)
        .expect("an empty parent has room for a run")
}

fn started() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_705_000_250)
}

#[test]
fn a_record_reads_back_as_it_was_written() {
    let parent = tempfile::tempdir().unwrap();
    let folder = create(parent.path());
    folder.write_record(&RunRecord { verdict: Verdict::Valid, ..record() }).unwrap();
    folder.write_record(&record()).unwrap();
    assert_eq!(folder.read_record().unwrap(), record());
    let latest = RunFolder::open(&parent.path().join("runs/latest")).unwrap();
    assert_eq!(latest.read_record().unwrap(), record());
    let expected = "runs/leader-failover/20251121T060320Z-0x0000000000000007-42";
    assert_eq!(folder.path(), parent.path().join(expected));
}

#[test]
fn a_record_that_is_not_one_is_refused_by_name_and_place() {
    let parent = tempfile::tempdir().unwrap();
    let folder = create(parent.path());
    let path = folder.path().join("run.json");
    let error = folder.read_record().unwrap_err().to_string();
    assert!(error.ends_with("is not a run folder: it has no run.json"), "{error}");

    folder.write_record(&record()).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("\"world\": \"process\",", "", "missing field `world`"),
        ("\"unknown\"", "\"perhaps\"", "unknown variant `perhaps`"),
        ("\"0xfedcba9876543210\"", "\"twelve\"", "seed \"twelve\" is not 0x"),
        ("\"0xfedcba9876543210\"", "12", "invalid type"),
        ("\"fault_at_ms\": 1000.25", "\"fault_at_ms\": \"soon\"", "invalid type"),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = folder.read_record().unwrap_err();
        assert!(matches!(error, Error::Malformed { line: 2.., .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.contains("run.json, line ") && error.contains(expected), "{error}");
    }
    // Cut anywhere, it is refused; only the line feed at the end may be missing.
    for length in (0..good.len() - 1).step_by(7).chain([good.len() - 2]) {
        fs::write(&path, &good.as_bytes()[..length]).unwrap();
        let error = folder.read_record().unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{length}: {error:?}");
    }
    fs::write(&path, b"\xff\xfe").unwrap();
    assert!(matches!(folder.read_record().unwrap_err(), Error::Io { .. }));
}

#[test]
fn a_record_of_another_version_is_refused_before_its_fields_are() {
    let parent = tempfile::tempdir().unwrap();
    let folder = create(parent.path());
    for (json, found) in [
        ("{\"schema_version\": 3}", "3"),
        ("{\"schema_version\": 0}", "0"),
        ("{\"schema_version\": \"2\"}", "\"2\""),
        ("{}", "null"),
    ] {
        fs::write(folder.path().join("run.json"), json).unwrap();
        let error = folder.read_record().unwrap_err().to_string();
        let expected = format!("has schema_version {found}, this program reads 1 to 2");
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[test]
fn an_older_record_is_read_and_keeps_its_version() {
    let parent = tempfile::tempdir().unwrap();
    let folder = create(parent.path());
    let older = RunRecord { schema_version: 1, ..record() };
    folder.write_record(&older).unwrap();
    let read = folder.read_record().unwrap();
    assert_eq!(read, older);
    assert!(!read.has_present_outages() && record().has_present_outages());
}

#[test]
fn a_record_larger_than_any_of_ours_is_not_read() {
    let parent = tempfile::tempdir().unwrap();
    let folder = create(parent.path());
    let file = fs::File::create(folder.path().join("run.json")).unwrap();
    file.set_len(1 << 30).unwrap();
    assert!(matches!(folder.read_record().unwrap_err(), Error::TooLarge { .. }));
}

#[test]
fn what_is_no_folder_does_not_open() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("run.json");
    fs::write(&file, "{}").unwrap();
    for path in [&file, &parent.path().join("absent")] {
        assert!(matches!(RunFolder::open(path).unwrap_err(), Error::NotARun { .. }));
    }
}

#[test]
fn latest_points_at_the_newest_and_no_name_is_used_twice() {
    let parent = tempfile::tempdir().unwrap();
    let latest = parent.path().join("runs/latest");
    let first = create(parent.path());
    let real = |path: &Path| fs::canonicalize(path).unwrap();
    assert_eq!(real(&latest), real(first.path()));
    let second = create(parent.path());
    assert_ne!(first, second);
    assert_eq!(real(&latest), real(second.path()));
    // A relative link: the folder can be moved as a whole.
    assert!(fs::read_link(&latest).unwrap().is_relative());
}

#[test]
fn harnesses_side_by_side_do_not_fail_each_other() {
    let parent = tempfile::tempdir().unwrap();
    let folders: Vec<RunFolder> = std::thread::scope(|scope| {
        let start = |pid: u32| {
            let parent = parent.path();
            let create = move || RunFolder::create(parent, "steady", 0, 1, pid % 4).unwrap();
            scope.spawn(move || (0..20).map(|_| create()).collect::<Vec<_>>())
        };
        let harnesses: Vec<_> = (0..8).map(start).collect();
        harnesses.into_iter().flat_map(|harness| harness.join().unwrap()).collect()
    });
    let mut paths: Vec<&Path> = folders.iter().map(RunFolder::path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 160);
    let latest = fs::canonicalize(parent.path().join("runs/latest")).unwrap();
    assert!(folders.iter().any(|folder| fs::canonicalize(folder.path()).unwrap() == latest));
    assert_eq!(fs::read_dir(parent.path().join("runs")).unwrap().count(), 2, "no temporary left");
}

#[test]
fn a_scenario_cannot_name_a_place_elsewhere() {
    let parent = tempfile::tempdir().unwrap();
    for name in ["../escape", "latest", ""] {
        let error = RunFolder::create(parent.path(), name, 0, 1, 2).unwrap_err();
        assert!(matches!(error, Error::Name { .. }), "{error:?}");
    }
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    let folder = create(parent.path());
    assert!(folder.node_log_path("../../x").is_err());
    fs::write(folder.node_log_path("3").unwrap(), "started\n").unwrap();
    assert!(folder.path().join("nodes/3.log").exists());
}

#[test]
fn history_is_there_as_soon_as_it_is_appended() {
    let parent = tempfile::tempdir().unwrap();
    let folder = create(parent.path());
    assert!(matches!(folder.open_history().unwrap_err(), Error::NotARun { .. }));
    let mut history = folder.create_history().unwrap();
    history.append(b"{\"id\":1}\n").unwrap();
    history.append(b"{\"id\":2}\n{\"id\":3}\n").unwrap();
    history.append(b"").unwrap();
    assert!(matches!(history.append(b"{\"id\":4}").unwrap_err(), Error::Line { .. }));
    let lines: Vec<String> = folder.open_history().unwrap().lines().map(Result::unwrap).collect();
    assert_eq!(lines, ["{\"id\":1}", "{\"id\":2}", "{\"id\":3}"]);
}

#[test]
fn events_read_back_as_far_as_they_were_written() {
    let parent = tempfile::tempdir().unwrap();
    let folder = create(parent.path());
    assert!(folder.read_events().unwrap().kept().is_empty(), "an older run left none");
    let mut log = folder.create_events().unwrap();
    let event =
        |node| Event { at_ns: 7, node, what: What::Became { role: "leader".into(), term: 1 } };
    log.append(event(1)).unwrap();
    log.append(event(2)).unwrap();
    assert_eq!(folder.read_events().unwrap(), *log.events());
    let path = folder.path().join("events.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 3]).unwrap();
    assert_eq!(folder.read_events().unwrap().kept(), [event(1)]);
    fs::write(&path, text.replace("\"node\":2", "\"node\":-2")).unwrap();
    let error = folder.read_events().unwrap_err().to_string();
    assert!(error.contains("events.jsonl, line 2") && error.contains("invalid value"), "{error}");
}

#[test]
fn the_csv_files_read_back() {
    let parent = tempfile::tempdir().unwrap();
    let folder = create(parent.path());
    let mut recorder = recorder(2_000);
    folder.write_series(&mut recorder, started()).unwrap();
    let path = folder.path().join("latency.csv");
    let header = fs::read_to_string(&path).unwrap();
    assert!(header.starts_with("second,kind,count,p50_ms,p90_ms,p99_ms,max_ms\n"), "{header}");
    let read = csv::Reader::from_path(&path).unwrap();
    let rows: Vec<LatencyRow> = read.into_deserialize().map(Result::unwrap).collect();
    assert_eq!(rows, recorder.latency_by_second());
    let first = &rows[0];
    assert_eq!((first.second, first.kind.as_str(), first.count), (0, "all", 474));
    assert!(first.p99_ms.is_some(), "474 operations");
    assert!(rows[1].p99_ms.is_none(), "fewer than 300 reads");
    assert_eq!(
        rows.iter().filter(|row| row.kind == "all").map(|row| row.count).sum::<u64>(),
        1_900
    );

    let read = csv::Reader::from_path(folder.path().join("throughput.csv")).unwrap();
    let rows: Vec<ThroughputRow> = read.into_deserialize().map(Result::unwrap).collect();
    assert_eq!(rows, recorder.throughput());
    assert!(rows.windows(2).all(|pair| pair[0].at_ms + 100 == pair[1].at_ms), "no gaps");
    let total = |count: fn(&ThroughputRow) -> u64| rows.iter().map(count).sum::<u64>();
    assert_eq!(
        [total(|r| r.offered), total(|r| r.ok), total(|r| r.fail), total(|r| r.unknown)],
        [2_000, 1_900, 50, 50]
    );
}

#[test]
fn lapses_read_back_and_are_a_file_only_where_there_are_any() {
    let parent = tempfile::tempdir().unwrap();
    let folder = create(parent.path());
    let path = folder.path().join("membership.csv");
    folder.write_lapses(&record()).unwrap();
    assert!(!path.exists());
    let lapse = |fault: &str, evict_ms, promote_ms| Lapse {
        fault: fault.to_owned(),
        node: 3,
        fault_at_ms: 1_000.25,
        evict_ms,
        promote_ms,
        ..Lapse::default()
    };
    let lapses = vec![lapse("kill", Some(3_010.5), None), lapse("wipe", None, Some(500.0))];
    folder.write_lapses(&RunRecord { lapses: lapses.clone(), ..record() }).unwrap();
    let read = csv::Reader::from_path(&path).unwrap();
    let rows: Vec<Lapse> = read.into_deserialize().map(Result::unwrap).collect();
    assert_eq!(rows, lapses);
}

#[test]
fn csv_files_of_an_empty_run_have_their_header() {
    let parent = tempfile::tempdir().unwrap();
    let folder = create(parent.path());
    folder.write_series(&mut Recorder::new(), started()).unwrap();
    let text = fs::read_to_string(folder.path().join("throughput.csv")).unwrap();
    assert_eq!(text, "at_ms,offered,ok,fail,unknown\n");
    let text = fs::read_to_string(folder.path().join("latency.csv")).unwrap();
    assert_eq!(text, "second,kind,count,p50_ms,p90_ms,p99_ms,max_ms\n");
}

#[test]
fn a_reader_never_finds_half_a_series_while_it_is_written_again_and_again() {
    let parent = tempfile::tempdir().unwrap();
    let folder = create(parent.path());
    let mut growing = Recorder::new();
    folder.write_series(&mut growing, started()).unwrap();
    let whole = recorder(2_000);
    let rows = || {
        let read = csv::Reader::from_path(folder.path().join("throughput.csv")).unwrap();
        read.into_deserialize::<ThroughputRow>().map(Result::unwrap).count()
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for sample in samples(2_000) {
                growing.record(&sample);
                if sample.intended_ns.is_multiple_of(40_000_000) {
                    folder.write_series(&mut growing, started()).unwrap();
                }
            }
            folder.write_series(&mut growing, started()).unwrap();
        });
        let mut rows_before = 0;
        while !writer.is_finished() {
            let rows = rows();
            assert!(rows >= rows_before, "{rows} rows after {rows_before}");
            rows_before = rows;
            let log = fs::read_to_string(folder.path().join("latency.hlog")).unwrap();
            assert!(log.ends_with('\n') && log.contains("\"StartTimestamp\""), "{log}");
        }
    });
    assert_eq!(rows(), whole.throughput().len());
    assert_eq!(growing.latency_by_second(), whole.latency_by_second());
    assert!(
        fs::read_dir(folder.path())
            .unwrap()
            .flatten()
            .all(|left| { !left.file_name().display().to_string().ends_with(".tmp") })
    );
}
