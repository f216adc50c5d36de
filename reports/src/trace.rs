//! `trace.json`: the run as Chrome trace events, which Perfetto and `chrome://tracing` open.
//!
//! Merged from what the harness holds, so that nodes that were killed are there to their end: a
//! process for each node, with its role and term, what was done to it and what it noted; one for
//! the run, with its faults and outages; one for the clients, with latency and rates. Times are
//! microseconds from the start of the run. Invariants: events stand in order of time; there is a
//! limit to them, and of operations those that are left out were faster than those shown.

use crate::event::{Event, QUEUES_COUNTED, QUEUES_KB, Queue, Queues, What};
use crate::lanes::{self, Lane, State, hit};
use crate::latency::windows;
use crate::seen::Seen;
use crate::summary::nearest_rank;
use crate::{Point, ThroughputRow};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The whole file.
pub(crate) fn trace(seen: &Seen<'_>) -> String {
    let mut trace = Trace::default();
    let end_ms = seen.end_ms();
    let lanes = lanes::lanes(seen.record, seen.events.kept(), end_ms);
    trace.name_process(RUN, 0, "run", &[(FAULTS, "faults"), (OUTAGES, "outages")]);
    for lane in &lanes {
        trace.lane(lane);
    }
    for event in seen.events.kept().iter().take(NOTES_MAX) {
        trace.note(event);
    }
    trace.faults(seen, end_ms);
    trace.operations(seen);
    trace.file(seen)
}

/// Events with their times, to be put in order.
#[derive(Default)]
struct Trace {
    names: Vec<Value>,
    events: Vec<(f64, Value)>,
    /// Names spans that may overlap.
    spans: u64,
}

impl Trace {
    /// A process and its tracks. A track's number is unique in the whole trace: viewers take equal
    /// ones for the same thread.
    fn name_process(&mut self, pid: u64, place: u64, name: &str, tracks: &[(u64, &str)]) {
        let process = |what: &str, args: Value| {
            json!({
                "ph": "M", "name": what, "ts": 0, "pid": pid, "tid": 0, "args": args,
            })
        };
        self.names.push(process("process_name", json!({ "name": name })));
        self.names.push(process("process_sort_index", json!({ "sort_index": place })));
        for (track, name) in tracks {
            self.names.push(json!({
                "ph": "M", "name": "thread_name", "ts": 0, "pid": pid, "tid": tid(pid, *track),
                "args": { "name": name },
            }));
        }
    }

    /// What lasts, on a track where nothing overlaps.
    fn complete(
        &mut self,
        (pid, track): (u64, u64),
        name: &str,
        (from, until): (f64, f64),
        args: &Value,
    ) {
        if !(from.is_finite() && until.is_finite() && from >= 0.0 && until >= from) {
            return;
        }
        let (ts, dur) = (us(from), us(until - from));
        let event = json!({
            "ph": "X", "name": name, "ts": ts, "dur": dur, "pid": pid,
            "tid": tid(pid, track), "args": args,
        });
        self.events.push((from, event));
    }

    /// What lasts and may overlap with others of its category.
    fn span(
        &mut self,
        (pid, track): (u64, u64),
        (category, name): (&str, &str),
        (from, until): (f64, f64),
        args: &Value,
    ) {
        if !(from.is_finite() && until.is_finite() && from >= 0.0 && until >= from) {
            return;
        }
        self.spans += 1;
        let id = format!("{:#x}", self.spans);
        let mut begin = json!({
            "ph": "b", "cat": category, "name": name, "id": id, "ts": us(from), "pid": pid,
            "tid": tid(pid, track),
        });
        let mut end = begin.clone();
        begin["args"] = args.clone();
        end["ph"] = "e".into();
        end["ts"] = us(until).into();
        self.events.push((from, begin));
        self.events.push((until, end));
    }

    fn instant(&mut self, (pid, track): (u64, u64), name: &str, at_ms: f64, args: &Value) {
        let event = json!({
            "ph": "i", "s": "t", "name": name, "ts": us(at_ms), "pid": pid,
            "tid": tid(pid, track), "args": args,
        });
        self.events.push((at_ms, event));
    }

    fn counter(&mut self, pid: u64, name: &str, at_ms: f64, args: &Value) {
        let event = json!({
            "ph": "C", "name": name, "ts": us(at_ms), "pid": pid, "tid": 0, "args": args,
        });
        self.events.push((at_ms, event));
    }

    /// A node's role and term, and what befell it.
    fn lane(&mut self, lane: &Lane) {
        let pid = lane.node;
        let tracks = [(ROLE, "role and term"), (NOTED, "noted"), (BEFELL, "befell")];
        self.name_process(pid, pid, &format!("node {pid}"), &tracks);
        for stretch in &lane.stretches {
            let span = (stretch.from_ms, stretch.until_ms);
            let (name, args) = match &stretch.state {
                State::In { role, term } => {
                    (format!("{role}, term {term}"), json!({ "role": role, "term": term }))
                }
                State::Down => ("down".to_owned(), json!({})),
                State::Stopped => ("stopped".to_owned(), json!({})),
                State::Paused => ("paused".to_owned(), json!({})),
            };
            self.complete((pid, ROLE), &name, span, &args);
        }
        for hurt in &lane.hurts {
            let span = (hurt.from_ms, hurt.until_ms);
            self.span((pid, BEFELL), ("befell", &hurt.kind), span, &json!({}));
        }
    }

    /// What a node noted beside its role.
    fn note(&mut self, event: &Event) {
        let (at_ms, node) = (lanes::ms(event.at_ns), event.node);
        let (name, args) = match &event.what {
            What::Leader { leader, term } => {
                ("follows".to_owned(), json!({ "leader": leader, "term": term }))
            }
            What::Campaign { term, pre_vote } => {
                let name = if *pre_vote { "asks for pre-votes" } else { "asks for votes" };
                (name.to_owned(), json!({ "term": term }))
            }
            What::Committed { index, term } => {
                ("first commit".to_owned(), json!({ "index": index, "term": term }))
            }
            What::Founded => ("founded".to_owned(), json!({})),
            What::Member { member, is } => (format!("member {member} {is}"), json!({})),
            What::Bonded { with } => (format!("bonded with {with}"), json!({})),
            What::Unbonded { with } => (format!("lost its bond with {with}"), json!({})),
            What::Stopped { reason } => ("stopped".to_owned(), json!({ "reason": reason })),
            What::Died { reason } => ("died".to_owned(), json!({ "reason": reason })),
            What::Note { text } => ("note".to_owned(), json!({ "text": text })),
            What::Usage { resident_kb, log_kb, queues, .. } => {
                let args = json!({ "resident": resident_kb, "log": log_kb });
                self.counter(node, "memory, kB", at_ms, &args);
                self.depths((node, at_ms), "queues", queues, &QUEUES_COUNTED);
                self.depths((node, at_ms), "queues, kB", queues, &QUEUES_KB);
                return;
            }
            What::Became { .. } | What::Stall { .. } | What::Other => return,
        };
        self.instant((node, NOTED), &name, at_ms, &args);
    }

    /// How much waits in those of the queues that the node told of.
    fn depths(&mut self, (node, at_ms): (u64, f64), name: &str, of: &Queues, queues: &[Queue]) {
        let told = queues.iter().filter_map(|(name, depth)| Some((*name, depth(of)?)));
        let args: serde_json::Map<String, Value> = told
            .map(|(name, depth)| (name.trim_end_matches(", kB").to_owned(), depth.into()))
            .collect();
        if !args.is_empty() {
            self.counter(node, name, at_ms, &args.into());
        }
    }

    fn faults(&mut self, seen: &Seen<'_>, end_ms: f64) {
        for fault in lanes::faults(seen.record) {
            let nodes = hit(&fault);
            let named: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            let name = format!("{} of {}", lanes::called(&fault), named.join(", "));
            let span = (fault.struck_ms, fault.returned_ms.unwrap_or(end_ms));
            let args = json!({ "nodes": nodes, "trial": fault.trial });
            self.span((RUN, FAULTS), ("fault", &name), span, &args);
        }
        for trial in &seen.record.trials {
            let Some(outage_ms) = trial.outage_ms else { continue };
            let span = (trial.fault_at_ms, trial.fault_at_ms + outage_ms);
            let args = json!({
                "detect_ms": trial.detect_ms, "elect_ms": trial.elect_ms,
                "commit_ms": trial.commit_ms, "client_ms": trial.client_ms,
            });
            self.span((RUN, OUTAGES), ("outage", "outage"), span, &args);
        }
    }

    /// Latency as the slowest operations and as quantiles, and the rates.
    fn operations(&mut self, seen: &Seen<'_>) {
        if seen.recorder.points().is_empty() {
            return;
        }
        self.name_process(CLIENTS, CLIENTS, "clients", &[(SLOWEST, "slowest operations")]);
        for sample in seen.recorder.slowest().each(SPANS_MAX) {
            let Some(completed_ns) = sample.completed_ns else { continue };
            let span = (lanes::ms(sample.intended_ns), lanes::ms(completed_ns));
            let args = json!({
                "id": sample.id, "client": sample.client, "key": sample.key, "node": sample.node,
            });
            self.span((CLIENTS, SLOWEST), ("operation", sample.kind.as_str()), span, &args);
        }
        let answered = seen.recorder.answered();
        let span_s = answered.last().map_or(0, |point| point.intended_ns / NS_PER_S);
        let width_s = (span_s / WINDOWS_MAX).max(1);
        for (second, points) in windows(&answered, width_s) {
            self.counter(CLIENTS, "latency, ms", second as f64 * 1e3, &quantiles(points));
        }
        let rows = seen.recorder.throughput();
        for row in rows.chunks(rows.len().div_ceil(ROWS_MAX).max(1)) {
            let of = |count: fn(&ThroughputRow) -> u64| row.iter().map(count).sum::<u64>();
            let span_s = row.len() as f64 / 10.0;
            let per_s = |count: u64| count as f64 / span_s;
            let args = json!({
                "offered": per_s(of(|r| r.offered)), "ok": per_s(of(|r| r.ok)),
                "fail": per_s(of(|r| r.fail)), "unknown": per_s(of(|r| r.unknown)),
            });
            self.counter(CLIENTS, "operations per second", row[0].at_ms as f64, &args);
        }
    }

    /// Names first, then all events in order of time, one on each line.
    fn file(mut self, seen: &Seen<'_>) -> String {
        self.events.sort_by(|a, b| a.0.total_cmp(&b.0));
        let about = json!({
            "scenario": seen.record.scenario,
            "world": seen.record.world,
            "seed": format!("{:#018x}", seen.record.seed),
            "verdict": seen.record.verdict.as_str(),
        });
        let mut file =
            format!("{{\"displayTimeUnit\":\"ms\",\"otherData\":{about},\"traceEvents\":[");
        let events = self.events.into_iter().map(|(_, event)| event);
        for (number, event) in self.names.into_iter().chain(events).enumerate() {
            let _ = write!(file, "{}\n{event}", if number == 0 { "" } else { "," });
        }
        file.push_str("\n]}\n");
        file
    }
}

fn quantiles(points: &[Point]) -> Value {
    let mut sorted: Vec<u32> = points.iter().map(|point| point.latency_us).collect();
    sorted.sort_unstable();
    let ms = |us: u32| f64::from(us) / 1e3;
    let max = sorted.last().copied().map_or(0.0, ms);
    json!({ "p50": ms(nearest_rank(&sorted, 50)), "max": max })
}

/// Microseconds, in steps of a nanosecond.
fn us(ms: f64) -> f64 {
    (ms * 1e6).round() / 1e3
}

fn tid(pid: u64, track: u64) -> u64 {
    pid.saturating_mul(TRACKS).saturating_add(track)
}

/// Nodes are processes by their numbers; these are above all of them. Viewers keep 0 for what is
/// idle.
const RUN: u64 = 1_000;
const CLIENTS: u64 = 1_001;
/// More than a process has.
const TRACKS: u64 = 10;
const FAULTS: u64 = 1;
const OUTAGES: u64 = 2;
const ROLE: u64 = 1;
const NOTED: u64 = 2;
const BEFELL: u64 = 3;
const SLOWEST: u64 = 1;
const SPANS_MAX: usize = 5_000;
const WINDOWS_MAX: u64 = 2_000;
const ROWS_MAX: usize = 6_000;
/// Beside roles and faults; what a viewer opens without complaint.
const NOTES_MAX: usize = 60_000;
const NS_PER_S: u64 = 1_000_000_000;
