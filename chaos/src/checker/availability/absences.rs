//! Whether the group goes on without its leader, also where that one is back before the bound of
//! service could judge it.
//!
//! Looked at are faults that took the leader away from a majority that stood together all the
//! while. An election that splits its votes may outlast one of them: one alone breaks nothing.
//! Invariant: only an election of another, and an operation that was asked after it and served
//! before the leader was back, shows that the group went on.

use super::{Complaints, Load, MS, Stretch};
use crate::history::{Stalled, Struck};

/// What the faults that took the leader away show.
#[derive(Default)]
pub(super) struct Absences<'a> {
    /// Another was elected, and somebody was served meanwhile; or the bound of service judges.
    shown: u64,
    /// Nobody was, though there was time for it.
    unserved: Vec<&'a Struck>,
    /// Of these: though there was time for another round of votes.
    long: u64,
    /// Nobody was, and nobody need have been.
    short: u64,
}

/// A fault that took this leader away, until it was back.
struct Absence<'a> {
    fault: &'a Struck,
    leader: u64,
    until_ns: u64,
}

impl<'a> Absences<'a> {
    pub(super) fn of(load: &Load<'a>, stretches: &[Stretch<'_>], load_ns: (u64, u64)) -> Self {
        let mut absences = Self::default();
        for fault in &load.course.faults {
            let Some(absence) = Absence::of(load, fault, load_ns) else { continue };
            let meanwhile: Vec<_> =
                stretches.iter().filter(|stretch| absence.lasts(stretch.from_ns)).collect();
            let is_able = meanwhile.iter().all(|stretch| stretch.ground(load.nodes).is_able());
            let Some(first) = meanwhile.first().filter(|_| is_able) else { continue };
            let bound_ns = load.course.service_ns_max;
            let is_judged = |stretch: &&Stretch<'_>| {
                stretch.until_ns > stretch.from_ns.saturating_add(bound_ns)
            };
            if meanwhile.iter().any(is_judged) || absence.is_served(load) {
                absences.shown += 1;
                continue;
            }
            let (needs_ns, lasted_ns) = (absence.needs_ns(load), absence.lasted_ns());
            let due = load.due_within(fault.from_ns..=absence.until_ns.saturating_sub(1));
            if !load.reach_a_leader(due, first) || absence.is_stalled(load, needs_ns) {
                continue;
            }
            if lasted_ns < needs_ns {
                absences.short += 1;
                continue;
            }
            absences.unserved.push(fault);
            absences.long += u64::from(lasted_ns >= needs_ns + needs_ns / 2);
        }
        absences
    }

    /// What is wrong with them, if anything is.
    pub(super) fn judge(&self, breaches: &mut Complaints, doubts: &mut Complaints) {
        let unserved = self.unserved.len() as u64;
        let such = self.unserved.first().map_or(String::new(), |fault| {
            let at_ms = fault.from_ns / MS;
            format!(", such as {} of node {} at {at_ms} ms", fault.what, fault.node)
        });
        let told = || {
            let all = unserved + self.shown;
            format!(
                "after {unserved} of {all} faults that took the leader away nobody was served \
                 before it was back, though a majority stood together for as long as an election \
                 takes{such}"
            )
        };
        if self.shown == 0 && unserved >= ABSENCES_MIN {
            breaches.add(told);
        } else if unserved > self.shown && (unserved > 1 || self.long > 0) {
            doubts.add(told);
        } else if self.shown + unserved == 0 && self.short >= ABSENCES_MIN {
            doubts.add(|| {
                format!(
                    "{} times the leader was back before an election need be over, and nobody was \
                     served meanwhile: nothing shows that the group goes on without it; let it \
                     return later",
                    self.short
                )
            });
        }
    }

    /// In words, for whoever asks what was looked at; nothing where no leader was taken away.
    pub(super) fn words(&self) -> Option<String> {
        let (shown, short) = (self.shown, self.short);
        let all = shown + self.unserved.len() as u64;
        let went_on = format!("without its leader the group went on {shown} of {all} times");
        let went_on = (all > 0).then_some(went_on);
        let early = format!("{short} times that one was back before an election need be over");
        let early = (short > 0).then_some(early);
        let words: Vec<String> = went_on.into_iter().chain(early).collect();
        (!words.is_empty()).then(|| words.join(", and "))
    }
}

impl<'a> Absence<'a> {
    /// Nothing where the fault was not under load, or whoever led stayed.
    fn of(load: &Load<'a>, fault: &'a Struck, load_ns: (u64, u64)) -> Option<Self> {
        let before =
            load.course.elections.iter().take_while(|elected| elected.at_ns <= fault.from_ns);
        let leader = before.last()?.node;
        let until_ns = fault.counted_ns.unwrap_or(load_ns.1).min(load_ns.1);
        let is_meant =
            (load_ns.0..load_ns.1).contains(&fault.from_ns) && fault.takes_away(leader, load.nodes);
        is_meant.then_some(Self { fault, leader, until_ns })
    }

    fn lasts(&self, at_ns: u64) -> bool {
        (self.fault.from_ns..self.until_ns).contains(&at_ns)
    }

    fn lasted_ns(&self) -> u64 {
        self.until_ns.saturating_sub(self.fault.from_ns)
    }

    /// Within this another is elected, unless votes split more than once: who does not hear the
    /// leader waits the longest, campaigns, and waits once more. A leader that is heard and does
    /// not hear must find out before.
    fn needs_ns(&self, load: &Load<'_>) -> u64 {
        let is_cut = |other: &u64| self.fault.cut.contains(&(self.leader, *other));
        let hearing = load.nodes.iter().filter(|other| !is_cut(other)).count();
        let is_silent = self.fault.down.contains(&self.leader) || 2 * hearing <= load.nodes.len();
        let election_ns = load.course.election_ns_max;
        if is_silent { election_ns / 2 } else { election_ns }
    }

    /// Whether another was elected and somebody was served by the group that it leads.
    fn is_served(&self, load: &Load<'_>) -> bool {
        let mut elections = load.course.elections.iter();
        let elected =
            elections.find(|elected| elected.node != self.leader && self.lasts(elected.at_ns));
        let Some(elected) = elected else { return false };
        let mut meanwhile = load.answered_within(elected.at_ns..self.until_ns).iter();
        meanwhile.any(|success| success.invoked_ns >= elected.at_ns)
    }

    /// Whether the host kept one of the others from running for a tenth of that time.
    fn is_stalled(&self, load: &Load<'_>, needs_ns: u64) -> bool {
        let is_other = |stall: &&Stalled| !self.fault.down.contains(&stall.node);
        load.course.stalls.iter().filter(is_other).any(|stall| {
            let until_ns = stall.until_ns.min(self.until_ns);
            until_ns.saturating_sub(stall.from_ns.max(self.fault.from_ns)) * 10 >= needs_ns
        })
    }
}

/// So many that show nothing are no accident.
const ABSENCES_MIN: u64 = 3;
