//! The driver's half that looks after who is a member: it asks the steward what is due, has it
//! proposed, and sees this member's own wish to leave through; and has another lead where this
//! leader's disk hangs.
//!
//! What is due the steward decides, what may be done now the core. Invariant: changes are
//! proposed by a leader alone, one at a time; a member that has left stops only once it was told
//! that the removal is committed, by its leader as long as it knows one.

use std::time::Duration;

use raft::{Input, NodeId, Proposal, ProposalId, Refusal, Role, Time};
use tokio::sync::oneshot;

use super::{Driver, Over};
use crate::{
    Lineage, StoreId,
    group::{
        GroupError,
        bond::Foreign,
        introduction::Introduction,
        life,
        status::Event,
        steward::{Sight, Steward},
        wire::MemberFrame,
    },
};

/// This member's wish to leave.
pub(super) struct Leaving {
    deadline: Time,
    /// When to ask again.
    ask_at: Time,
    replies: Vec<oneshot::Sender<Result<(), GroupError>>>,
}

/// The one proposal of the steward's that may be under way. Calls are never numbered so.
pub(super) const CHANGE: ProposalId = ProposalId(0);

impl Driver {
    /// What is due of membership now.
    pub(super) fn tend(&mut self, now: Time) {
        self.body.acquaint(now);
        if now < self.tend_at {
            return;
        }
        let leads = self.core.role() == Role::Leader;
        let pause = self.body.consensus.heartbeat_interval;
        self.tend_at = match leads || self.leave.is_some() {
            true => now.plus(pause),
            false => Time(Duration::MAX),
        };
        if leads {
            self.advise(now);
            self.tell_leavers();
            self.look_after_disk(now);
        } else {
            self.steward = None;
        }
        self.let_go_of_rest(now);
        self.see_leave_through(now);
    }

    /// Something happened that may make a change due.
    pub(super) fn tend_soon(&mut self) {
        self.tend_at = Time::default();
    }

    fn advise(&mut self, now: Time) {
        let Self { body, core, steward, fresh, .. } = self;
        // Who has stopped asking has given up, or has left and come back.
        let patience = 2 * body.consensus.election_timeout_max();
        body.leaving.retain(|_, asked| now.since(*asked) <= patience);
        let steward = steward.get_or_insert_with(|| Steward::new(body.node, &body.consensus));
        let advice = steward.look(&Sight {
            now,
            last: core.last().index,
            configuration: core.configuration(),
            standings: &core.standings(),
            present: &body.acquaintances.present(),
            leaving: &body.leaving,
            fresh: *fresh,
        });
        let Some((change, cause)) = advice.filter(|_| core.may_change()) else { return };
        self.changing = Some((change, cause));
        self.step(Input::Propose { id: CHANGE, proposal: Proposal::Change(change) });
    }

    /// The steward's proposal was taken, or not; then it is due again, if it still is.
    pub(super) fn change_answered(&mut self, outcome: Result<raft::Position, Refusal>) {
        let Some((change, cause)) = self.changing.take() else { return };
        match outcome {
            Ok(position) => {
                tracing::info!(?change, ?cause, %position, "the membership changes");
                self.body.metrics.changing(cause);
                self.body.note(&Event::Changing { change, cause });
            }
            Err(refusal) => tracing::debug!(?change, ?refusal, "no change now"),
        }
    }

    /// Another configuration is in force, committed or not.
    pub(super) fn configured(&mut self) {
        let after = self.core.configuration().clone();
        let before = std::mem::replace(&mut self.body.members, after.clone());
        for member in after.members() {
            let (voted, votes) = (before.voters.contains(&member), after.voters.contains(&member));
            if votes && !voted {
                self.body.note(&Event::Promoted(member));
            } else if !before.contains(member) {
                self.body.note(&Event::Added(member));
            }
        }
        for member in before.members().filter(|member| !after.contains(*member)) {
            self.body.note(&Event::Removed(member));
        }
        self.body.configured(&after);
        self.unsettled = true;
        self.tend_soon();
    }

    pub(super) fn introduced(&mut self, from: NodeId, introduction: Introduction) {
        self.body.introduced(from, introduction);
        self.tend_soon();
    }

    /// A bonded node wants to be a member no longer. Everyone remembers it, for the next leader
    /// must not take it in again as a newcomer.
    pub(super) fn asked_to_leave(&mut self, from: NodeId) {
        self.body.leaving.insert(from, self.body.clock.now());
        self.leavers.insert(from);
        self.tend_soon();
    }

    /// Tells those that left that they have: nobody else can. A leader sends nothing to who is no
    /// longer in its configuration, so they never hear of that entry (thesis §4.2.2).
    fn tell_leavers(&mut self) {
        if !self.core.may_change() {
            return;
        }
        let configuration = self.core.configuration();
        for left in self.leavers.extract_if(.., |leaver| !configuration.contains(*leaver)) {
            // If it gets lost, the one who waits for it asks again.
            self.body.bonds.send(left, MemberFrame::Left);
        }
    }

    /// The program wants this member to leave.
    pub(super) fn leave(&mut self, reply: oneshot::Sender<Result<(), GroupError>>) {
        let now = self.body.clock.now();
        let patience = self.body.consensus.leave_timeout();
        let leaving = self.leave.get_or_insert_with(|| Leaving {
            deadline: now.plus(patience),
            ask_at: now,
            replies: Vec::new(),
        });
        leaving.replies.push(reply);
        self.tend_soon();
    }

    /// A leader says that this member's removal is committed.
    ///
    /// This member cannot see that for itself, and would stop on the word of whoever is wrong about
    /// it, while the others count on its vote. So it is the leader's to say, as long as one is
    /// known. Who was removed hears no leader any more (thesis §4.2.2), not even who the next one
    /// is, and that one may be all who can tell it; then any member is believed.
    pub(super) fn told_left(&mut self, from: NodeId) {
        let leader = self.core.leader().filter(|leader| !self.is_away(*leader));
        let is_its_word = leader.is_none_or(|leader| leader == from);
        if !is_its_word || !self.body.members.contains(from) {
            return tracing::debug!(%from, "says that this member has left, which is not its word");
        }
        let Some(leaving) = self.leave.take() else { return };
        self.body.note(&Event::Left);
        for reply in leaving.replies {
            // The asker may have gone.
            drop(reply.send(Ok(())));
        }
        self.halt("it has left the group".into());
    }

    /// Another node, with which there is no bond.
    fn is_away(&self, node: NodeId) -> bool {
        node != self.body.node && !self.body.bonded.contains(&node)
    }

    /// Asks for this member's removal until it is told that it is done.
    ///
    /// A leader hands over first: it could have itself removed (thesis §4.2.2), but then the
    /// group would wait for an election with nobody to lead it.
    fn see_leave_through(&mut self, now: Time) {
        let Some(leaving) = &mut self.leave else { return };
        if now >= leaving.deadline {
            let why = match (self.core.role(), self.core.leader()) {
                (Role::Leader, _) => "no other voter could take the lead over",
                (_, None) => "no leader was found",
                (_, Some(_)) => "the leader did not say in time that its removal is committed",
            };
            return self.not_left(why);
        }
        if now < leaving.ask_at {
            return;
        }
        let half = self.body.consensus.election_timeout / 2;
        let spread = self.body.network.draw() % u64::try_from(half.as_nanos()).unwrap_or(1).max(1);
        leaving.ask_at = now.plus(half + Duration::from_nanos(spread));
        if self.core.role() == Role::Leader {
            return self.pass_the_lead();
        }
        for node in &self.body.bonded {
            // If it cannot be sent the bond is over, and we ask again.
            self.body.bonds.send(*node, MemberFrame::Leave);
        }
    }

    /// Tells those who wait for this member to have left that it has not.
    fn not_left(&mut self, why: &str) {
        for reply in self.leave.take().into_iter().flat_map(|leaving| leaving.replies) {
            // The asker may have gone.
            drop(reply.send(Err(GroupError::NotLeft(why.into()))));
        }
    }

    /// Has another lead if this leader's disk hangs.
    ///
    /// What is proposed is committed by the disks of the others and applied only once this one
    /// holds it too, and heartbeats need no disk: so everybody would wait for as long as it hangs.
    /// The successor needs no more of us than that we send it our log and its word, and neither
    /// waits for our disk. It is elected by the others, under all rules (thesis §3.10): if they
    /// cannot, this member leads on, and asks again later.
    fn look_after_disk(&mut self, now: Time) {
        if !self.stall.look(now) {
            return;
        }
        let Some(successor) = self.successor() else { return };
        tracing::warn!(%successor, "the disk hangs: another is to lead");
        self.body.metrics.disk_hangs();
        self.step(Input::Transfer { to: successor });
    }

    /// Hands over, if there is anybody to hand over to.
    fn pass_the_lead(&mut self) {
        if let Some(successor) = self.successor() {
            self.step(Input::Transfer { to: successor });
        }
    }

    /// The voter that has most of the log, of those that would lead and neither leave nor are away;
    /// nobody while it is about to take over because a user wants that.
    fn successor(&self) -> Option<NodeId> {
        let standings = self.core.standings();
        let voters = &self.core.configuration().voters;
        let present = self.body.acquaintances.present();
        let observes = |node| present.get(node).is_some_and(|present| present.observer);
        let fit = standings.iter().filter(|standing| {
            voters.contains(&standing.node)
                && self.body.bonded.contains(&standing.node)
                && !self.body.leaving.contains_key(&standing.node)
                && !observes(&standing.node)
        });
        let fittest = fit.max_by_key(|standing| standing.matched).map(|standing| standing.node);
        // The core would refuse to begin that twice, and the user would take this for the answer.
        fittest.filter(|node| self.transfers.iter().all(|(to, _)| to != node))
    }

    /// A peer of another lineage was met. If this one may dissolve, and is the one of the two
    /// that must, it does.
    ///
    /// Both sides apply one rule to what each has shown: only a lineage in which nobody was
    /// promised anything gives way, and of two such the one with the higher id. Of itself each
    /// knows the truth at this moment. What it knows of the other may be old, and then says too
    /// early that it would give way; so neither does, or the one that still may, and never both.
    pub(super) fn met(&mut self, foreign: Foreign) {
        self.body.met_foreign(foreign);
        let Some(ours) = self.body.founding.as_ref().map(|founding| founding.lineage) else {
            return;
        };
        self.search_log();
        if self.fresh && gives_way(ours, &foreign) {
            let network = &self.body.network;
            let fresh = StoreId(u128::from(network.draw()) << 64 | u128::from(network.draw()));
            match self.storage.renew(fresh) {
                Ok(true) => {
                    self.not_left("it gave its lineage up meanwhile and looks for a group to join");
                    self.over = Some(Over::Dissolved(fresh));
                }
                // This kind of store cannot, so the lineage stays.
                Ok(false) => {}
                Err(error) => self.halt(format!("its store failed: {error}")),
            }
        }
    }

    /// Notices when the lineage begins to hold something, and when that is there for good.
    pub(super) fn search_log(&mut self) {
        let log = self.core.log();
        while self.fresh && self.searched < log.last().index {
            self.searched = self.searched.next();
            self.fresh = log.get(self.searched).is_some_and(life::says_nothing);
        }
        if !self.fresh && !self.body.tells && self.searched <= self.core.commit() {
            self.body.tell();
        }
    }
}

fn gives_way(ours: Lineage, foreign: &Foreign) -> bool {
    !foreign.dissolves || ours > foreign.lineage
}
