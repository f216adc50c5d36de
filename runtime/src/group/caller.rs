//! The caller's side of sessions: gives each command its name and keeps count of the unanswered.
//!
//! The same for a member's own users and for clients: what differs is the [`Port`]. Invariant:
//! a sequence is used for one command only, and the floor never passes an unanswered one.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use raft::{Position, RequestId, SessionId, Time};
use thiserror::Error;
use tokio::sync::{OnceCell, oneshot};

use crate::{
    Clock, PeerId, StateMachine,
    group::{
        ConsensusConfig,
        answer::Answered,
        metric::{Refused, refused},
        wire::{Call, Outcome, Reason, Until},
    },
};

/// Takes calls to the group, by whatever way.
pub(crate) trait Port: Send + Sync + 'static {
    /// Sends the call on its way. It is answered at its deadline, unless it is the machine's turn
    /// by then, and at once if there is no room for it.
    fn send(&self, call: Call, deadline: Time, reply: oneshot::Sender<Answered>);
    /// The node to name when nobody is left to answer.
    fn via(&self) -> PeerId;
    /// A random number.
    fn draw(&self) -> u64;
    /// The node's clock.
    fn clock(&self) -> &dyn Clock;
}

/// A command that is committed and applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Executed<T> {
    /// Where it stands in the log.
    pub position: Position,
    /// The name under which it was applied, once.
    pub request: RequestId,
    /// The node that answered.
    pub via: PeerId,
    /// What the machine returned.
    pub output: T,
}

/// An answered query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queried<T> {
    /// The last index that was applied when it was answered.
    pub applied: raft::Index,
    /// The node that answered.
    pub via: PeerId,
    /// What the machine answered.
    pub answer: T,
}

/// Why there is no value: the command did not take effect, or nobody knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CommandError {
    /// It stands in no log that can win, and will never take effect.
    #[error("the command did not take effect: {reason}")]
    Failed {
        /// Why.
        reason: Reason,
        /// Its name, if it got one.
        request: Option<RequestId>,
    },
    /// It may have taken effect, or may yet.
    #[error("it is not known whether the command takes effect: {reason}")]
    Unknown {
        /// Why.
        reason: Reason,
        /// Its name, if it got one.
        request: Option<RequestId>,
    },
}

/// Why a query has no answer. A query never changes anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the query has no answer: {reason}")]
pub struct QueryError {
    /// Why.
    pub reason: Reason,
}

/// What a query may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consistency {
    /// Everything acknowledged before the query was asked (Raft §8, read index; or a lease, see
    /// [`ConsensusConfig::lease_reads`]).
    Strong,
    /// What the asked node has applied; may be behind.
    Weak,
}

impl CommandError {
    /// Whether the command certainly did not and will not take effect.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// Calls a group under one session after another.
pub(crate) struct Caller<M, P> {
    port: P,
    consensus: ConsensusConfig,
    session: Mutex<Arc<OnceCell<Session>>>,
    machine: PhantomData<fn() -> M>,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    nonce: u64,
    sequences: Mutex<Sequences>,
}

#[derive(Debug, Default)]
struct Sequences {
    used: u64,
    unanswered: BTreeSet<u64>,
}

/// One sequence in use; given back when the call is answered or given up.
struct Sequence<'a> {
    session: &'a Session,
    number: u64,
    floor: u64,
}

impl<M: StateMachine, P: Port> Caller<M, P> {
    pub(crate) fn new(port: P, consensus: ConsensusConfig) -> Self {
        Self { port, consensus, session: Mutex::default(), machine: PhantomData }
    }

    pub(crate) fn port(&self) -> &P {
        &self.port
    }

    pub(crate) async fn execute(
        &self,
        command: M::Command,
    ) -> Result<Executed<M::Output>, CommandError> {
        let (request, answered) = self.command(&command, Until::Applied).await?;
        let named = Some(request);
        let unknown = |reason| CommandError::Unknown { reason, request: named };
        let failed = |reason| CommandError::Failed { reason, request: named };
        match answered.outcome {
            Outcome::Applied { position, output: Some(output) } => {
                let output =
                    postcard::from_bytes(&output).map_err(|_| unknown(Reason::Undecodable))?;
                Ok(Executed { position, request, via: answered.via, output })
            }
            // It stands in the log, though every machine passes it over: that is no failure.
            Outcome::Applied { output: None, .. } => Err(unknown(Reason::Undecodable)),
            Outcome::Refused(reason) => Err(failed(reason)),
            Outcome::Unknown(reason) => Err(unknown(reason)),
            Outcome::Opened(_) | Outcome::Proposed(_) | Outcome::Queried { .. } => {
                Err(unknown(Reason::Undecodable))
            }
        }
    }

    pub(crate) async fn feed(&self, command: M::Command) -> Result<Position, CommandError> {
        let (request, answered) = self.command(&command, Until::Proposed).await?;
        match answered.outcome {
            Outcome::Proposed(position) | Outcome::Applied { position, .. } => Ok(position),
            Outcome::Refused(reason) => {
                Err(CommandError::Failed { reason, request: Some(request) })
            }
            Outcome::Unknown(reason) => {
                Err(CommandError::Unknown { reason, request: Some(request) })
            }
            Outcome::Opened(_) | Outcome::Queried { .. } => {
                Err(CommandError::Unknown { reason: Reason::Undecodable, request: Some(request) })
            }
        }
    }

    pub(crate) async fn query(
        &self,
        query: M::Query,
        consistency: Consistency,
    ) -> Result<Queried<M::Answer>, QueryError> {
        let error = |reason| QueryError { reason };
        let query = self.encode(&query).map_err(error)?;
        let call = match consistency {
            Consistency::Strong => Call::Query { query },
            Consistency::Weak => Call::WeakQuery { query },
        };
        let deadline = self.port.clock().now().plus(self.consensus.query_timeout);
        let answered = self.call(call, deadline).await;
        match answered.outcome {
            Outcome::Queried { applied, answer: Some(answer) } => {
                let answer =
                    postcard::from_bytes(&answer).map_err(|_| error(Reason::Undecodable))?;
                Ok(Queried { applied, via: answered.via, answer })
            }
            Outcome::Refused(reason) | Outcome::Unknown(reason) => Err(error(reason)),
            Outcome::Queried { answer: None, .. }
            | Outcome::Opened(_)
            | Outcome::Proposed(_)
            | Outcome::Applied { .. } => Err(error(Reason::Undecodable)),
        }
    }

    async fn command(
        &self,
        command: &M::Command,
        until: Until,
    ) -> Result<(RequestId, Answered), CommandError> {
        let failed = |reason| CommandError::Failed { reason, request: None };
        let command = self.encode(command).map_err(failed)?;
        let cell = Arc::clone(&self.session.lock().unwrap_or_else(PoisonError::into_inner));
        let clock = self.port.clock();
        let deadline = clock.now().plus(self.consensus.forward_timeout);
        // Opening a session applies no command: whatever came of it, this one did not happen.
        // Others may be at it already, one after the other; the deadline is for all of it.
        let session = tokio::select! {
            biased;
            opened = cell.get_or_try_init(|| self.open_session(deadline)) => {
                opened.map_err(failed)?
            }
            () = clock.sleep_until(deadline) => return Err(failed(Reason::Timeout)),
        };
        let most = self.consensus.replies_per_session_max as usize;
        let Some(sequence) = session.next(most) else {
            refused(Refused::Session);
            return Err(failed(Reason::Busy));
        };
        let request = RequestId { session: session.id, sequence: sequence.number };
        let (nonce, floor) = (session.nonce, sequence.floor);
        let call = Call::Command { request, nonce, floor, command, until };
        let answered = self.call(call, deadline).await;
        drop(sequence);
        if matches!(answered.outcome, Outcome::Unknown(Reason::SessionExpired)) {
            self.forget_session(&cell);
        }
        Ok((request, answered))
    }

    /// Has the call answered, also where a machine that is blocked, or busy with a snapshot, has
    /// it: nobody else looks at its deadline then.
    async fn call(&self, call: Call, deadline: Time) -> Answered {
        let (reply, answer) = oneshot::channel();
        self.port.send(call, deadline, reply);
        let unknown = |reason| Answered { outcome: Outcome::Unknown(reason), via: self.port.via() };
        // Whoever still has it at its deadline knows more of it, and gets a beat to say so.
        let late = deadline.plus(self.consensus.heartbeat_interval);
        // Biased: an answer that is there counts, however late.
        tokio::select! {
            biased;
            answered = answer => answered.unwrap_or_else(|_| unknown(Reason::Stopped)),
            () = self.port.clock().sleep_until(late) => unknown(Reason::Timeout),
        }
    }

    async fn open_session(&self, deadline: Time) -> Result<Session, Reason> {
        let nonce = self.port.draw();
        match self.call(Call::OpenSession { nonce }, deadline).await.outcome {
            Outcome::Opened(id) => Ok(Session { id, nonce, sequences: Mutex::default() }),
            Outcome::Refused(reason) | Outcome::Unknown(reason) => Err(reason),
            Outcome::Applied { .. } | Outcome::Proposed(_) | Outcome::Queried { .. } => {
                Err(Reason::Undecodable)
            }
        }
    }

    /// The next command opens a new session, unless another has begun to already.
    fn forget_session(&self, expired: &Arc<OnceCell<Session>>) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&session, expired) {
            *session = Arc::default();
        }
    }

    fn encode(&self, value: &impl serde::Serialize) -> Result<Bytes, Reason> {
        let encoded = postcard::to_stdvec(value).map_err(|_| Reason::Undecodable)?;
        if encoded.len() > self.consensus.command_bytes_max as usize {
            return Err(Reason::TooLarge);
        }
        Ok(encoded.into())
    }
}

impl Session {
    /// The next sequence; `None` while as many are unanswered as may be.
    fn next(&self, unanswered_max: usize) -> Option<Sequence<'_>> {
        let mut sequences = self.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        let first = sequences.unanswered.first().copied().unwrap_or(sequences.used + 1);
        // The replies kept for us reach from our floor to our newest sequence.
        if sequences.used + 1 - first >= unanswered_max as u64 {
            return None;
        }
        sequences.used += 1;
        let number = sequences.used;
        sequences.unanswered.insert(number);
        let floor = sequences.unanswered.first().copied().unwrap_or(number);
        Some(Sequence { session: self, number, floor })
    }
}

impl Drop for Sequence<'_> {
    fn drop(&mut self) {
        let mut sequences = self.session.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        sequences.unanswered.remove(&self.number);
    }
}
