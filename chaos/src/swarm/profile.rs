//! What one seed's world is like.
//!
//! Swarm testing: each seed switches a random part of the faults on and draws how strong they
//! are. A world in which everything happens at once never gets to the rare states that need a
//! quiet minute in between.

use std::time::Duration;

use raft::{Config, LeaseLimits, NodeId, SessionLimits};
use runtime::ConsensusProfile;

use crate::{
    plan::{self, Plan, StorageKind},
    seed::{Seed, Stream},
};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// Servers that found the group.
    pub(super) founders: usize,
    /// Servers that may join it later.
    pub(super) spares: usize,
    /// The network.
    pub(super) network: Weather,
    /// How long a sync of a disk takes.
    pub(super) sync: Span,
    /// The faults.
    pub(super) faults: Faults,
    /// Between two acts of the operator.
    pub(super) operator: Span,
    /// Of the operator's acts, how many in a thousand are transfers.
    pub(super) transfer_permille: u64,
    /// How many clients there are.
    pub(super) clients: usize,
    /// Between two acts of a client.
    pub(super) think: Span,
    /// Of a client's acts, how many in a thousand are reads.
    pub(super) read_permille: u64,
    /// A client waits for at most so many answers.
    pub(super) outstanding_max: u64,
    /// The longest command, in bytes.
    pub(super) command_bytes_max: u64,
    /// A server takes a snapshot after so many entries; 0 is never.
    pub(super) compact_entries: u64,
    /// Monotonic clocks run wrong by up to this many millionths.
    pub(super) skew_ppm: u64,
    /// Cores are told when a connection comes back.
    pub(super) tells_connected: bool,
    /// What all cores have in common.
    config: Config,
}

/// From, to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) Duration, pub(super) Duration);

/// What the network does to a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// The usual delay.
    pub(super) delay: Span,
    /// Messages in a thousand that are lost.
    pub(super) loss_permille: u64,
    /// Messages in a thousand that arrive twice.
    pub(super) duplicate_permille: u64,
    /// Messages in a thousand that come very late.
    pub(super) straggle_permille: u64,
    /// How late.
    pub(super) straggle: Span,
    /// Messages of one link may overtake each other.
    pub(super) reorders: bool,
}

/// Which faults there are, and how often one of them strikes.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    /// Between two faults; `None` for a world without any.
    pub(super) every: Option<Span>,
    /// The faults of this world; one that stands twice is twice as likely.
    pub(super) kinds: Vec<Kind>,
    /// How long a fault lasts.
    pub(super) last: Span,
    /// In a thousand new leaders, how many are struck soon after their election.
    pub(super) hunt_permille: u64,
    /// In a thousand of those, how many are heard for a few messages only.
    pub(super) muzzle_permille: u64,
    /// In a thousand new leaders that are struck, how many crash; others are cut off, or stop.
    pub(super) lethal_permille: u64,
    /// In a thousand new leaders that are to be struck, how many are asked for something first.
    pub(super) eager_permille: u64,
    /// In a thousand crashes, how many keep a part of what was not durable.
    pub(super) torn_permille: u64,
}

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// One server stops and loses what was not durable.
    Crash,
    /// All servers do.
    Blackout,
    /// One server hears and reaches nobody.
    Isolate,
    /// The group falls into two parts.
    Halves,
    /// One server no longer reaches another.
    OneWay,
    /// Two parts, and one server that sees both.
    Bridge,
    /// One server stops for a while and goes on as if nothing had happened.
    Pause,
    /// One server reaches nobody, and what it is told comes when that is over.
    Hold,
    /// One server loses its disk.
    Wipe,
}

impl Profile {
    /// The world of this seed, with so many founders if the caller cares.
    pub(super) fn drawn(seed: Seed, founders: Option<usize>) -> Self {
        let mut draw = Stream::named(seed, "profile");
        let heartbeat = draw.duration(ms(10), ms(60));
        let election_min = heartbeat * u32::try_from(draw.between(3, 6)).unwrap_or(3);
        let drawn_founders = small(draw.between(FOUNDERS_MIN, FOUNDERS_MAX));
        let faults = Faults::drawn(&mut draw, election_min);
        let mut profile = Self {
            founders: founders.unwrap_or(drawn_founders),
            spares: small(draw.below(3)),
            network: Weather::drawn(&mut draw, election_min),
            sync: Span(us(20), election_min / *some(&mut draw, &[200, 20, 4, 1])),
            faults,
            operator: Span(ms(20), *some(&mut draw, &[ms(200), ms(600), ms(3000)])),
            transfer_permille: *some(&mut draw, &[0, 200, 500, 1000]),
            clients: small(draw.between(1, 6)),
            think: Span(ms(1), *some(&mut draw, &[ms(20), ms(80), ms(300)])),
            read_permille: *some(&mut draw, &[0, 200, 500]),
            outstanding_max: draw.between(1, 8),
            command_bytes_max: *some(&mut draw, &[0, 16, 64]),
            compact_entries: *some(&mut draw, &[0, 8, 30, 100]),
            skew_ppm: *some(&mut draw, &[0, 0, 200, 50_000]),
            tells_connected: draw.chance(700),
            config: Config {
                id: NodeId::small(0),
                election_timeout_min: election_min,
                election_timeout_max: election_min * 2,
                heartbeat_interval: heartbeat,
                inflight_entries_max: *some(&mut draw, &[1, 2, 8, 256]),
                inflight_bytes_max: *some(&mut draw, &[128, 1 << 12, 1 << 20]),
                // At the smallest, one entry to a message: a leader then replicates what it
                // inherited before its own first entry, which is where Figure 8 lives.
                message_bytes_max: *some(&mut draw, &[1, 1, 256, 1 << 16]),
                uncommitted_entries_max: *some(&mut draw, &[8, 64, 4096]),
                unapplied_bytes_max: 1 << 20,
                reads_max: *some(&mut draw, &[2, 64]),
                sessions: SessionLimits {
                    sessions_max: *some(&mut draw, &[2, 4, 64]),
                    replies_per_session_max: *some(&mut draw, &[2, 8, 64]),
                },
                lease: None,
                reluctance: 1,
                observer: false,
                seed: seed.0,
            },
        };
        if draw.chance(HUNTING_PERMILLE) {
            let few = *some(&mut draw, &[3, 3, 5]);
            profile.hunt();
            profile.founders = founders.unwrap_or(few);
        }
        profile.lease(&mut Stream::named(seed, "lease"));
        profile
    }

    /// The world that a plan asks for: links and disks of its profile's kind, and nothing that
    /// the plan does not say.
    pub(super) fn of(plan: &Plan, seed: Seed) -> Self {
        let consensus = plan::consensus(plan);
        let delay = match plan.profile {
            ConsensusProfile::Lan => Span(us(50), us(300)),
            ConsensusProfile::Wan => Span(ms(10), ms(40)),
            ConsensusProfile::Loopback => Span(us(20), us(80)),
        };
        let sync = match plan.storage {
            StorageKind::Memory => Span(Duration::ZERO, Duration::ZERO),
            StorageKind::Disk => Span(us(100), ms(1)),
        };
        let sessions = SessionLimits {
            sessions_max: consensus.sessions_max as usize,
            replies_per_session_max: consensus.replies_per_session_max as usize,
        };
        Self {
            founders: small(plan.nodes),
            spares: 0,
            network: Weather { delay, reorders: false, ..Weather::calm() },
            sync,
            faults: Faults::none(),
            operator: Span(ms(1), ms(1)),
            transfer_permille: 0,
            clients: 0,
            think: Span(ms(1), ms(1)),
            read_permille: 0,
            outstanding_max: 0,
            command_bytes_max: 0,
            compact_entries: 0,
            skew_ppm: 0,
            tells_connected: true,
            config: Config {
                id: NodeId::small(0),
                election_timeout_min: consensus.election_timeout,
                election_timeout_max: consensus.election_timeout
                    + consensus.election_timeout_jitter,
                heartbeat_interval: consensus.heartbeat_interval,
                inflight_entries_max: u64::from(consensus.inflight_entries_max),
                inflight_bytes_max: consensus.inflight_bytes_max as usize,
                message_bytes_max: consensus.message_bytes_max as usize,
                uncommitted_entries_max: u64::from(consensus.uncommitted_entries_max),
                unapplied_bytes_max: 64 << 20,
                reads_max: consensus.requests_max as usize,
                sessions,
                lease: consensus.lease_limits(),
                reluctance: 1,
                observer: false,
                seed: seed.0,
            },
        }
    }

    /// Makes this a world where every new leader is struck after its first words, and little
    /// else goes wrong: old entries are left behind in one log, found again by a later leader,
    /// and lost once more. That is the way to the paper's Figure 8.
    fn hunt(&mut self) {
        let election = self.config.election_timeout_min;
        self.network.loss_permille = 0;
        self.network.straggle_permille = 0;
        self.network.delay.1 = election / 8;
        self.sync.1 = election / 32;
        self.faults.every = None;
        self.faults.last = Span(ms(1), election * 4);
        self.faults.hunt_permille = 950;
        self.faults.muzzle_permille = 700;
        self.think = Span(election, election * 8);
        self.config.message_bytes_max = 1;
        self.skew_ppm = 0;
        self.spares = 0;
        self.operator.0 = self.operator.1;
        self.read_permille = 0;
    }

    /// In half of all worlds leaders may hold leases, cut for clocks that run as wrong as here.
    fn lease(&mut self, draw: &mut Stream) {
        let drift_ppm_max = u32::try_from(self.skew_ppm).unwrap_or(u32::MAX);
        let limits = LeaseLimits { drift_ppm_max, margin: Duration::ZERO };
        self.config.lease = draw.chance(500).then_some(limits);
    }

    /// How the core of this server is configured.
    pub(super) fn config(&self, id: NodeId, incarnation: u64, observer: bool) -> Config {
        let seed = Seed(self.config.seed).child(incarnation).0;
        Config { id, seed, observer, ..self.config.clone() }
    }

    /// The longest that a server waits before it stands, on any of the world's clocks.
    pub(super) fn patience(&self) -> Duration {
        self.config.election_timeout_max * 2
    }

    /// The bounds of the session table.
    pub(super) fn sessions(&self) -> SessionLimits {
        self.config.sessions
    }
}

impl Weather {
    fn drawn(draw: &mut Stream, election_min: Duration) -> Self {
        Self {
            delay: Span(us(50), *some(draw, &[us(200), ms(2), ms(8)])),
            loss_permille: *some(draw, &[0, 0, 10, 50, 200]),
            duplicate_permille: *some(draw, &[0, 0, 10, 100]),
            straggle_permille: *some(draw, &[0, 0, 5, 50]),
            straggle: Span(ms(5), election_min * 5),
            reorders: draw.chance(700),
        }
    }

    /// A good day: nothing goes wrong, and a broadcast takes much less than an election timeout
    /// (Raft §5.6), or nothing could be demanded.
    pub(super) fn calm() -> Self {
        Self {
            delay: CALM,
            loss_permille: 0,
            duplicate_permille: 0,
            straggle_permille: 0,
            straggle: CALM,
            reorders: true,
        }
    }
}

impl Faults {
    /// None by themselves. Of what a crash finds on its way to the disk, a part may survive.
    fn none() -> Self {
        Self {
            every: None,
            kinds: Vec::new(),
            last: Span(Duration::ZERO, Duration::ZERO),
            hunt_permille: 0,
            muzzle_permille: 0,
            lethal_permille: 0,
            eager_permille: 0,
            torn_permille: 500,
        }
    }

    fn drawn(draw: &mut Stream, election_min: Duration) -> Self {
        let all = [
            Kind::Crash,
            Kind::Crash,
            Kind::Blackout,
            Kind::Isolate,
            Kind::Halves,
            Kind::OneWay,
            Kind::Bridge,
            Kind::Pause,
            Kind::Hold,
            Kind::Wipe,
            Kind::Wipe,
        ];
        let kinds: Vec<Kind> = all.into_iter().filter(|_| draw.chance(600)).collect();
        let between = *some(draw, &[election_min * 2, election_min * 6, election_min * 20]);
        let quiet = kinds.is_empty() || draw.chance(QUIET_PERMILLE);
        Self {
            every: (!quiet).then_some(Span(ms(1), between)),
            kinds,
            last: Span(ms(1), *some(draw, &[election_min, election_min * 4, election_min * 12])),
            hunt_permille: *some(draw, &[0, 200, 600, 900]),
            muzzle_permille: *some(draw, &[0, 300, 900]),
            lethal_permille: *some(draw, &[200, 600, 900]),
            eager_permille: *some(draw, &[0, 500, 1000]),
            torn_permille: *some(draw, &[0, 500, 1000]),
        }
    }
}

fn some<'a, T>(draw: &mut Stream, among: &'a [T]) -> &'a T {
    draw.pick(among).expect("the alternatives are written out")
}

fn small(number: u64) -> usize {
    usize::try_from(number).expect("drawn from a small range")
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn us(count: u64) -> Duration {
    Duration::from_micros(count)
}

/// Worlds that do nothing but hunt leaders.
const HUNTING_PERMILLE: u64 = 450;
/// Worlds in which only new leaders are struck: enough goes well there for entries to be left
/// behind in one log and found again later.
const QUIET_PERMILLE: u64 = 200;
/// How long a message or a sync takes on a good day.
pub(super) const CALM: Span = Span(us(50), ms(1));
/// The fewest founders of a drawn world.
const FOUNDERS_MIN: u64 = 3;
/// The most.
const FOUNDERS_MAX: u64 = 7;
