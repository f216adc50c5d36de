//! What a member has before it has a core, and keeps afterwards.
//!
//! Invariant: whatever becomes of the member, [`Body::stop`] has the last word, unless it falls in
//! the middle of that: by then every call is answered, the machine is at rest, the store and all
//! bonds are closed, and the status says why; and also if something of it did not end in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use raft::{Configuration, Index, NodeId, Position, Role, StoreId, Term, Time};
use tokio::sync::{mpsc, watch};

use crate::{
    Clock, ConsensusConfig, Network, Status,
    group::{
        GroupId, Lineage,
        alarm::Alarm,
        answer::Answerer,
        applier::Applying,
        bond::{Admittance, BondEvents, Bonds, Foreign},
        calls::{CallId, Calls},
        introduction::{Acquaintances, Introduction},
        mailbox::Mail,
        metric::GroupMetrics,
        status::{Event, Observer},
        wire::{Call, MemberFrame, Outcome, Reason},
    },
    network::Code,
    storage::{self, Founding, Storage},
};

/// See above.
pub(crate) struct Body {
    pub(crate) network: Network,
    pub(crate) group: GroupId,
    /// The signature of the machine.
    pub(crate) machine: &'static str,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) consensus: ConsensusConfig,
    pub(crate) node: NodeId,
    pub(crate) bonds: Bonds,
    pub(crate) events: BondEvents,
    pub(crate) mail: mpsc::Receiver<Mail>,
    /// Closes when the last handle is dropped.
    pub(crate) handles: watch::Receiver<()>,
    pub(crate) calls: Calls,
    pub(crate) bonded: BTreeSet<NodeId>,
    /// Of which lineage those are who are bonded, as far as they have shown it or told of it.
    pub(crate) lineages: BTreeMap<NodeId, Lineage>,
    /// How the group began, once that is known.
    pub(crate) founding: Option<Founding>,
    /// Others may be told of it: it is there for good.
    pub(crate) tells: bool,
    /// The members, as far as is known.
    pub(crate) members: Configuration,
    pub(crate) admit: watch::Sender<Admittance>,
    pub(crate) acquaintances: Acquaintances,
    /// Bonded nodes that want to be members no longer, and when they last said so.
    pub(crate) leaving: BTreeMap<NodeId, Time>,
    /// When those that are bonded are told what they have not heard yet.
    pub(crate) acquaint_at: Option<Time>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) observer: Option<Observer>,
    /// It has panicked, and is told nothing any more.
    pub(crate) observer_fell: AtomicBool,
    /// Rung when any task of this member panics: then all of it stops.
    pub(crate) alarm: Alarm,
    /// Changes when that is so.
    pub(crate) rung: watch::Receiver<Option<String>>,
    pub(crate) metrics: GroupMetrics,
}

impl Body {
    /// Tells the program's observer. If it panics this member stops, but first ends what it is at:
    /// the panic is the program's, and shall leave nothing here half done.
    pub(crate) fn note(&self, event: &Event) {
        let Some(observer) = &self.observer else { return };
        if self.observer_fell.load(Ordering::Relaxed) {
            return;
        }
        let now = self.clock.now();
        let heard = self.alarm.caught_now("an observer", || observer(now, event));
        self.observer_fell.store(heard.is_none(), Ordering::Relaxed);
    }

    /// Takes a call in, or refuses it because too many are under way.
    pub(crate) fn admit(
        &mut self,
        call: Call,
        deadline: Time,
        answerer: Answerer,
    ) -> Option<CallId> {
        if self.calls.len() >= self.consensus.requests_max as usize {
            self.metrics.refused_busy();
            answerer.answer(Outcome::Refused(Reason::Busy));
            return None;
        }
        Some(self.calls.open(call, answerer, self.clock.now(), deadline))
    }

    /// A bond came up with a node that has shown that it is of this lineage, if of any.
    pub(crate) fn bond_came(&mut self, node: NodeId, lineage: Option<Lineage>) {
        self.bonded.insert(node);
        match lineage {
            Some(lineage) => self.lineages.insert(node, lineage),
            None => self.lineages.remove(&node),
        };
        self.note(&Event::Bonded(node));
        let introduction = self.introduction();
        if !self.bonds.send(node, MemberFrame::Introduction(introduction)) {
            self.acquaint_soon();
        }
        self.status.send_if_modified(|status| {
            let foreign = status.foreign.len();
            status.foreign.retain(|(peer, _)| *peer != node.peer);
            status.foreign.len() != foreign
        });
    }

    pub(crate) fn bond_went(&mut self, node: NodeId) {
        self.bonded.remove(&node);
        self.lineages.remove(&node);
        self.leaving.remove(&node);
        self.acquaintances.part(node);
        self.note(&Event::Unbonded(node));
    }

    /// Whether the bonded node is known to be of this member's lineage.
    pub(crate) fn is_kin(&self, node: NodeId) -> bool {
        let ours = self.founding.as_ref().map(|founding| founding.lineage);
        ours.is_some() && self.lineages.get(&node).copied() == ours
    }

    /// A bonded node has said who it is.
    pub(crate) fn introduced(&mut self, node: NodeId, introduction: Introduction) {
        let theirs = introduction.founding.as_ref().map(|founding| founding.lineage);
        let ours = self.founding.as_ref().map(|founding| founding.lineage);
        // Who tells of none may have shown one that it may yet give up.
        if let Some(theirs) = theirs {
            self.lineages.insert(node, theirs);
        }
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
        {
            // Neither had one when they bonded.
            self.met_foreign(Foreign { peer: node.peer, lineage: theirs, dissolves: false });
            let reason =
                format!("lineage {theirs} was founded there, {ours} here: they never merge");
            return self.bonds.end(node, Code::DifferentLineage.because(reason));
        }
        if self.acquaintances.meet(self.clock.now(), node, introduction) {
            self.acquaint_soon();
        }
        self.dial();
    }

    fn acquaint_soon(&mut self) {
        let soon = self.clock.now().plus(self.consensus.heartbeat_interval);
        self.acquaint_at.get_or_insert(soon);
    }

    /// Tells everyone who is here, if it is time; and all once more for one whose lane is full, for
    /// the core of whoever is never told of our lineage never hears ours.
    pub(crate) fn acquaint(&mut self, now: Time) {
        if self.acquaint_at.is_none_or(|at| now < at) {
            return;
        }
        self.acquaint_at = None;
        let introduction = self.introduction();
        let mut all_are_told = true;
        for node in &self.bonded {
            let frame = MemberFrame::Introduction(introduction.clone());
            all_are_told &= self.bonds.send(*node, frame);
        }
        if !all_are_told {
            self.acquaint_soon();
        }
    }

    fn introduction(&self) -> Introduction {
        self.acquaintances.introduction(self.founding.as_ref().filter(|_| self.tells))
    }

    /// The lineage may be given up no longer: those who wait to join may be told of it.
    pub(crate) fn tell(&mut self) {
        self.tells = true;
        let now = self.clock.now();
        self.acquaint_at = Some(now);
        self.acquaint(now);
    }

    /// The group is founded, and this member knows how. What may yet be given up is nothing that
    /// others could be told to join: they would be left behind in a lineage without founder.
    pub(crate) fn founded(&mut self, founding: &Founding, dissolves: bool) {
        self.founding = Some(founding.clone());
        // Both at once: were the one shown without the other, this member and one that may
        // dissolve like it could each give way to the other.
        self.admit.send_modify(|admittance| {
            (admittance.lineage, admittance.dissolves) = (Some(founding.lineage), dissolves);
        });
        self.status.send_modify(|status| status.lineage = Some(founding.lineage));
        self.configured(&founding.configuration);
        if !dissolves {
            self.tell();
        }
    }

    fn dial(&mut self) {
        // Who may yet give way to another lineage looks around for one, like a newcomer.
        let is_settled = self.tells && self.members.contains(self.node);
        let members = is_settled.then_some(&self.members);
        self.bonds.want(self.acquaintances.whom_to_dial(members));
    }

    /// Another configuration is in force.
    pub(crate) fn configured(&mut self, configuration: &Configuration) {
        self.members.clone_from(configuration);
        self.metrics.configured(configuration);
        self.admit.send_if_modified(|admittance| {
            let members = configuration.members().collect();
            let is_news = admittance.members != members;
            admittance.members = members;
            is_news
        });
        self.dial();
    }

    /// A peer of another lineage was met, and turned away by one side or the other.
    pub(crate) fn met_foreign(&mut self, foreign: Foreign) {
        let Foreign { peer, lineage: theirs, .. } = foreign;
        let Some(ours) = self.founding.as_ref().map(|founding| founding.lineage) else { return };
        let is_news = self.status.send_if_modified(|status| {
            if status.foreign.contains(&(peer, theirs)) {
                return false;
            }
            status.foreign.retain(|(known, _)| *known != peer);
            status.foreign.push((peer, theirs));
            let beyond = status.foreign.len().saturating_sub(FOREIGN_MAX);
            status.foreign.drain(..beyond);
            true
        });
        if is_news {
            tracing::warn!(%peer, %theirs, %ours, "a peer of another lineage: they never merge");
            self.note(&Event::Foreign { peer, theirs, ours });
        }
    }

    /// The lineage is given up: from now on this is another server, which belongs nowhere yet.
    pub(crate) fn dissolved(&mut self, store: StoreId) {
        let Some(Founding { lineage, .. }) = self.founding.take() else { return };
        (self.node.store, self.tells) = (store, false);
        self.members = Configuration::default();
        self.leaving.clear();
        // What was proposed is gone with its log, and nothing of it was promised.
        self.calls.deposed();
        self.admit.send_replace(Admittance::of(store));
        self.bonds.end_all(&Code::Replaced.because("this node gives its lineage up"));
        self.note(&Event::Dissolved(lineage));
        tracing::info!(node = %self.node, %lineage, "gave its lineage up for another one");
        self.status.send_modify(|status| {
            status.node = self.node;
            (status.lineage, status.leader) = (None, None);
            (status.role, status.term) = (Role::Follower, Term(0));
            (status.commit, status.applied, status.last) =
                (Index(0), Index(0), Position::default());
            status.configuration = Configuration::default();
            status.foreign.clear();
        });
    }

    /// When something here is due.
    pub(crate) fn due(&self) -> Option<Time> {
        self.calls.deadline().into_iter().chain(self.acquaint_at).min()
    }

    /// Stops after a panic of the member's own task. A call may stand in the log by now without
    /// being noted to, so nobody is told that his came to nothing.
    pub(crate) async fn fall(&mut self, storage: Box<dyn Storage>, applying: Option<Applying>) {
        self.calls.abandon();
        self.stop(String::new(), storage, applying).await;
    }

    /// Says goodbye: answers all calls, lets the machine come to rest, closes the store and all
    /// bonds, publishes why.
    pub(crate) async fn stop(
        &mut self,
        reason: String,
        storage: Box<dyn Storage>,
        applying: Option<Applying>,
    ) {
        self.calls.stop();
        self.mail.close();
        // What is left in the mailbox answers `Unknown(Stopped)` as it is dropped.
        while self.mail.try_recv().is_ok() {}
        let (alarm, clock) = (self.alarm.clone(), Arc::clone(&self.clock));
        let finishing = async {
            match applying {
                Some(applying) => applying.finish(&*clock).await,
                None => true,
            }
        };
        let (is_at_rest, is_closed) = tokio::join!(finishing, storage::close(storage, &*clock));
        let open = if is_closed { "" } else { "; its store is still in use: the disk hangs" };
        let busy = if is_at_rest { "" } else { "; its machine is still at work" };
        // If anything panicked then that is why, also where something else was noticed first.
        let told = move || alarm.told().unwrap_or_else(|| reason.clone()) + open + busy;
        self.note(&Event::Stopped(told()));
        // Told only when all of it is over, so that the group can be joined again at once.
        self.bonds.shutdown().await;
        // The observer may have panicked at that word, and a task of the bonds as it ended.
        let reason = told();
        tracing::info!(node = %self.node, %reason, "the member stopped");
        self.status.send_modify(|status| status.stop(reason));
    }
}

/// Peers of other lineages that the status names.
const FOREIGN_MAX: usize = 8;
