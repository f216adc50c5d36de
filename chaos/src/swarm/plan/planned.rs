//! What a world has besides its servers while it carries out a plan: the registers of each
//! server, the links that are hurt, the callers, and what the servers note.
//!
//! Invariant: a server's registers are what its log says up to where it has applied it.

use std::{cell::RefCell, collections::BTreeMap, mem, rc::Rc};

use raft::{EntryRef, Index, NodeId, Note, Payload, Role, Term, Time};
use runtime::{ApplyContext, Event as MemberEvent, StateMachine};

use super::callers::{Callers, Reply};
use crate::{
    cluster::{CountsByLink, NodeEvent, What},
    fault::{LinkRule, NodeNumber},
    history::{LogLine, NodeLog},
    invariant::Application,
    link::{Fate as LinkFate, Link},
    member::{Noting, line, nanos},
    register::{Command, Read, Registers},
    seed::{Seed, Stream},
    swarm::{
        network::{Fate, Network},
        node::Seat,
        world::{Checked, World},
    },
};

/// See the module.
pub(in crate::swarm) struct Planned {
    pub(super) callers: Callers,
    places: Vec<Place>,
    /// By sender and receiver: what a fault once hurt.
    links: BTreeMap<(usize, usize), Link>,
    /// What was noted and not taken yet.
    told: Rc<RefCell<Vec<NodeEvent>>>,
    seed: Seed,
}

/// What a server's driver keeps beside the core.
#[derive(Default)]
struct Place {
    noting: Option<Noting<Tell>>,
    registers: Registers,
    /// By index, from 1.
    applied: Vec<Applied>,
    /// Reads whose index is not applied yet.
    reads: Vec<(Index, u64)>,
    /// When it last came to lead or to stand for election, in whichever life.
    stood: Option<Time>,
}

/// An entry as it was applied.
struct Applied {
    line: LogLine,
    took_effect: bool,
    /// What the register held just before.
    output: Option<u64>,
}

type Tell = Box<dyn Fn(Time, What)>;

impl Planned {
    /// Before anyone has started.
    pub(super) fn new(seats: usize, seed: Seed, callers: Callers) -> Self {
        let places = (0..seats).map(|_| Place::default()).collect();
        Self { callers, places, links: BTreeMap::new(), told: Rc::default(), seed }
    }

    /// The server has started: it has applied nothing, and holds bonds to all that are up.
    pub(in crate::swarm) fn started(&mut self, seat: Seat) {
        let told = Rc::clone(&self.told);
        let node = number(seat);
        let tell = move |at: Time, what: What| {
            told.borrow_mut().push(NodeEvent { at_ns: nanos(at), node, what });
        };
        let numbers = (0..self.places.len()).map(Seat);
        let numbers = numbers.map(|seat| (id(seat).peer, number(seat))).collect();
        let noting = Noting::of(numbers, Box::new(tell) as Tell);
        let stood = self.places[seat.0].stood;
        self.places[seat.0] = Place { noting: Some(noting), stood, ..Place::default() };
    }

    /// A core notes something.
    pub(in crate::swarm) fn noted(&mut self, seat: Seat, at: Time, note: &Note) {
        if matches!(note, Note::Became { role: Role::Candidate | Role::Leader, .. }) {
            self.places[seat.0].stood = Some(at);
        }
        self.told_of(seat, at, &MemberEvent::Raft(note.clone()));
    }

    /// A server has started in this role.
    pub(super) fn became(&self, seat: Seat, at: Time, role: Role, term: Term) {
        let what = What::Became { role, term: term.0 };
        self.told.borrow_mut().push(NodeEvent { at_ns: nanos(at), node: number(seat), what });
    }

    /// Two servers hold a bond, as each of them sees it.
    pub(super) fn bonded(&self, seat: Seat, at: Time, with: Seat) {
        self.told_of(seat, at, &MemberEvent::Bonded(id(with)));
    }

    /// Takes what was noted since the last time.
    pub(super) fn take_told(&mut self) -> Vec<NodeEvent> {
        mem::take(&mut self.told.borrow_mut())
    }

    /// What becomes of a message that is sent now: what the plan does to the link comes on top of
    /// what the network does to every message.
    pub(in crate::swarm) fn fate(
        &mut self,
        network: &mut Network,
        now: Time,
        from: Seat,
        to: Seat,
    ) -> Fate {
        let Some(link) = self.links.get_mut(&(from.0, to.0)) else {
            return network.fate(now, from, to);
        };
        match link.fate(now, MESSAGE_BYTES) {
            // What nothing befalls keeps its order.
            LinkFate::Arrives(first, None) if first.at == now => network.fate(now, from, to),
            LinkFate::Arrives(first, second) => Fate {
                arrives: Some(first.at.plus(network.delay())),
                again: second.map(|second| second.at.plus(network.delay())),
                overtakes: false,
            },
            // No plan with links that hold comes here: that is refused before.
            LinkFate::Gone(_) | LinkFate::Held => Fate::default(),
        }
    }

    /// From now on this befalls the messages between servers.
    pub(super) fn hurt(&mut self, rules: &[LinkRule]) {
        for LinkRule { from, to, faults } in rules {
            let name = format!("link {from} {to}");
            let link = self.links.entry((seat(*from).0, seat(*to).0));
            link.or_insert_with(|| Link::new(Stream::named(self.seed, &name))).set(faults.clone());
        }
    }

    /// Whether just this befalls the messages between servers now.
    pub(super) fn is_hurt(&self, rules: &[LinkRule]) -> bool {
        rules.iter().all(|LinkRule { from, to, faults }| {
            let link = self.links.get(&(seat(*from).0, seat(*to).0));
            link.is_some_and(|link| link.faults() == faults)
        })
    }

    /// When the server last came to lead or to stand for election, if it ever did.
    pub(super) fn stood(&self, seat: Seat) -> Option<Time> {
        self.places[seat.0].stood
    }

    /// What has befallen the messages on all links that were ever hurt.
    pub(super) fn link_counts(&self) -> CountsByLink {
        let counts = self
            .links
            .iter()
            .map(|((from, to), link)| ((number(Seat(*from)), number(Seat(*to))), link.counts()));
        counts.collect()
    }

    /// The log of each server as far as it has applied it.
    pub(super) fn logs(&self) -> Vec<NodeLog> {
        let log = |(seat, place): (usize, &Place)| NodeLog {
            node: number(Seat(seat)).0,
            group: 1,
            lines: place.applied.iter().map(|applied| applied.line).collect(),
        };
        self.places.iter().enumerate().map(log).collect()
    }

    /// What the server's register holds.
    pub(super) fn read(&self, seat: Seat, key: u64) -> Option<u64> {
        self.places[seat.0].registers.query(Read { key })
    }

    /// How far the server has applied the log.
    pub(super) fn applied(&self, seat: Seat) -> Index {
        Index(self.places[seat.0].applied.len() as u64)
    }

    /// What the server answers to a request that took effect at the index before.
    pub(super) fn kept_reply(&self, seat: Seat, index: Index) -> Option<Reply> {
        let place = usize::try_from(index.0.checked_sub(1)?).ok()?;
        let applied = self.places[seat.0].applied.get(place).filter(|kept| kept.took_effect)?;
        let position = Some((applied.line.term, applied.line.index));
        Some(Reply::Done { seat, position, output: applied.output })
    }

    /// A read waits at the server until the index is applied.
    pub(super) fn wait(&mut self, seat: Seat, index: Index, ask: u64) {
        self.places[seat.0].reads.push((index, ask));
    }

    fn told_of(&self, seat: Seat, at: Time, event: &MemberEvent) {
        if let Some(noting) = &self.places[seat.0].noting {
            noting.hear(at, event);
        }
    }

    /// Applies an entry; yields what the register held before, and the reads that may now be
    /// answered.
    fn apply(
        &mut self,
        seat: Seat,
        entry: EntryRef<'_>,
        took_effect: bool,
    ) -> (Option<u64>, Vec<u64>) {
        let Place { registers, applied, reads, .. } = &mut self.places[seat.0];
        let command = match entry.payload {
            Payload::Command { command, .. } if took_effect => {
                postcard::from_bytes::<Command>(command).ok()
            }
            _ => None,
        };
        let context = ApplyContext { position: entry.position };
        let output = command.and_then(|command| registers.apply(command, &context));
        applied.push(Applied { line: line(entry), took_effect, output });
        let index = entry.position.index;
        let ready = reads.extract_if(.., |(wanted, _)| *wanted <= index).map(|(_, ask)| ask);
        (output, ready.collect())
    }
}

impl World {
    /// A server has applied an entry: its registers follow, and who waits for it is answered.
    pub(in crate::swarm) fn plan_applied(
        &mut self,
        seat: Seat,
        entry: EntryRef<'_>,
        application: &Application,
    ) -> Checked {
        let Some(planned) = &mut self.planned else { return Ok(()) };
        let took_effect = application.effective.is_some();
        let (output, reads) = planned.apply(seat, entry, took_effect);
        for call in self.nodes[seat.0].calls.ended(entry.position.index) {
            self.call_ended(&call, seat, application, output)?;
        }
        reads.into_iter().for_each(|ask| self.read_ready(seat, ask));
        Ok(())
    }
}

/// The node on this seat.
pub(super) fn number(seat: Seat) -> NodeNumber {
    NodeNumber(seat.0 as u64 + 1)
}

/// The seat of this node.
pub(super) fn seat(node: NodeNumber) -> Seat {
    Seat(usize::try_from(node.0).unwrap_or(0).saturating_sub(1))
}

/// The server on this seat: in a plan nobody loses a disk.
fn id(seat: Seat) -> NodeId {
    crate::swarm::world::name(seat, 0)
}

/// A model of links asks how much is sent; bandwidth is refused in this world.
const MESSAGE_BYTES: usize = 1;
