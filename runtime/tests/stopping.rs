//! What is left of a member that has stopped, in good order or by a panic: nothing that is so at
//! present, an answer for everybody, and room to join again.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/members.rs"]
mod members;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use members::{Counter, Member, config, formed_with, join_with, key, network, soon};
use raft::{Write, WriteId};
use runtime::{
    Bootstrap, CommandError, ConsensusConfig, Consistency, Event, Group, GroupBuilder, GroupError,
    GroupKey, Index, LeadershipPreference, Network, Peer, PeerId, Reason, SecretKey, StorageError,
    StoreId,
    storage::{Contents, Disk, Founding, Memory, Owner, Storage, Store},
};

/// So patient that the eager one leads, and leads on, also while this machine is busy.
fn patient() -> ConsensusConfig {
    ConsensusConfig {
        election_timeout: Duration::from_millis(600),
        election_timeout_jitter: Duration::from_millis(300),
        forward_timeout: Duration::from_secs(15),
        query_timeout: Duration::from_secs(15),
        ..config()
    }
}

fn builder(network: &Network) -> GroupBuilder<Counter> {
    network.group(key()).machine(Counter::default()).consensus(config())
}

/// A member that has founded its group alone, with its store there.
async fn alone(network: &Network, store: &Path) -> Group<Counter> {
    let builder = builder(network).storage(Disk::at(store)).bootstrap(Bootstrap::Solo);
    let group = builder.join().await.expect("nothing stands against joining");
    soon(group.when().is_leader()).await.expect("it leads itself");
    group
}

/// Nothing is so at present of a member that has stopped for this reason, whatever `leader` leads.
async fn is_nothing_any_more(group: &Group<Counter>, reason: &str, leader: PeerId) {
    assert_eq!(soon(group.when().stopped()).await, reason);
    let status = group.status();
    assert_eq!(status.stopped.as_deref(), Some(reason));
    assert_eq!((status.is_leader(), status.leader), (false, None));
    assert!(status.bonded.is_empty(), "{:?}", status.bonded);
    assert_eq!((status.calls, status.held_messages, status.storage_backlog_bytes), (0, 0, 0));
    let when = || group.when();
    for (what, outcome) in [
        ("it leads", soon(when().is_leader()).await),
        ("it follows", soon(when().is_follower()).await),
        ("it votes", soon(when().is_voter()).await),
        ("it has a bond", soon(when().bonded(1)).await),
        ("it knows who leads", soon(when().leader_is(leader)).await),
        ("it knows of a leader", soon(when().leader_elected()).await.map(drop)),
        ("it comes to that index", soon(when().applied(Index(u64::MAX))).await),
    ] {
        let told = outcome.expect_err(what);
        assert!(matches!(&told, GroupError::Stopped(told) if told == reason), "{what}: {told}");
    }
    let executed = soon(group.execute(1)).await.expect_err("it is no member");
    let is_refused = matches!(executed, CommandError::Failed { reason: Reason::Stopped, .. });
    assert!(is_refused, "{executed:?}");
    let queried = soon(group.query((), Consistency::Weak)).await.expect_err("it is no member");
    assert_eq!(queried.reason, Reason::Stopped);
    let left = soon(group.leave()).await.expect_err("it is no member");
    assert!(matches!(&left, GroupError::Stopped(told) if told == reason), "{left}");
    let entries = soon(group.entries(Index(1), 1)).await.expect_err("it is no member");
    assert!(matches!(&entries, GroupError::Stopped(told) if told == reason), "{entries}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_left_keeps_neither_bonds_nor_vote() {
    let members = formed_with(patient(), 3).await;
    let leader = members[0].network.peer().id;
    let leaving = &members[2].group;
    let executed = soon(leaving.execute(1)).await.expect("commits");
    soon(leaving.when().bonded(2)).await.expect("all are there");
    soon(leaving.when().is_voter()).await.expect("it is a founder");
    soon(leaving.when().applied(executed.position.index)).await.expect("it has it");
    soon(leaving.leave()).await.expect("two of three stay");
    is_nothing_any_more(leaving, "it has left the group", leader).await;
    // What it has come to stays true.
    soon(leaving.when().founded()).await.expect("it was");
    soon(leaving.when().committed(executed.position.index)).await.expect("it knew");
    soon(leaving.when().applied(executed.position.index)).await.expect("it had it");
    soon(members[1].group.execute(1)).await.expect("two of two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_one_handle_of_a_founded_member_harms_no_other_and_dropping_all_stops_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    let here = network().await;
    let one = alone(&here, &store).await;
    let other = one.clone();
    assert_eq!(soon(one.execute(1)).await.expect("it leads itself").output, 1);
    drop(one);
    assert_eq!(soon(other.execute(1)).await.expect("it lives").output, 2);
    assert_eq!(other.status().stopped, None);
    let when = other.when();
    drop(other);
    assert_eq!(soon(when.stopped()).await, "all its handles are gone");
    let again = alone(&here, &store).await;
    assert_eq!(soon(again.execute(1)).await.expect("it leads itself").output, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_a_member_of_a_group_once() {
    let here = network().await;
    let founded =
        |network: &Network| builder(network).storage(Memory).bootstrap(Bootstrap::Solo).join();
    let group = founded(&here).await.expect("nothing stands against joining");
    let refused = founded(&here).await.expect_err("it is a member");
    assert!(matches!(refused, GroupError::Joined(of) if of == group.id()), "{refused}");
    assert!(refused.to_string().contains("is a member of group"), "{refused}");
    soon(group.execute(1)).await.expect("the first is not harmed");
    // Another node of the same process is another peer, and another key another group.
    founded(&network().await).await.expect("nothing stands against joining");
    let key = GroupKey::from_secret("another secret of the tests");
    let builder = here.group(key).machine(Counter::default()).storage(Memory);
    builder.bootstrap(Bootstrap::Solo).join().await.expect("nothing stands against joining");
}

/// A store during whose opening its member is joined once more.
struct Twice {
    network: Network,
    told: Arc<Mutex<Option<GroupError>>>,
}

impl Store for Twice {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        let again = builder(&self.network).storage(Memory).bootstrap(Bootstrap::Solo).join();
        let again = again.now_or_never().expect("it waits for nobody");
        *self.told.lock().expect("nobody panics with it") = again.err();
        Box::new(Memory).open(owner)
    }
}

/// A store that cannot be opened.
struct Shut;

impl Store for Shut {
    fn open(self: Box<Self>, _: Owner) -> Result<Box<dyn Storage>, StorageError> {
        Err(StorageError::InUse { path: PathBuf::from("nowhere") })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_join_at_once_one_is_told_so_and_who_cannot_is_in_nobodys_way() {
    let here = network().await;
    let refused = builder(&here).storage(Shut).bootstrap(Bootstrap::Solo).join().await;
    let refused = refused.expect_err("it has no store");
    assert!(matches!(refused, GroupError::Storage(_)), "{refused}");
    let told = Arc::<Mutex<Option<GroupError>>>::default();
    let store = Twice { network: here.clone(), told: Arc::clone(&told) };
    let group = builder(&here).storage(store).bootstrap(Bootstrap::Solo).join().await;
    let group = group.expect("nothing stands against joining");
    let refused = told.lock().expect("nobody panics with it").take();
    let is_joined = matches!(&refused, Some(GroupError::Joined(of)) if *of == group.id());
    assert!(is_joined, "{refused:?}");
    soon(group.execute(1)).await.expect("the first is not harmed");
}

/// Three members of which the first, which leads, is on a disk there and has this observer.
async fn observed(
    store: &Path,
    observer: impl Fn(&Event) + Send + Sync + 'static,
) -> (Member, [Member; 2]) {
    let networks = [network().await, network().await, network().await];
    let peers = networks.each_ref().map(Network::peer);
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let first = builder(&networks[0])
        .consensus(patient())
        .storage(Disk::at(store))
        .bootstrap(Bootstrap::Voters(voters))
        .peers(peers[1..].iter().cloned())
        .observe(move |_, event| observer(event));
    let first = first.join().await.expect("nothing stands against joining");
    let reluctant = LeadershipPreference::Reluctant { factor: 4 };
    let second = join_with(patient(), &networks[1], &peers, reluctant).await;
    let third = join_with(patient(), &networks[2], &peers, reluctant).await;
    soon(first.when().is_leader()).await.expect("the eager one leads");
    (Member { network: networks[0].clone(), group: first }, [second, third])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_panics_stops_its_member_and_everyone_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    let breaks = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&breaks);
    let observer = move |_: &Event| assert!(!told.load(Ordering::SeqCst), "as it was told to");
    let (first, others) = observed(&store, observer).await;
    let leader = first.network.peer().id;
    let executed = soon(first.group.execute(1)).await.expect("commits");
    for other in &others {
        soon(other.group.when().bonded(2)).await.expect("all are there");
    }
    let waiting = tokio::spawn(first.group.when().applied(Index(u64::MAX)));
    breaks.store(true, Ordering::SeqCst);
    // Whatever becomes of it: the member ends what it is at.
    let _ended = soon(first.group.execute(1)).await;
    let reason = "an observer panicked: as it was told to";
    let outcome = soon(waiting).await.expect("no panic of ours").expect_err("it never comes");
    assert!(matches!(&outcome, GroupError::Stopped(told) if told == reason), "{outcome}");
    is_nothing_any_more(&first.group, reason, leader).await;
    soon(first.group.when().applied(executed.position.index)).await.expect("it had it");

    // The others notice, and go on.
    for other in &others {
        let mut when = other.group.when();
        let parted = when.status(|status| status.bonded.len() == 1);
        soon(parted).await.expect("its bonds are closed");
        let elected = when.status(|status| status.leader.is_some_and(|one| one.peer != leader));
        soon(elected).await.expect("two of three elect another");
    }
    let sum = soon(others[0].group.execute(1)).await.expect("two of three").output;
    // Its store is closed and the node has let go of the group.
    let again = builder(&first.network)
        .consensus(patient())
        .storage(Disk::at(&store))
        .peers(others.iter().map(|other| other.network.peer()));
    let again = again.join().await.expect("nothing is in the way");
    soon(again.when().is_voter()).await.expect("it goes on with its store");
    assert_eq!(soon(again.execute(1)).await.expect("all three").output, sum + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_panics_before_the_group_is_founded_stops_its_member_too() {
    let (here, there) = (network().await, network().await);
    let absent = SecretKey::from_bytes([9; 32]).peer_id();
    let voters: BTreeSet<_> = [here.peer().id, there.peer().id, absent].into();
    let nowhere = Peer { id: absent, addresses: vec![([127, 0, 0, 1], 9).into()] };
    let join = |network: &Network, peer: Peer, breaks: bool| {
        let founders = Bootstrap::Voters(voters.clone());
        let builder = builder(network).storage(Memory).bootstrap(founders);
        let builder = builder.peers([peer, nowhere.clone()]);
        builder.observe(move |_, event| assert!(!breaks, "at {event:?}")).join()
    };
    let first = join(&here, there.peer(), true).await.expect("nothing stands against joining");
    let _second = join(&there, here.peer(), false).await.expect("nothing stands against joining");
    let reason = soon(first.when().stopped()).await;
    assert!(reason.starts_with("an observer panicked: at Bonded"), "{reason}");
    is_nothing_any_more(&first, &reason, here.peer().id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_panics_at_the_last_word_is_told_of_like_any() {
    let here = network().await;
    let breaks = |event: &Event| matches!(event, Event::Stopped(_));
    let builder = builder(&here).storage(Memory).bootstrap(Bootstrap::Solo);
    let builder = builder.observe(move |_, event| assert!(!breaks(event), "at the last word"));
    let group = builder.join().await.expect("nothing stands against joining");
    soon(group.execute(1)).await.expect("it leads itself");
    let when = group.when();
    drop(group);
    assert_eq!(soon(when.stopped()).await, "an observer panicked: at the last word");
}

/// A store that panics, in the member's own task, once it is told to.
struct Brittle {
    at: Panics,
    breaks: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
}

/// Where it panics.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Panics {
    AtWrites,
    AtClosing,
}

struct Cracked {
    inner: Box<dyn Storage>,
    store: Brittle,
}

impl Store for Brittle {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        let inner = Box::new(Memory).open(owner)?;
        Ok(Box::new(Cracked { inner, store: *self }))
    }
}

impl Cracked {
    fn may_panic(&self, at: Panics) {
        let panics = self.store.at == at && self.store.breaks.load(Ordering::SeqCst);
        assert!(!panics, "the test's store breaks as it was told to");
    }
}

impl Storage for Cracked {
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
        self.may_panic(Panics::AtWrites);
        self.inner.submit(id, write);
    }

    fn poll_persisted(&mut self, context: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        self.inner.poll_persisted(context)
    }

    fn backlog_bytes(&self) -> usize {
        self.inner.backlog_bytes()
    }

    fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.may_panic(Panics::AtClosing);
        let closed = self.inner.poll_closed(context);
        self.store.closed.store(closed.is_ready(), Ordering::SeqCst);
        closed
    }
}

/// A member alone on a brittle store, with what makes it break and what tells that it is closed.
async fn brittle(network: &Network, at: Panics) -> (Group<Counter>, [Arc<AtomicBool>; 2]) {
    let flags = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let [breaks, closed] = flags.clone();
    let builder = builder(network).storage(Brittle { at, breaks, closed });
    let group = builder.bootstrap(Bootstrap::Solo).join().await.expect("nothing is in the way");
    soon(group.execute(1)).await.expect("it leads itself");
    (group, flags)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_its_own_task_stops_a_member_and_nobody_is_told_that_his_command_failed() {
    let here = network().await;
    let (group, [breaks, closed]) = brittle(&here, Panics::AtWrites).await;
    breaks.store(true, Ordering::SeqCst);
    // It stands in the log already, and on another disk it could by now be there for good.
    let under_way = soon(group.execute(1)).await.expect_err("it panics first");
    let is_unknown = matches!(under_way, CommandError::Unknown { reason: Reason::Stopped, .. });
    assert!(is_unknown, "{under_way:?}");
    let reason = "its own task panicked: the test's store breaks as it was told to";
    is_nothing_any_more(&group, reason, here.peer().id).await;
    assert!(closed.load(Ordering::SeqCst), "its store is closed all the same");
    brittle(&here, Panics::AtWrites).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_panics_while_it_stops_has_stopped() {
    let here = network().await;
    let (group, [breaks, _]) = brittle(&here, Panics::AtClosing).await;
    breaks.store(true, Ordering::SeqCst);
    let when = group.when();
    drop(group);
    let reason = "its own task panicked: the test's store breaks as it was told to";
    assert_eq!(soon(when.stopped()).await, reason);
    brittle(&here, Panics::AtClosing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_waits_for_its_founding_has_an_answer_for_everybody() {
    let waiting = builder(&network().await).storage(Memory).bootstrap(Bootstrap::Join);
    let waiting = waiting.join().await.expect("nothing stands against joining");
    assert_eq!(soon(waiting.entries(Index(1), 9)).await.expect("it lives"), vec![]);
    let nobody = SecretKey::from_bytes([9; 32]).peer_id();
    let refused = soon(waiting.transfer(nobody)).await.expect_err("it does not lead");
    assert!(matches!(refused, GroupError::Wish(_)), "{refused}");
    assert_eq!(waiting.status().stopped, None);
    soon(waiting.leave()).await.expect("it is no member yet");
    let stopped = soon(waiting.entries(Index(1), 9)).await.expect_err("it has stopped");
    let reason = "it left before it was a member of any group";
    assert!(matches!(&stopped, GroupError::Stopped(told) if told == reason), "{stopped}");
}
