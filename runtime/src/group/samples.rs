//! Tests only: a machine to ask and to change, waits with a bound, a clock that jumps.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    ApplyContext, Bootstrap, Clock, ConsensusConfig, Group, GroupKey, Network, StateMachine,
    SystemClock, Time, storage,
};

/// Adds up; asked for a number, it answers with as many bytes.
#[derive(Default)]
pub(super) struct Sum(i64);

impl StateMachine for Sum {
    type Command = i64;
    type Output = i64;
    type Query = Vec<u8>;
    type Answer = Vec<u8>;
    const SIGNATURE: &'static str = "sum 1";

    fn apply(&mut self, command: i64, _: &ApplyContext) -> i64 {
        self.0 += command;
        self.0
    }

    /// The query's first four bytes say how many bytes to answer.
    fn query(&self, query: Vec<u8>) -> Vec<u8> {
        let bytes = query.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        vec![7; bytes as usize]
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        writer.write_all(&self.0.to_le_bytes())
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut value = [0; 8];
        reader.read_exact(&mut value)?;
        self.0 = i64::from_le_bytes(value);
        Ok(())
    }
}

/// Waits for what must come, with a bound.
pub(super) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not come within {BOUND:?}"),
    }
}

/// Lets the other tasks work until the condition holds, with a bound.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let look = async {
        while !holds() {
            ticks.tick().await;
        }
    };
    soon(what, look).await;
}

pub(super) async fn network() -> Network {
    network_on(Arc::new(SystemClock::new())).await
}

/// A node whose time comes from this clock.
pub(super) async fn network_on(clock: Arc<dyn Clock>) -> Network {
    let builder = Network::builder("samples").bind(([127, 0, 0, 1], 0).into()).clock(clock);
    builder.build().await.expect("a free port")
}

/// A group of one that leads itself.
pub(super) async fn alone(
    network: &Network,
    key: &GroupKey,
    consensus: &ConsensusConfig,
) -> Group<Sum> {
    let group = network
        .group(key.clone())
        .machine(Sum::default())
        .consensus(consensus.clone())
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Solo)
        .join()
        .await
        .expect("nothing stands against it");
    soon("a leader", group.when().is_leader()).await.expect("it leads itself");
    group
}

/// A clock that jumps when told to, and otherwise follows the host's.
#[derive(Debug, Default)]
pub(super) struct JumpingClock {
    host: SystemClock,
    ahead: Mutex<Duration>,
    jumped: tokio::sync::Notify,
}

impl JumpingClock {
    pub(super) fn jump(&self, by: Duration) {
        *self.ahead.lock().expect("nobody panics with it") += by;
        self.jumped.notify_waiters();
    }
}

impl Clock for Arc<JumpingClock> {
    fn now(&self) -> Time {
        let ahead = *self.ahead.lock().expect("nobody panics with it");
        self.host.now().plus(ahead)
    }

    fn wall(&self) -> Duration {
        self.host.wall()
    }

    fn sleep_until(&self, deadline: Time) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = Self::clone(self);
        Box::pin(async move {
            loop {
                let mut jumped = std::pin::pin!(clock.jumped.notified());
                jumped.as_mut().enable();
                let now = clock.now();
                if now >= deadline {
                    return;
                }
                let left = clock.host.now().plus(deadline.since(now));
                tokio::select! {
                    () = clock.host.sleep_until(left) => {}
                    () = jumped => {}
                }
            }
        })
    }
}

const BOUND: Duration = Duration::from_secs(20);
