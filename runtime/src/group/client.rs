//! A program that is no member speaks to a group through a [`Client`].
//!
//! It knows several nodes and holds a link to one of them. When that node falls silent, the
//! agent takes the next and sends what is unanswered again, under the same request ids.

mod agent;

use std::{fmt, sync::Arc, time::Duration};

use raft::PeerId;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    Clock, Network, Peer, StateMachine,
    group::{
        ConsensusConfig, GroupError, GroupId, GroupKey,
        answer::Answered,
        caller::{Caller, CommandError, Consistency, Executed, Port, Queried, QueryError},
        client::agent::{Agent, Ask},
        metric::QUEUE_FULL,
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

    /// Connects to the first member that answers.
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
        let port = AgentPort { asks, node, network: self.network };
        Ok(Client { caller: Arc::new(Caller::new(port, self.consensus)) })
    }
}

impl Port for AgentPort {
    async fn call(&self, call: Call, patience: Duration) -> Answered {
        let via = self.node.borrow().unwrap_or_else(|| self.network.peer().id);
        let (reply, answer) = oneshot::channel();
        let deadline = self.network.clock().now().plus(patience);
        let refused = |reason| Answered { outcome: Outcome::Refused(reason), via };
        match self.asks.try_send(Ask { call, deadline, reply }) {
            // The agent answers at the deadline at the latest.
            Ok(()) => {
                answer.await.unwrap_or(Answered { outcome: Outcome::Unknown(Reason::Stopped), via })
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                metrics::counter!(QUEUE_FULL).increment(1);
                refused(Reason::Busy)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => refused(Reason::Stopped),
        }
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
