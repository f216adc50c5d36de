//! What a caller makes of deadlines, sessions and full queues, whatever way its calls take.

use std::time::Duration;

use raft::Index;

use super::*;
use crate::{
    ConsensusProfile, SystemClock,
    clock::Standing,
    group::samples::{Sum, soon},
    metric::{CALLER_REFUSED, recorder::Record},
};

/// A group played by hand.
struct Played<C> {
    clock: C,
    asked: Mutex<Vec<(Call, Time)>>,
    /// Calls that it has not answered.
    kept: Mutex<Vec<oneshot::Sender<Answered>>>,
    respond: fn(&C, &Call) -> Option<Outcome>,
}

impl<C: Clock> Played<C> {
    fn new(clock: C, respond: fn(&C, &Call) -> Option<Outcome>) -> Self {
        Self { clock, asked: Mutex::default(), kept: Mutex::default(), respond }
    }

    fn asked(&self) -> Vec<(Call, Time)> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

impl<C: Clock> Port for Played<C> {
    fn send(&self, call: Call, deadline: Time, reply: oneshot::Sender<Answered>) {
        let outcome = (self.respond)(&self.clock, &call);
        self.asked.lock().expect("nobody panics with it").push((call, deadline));
        match outcome {
            Some(outcome) => drop(reply.send(Answered { outcome, via: self.via() })),
            None => self.kept.lock().expect("nobody panics with it").push(reply),
        }
    }

    fn via(&self) -> PeerId {
        raft::NodeId::small(1).peer
    }

    fn draw(&self) -> u64 {
        7
    }

    fn clock(&self) -> &dyn Clock {
        &self.clock
    }
}

fn applied() -> Outcome {
    let output = Some(postcard::to_stdvec(&5_i64).expect("plain").into());
    Outcome::Applied { position: Position::default(), output }
}

const SECONDS_OF_OPENING: u64 = 1;

#[tokio::test]
async fn one_deadline_covers_the_opening_of_a_session_and_the_command() {
    let clock = Standing::default();
    let consensus = ConsensusProfile::Lan.config();
    let start = clock.now();
    let played = Played::new(clock.clone(), |clock, call| match call {
        Call::OpenSession { .. } => {
            clock.advance(Duration::from_secs(SECONDS_OF_OPENING));
            Some(Outcome::Opened(SessionId(Index(1))))
        }
        _ => Some(applied()),
    });
    let caller: Caller<Sum, _> = Caller::new(played, consensus.clone());
    assert_eq!(soon("an answer", caller.execute(5)).await.expect("applied").output, 5);
    let deadlines: Vec<Time> = caller.port().asked().into_iter().map(|(_, at)| at).collect();
    let one = start.plus(consensus.forward_timeout);
    assert_eq!(deadlines, [one, one], "what the opening took is not given again");
    // The next has its own, and needs no opening.
    assert_eq!(soon("an answer", caller.execute(5)).await.expect("applied").output, 5);
    let (call, deadline) = caller.port().asked().pop().expect("three were asked");
    assert!(matches!(call, Call::Command { .. }), "{call:?}");
    assert_eq!(deadline, clock.now().plus(consensus.forward_timeout));
}

#[tokio::test]
async fn a_session_that_nobody_opens_fails_the_command_at_its_deadline() {
    let forward_timeout = Duration::from_millis(200);
    let consensus = ConsensusConfig { forward_timeout, ..ConsensusProfile::Lan.config() };
    let clock = SystemClock::new();
    let caller: Caller<Sum, _> = Caller::new(Played::new(clock, |_, _| None), consensus);
    // Two at once: the second waits for the opening of the first, and no longer than it may.
    let failed = CommandError::Failed { reason: Reason::Timeout, request: None };
    let both = async { tokio::join!(caller.execute(1), caller.execute(2)) };
    assert_eq!(soon("two answers", both).await, (Err(failed), Err(failed)));
    let asked = caller.port().asked();
    assert!(asked.iter().all(|(call, _)| matches!(call, Call::OpenSession { .. })), "{asked:?}");
}

/// As by a machine that is blocked.
#[tokio::test]
async fn what_is_kept_for_ever_is_unknown_soon_after_its_deadline() {
    let [forward_timeout, query_timeout] = [Duration::from_millis(200); 2];
    let consensus =
        ConsensusConfig { forward_timeout, query_timeout, ..ConsensusProfile::Lan.config() };
    let played = Played::new(SystemClock::new(), |_, call| match call {
        Call::OpenSession { .. } => Some(Outcome::Opened(SessionId(Index(1)))),
        _ => None,
    });
    let caller: Caller<Sum, _> = Caller::new(played, consensus);
    for sequence in 1..=2 {
        let request = Some(RequestId { session: SessionId(Index(1)), sequence });
        let unknown = CommandError::Unknown { reason: Reason::Timeout, request };
        assert_eq!(soon("an answer", caller.execute(5)).await, Err(unknown));
    }
    for consistency in [Consistency::Strong, Consistency::Weak] {
        let asked = soon("an answer", caller.query(Vec::new(), consistency)).await;
        assert_eq!(asked, Err(QueryError { reason: Reason::Timeout }), "{consistency:?}");
    }
}

#[tokio::test]
async fn a_session_takes_no_more_requests_than_replies_are_kept_for() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let consensus =
        ConsensusConfig { replies_per_session_max: 2, ..ConsensusProfile::Lan.config() };
    let played = Played::new(SystemClock::new(), |_, call| match call {
        Call::OpenSession { .. } => Some(Outcome::Opened(SessionId(Index(1)))),
        _ => None,
    });
    let caller: Caller<Sum, _> = Caller::new(played, consensus);
    let full = CommandError::Failed { reason: Reason::Busy, request: None };
    let third = async {
        tokio::select! {
            biased;
            _ = caller.execute(1) => unreachable!("it is not answered"),
            _ = caller.execute(2) => unreachable!("it is not answered"),
            third = caller.execute(3) => third,
        }
    };
    assert_eq!(soon("an answer", third).await, Err(full));
    assert_eq!(record.counter(CALLER_REFUSED, &[("reason", "session")]), 1);
}

#[tokio::test]
async fn a_port_that_goes_away_leaves_nobody_waiting() {
    let played = Played::new(SystemClock::new(), |_, _| None);
    let caller: Caller<Sum, _> = Caller::new(played, ConsensusProfile::Lan.config());
    let query = caller.query(Vec::new(), Consistency::Weak);
    let gone = async {
        // After the question, which `join` polls first.
        caller.port().kept.lock().expect("nobody panics with it").clear();
    };
    let (answer, ()) = soon("an answer", async { tokio::join!(biased; query, gone) }).await;
    assert_eq!(answer, Err(QueryError { reason: Reason::Stopped }));
}
