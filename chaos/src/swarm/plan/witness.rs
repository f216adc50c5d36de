//! Whether a packet fault took place, also where no message was there to tell of it.
//!
//! In the other worlds nodes that have nothing to say ping each other, so something befalls every
//! link that is hurt. Here there are messages only, and followers send each other none: a cut
//! between followers strikes nothing and was there all the same. Such a fault took place if its
//! links were hurt in the world and nobody at their ends led or stood for election meanwhile.
//! Whoever does speaks to all others and is answered, so that a fault on its links which strikes
//! nothing has failed. Invariant: what no link of the world was hurt by did not take place.

use std::collections::BTreeSet;

use raft::{Role, Time};

use super::planned::seat;
use crate::{
    fault::LinkRule,
    link::LinkCounts,
    swarm::{node::Seat, world::World},
};

/// What is known of a packet fault that is on, beside what it strikes.
pub(super) struct Witness {
    since: Time,
    /// Both ends of each of its links.
    ends: BTreeSet<Seat>,
    /// The world was seen to do as it was told.
    is_in_force: bool,
    /// Somebody at an end led or stood for election when it began.
    began_with_speaker: bool,
}

impl Witness {
    /// Sees a fault begin that has just been carried out: this is to befall its links now.
    pub(super) fn of(world: &World, rules: &[LinkRule]) -> Self {
        let ends = rules.iter().flat_map(|rule| [seat(rule.from), seat(rule.to)]);
        let ends: BTreeSet<Seat> = ends.collect();
        let speaks = |end: &Seat| {
            let core = world.nodes[end.0].core.as_ref();
            core.is_some_and(|core| core.role() != Role::Follower)
        };
        let planned = world.planned.as_ref();
        Self {
            since: world.now,
            is_in_force: planned.is_some_and(|planned| planned.is_hurt(rules)),
            began_with_speaker: ends.iter().any(speaks),
            ends,
        }
    }

    /// Why the fault, which ends now, did not take place; nothing if it did, or if that is excused.
    pub(super) fn missed(
        &self,
        world: &World,
        befallen: &LinkCounts,
        is_excused: bool,
    ) -> Option<String> {
        // Neither is ever excused: there was no fault.
        if self.ends.is_empty() {
            return Some("it crosses no link".to_owned());
        }
        if !self.is_in_force {
            return Some("its links were not hurt".to_owned());
        }
        let is_silent = befallen.offered == 0 && !self.had_speaker(world);
        if befallen.struck() > 0 || is_silent || is_excused {
            return None;
        }
        Some(format!("nothing befell the {} messages on its links", befallen.offered))
    }

    /// Whether somebody at an end led or stood for election at any moment since it began.
    fn had_speaker(&self, world: &World) -> bool {
        let Some(planned) = &world.planned else { return false };
        let stood = |end: &Seat| planned.stood(*end).is_some_and(|at| at >= self.since);
        self.began_with_speaker || self.ends.iter().any(stood)
    }
}

#[cfg(test)]
mod tests {
    use raft::{Note, Term};

    use super::*;
    use crate::{
        fault::NodeNumber, invariant::Invariants, link::LinkFaults, plan::parse, seed::Seed,
    };

    const NOTHING: &str = "nothing befell the 0 messages on its links";

    /// Three servers that have just started: all follow.
    fn world() -> World {
        let plan = parse("scenario = \"x\"\nkind = \"failover\"\nnodes = 3\n[workload]\n");
        let plan = plan.expect("a plan");
        let mut world = super::super::world(&plan, Seed(1), Invariants::default());
        world.begin().expect("they start");
        world
    }

    /// A cut between the first two of them, as the world knows it or not.
    fn cut(world: &mut World, is_carried_out: bool) -> Witness {
        let (from, to, faults) = (NodeNumber(1), NodeNumber(2), LinkFaults::blocked());
        let rules = [LinkRule { from, to, faults }];
        let planned = world.planned.as_mut().expect("it has a plan");
        if is_carried_out {
            planned.hurt(&rules);
        }
        Witness::of(world, &rules)
    }

    fn stands(world: &mut World, place: usize) {
        let (now, note) = (world.now, Note::Became { role: Role::Candidate, term: Term(1) });
        let planned = world.planned.as_mut().expect("it has a plan");
        planned.noted(Seat(place), now, &note);
    }

    fn missed(witness: &Witness, world: &World, is_excused: bool) -> Option<String> {
        witness.missed(world, &LinkCounts::default(), is_excused)
    }

    #[test]
    fn a_cut_between_those_who_are_silent_took_place() {
        let mut world = world();
        let witness = cut(&mut world, true);
        assert_eq!(missed(&witness, &world, false), None);
        stands(&mut world, 2);
        assert_eq!(missed(&witness, &world, false), None, "it is at no end");
        let spared = LinkCounts { offered: 4, arrivals: 4, ..LinkCounts::default() };
        let why = witness.missed(&world, &spared, false).expect("they were not silent");
        assert_eq!(why, "nothing befell the 4 messages on its links");
    }

    #[test]
    fn a_cut_that_strikes_nothing_of_those_who_speak_did_not() {
        let mut world = world();
        let witness = cut(&mut world, true);
        stands(&mut world, 1);
        assert_eq!(missed(&witness, &world, false).as_deref(), Some(NOTHING));
        assert_eq!(missed(&witness, &world, true), None);
        let struck = LinkCounts { offered: 4, blocked: 4, ..LinkCounts::default() };
        assert_eq!(witness.missed(&world, &struck, false), None);
    }

    #[test]
    fn a_fault_that_was_never_carried_out_or_crosses_no_link_is_not_excused() {
        let mut world = world();
        let witness = cut(&mut world, false);
        assert_eq!(missed(&witness, &world, true).as_deref(), Some("its links were not hurt"));
        let nowhere = Witness::of(&world, &[]);
        assert_eq!(missed(&nowhere, &world, true).as_deref(), Some("it crosses no link"));
    }
}
