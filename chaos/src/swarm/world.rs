//! The world itself: who is in it, what is going to happen, and what time it is.
//!
//! Takes one event after the other. What a core makes of it is in `effects`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
};

use raft::{
    Configuration, Effect, Index, Input, NodeId, PeerId, Position, Raft, Role, StoreId, Time,
};

use super::{
    Failure, Options, Outcome,
    clients::Clients,
    counts::Counts,
    effects::Turn,
    event::{Event, Parcel},
    machine::Machine,
    network::Network,
    node::{Clock, Node, Seat},
    plan::Planned,
    planted::{DriverFault, Plant},
    profile::{Profile, Span},
    queue::Queue,
    trace::fingerprint,
};
use crate::{
    invariant::{Cause, Invariants, Server, Violation},
    seed::{Seed, Stream, mix},
};

/// What an invariant made of a step.
pub(super) type Checked = Result<(), Violation>;

/// See the module.
pub(super) struct World {
    pub(super) seed: Seed,
    pub(super) profile: Profile,
    pub(super) now: Time,
    pub(super) queue: Queue<Event>,
    /// By seat.
    pub(super) nodes: Vec<Node>,
    pub(super) network: Network,
    pub(super) clients: Clients,
    pub(super) invariants: Invariants,
    pub(super) counts: Counts,
    pub(super) streams: Streams,
    /// Every machine that was ever written as a snapshot and may still be asked for.
    pub(super) archive: BTreeMap<Position, Rc<Machine>>,
    /// Servers whose disk is gone.
    pub(super) dead: BTreeSet<NodeId>,
    /// All servers that there have ever been, by number.
    pub(super) servers: Vec<NodeId>,
    /// The last index that anyone applied, and the configuration there.
    pub(super) applied: Index,
    pub(super) configuration: Configuration,
    /// The last probe that anyone applied.
    pub(super) probed: Index,
    /// The faults are over.
    pub(super) calm: bool,
    /// A plan is carried out here, in place of drawn clients, operators and faults.
    pub(super) planned: Option<Box<Planned>>,
    pub(super) plant: Option<Plant>,
    steps_max: u64,
    /// Empty between steps; kept for its room.
    pub(super) effects: Vec<Effect>,
    told: VecDeque<String>,
    tell_from: Option<u64>,
    trace_hash: u64,
}

/// The streams that the seed splits into, beside the network's own.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) disks: Stream,
    pub(super) clients: Stream,
    pub(super) operator: Stream,
    pub(super) faults: Stream,
    pub(super) clocks: Stream,
    pub(super) carriers: Stream,
}

impl World {
    /// A world in which nobody has started yet.
    pub(super) fn new(options: &Options, invariants: Invariants, tell_from: Option<u64>) -> Self {
        let profile = Profile::drawn(options.seed, options.nodes);
        let world = Self::of(options.seed, profile, invariants);
        Self { plant: options.plant, steps_max: options.steps, tell_from, ..world }
    }

    /// A world like this one, in which nobody has started yet.
    pub(super) fn of(seed: Seed, profile: Profile, invariants: Invariants) -> Self {
        let seats = profile.founders + profile.spares;
        let founding = Configuration::of((0..profile.founders).map(|seat| name(Seat(seat), 0)));
        Self {
            seed,
            now: Time::default(),
            queue: Queue::default(),
            nodes: Vec::with_capacity(seats),
            network: Network::new(seed, profile.network, seats),
            clients: Clients::new(profile.clients),
            invariants,
            counts: Counts::default(),
            streams: Streams::new(seed),
            archive: BTreeMap::new(),
            dead: BTreeSet::new(),
            servers: Vec::new(),
            applied: Index(0),
            configuration: founding,
            probed: Index(0),
            calm: false,
            planned: None,
            plant: None,
            steps_max: u64::MAX,
            effects: Vec::new(),
            told: VecDeque::new(),
            tell_from: None,
            trace_hash: seed.0,
            profile,
        }
    }

    /// Runs to the end, the healing included.
    pub(super) fn run(&mut self) -> Result<Outcome, Box<Failure>> {
        // A core that finds itself in an impossible state panics. That is a finding like any
        // other, and must not take the seed and the events with it.
        let run = panic::catch_unwind(AssertUnwindSafe(|| self.live()));
        let lived = run.unwrap_or_else(|panic| Err(Violation::of("panic", said(&*panic))));
        self.counts.simulated_ms = u64::try_from(self.now.0.as_millis()).unwrap_or(u64::MAX);
        match lived {
            Ok(()) => Ok(Outcome { counts: self.counts, trace_hash: self.trace_hash }),
            Err(violation) => Err(self.failed(violation)),
        }
    }

    fn live(&mut self) -> Checked {
        self.begin()?;
        while self.counts.steps < self.steps_max {
            self.turn()?;
        }
        self.heal_and_prove_life()
    }

    /// When the next thing happens.
    pub(super) fn next_at(&self) -> Option<Time> {
        let timer = self.next_timer().map(|(at, _)| at);
        timer.into_iter().chain(self.queue.next_at()).min()
    }

    /// What all that happened folds to.
    pub(super) fn trace_hash(&self) -> u64 {
        self.trace_hash
    }

    /// One event: a timer or whatever else is next.
    pub(super) fn turn(&mut self) -> Checked {
        let timer = self.next_timer();
        let event = self.queue.next_at();
        // Here nobody asks for more than is served, so it is the servers that talk without end.
        // Of a plan's load that is not sure: its conductor looks before.
        if let Some(count) = self.queue.overflow() {
            let what = format!("{count} things are under way at once");
            return Err(Violation::of("storm", what));
        }
        match timer {
            Some((at, seat)) if event.is_none_or(|event| at <= event) => {
                self.now = self.now.max(at);
                self.fire(seat)
            }
            _ => match self.queue.take() {
                Some((at, event)) => {
                    self.now = self.now.max(at);
                    self.happen(event)
                }
                None => Err(Violation::of("liveness", "nothing is left to happen".to_owned())),
            },
        }
    }

    fn next_timer(&self) -> Option<(Time, Seat)> {
        let up = self.nodes.iter().enumerate().filter(|(_, node)| node.core.is_some());
        up.map(|(seat, node)| (node.timer.max(node.paused_until), Seat(seat))).min()
    }

    /// Starts the core of a server from its disk.
    pub(super) fn start(&mut self, seat: Seat) -> Checked {
        let node = &mut self.nodes[seat.0];
        node.incarnation += 1;
        node.machine = (*node.disk.snapshot).clone();
        node.barrier = raft::Barrier::default();
        node.compacting = false;
        node.words = None;
        let config = self.profile.config(node.id, node.incarnation, node.observer);
        node.election_timeout_min = config.election_timeout_min;
        node.election_timeout_max = config.election_timeout_max;
        let now = node.clock.shows(self.now);
        let started = Raft::new(config, node.disk.restored(), now);
        let mut core = started.map_err(|raft::Inconsistent(what)| {
            Violation::of("restart", format!("{:?} refuses its own disk: {what}", node.id))
        })?;
        match self.plant {
            Some(Plant::Core(plant)) => plant(&mut core),
            #[cfg(feature = "planted-faults")]
            Some(Plant::Rule(rule)) => {
                core.plant(rule);
                node.barrier.plant(rule);
            }
            Some(Plant::Driver(_)) | None => {}
        }
        let written = Some(core.log().start().index);
        node.core = Some(core);
        node.paused_until = self.now;
        let (server, id, machine) = (node.server, node.id, &node.machine);
        self.invariants.restored(server, id, machine.applied, machine.state)?;
        if let Some(planned) = &mut self.planned {
            planned.started(seat);
        }
        self.settle(seat, Turn::of(Cause::Other, now, written))
    }

    /// Tells what happens, if this is where the telling has begun.
    pub(super) fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.tell_from.is_none_or(|from| self.counts.steps < from) {
            return;
        }
        if self.told.len() == TOLD_MAX {
            self.told.pop_front();
        }
        let line = format!("{:>14?} {}", self.now.0, what(self));
        self.told.push_back(line);
    }

    /// The server that leads in the latest term, as far as anyone can know.
    pub(super) fn leader(&self) -> Option<Seat> {
        let up = self.nodes.iter().enumerate();
        let leads = up.filter_map(|(seat, node)| {
            let core = node.core.as_ref()?;
            (core.role() == Role::Leader).then(|| (core.term(), Seat(seat)))
        });
        leads.max().map(|(_, seat)| seat)
    }

    /// Whether the server can be spoken to now.
    pub(super) fn awake(&self, seat: Seat) -> bool {
        let node = &self.nodes[seat.0];
        node.core.is_some() && node.paused_until <= self.now
    }

    /// Whether this rule of the driver or the disk is broken here.
    pub(super) fn breaks(&self, rule: DriverFault) -> bool {
        matches!(self.plant, Some(Plant::Driver(broken)) if broken == rule)
    }

    /// Folds something that happened into the trace.
    pub(super) fn trace(&mut self, what: u64) {
        let nanos = u64::try_from(self.now.0.as_nanos()).unwrap_or(u64::MAX);
        self.trace_hash = mix(self.trace_hash, mix(nanos, what));
    }

    /// A new server on this seat, not started.
    pub(super) fn newcomer(&mut self, seat: Seat, founding: Configuration) -> Node {
        let old = self.nodes.get(seat.0).map(|old| (old.id, old.server));
        let (id, server) = match old.filter(|_| self.breaks(DriverFault::WipedVoterVotes)) {
            Some(same) => same,
            None => {
                let id = name(seat, old.map_or(0, |(id, _)| id.store.0 + 1));
                self.servers.push(id);
                (id, Server(self.servers.len() - 1))
            }
        };
        let skew = self.profile.skew_ppm;
        let clock = Clock {
            offset_ns: self.streams.clocks.below(1 << 40),
            rate_ppm: self.streams.clocks.between(1_000_000 - skew, 1_000_000 + skew),
        };
        let machine = Machine::new(founding, self.profile.sessions());
        let mut node = Node::new(id, server, machine, clock);
        // What was under way for the store that is gone must not reach this one.
        node.incarnation = self.nodes.get(seat.0).map_or(0, |old| old.incarnation);
        node.observer = seat.0 >= self.profile.founders && self.streams.clocks.chance(300);
        node
    }

    /// Founds the group, and starts whoever has a hand in it.
    pub(super) fn begin(&mut self) -> Checked {
        let seats = self.profile.founders + self.profile.spares;
        let founding = self.configuration.clone();
        for seat in (0..seats).map(Seat) {
            let founds = seat.0 < self.profile.founders;
            let known = if founds { founding.clone() } else { Configuration::default() };
            let node = self.newcomer(seat, known);
            self.nodes.push(node);
        }
        for seat in 0..seats {
            self.start(Seat(seat))?;
        }
        if self.planned.is_some() {
            return Ok(());
        }
        for client in 0..self.profile.clients {
            self.queue.put(self.now, Event::Client(client));
        }
        self.schedule(self.profile.operator, Event::Operator);
        if let Some(every) = self.profile.faults.every {
            self.schedule(every, Event::Fault);
        }
        self.begin_to_carry();
        Ok(())
    }

    fn schedule(&mut self, span: Span, event: Event) {
        let after = self.streams.operator.duration(span.0, span.1);
        self.queue.put(self.now.plus(after), event);
    }

    fn fire(&mut self, seat: Seat) -> Checked {
        self.counts.steps += 1;
        self.trace(seat.0 as u64);
        self.tell(|world| format!("{} times out", world.nodes[seat.0].id));
        self.input(seat, Input::Timeout)
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Deliver(parcel) => self.deliver(parcel),
            Event::Synced { seat, incarnation, last } => self.synced(seat, incarnation, last),
            Event::Installed { seat, incarnation, install, from, position } => {
                let node = &self.nodes[seat.0];
                let asked = node.lives(incarnation) && node.installs == install;
                if asked { self.install(seat, from, position) } else { Ok(()) }
            }
            Event::Compacted { seat, incarnation, snapshot } => {
                self.compacted(seat, incarnation, snapshot)
            }
            Event::Carry => self.carry(),
            Event::Carried { seat, incarnation, carried } => {
                self.carried(seat, incarnation, carried)
            }
            Event::Connected { seat, peer } => {
                let peer = self.nodes[peer.0].id;
                self.input(seat, Input::Connected(peer))
            }
            Event::Client(client) => self.client_acts(client),
            Event::Eager(client) => self.client_asks(client),
            Event::Read { seat, incarnation, id } => {
                let lives = self.nodes[seat.0].lives(incarnation);
                if lives { self.read_arrives(seat, id) } else { Ok(()) }
            }
            Event::Operator => {
                self.operator_acts()?;
                self.schedule(self.profile.operator, Event::Operator);
                Ok(())
            }
            Event::Fault => {
                self.fault_strikes()?;
                if let Some(every) = self.profile.faults.every {
                    self.schedule(every, Event::Fault);
                }
                Ok(())
            }
            Event::Struck { seat, incarnation } => self.leader_struck(seat, incarnation),
            Event::Pause { seat, incarnation, lasts } => {
                if self.nodes[seat.0].lives(incarnation) {
                    self.pause(seat, lasts);
                }
                Ok(())
            }
            Event::Restart { seat } => self.restart(seat),
            Event::Heal(cut) => {
                self.heal(&cut);
                Ok(())
            }
            Event::Caller(event) => self.caller_acts(event),
        }
    }

    fn deliver(&mut self, parcel: Parcel) -> Checked {
        let Parcel { from, seat, to, .. } = parcel;
        let node = &self.nodes[seat.0];
        if node.core.is_none() || node.server != to || self.network.is_cut(from, seat) {
            self.counts.lost += 1;
            return Ok(());
        }
        let later = node.paused_until.max(node.held_until);
        if later > self.now {
            self.queue.put(later, Event::Deliver(parcel));
            return Ok(());
        }
        let (to, sender, message) = (node.id, self.servers[parcel.sender.0], parcel.message);
        self.counts.steps += 1;
        self.counts.delivered += 1;
        self.trace(mix(fingerprint(&message), (from.0 * self.nodes.len() + seat.0) as u64));
        self.tell(|_| format!("{sender} -> {to} {message:?}"));
        self.input(seat, Input::Message { from: sender, message })
    }

    fn failed(&mut self, violation: Violation) -> Box<Failure> {
        Box::new(Failure {
            seed: self.seed,
            step: self.counts.steps,
            violation,
            counts: self.counts,
            events: mem::take(&mut self.told).into(),
        })
    }
}

impl Streams {
    fn new(seed: Seed) -> Self {
        Self {
            disks: Stream::named(seed, "disks"),
            clients: Stream::named(seed, "clients"),
            operator: Stream::named(seed, "operator"),
            faults: Stream::named(seed, "faults"),
            clocks: Stream::named(seed, "clocks"),
            carriers: Stream::named(seed, "carriers"),
        }
    }
}

/// The name of the server that keeps this seat's `store`th store.
pub(super) fn name(seat: Seat, store: u128) -> NodeId {
    let mut peer = [0; 32];
    peer[31] = u8::try_from(seat.0 + 1).expect("a world has few seats");
    NodeId { peer: PeerId(peer), store: StoreId(store) }
}

/// The words of a panic.
pub(super) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words").to_owned()
}

/// Names sessions that belong to no client.
pub(super) const PROBE: u64 = u64::MAX;

/// How many events a failure tells at most.
const TOLD_MAX: usize = 120;
