//! No unexplained election: under load a leader changes only where something happened to it.
//!
//! Something is: a fault that keeps it away; a fault, or the return from one, so shortly before
//! that everyone may still have been waiting for a split vote to pass; links that are bad, or cut
//! so that nodes disagree on who is there; or a stall of the leader that the host inflicted. A
//! leader that was slow by itself excuses nothing: whatever else ends a term, the group did it to
//! itself.

use super::{Check, Checker, Complaints, conclude};
use crate::history::{Course, Elected, Frozen};

/// Its name.
pub const NAME: &str = "elections";

/// Checks each change of term under load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elections;

impl Checker for Elections {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check(&self, frozen: &Frozen) -> Check {
        let (mut breaches, mut doubts) = (Complaints::default(), Complaints::default());
        let course = frozen.course.as_ref();
        let Some((course, load_ns)) = course.and_then(|course| Some((course, course.load_ns?)))
        else {
            doubts.add(|| "there was no load, or no record of it".to_owned());
            return conclude(self.name(), &breaches, &doubts, String::new);
        };
        if !course.is_complete {
            doubts.add(|| "more happened than was recorded".to_owned());
        }
        let (mut leader, mut elections, mut stalls) = (None, 0_u64, 0_u64);
        for elected in &course.elections {
            if (load_ns.0..=load_ns.1).contains(&elected.at_ns) {
                elections += 1;
                let reason = explanation(course, &frozen.nodes, leader, elected);
                stalls += u64::from(reason == Some(Reason::Stall));
                if reason.is_none() {
                    breaches.add(|| unexplained(course, leader, elected));
                }
            }
            leader = Some(elected.node);
        }
        conclude(self.name(), &breaches, &doubts, || match elections {
            0 => "none under load".to_owned(),
            _ => format!(
                "{elections} under load, {} after a fault or a return from one, {stalls} after \
                 its leader had stood still",
                elections - stalls
            ),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    Fault,
    Stall,
}

fn explanation(
    course: &Course,
    nodes: &[u64],
    leader: Option<u64>,
    elected: &Elected,
) -> Option<Reason> {
    let at_ns = elected.at_ns;
    let since_ns = at_ns.saturating_sub(course.election_ns_max);
    let recent = |moment_ns: u64| (since_ns..=at_ns).contains(&moment_ns);
    let faulted = course.faults.iter().any(|fault| {
        let away = leader.is_some_and(|leader| fault.takes_away(leader, nodes));
        // From the return until all is made up for, and as long again as an election takes.
        let returning = fault.returned_ns.is_some_and(|returned_ns| {
            let rejoined_ns = fault.rejoined_ns.unwrap_or(returned_ns).max(returned_ns);
            returned_ns <= at_ns && since_ns <= rejoined_ns
        });
        recent(fault.from_ns)
            || returning
            || fault.is_on(at_ns) && (away || fault.hurts || !fault.is_clean(nodes))
    });
    if faulted {
        return Some(Reason::Fault);
    }
    let stalled = course.stalls.iter().any(|stall| {
        Some(stall.node) == leader && stall.from_ns <= at_ns && stall.until_ns >= since_ns
    });
    stalled.then_some(Reason::Stall)
}

fn unexplained(course: &Course, leader: Option<u64>, elected: &Elected) -> String {
    let Elected { at_ns, node, term } = elected;
    let from = leader.map_or("nobody".to_owned(), |leader| format!("node {leader}"));
    format!(
        "node {node} took over term {term} from {from} at {} ms, but no fault, return or stall of \
         that leader came within {} ms before",
        at_ns / 1_000_000,
        course.election_ns_max / 1_000_000
    )
}
