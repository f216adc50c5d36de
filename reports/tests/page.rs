//! The page and the trace of all sorts of runs: whole, harmless and of a size that opens at once.

#![expect(clippy::unwrap_used, reason = "the helpers may fail the way the tests do")]

use reports::{
    Check, Environment, Event, Events, Fault, Kind, Lapse, Mark, Outcome, Queues, Recorder,
    RunFolder, RunRecord, SCHEMA_VERSION, Sample, Seen, Summary, Trial, Verdict, What, render,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const NODES: u64 = 5;
const MS: u64 = 1_000_000;

fn record(kind: &str) -> RunRecord {
    RunRecord {
        schema_version: SCHEMA_VERSION,
        scenario: "leader-failover".to_owned(),
        world: "process".to_owned(),
        transport: "QUIC".to_owned(),
        seed: 7,
        verdict: Verdict::Valid,
        plan: serde_json::json!({"nodes": NODES, "profile": "lan", "kind": kind}),
        command: Some("cargo run -p scenarios -- leader-failover --seed 7".to_owned()),
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
        catch_ups: Vec::new(),
        counts: BTreeMap::new(),
        ratios: BTreeMap::new(),
        metrics: BTreeMap::new(),
    }
}

fn event(at_ms: u64, node: u64, what: What) -> Event {
    Event { at_ns: at_ms * MS, node, what }
}

fn became(at_ms: u64, node: u64, role: &str, term: u64) -> Event {
    event(at_ms, node, What::Became { role: role.to_owned(), term })
}

/// A sample of a node that holds so much of everything.
fn usage(resident_kb: u64, held: u64) -> What {
    let depth = Some(held);
    let queues = Queues {
        calls: depth,
        storage_backlog_kb: depth,
        held_messages: depth,
        mailbox_calls: depth,
        bond_events: depth,
        applier_batches: depth,
        lane_control_kb: depth,
        lane_append_kb: depth,
        lane_client_kb: depth,
        lane_bulk_kb: depth,
    };
    What::Usage { resident_kb, log_kb: held, cpu_ms: held, queues }
}

/// A run of so many seconds at so many operations per second, in which the leader is killed every
/// six seconds.
struct Run {
    record: RunRecord,
    recorder: Recorder,
    events: Events,
}

impl Run {
    fn of(seconds: u64, rate_per_s: u64) -> Self {
        let mut run = Self {
            record: record("failover"),
            recorder: Recorder::new(),
            events: Events::default(),
        };
        for node in 1..=NODES {
            run.events.push(became(0, node, "follower", 0));
        }
        run.events.push(became(100, 1, "leader", 1));
        let kills: Vec<u64> = (0..seconds / 6).map(|n| 2_000 + n * 6_000).collect();
        for (term, at_ms) in (1..).zip(&kills) {
            run.kill(term, *at_ms);
        }
        for n in 0..seconds * rate_per_s {
            let due_ns = n * 1_000 * MS / rate_per_s;
            let due_ms = due_ns / MS;
            let outage = kills.iter().find(|at_ms| (**at_ms..**at_ms + 180).contains(&due_ms));
            let latency_ns = 1_500_000 + n % 97 * 13_000 + n % 4_003 * 2_000;
            let waited_ns = outage.map_or(due_ns, |at_ms| (at_ms + 181) * MS);
            let done_ns = waited_ns + latency_ns;
            let outcome = if n % 20_011 == 7 { Outcome::Unknown } else { Outcome::Ok };
            run.recorder.record(&Sample {
                intended_ns: due_ns,
                completed_ns: (outcome == Outcome::Ok).then_some(done_ns),
                kind: Kind::ALL[(n % 3) as usize],
                outcome,
                client: 1 + n % 8,
                id: n,
                key: n % 10,
                node: Some(1 + n % NODES),
            });
        }
        run.recorder.fill(&mut run.record);
        let outages = run.record.trials.iter().filter_map(|trial| trial.outage_ms);
        if let Some(outages) = Summary::from_samples(&outages.collect::<Vec<_>>()) {
            run.record.metrics.insert("outage_ms".to_owned(), outages);
        }
        run
    }

    /// The leader of `term` dies and the next node takes over.
    fn kill(&mut self, term: u64, at_ms: u64) {
        let [old, new] = [(term - 1) % NODES + 1, term % NODES + 1];
        self.record.faults.push(Fault {
            trial: term,
            fault: "kill".to_owned(),
            disk: None,
            node: old,
            nodes: vec![old],
            struck_ms: at_ms as f64,
            returned_ms: Some(at_ms as f64 + 1_000.0),
        });
        self.record.trials.push(Trial {
            fault: "kill".to_owned(),
            node: old,
            fault_at_ms: at_ms as f64,
            term_before: Some(term),
            term_after: Some(term + 1),
            leader_after: Some(new),
            outage_ms: Some(180.0 + (term % 40) as f64),
            detect_ms: Some(150.0),
            elect_ms: Some(20.0),
            commit_ms: Some(5.0),
            client_ms: Some(5.0 + (term % 40) as f64),
            ..Trial::default()
        });
        for node in (1..=NODES).filter(|node| *node != old) {
            self.events.push(event(at_ms + 2, node, What::Unbonded { with: old }));
            self.events.push(event(at_ms + 1_020, node, What::Bonded { with: old }));
        }
        let campaign = What::Campaign { term: term + 1, pre_vote: false };
        self.events.push(event(at_ms + 151, new, campaign));
        self.events.push(became(at_ms + 151, new, "candidate", term + 1));
        self.events.push(became(at_ms + 170, new, "leader", term + 1));
        self.events.push(became(at_ms + 1_010, old, "follower", term));
        self.events.push(became(at_ms + 1_030, old, "follower", term + 1));
    }

    fn seen(&self) -> Seen<'_> {
        let Self { record, recorder, events } = self;
        let plan_in_words = "leader-failover\n  5 nodes\n";
        let timeouts = Some("timeouts of lan: heartbeats every 50 ms");
        Seen { record, recorder, events, plan_in_words, timeouts, limits: &[] }
    }
}

/// Page and trace as they stand in a folder.
fn drawn(seen: &Seen<'_>) -> (String, String) {
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(parent.path(), "x", 1_763_705_000, 7, 42).unwrap();
    folder.write_record(seen.record).unwrap();
    folder.write_trace(seen).unwrap();
    folder.write_page(seen).unwrap();
    let page = folder.page().expect("it was written");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    (fs::read_to_string(page).unwrap(), read("trace.json"))
}

fn page(run: &Run) -> String {
    drawn(&run.seen()).0
}

#[test]
fn ten_minutes_at_a_thousand_per_second_give_a_page_of_less_than_three_megabytes() {
    let mut run = Run::of(600, 1_000);
    // What grows with the length of a run: stalls, samples of memory, bonds that flap.
    for n in 0..6_000 {
        let from_ns = n * 100 * MS;
        run.events.push(event(n * 100 + 25, n % NODES + 1, What::Stall { from_ns }));
        run.events.push(event(n * 100, n % NODES + 1, usage(20_000 + n, n)));
    }
    let (page, trace) = drawn(&run.seen());
    assert_eq!(run.recorder.points().len(), 600_000);
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(trace.len() < 20_000_000, "{} bytes", trace.len());
    assert!(page.contains("Resident memory, a line for each node"));
    assert!(page.contains("id=\"queues\"") && page.contains("messages held back"));
    assert!(page.contains("append lanes, kB") && trace.contains("\"append lanes\":"));
    assert!(page.contains("600\u{202f}000 operations, the slowest of each cell drawn"));
    assert!(page.matches("kill of node").count() >= 100, "every fault has its band");
}

#[test]
fn a_page_says_what_the_run_was_and_what_came_of_it() {
    let mut run = Run::of(30, 200);
    let check = |name: &str, verdict| Check {
        name: name.to_owned(),
        verdict,
        detail: format!("detail of {name}"),
    };
    run.record.checks =
        vec![check("linearizable", Verdict::Valid), check("availability", Verdict::Invalid)];
    run.record.verdict = Verdict::Invalid;
    let page = page(&run);
    for words in [
        "<title>leader-failover: invalid</title>",
        "Broken: availability.",
        "2025-11-21 06:03:20 UTC",
        "How long clients could not write",
        "Behind it stand the timeouts of lan: heartbeats every 50 ms.",
        "Latency from the intended start",
        "Operations per second",
        "Nodes: role and term",
        "leader in term 2: 2.170 s to 8.000 s",
        "Latency by percentile",
        "Slowest operations",
        "node 2 leads term 2",
        "Every fault and what it cost",
        "cargo run -p scenarios -- leader-failover --seed 7",
        "Environment and limits",
        "5 trials: too few for a p99",
        "<a href=\"run.json\">run.json</a>",
        "<a href=\"trace.json\">trace.json</a>",
    ] {
        assert!(page.contains(words), "{words:?}");
    }
    let [broken, held] = ["detail of availability", "detail of linearizable"]
        .map(|detail| page.find(detail).expect("both are told"));
    assert!(broken < held, "what broke comes first");
    assert!(!page.contains("not a measurement"));
}

#[test]
fn a_page_asks_for_nothing_from_elsewhere() {
    let page = page(&Run::of(12, 100));
    for words in ["http:", "https:", "src=", "url(", "@import", "<link", "<img", "<iframe"] {
        assert!(!page.contains(words), "{words}");
    }
    assert!(page.contains("default-src 'none'"));
    assert_eq!(page.matches("<script").count(), 1, "its own, a convenience");
}

#[test]
fn whatever_a_run_contains_is_words_and_no_markup() {
    let evil = "<script>alert(1)</script>\" onload=\"x' & </title></style></svg>\u{1b}[2J";
    let mut run = Run::of(12, 100);
    let record = &mut run.record;
    record.scenario = evil.to_owned();
    record.world = evil.to_owned();
    record.transport = evil.to_owned();
    record.plan = serde_json::json!({"nodes": 3, "profile": evil, "about": evil, evil: evil});
    record.command = Some(evil.to_owned());
    let environment = &mut record.environment;
    for field in [
        &mut environment.commit,
        &mut environment.build_profile,
        &mut environment.rustc,
        &mut environment.machine,
    ] {
        *field = evil.to_owned();
    }
    record.trace_hash = Some(evil.to_owned());
    let (name, detail) = (evil.to_owned(), evil.to_owned());
    record.checks = vec![Check { name, verdict: Verdict::Unknown, detail }];
    for fault in &mut record.faults {
        fault.fault = evil.to_owned();
    }
    record.trials[0].fault = evil.to_owned();
    record.counts.insert(evil.to_owned(), 1);
    let summary = Summary::from_samples(&[1.0]).unwrap();
    record.metrics.insert(evil.to_owned(), summary);
    for what in [
        What::Became { role: evil.to_owned(), term: 3 },
        What::Note { text: evil.to_owned() },
        What::Died { reason: evil.to_owned() },
    ] {
        run.events.push(event(3_000, 3, what));
    }
    let seen = Seen { plan_in_words: evil, timeouts: Some(evil), ..run.seen() };
    let (page, trace) = drawn(&seen);
    assert!(page.contains("&lt;script&gt;alert(1)"), "it is shown");
    for markup in ["<script>alert", "</svg>\u{1b}", "\" onload=\"", "</style></svg>"] {
        assert!(!page.contains(markup), "{markup:?}");
    }
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(serde_json::from_str::<serde_json::Value>(&trace).is_ok());
}

#[test]
fn a_run_that_had_only_begun_has_a_page_and_a_trace() {
    let mut run =
        Run { record: record("steady"), recorder: Recorder::new(), events: Events::default() };
    run.record.verdict = Verdict::Unknown;
    run.record.checks = vec![Check {
        name: "finished".to_owned(),
        verdict: Verdict::Unknown,
        detail: "its harness was killed".to_owned(),
    }];
    let (page, trace) = drawn(&run.seen());
    for words in [
        "Not decided: finished.",
        "No node said anything of its role.",
        "did not come to its end",
        "The run left no events.jsonl",
    ] {
        assert!(page.contains(words), "{words:?}");
    }
    for section in ["id=\"outage\"", "id=\"percentiles\"", "id=\"slowest\"", "id=\"trials\""] {
        assert!(!page.contains(section), "{section} has nothing to show");
    }
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    assert_eq!(trace["otherData"]["verdict"], "unknown");
}

#[test]
fn groups_that_form_have_a_distribution_and_lanes_of_their_own() {
    let mut run =
        Run { record: record("formation"), recorder: Recorder::new(), events: Events::default() };
    for n in 0..3_u64 {
        let at_ms = n * 1_000;
        run.record.marks.push(Mark {
            at_ms: at_ms as f64,
            kind: "forming".to_owned(),
            node: None,
            nodes: Vec::new(),
            detail: format!("group {}", n + 1),
            until_ms: Some((at_ms + 200 + n * 10) as f64),
        });
        run.events.push(became(at_ms + 150, 1, "leader", 1));
    }
    let page = page(&run);
    assert!(page.contains("a plan of kind formation has no clients"), "so there is no latency");
    assert!(page.contains("a plan of kind formation has neither faults nor clients"));
    for empty in ["id=\"outage\"", "Operations per second", "Latency from the intended start"] {
        assert!(!page.contains(empty), "{empty} has nothing to show");
    }
    assert!(page.contains("from the start of the first node to a leader"));
    assert!(page.contains("p50 210 ms"), "the middle one of three");
    assert_eq!(page.matches("leader in term 1:").count(), 3);
    assert!(page.contains("leader in term 1: 0.150 s to 1.000 s"), "until the next group begins");
}

#[test]
fn load_alone_shows_no_outage_and_says_why() {
    let mut run = Run::of(5, 100);
    assert!(run.record.trials.is_empty(), "nobody was killed so early");
    run.record.plan = record("steady").plan;
    let steady = page(&run);
    assert!(steady.contains("a plan of kind steady is load alone"), "{steady}");
    assert!(steady.contains("Operations per second"));
    assert!(!steady.contains("id=\"outage\""), "it has nothing to show");
    // Faults after which nothing was measured have no curve, either.
    let mut run = Run::of(12, 100);
    assert!(page(&run).contains("id=\"outage\""));
    run.record.trials.iter_mut().for_each(|trial| trial.outage_ms = None);
    let unmeasured = page(&run);
    assert!(unmeasured.contains("No outage is shown: none was measured after 2 faults."));
    assert!(!unmeasured.contains("id=\"outage\""), "it has nothing to show");
    assert!(unmeasured.contains("Every fault and what it cost"), "the table stays");
}

#[test]
fn what_was_not_answered_is_told_beside_every_latency() {
    let mut run = Run::of(5, 200);
    // One of a thousand was not answered. Another half as many are due, and nobody answers.
    assert!(page(&run).contains("0.10 % not answered ok</span>"));
    for n in 0..500 {
        run.recorder.record(&Sample {
            intended_ns: n * 10 * MS,
            completed_ns: None,
            kind: Kind::Write,
            outcome: Outcome::Unknown,
            client: 1,
            id: 10_000 + n,
            key: 1,
            node: None,
        });
    }
    run.recorder.fill(&mut run.record);
    // The terminal ranks the same and calls it the same.
    let table = render(&run.record, None, false);
    let row = table.lines().find(|line| line.contains("of all due, 33.4 % not answered ok"));
    let p50 = row.unwrap().split_whitespace().nth(10).unwrap();
    let page = page(&run);
    let tile = format!("<dt>latency of all due, p50</dt><dd><strong>{p50} ms</strong>");
    assert!(page.contains(&tile), "{tile}: {table}");
    for words in [
        "<span>p99 not answered, 33.4 % not answered ok</span>",
        "<strong>33.4 % not answered ok, of 1\u{202f}500 due.</strong>",
        "<th>write, ok</th>",
        "<th>write, due</th>",
        "percentile of all that were due",
        "p50 of ok in ",
    ] {
        assert!(page.contains(words), "{words:?}");
    }
    assert!(page.contains("<th>read</th>") && !page.contains("<th>read, due</th>"), "reads were");
}

#[test]
fn trials_without_recovery_are_told_beside_the_outage() {
    let mut run = Run::of(30, 200);
    assert!(page(&run).contains("of 5 trials</span>"));
    run.record.counts.insert("trials_without_recovery".to_owned(), 2);
    assert!(page(&run).contains("of 5 trials (+2 without recovery)</span>"));
    run.record.metrics.remove("outage_ms");
    assert!(page(&run).contains("none of 2 trials recovered"));
}

#[test]
fn members_that_come_and_go_have_distributions_of_their_own() {
    let mut run = Run::of(30, 200);
    assert!(!page(&run).contains("Membership"), "all stayed members");
    let lapse = |fault: &str, leave_ms, evict_ms| Lapse {
        fault: fault.to_owned(),
        node: 1,
        leave_ms,
        evict_ms,
        join_ms: Some(40.0),
        promote_ms: Some(f64::NAN),
        ..Lapse::default()
    };
    run.record.lapses = vec![lapse("leave", Some(10.0), None), lapse("kill", None, Some(3_210.0))];
    let summary = Summary::from_samples(&[40.0]).unwrap();
    run.record.metrics.insert("join_ms".to_owned(), summary);
    let page = page(&run);
    for words in
        ["<h2>Membership</h2>", "leave", "evict", "3\u{202f}210 ms", "from the node's return"]
    {
        assert!(page.contains(words), "{words:?} is not on the page");
    }
    assert!(!page.contains("NaN") && !page.contains("promote"), "it was not measured");
    assert!(!page.contains("join_ms"), "it has its section already");
}

#[test]
fn times_that_are_no_numbers_are_drawn_nowhere() {
    let mut run = Run::of(12, 100);
    for ms in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
        run.record.faults[0].struck_ms = ms;
        run.record.faults[1].returned_ms = Some(ms);
        run.record.trials[0].fault_at_ms = ms;
        run.record.trials[0].detect_ms = Some(ms);
        run.record.trials[1].outage_ms = Some(ms);
        run.record.marks = vec![Mark {
            at_ms: ms,
            kind: "forming".to_owned(),
            node: Some(1),
            nodes: Vec::new(),
            detail: String::new(),
            until_ms: Some(ms),
        }];
        let (page, trace) = drawn(&run.seen());
        let shapes = page.split("<svg").skip(1).collect::<String>();
        assert!(!shapes.contains("\"NaN") && !shapes.contains("\"inf"), "{ms}");
        assert!(serde_json::from_str::<serde_json::Value>(&trace).is_ok(), "{ms}");
    }
}

#[test]
fn a_trace_is_what_its_viewers_ask_for() {
    let mut run = Run::of(60, 200);
    run.events.push(event(9_000, 4, What::Stall { from_ns: 8_900 * MS }));
    run.events.push(event(9_000, 4, usage(20_000, 3)));
    let trace: serde_json::Value = serde_json::from_str(&drawn(&run.seen()).1).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let (mut last_us, mut open) = (0.0, BTreeMap::new());
    let mut kinds = BTreeSet::new();
    for event in events {
        let phase = event["ph"].as_str().unwrap();
        kinds.insert(phase);
        for field in ["name", "pid", "tid", "ts"] {
            assert!(!event[field].is_null(), "{field} of {event}");
        }
        let at_us = event["ts"].as_f64().unwrap();
        assert!((0.0..=70e6).contains(&at_us), "within the run: {event}");
        assert!(phase == "M" || at_us >= last_us, "in order: {event}");
        last_us = last_us.max(at_us);
        match phase {
            "X" => assert!(event["dur"].as_f64().unwrap() >= 0.0, "{event}"),
            "b" => assert!(open.insert(event["id"].to_string(), at_us).is_none(), "{event}"),
            "e" => assert!(open.remove(&event["id"].to_string()).unwrap() <= at_us, "{event}"),
            "C" => assert!(event["args"].as_object().unwrap().values().all(|v| v.is_number())),
            _ => {}
        }
    }
    assert!(open.is_empty(), "every span that begins ends");
    assert_eq!(Vec::from_iter(kinds), ["C", "M", "X", "b", "e", "i"]);

    let tracks = |event: &&serde_json::Value| event["name"] == "thread_name";
    let tids: Vec<u64> =
        events.iter().filter(tracks).map(|event| event["tid"].as_u64().unwrap()).collect();
    assert_eq!(tids.iter().collect::<BTreeSet<_>>().len(), tids.len(), "no two tracks are one");

    // A track for each node, complete also where the node was killed.
    let of = |pid: u64, phase: &str| {
        let found = events.iter().filter(|event| event["pid"] == pid && event["ph"] == phase);
        found.map(|event| event["name"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of(1, "X")[..4], ["follower, term 0", "leader, term 1", "down", "follower, term 1"]);
    assert_eq!(of(1_000, "b").iter().filter(|name| name.starts_with("kill of")).count(), 10);
    assert_eq!(of(4, "b"), ["stall"]);
    assert_eq!(of(4, "C"), ["memory, kB", "queues", "queues, kB"]);
    assert!(of(1_001, "C").contains(&"latency, ms"));
    for pair in events.iter().filter(|event| event["ph"] == "X").collect::<Vec<_>>().windows(2) {
        let end = |event: &serde_json::Value| {
            event["ts"].as_f64().unwrap() + event["dur"].as_f64().unwrap()
        };
        let is_same_track = pair[0]["pid"] == pair[1]["pid"];
        assert!(!is_same_track || end(pair[0]) <= pair[1]["ts"].as_f64().unwrap() + 0.001);
    }
}
