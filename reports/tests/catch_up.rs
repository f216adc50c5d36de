//! Followers that caught up, on the page, in the plot, in the table and in the files.

#![expect(clippy::unwrap_used, reason = "the helpers may fail the way the tests do")]

use reports::{
    CatchUp, CatchUpPoint, Environment, Events, Recorder, RunFolder, RunRecord, SCHEMA_VERSION,
    Seen, Summary, Verdict, render,
};
use std::collections::BTreeMap;
use std::fs;

/// Of each size five trials: of 100 entries about 300 ms, of 500 about 200 ms.
fn record() -> RunRecord {
    let caught = |trial: u64, batch_size: u64, took_ms: f64| CatchUp {
        trial,
        batch_size,
        fault: "kill".to_owned(),
        node: 3,
        since: "bond".to_owned(),
        catch_up_ms: Some(took_ms),
        entries: 50_000,
        bytes: 3_200_000,
        fetched: 49_000,
        chunks: 49_000 / batch_size,
        peers: 2,
        progress: vec![
            CatchUpPoint { at_ms: -5.0, applied: 10, fetched: Vec::new() },
            CatchUpPoint { at_ms: took_ms / 2.0, applied: 20_000, fetched: vec![(1, 15_000)] },
            CatchUpPoint {
                at_ms: took_ms,
                applied: 50_010,
                fetched: vec![(1, 25_000), (2, 24_000)],
            },
        ],
        ..CatchUp::default()
    };
    let round = |n: u64| {
        let more = 2.0 * n as f64;
        [caught(2 * n + 1, 100, 300.0 + more), caught(2 * n + 2, 500, 200.0 + more)]
    };
    let commits: Vec<f64> = (1..=400).map(f64::from).collect();
    RunRecord {
        schema_version: SCHEMA_VERSION,
        scenario: "lagging-follower".to_owned(),
        world: "process".to_owned(),
        transport: "QUIC".to_owned(),
        seed: 7,
        verdict: Verdict::Valid,
        plan: serde_json::json!({"nodes": 3, "profile": "lan", "kind": "lagging"}),
        command: None,
        environment: Environment {
            commit: "0123456789ab".to_owned(),
            build_profile: "release".to_owned(),
            rustc: "rustc 1.91.0".to_owned(),
            machine: "2 cores".to_owned(),
        },
        trace_hash: None,
        checks: Vec::new(),
        marks: Vec::new(),
        faults: Vec::new(),
        trials: Vec::new(),
        lapses: Vec::new(),
        catch_ups: (0..5).flat_map(round).collect(),
        counts: BTreeMap::new(),
        ratios: BTreeMap::new(),
        metrics: BTreeMap::from([
            ("batch_500_commit_before_ms".to_owned(), Summary::from_samples(&commits).unwrap()),
            ("batch_500_commit_during_ms".to_owned(), Summary::from_samples(&[7.0]).unwrap()),
            ("catch_up_ms".to_owned(), Summary::from_samples(&[200.0, 300.0]).unwrap()),
        ]),
    }
}

/// The folder of such a run, drawn.
fn drawn(record: &RunRecord) -> (tempfile::TempDir, RunFolder) {
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(parent.path(), "lagging-follower", 0, 7, 2).unwrap();
    let (recorder, events) = (Recorder::new(), Events::default());
    folder.write_catch_ups(record).unwrap();
    folder.write_plots(record, &recorder).unwrap();
    let (recorder, events) = (&recorder, &events);
    let seen = Seen { record, recorder, events, plan_in_words: "", timeouts: None, limits: &[] };
    folder.write_page(&seen).unwrap();
    (parent, folder)
}

fn read(folder: &RunFolder, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).unwrap()
}

#[test]
fn the_sizes_stand_in_one_table_and_the_best_is_named() {
    let text = render(&record(), None, false);
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    let row = ["100", "5", "304.0", "300.0", "308.0", "164474", "10.53", "2", "100", "0", "-", "-"];
    assert!(rows.contains(&row.to_vec()), "{text}");
    let row = rows.iter().find(|row| row.first() == Some(&"500")).unwrap();
    assert_eq!(row[2..5], ["204.0", "200.0", "208.0"], "{text}");
    // Of 400 commits there is a p99, of one there is none.
    assert!(row[10..].join(" ").starts_with("p99 396 ms max 7.00 ms of 1"), "{text}");
    assert!(text.contains("Batch size 500 is the fastest"), "{text}");
    assert!(text.contains("more than noise (two-sided Mann-Whitney"), "{text}");
    assert!(!text.contains("batch_500"), "it has its section already: {text}");
}

#[test]
fn the_page_has_the_sizes_their_trials_and_who_gave_what() {
    let (_parent, folder) = drawn(&record());
    let page = read(&folder, "index.html");
    for words in [
        "<h2>Catching up</h2>",
        "Batch size 500 is the fastest",
        "p50 204 ms",
        "from node 1",
        "from node 2",
        "chunks of 500 entries, trial 6",
        "first bond after its return",
        "catch-up, p50",
    ] {
        assert!(page.contains(words), "{words:?} is not on the page");
    }
    assert!(!page.contains("NaN") && !page.contains("batch_500"));
    let mut none = record();
    none.catch_ups.clear();
    let (_parent, folder) = drawn(&none);
    assert!(!read(&folder, "index.html").contains("Catching up"));
    assert!(!folder.path().join("catch-up.csv").exists());
    assert!(!folder.path().join("catch-up.svg").exists(), "there is nothing to draw");
    assert!(read(&folder, "index.html").contains("no trial came to its end before the run did"));
}

#[test]
fn what_never_came_to_an_end_is_drawn_as_far_as_it_came() {
    let mut record = record();
    record.catch_ups.iter_mut().for_each(|caught| {
        (caught.catch_up_ms, caught.since) = (None, "return".to_owned());
        caught.progress.clear();
    });
    let (_parent, folder) = drawn(&record);
    let page = read(&folder, "index.html");
    assert!(page.contains("0 of 5") && page.contains("time counts from its return"), "{page}");
    let why = "No catch-up is drawn: none came to its end in 10 trials.";
    assert!(page.contains(why) && !page.contains("NaN"), "{page}");
    assert!(!page.contains("Nothing was fetched in bulk"), "of each 49,000 entries were");
    assert!(!folder.path().join("catch-up.svg").exists(), "there would be nothing but an axis");
    assert!(render(&record, None, false).contains("0/5"));
}

#[test]
fn a_size_of_which_none_came_to_its_end_has_words_in_place_of_times() {
    let mut record = record();
    let of_100 = record.catch_ups.iter_mut().filter(|caught| caught.batch_size == 100);
    of_100.for_each(|caught| caught.catch_up_ms = None);
    let (_parent, folder) = drawn(&record);
    for name in ["index.html", "catch-up.svg"] {
        let text = read(&folder, name);
        assert!(text.contains("none came to its end in 5 trials"), "not in {name}");
        assert!(text.contains("p50 204 ms"), "the others have theirs in {name}");
    }
}

#[test]
fn where_nothing_was_fetched_no_size_is_shown_as_the_best() {
    let mut record = record();
    let marks = ["<strong>500</strong>", "f-ok box"];
    let shown = |record: &RunRecord| {
        let (_parent, folder) = drawn(record);
        let page = read(&folder, "index.html");
        marks.map(|mark| page.contains(mark))
    };
    assert_eq!(shown(&record), [true, true]);
    record.catch_ups.iter_mut().for_each(|caught| {
        (caught.fetched, caught.chunks, caught.peers) = (0, 0, 0);
        caught.progress.clear();
    });
    assert_eq!(shown(&record), [false, false]);
}

#[test]
fn the_plot_is_whole_and_takes_the_place_of_the_outage() {
    let (_parent, folder) = drawn(&record());
    let svg = read(&folder, "catch-up.svg");
    for words in ["Batch size 500 is the fastest", "p50 204 ms", "from node 2"] {
        assert!(svg.contains(words), "{words:?} is not in the plot");
    }
    for name in ["catch-up.png", "catch-up-dark.png"] {
        let png = fs::read(folder.path().join(name)).unwrap();
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(&png[png.len() - 8..png.len() - 4], b"IEND");
    }
    assert!(!folder.path().join("outage.svg").exists());
}

#[test]
fn the_files_have_a_row_for_each_trial_and_for_each_source() {
    let (_parent, folder) = drawn(&record());
    let rows = |name: &str| -> Vec<BTreeMap<String, String>> {
        let read = csv::Reader::from_path(folder.path().join(name)).unwrap();
        read.into_deserialize().map(Result::unwrap).collect()
    };
    let trials = rows("catch-up.csv");
    assert_eq!(trials.len(), 10);
    assert_eq!((&*trials[1]["batch_size"], &*trials[1]["catch_up_ms"]), ("500", "200.0"));
    assert_eq!((&*trials[1]["entries_per_s"], &*trials[1]["mb_per_s"]), ("250000.0", "16.0"));
    let progress = rows("catch-up-progress.csv");
    // Nobody, one, two.
    assert_eq!(progress.len(), 10 * 4);
    assert_eq!((&*progress[0]["from"], &*progress[3]["from"]), ("", "2"));
    assert_eq!(progress[3]["fetched"], "24000");
    // All of it stands in run.json as well.
    folder.write_record(&record()).unwrap();
    assert_eq!(folder.read_record().unwrap(), record());
}
