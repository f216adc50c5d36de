//! A program that is no member speaks to a group through a [`Client`].
//!
//! It knows several nodes and holds a link to one of them. When that node falls silent, or knows
//! of no leader and another does, the agent takes another and sends what is unanswered again,
//! under the same request ids. It waits for no node alone: beside one that does not let it in,
//! others are dialed.

mod agent;
mod dials;
mod scout;
#[cfg(test)]
mod tests;
mod unanswered;

use std::{fmt, sync::Arc};

use raft::{PeerId, Time};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    Clock, Network, Peer, StateMachine,
    group::{
        ConsensusConfig, GroupError, GroupId, GroupKey,
        answer::Answered,
        budget::Budget,
        caller::{Caller, CommandError, Consistency, Executed, Port, Queried, QueryError},
        client::{agent::Agent, unanswered::Ask},
        metric::{Refused, refused},
        wire::{Call, Outcome, Reason},
    },
};

/// A client of a group. Cloning is cheap; the clones share one session.
pub struct Client<M> {
    caller: Arc<Caller<M, AgentPort>>,
}

/// What a client shall be. Made by [`Network::client`].
#[must_use = "a builder does nothing until `connect`"]
pub struct ClientBuilder {
    network: Network,
    key: GroupKey,
    consensus: ConsensusConfig,
    members: Vec<Peer>,
    first: usize,
}

/// The way to the agent.
struct AgentPort {
    asks: mpsc::Sender<Ask>,
    requests: Arc<Budget>,
    node: watch::Receiver<Option<PeerId>>,
    network: Network,
}

impl ClientBuilder {
    pub(crate) fn new(network: Network, key: GroupKey) -> Self {
        let consensus = ConsensusConfig::default();
        Self { network, key, consensus, members: Vec::new(), first: 0 }
    }

    /// The group's settings: the same as its members', since its id covers them.
    pub fn consensus(mut self, consensus: ConsensusConfig) -> Self {
        self.consensus = consensus;
        self
    }

    /// The nodes that may be asked.
    pub fn members(mut self, members: impl IntoIterator<Item = Peer>) -> Self {
        self.members = members.into_iter().collect();
        self
    }

    /// Which of the members to ask first, by its place among them.
    pub fn first(mut self, place: usize) -> Self {
        self.first = place;
        self
    }

    /// Connects to the first member that lets the client in. They are dialed in order, each once;
    /// beside one that has not answered for `client_silence_max` the next is dialed, and beside two
    /// that have not for longer a third: see [`ConsensusConfig::client_silence_max`].
    ///
    /// # Errors
    /// Settings that cannot work, no members, and none of them reachable: with what each said.
    pub async fn connect<M: StateMachine>(self) -> Result<Client<M>, GroupError> {
        self.consensus.validate()?;
        if self.members.is_empty() {
            return Err(GroupError::Wish("a client needs to know at least one member".into()));
        }
        let group = GroupId::of(&self.key, M::SIGNATURE, &self.consensus);
        let (asks, asked) = mpsc::channel(self.consensus.requests_max as usize);
        let (node_sender, node) = watch::channel(None);
        let first = self.first % self.members.len();
        let mut agent = Agent::new(
            self.network.clone(),
            (group, self.key),
            self.consensus.clone(),
            self.members,
            first,
            node_sender,
        );
        agent.connect().await.map_err(GroupError::Unreachable)?;
        tokio::spawn(agent.run(asked));
        let requests = Budget::new(self.consensus.requests_bytes_max as usize);
        let port = AgentPort { asks, requests, node, network: self.network };
        Ok(Client { caller: Arc::new(Caller::new(port, self.consensus)) })
    }
}

impl Port for AgentPort {
    fn send(&self, call: Call, deadline: Time, reply: oneshot::Sender<Answered>) {
        let refuse = |reply: oneshot::Sender<Answered>, reason| {
            // The asker may have gone.
            drop(reply.send(Answered { outcome: Outcome::Refused(reason), via: self.via() }));
        };
        let Some(room) = self.requests.take(call.content_bytes()) else {
            refused(Refused::Bytes);
            return refuse(reply, Reason::Busy);
        };
        match self.asks.try_send(Ask { call, deadline, reply, room }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(ask)) => {
                refused(Refused::Agent);
                refuse(ask.reply, Reason::Busy);
            }
            Err(mpsc::error::TrySendError::Closed(ask)) => refuse(ask.reply, Reason::Stopped),
        }
    }

    fn via(&self) -> PeerId {
        self.node.borrow().unwrap_or_else(|| self.network.peer().id)
    }

    fn draw(&self) -> u64 {
        self.network.draw()
    }

    fn clock(&self) -> &dyn Clock {
        self.network.clock().as_ref()
    }
}

impl<M: StateMachine> Client<M> {
    /// The node that the client is connected to, if it is connected now.
    pub fn node(&self) -> Option<PeerId> {
        *self.caller.port().node.borrow()
    }

    /// As [`crate::Group::execute`].
    ///
    /// # Errors
    /// As [`crate::Group::execute`].
    pub async fn execute(&self, command: M::Command) -> Result<Executed<M::Output>, CommandError> {
        self.caller.execute(command).await
    }

    /// As [`crate::Group::feed`].
    ///
    /// # Errors
    /// As [`crate::Group::feed`].
    pub async fn feed(&self, command: M::Command) -> Result<raft::Position, CommandError> {
        self.caller.feed(command).await
    }

    /// As [`crate::Group::query`]; a weak query is answered from the connected node's state.
    ///
    /// # Errors
    /// As [`crate::Group::query`].
    pub async fn query(
        &self,
        query: M::Query,
        consistency: Consistency,
    ) -> Result<Queried<M::Answer>, QueryError> {
        self.caller.query(query, consistency).await
    }
}

impl<M> Clone for Client<M> {
    fn clone(&self) -> Self {
        Self { caller: Arc::clone(&self.caller) }
    }
}

impl<M> fmt::Debug for Client<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}
