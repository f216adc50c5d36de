//! The handles of a member: what a program holds, and the way from there to the driver.
//!
//! Invariant: the member lives as long as any handle does, unless it cannot; dropping one never
//! harms another.

use std::{fmt, sync::Arc};

use futures_util::future::join_all;
use raft::{Configuration, Entry, Index, PeerId, Position, Time};
use tokio::sync::{oneshot, watch};

use crate::{
    Clock, Network, StateMachine, Status, When,
    group::{
        ConsensusConfig, GroupError, GroupId,
        answer::{Answered, Answerer},
        caller::{Caller, CommandError, Consistency, Executed, Port, Queried, QueryError},
        mailbox::{Mail, Mailbox},
        wire::Call,
    },
};

/// A member of a group, as its program holds it. Cloning is cheap.
pub struct Group<M> {
    caller: Arc<Caller<M, Handle>>,
}

/// The way to the driver.
pub(crate) struct Handle {
    group: GroupId,
    peer: PeerId,
    mailbox: Mailbox,
    /// Its closing tells the driver that nobody is left.
    _alive: watch::Sender<()>,
    status: watch::Receiver<Status>,
    network: Network,
}

impl Handle {
    pub(crate) fn new(
        group: GroupId,
        peer: PeerId,
        mailbox: Mailbox,
        alive: watch::Sender<()>,
        status: watch::Receiver<Status>,
        network: Network,
    ) -> Self {
        Self { group, peer, mailbox, _alive: alive, status, network }
    }

    async fn ask<T>(&self, mail: impl FnOnce(oneshot::Sender<T>) -> Mail) -> Result<T, GroupError> {
        let (sender, receiver) = oneshot::channel();
        if self.mailbox.leave(mail(sender)).await
            && let Ok(answer) = receiver.await
        {
            return Ok(answer);
        }
        // Only who stops leaves anything unanswered, and says why once all of it is over.
        Err(GroupError::Stopped(When::new(self.status.clone()).stopped().await))
    }
}

impl Port for Handle {
    fn send(&self, call: Call, deadline: Time, reply: oneshot::Sender<Answered>) {
        self.mailbox.call(call, deadline, Answerer::local(reply, self.peer));
    }

    fn via(&self) -> PeerId {
        self.peer
    }

    fn draw(&self) -> u64 {
        self.network.draw()
    }

    fn clock(&self) -> &dyn Clock {
        self.network.clock().as_ref()
    }
}

impl<M: StateMachine> Group<M> {
    pub(crate) fn new(handle: Handle, consensus: ConsensusConfig) -> Self {
        Self { caller: Arc::new(Caller::new(handle, consensus)) }
    }

    /// Which group this is.
    pub fn id(&self) -> GroupId {
        self.caller.port().group
    }

    /// This member's present view of the group, or what is left of it once it has stopped: see
    /// [`Status`].
    pub fn status(&self) -> Status {
        self.caller.port().status.borrow().clone()
    }

    /// Futures that resolve when something holds of this member's view.
    pub fn when(&self) -> When {
        When::new(self.caller.port().status.clone())
    }

    /// Replicates a command and returns what the machine made of it: `Ok` only once this very
    /// command, by term and index, is committed and applied.
    ///
    /// Works on any member: a follower passes the command on to the leader, again under the
    /// same request id if leadership moves, so that it is applied at most once.
    ///
    /// # Errors
    /// [`CommandError::Failed`] if it certainly never takes effect, [`CommandError::Unknown`]
    /// if nobody knows, at the latest a heartbeat after `forward_timeout`.
    pub async fn execute(&self, command: M::Command) -> Result<Executed<M::Output>, CommandError> {
        self.caller.execute(command).await
    }

    /// Replicates several commands at once. They may be applied in any order.
    ///
    /// # Errors
    /// Each command has its own, as in [`Group::execute`].
    pub async fn execute_many(
        &self,
        commands: impl IntoIterator<Item = M::Command>,
    ) -> Vec<Result<Executed<M::Output>, CommandError>> {
        join_all(commands.into_iter().map(|command| self.execute(command))).await
    }

    /// Has a command appended to the leader's log and returns where. It is not committed yet,
    /// and is lost if that position is committed in another term.
    ///
    /// # Errors
    /// As in [`Group::execute`].
    pub async fn feed(&self, command: M::Command) -> Result<Position, CommandError> {
        self.caller.feed(command).await
    }

    /// Asks the machine.
    ///
    /// # Errors
    /// If nobody could answer within `query_timeout`: a heartbeat later at the latest.
    pub async fn query(
        &self,
        query: M::Query,
        consistency: Consistency,
    ) -> Result<Queried<M::Answer>, QueryError> {
        self.caller.query(query, consistency).await
    }

    /// Up to `count_max` entries from `from` on that this member knows to be committed; fewer
    /// when they are large. A log that starts later yields its first ones. A command keeps those
    /// around it in memory. For inspection.
    ///
    /// # Errors
    /// [`GroupError::Stopped`] once the member has stopped.
    pub async fn entries(&self, from: Index, count_max: usize) -> Result<Vec<Entry>, GroupError> {
        self.caller.port().ask(|reply| Mail::Entries { from, count_max, reply }).await
    }

    /// Asks the leader, which must be this member, to hand over to another voter. Returns once
    /// that voter was told to stand (thesis §3.10); see [`When::leader_is`] for the outcome.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn transfer(&self, to: PeerId) -> Result<(), GroupError> {
        let outcome = self.caller.port().ask(|reply| Mail::Transfer { to, reply }).await?;
        outcome.map_err(|refusal| GroupError::Wish(format!("leadership stays: {refusal:?}")))
    }

    /// Who votes and who learns, in the configuration in force at this member. One that has
    /// stopped hears of no other any more: not even of the one without it, if it has left.
    pub fn members(&self) -> Configuration {
        self.caller.port().status.borrow().configuration.clone()
    }

    /// Leaves the group: a leader hands over first, then this member's removal goes through the
    /// log. Returns once that is committed and the member has stopped, its machine at rest, its
    /// store and its bonds closed; other handles find it stopped, and this node may join again at
    /// once. Nobody counts on it any more, so a majority of the others suffices, however few they
    /// are.
    ///
    /// # Errors
    /// [`GroupError::NotLeft`] if that was not to be had within `forward_timeout` and two of the
    /// longest elections (`election_timeout + election_timeout_jitter`): no leader is known; too
    /// many of the others are away, so that they could commit nothing without this one; or it is
    /// the only voter, without whom there would be no group; to end that one, drop its handles.
    /// The member goes on. [`GroupError::Stopped`], with the reason, if it stops for another one
    /// or had stopped before.
    pub async fn leave(&self) -> Result<(), GroupError> {
        self.caller.port().ask(|reply| Mail::Leave { reply }).await??;
        self.when().stopped().await;
        Ok(())
    }
}

impl<M> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self { caller: Arc::clone(&self.caller) }
    }
}

impl<M> fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Group")
    }
}
