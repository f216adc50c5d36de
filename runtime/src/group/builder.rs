//! From wishes to a running member: checks everything first, then starts.
//!
//! Invariants: nothing is started, and no store is created, for a wish that cannot be met; and of
//! all who join one group on one node at once, one does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool},
};

use raft::{Config, Configuration, NodeId, PeerId, StoreId, Time};
use thiserror::Error;
use tokio::sync::watch;

use crate::{
    Network, Peer, StateMachine, Status, StorageError,
    group::{
        Bootstrap, ConfigError, ConsensusConfig, Group, GroupId, GroupKey, LeadershipPreference,
        alarm::Alarm,
        applier::Applier,
        body::Body,
        bond::{Admittance, Bonds, Member},
        calls::Calls,
        config::VOTERS_LIMIT,
        founding,
        handle::Handle,
        introduction::Acquaintances,
        life::{self, LastWord, Life},
        mailbox::Mailbox,
        metric::GroupMetrics,
        serve,
        status::{Event, Observer},
    },
    storage::{Contents, Owner, Storage, Store},
};

/// Why a group cannot be joined, or is gone.
#[derive(Debug, Clone, Error)]
pub enum GroupError {
    /// A setting that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The wishes contradict each other.
    #[error("{0}")]
    Wish(String),
    /// The store cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What the store holds contradicts itself.
    #[error("the store contradicts itself: {0}")]
    Inconsistent(String),
    /// No member answered a client.
    #[error("{0}")]
    Unreachable(String),
    /// This node is a member of the group already.
    #[error("this node is a member of group {0} already")]
    Joined(GroupId),
    /// The member has stopped, for this reason. If one of its tasks panicked, or an observer, the
    /// reason says which, and in which words.
    #[error("the member has stopped: {0}")]
    Stopped(String),
    /// The member could not leave in time, and is a member still as far as it knows. If it has
    /// been removed all the same, it comes back by itself, as a newcomer.
    #[error("the member has not left: {0}")]
    NotLeft(String),
}

/// What a member shall be. Made by [`Network::group`].
#[must_use = "a builder does nothing until `join`"]
pub struct GroupBuilder<M> {
    network: Network,
    key: GroupKey,
    machine: M,
    consensus: ConsensusConfig,
    storage: Option<Box<dyn Store>>,
    bootstrap: Bootstrap,
    peers: Vec<Peer>,
    preference: LeadershipPreference,
    observer: Option<Observer>,
    #[cfg(feature = "planted-faults")]
    planted: Option<raft::Planted>,
}

impl GroupBuilder<()> {
    pub(crate) fn new(network: Network, key: GroupKey) -> Self {
        Self {
            network,
            key,
            machine: (),
            consensus: ConsensusConfig::default(),
            storage: None,
            bootstrap: Bootstrap::default(),
            peers: Vec::new(),
            preference: LeadershipPreference::Normal,
            observer: None,
            #[cfg(feature = "planted-faults")]
            planted: None,
        }
    }

    /// The state machine to replicate.
    pub fn machine<M: StateMachine>(self, machine: M) -> GroupBuilder<M> {
        let Self { network, key, machine: (), consensus, storage, bootstrap, peers, .. } = self;
        let (preference, observer) = (self.preference, self.observer);
        GroupBuilder {
            network,
            key,
            machine,
            consensus,
            storage,
            bootstrap,
            peers,
            preference,
            observer,
            #[cfg(feature = "planted-faults")]
            planted: self.planted,
        }
    }
}

impl<M> GroupBuilder<M> {
    /// How the group keeps time and how much it takes on; `lan` unless said otherwise.
    pub fn consensus(mut self, consensus: ConsensusConfig) -> Self {
        self.consensus = consensus;
        self
    }

    /// Where the member remembers: [`crate::storage::Disk`] or [`crate::storage::Memory`].
    pub fn storage(mut self, store: impl Store) -> Self {
        self.storage = Some(Box::new(store));
        self
    }

    /// How the group comes into being; [`Bootstrap::Join`] unless said otherwise: this member
    /// founds nothing and joins what its peers tell it of. A store whose group is founded already
    /// goes on with that.
    pub fn bootstrap(mut self, bootstrap: Bootstrap) -> Self {
        self.bootstrap = bootstrap;
        self
    }

    /// Other members and where to reach them. Founders must name each other; who joins names some
    /// that it can begin with, and is told of the rest. Several, for one may be away when this
    /// node returns.
    pub fn peers(mut self, peers: impl IntoIterator<Item = Peer>) -> Self {
        self.peers = peers.into_iter().collect();
        self
    }

    /// How eager this member is to lead.
    pub fn preference(mut self, preference: LeadershipPreference) -> Self {
        self.preference = preference;
        self
    }

    /// Is told of every event, by the member's own task: it must be quick and must not block. If it
    /// panics it is told nothing more, and the member stops: "an observer panicked", and with what.
    pub fn observe(mut self, observer: impl Fn(Time, &Event) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }
}

#[cfg(feature = "planted-faults")]
impl<M> GroupBuilder<M> {
    /// Breaks a rule of this member's core, to see whether those notice who shall.
    pub fn plant(mut self, fault: raft::Planted) -> Self {
        self.planted = Some(fault);
        self
    }
}

impl<M: StateMachine> GroupBuilder<M> {
    /// Starts the member. It does not wait for the others: see [`Group::when`].
    ///
    /// # Errors
    /// Settings or wishes that cannot work, a store that cannot be used, and a group that this
    /// node is a member of already, or about to be by another call.
    pub async fn join(mut self) -> Result<Group<M>, GroupError> {
        self.consensus.validate()?;
        let me = self.network.peer().id;
        let founders = self.check(me)?;
        let store = self.storage.take().ok_or_else(|| {
            GroupError::Wish("no storage is named: use storage::Disk or storage::Memory".into())
        })?;
        let group = GroupId::of(&self.key, M::SIGNATURE, &self.consensus);
        let claim = self.network.claim_group(group, &self.key).ok_or(GroupError::Joined(group))?;
        let fresh =
            StoreId(u128::from(self.network.draw()) << 64 | u128::from(self.network.draw()));
        let mut storage = store.open(Owner { group, peer: me, fresh })?;
        let contents = storage.take_contents();
        let node = NodeId { peer: me, store: storage.id() };
        self.check_contents(node, &contents)?;
        let joined = self.start(group, node, founders, storage, contents)?;
        claim.keep();
        Ok(joined)
    }

    fn check(&self, me: PeerId) -> Result<Option<BTreeSet<PeerId>>, GroupError> {
        let wish = |text: String| Err(GroupError::Wish(text));
        if matches!(self.preference, LeadershipPreference::Reluctant { factor: 0 }) {
            return wish("a reluctant member needs a factor of at least 1".into());
        }
        let Some(founders) = self.bootstrap.founders(me) else { return Ok(None) };
        if !founders.contains(&me) {
            return wish(format!("the founders do not include this peer, {me}"));
        }
        if founders.len() > VOTERS_LIMIT as usize {
            let count = founders.len();
            return wish(format!("{count} founders, but at most {VOTERS_LIMIT} may vote"));
        }
        if let Some(unknown) = founders
            .iter()
            .find(|founder| **founder != me && !self.peers.iter().any(|peer| peer.id == **founder))
        {
            return wish(format!("founder {unknown} is not among the peers, so has no address"));
        }
        Ok(Some(founders))
    }

    /// Tries the contents before anything starts, so that a bad store is an error of `join`.
    fn check_contents(&self, node: NodeId, contents: &Contents) -> Result<(), GroupError> {
        let Some(founding) = &contents.founding else { return Ok(()) };
        life::core(self.config(node, 0), founding, contents.clone(), None, Time::default())
            .map(drop)
    }

    fn config(&self, node: NodeId, seed: u64) -> Config {
        let consensus = &self.consensus;
        let (reluctance, observer) = match self.preference {
            LeadershipPreference::Normal => (1, false),
            LeadershipPreference::Reluctant { factor } => (factor, false),
            LeadershipPreference::Observer => (1, true),
        };
        Config {
            id: node,
            election_timeout_min: consensus.election_timeout,
            election_timeout_max: consensus.election_timeout + consensus.election_timeout_jitter,
            heartbeat_interval: consensus.heartbeat_interval,
            inflight_entries_max: consensus.inflight_entries_max.into(),
            inflight_bytes_max: consensus.inflight_bytes_max as usize,
            message_bytes_max: consensus.message_bytes_max as usize,
            uncommitted_entries_max: consensus.uncommitted_entries_max.into(),
            unapplied_bytes_max: UNAPPLIED_BYTES_MAX,
            reads_max: consensus.requests_max as usize,
            sessions: consensus.session_limits(),
            lease: consensus.lease_limits(),
            reluctance,
            observer,
            seed,
        }
    }

    fn start(
        self,
        group: GroupId,
        node: NodeId,
        founders: Option<BTreeSet<PeerId>>,
        storage: Box<dyn Storage>,
        contents: Contents,
    ) -> Result<Group<M>, GroupError> {
        let config = self.config(node, self.network.draw());
        let mut applier = Applier::new(Box::new(self.machine), &self.consensus);
        restore(&mut applier, &*storage, &contents)?;
        let (mailbox, mail) = Mailbox::open(&self.consensus);
        let (handle_sender, handles) = watch::channel(());
        let (status_sender, status) = watch::channel(Status::new(node));
        let (admit, admittance) = watch::channel(shown(group, node, founders.as_ref(), &contents));
        let member = Member {
            group,
            key: self.key.clone(),
            consensus: self.consensus.clone(),
            peers: self.peers.clone(),
            admittance,
        };
        let alarm = Alarm::default();
        let (bonds, events) = Bonds::spawn(&self.network, member, alarm.clone());
        let observes = self.preference == LeadershipPreference::Observer;
        let body = Body {
            network: self.network.clone(),
            group,
            machine: M::SIGNATURE,
            clock: Arc::clone(self.network.clock()),
            consensus: self.consensus.clone(),
            node,
            bonds,
            events,
            mail,
            handles,
            calls: Calls::new(self.network.draw()),
            bonded: BTreeSet::new(),
            lineages: BTreeMap::new(),
            founding: None,
            tells: false,
            members: Configuration::default(),
            admit,
            acquaintances: Acquaintances::new(self.network.peer(), observes, &self.peers),
            leaving: BTreeMap::new(),
            acquaint_at: None,
            status: status_sender,
            observer: self.observer,
            observer_fell: AtomicBool::new(false),
            alarm: alarm.clone(),
            rung: alarm.heard(),
            metrics: GroupMetrics::new(group.to_string(), node.peer.to_string()),
        };
        let (key, consensus) = (&self.key, &self.consensus);
        serve::spawn(&self.network, group, key, consensus, &mailbox, &status, alarm);
        let last_word = LastWord::of(&body);
        let life = Life {
            group,
            founders,
            config,
            body,
            storage,
            contents,
            applier,
            #[cfg(feature = "planted-faults")]
            planted: self.planted,
        };
        tokio::spawn(life.live(last_word));
        let handle = Handle::new(group, node.peer, mailbox, handle_sender, status, self.network);
        Ok(Group::new(handle, self.consensus))
    }
}

/// What the member shows of itself until it has begun.
///
/// Who founds alone will found this lineage and no other, for it waits for nobody: shown before
/// that is durable it is true already, and who meets it meanwhile is not turned away for nothing.
/// So nobody is ever bonded to a lineage that may be given up without having seen which it is.
fn shown(
    group: GroupId,
    node: NodeId,
    founders: Option<&BTreeSet<PeerId>>,
    contents: &Contents,
) -> Admittance {
    let alone = || founding::by(group, Configuration::of([node]));
    let is_alone = founders.is_some_and(|founders| founders.iter().eq([&node.peer]));
    let founding = contents.founding.clone().or_else(|| is_alone.then(alone));
    Admittance {
        lineage: founding.as_ref().map(|founding| founding.lineage),
        dissolves: founding.is_some_and(|founding| life::holds_nothing(node, &founding, contents)),
        founders: founders.cloned(),
        ..Admittance::of(node.store)
    }
}

/// Has the machine go on from the snapshot that the store's log starts after.
fn restore(
    applier: &mut Applier,
    storage: &dyn Storage,
    contents: &Contents,
) -> Result<(), GroupError> {
    let Some(covers) = &contents.snapshot else { return Ok(()) };
    let file = storage.shelf().map(|shelf| shelf.open()).transpose()?.flatten();
    let Some(file) = file.filter(|file| file.head().covers == *covers) else {
        let what = format!("its log starts after {}, and there is no snapshot", covers.position);
        return Err(GroupError::Inconsistent(what));
    };
    let restored = applier.restore(&file);
    restored.map_err(StorageError::io(file.path(), "restore the machine from"))?;
    Ok(())
}

/// What a leader's log may hold unapplied: many times what is under way in good order.
const UNAPPLIED_BYTES_MAX: usize = 64 << 20;
