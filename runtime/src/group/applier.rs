//! Applies committed entries to the machine, in a task of its own.
//!
//! A slow machine delays answers, never heartbeats. Owns the machine and the replies of open
//! sessions. Invariant: entries are applied once each, in order of their index, and what is kept
//! and answered follows from nothing but the log.

use std::sync::Arc;

use bytes::Bytes;
use raft::{Admission, Entry, Index, Payload, Position, RequestId, SessionId, Sessions};
use tokio::sync::{mpsc, watch};

use crate::{
    ApplyContext, ConsensusConfig, StateMachine,
    group::{
        answer::Answerer,
        budget::{Budget, Room},
        wire::{Outcome, Reason},
    },
};

/// What the driver asks of the applier.
pub(crate) enum Work {
    /// Apply these, in order, and answer those who wait for some of them.
    Apply {
        /// Consecutive, right after the last that were applied.
        entries: Vec<Entry>,
        /// Who waits, by index, ascending.
        waiting: Vec<(Index, Answerer)>,
    },
    /// Answer a query from the state as it is when its turn comes.
    Query {
        /// Encoded.
        query: Bytes,
        /// Who asks.
        answerer: Answerer,
    },
    /// Answer a retried request that was applied before.
    Repeat {
        /// Its name.
        request: RequestId,
        /// Who asks.
        answerer: Answerer,
    },
}

/// A state machine whose types are encoded.
pub(crate) trait EncodedMachine: Send {
    /// `None` when the command does not decode. Deterministic, like the machine.
    fn apply(&mut self, command: &[u8], context: &ApplyContext) -> Option<Bytes>;
    /// `None` when the query does not decode.
    fn query(&self, query: &[u8]) -> Option<Bytes>;
}

impl<M: StateMachine> EncodedMachine for M {
    fn apply(&mut self, command: &[u8], context: &ApplyContext) -> Option<Bytes> {
        let command = postcard::from_bytes(command).ok()?;
        encode(&StateMachine::apply(self, command, context))
    }

    fn query(&self, query: &[u8]) -> Option<Bytes> {
        encode(&StateMachine::query(self, postcard::from_bytes(query).ok()?))
    }
}

/// The task's state.
pub(crate) struct Applier {
    machine: Box<dyn EncodedMachine>,
    replies: Sessions<Reply>,
    /// What the outputs of kept replies may weigh together. Room is taken and given back as
    /// entries are applied, so that all members keep and let go of the same.
    outputs: Arc<Budget>,
    applied: Index,
    answer_bytes_max: usize,
}

#[derive(Clone)]
struct Reply {
    position: Position,
    output: Output,
}

#[derive(Clone)]
enum Output {
    Encoded {
        bytes: Bytes,
        _room: Arc<Room>,
    },
    /// The caller got it; there was no room to keep it for a retry.
    NotKept,
    /// The machine could not decode the command: it changed nothing.
    Undecodable,
    /// The command took effect, but no frame holds what came of it.
    TooLarge,
}

impl Applier {
    pub(crate) fn new(machine: Box<dyn EncodedMachine>, consensus: &ConsensusConfig) -> Self {
        let replies = Sessions::new(consensus.session_limits());
        let answer_bytes_max = consensus.command_bytes_max as usize;
        let outputs = Budget::new(OUTPUTS_BYTES_MAX);
        Self { machine, replies, outputs, applied: Index(0), answer_bytes_max }
    }

    /// Works until the driver is gone; says after each batch how far it has come. Gives itself
    /// back with a machine that no command has touched, for another log, if that is so.
    pub(crate) async fn run(
        mut self,
        mut work: mpsc::Receiver<Work>,
        applied: watch::Sender<Index>,
    ) -> Option<Self> {
        while let Some(next) = work.recv().await {
            let before = self.applied;
            self.carry_out(next);
            if self.applied > before && applied.send(self.applied).is_err() {
                break;
            }
        }
        if !self.replies.is_empty() {
            return None;
        }
        self.applied = Index(0);
        Some(self)
    }

    fn carry_out(&mut self, work: Work) {
        match work {
            Work::Apply { entries, waiting } => self.apply(&entries, waiting),
            Work::Query { query, answerer } => {
                let answer = self.machine.query(&query);
                let fits = answer.as_ref().is_none_or(|bytes| bytes.len() <= self.answer_bytes_max);
                answerer.answer(match fits {
                    true => Outcome::Queried { applied: self.applied, answer },
                    false => Outcome::Refused(Reason::TooLarge),
                });
            }
            Work::Repeat { request, answerer } => {
                answerer.answer(match self.replies.reply(request) {
                    Some(reply) => reply.outcome(),
                    // The floor has passed it since the core saw it.
                    None => Outcome::Unknown(Reason::SessionExpired),
                });
            }
        }
    }

    fn apply(&mut self, entries: &[Entry], waiting: Vec<(Index, Answerer)>) {
        let mut waiting = waiting.into_iter().peekable();
        for entry in entries {
            let outcome = self.apply_one(entry);
            // A request retried through several members may have several callers.
            while let Some((_, answerer)) =
                waiting.next_if(|(index, _)| *index == entry.position.index)
            {
                answerer.answer(outcome.clone());
            }
        }
    }

    fn apply_one(&mut self, entry: &Entry) -> Outcome {
        let position = entry.position;
        let next = self.applied.next();
        assert!(position.index == next, "entry {position} to apply where {next} is due");
        self.applied = position.index;
        let (machine, bytes_max) = (&mut self.machine, self.answer_bytes_max);
        let (outputs, mut fresh) = (&self.outputs, None);
        let admission = self.replies.observe(entry, || {
            let Payload::Command { command, .. } = &entry.payload else {
                return Reply { position, output: Output::Undecodable };
            };
            let output = match machine.apply(command, &ApplyContext { position }) {
                Some(bytes) if bytes.len() <= bytes_max => {
                    fresh = Some(Outcome::Applied { position, output: Some(bytes.clone()) });
                    match outputs.take(bytes.len()) {
                        Some(room) => Output::Encoded { bytes, _room: Arc::new(room) },
                        None => Output::NotKept,
                    }
                }
                Some(_) => Output::TooLarge,
                None => Output::Undecodable,
            };
            Reply { position, output }
        });
        let refused = match admission {
            Admission::Fresh => None,
            Admission::Duplicate(reply) => return reply.outcome(),
            Admission::Expired | Admission::Full => Some(Reason::SessionExpired),
        };
        if let Some(fresh) = fresh {
            return fresh;
        }
        match (refused, entry.request()) {
            (Some(reason), _) => Outcome::Unknown(reason),
            (None, Some(request)) => match self.replies.reply(request) {
                Some(reply) => reply.outcome(),
                None => Outcome::Unknown(Reason::SessionExpired),
            },
            (None, None) => Outcome::Opened(SessionId(position.index)),
        }
    }
}

impl Reply {
    fn outcome(&self) -> Outcome {
        let position = self.position;
        match &self.output {
            Output::Encoded { bytes, .. } => {
                Outcome::Applied { position, output: Some(bytes.clone()) }
            }
            // It took effect: to call it refused would be a lie.
            Output::NotKept => Outcome::Unknown(Reason::Busy),
            Output::Undecodable => Outcome::Applied { position, output: None },
            Output::TooLarge => Outcome::Unknown(Reason::TooLarge),
        }
    }
}

fn encode(value: &impl serde::Serialize) -> Option<Bytes> {
    postcard::to_stdvec(value).ok().map(Bytes::from)
}

/// Far more than callers leave unanswered; whoever never moves its floor on fills it.
const OUTPUTS_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use raft::Term;
    use tokio::sync::oneshot;

    use super::*;
    use crate::group::answer::Answered;

    /// Answers every command with a mebibyte.
    struct Generous(Bytes);

    impl EncodedMachine for Generous {
        fn apply(&mut self, _: &[u8], _: &ApplyContext) -> Option<Bytes> {
            Some(self.0.clone())
        }

        fn query(&self, _: &[u8]) -> Option<Bytes> {
            None
        }
    }

    struct Scene {
        applier: Applier,
        last: Index,
    }

    impl Scene {
        fn apply(&mut self, payload: Payload) -> Outcome {
            let index = self.last.next();
            self.last = index;
            let (answerer, answer) = caller();
            let entries = vec![Entry { position: Position { term: Term(1), index }, payload }];
            self.applier.carry_out(Work::Apply { entries, waiting: vec![(index, answerer)] });
            answered(answer)
        }

        fn command(&mut self, sequence: u64, floor: u64) -> Outcome {
            let request = RequestId { session: SessionId(Index(1)), sequence };
            self.apply(Payload::Command { request, floor, command: Bytes::new() })
        }

        fn repeat(&mut self, sequence: u64) -> Outcome {
            let request = RequestId { session: SessionId(Index(1)), sequence };
            let (answerer, answer) = caller();
            self.applier.carry_out(Work::Repeat { request, answerer });
            answered(answer)
        }
    }

    fn caller() -> (Answerer, oneshot::Receiver<Answered>) {
        let (reply, answer) = oneshot::channel();
        (Answerer::local(reply, raft::NodeId::small(1).peer), answer)
    }

    fn answered(mut answer: oneshot::Receiver<Answered>) -> Outcome {
        answer.try_recv().expect("it is answered at once").outcome
    }

    fn is_applied(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Applied { output: Some(_), .. })
    }

    #[test]
    fn outputs_kept_for_retries_have_a_limit_in_bytes_and_the_first_answer_does_not_suffer() {
        let machine = Generous(vec![7; 1 << 20].into());
        let applier = Applier::new(Box::new(machine), &ConsensusConfig::default());
        let mut scene = Scene { applier, last: Index(0) };
        scene.apply(Payload::OpenSession { nonce: 0 });
        let kept = (OUTPUTS_BYTES_MAX >> 20) as u64;
        for sequence in 1..=kept + 1 {
            assert!(is_applied(&scene.command(sequence, 0)), "{sequence}");
        }
        assert!(is_applied(&scene.repeat(kept)));
        let busy = Outcome::Unknown(Reason::Busy);
        assert_eq!(scene.repeat(kept + 1), busy, "it took effect, and nobody knows how");
        assert_eq!(scene.command(kept + 1, 0), busy, "the same when its entry is repeated");
        // The caller has heard of the first two: there is room for two more.
        for sequence in [kept + 2, kept + 3] {
            assert!(is_applied(&scene.command(sequence, 3)));
            assert!(is_applied(&scene.repeat(sequence)), "{sequence}");
        }
    }
}
