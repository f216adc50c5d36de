//! Availability: a group that is able to serve does so within a bound, and goes on.
//!
//! The load is cut into stretches at every fault and every return. In each that lasts longer than
//! the bound: where nothing is broken any more, operations must come back to their rate within
//! the bound and keep it; where a majority is up of whom each reaches each other both ways,
//! somebody must be served within the bound. Either way each client must be served from then on
//! that reaches a leader. Bad links promise nothing.
//!
//! Who looks for a leader dials one node after the other: where several are down, nobody served
//! within the bound is a doubt until there was time for a handshake with each, and from then on a
//! breach.
//!
//! A leader that is back before the bound is judged by whether the group went on without it: where
//! it never did the guarantee broke, and mostly not, or never for long enough, is a doubt.
//!
//! Not vacuous: without one stretch after healing that is long enough to judge it is *unknown*, and
//! so it is where nobody was served, but nothing was due within the bound that must have been.

mod absences;
mod clients;

use std::{
    collections::BTreeSet,
    ops::{Range, RangeInclusive},
};

use super::{Check, Checker, Complaints, conclude};
use crate::history::{Course, Frozen, Operation, Outcome, Struck};

use absences::Absences;

/// Checks that faults and their ends cost no more than they must.
#[derive(Clone, Copy, Debug, Default)]
pub struct Availability;

/// A part of the load in which no fault begins or ends.
struct Stretch<'a> {
    from_ns: u64,
    until_ns: u64,
    on: Vec<&'a Struck>,
}

/// An operation that succeeded.
struct Success {
    invoked_ns: u64,
    completed_ns: u64,
    client: u64,
}

/// What was asked under which course, and what came of it.
struct Load<'a> {
    course: &'a Course,
    nodes: &'a [u64],
    /// In the order in which they were due.
    due: Vec<&'a Operation>,
    /// In the order of their answers.
    successes: Vec<Success>,
}

/// Who is there while these faults are on, and who reaches whom.
struct Ground<'a> {
    on: &'a [&'a Struck],
    nodes: &'a [u64],
}

impl Checker for Availability {
    fn name(&self) -> &'static str {
        "availability"
    }

    fn check(&self, frozen: &Frozen) -> Check {
        let (mut breaches, mut doubts) = (Complaints::default(), Complaints::default());
        let course = frozen.course.as_ref();
        let Some((course, load_ns)) = course.and_then(|course| Some((course, course.load_ns?)))
        else {
            doubts.add(|| "there was no load, or no record of it".to_owned());
            return conclude(self.name(), &breaches, &doubts, String::new);
        };
        let operations = frozen.history.operations();
        let (due, successes) = (due(operations), successes(operations));
        let load = Load { course, nodes: &frozen.nodes, due, successes };
        let (mut healed, mut cut) = (0_u64, 0_u64);
        let stretches = stretches(course, load_ns);
        for stretch in &stretches {
            let served_by_ns = stretch.from_ns.saturating_add(course.service_ns_max);
            let lasts = stretch.until_ns >= served_by_ns.saturating_add(KEPT_NS);
            if stretch.on.is_empty() && lasts {
                healed += 1;
                keeps_rate(&load, stretch, &mut breaches, &mut doubts);
            } else if !stretch.on.is_empty()
                && stretch.until_ns > served_by_ns
                && stretch.ground(load.nodes).is_able()
            {
                cut += 1;
                serves(&load, stretch, &mut breaches, &mut doubts);
            } else {
                continue;
            }
            if lasts && let Some(what) = clients::left_out(&load, stretch) {
                blame(course, stretch, &mut breaches, &mut doubts, || what);
            }
        }
        let absences = Absences::of(&load, &stretches, load_ns);
        absences.judge(&mut breaches, &mut doubts);
        let bound_ms = course.service_ns_max / MS;
        if healed == 0 {
            doubts.add(|| {
                format!(
                    "after no fault the load went on for {} ms without another: too little to \
                     judge",
                    bound_ms + KEPT_NS / MS
                )
            });
        }
        conclude(self.name(), &breaches, &doubts, || {
            let kept = format!(
                "within {bound_ms} ms of {healed} healings the rate was back, and was kept"
            );
            let kept = match cut {
                0 => kept,
                _ => format!("{kept}; so was somebody served in {cut} stretches with a majority"),
            };
            match absences.words() {
                None => kept,
                Some(words) => format!("{kept}; {words}"),
            }
        })
    }
}

/// In the order in which they were due.
fn due(operations: &[Operation]) -> Vec<&Operation> {
    let mut due: Vec<&Operation> = operations.iter().collect();
    due.sort_by_key(|operation| operation.intended_ns);
    due
}

/// In the order of their answers.
fn successes(operations: &[Operation]) -> Vec<Success> {
    let answered = operations.iter().filter(|operation| operation.outcome == Outcome::Ok);
    let success = |operation: &Operation| {
        let Operation { invoked_ns, client, .. } = *operation;
        Some(Success { invoked_ns, completed_ns: operation.completed_ns?, client })
    };
    let mut successes: Vec<Success> = answered.filter_map(success).collect();
    successes.sort_unstable_by_key(|success| success.completed_ns);
    successes
}

/// From the first fault on.
fn stretches(course: &Course, (_, load_end_ns): (u64, u64)) -> Vec<Stretch<'_>> {
    let mut changes: BTreeSet<u64> = BTreeSet::new();
    for fault in &course.faults {
        changes.extend([Some(fault.from_ns), fault.counted_ns].into_iter().flatten());
    }
    let mut changes: Vec<u64> = changes.into_iter().filter(|at| *at < load_end_ns).collect();
    changes.push(load_end_ns);
    let on = |at_ns: u64| course.faults.iter().filter(|fault| fault.lasts(at_ns)).collect();
    let stretch = |pair: &[u64]| Stretch { from_ns: pair[0], until_ns: pair[1], on: on(pair[0]) };
    changes.windows(2).map(stretch).collect()
}

impl Stretch<'_> {
    fn ground<'b>(&'b self, nodes: &'b [u64]) -> Ground<'b> {
        Ground { on: &self.on, nodes }
    }

    /// Until when who looks for a leader may have dialled nodes in vain that are down, one after
    /// the other, beyond the bound: that holds one handshake.
    fn dialled_by_ns(&self, course: &Course) -> u64 {
        let down = self.on.iter().flat_map(|fault| fault.down.iter().copied());
        let more = (down.collect::<BTreeSet<u64>>().len() as u64).saturating_sub(1);
        let in_vain_ns = course.handshake_ns_max.saturating_mul(more);
        self.from_ns.saturating_add(course.service_ns_max).saturating_add(in_vain_ns)
    }
}

impl<'a> Load<'a> {
    /// What was due from the beginning of a stretch to the end of the bound, and could tell whether
    /// the group was back by then. Who asks late within the bound may notice late as well that a
    /// node is silent: what was served soon after says neither.
    fn due_in_time(&self, stretch: &Stretch<'_>) -> Vec<&'a Operation> {
        let served_by_ns = stretch.from_ns.saturating_add(self.course.service_ns_max);
        let soon_ns = self.course.service_ns_max / 2;
        let says_neither = |operation: &&Operation| {
            let due_ns = operation.intended_ns;
            let is_late = due_ns > served_by_ns.saturating_sub(soon_ns);
            let took_ns = operation.completed_ns.map(|at_ns| at_ns.saturating_sub(due_ns));
            let is_soon = took_ns.is_some_and(|took_ns| took_ns <= soon_ns);
            is_late && is_soon && operation.outcome == Outcome::Ok
        };
        let due = self.due_within(stretch.from_ns..=served_by_ns).iter().copied();
        due.filter(|operation| !says_neither(operation)).collect()
    }

    fn due_within(&self, within: RangeInclusive<u64>) -> &[&'a Operation] {
        let first = self.due.partition_point(|operation| operation.intended_ns < *within.start());
        let end = self.due.partition_point(|operation| operation.intended_ns <= *within.end());
        self.due.get(first..end).unwrap_or_default()
    }

    /// Those that were answered from one moment to before another.
    fn answered_within(&self, within: Range<u64>) -> &[Success] {
        let place =
            |at_ns: u64| self.successes.partition_point(|success| success.completed_ns < at_ns);
        self.successes.get(place(within.start)..place(within.end)).unwrap_or_default()
    }

    /// Whether something of what was due reached whoever led: if no client would have, nothing
    /// follows from nobody having been served.
    fn reach_a_leader(&self, due: &[&Operation], stretch: &Stretch<'_>) -> bool {
        if !self.course.pinned {
            return !due.is_empty();
        }
        let asked = due.iter().filter_map(|operation| self.node_of(operation.client));
        let asked: BTreeSet<u64> = asked.collect();
        let ground = stretch.ground(self.nodes);
        ground.leaders().all(|leader| asked.iter().any(|node| ground.reaches(*node, leader)))
    }

    /// Whether the client reaches whoever leads: one that stays with its node does where that
    /// reaches all who may.
    fn is_with_a_leader(&self, client: u64, stretch: &Stretch<'_>) -> bool {
        let ground = stretch.ground(self.nodes);
        let reaches_all = |node| ground.leaders().all(|leader| ground.reaches(node, leader));
        !self.course.pinned || self.node_of(client).is_some_and(reaches_all)
    }

    /// The node that a client stays with, if clients do.
    fn node_of(&self, client: u64) -> Option<u64> {
        let place = client.checked_rem(self.nodes.len() as u64)?;
        self.nodes.get(usize::try_from(place).ok()?).copied()
    }

    /// Whether enough was due in a healed stretch to tell whether the rate was back in time: so
    /// many operations within the bound, or any later one, when nothing was served any more.
    fn shows_whether_back(&self, stretch: &Stretch<'_>, needed: usize) -> bool {
        if self.due_in_time(stretch).len() >= needed {
            return true;
        }
        let bound_ns = self.course.service_ns_max;
        let from_ns = stretch.from_ns.saturating_add(bound_ns);
        // The last ones may be unanswered for what comes after the stretch.
        let until_ns = stretch.until_ns.saturating_sub(bound_ns);
        let later = self.due_within(from_ns..=until_ns.saturating_sub(1));
        !later.is_empty() && later.iter().all(|operation| operation.outcome != Outcome::Ok)
    }
}

impl Ground<'_> {
    /// Whether a majority runs of whom each reaches each other both ways, and no link is merely
    /// bad.
    ///
    /// That one node reaches a majority is not enough: one of those may hold what a leader sent
    /// that it could not answer, refuse its vote to whoever lacks that, and reach no majority
    /// itself.
    fn is_able(&self) -> bool {
        let hurts = self.on.iter().any(|fault| fault.hurts);
        let up: Vec<u64> = self.up().collect();
        // A group has at most nine voters: there are few sets to look at.
        let stands_together = |set: u32| {
            let members = up.iter().enumerate().filter(|(place, _)| set >> place & 1 == 1);
            let members: Vec<u64> = members.map(|(_, node)| *node).collect();
            let holds = |node: &u64| members.iter().all(|other| self.reaches(*node, *other));
            2 * members.len() > self.nodes.len() && members.iter().all(holds)
        };
        !hurts && (0..1 << up.len().min(NODES_MAX)).any(stands_together)
    }

    /// Those who may lead: they reach a majority both ways.
    fn leaders(&self) -> impl Iterator<Item = u64> {
        self.up().filter(move |node| {
            let reached = self.up().filter(|other| self.reaches(*node, *other));
            2 * reached.count() > self.nodes.len()
        })
    }

    fn up(&self) -> impl Iterator<Item = u64> {
        self.nodes.iter().copied().filter(move |node| self.is_up(*node))
    }

    fn is_up(&self, node: u64) -> bool {
        self.on.iter().all(|fault| !fault.down.contains(&node))
    }

    /// Whether both run, and nothing is cut between them.
    fn reaches(&self, node: u64, other: u64) -> bool {
        let is_cut = |from, to| self.on.iter().any(|fault| fault.cut.contains(&(from, to)));
        let is_linked = node == other || !is_cut(node, other) && !is_cut(other, node);
        self.is_up(node) && self.is_up(other) && is_linked
    }
}

/// Whether anybody was served in time of what was asked in this stretch.
fn serves(
    load: &Load<'_>,
    stretch: &Stretch<'_>,
    breaches: &mut Complaints,
    doubts: &mut Complaints,
) {
    let course = load.course;
    let is_served_by = |by_ns: u64| {
        let mut answered = load.answered_within(stretch.from_ns..by_ns.saturating_add(1)).iter();
        answered.any(|success| success.invoked_ns >= stretch.from_ns)
    };
    if is_served_by(stretch.from_ns.saturating_add(course.service_ns_max)) {
        return;
    }
    let dialled_by_ns = stretch.dialled_by_ns(course);
    let faults: Vec<String> =
        stretch.on.iter().map(|fault| format!("{} of node {}", fault.what, fault.node)).collect();
    let what = format!(
        "{} ms after a change at {} ms, with {} on, no operation had succeeded",
        course.service_ns_max / MS,
        stretch.from_ns / MS,
        faults.join(", ")
    );
    if stretch.until_ns < dialled_by_ns || is_served_by(dialled_by_ns) {
        doubts.add(|| {
            format!(
                "{what}; but who dials those that are down, one after the other, may take until \
                 {} ms",
                dialled_by_ns / MS
            )
        });
    } else if load.reach_a_leader(&load.due_in_time(stretch), stretch) {
        blame(course, stretch, breaches, doubts, || {
            format!("{what}, though a majority stood together")
        });
    } else {
        doubts.add(|| {
            format!(
                "{what}; but none was due by then of a client whose node reaches whoever leads: \
                 there were too few clients, or too few operations, to judge"
            )
        });
    }
}

/// Whether the rate came back in time and stayed.
fn keeps_rate(
    load: &Load<'_>,
    stretch: &Stretch<'_>,
    breaches: &mut Complaints,
    doubts: &mut Complaints,
) {
    let course = load.course;
    let served_by_ns = stretch.from_ns.saturating_add(course.service_ns_max);
    let healed_ms = stretch.from_ns / MS;
    // What had been asked before is answered in a burst, which says nothing of the rate.
    let within = load.answered_within(stretch.from_ns..stretch.until_ns).iter();
    let asked_since = within.filter(|success| success.invoked_ns >= stretch.from_ns);
    let all: Vec<u64> = asked_since.map(|success| success.completed_ns).collect();
    // Nine tenths of the rate over 100 ms.
    let needed = (course.rate_per_s * 9).div_ceil(100).max(1);
    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
    let mut windows = all.iter().zip(all.get(needed - 1..).unwrap_or_default());
    let back = windows.find(|(first_ns, last_ns)| **last_ns < *first_ns + WINDOW_NS);
    let back_ns = back.map(|(first_ns, _)| *first_ns);
    if back_ns.is_none_or(|back_ns| back_ns > served_by_ns) {
        let what = not_back(course, stretch, back_ns);
        if load.shows_whether_back(stretch, needed) {
            blame(course, stretch, breaches, doubts, || what);
        } else {
            doubts.add(|| format!("{what}; too little was due by then to judge"));
        }
        return;
    }
    let kept = load.answered_within(served_by_ns..stretch.until_ns).len() as u64;
    let due = course.rate_per_s.saturating_mul((stretch.until_ns - served_by_ns) / MS) / 1_000;
    // Where a burst is due at the edge, all of it may lie on one side or on the other.
    let due_at_least = due.saturating_sub(course.burst);
    let what = || {
        format!(
            "healed at {healed_ms} ms: from {} to {} ms {kept} operations succeeded, but {due} \
             were due",
            served_by_ns / MS,
            stretch.until_ns / MS
        )
    };
    // A host that is too slow for the rate is no fault of the group's.
    if kept * 2 < due_at_least {
        blame(course, stretch, breaches, doubts, what);
    } else if kept * 10 < due_at_least * 9 {
        doubts.add(what);
    }
}

/// What to say where the rate was not back in time, but then, if ever.
fn not_back(course: &Course, stretch: &Stretch<'_>, back_ns: Option<u64>) -> String {
    let (healed_ms, bound_ms) = (stretch.from_ns / MS, course.service_ns_max / MS);
    let when = match back_ns {
        Some(back_ns) => format!("only {} ms", (back_ns - stretch.from_ns) / MS),
        None => "never".to_owned(),
    };
    format!(
        "healed at {healed_ms} ms: successes were back at nine tenths of {} per second {when} \
         after that, but {bound_ms} ms are allowed",
        course.rate_per_s
    )
}

/// A breach; only a doubt where the host kept nodes from running for a tenth of the bound or more.
fn blame(
    course: &Course,
    stretch: &Stretch<'_>,
    breaches: &mut Complaints,
    doubts: &mut Complaints,
    what: impl FnOnce() -> String,
) {
    let is_down = |node: &u64| stretch.on.iter().any(|fault| fault.down.contains(node));
    let unmeant = course.stalls.iter().filter(|stall| !is_down(&stall.node));
    let within = unmeant.map(|stall| {
        let until_ns = stall.until_ns.min(stretch.until_ns);
        until_ns.saturating_sub(stall.from_ns.max(stretch.from_ns))
    });
    let stalled_ns = within.max().unwrap_or(0);
    if stalled_ns * 10 < course.service_ns_max {
        breaches.add(what);
    } else {
        doubts.add(|| format!("{}; the host stood still for {} ms", what(), stalled_ns / MS));
    }
}

const MS: u64 = 1_000_000;
const WINDOW_NS: u64 = 100 * MS;
/// More nodes than a group may have voters.
const NODES_MAX: usize = 16;
/// How long after the bound the rate must be kept to say anything.
const KEPT_NS: u64 = 500 * MS;
