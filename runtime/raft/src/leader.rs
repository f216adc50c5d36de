//! The leader: appends, replicates, commits by count, answers reads, hands over.
//!
//! Invariants: it never changes an entry of its own log (Leader Append-Only, Raft §5.3); it
//! counts its own disk only when told `Persisted`; it leads only while it hears a quorum.
//! What clients ask of it stands in `leader/requests.rs`.

#[cfg(feature = "planted-faults")]
mod planted;
mod requests;
mod unapplied;

use std::collections::BTreeMap;

use unapplied::Unapplied;

use crate::{
    Answer, Appended, Dropped, Effect, Entries, Entry, Index, Input, Message, NO_ROUND, NodeId,
    Note, Payload, Position, Refusal, Snapshot, Standing, Time,
    lease::Lease,
    planted::Planted,
    progress::{Pace, Progress},
    quorum,
    read::Reads,
    server::{Server, Turn},
};

/// The state of a leader (Raft figure 2, volatile state on leaders).
#[derive(Debug)]
pub(crate) struct Leader {
    followers: BTreeMap<NodeId, Progress>,
    /// Counts heartbeat rounds.
    round: u64,
    /// When the last of them began.
    began: Time,
    /// When it was last looked whether something is lost.
    looked: Time,
    reads: Reads,
    lease: Lease,
    transfer: Option<Transfer>,
    /// The last entry that was handed to storage.
    submitted: Index,
    unapplied: Unapplied,
}

/// Leadership on its way to another server (thesis §3.10).
#[derive(Debug)]
struct Transfer {
    to: NodeId,
    deadline: Time,
    /// Whether the successor was told to campaign.
    told: bool,
}

impl Leader {
    /// A leader that has not spoken yet.
    pub(crate) fn new(server: &Server) -> Self {
        let mut leader = Self {
            followers: BTreeMap::new(),
            round: 0,
            began: server.now,
            looked: server.now,
            reads: Reads::default(),
            lease: Lease::default(),
            transfer: None,
            submitted: server.log.last().index,
            unapplied: Unapplied::of(&server.log, server.applied),
        };
        leader.follow_configuration(server);
        leader
    }

    /// Makes itself known and opens the term with an entry of its own: until that is committed
    /// it cannot know what is (Raft §8, thesis §6.4).
    pub(crate) fn lead(&mut self, server: &mut Server, effects: &mut Vec<Effect>) -> Turn {
        self.arm(server);
        self.append(server, Payload::Noop, effects);
        self.replicate(server, effects)
    }

    /// Leadership is over: who still waits for it is told so.
    pub(crate) fn resign(&mut self, leader: Option<NodeId>, effects: &mut Vec<Effect>) {
        let refusal = Refusal::NotLeader { leader };
        effects.extend(self.reads.drain().map(|id| answer_read(id, Err(refusal))));
        if let Some(Transfer { to, told: false, .. }) = self.transfer.take() {
            effects.push(Effect::Answer(Answer::Transfer { to, outcome: Err(refusal) }));
        }
    }

    /// Each other member as this leader sees it.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        self.followers.iter().map(|(node, progress)| progress.standing(*node)).collect()
    }

    /// Until when it may answer reads without asking anyone; `None` where it must ask.
    pub(crate) fn lease_until(&self, server: &Server) -> Option<Time> {
        self.lease.until(&server.config).filter(|_| server.has_committed_in_term())
    }

    /// Entries may be applied, and a snapshot may stand for some.
    pub(crate) fn applied(&mut self, server: &Server) {
        self.unapplied.advance(&server.log, server.applied);
    }

    /// Takes one input; messages are of this term.
    pub(crate) fn step(
        &mut self,
        server: &mut Server,
        input: Input,
        effects: &mut Vec<Effect>,
    ) -> Turn {
        match input {
            Input::Timeout => return self.timeout(server, effects),
            Input::Message { from, message } => self.heed(server, from, &message, effects),
            Input::Propose { id, proposal } => {
                let outcome = self.propose(server, proposal, effects);
                let turn = self.replicate(server, effects);
                effects.push(Effect::Answer(Answer::Proposed { id, outcome }));
                return turn;
            }
            Input::Read { id } => self.read(server, id, effects),
            Input::Transfer { to } => self.transfer(server, to, effects),
            Input::Persisted(_) => self.advance(server, effects),
            Input::Connected(node) => {
                if let Some(progress) = self.followers.get_mut(&node) {
                    progress.reconnect(self.round);
                }
            }
            Input::Fetching { node, until } => {
                if let Some(progress) = self.followers.get_mut(&node) {
                    progress.fetch(until);
                }
            }
            Input::SnapshotTaken(_) | Input::SnapshotInstalled { .. } | Input::Fetched { .. } => {
                return Turn::Stay;
            }
        }
        self.replicate(server, effects)
    }

    fn timeout(&mut self, server: &mut Server, effects: &mut Vec<Effect>) -> Turn {
        // After a late timer the answers to our heartbeats may wait unread, so silence proves
        // nothing yet; but the followers shall hear us at once.
        if !server.woke_late && self.has_lost_quorum(server) {
            effects.push(Effect::Note(Note::QuorumLost { term: server.term() }));
            return Turn::StepDown;
        }
        let interval = server.config.heartbeat_interval;
        if server.now >= self.looked.plus(interval) {
            self.looked = server.now;
            self.watch_transfer(server, effects);
            let round = self.round.saturating_add(1);
            self.followers.values_mut().for_each(|progress| progress.tick(round));
        }
        // A round that began for reads was a heartbeat as well.
        if server.now >= self.began.plus(interval) {
            self.beat(server, effects);
        }
        self.arm(server);
        self.replicate(server, effects)
    }

    /// For a heartbeat, or a look at what may be lost: each is due an interval after the last.
    fn arm(&self, server: &mut Server) {
        let interval = server.config.heartbeat_interval;
        server.deadline = self.looked.min(self.began).plus(interval);
    }

    /// Thesis §6.2: a leader that has not heard a majority for an election timeout steps down,
    /// so that clients do not wait for a leader that cannot commit.
    fn has_lost_quorum(&self, server: &Server) -> bool {
        let heard = self.reached(server, server.now, Progress::heard);
        let is_silent = server.now.since(heard) > server.config.election_timeout_max;
        is_silent && !server.plant.breaks(Planted::StaleLeaderUntold)
    }

    /// The greatest value that a majority of the voters has reached, where `own` is ours.
    fn reached<T>(&self, server: &Server, own: T, of: impl Fn(&Progress) -> T) -> T
    where
        T: Copy + Ord + Default,
    {
        let value = |voter| self.followers.get(&voter).map_or(own, &of);
        #[cfg(feature = "planted-faults")]
        if let Some(counted) = self.miscounted(server) {
            return quorum::reached(&counted, value);
        }
        quorum::reached(&server.configuration().voters, value)
    }

    fn heed(
        &mut self,
        server: &mut Server,
        from: NodeId,
        message: &Message,
        effects: &mut Vec<Effect>,
    ) {
        let Some(progress) = self.followers.get_mut(&from) else {
            return drop_message(from, Dropped::NotMember, effects);
        };
        progress.hear(server.now);
        match *message {
            Message::AppendReply { outcome: Appended::Matched(index), .. } => {
                if index > server.log.last().index {
                    return drop_message(from, Dropped::Invalid, effects);
                }
                if progress.acknowledge(index) {
                    self.advance(server, effects);
                    self.hand_over(server, effects);
                }
            }
            Message::AppendReply { outcome: Appended::Rejected { prev, hint }, .. }
                if progress.is_refusal(prev) =>
            {
                progress.retreat(next_after_refusal(server, prev, hint), self.round);
            }
            Message::HeartbeatReply { round, .. } => {
                if round > self.round {
                    return drop_message(from, Dropped::Invalid, effects);
                }
                progress.answer(round);
                self.confirm_reads(server, effects);
            }
            // An old refusal, or a vote that comes after the election is won.
            _ => {}
        }
    }

    /// Appends one entry of this term. It is sent and written when the step ends.
    fn append(
        &mut self,
        server: &mut Server,
        payload: Payload,
        effects: &mut Vec<Effect>,
    ) -> Position {
        let index = server.log.last().index.next();
        let position = Position { term: server.term(), index };
        let configured = server.membership.index();
        let entry = Entry { position, payload };
        self.unapplied.append(entry.view());
        server.push(entry);
        server.note_configured(configured, false, effects);
        if server.membership.index() != configured {
            self.follow_configuration(server);
        }
        position
    }

    /// Follows exactly the other members of the configuration in force.
    fn follow_configuration(&mut self, server: &Server) {
        let (own, last) = (server.id(), server.log.last().index);
        let configuration = server.configuration();
        self.followers.retain(|node, _| configuration.contains(*node));
        for node in configuration.members().filter(|node| *node != own) {
            let progress = || Progress::new(last.next(), server.now);
            self.followers.entry(node).or_insert_with(progress);
        }
    }

    /// Commits what a majority of the voters holds durably (Raft §5.3).
    fn advance(&mut self, server: &mut Server, effects: &mut Vec<Effect>) {
        let index = self.reached(server, server.writes.index(), Progress::matched);
        // Raft §5.4.2: count replicas only for entries of our own term; an older entry on a
        // majority may still be overwritten (Figure 8).
        let is_own = server.log.term_at(index) == Some(server.term());
        if is_own || server.plant.breaks(Planted::CommitOlderTermByCount) {
            server.commit_to(index, effects);
        }
    }

    /// Ends a step: sends what the windows allow, has new entries written, and steps down if a
    /// committed configuration has no place for this leader.
    fn replicate(&mut self, server: &mut Server, effects: &mut Vec<Effect>) -> Turn {
        if server.has_committed_in_term() && self.reads.want_round() {
            self.beat(server, effects);
        }
        for (node, progress) in &mut self.followers {
            send(*node, progress, server, effects);
        }
        // Thesis §10.2.1: followers write in parallel with the leader, so sending comes first.
        if self.submitted < server.log.last().index {
            server.persist_after(self.submitted, effects);
            self.submitted = server.log.last().index;
        }
        // Thesis §4.2.2: a leader that is no voter leads until that, and an entry of its term, is
        // committed, not counting itself, and then steps down.
        let is_settled = server.membership.index() <= server.commit;
        let is_over = is_settled && server.has_committed_in_term();
        if is_over && !server.is_voter() { Turn::StepDown } else { Turn::Stay }
    }

    /// Begins a heartbeat round.
    fn beat(&mut self, server: &Server, effects: &mut Vec<Effect>) {
        self.round = self.round.saturating_add(1);
        self.began = server.now;
        self.lease.begin(self.round, server.now);
        if server.has_committed_in_term() {
            self.reads.begin(self.round, server.commit);
        }
        for (node, progress) in &mut self.followers {
            heartbeat(*node, progress, server, self.round, effects);
        }
        self.confirm_reads(server, effects);
    }
}

/// Sends to one follower what it lacks, as far as its pace and its windows allow; at least the
/// commit index if that is news, for clients wait for it on followers too.
fn send(node: NodeId, progress: &mut Progress, server: &Server, effects: &mut Vec<Effect>) {
    let is_compacted = progress.next() <= server.log.start().index;
    match progress.pace() {
        Pace::Snapshot { sent: true } | Pace::Probe { sent: true } => {}
        // Raft §7: what the follower lacks is gone, only the snapshot has it.
        _ if is_compacted => offer(node, progress, server, effects),
        // It helps itself, and would get all of it twice.
        _ if progress.fetches(server.now) => {}
        // The log reaches back far enough again only if the follower caught up some other way.
        Pace::Snapshot { sent: false } | Pace::Probe { sent: false } => {
            append(node, progress, server, effects);
        }
        Pace::Pipeline => {
            if progress.is_in_doubt() {
                ask(node, progress, server, effects);
            }
            while progress.next() <= server.log.last().index && has_room(progress, server) {
                append(node, progress, server, effects);
            }
        }
    }
    if progress.untold(server.commit).is_some() {
        heartbeat(node, progress, server, NO_ROUND, effects);
    }
}

fn has_room(progress: &Progress, server: &Server) -> bool {
    let config = &server.config;
    progress.inflight() < config.inflight_entries_max
        && progress.inflight_bytes() < config.inflight_bytes_max
}

/// One append; in a probe perhaps without entries.
fn append(node: NodeId, progress: &mut Progress, server: &Server, effects: &mut Vec<Effect>) {
    let config = &server.config;
    let (next, prev) = (progress.next(), progress.next().prev());
    let prev_term = server.log.term_at(prev).expect("`prev` is not compacted: checked before");
    let room = config.inflight_entries_max.saturating_sub(progress.inflight());
    let room_bytes = config.inflight_bytes_max.saturating_sub(progress.inflight_bytes());
    let bytes_max = config.message_bytes_max.min(room_bytes);
    let room = if progress.repeats() { 0 } else { room };
    let entries = server.log.slice(next..=prev.plus(room), bytes_max);
    let last = prev.plus(entries.len() as u64);
    progress.sent(last, entries.view().weight_bytes());
    progress.tell(server.commit.min(last));
    let prev = Position { term: prev_term, index: prev };
    let message = Message::Append { term: server.term(), prev, entries, commit: server.commit };
    effects.push(Effect::Send { to: node, message });
}

/// Asks whether all that was sent ahead has come, by an append without entries behind it.
fn ask(node: NodeId, progress: &mut Progress, server: &Server, effects: &mut Vec<Effect>) {
    let (index, entries) = (progress.next().prev(), Entries::default());
    let term = server.log.term_at(index).expect("`prev` is not compacted: checked before");
    progress.asked();
    let (prev, commit) = (Position { term, index }, server.commit);
    let message = Message::Append { term: server.term(), prev, entries, commit };
    effects.push(Effect::Send { to: node, message });
}

fn offer(node: NodeId, progress: &mut Progress, server: &Server, effects: &mut Vec<Effect>) {
    let position = server.log.start();
    let configuration = server.membership.at(position.index).clone();
    let snapshot = Snapshot { position, configuration };
    progress.offered();
    effects.push(Effect::Note(Note::SnapshotOffered { to: node }));
    let message = Message::InstallSnapshot { term: server.term(), snapshot };
    effects.push(Effect::Send { to: node, message });
}

fn heartbeat(
    node: NodeId,
    progress: &mut Progress,
    server: &Server,
    round: u64,
    effects: &mut Vec<Effect>,
) {
    // No further than what the follower is known to hold: it cannot check for itself.
    let commit = server.commit.min(progress.matched());
    progress.tell(commit);
    let message = Message::Heartbeat { term: server.term(), round, commit };
    effects.push(Effect::Send { to: node, message });
}

/// Where to probe next: after the last of our entries that the follower may have as well. Its
/// hint rules out what it lacks, our own terms rule out the rest (Raft §5.3, end).
fn next_after_refusal(server: &Server, prev: Index, hint: Position) -> Index {
    let bound = hint.index.min(prev.prev());
    // If we have compacted all that may agree, the next entry is one we do not have any more:
    // the snapshot is due.
    let agreed = server.log.last_at_most(bound, hint.term);
    agreed.map_or(server.log.start().index.min(bound.next()), |position| position.index.next())
}

fn answer_read(id: crate::ReadId, outcome: Result<Index, Refusal>) -> Effect {
    Effect::Answer(Answer::Read { id, outcome })
}

fn drop_message(from: NodeId, reason: Dropped, effects: &mut Vec<Effect>) {
    effects.push(Effect::Note(Note::Dropped { from, reason }));
}
