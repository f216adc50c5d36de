//! One server: takes inputs, keeps the rules about terms, and alone changes role.
//!
//! What is true in every role stands in `server.rs`, what is not in `follower.rs`, `candidate.rs`
//! and `leader.rs`, which never see each other. Invariant: a role only ever sees messages of its
//! own term, and messages of a leader only from the one leader of that term.

use std::time::Duration;

use crate::{
    Appended, Config, Configuration, Dropped, Effect, Halt, HardState, Inconsistent, Index, Input,
    Log, Message, NodeId, Note, Payload, Phase, Position, Restored, SessionId, Sessions, Snapshot,
    Standing, Term, Time,
    candidate::Candidate,
    follower::Follower,
    leader::Leader,
    planted::Planted,
    server::{Server, Turn},
    voter::{self, Request, Verdict},
};

/// The role of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes, or for pre-votes.
    Candidate,
    /// Leads.
    Leader,
}

/// One server of one group.
#[derive(Debug)]
pub struct Raft {
    server: Server,
    state: State,
    /// The role, term and leader of the last notes.
    noted: (Role, Term, Option<NodeId>),
}

#[derive(Debug)]
enum State {
    Follower(Follower),
    Candidate(Candidate),
    /// It keeps book of everyone, the others of little.
    Leader(Box<Leader>),
}

impl Raft {
    /// A server as it was when it stopped. Does nothing yet: it is a follower with a deadline.
    ///
    /// # Errors
    /// If the configuration or the store contradict themselves or each other.
    pub fn new(config: Config, restored: Restored, now: Time) -> Result<Self, Inconsistent> {
        config.check()?;
        restored.check(&config)?;
        let server = Server::new(config, restored, now);
        let noted = (Role::Follower, server.term(), None);
        Ok(Self { server, state: State::Follower(Follower), noted })
    }

    /// Takes one input and appends what is to be done to `effects`, in order.
    ///
    /// Time never goes back: an earlier `now` than the last counts as the last.
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        if self.server.halted.is_some() {
            return;
        }
        self.server.now = self.server.now.max(now);
        match input {
            Input::Timeout => self.timeout(effects),
            Input::Message { from, message } => self.receive(from, message, effects),
            Input::Persisted(id) => {
                self.server.writes.persisted(id);
                self.act(Input::Persisted(id), effects);
            }
            Input::SnapshotTaken(snapshot) => self.server.compact(&snapshot),
            Input::SnapshotInstalled { snapshot, sessions } => {
                self.install(snapshot, sessions, effects);
            }
            Input::Fetched { leader, term, .. }
                if term != self.term() || self.server.leader != Some(leader) =>
            {
                // Its voucher leads no more, and what a later leader keeps is for that one to say.
                note_dropped(leader, Dropped::Stale, effects);
            }
            Input::Propose { .. }
            | Input::Read { .. }
            | Input::Transfer { .. }
            | Input::Fetched { .. }
            | Input::Fetching { .. }
            | Input::Connected(_) => self.act(input, effects),
        }
        self.server.apply(effects);
        if let State::Leader(leader) = &mut self.state {
            leader.applied(&self.server);
        }
        self.server.check();
    }

    /// When to say [`Input::Timeout`] next.
    pub fn deadline(&self) -> Time {
        self.server.deadline
    }

    /// Who this server is.
    pub fn id(&self) -> NodeId {
        self.server.id()
    }

    /// The role it plays.
    pub fn role(&self) -> Role {
        self.noted.0
    }

    /// Its term, and its vote in that term.
    pub fn hard_state(&self) -> HardState {
        self.server.hard_state
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.server.term()
    }

    /// Who leads its term, as far as it knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.server.leader
    }

    /// Up to where it knows the log to be committed.
    pub fn commit(&self) -> Index {
        self.server.commit
    }

    /// Through where [`Effect::Apply`] was said, or a snapshot was installed.
    pub fn applied(&self) -> Index {
        self.server.applied
    }

    /// Up to where its log is durable.
    pub fn persisted(&self) -> Index {
        self.server.writes.index()
    }

    /// The position of its last entry.
    pub fn last(&self) -> Position {
        self.server.log.last()
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.server.log
    }

    /// The session table as applied.
    pub fn sessions(&self) -> &Sessions<Index> {
        &self.server.sessions
    }

    /// What the session was opened with, also if that is not applied yet; `None` if no session of
    /// that name is known here.
    pub fn session_nonce(&self, session: SessionId) -> Option<u64> {
        let unapplied = || match self.log().get(session.0)?.payload {
            Payload::OpenSession { nonce } => Some(nonce),
            Payload::Noop | Payload::Command { .. } | Payload::Configuration(_) => None,
        };
        self.sessions().nonce(session).or_else(unapplied)
    }

    /// The configuration in force, committed or not.
    pub fn configuration(&self) -> &Configuration {
        self.server.configuration()
    }

    /// What a snapshot taken at `index` covers; `None` where the log does not reach, or where
    /// nothing is applied yet.
    pub fn snapshot_at(&self, index: Index) -> Option<Snapshot> {
        let term = self.server.log.term_at(index).filter(|_| index <= self.server.applied)?;
        let configuration = self.server.membership.at(index).clone();
        Some(Snapshot { position: Position { term, index }, configuration })
    }

    /// The leader's view of each other member; empty on others.
    pub fn standings(&self) -> Vec<Standing> {
        let State::Leader(leader) = &self.state else { return Vec::new() };
        leader.standings()
    }

    /// Until when, by its own clock, it answers reads without asking anyone (thesis §6.4.1).
    pub fn lease_until(&self) -> Option<Time> {
        let State::Leader(leader) = &self.state else { return None };
        leader.lease_until(&self.server)
    }

    /// Whether this server leads and may begin a change of membership now: the one in force is
    /// committed, and so is an entry of its term.
    pub fn may_change(&self) -> bool {
        let State::Leader(leader) = &self.state else { return false };
        leader.may_change(&self.server)
    }

    /// Why it stopped, if it did.
    pub fn halted(&self) -> Option<Halt> {
        self.server.halted
    }

    /// Breaks a rule from now on.
    #[cfg(feature = "planted-faults")]
    pub fn plant(&mut self, fault: Planted) {
        self.server.plant.fault = Some(fault);
    }

    /// The one place that looks at the role.
    fn act(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let server = &mut self.server;
        let turn = match &mut self.state {
            State::Follower(follower) => follower.step(server, input, effects),
            State::Candidate(candidate) => candidate.step(server, input, effects),
            State::Leader(leader) => leader.step(server, input, effects),
        };
        self.turn(turn, effects);
    }

    /// Changes role, as often as it takes: a group's only voter needs nobody's leave.
    fn turn(&mut self, mut turn: Turn, effects: &mut Vec<Effect>) {
        loop {
            turn = match turn {
                Turn::Stay => return,
                Turn::StepDown => return self.follow(self.server.hard_state, None, effects),
                Turn::Campaign { phase, transfer } => self.campaign(phase, transfer, effects),
                Turn::Lead => self.lead(effects),
            };
        }
    }

    fn timeout(&mut self, effects: &mut Vec<Effect>) {
        let server = &mut self.server;
        if server.now < server.deadline {
            return;
        }
        // A process that was stopped finds its timer long expired and its messages unread. To
        // stand for election now would disturb a leader that spoke all the time. Once is enough:
        // a machine that is always late must not wait for ever.
        let by = server.now.since(server.deadline);
        let is_late = by > server.config.heartbeat_interval.max(LATE_MIN);
        server.woke_late = is_late && !server.woke_late;
        if server.woke_late {
            effects.push(Effect::Note(Note::TimerLate { by }));
        }
        self.act(Input::Timeout, effects);
    }

    fn receive(&mut self, from: NodeId, message: Message, effects: &mut Vec<Effect>) {
        if from == self.id() || !message.is_sound() {
            return note_dropped(from, Dropped::Invalid, effects);
        }
        // Thesis §4.2: requests are heeded whoever sends them, answers only from members.
        if !message.is_request() && !self.configuration().contains(from) {
            return note_dropped(from, Dropped::NotMember, effects);
        }
        if let Message::RequestVote { term, phase, last, transfer } = message {
            return self.vote(Request { from, term, phase, last, transfer }, effects);
        }
        if message.term() < self.term() {
            return self.answer_stale(from, &message, effects);
        }
        if message.is_of_leader() {
            if !self.hear_leader(from, message.term(), effects) {
                return;
            }
        } else if message.term() > self.term() && !is_granted_pre_vote(&message) {
            // Raft §5.1: whoever sees a later term is a follower in it. (A granted pre-vote
            // names a term that nobody is in yet.)
            let next = HardState { term: message.term(), vote: None };
            self.follow(next, None, effects);
        }
        self.act(Input::Message { from, message }, effects);
    }

    /// Answers a request for a vote, the same way in every role.
    fn vote(&mut self, mut request: Request, effects: &mut Vec<Effect>) {
        let Request { from, term, phase, .. } = request;
        // Thesis §3.10: a leader hands over to a voter; the word of anybody else excuses nothing.
        request.transfer &= self.configuration().contains(from);
        let verdict = voter::judge(&self.server, &request);
        let granted = verdict == Verdict::Granted;
        self.server.stands_in_way |= verdict == Verdict::Behind;
        if verdict == Verdict::LeaderAlive {
            note_dropped(from, Dropped::LeaderAlive, effects);
        } else if phase == Phase::Vote && term >= self.term() {
            let vote = if term > self.term() { None } else { self.server.hard_state.vote };
            let vote = if granted { Some(from) } else { vote };
            let next = HardState { term, vote };
            if next != self.server.hard_state {
                self.follow(next, None, effects);
            }
        }
        if granted && phase == Phase::Vote {
            // Raft §5.2: who grants a vote gives the candidate time to win.
            self.server.arm_election();
        }
        let is_pre_grant = granted && phase == Phase::PreVote;
        let term = if is_pre_grant { term } else { self.term() };
        effects.push(Effect::Send { to: from, message: Message::Vote { term, phase, granted } });
    }

    /// Tells the sender of an old request which term it is, so that a deposed leader or a
    /// candidate that lost learns of it (Raft §5.1).
    fn answer_stale(&self, from: NodeId, message: &Message, effects: &mut Vec<Effect>) {
        let (term, hint) = (self.term(), self.last());
        let answer = match message {
            _ if self.server.plant.breaks(Planted::StaleLeaderUntold) => None,
            Message::Append { prev, .. } => {
                let outcome = Appended::Rejected { prev: prev.index, hint };
                Some(Message::AppendReply { term, outcome })
            }
            Message::InstallSnapshot { snapshot, .. } => {
                let outcome = Appended::Rejected { prev: snapshot.position.index, hint };
                Some(Message::AppendReply { term, outcome })
            }
            Message::Heartbeat { round, .. } => {
                Some(Message::HeartbeatReply { term, round: *round })
            }
            Message::RequestVote { .. }
            | Message::Vote { .. }
            | Message::AppendReply { .. }
            | Message::HeartbeatReply { .. }
            | Message::TimeoutNow { .. } => None,
        };
        effects.extend(answer.map(|message| Effect::Send { to: from, message }));
        note_dropped(from, Dropped::Stale, effects);
    }

    /// The leader of this term, or of a later one, speaks. Returns whether it may go on.
    fn hear_leader(&mut self, from: NodeId, term: Term, effects: &mut Vec<Effect>) -> bool {
        let known = self.server.leader.filter(|_| term == self.term());
        if known.is_some_and(|leader| leader != from) {
            if !self.configuration().contains(from) {
                // Raft §5.2 is about members: what another claims proves nothing about elections.
                note_dropped(from, Dropped::NotMember, effects);
                return false;
            }
            // Election safety (Raft §5.2) is broken: nothing built on it can be trusted.
            self.server.halt(Halt::TwoLeaders { term }, effects);
            return false;
        }
        let mut next = self.server.hard_state;
        if term > next.term {
            next = HardState { term, vote: None };
        }
        // Raft §5.2: a candidate that hears the term's leader gives up.
        self.follow(next, Some(from), effects);
        self.server.heard = self.server.now;
        self.server.arm_election();
        true
    }

    fn install(
        &mut self,
        snapshot: Snapshot,
        sessions: Sessions<Index>,
        effects: &mut Vec<Effect>,
    ) {
        let (position, term) = (snapshot.position, self.term());
        let leads = matches!(self.state, State::Leader(_));
        if leads && position.index > self.applied() && !self.log().contains(position) {
            // What a leader needs to fetch it does not have; so it should not lead.
            self.follow(self.server.hard_state, None, effects);
        }
        let is_news = self.server.install(snapshot, sessions, effects);
        let Some(leader) = self.leader().filter(|leader| is_news && *leader != self.id()) else {
            return;
        };
        let outcome = Appended::Matched(position.index);
        let message = Message::AppendReply { term, outcome };
        effects.push(Effect::Send { to: leader, message });
    }

    fn follow(&mut self, next: HardState, leader: Option<NodeId>, effects: &mut Vec<Effect>) {
        if next != self.server.hard_state {
            self.server.set_hard_state(next, effects);
        }
        self.enter(Role::Follower, leader, effects);
        self.state = State::Follower(Follower);
    }

    fn campaign(&mut self, phase: Phase, transfer: bool, effects: &mut Vec<Effect>) -> Turn {
        let (id, term) = (self.id(), self.term().next());
        let mut candidate = match phase {
            Phase::PreVote => Candidate::before(term),
            Phase::Vote => {
                // Raft §5.2: a new term, and its first vote goes to oneself.
                let next = HardState { term, vote: Some(id) };
                let write = self.server.set_hard_state(next, effects);
                Candidate::standing(term, write, transfer)
            }
        };
        self.enter(Role::Candidate, None, effects);
        effects.push(Effect::Note(Note::Campaign { term, phase }));
        let turn = candidate.campaign(&self.server, effects);
        self.state = State::Candidate(candidate);
        turn
    }

    fn lead(&mut self, effects: &mut Vec<Effect>) -> Turn {
        let mut leader = Box::new(Leader::new(&self.server));
        self.enter(Role::Leader, Some(self.id()), effects);
        let turn = leader.lead(&mut self.server, effects);
        self.state = State::Leader(leader);
        turn
    }

    /// What every change of role, term or leader has in common.
    fn enter(&mut self, role: Role, leader: Option<NodeId>, effects: &mut Vec<Effect>) {
        let term = self.server.term();
        let (role_before, term_before, leader_before) = self.noted;
        self.noted = (role, term, leader);
        self.server.leader = leader;
        self.server.stands_in_way &= leader.is_none();
        if (role, term) != (role_before, term_before) {
            effects.push(Effect::Note(Note::Became { role, term }));
        }
        if leader != leader_before || (leader.is_some() && term != term_before) {
            effects.push(Effect::Note(Note::Leader { leader, term }));
        }
        // A follower that changes its term waits on; everybody else begins to wait.
        if role != Role::Follower || role_before != Role::Follower {
            self.server.arm_election();
        }
        if let State::Leader(before) = &mut self.state {
            before.resign(leader, effects);
        }
    }
}

fn is_granted_pre_vote(message: &Message) -> bool {
    matches!(message, Message::Vote { phase: Phase::PreVote, granted: true, .. })
}

fn note_dropped(from: NodeId, reason: Dropped, effects: &mut Vec<Effect>) {
    effects.push(Effect::Note(Note::Dropped { from, reason }));
}

/// No timer is called late below this: schedulers are that coarse on a busy machine.
const LATE_MIN: Duration = Duration::from_millis(10);
