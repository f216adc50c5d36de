//! A server as it shows itself to its disk, its machine and whoever hears its notes.
//!
//! Of a whole runtime nobody sees the core, and no hook in it is wanted. But everything that a
//! core believes it writes, notes or applies: from these the shadow puts together the view that
//! invariants look at. Messages stay unseen, and with them what only they would show.

use std::{collections::VecDeque, time::Duration};

use raft::{
    Configuration, Entry, HardState, Index, Log, NodeId, Note, Payload, Position, Role, Snapshot,
    Time, Write, WriteId,
};

use super::{Application, Cause, Lease, Server, View, Violation};

/// See the module.
#[derive(Debug)]
pub struct Shadow {
    server: Server,
    node: NodeId,
    incarnation: u64,
    role: Role,
    leader: Option<NodeId>,
    hard_state: HardState,
    commit: Index,
    led_commit: Option<Index>,
    applied: Index,
    state: u64,
    log: Log,
    /// Before any entry says otherwise: that of the founders, or of the snapshot there.
    founding: Configuration,
    founded_at: Index,
    configuration: Configuration,
    /// The entry that brought it, or where the log starts.
    configured_at: Index,
    durable_state: HardState,
    durable: Position,
    /// What is under way to the disk, and how things stand once it is there.
    under_way: VecDeque<(WriteId, HardState, Position)>,
    written: Option<Index>,
    has_news: bool,
}

/// What a store held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// The founders; `None` before the group is founded.
    pub founding: Option<Configuration>,
    /// Term and vote.
    pub hard_state: HardState,
    /// What the log starts after, if not at the beginning, and what its machine is there.
    pub snapshot: Option<(Snapshot, u64)>,
    /// The log from there on.
    pub entries: Vec<Entry>,
}

impl Shadow {
    /// A server that has opened its store for the `incarnation`th time.
    pub fn new(server: Server, node: NodeId, incarnation: u64, opened: Opened) -> Self {
        let Opened { founding, hard_state, snapshot, entries } = opened;
        let (Snapshot { position, configuration: founding }, state) =
            snapshot.unwrap_or_else(|| {
                let configuration = founding.unwrap_or_default();
                (Snapshot { configuration, ..Snapshot::default() }, 0)
            });
        let start = position.index;
        let mut log = Log::new(position);
        entries.into_iter().for_each(|entry| log.append(entry));
        let durable = log.last();
        let mut shadow = Self {
            server,
            node,
            incarnation,
            role: Role::Follower,
            leader: None,
            hard_state,
            commit: start,
            led_commit: None,
            applied: start,
            state,
            log,
            configuration: founding.clone(),
            configured_at: start,
            founding,
            founded_at: start,
            durable_state: hard_state,
            durable,
            under_way: VecDeque::new(),
            written: Some(start),
            has_news: true,
        };
        shadow.configure(start);
        shadow
    }

    /// It goes on from another's snapshot; its log gives way to it unless that is `kept`.
    pub fn installed(&mut self, snapshot: Snapshot, state: u64, kept: bool) {
        let Snapshot { position, configuration } = snapshot;
        (self.applied, self.state) = (position.index, state);
        if !kept {
            self.log = Log::new(position);
            self.durable = position;
            self.under_way.iter_mut().for_each(|(_, _, last)| *last = position);
            (self.founding, self.founded_at) = (configuration, position.index);
            self.configured_at = position.index;
            self.written = Some(position.index);
            self.configure(position.index);
        }
        self.has_news = true;
    }

    /// The founders have met.
    pub fn founded(&mut self, founding: Configuration) {
        self.founding = founding;
        self.configure(self.founded_at);
        self.has_news = true;
    }

    /// It gives its disk something to write.
    ///
    /// # Errors
    /// A write that leaves a gap in its log.
    pub fn submitted(&mut self, id: WriteId, write: &Write) -> Result<(), Violation> {
        match write {
            Write::HardState(hard_state) => self.hard_state = *hard_state,
            Write::Entries { after, entries } => {
                let last = self.log.last().index;
                if *after > last {
                    let what =
                        format!("{:?} writes after {after}, its log ends at {last}", self.node);
                    return Err(Violation::of("log matching", what));
                }
                if *after < last {
                    self.log.truncate(*after);
                }
                self.log.extend(entries);
                self.written = Some(self.written.map_or(*after, |written| written.min(*after)));
                self.configure(*after);
            }
        }
        self.under_way.push_back((id, self.hard_state, self.log.last()));
        self.has_news = true;
        Ok(())
    }

    /// Its disk says that everything through this write is durable.
    pub fn persisted(&mut self, id: WriteId) {
        while let Some((_, hard_state, last)) =
            self.under_way.front().copied().filter(|(first, ..)| *first <= id)
        {
            self.under_way.pop_front();
            (self.durable_state, self.durable) = (hard_state, last);
        }
        self.has_news = true;
    }

    /// How far it has committed, by what it noted.
    pub(crate) fn commit(&self) -> Index {
        self.commit
    }

    /// It noted something.
    pub fn noted(&mut self, note: &Note) {
        match note {
            Note::Became { role, .. } => self.role = *role,
            Note::Leader { leader, .. } => self.leader = *leader,
            Note::Committed { index } => {
                self.commit = *index;
                if self.role == Role::Leader {
                    self.led_commit = Some(*index);
                }
            }
            _ => return,
        }
        self.has_news = true;
    }

    /// Its machine has applied a command. What lies before it and after the last one changed no
    /// machine: it is told along.
    pub fn applied(&mut self, position: Position, change: u64) -> Vec<Application> {
        self.apply(position.index, Some((position, change)))
    }

    /// Its machine has come as far as that, and a snapshot of it says so: what lies behind the
    /// last command changed nothing.
    pub fn reached(&mut self, index: Index) -> Vec<Application> {
        self.apply(index, None)
    }

    fn apply(&mut self, through: Index, command: Option<(Position, u64)>) -> Vec<Application> {
        let mut told = Vec::new();
        while self.applied < through {
            self.applied = self.applied.next();
            let Some(entry) = self.log.get(self.applied) else { break };
            let command = command.filter(|(position, _)| position.index == self.applied);
            if let Some((_, change)) = command {
                self.state = crate::seed::mix(self.state, change);
            }
            told.push(Application {
                server: self.server,
                node: self.node,
                position: command.map_or(entry.position, |(position, _)| position),
                effective: command.and_then(|_| entry.request()),
                state: self.state,
            });
        }
        self.has_news = true;
        told
    }

    /// How it stands, if anything has changed since this was last asked.
    pub fn news(&mut self, now: Time) -> Option<View<'_>> {
        if !std::mem::take(&mut self.has_news) {
            return None;
        }
        Some(View {
            server: self.server,
            node: self.node,
            incarnation: self.incarnation,
            role: self.role,
            leader: self.leader,
            hard_state: self.hard_state,
            commit: self.commit,
            led_commit: self.led_commit.take(),
            applied: self.applied,
            log: &self.log,
            configuration: &self.configuration,
            durable_state: self.durable_state,
            durable: self.durable,
            written: self.written.take(),
            cause: Cause::Other,
            now,
            lease: Lease { now, until: None },
            election_timeout_min: Duration::ZERO,
            election_timeout_max: Duration::MAX,
        })
    }

    /// The newest configuration of its log is in force; what lies after that index is new.
    fn configure(&mut self, after: Index) {
        let base = self.founded_at;
        let from = if after < self.configured_at { base } else { after };
        if from < self.configured_at || self.configured_at == base {
            self.configuration.clone_from(&self.founding);
            self.configured_at = base;
        }
        let mut index = from;
        while index < self.log.last().index {
            index = index.next();
            if let Some(Payload::Configuration(newer)) = self.log.get(index).map(|e| e.payload) {
                self.configuration.clone_from(newer);
                self.configured_at = index;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft::{RequestId, SessionId, Term};

    use super::{super::Invariants, *};

    fn entry(term: u64, index: u64, content: u8) -> Entry {
        let request = RequestId { session: SessionId(Index(1)), sequence: index };
        let command = Bytes::from(vec![content]);
        let position = Position { term: Term(term), index: Index(index) };
        Entry { position, payload: Payload::Command { request, floor: 0, command } }
    }

    fn shadow(server: usize, incarnation: u64, opened: Opened) -> Shadow {
        let node = NodeId::small(u8::try_from(server).expect("few servers"));
        Shadow::new(Server(server), node, incarnation, opened)
    }

    fn write(shadow: &mut Shadow, id: u64, after: u64, entries: Vec<Entry>) {
        let write = Write::Entries { after: Index(after), entries: entries.into() };
        shadow.submitted(WriteId(id), &write).expect("no gap");
    }

    fn vote(shadow: &mut Shadow, id: u64, term: u64, vote: u8) {
        let vote = Some(NodeId::small(vote));
        let write = Write::HardState(HardState { term: Term(term), vote });
        shadow.submitted(WriteId(id), &write).expect("no entries");
        shadow.persisted(WriteId(id));
    }

    /// The first violation that a look at these shadows brings up.
    fn seen(invariants: &mut Invariants, shadows: &mut [&mut Shadow]) -> Option<&'static str> {
        shadows.iter_mut().find_map(|shadow| {
            let view = shadow.news(Time::default())?;
            invariants.stepped(&view).err().map(|violation| violation.invariant)
        })
    }

    fn leads(shadow: &mut Shadow, term: u64) {
        shadow.noted(&Note::Became { role: Role::Leader, term: Term(term) });
    }

    #[test]
    fn two_leaders_of_a_term_are_seen() {
        let mut invariants = Invariants::of_shadows();
        let founders = || Opened {
            founding: Some(Configuration::of((0..2).map(NodeId::small))),
            ..Opened::default()
        };
        let (mut one, mut two) = (shadow(0, 1, founders()), shadow(1, 1, founders()));
        vote(&mut one, 1, 1, 0);
        leads(&mut one, 1);
        assert_eq!(seen(&mut invariants, &mut [&mut one, &mut two]), None);
        vote(&mut two, 1, 1, 1);
        leads(&mut two, 1);
        assert_eq!(seen(&mut invariants, &mut [&mut one, &mut two]), Some("election safety"));
    }

    #[test]
    fn a_vote_that_changes_over_a_restart_is_seen() {
        let mut invariants = Invariants::of_shadows();
        let mut before = shadow(0, 1, Opened::default());
        vote(&mut before, 1, 3, 1);
        assert_eq!(seen(&mut invariants, &mut [&mut before]), None);
        let mut after = shadow(0, 2, Opened::default());
        vote(&mut after, 1, 3, 2);
        assert_eq!(seen(&mut invariants, &mut [&mut after]), Some("vote once"));
    }

    #[test]
    fn two_entries_of_one_position_are_seen() {
        let mut invariants = Invariants::of_shadows();
        let (mut one, mut two) = (shadow(0, 1, Opened::default()), shadow(1, 1, Opened::default()));
        for (shadow, content) in [(&mut one, 7), (&mut two, 8)] {
            vote(shadow, 1, 1, 0);
            write(shadow, 2, 0, vec![entry(1, 1, content)]);
        }
        assert_eq!(seen(&mut invariants, &mut [&mut one, &mut two]), Some("log matching"));
    }

    #[test]
    fn a_log_that_is_cut_below_its_commit_is_seen() {
        let mut invariants = Invariants::of_shadows();
        let mut server = shadow(0, 1, Opened::default());
        vote(&mut server, 1, 1, 0);
        write(&mut server, 2, 0, vec![entry(1, 1, 1), entry(1, 2, 2)]);
        leads(&mut server, 1);
        server.noted(&Note::Committed { index: Index(2) });
        seen(&mut invariants, &mut [&mut server]);
        write(&mut server, 3, 1, vec![entry(1, 2, 9)]);
        let broken = seen(&mut invariants, &mut [&mut server]);
        assert_eq!(broken, Some("no truncation below commit"));
    }

    #[test]
    fn a_leader_that_commits_and_is_deposed_before_anyone_looks_has_committed() {
        let mut invariants = Invariants::of_shadows();
        let (mut one, mut two) = (shadow(1, 1, Opened::default()), shadow(2, 1, Opened::default()));
        for server in [&mut one, &mut two] {
            vote(server, 1, 1, 1);
            write(server, 2, 0, vec![entry(1, 1, 1)]);
        }
        leads(&mut one, 1);
        assert_eq!(seen(&mut invariants, &mut [&mut one, &mut two]), None);
        // The last answer of its term, and right behind it the next term.
        one.noted(&Note::Committed { index: Index(1) });
        vote(&mut one, 3, 2, 2);
        one.noted(&Note::Became { role: Role::Follower, term: Term(2) });
        assert_eq!(seen(&mut invariants, &mut [&mut one]), None);
        two.noted(&Note::Committed { index: Index(1) });
        assert_eq!(seen(&mut invariants, &mut [&mut two]), None);
    }

    #[test]
    fn a_gap_in_what_is_written_is_refused() {
        let mut server = shadow(0, 1, Opened::default());
        let write = Write::Entries { after: Index(3), entries: vec![entry(1, 4, 1)].into() };
        server.submitted(WriteId(1), &write).expect_err("a gap");
    }

    #[test]
    fn who_goes_on_from_a_snapshot_applies_what_follows_it() {
        let mut server = shadow(0, 1, Opened::default());
        write(&mut server, 1, 0, vec![entry(1, 1, 1)]);
        let configuration = Configuration::of([NodeId::small(7)]);
        let position = Position { term: Term(2), index: Index(5) };
        server.installed(Snapshot { position, configuration }, 99, false);
        assert!(server.applied(entry(1, 1, 1).position, 7).is_empty(), "it is in the snapshot");
        write(&mut server, 2, 5, vec![entry(2, 6, 1), entry(2, 7, 1)]);
        let told = server.applied(entry(2, 6, 1).position, 7);
        let told: Vec<_> = told.iter().map(|one| (one.position.index.0, one.state)).collect();
        assert_eq!(told, [(6, crate::seed::mix(99, 7))]);
        assert_eq!(server.reached(Index(7)).len(), 1);
        let view = server.news(Time::default()).expect("much has changed");
        assert!(view.configuration.voters.contains(&NodeId::small(7)));
        assert_eq!(view.log.start(), position);
    }

    #[test]
    fn what_changes_no_machine_is_told_along() {
        let mut server = shadow(0, 1, Opened::default());
        let noop = Entry { payload: Payload::Noop, ..entry(1, 1, 0) };
        write(&mut server, 1, 0, vec![noop, entry(1, 2, 5)]);
        let told = server.applied(entry(1, 2, 5).position, 77);
        let told: Vec<_> =
            told.iter().map(|one| (one.position.index.0, one.effective.is_some())).collect();
        assert_eq!(told, [(1, false), (2, true)]);
    }
}
