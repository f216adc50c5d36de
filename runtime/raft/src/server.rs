//! What a server is in any role: term and vote, log, commit index, sessions, timer.
//!
//! Knows no role and answers no message. Invariants: `applied <= commit <= last`, nothing is
//! applied that is not persisted, and a vote once given in a term is never changed.

use std::time::Duration;

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    Answer, Config, Configuration, Effect, Entries, Entry, EntryRef, Halt, HardState, Index, Input,
    Log, NodeId, Note, Payload, Phase, Refusal, Restored, Sessions, Snapshot, Term, Time, Write,
    WriteId,
    membership::Membership,
    planted::{Plant, Planted},
    writes::Writes,
};

/// What a role decides about the role; `raft.rs` carries it out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// Stay what you are.
    Stay,
    /// Ask for votes.
    Campaign {
        /// Pre-votes first, or at once the real ones.
        phase: Phase,
        /// Whether the leader asked for it.
        transfer: bool,
    },
    /// A majority granted its vote.
    Lead,
    /// Leadership is over, in the same term.
    StepDown,
}

/// The part of a server that all roles share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) config: Config,
    /// The moment of this step.
    pub(crate) now: Time,
    pub(crate) deadline: Time,
    /// The last timeout came so late that the server waits for its messages first.
    pub(crate) woke_late: bool,
    pub(crate) hard_state: HardState,
    /// Who leads this term, as far as is known.
    pub(crate) leader: Option<NodeId>,
    /// When that leader was last heard.
    pub(crate) heard: Time,
    /// Since a leader was last heard, a candidate was refused for want of what our log has.
    pub(crate) stands_in_way: bool,
    pub(crate) log: Log,
    pub(crate) membership: Membership,
    pub(crate) writes: Writes,
    pub(crate) commit: Index,
    /// Our log is known to equal that of this term's leader through here. Not remembered.
    pub(crate) verified: Index,
    pub(crate) applied: Index,
    pub(crate) sessions: Sessions<Index>,
    pub(crate) halted: Option<Halt>,
    pub(crate) plant: Plant,
    random: Xoshiro256PlusPlus,
}

impl Server {
    pub(crate) fn new(config: Config, restored: Restored, now: Time) -> Self {
        let Restored { hard_state, snapshot, sessions, entries } = restored;
        let start = snapshot.position;
        let random = Xoshiro256PlusPlus::seed_from_u64(seed_of(&config));
        let mut server = Self {
            now,
            deadline: now,
            woke_late: false,
            hard_state,
            leader: None,
            heard: now,
            stands_in_way: false,
            log: Log::new(start),
            membership: Membership::new(start.index, snapshot.configuration),
            writes: Writes::new(start.index),
            commit: start.index,
            verified: start.index,
            applied: start.index,
            sessions: sessions.unwrap_or_else(|| Sessions::new(config.sessions)),
            halted: None,
            plant: Plant::default(),
            random,
            config,
        };
        // One by one, so that they come to lie in many runs: who holds a part keeps its whole run.
        entries.into_iter().for_each(|entry| server.push(entry));
        server.writes = Writes::new(server.log.last().index);
        server.arm_election();
        server
    }

    pub(crate) fn id(&self) -> NodeId {
        self.config.id
    }

    pub(crate) fn term(&self) -> Term {
        self.hard_state.term
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        self.membership.in_force()
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.configuration().voters.contains(&self.id())
    }

    /// Whether this server may ask for votes: a voter, or one without whom nobody could win; no
    /// observer, and in a term that has a next one.
    pub(crate) fn may_campaign(&self) -> bool {
        let is_able = !self.config.observer && self.term().next() > self.term();
        is_able
            && (self.is_voter() || self.is_voter_until_committed() || self.is_needed_elsewhere())
    }

    /// Whether a configuration that is not known to be committed takes this server's vote.
    ///
    /// Until it is committed the server may be needed (thesis §4.2.2): of two voters, the one
    /// that was leader and removed itself has the longer log, so the other cannot win. It wins
    /// with the votes of the new configuration, commits that, and steps down.
    fn is_voter_until_committed(&self) -> bool {
        let index = self.membership.index();
        index > self.commit && self.membership.at(index.prev()).voters.contains(&self.id())
    }

    /// Whether others count on this server, which is no voter in its own log, and cannot win
    /// while it holds what they lack.
    ///
    /// Votes are asked for by those whose newest configuration makes us a voter. A promotion may
    /// stand in the log of one server alone, which needs our vote from then on; if another leader
    /// left a later entry here and is gone for good, we refuse the one, nobody asks for more than
    /// that, and the group stands still with a majority alive. So we stand, under our own
    /// configuration and not counting ourselves, as the leader of thesis §4.2.2 that is no voter
    /// leads; its majority meets theirs as that of any two neighbouring configurations. What is
    /// known to be committed a voter holds as well, and then it is his turn.
    fn is_needed_elsewhere(&self) -> bool {
        self.stands_in_way && self.log.last().index > self.commit
    }

    /// Whether the commit index stands on an entry of this term: from then on a leader knows
    /// all that is committed (Raft §8).
    pub(crate) fn has_committed_in_term(&self) -> bool {
        self.log.term_at(self.commit) == Some(self.term())
    }

    /// Waits for a leader: an election timeout drawn anew, so that servers that tied once do not
    /// tie again (Raft §5.2).
    pub(crate) fn arm_election(&mut self) {
        let Config { election_timeout_min: min, election_timeout_max: max, .. } = self.config;
        let spread = u64::try_from(max.saturating_sub(min).as_nanos()).unwrap_or(u64::MAX);
        let drawn = Duration::from_nanos(self.random.next_u64() % spread.max(1));
        let timeout = min.saturating_add(drawn).saturating_mul(self.config.reluctance);
        self.deadline = self.now.plus(timeout);
        self.woke_late = false;
    }

    /// Waits one heartbeat interval.
    pub(crate) fn arm_heartbeat(&mut self) {
        self.deadline = self.now.plus(self.config.heartbeat_interval);
    }

    /// Sets term and vote, and has them written if that is news.
    pub(crate) fn set_hard_state(&mut self, next: HardState, effects: &mut Vec<Effect>) -> WriteId {
        let last = self.hard_state;
        assert!(next.term >= last.term, "term {} after {}", next.term, last.term);
        // Raft §5.2: at most one vote per term, first come, first served.
        let keeps_vote = next.term > last.term || last.vote.is_none() || next.vote == last.vote;
        let keeps_vote = keeps_vote || self.plant.breaks(Planted::SecondVote);
        assert!(keeps_vote, "vote {:?} after {:?} in {}", next.vote, last.vote, next.term);
        if next.term > last.term {
            // Of the next leader's log no more is known than what is committed.
            self.verified = self.commit;
        }
        self.hard_state = next;
        let id = self.writes.hard_state();
        let vote = next.vote.filter(|_| !self.plant.breaks(Planted::VoteNotWritten));
        let write = Write::HardState(HardState { vote, ..next });
        effects.push(Effect::Persist { id, write });
        id
    }

    /// Appends an entry to the log in memory; a configuration is in force from here on.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.configure(entry.view());
        self.log.append(entry);
    }

    /// Appends entries to the log in memory, each as [`Server::push`] does.
    fn extend(&mut self, entries: &Entries) {
        if !entries.view().is_packed() {
            entries.iter().for_each(|entry| self.configure(entry));
        }
        self.log.extend(entries);
    }

    fn configure(&mut self, appended: EntryRef<'_>) {
        if let Payload::Configuration(configuration) = appended.payload {
            self.membership.append(appended.position.index, configuration.clone());
        }
    }

    /// Has everything after `after` written.
    pub(crate) fn persist_after(&mut self, after: Index, effects: &mut Vec<Effect>) {
        let last = self.log.last().index;
        let entries = self.log.slice(after.next()..=last, usize::MAX);
        self.persist(after, entries, effects);
    }

    /// Has these written, which are all that the log has after `after`.
    fn persist(&mut self, after: Index, entries: Entries, effects: &mut Vec<Effect>) {
        let id = self.writes.entries(after, self.log.last().index);
        effects.push(Effect::Persist { id, write: Write::Entries { after, entries } });
    }

    /// The log after `after` gives way to these entries (Raft §5.3).
    pub(crate) fn replace(&mut self, after: Index, entries: Entries, effects: &mut Vec<Effect>) {
        assert!(after >= self.commit, "truncation after {after} below commit {}", self.commit);
        let (last, configured) = (self.log.last().index, self.membership.index());
        let mut is_cut = false;
        if after < last {
            self.log.truncate(after);
            // Thesis §4.1: a configuration whose entry is removed is no longer in force.
            is_cut = self.membership.truncate(after);
            effects.push(Effect::Note(Note::Truncated { after, last }));
        }
        self.extend(&entries);
        self.note_configured(configured, is_cut, effects);
        self.persist(after, entries, effects);
    }

    /// Says so if another configuration than the one at `before` is in force; where that one was
    /// cut off, another may stand at the same index.
    pub(crate) fn note_configured(&self, before: Index, is_cut: bool, effects: &mut Vec<Effect>) {
        let index = self.membership.index();
        if is_cut || index != before {
            effects.push(Effect::Note(Note::Configured { index }));
        }
    }

    /// Raises the commit index, if this is news.
    pub(crate) fn commit_to(&mut self, index: Index, effects: &mut Vec<Effect>) {
        if index <= self.commit {
            return;
        }
        assert!(index <= self.log.last().index, "commit {index} past {}", self.log.last());
        self.commit = index;
        effects.push(Effect::Note(Note::Committed { index }));
    }

    /// Applies what is committed and durable here. (A leader may commit what its own disk does
    /// not hold yet; it must not apply it, or a crash would leave its machine ahead of its log.)
    pub(crate) fn apply(&mut self, effects: &mut Vec<Effect>) {
        let through = self.commit.min(self.writes.index());
        if through <= self.applied {
            return;
        }
        let entries = self.log.walk(self.applied.next()..=through, usize::MAX).flatten();
        for entry in entries {
            let index = entry.position.index;
            self.sessions.observe(entry, |kept| *kept = index);
        }
        self.applied = through;
        effects.push(Effect::Apply { through });
    }

    /// The runtime holds a snapshot of what is applied: the log before it may go (Raft §7).
    pub(crate) fn compact(&mut self, snapshot: &Snapshot) {
        let position = snapshot.position;
        if position.index > self.applied || !self.log.contains(position) {
            return;
        }
        let configuration = self.membership.at(position.index).clone();
        self.log.install(position);
        self.membership.install(position.index, configuration, true);
    }

    /// The runtime has put a leader's snapshot in place of its machine. Returns whether it was
    /// news; what is applied already is never taken back.
    pub(crate) fn install(
        &mut self,
        snapshot: Snapshot,
        sessions: Sessions<Index>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Snapshot { position, configuration } = snapshot;
        if position.index <= self.applied {
            return false;
        }
        let configured = (self.membership.index(), self.configuration().clone());
        let kept = self.log.install(position);
        if !kept {
            self.writes.truncated(position.index);
        }
        self.writes.installed(position.index);
        self.membership.install(position.index, configuration, kept);
        let is_another = *self.configuration() != configured.1;
        self.note_configured(configured.0, is_another, effects);
        self.sessions = sessions;
        self.applied = position.index;
        self.verified = self.verified.max(position.index);
        if position.index > self.commit {
            self.commit = position.index;
            effects.push(Effect::Note(Note::Committed { index: position.index }));
        }
        true
    }

    /// Refuses what only a leader can do.
    pub(crate) fn refuse(&self, input: &Input, effects: &mut Vec<Effect>) {
        let refusal = Refusal::NotLeader { leader: self.leader };
        let answer = match input {
            Input::Propose { id, .. } => Answer::Proposed { id: *id, outcome: Err(refusal) },
            Input::Read { id } => Answer::Read { id: *id, outcome: Err(refusal) },
            Input::Transfer { to } => Answer::Transfer { to: *to, outcome: Err(refusal) },
            _ => return,
        };
        effects.push(Effect::Answer(answer));
    }

    /// Stops for good.
    pub(crate) fn halt(&mut self, halt: Halt, effects: &mut Vec<Effect>) {
        self.halted = Some(halt);
        effects.push(Effect::Halt(halt));
    }

    /// What must hold after every step.
    pub(crate) fn check(&self) {
        let (last, durable) = (self.log.last().index, self.writes.index());
        assert!(self.commit <= last, "commit {} past last {last}", self.commit);
        assert!(self.applied <= self.commit, "applied {} past {}", self.applied, self.commit);
        assert!(self.applied <= durable, "applied {} past durable {durable}", self.applied);
        assert!(durable <= last, "durable {durable} past last {last}");
    }
}

/// One seed may serve a whole group: the id is folded in, or all would time out together.
fn seed_of(config: &Config) -> u64 {
    let fold = |seed: u64, byte: &u8| (seed ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    let store = config.id.store.0.to_le_bytes();
    config.id.peer.0.iter().chain(&store).fold(config.seed, fold)
}

const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
