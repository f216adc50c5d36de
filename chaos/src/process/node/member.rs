//! The member of the group that a node process is, and what it answers the harness.
//!
//! Invariant: every request is answered once, with a value or with a reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nix::sys::resource::{UsageWho, getrusage};
use runtime::{Bootstrap, Clock, Entry, Group, GroupKey, Index, Network, Payload, Peer, storage};
use tokio::sync::mpsc;

use super::{
    listening::{self, Listening},
    noting::Noting,
    outbox::{Outbox, nanos},
};
use crate::{
    cluster::{NodeStatus, What},
    fault::NodeNumber,
    history::{LogLine, RequestId},
    process::{
        HostClock, PacketSocket,
        control::{Answer, Ask, Init, LinkSetting, LogRow, Request, row_of},
    },
    register::{Command, Registers},
};

/// A node that listens, and once told to is a member.
pub(super) struct Member {
    init: Init,
    network: Network,
    /// Below the network, if the node was started so that its links can be hurt.
    socket: Option<Arc<PacketSocket>>,
    outbox: Outbox,
    joined: Option<Joined>,
}

/// What a request that takes its time needs. Cheap to clone.
#[derive(Clone)]
struct Joined {
    group: Group<Registers>,
    nodes: Arc<Vec<(NodeNumber, Peer)>>,
}

impl Member {
    /// Listens.
    pub(super) async fn bind(init: Init, outbox: Outbox) -> Result<Self, String> {
        let Listening { network, socket } = Listening::start(&init).await?;
        Ok(Self { init, network, socket, outbox, joined: None })
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
            let Some(Request { id, ask }) = request else { return Ok(()) };
            let ends = ask == Ask::Shutdown;
            if let Some(answer) = self.answer(id, ask).await {
                self.outbox.reply(id, answer).await?;
            }
            if ends {
                return Ok(());
            }
        }
    }

    /// The answer, or nothing where a task of its own will give it.
    async fn answer(&mut self, id: u64, ask: Ask) -> Option<Result<Answer, String>> {
        match (ask, self.joined.clone()) {
            (Ask::Init(_), _) => Some(Err("it is this node already".into())),
            (Ask::Join { nodes }, None) => Some(self.join(nodes).await),
            (Ask::Join { .. }, Some(_)) => Some(Err("it has joined already".into())),
            (Ask::Shutdown, joined) => {
                self.outbox.close();
                drop(joined);
                self.joined = None;
                self.network.shutdown().await;
                Some(Ok(Answer::Bye))
            }
            (Ask::Links { links }, _) => Some(self.links(&links)),
            (_, None) => Some(Err("it has not joined yet".into())),
            (Ask::Status, Some(joined)) => {
                Some(Ok(Answer::Status(joined.status(self.outbox.lost()))))
            }
            (Ask::Reached { index }, Some(joined)) => {
                let outbox = self.outbox.clone();
                tokio::spawn(async move { outbox.reply(id, joined.reached(index).await).await });
                None
            }
            (Ask::Log { from }, Some(joined)) => {
                let outbox = self.outbox.clone();
                tokio::spawn(async move { outbox.reply(id, joined.log(from).await).await });
                None
            }
        }
    }

    async fn join(&mut self, nodes: Vec<(NodeNumber, Peer)>) -> Result<Answer, String> {
        let numbers: BTreeMap<_, _> = nodes.iter().map(|(node, peer)| (peer.id, *node)).collect();
        let voters: BTreeSet<_> = numbers.keys().copied().collect();
        let me = self.network.peer().id;
        let others = nodes.iter().map(|(_, peer)| peer.clone()).filter(|peer| peer.id != me);
        let noting = Noting::new(numbers, self.outbox.clone());
        let builder = self
            .network
            .group(GroupKey::from_secret(&self.init.group))
            .machine(Registers::default())
            .consensus(self.init.profile.config())
            .bootstrap(Bootstrap::Voters(voters))
            .peers(others)
            .observe(move |at, event| noting.hear(at, event));
        let builder = match &self.init.store {
            Some(path) if self.init.store_must_exist => {
                builder.storage(storage::Disk::existing(path))
            }
            Some(path) => builder.storage(storage::Disk::at(path)),
            None => builder.storage(storage::Memory),
        };
        let group = builder.join().await.map_err(|error| error.to_string())?;
        let status = group.status();
        // The harness knows every node's role from here on, also of one that returns silently.
        self.outbox.event(What::Became { role: status.role, term: status.term.0 });
        self.joined = Some(Joined { group, nodes: Arc::new(nodes) });
        Ok(Answer::Joined)
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
        let log_bytes = self.joined.as_ref().map_or(0, |joined| joined.group.status().log_bytes);
        let (Some(resident_kb), Ok(usage)) = (resident_kb(), getrusage(UsageWho::RUSAGE_SELF))
        else {
            return;
        };
        let time_ms = |time: nix::sys::time::TimeVal| {
            let ms = time.tv_sec() * 1_000 + time.tv_usec() / 1_000;
            u64::try_from(ms).unwrap_or(0)
        };
        let cpu_ms = time_ms(usage.user_time()) + time_ms(usage.system_time());
        let log_kb = log_bytes as u64 / 1_024;
        self.outbox.event(What::Usage { resident_kb, log_kb, cpu_ms });
    }
}

impl Joined {
    fn status(&self, events_lost: u64) -> NodeStatus {
        let status = self.group.status();
        let number = |peer| self.nodes.iter().find(|(_, known)| known.id == peer);
        NodeStatus {
            role: status.role,
            term: status.term.0,
            leader: status.leader.and_then(|leader| number(leader.peer)).map(|(node, _)| *node),
            commit: status.commit.0,
            applied: status.applied.0,
            last: status.last.index.0,
            bonded: status.bonded.len() as u64,
            stopped: status.stopped,
            events_lost,
        }
    }

    async fn reached(&self, index: u64) -> Result<Answer, String> {
        self.group.when().applied(Index(index)).await.map_err(|error| error.to_string())?;
        Ok(Answer::Reached { at_ns: nanos(HostClock.now()) })
    }

    async fn log(&self, from: u64) -> Result<Answer, String> {
        let entries = self.group.entries(Index(from), PAGE_ENTRIES).await;
        let entries = entries.map_err(|error| error.to_string())?;
        Ok(Answer::Log(entries.iter().map(row).collect()))
    }
}

fn row(entry: &Entry) -> LogRow {
    let (request, value) = match &entry.payload {
        Payload::Command { request, command, .. } => {
            let request = RequestId { session: request.session.0.0, sequence: request.sequence };
            let command: Option<Command> = postcard::from_bytes(command).ok();
            (Some(request), command.map(|command| command.value()))
        }
        Payload::Noop | Payload::OpenSession { .. } | Payload::Configuration(_) => (None, None),
    };
    row_of(LogLine { term: entry.position.term.0, index: entry.position.index.0, request, value })
}

fn resident_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

const PAGE_ENTRIES: usize = 2_000;
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
