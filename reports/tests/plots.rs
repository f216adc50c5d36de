//! The plots of all sorts of runs: none fails, each is whole, and an SVG serves both themes.

#![expect(clippy::unwrap_used, reason = "the helper may fail the way its tests do")]

use reports::{
    Environment, Kind, Mark, Outcome, Recorder, RunFolder, RunRecord, SCHEMA_VERSION, Sample,
    Trial, Verdict,
};
use std::collections::BTreeMap;
use std::fs;

fn record(build_profile: &str, trials: Vec<Trial>) -> RunRecord {
    RunRecord {
        schema_version: SCHEMA_VERSION,
        scenario: "leader-failover".to_owned(),
        world: "process".to_owned(),
        transport: "QUIC".to_owned(),
        seed: 7,
        verdict: Verdict::Valid,
        plan: serde_json::json!({"nodes": 5, "profile": "lan"}),
        environment: Environment {
            commit: "0123456789abcdef".to_owned(),
            build_profile: build_profile.to_owned(),
            rustc: String::new(),
            machine: String::new(),
        },
        command: None,
        trace_hash: None,
        checks: Vec::new(),
        marks: Vec::new(),
        faults: Vec::new(),
        trials,
        lapses: Vec::new(),
        catch_ups: Vec::new(),
        counts: BTreeMap::new(),
        ratios: BTreeMap::new(),
        metrics: BTreeMap::new(),
    }
}

fn trial(fault: &str, fault_at_ms: f64, outage_ms: f64) -> Trial {
    Trial {
        fault: fault.to_owned(),
        fault_at_ms,
        outage_ms: Some(outage_ms),
        detect_ms: Some(outage_ms / 2.0),
        elect_ms: Some(outage_ms / 4.0),
        commit_ms: Some(1.0),
        client_ms: Some(outage_ms / 4.0 - 1.0),
        ..Trial::default()
    }
}

fn recorder(operations: u64) -> Recorder {
    let mut recorder = Recorder::new();
    for n in 0..operations {
        let intended_ns = n * 2_000_000;
        // One slow operation, which thinning must not lose.
        let latency_ns = if n == 777 { 9_000_000_000 } else { 900_000 + n * 7_919 % 4_000_000 };
        let outcome = if n % 500 == 3 { Outcome::Unknown } else { Outcome::Ok };
        recorder.record(&Sample {
            intended_ns,
            completed_ns: (n % 1_000 != 3).then_some(intended_ns + latency_ns),
            kind: Kind::ALL[(n % 3) as usize],
            outcome,
            client: 1 + n % 8,
            id: n,
            key: n % 10,
            node: Some(1 + n % 5),
        });
    }
    recorder
}

/// Draws a run that has something to show; checks that all six files are whole; returns the SVGs,
/// latency first.
fn draw(record: &RunRecord, recorder: &Recorder) -> [String; 2] {
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(parent.path(), "plots", 0, 1, 2).unwrap();
    folder.write_plots(record, recorder).unwrap();
    let read = |name: String| fs::read(folder.path().join(name)).unwrap();
    for name in ["latency", "outage"] {
        let images = ["", "-dark"].map(|suffix| read(format!("{name}{suffix}.png")));
        for png in &images {
            assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
            assert_eq!(&png[png.len() - 8..png.len() - 4], b"IEND");
            assert_eq!(png[16..20], 2_400_u32.to_be_bytes(), "width");
        }
        assert_ne!(images[0], images[1], "light and dark");
    }
    // Six images and the folder of the nodes; no temporary file stays behind.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 7);
    ["latency.svg", "outage.svg"].map(|name| String::from_utf8(read(name.to_owned())).unwrap())
}

#[test]
fn what_would_be_empty_is_not_drawn_and_an_earlier_drawing_of_it_goes() {
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(parent.path(), "plots", 0, 1, 2).unwrap();
    let drawn = |trials, operations| -> Vec<String> {
        folder.write_plots(&record("release", trials), &recorder(operations)).unwrap();
        let entries = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        let mut names: Vec<String> =
            files.map(|file| file.file_name().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let latency = ["latency-dark.png", "latency.png", "latency.svg"];
    let outage = ["outage-dark.png", "outage.png", "outage.svg"];
    let failover = drawn(vec![trial("kill", 500.0, 233.0)], 10);
    assert_eq!(failover, [latency, outage].concat());
    assert_eq!(drawn(Vec::new(), 10), latency, "load alone");
    assert_eq!(drawn(vec![trial("kill", 500.0, 233.0)], 0), outage);
    let unmeasured = Trial { outage_ms: None, ..trial("kill", 500.0, 233.0) };
    assert_eq!(drawn(vec![unmeasured], 10), latency, "nothing was measured");
    assert!(drawn(Vec::new(), 0).is_empty(), "groups that form");
}

#[test]
fn a_single_trial_carries_all_three_names() {
    let trials = vec![trial("kill", 500.0, 233.0)];
    let [latency, outage] = draw(&record("release", trials), &recorder(1_000));
    assert!(outage.contains("p50, p90, max 233 ms"));
    assert!(outage.contains("kill: 1 trial, p50 233, p90 233, max 233 ms"));
    assert!(latency.contains("kill n0"));
    assert!(!latency.contains("not a measurement"));
}

#[test]
fn many_operations_are_thinned_and_the_slowest_stays() {
    let trials = (0..400).map(|n| trial("pause", f64::from(n) * 300.0, 150.0 + f64::from(n)));
    let [latency, outage] = draw(&record("release", trials.collect()), &recorder(60_000));
    let dots: Vec<&str> = latency.lines().filter(|line| line.starts_with("<circle")).collect();
    assert!((500..=5_010).contains(&dots.len()), "{}", dots.len());
    assert!(latency.contains("60000 operations; the slowest of each cell drawn"));
    // 9 s is the highest of the `ok` dots, so it has the smallest y of them.
    let y = |dot: &&str| {
        let text = dot.split("cy=\"").nth(1).unwrap().split('"').next().unwrap();
        text.parse::<i32>().unwrap()
    };
    let mut heights: Vec<i32> =
        dots.iter().filter(|dot| dot.contains("f-ok") && dot.contains("opacity")).map(y).collect();
    heights.sort_unstable();
    assert!(heights[1] - heights[0] > 100, "9 s stands far above the rest: {:?}", &heights[..3]);
    assert!(outage.contains("the slowest 300 trials"));
}

#[test]
fn every_colour_of_an_svg_has_a_dark_counterpart() {
    let trials = vec![
        trial("kill", 500.0, 233.0),
        trial("pause", 900.0, 90.0),
        Trial { fault: "isolate".to_owned(), outage_ms: Some(9.0), ..Trial::default() },
    ];
    for svg in draw(&record("debug", trials), &recorder(2_000)) {
        let (sheet, shapes) = svg.split_once("</style>").unwrap();
        assert!(sheet.contains("@media (prefers-color-scheme:dark){"));
        assert_eq!(sheet.matches('{').count(), sheet.matches('}').count());
        let colors = shapes.matches("fill=\"#").count() + shapes.matches("stroke=\"#").count();
        assert!(colors > 20);
        assert_eq!(shapes.matches("class=\"").count(), colors);
        for class in shapes.split("class=\"").skip(1) {
            let class = class.split('"').next().unwrap();
            assert!(sheet.contains(&format!(".{class}{{")), "{class}");
        }
    }
}

#[test]
fn a_debug_build_carries_its_banner_in_both_plots() {
    let trials = vec![trial("kill", 500.0, 233.0)];
    for svg in draw(&record("debug", trials), &recorder(100)) {
        assert!(svg.contains("debug build: not a measurement"));
        assert!(svg.contains("5 nodes") && svg.contains("profile lan") && svg.contains("seed 0x7"));
    }
}

#[test]
fn hostile_names_and_numbers_are_drawn_harmlessly() {
    let hostile = "</text><script>alert(1)</script>".repeat(50);
    let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300, 0.0];
    let mut trials = Vec::new();
    for at_ms in numbers {
        for ms in numbers {
            trials.push(Trial {
                fault: hostile.clone(),
                node: u64::MAX,
                fault_at_ms: at_ms,
                outage_ms: Some(ms),
                detect_ms: Some(ms),
                client_ms: Some(at_ms),
                ..Trial::default()
            });
        }
    }
    let mut record = record(&hostile, trials);
    record.scenario.clone_from(&hostile);
    record.plan = serde_json::json!(["no", "plan"]);
    for at_ms in numbers {
        record.marks.push(Mark {
            at_ms,
            kind: hostile.clone(),
            node: None,
            nodes: Vec::new(),
            detail: hostile.clone(),
            until_ms: Some(at_ms * 2.0),
        });
    }
    for svg in draw(&record, &recorder(100)) {
        assert!(!svg.contains("<script"));
        assert!(!svg.contains("NaN"));
    }
}
