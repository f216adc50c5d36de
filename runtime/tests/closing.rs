//! A member that stops closes its store before it says so, and lets its machine come to rest. It
//! waits for neither for ever.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll},
    time::Duration,
};

use raft::{Write, WriteId};
use runtime::{
    ApplyContext, Bootstrap, Clock, CommandError, ConsensusConfig, ConsensusProfile, Event,
    Executed, Group, GroupKey, Network, StateMachine, StorageError, StoreId, SystemClock, Time,
    storage::{Contents, Founding, Memory, Owner, Storage, Store},
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

/// Remembers nothing.
struct Nothing;

impl StateMachine for Nothing {
    type Command = ();
    type Output = ();
    type Query = ();
    type Answer = ();
    const SIGNATURE: &'static str = "nothing 1";

    fn apply(&mut self, (): (), _: &ApplyContext) {}

    fn query(&self, (): ()) {}

    fn snapshot(&self, _: &mut dyn io::Write) -> io::Result<()> {
        Ok(())
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}

/// What has happened, in its order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<&'static str>>>);

impl Told {
    fn tell(&self, what: &'static str) {
        self.0.lock().expect("nobody panics with it").push(what);
    }

    fn all(&self) -> Vec<&'static str> {
        self.0.lock().expect("nobody panics with it").clone()
    }
}

/// A machine that is at a command for as long as the other end is there, if it is told to.
struct Held {
    begun: watch::Sender<bool>,
    other_end: mpsc::Receiver<()>,
    told: Told,
}

impl StateMachine for Held {
    type Command = bool;
    type Output = ();
    type Query = ();
    type Answer = ();
    const SIGNATURE: &'static str = "held 1";

    fn apply(&mut self, waits: bool, _: &ApplyContext) {
        if waits {
            self.begun.send_replace(true);
            assert!(self.other_end.recv().is_err(), "nothing is ever sent");
            self.told.tell("applied");
        }
    }

    fn query(&self, (): ()) {}

    fn snapshot(&self, _: &mut dyn io::Write) -> io::Result<()> {
        Ok(())
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.told.tell("gone");
    }
}

/// A store whose closing can be watched, and is over only once it may be.
struct Gate {
    asked: watch::Sender<bool>,
    may_close: watch::Receiver<bool>,
}

struct Gated {
    inner: Box<dyn Storage>,
    gate: Gate,
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Store for Gate {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        let inner = Box::new(Memory).open(owner)?;
        Ok(Box::new(Gated { inner, gate: *self, closing: None }))
    }
}

impl Storage for Gated {
    fn id(&self) -> StoreId {
        self.inner.id()
    }

    fn take_contents(&mut self) -> Contents {
        self.inner.take_contents()
    }

    fn found(&mut self, founding: &Founding) -> Result<(), StorageError> {
        self.inner.found(founding)
    }

    fn submit(&mut self, id: WriteId, write: Write) {
        self.inner.submit(id, write);
    }

    fn poll_persisted(&mut self, context: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        self.inner.poll_persisted(context)
    }

    fn backlog_bytes(&self) -> usize {
        self.inner.backlog_bytes()
    }

    fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.gate.asked.send_replace(true);
        let may_close = &mut self.gate.may_close;
        let closing = self.closing.get_or_insert_with(|| {
            let mut may_close = may_close.clone();
            Box::pin(async move {
                may_close.wait_for(|may| *may).await.expect("the test holds the other end");
            })
        });
        closing.as_mut().poll(context)
    }
}

/// The host's clock, which can be put forward.
#[derive(Debug)]
struct Leaping {
    host: SystemClock,
    leapt: watch::Sender<Duration>,
}

impl Clock for Leaping {
    fn now(&self) -> Time {
        self.host.now().plus(*self.leapt.borrow())
    }

    fn wall(&self) -> Duration {
        self.host.wall()
    }

    fn sleep_until(&self, deadline: Time) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (host, mut leaps) = (self.host.clone(), self.leapt.subscribe());
        Box::pin(async move {
            loop {
                let leapt = *leaps.borrow_and_update();
                tokio::select! {
                    () = host.sleep_until(Time(deadline.0.saturating_sub(leapt))) => return,
                    Ok(()) = leaps.changed() => {}
                }
            }
        })
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("within 20 s")
}

/// A node on a clock of its own.
async fn node() -> (Network, Arc<Leaping>) {
    let clock =
        Arc::new(Leaping { host: SystemClock::new(), leapt: watch::Sender::new(Duration::ZERO) });
    let network = Network::builder("tests")
        .bind(([127, 0, 0, 1], 0).into())
        .clock(clock.clone())
        .build()
        .await
        .expect("a free port");
    (network, clock)
}

/// A group of one whose store may not close, asked to stop, at the moment when it waits.
struct Stopping {
    _network: Network,
    clock: Arc<Leaping>,
    may_close: watch::Sender<bool>,
    stopped: Pin<Box<dyn Future<Output = String>>>,
}

async fn stopping() -> Stopping {
    let (asked, mut was_asked) = watch::channel(false);
    let (may_close, closes) = watch::channel(false);
    let (network, clock) = node().await;
    let group: Group<Nothing> = network
        .group(GroupKey::from_secret("a secret of the tests"))
        .machine(Nothing)
        .storage(Gate { asked, may_close: closes })
        .bootstrap(Bootstrap::Solo)
        .join()
        .await
        .expect("nothing is in the way");
    soon(group.execute(())).await.expect("alone is a majority of one");
    let when = group.when();
    drop(group);
    soon(was_asked.wait_for(|asked| *asked)).await.expect("the store is still there");
    Stopping { _network: network, clock, may_close, stopped: Box::pin(when.stopped()) }
}

#[tokio::test]
async fn nobody_is_told_that_a_member_has_stopped_before_its_store_is_closed() {
    let mut stopping = stopping().await;
    let stopped = &mut stopping.stopped;
    let seen = std::future::poll_fn(|context| Poll::Ready(stopped.as_mut().poll(context))).await;
    assert!(seen.is_pending(), "{seen:?}");
    stopping.may_close.send_replace(true);
    let reason = soon(stopping.stopped).await;
    assert_eq!(reason, "all its handles are gone");
}

#[tokio::test]
async fn a_member_whose_disk_hangs_says_so_when_it_stops() {
    let stopping = stopping().await;
    stopping.clock.leapt.send_replace(Duration::from_secs(11));
    let reason = soon(stopping.stopped).await;
    assert!(reason.starts_with("all its handles are gone; its store is still in use"), "{reason}");
}

/// A group of one whose node is shut down while its machine is at a command, at the moment when its
/// store is closed.
struct Busy {
    clock: Arc<Leaping>,
    group: Group<Held>,
    /// The machine goes on once this is dropped.
    holds: mpsc::Sender<()>,
    executed: JoinHandle<Result<Executed<()>, CommandError>>,
    told: Told,
    _may_close: watch::Sender<bool>,
}

async fn busy() -> Busy {
    let (asked, mut was_asked) = watch::channel(false);
    let (may_close, closes) = watch::channel(true);
    let (begun, mut has_begun) = watch::channel(false);
    let (holds, other_end) = mpsc::channel();
    let (network, clock) = node().await;
    let told = Told::default();
    let machine = Held { begun, other_end, told: told.clone() };
    let forward_timeout = Duration::from_secs(15);
    let noted = told.clone();
    let group = network
        .group(GroupKey::from_secret("a secret of the tests"))
        .machine(machine)
        .consensus(ConsensusConfig { forward_timeout, ..ConsensusProfile::Lan.config() })
        .storage(Gate { asked, may_close: closes })
        .bootstrap(Bootstrap::Solo)
        .observe(move |_, event| {
            if matches!(event, Event::Stopped(_)) {
                noted.tell("stopped");
            }
        })
        .join()
        .await
        .expect("nothing is in the way");
    soon(group.execute(false)).await.expect("alone is a majority of one");
    let asking = group.clone();
    let executed = tokio::spawn(async move { asking.execute(true).await });
    soon(has_begun.wait_for(|begun| *begun)).await.expect("the machine is there");
    soon(network.shutdown()).await;
    soon(was_asked.wait_for(|asked| *asked)).await.expect("the store is still there");
    Busy { clock, group, holds, executed, told, _may_close: may_close }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_told_that_a_member_has_stopped_before_its_machine_is_at_rest() {
    let busy = busy().await;
    assert_eq!(busy.group.status().stopped, None, "it is at a command");
    drop(busy.holds);
    let reason = soon(busy.group.when().stopped()).await;
    assert_eq!(reason, "the network is shut down");
    assert_eq!(busy.told.all(), ["applied", "gone", "stopped"]);
    let executed = soon(busy.executed).await.expect("it does not panic");
    executed.expect("what it was at is answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_machine_hangs_says_so_when_it_stops() {
    let busy = busy().await;
    busy.clock.leapt.send_replace(Duration::from_secs(11));
    let reason = soon(busy.group.when().stopped()).await;
    assert_eq!(reason, "the network is shut down; its machine is still at work");
    assert_eq!(busy.told.all(), ["stopped"]);
}
