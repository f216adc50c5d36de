//! Long lives of a store, drawn from a seed, cut at every step of its disk.
//!
//! A life founds, is renewed, votes, appends, replaces what is not covered, takes snapshots and is
//! given those of others, seals, rests and is opened anew. At a cut names are kept in order, and
//! each write that is not synced survives as a whole, not at all, or torn at its sectors; one cut
//! is made within the very opening that follows another. The rule is that of all these tests: what
//! was reported durable is there, and what is there was submitted.
//!
//! `CRASH_LIVES=40` leads so many lives and makes every cut; without it one life is cut at some.

use std::{collections::BTreeMap, ops::Range};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Act, Life, SEGMENT_BYTES, append, elect, go_on, perform, replace};
use crate::storage::{
    Rest,
    disk::open_stream,
    model::{Model, Trace},
    samples::owner,
};

/// What the next act of a life has to go by.
struct Past {
    random: Xoshiro256PlusPlus,
    term: u64,
    voted: bool,
    /// Where the log starts and ends.
    covered: u64,
    last: u64,
    /// The term of each entry from the last that is covered.
    terms: BTreeMap<u64, u64>,
}

impl Past {
    fn new(seed: u64) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let terms = BTreeMap::from([(0, 0)]);
        Self { random, term: 0, voted: false, covered: 0, last: 0, terms }
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.random.random_range(0..count) == 0
    }

    /// The first groups: a store is founded, and now and then was renewed before.
    fn beginning(&mut self) -> Vec<Vec<Act>> {
        let mut groups = Vec::new();
        if self.one_in(2) {
            groups.push(vec![elect(4, Some(2)), Act::Found(9), replace(4, 0, &[50])]);
            groups.push(vec![Act::Renew(77)]);
        }
        groups.push(vec![Act::Found(1)]);
        groups
    }

    fn group(&mut self) -> Vec<Act> {
        let acts = self.random.random_range(1..4);
        (0..acts).map(|_| self.act()).collect()
    }

    fn act(&mut self) -> Act {
        let kind = self.random.random_range(0..100);
        match kind {
            _ if self.term == 0 => self.elect(true),
            0..6 => self.elect(true),
            6..12 if !self.voted => self.elect(false),
            12..17 => self.replace(self.covered),
            17..21 if self.last > self.covered => self.snapshot(),
            21..23 => self.install(),
            _ => self.replace(self.last),
        }
    }

    fn elect(&mut self, next_term: bool) -> Act {
        if next_term {
            self.term += self.random.random_range(1..3);
        }
        let vote = (!next_term || self.one_in(2)).then(|| self.random.random_range(1..4));
        self.voted = vote.is_some();
        elect(self.term, vote)
    }

    /// Entries behind one that is drawn from there on.
    fn replace(&mut self, from: u64) -> Act {
        let after = self.random.random_range(from..=self.last);
        let count = self.random.random_range(1..6);
        let long = self.one_in(12);
        let sizes: Vec<usize> = (0..count)
            .map(|_| self.random.random_range(0..if long { 2_500 } else { 120 }))
            .collect();
        self.terms.retain(|index, _| *index <= after);
        self.last = after + sizes.len() as u64;
        self.terms.extend((after + 1..=self.last).map(|index| (index, self.term)));
        replace(self.term, after, &sizes)
    }

    fn snapshot(&mut self) -> Act {
        let index = self.random.random_range(self.covered + 1..=self.last);
        let term = self.cover(index);
        match self.one_in(4) {
            true => Act::Install(term, index, Rest::Stays),
            false => Act::Snapshot(term, index),
        }
    }

    /// Another's, of a log that goes on where this one never was.
    fn install(&mut self) -> Act {
        self.last += self.random.random_range(1..20);
        self.terms.insert(self.last, self.term);
        let (index, term) = (self.last, self.cover(self.last));
        Act::Install(term, index, Rest::GivesWay)
    }

    /// The term of the entry that the log starts after from now on.
    fn cover(&mut self, index: u64) -> u64 {
        self.covered = index;
        self.terms.retain(|entry, _| *entry >= index);
        self.terms[&index]
    }
}

impl Life {
    /// Lives through so many groups of acts that are drawn.
    fn draw(seed: u64, groups: usize) -> Self {
        let (mut past, model) = (Past::new(seed), Model::default());
        let open = || open_stream(Box::new(model.clone()), owner(7), SEGMENT_BYTES);
        let (mut stream, contents) = open().expect("new");
        let (mut states, mut progress) = (vec![contents], vec![(0, 0, 0)]);
        let mut script = past.beginning();
        for turn in 0..groups {
            if turn >= script.len() {
                script.push(past.group());
            }
            let done = states.len() - 1;
            progress.push((model.steps(), done + script[turn].len(), done));
            for act in &script[turn] {
                append(&mut stream, act).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                let mut next = states.last().expect("never empty").clone();
                perform(&mut next, act);
                states.push(next);
            }
            stream.commit().expect("the model works");
            progress.push((model.steps(), states.len() - 1, states.len() - 1));
            if past.one_in(4) {
                stream.seal().and_then(|()| stream.prepare()).expect("the model works");
            }
            if past.one_in(25) {
                drop(stream);
                let (opened, contents) =
                    open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                assert_eq!(Some(&contents), states.last(), "seed {seed}, turn {turn}");
                stream = opened;
            }
        }
        Self { model, script, states, progress }
    }
}

/// What survives of the writes that are not synced at a cut.
#[derive(Clone, Copy, Debug)]
enum Survivors {
    None,
    All,
    Torn,
}

/// Cuts a trace before a step.
fn cut(trace: &Trace, end: usize, survivors: Survivors, random: &mut Xoshiro256PlusPlus) -> Model {
    let names = match survivors {
        Survivors::None => 0,
        Survivors::All => usize::MAX,
        Survivors::Torn => random.random_range(0..4),
    };
    let image = trace.torn_image(end, names, |offset, length| match survivors {
        Survivors::None => Vec::new(),
        Survivors::All => vec![Range { start: 0, end: length }],
        Survivors::Torn => {
            let mut sectors = sectors(offset, length);
            sectors.retain(|_| random.random_range(0..2) == 0);
            sectors
        }
    });
    Model::left(&image, trace.is_named(end, matches!(survivors, Survivors::All)))
}

fn sectors(offset: u64, length: usize) -> Vec<Range<usize>> {
    let first = SECTOR_BYTES - offset as usize % SECTOR_BYTES;
    let ends = (first..length).step_by(SECTOR_BYTES).chain([length]);
    let mut from = 0;
    ends.map(|end| std::mem::replace(&mut from, end)..end).collect()
}

/// How many cuts were made, and in how many something was lost.
fn cut_everywhere(seed: u64, stride: usize) -> (usize, usize) {
    let life = Life::draw(seed, GROUPS);
    let (trace, acts) = (life.model.trace(), life.acts());
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0xc07);
    let (mut cuts, mut lossy) = (0, 0);
    for end in (0..=trace.0.len()).step_by(stride) {
        let allowed = life.allowed(end);
        for survivors in [Survivors::None, Survivors::All, Survivors::Torn, Survivors::Torn] {
            let story = format!("seed {seed}, before step {end}, {survivors:?}");
            let model = cut(&trace, end, survivors, &mut random);
            let found = model.steps();
            let state = life.reopen(&model, allowed.clone(), &story);
            // The power fails again while the store is being opened.
            let opening = model.trace();
            let again = random.random_range(found..=opening.0.len());
            let twice = cut(&opening, again, Survivors::Torn, &mut random);
            life.reopen(&twice, allowed.clone(), &format!("{story}, and again at {again}"));
            go_on(&life, &model, state, acts.get(state), &story);
            cuts += 2;
            lossy += usize::from(state + 1 < allowed.end);
        }
    }
    (cuts, lossy)
}

#[test]
fn a_drawn_life_cut_anywhere_keeps_what_was_durable() {
    let lives = std::env::var("CRASH_LIVES").ok();
    let (lives, stride) = match &lives {
        Some(lives) => (lives.parse().expect("CRASH_LIVES must be a whole number"), 1),
        None => (1, 5),
    };
    let (mut cuts, mut lossy) = (0, 0);
    for seed in 0..lives {
        let (more, lost) = cut_everywhere(seed, stride);
        (cuts, lossy) = (cuts + more, lossy + lost);
    }
    println!("{lives} lives, {cuts} cuts, {lossy} of them lost something that was not durable");
    assert!(cuts > 2_000 && lossy > 100, "{cuts} cuts, {lossy} lossy: the model is too kind");
}

#[test]
fn a_drawn_life_holds_everything_that_befalls_a_store() {
    let life = Life::draw(0, GROUPS);
    let acts = life.acts();
    let count = |is_such: fn(&Act) -> bool| acts.iter().filter(|act| is_such(act)).count();
    let counts = [
        count(|act| matches!(act, Act::Found(_))),
        count(|act| matches!(act, Act::Snapshot(..))),
        count(|act| matches!(act, Act::Install(_, _, Rest::Stays))),
        count(|act| matches!(act, Act::Install(_, _, Rest::GivesWay))),
        count(|act| matches!(act, Act::Write(raft::Write::HardState(_)))),
        count(|act| matches!(act, Act::Write(raft::Write::Entries { .. }))),
    ];
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

const GROUPS: usize = 250;
const SECTOR_BYTES: usize = 512;
