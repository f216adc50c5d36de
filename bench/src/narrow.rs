//! How long a heartbeat round takes over a narrow link, idle and while its bulk lane is full.
//!
//! Three members in this process, of which the leader hears one at a time. One is cut off while
//! the other helps to commit; then it is the other's turn, and what the first one missed comes over
//! the very link that its heartbeats come over. The link is what is full, and not the cores.
//! Invariant: what is written is bounded, since the log stays in memory.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use chaos::{
    link::{Direction, LinkFaults},
    process::PacketSocket,
    seed::Seed,
};
use runtime::{Clock, Consistency, Group, GroupKey, Network, SystemClock, Time, storage};
use tokio::task::JoinSet;

use crate::{
    echo::Echo,
    node::{self, FORMING_MAX},
    watch::Watch,
};

/// What it came to.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) idle: Vec<Duration>,
    pub(crate) bulk: Vec<Duration>,
    pub(crate) written_bytes: u64,
    /// Before the first round, and as it was last seen.
    pub(crate) terms: Option<(u64, u64)>,
}

/// The members, in the order of their places.
struct Three {
    networks: Vec<Network>,
    sockets: Vec<Arc<PacketSocket>>,
    groups: Vec<Group<Echo>>,
}

pub(crate) async fn measure(rounds: u32, watch: &Watch, measured: &mut Measured) -> Result<()> {
    watch.go_on();
    let three = Three::start().await?;
    let before = three.term();
    for _ in 0..rounds {
        three.hear_only(LAGGARD).await?;
        let end = SystemClock::new();
        measured.idle.append(&mut three.query_while(|| end.now() < Time(IDLE)).await?);
        three.hear_only(HELPER).await?;
        measured.written_bytes += three.write().await?;
        let goal = three.groups[LEADER].status().commit;
        let lags = || three.groups[LAGGARD].status().last.index < goal;
        let begun = || three.groups[LAGGARD].status().replayed.begun;
        let begun_before = begun();
        three.hear_only(LAGGARD).await?;
        ensure!(lags(), "the link is too wide: all was fetched before anything was measured");
        measured.bulk.append(&mut three.query_while(lags).await?);
        ensure!(begun() > begun_before, "what was missed did not come in bulk");
        measured.terms = Some((before, three.term()));
        watch.add(1);
    }
    for network in &three.networks {
        network.shutdown().await;
    }
    Ok(())
}

impl Three {
    async fn start() -> Result<Self> {
        let (mut networks, mut sockets) = (Vec::new(), Vec::new());
        for place in 0..PLACES {
            let socket = PacketSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)), Seed(place))?;
            let socket = Arc::new(socket);
            let datagrams: Arc<PacketSocket> = Arc::clone(&socket);
            networks.push(Network::builder("bench").datagrams(datagrams).build().await?);
            sockets.push(socket);
        }
        let key = GroupKey::from_secret("bench narrow");
        let memory = |_| storage::Memory;
        let groups = node::found_here(&networks, &key, &node::whole_log(), memory).await?;
        let three = Self { networks, sockets, groups };
        // Neither helps the other: all that is fetched comes from the leader.
        three.set(HELPER, LAGGARD, &LinkFaults::blocked())?;
        Ok(three)
    }

    fn term(&self) -> u64 {
        self.groups[LEADER].status().term.0
    }

    /// From now on the leader hears this one, the laggard over a narrow link, and the other no more.
    async fn hear_only(&self, heard: usize) -> Result<()> {
        let faults = if heard == LAGGARD { narrow() } else { LinkFaults::default() };
        self.set(LEADER, heard, &faults)?;
        // What comes to it after this shows that the leader reaches it.
        let last = || self.groups[heard].status().last.index;
        let before = last();
        self.groups[LEADER].execute(Bytes::new()).await.context("writing one command")?;
        let hears = async {
            while last() == before {
                SystemClock::new().sleep_until(Time(LOOK)).await;
            }
        };
        tokio::time::timeout(FORMING_MAX, hears).await.context("nothing comes over the link")?;
        self.set(LEADER, LAGGARD + HELPER - heard, &LinkFaults::blocked())
    }

    /// Both ways.
    fn set(&self, a: usize, b: usize, faults: &LinkFaults) -> Result<()> {
        for (from, to) in [(a, b), (b, a)] {
            let to = self.networks[to].peer().addresses[0];
            self.sockets[from].set(to, Direction::Out, faults.clone())?;
        }
        Ok(())
    }

    /// What the one that is cut off will miss, and how many bytes it is.
    async fn write(&self) -> Result<u64> {
        let command = Bytes::from(vec![7; ENTRY_BYTES]);
        for _ in 0..BATCHES {
            let batch = vec![command.clone(); BATCH];
            for executed in self.groups[LEADER].execute_many(batch).await {
                executed.context("writing what is to be fetched")?;
            }
        }
        Ok((BATCHES * BATCH * ENTRY_BYTES) as u64)
    }

    /// Queries at a steady pace, and how long after its moment each was answered.
    async fn query_while(&self, goes_on: impl Fn() -> bool) -> Result<Vec<Duration>> {
        let (clock, mut queries) = (Arc::new(SystemClock::new()), JoinSet::new());
        let mut due = clock.now();
        while goes_on() && due < Time(STRETCH_MAX) {
            clock.sleep_until(due).await;
            let (leader, clock) = (self.groups[LEADER].clone(), Arc::clone(&clock));
            queries.spawn(async move {
                leader.query((), Consistency::Strong).await.context("querying")?;
                anyhow::Ok(clock.now().since(due))
            });
            due = due.plus(PACE);
        }
        queries.join_all().await.into_iter().collect()
    }
}

/// 25 Mbit/s over 20 ms there and back, with room for a second and more in line.
fn narrow() -> LinkFaults {
    LinkFaults {
        delay_ms: 10,
        bandwidth_bytes_per_s: Some(3_125_000),
        queue_bytes_max: 4 << 20,
        ..LinkFaults::default()
    }
}

/// What a round may take: most of it is what comes over the narrow link.
pub(crate) const ROUND: Duration = Duration::from_secs(12);
const PLACES: u64 = 3;
const LEADER: usize = 0;
const LAGGARD: usize = 1;
const HELPER: usize = 2;
const IDLE: Duration = Duration::from_secs(2);
const PACE: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(5);
const STRETCH_MAX: Duration = Duration::from_secs(30);
const ENTRY_BYTES: usize = 1 << 10;
/// Not more than one session may have unanswered.
const BATCH: usize = 4_000;
const BATCHES: usize = 6;
