//! A member of the group as the laboratory has it, in every world with a whole runtime.
//!
//! Knows no process and no simulator: it is given a network, a store and somewhere to tell what
//! it notes. Invariant: in all worlds members are set up alike.

mod noting;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use runtime::{
    Bootstrap, ConsensusConfig, EntryRef, Event, Group, GroupBuilder, GroupKey, Index, LaneBytes,
    Network, Payload, Peer, PeerId, Planted, Replayed, Role, StateMachine, Status, Time,
    storage::Store,
};

use crate::{
    cluster::{Fetched, NodeStatus, Queues, Source, What},
    fault::NodeNumber,
    history::{LogLine, RequestId},
    register::Command,
};

pub(crate) use noting::{GOES_ON, Noting, STALL};

/// What all members of a cluster share.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    /// What members and clients of the group share.
    pub(crate) group: String,
    /// How they keep time and how much they take on.
    pub(crate) consensus: ConsensusConfig,
    /// A rule that they break on purpose.
    pub(crate) planted: Option<Planted>,
    /// All of them, by number.
    pub(crate) nodes: Arc<Vec<(NodeNumber, Peer)>>,
}

/// How much a member holds, or several of one node together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Depths {
    /// What its log is reckoned to take.
    pub(crate) log_bytes: usize,
    /// Calls under way.
    calls: usize,
    /// Calls that its own task has not taken up.
    mailbox_calls: usize,
    /// Bonds and lanes that came or went, unheard by that task.
    bond_events: usize,
    /// Batches that wait for its machine.
    applier_batches: usize,
    /// Held back until what they promise is durable.
    held_messages: usize,
    /// Submitted to its store and not yet durable.
    storage_backlog_bytes: usize,
    /// In front of the lanes of its bonds.
    lanes: LaneBytes,
}

/// A node that is a member. Cheap to clone.
pub(crate) struct Joined<M> {
    group: Group<M>,
    nodes: Arc<Vec<(NodeNumber, Peer)>>,
}

impl<M> Clone for Joined<M> {
    fn clone(&self) -> Self {
        Self { group: self.group.clone(), nodes: Arc::clone(&self.nodes) }
    }
}

impl<M: StateMachine> Joined<M> {
    /// Joins. It hears of everything that happens with the moment at which it does, by the
    /// member's own clock.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn join(
        network: &Network,
        membership: &Membership,
        machine: M,
        store: impl Store,
        hear: impl Fn(Time, &Event) + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let Membership { group, consensus, nodes, planted } = membership;
        let voters: BTreeSet<_> = nodes.iter().map(|(_, peer)| peer.id).collect();
        let me = network.peer().id;
        let others = nodes.iter().map(|(_, peer)| peer.clone()).filter(|peer| peer.id != me);
        let builder = network
            .group(GroupKey::from_secret(group))
            .machine(machine)
            .consensus(consensus.clone())
            .bootstrap(Bootstrap::Voters(voters))
            .peers(others)
            .storage(store)
            .observe(hear);
        let builder = broken(builder, *planted);
        let group = builder.join().await.map_err(|error| error.to_string())?;
        Ok(Self { group, nodes: Arc::clone(nodes) })
    }

    /// Its role and term, which the harness knows from here on, also of one that returns silently.
    pub(crate) fn became(&self) -> What {
        let status = self.group.status();
        What::Became { role: status.role, term: status.term.0 }
    }

    /// What it says of itself; so many of its events did not reach the harness.
    pub(crate) fn status(&self, events_lost: u64) -> NodeStatus {
        let status = self.group.status();
        let number = |peer| {
            let known = self.nodes.iter().find(|(_, known)| known.id == peer);
            known.map(|(node, _)| *node)
        };
        let bonded: BTreeSet<_> =
            status.bonded.iter().filter_map(|other| number(other.peer)).collect();
        let voters = status.configuration.voters.iter();
        let voters: BTreeSet<_> = voters.filter_map(|voter| number(voter.peer)).collect();
        NodeStatus {
            role: status.role,
            term: status.term.0,
            leader: status.leader.and_then(|leader| number(leader.peer)),
            commit: status.commit.0,
            applied: status.applied.0,
            last_term: status.last.term.0,
            last: status.last.index.0,
            bonded: bonded.into_iter().collect(),
            voters: voters.into_iter().collect(),
            votes: status.configuration.voters.contains(&status.node),
            stopped: status.stopped,
            events_lost,
            fetched: fetched(&status.replayed, number),
        }
    }

    /// What its log is reckoned to take, and how much waits in its queues.
    pub(crate) fn depths(&self) -> Depths {
        Depths::of(&self.group.status())
    }

    /// Resolves once it has applied everything up to the index.
    ///
    /// # Errors
    /// In words, once it has stopped.
    pub(crate) async fn reached(&self, index: Index) -> Result<(), String> {
        self.group.when().applied(index).await.map(drop).map_err(|error| error.to_string())
    }

    /// Hands leadership over to another voter that it holds a bond to; resolves when it leads no
    /// more.
    ///
    /// # Errors
    /// In words: it does not lead, nobody is there, or nobody took over.
    pub(crate) async fn hand_over(&self) -> Result<(), String> {
        let status = self.group.status();
        let me = status.node;
        if status.role != Role::Leader {
            return Err("it does not lead".into());
        }
        let others = status.bonded.iter().filter(|node| status.configuration.voters.contains(node));
        let to = others.map(|node| node.peer).find(|peer| *peer != me.peer);
        let to = to.ok_or("nobody is there to take over")?;
        self.group.transfer(to).await.map_err(|error| error.to_string())?;
        // It may lose its election, and then this member leads on.
        let follows = tokio::time::timeout(TAKE_OVER_BOUND, self.group.when().is_follower()).await;
        let follows =
            follows.map_err(|_| format!("{to} was told to stand and did not take over"))?;
        follows.map_err(|error| error.to_string())
    }

    /// Leaves the group; resolves once it has.
    ///
    /// # Errors
    /// In words: it is a member still.
    pub(crate) async fn leave(&self) -> Result<(), String> {
        self.group.leave().await.map_err(|error| error.to_string())
    }

    /// A page of its committed log; empty at the end.
    ///
    /// # Errors
    /// In words, once it has stopped.
    pub(crate) async fn log(&self, from: Index) -> Result<Vec<LogLine>, String> {
        let entries = self.group.entries(from, PAGE_ENTRIES).await;
        Ok(entries
            .map_err(|error| error.to_string())?
            .iter()
            .map(|entry| line(entry.view()))
            .collect())
    }
}

impl Depths {
    fn of(status: &Status) -> Self {
        let log_bytes = status.log_bytes;
        // The status of one that has stopped still shows what waited last.
        if status.stopped.is_some() {
            return Self { log_bytes, ..Self::default() };
        }
        Self {
            log_bytes,
            calls: status.calls,
            mailbox_calls: status.mailbox_calls,
            bond_events: status.bond_events,
            applier_batches: status.applier_batches,
            held_messages: status.held_messages,
            storage_backlog_bytes: status.storage_backlog_bytes,
            lanes: status.lane_bytes,
        }
    }

    /// Those of two members together.
    pub(crate) fn and(self, other: Self) -> Self {
        let (lanes, others) = (self.lanes, other.lanes);
        Self {
            log_bytes: self.log_bytes + other.log_bytes,
            calls: self.calls + other.calls,
            mailbox_calls: self.mailbox_calls + other.mailbox_calls,
            bond_events: self.bond_events + other.bond_events,
            applier_batches: self.applier_batches + other.applier_batches,
            held_messages: self.held_messages + other.held_messages,
            storage_backlog_bytes: self.storage_backlog_bytes + other.storage_backlog_bytes,
            lanes: LaneBytes {
                control: lanes.control + others.control,
                append: lanes.append + others.append,
                client: lanes.client + others.client,
                bulk: lanes.bulk + others.bulk,
            },
        }
    }

    /// What waits, as the harness is told of it.
    pub(crate) fn queues(self) -> Queues {
        // Rounded up: what is small is not nothing.
        let kb = |bytes: usize| bytes.div_ceil(1_024) as u64;
        Queues {
            calls: self.calls as u64,
            mailbox_calls: self.mailbox_calls as u64,
            bond_events: self.bond_events as u64,
            applier_batches: self.applier_batches as u64,
            held_messages: self.held_messages as u64,
            storage_backlog_kb: kb(self.storage_backlog_bytes),
            lane_control_kb: kb(self.lanes.control),
            lane_append_kb: kb(self.lanes.append),
            lane_client_kb: kb(self.lanes.client),
            lane_bulk_kb: kb(self.lanes.bulk),
        }
    }
}

/// What a member has fetched, by the numbers of those it came from: of one node under several
/// stores, all.
fn fetched(replayed: &Replayed, number: impl Fn(PeerId) -> Option<NodeNumber>) -> Fetched {
    let mut sources: BTreeMap<NodeNumber, Source> = BTreeMap::new();
    for tally in &replayed.sources {
        let Some(node) = number(tally.node.peer) else { continue };
        let nothing = Source { node, chunks: 0, entries: 0, bytes: 0 };
        let source = sources.entry(node).or_insert(nothing);
        source.chunks += tally.chunks;
        source.entries += tally.entries;
        source.bytes += tally.bytes;
    }
    Fetched { sources: sources.into_values().collect(), wrong: replayed.wrong }
}

/// A member that breaks a rule, if one is to be broken.
#[cfg(feature = "planted-faults")]
fn broken<M>(builder: GroupBuilder<M>, planted: Option<Planted>) -> GroupBuilder<M> {
    match planted {
        Some(rule) => builder.plant(rule),
        None => builder,
    }
}

/// None can be broken here: plans that want it are refused before.
#[cfg(not(feature = "planted-faults"))]
fn broken<M>(builder: GroupBuilder<M>, _: Option<Planted>) -> GroupBuilder<M> {
    builder
}

/// A moment as a number.
pub(crate) fn nanos(at: Time) -> u64 {
    u64::try_from(at.0.as_nanos()).unwrap_or(u64::MAX)
}

/// An entry as the laboratory keeps it.
pub(crate) fn line(entry: EntryRef<'_>) -> LogLine {
    let (request, value) = match entry.payload {
        Payload::Command { request, command, .. } => {
            let request = RequestId { session: request.session.0.0, sequence: request.sequence };
            let command: Option<Command> = postcard::from_bytes(command).ok();
            (Some(request), command.and_then(|command| command.value()))
        }
        Payload::Noop | Payload::OpenSession { .. } | Payload::Configuration(_) => (None, None),
    };
    LogLine { term: entry.position.term.0, index: entry.position.index.0, request, value }
}

/// The name of the laboratory's network.
pub(crate) const NETWORK: &str = "tessera-chaos";
const PAGE_ENTRIES: usize = 2_000;
/// Two of the longest elections of `wan`; whoever asks waits longer.
const TAKE_OVER_BOUND: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_in_the_groups_of_a_node_is_one_sum_rounded_up() {
        let lanes = LaneBytes { control: 1, append: 1_000, client: 0, bulk: 2_048 };
        let one = Depths {
            log_bytes: 7,
            calls: 1,
            mailbox_calls: 2,
            bond_events: 3,
            applier_batches: 4,
            held_messages: 5,
            storage_backlog_bytes: 600,
            lanes,
        };
        let both = one.and(one);
        assert_eq!(both.log_bytes, 14);
        let told = Queues {
            calls: 2,
            mailbox_calls: 4,
            bond_events: 6,
            applier_batches: 8,
            held_messages: 10,
            storage_backlog_kb: 2,
            lane_control_kb: 1,
            lane_append_kb: 2,
            lane_client_kb: 0,
            lane_bulk_kb: 4,
        };
        assert_eq!(both.queues(), told);
        assert_eq!(Depths::default().queues(), Queues::default());
    }
}
