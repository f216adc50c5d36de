//! The member that a node process is, of one group or of several on one endpoint, and what it
//! answers the harness.
//!
//! Invariant: every request is answered once, with a value or with a reason.

use std::{sync::Arc, time::Duration};

use nix::sys::resource::{UsageWho, getrusage};
use runtime::{Clock, Event, Index, Network, Peer, Time, storage};
use tokio::sync::mpsc;

use super::{
    clock::NodeClock,
    listening::{self, Listening},
    outbox::Outbox,
    store::HostStore,
};
use crate::{
    cluster::What,
    disk::Harm,
    fault::NodeNumber,
    member::{Depths, Joined, Membership, Noting, nanos},
    process::{
        HostClock, PacketSocket,
        control::{Answer, Ask, Init, LinkSetting, Request, row_of},
    },
    register::Registers,
    seed::{Seed, Stream},
};

/// A node that listens, and once told to is a member.
pub(super) struct Member {
    init: Init,
    network: Network,
    /// Below the network, if the node was started so that its links can be hurt.
    socket: Option<Arc<PacketSocket>>,
    clock: Arc<NodeClock>,
    /// What befalls its disk.
    harm: Harm,
    outbox: Outbox,
    /// In each group, the first one's first.
    joined: Vec<Joined<Registers>>,
}

impl Member {
    /// Listens.
    pub(super) async fn bind(init: Init, outbox: Outbox) -> Result<Self, String> {
        let Listening { network, socket, clock } = Listening::start(&init).await?;
        let harm = Harm::new(Stream::named(Seed(init.entropy), "disk"));
        harm.set(init.disk);
        Ok(Self { init, network, socket, clock, harm, outbox, joined: Vec::new() })
    }

    /// Answers until it is told to end.
    pub(super) async fn serve(
        mut self,
        id: u64,
        mut asked: mpsc::Receiver<Request>,
    ) -> Result<(), String> {
        self.outbox.reply(id, Ok(Answer::Bound(self.network.peer()))).await?;
        let mut sample_at = HostClock.now().plus(SAMPLE_INTERVAL);
        loop {
            let request = tokio::select! {
                request = asked.recv() => request,
                () = HostClock.sleep_until(sample_at) => {
                    sample_at = HostClock.now().plus(SAMPLE_INTERVAL);
                    self.sample();
                    continue;
                }
            };
            let Some(Request { id, group, ask }) = request else { return Ok(()) };
            let ends = ask == Ask::Shutdown;
            if let Some(answer) = self.answer(id, group, ask).await {
                self.outbox.reply(id, answer).await?;
            }
            if ends {
                return Ok(());
            }
        }
    }

    /// The answer, or nothing where a task of its own will give it.
    async fn answer(&mut self, id: u64, group: u64, ask: Ask) -> Option<Result<Answer, String>> {
        let place = usize::try_from(group).ok().and_then(|group| group.checked_sub(1));
        match (ask, place.and_then(|place| self.joined.get(place)).cloned()) {
            (Ask::Init(_), _) => Some(Err("it is this node already".into())),
            (Ask::Join { nodes }, None) => Some(self.join_all(nodes).await),
            (Ask::Join { .. }, Some(_)) => Some(Err("it has joined already".into())),
            (Ask::Shutdown, joined) => {
                self.outbox.close();
                drop(joined);
                self.joined.clear();
                self.network.shutdown().await;
                Some(Ok(Answer::Bye))
            }
            (Ask::Links { links }, _) => Some(self.links(&links)),
            (Ask::Clock { fault }, _) => {
                fault.into_iter().for_each(|fault| self.clock.set(fault));
                Some(Ok(Answer::Clock(self.clock.read())))
            }
            (Ask::Harm { fault }, _) => {
                self.harm.set(fault);
                Some(Ok(Answer::Disk(self.harm.report())))
            }
            (Ask::Disk, _) => Some(Ok(Answer::Disk(self.harm.report()))),
            (_, None) => Some(Err(format!("it has not joined group {group}, or not yet"))),
            (Ask::Status, Some(joined)) => {
                Some(Ok(Answer::Status(joined.status(self.outbox.lost()))))
            }
            (Ask::Reached { index }, Some(joined)) => {
                let outbox = self.outbox.clone();
                tokio::spawn(async move {
                    let reached = joined.reached(Index(index)).await;
                    let at_ns = nanos(HostClock.now());
                    outbox.reply(id, reached.map(|()| Answer::Reached { at_ns })).await
                });
                None
            }
            (Ask::HandOver, Some(joined)) => {
                let outbox = self.outbox.clone();
                tokio::spawn(async move {
                    let handed_over = joined.hand_over().await;
                    outbox.reply(id, handed_over.map(|()| Answer::HandedOver)).await
                });
                None
            }
            (Ask::Leave, Some(joined)) => {
                let outbox = self.outbox.clone();
                tokio::spawn(async move {
                    let left = joined.leave().await;
                    outbox.reply(id, left.map(|()| Answer::Left)).await
                });
                None
            }
            (Ask::Log { from }, Some(joined)) => {
                let outbox = self.outbox.clone();
                tokio::spawn(async move {
                    let page = joined.log(Index(from)).await;
                    let rows = page.map(|lines| lines.into_iter().map(row_of).collect());
                    outbox.reply(id, rows.map(Answer::Log)).await
                });
                None
            }
        }
    }

    async fn join_all(&mut self, nodes: Vec<(NodeNumber, Peer)>) -> Result<Answer, String> {
        let nodes = Arc::new(nodes);
        for place in 0..self.init.groups.len() {
            let joined = self.join(place, Arc::clone(&nodes)).await?;
            if place == 0 {
                self.outbox.event(joined.became());
            }
            self.joined.push(joined);
        }
        Ok(Answer::Joined)
    }

    /// Joins the group of this place among its groups.
    async fn join(
        &self,
        place: usize,
        nodes: Arc<Vec<(NodeNumber, Peer)>>,
    ) -> Result<Joined<Registers>, String> {
        let Init { groups, consensus, planted, stores, store_must_exist, .. } = &self.init;
        let membership = Membership {
            group: groups.get(place).cloned().unwrap_or_default(),
            consensus: consensus.clone(),
            planted: *planted,
            nodes,
        };
        let (outbox, clock) = (self.outbox.clone(), Arc::clone(&self.clock));
        let noting = Noting::new(&membership, move |at, mut what| {
            if let What::Stall { from_ns } = &mut what {
                *from_ns = nanos(clock.on_host(Time(Duration::from_nanos(*from_ns))));
            }
            match place {
                0 => outbox.event_at(clock.on_host(at), what),
                _ => of_another(&outbox, clock.on_host(at), place, what),
            }
        });
        let hear = move |at, event: &Event| noting.hear(at, event);
        let (network, machine) = (&self.network, Registers::default());
        match stores.get(place) {
            Some(path) => {
                let disk = match *store_must_exist {
                    true => storage::Disk::existing(path),
                    false => storage::Disk::at(path),
                };
                let store = HostStore { disk, harm: self.harm.clone() };
                Joined::join(network, &membership, machine, store, hear).await
            }
            None => Joined::join(network, &membership, machine, storage::Memory, hear).await,
        }
    }

    /// Hurts links, and says what has befallen all that were ever hurt.
    fn links(&self, links: &[LinkSetting]) -> Result<Answer, String> {
        let Some(socket) = &self.socket else {
            return Err("its links cannot be hurt: it was started on the host's transport".into());
        };
        listening::set(socket, links)?;
        Ok(Answer::Links(socket.links()))
    }

    fn sample(&self) {
        let (Some(resident_kb), Ok(usage)) = (resident_kb(), getrusage(UsageWho::RUSAGE_SELF))
        else {
            return;
        };
        let time_ms = |time: nix::sys::time::TimeVal| {
            let ms = time.tv_sec() * 1_000 + time.tv_usec() / 1_000;
            u64::try_from(ms).unwrap_or(0)
        };
        let cpu_ms = time_ms(usage.user_time()) + time_ms(usage.system_time());
        let depths = self.joined.iter().map(Joined::depths).fold(Depths::default(), Depths::and);
        let (log_kb, queues) = (depths.log_bytes as u64 / 1_024, depths.queues());
        self.outbox.event(What::Usage { resident_kb, log_kb, cpu_ms, queues });
    }
}

/// The harness follows the first group. Of the others it hears only that a member has stopped;
/// the rest is for people, in the node's log.
fn of_another(outbox: &Outbox, at: Time, place: usize, what: What) {
    let group = place + 1;
    match what {
        What::Stopped { reason } => {
            let reason = format!("in group {group}: {reason}");
            outbox.event_at(at, What::Stopped { reason });
        }
        other => eprintln!("{:>16.6} group {group}: {other:?}", nanos(at) as f64 / 1e9),
    }
}

fn resident_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Short enough for several samples between a fault and the return from it.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_host() {
        assert!(resident_kb().is_some_and(|kb| kb > 100));
    }
}
