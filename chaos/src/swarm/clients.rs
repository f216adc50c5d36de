//! Clients of the model: sessions, commands, retries under the same request id, strong reads.
//!
//! A client knows what it was told and nothing else, but for a good guess of who leads. It asks
//! again, elsewhere and under the same name, what was not answered.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::{
    Answer, EntryRef, Index, Input, Payload, Proposal, ProposalId, ReadId, Refusal, RequestId,
    Role, SessionId,
};

use super::{
    calls::Call,
    event::Event,
    node::{Node, Seat},
    planted::DriverFault,
    profile::Span,
    world::{Checked, PROBE, World},
};
use crate::invariant::{Application, ReadFloor, Violation};

/// All clients and what they have asked.
#[derive(Debug)]
pub(super) struct Clients {
    each: Vec<Client>,
    asked: BTreeMap<u64, Asked>,
    next: u64,
}

#[derive(Debug, Default)]
struct Client {
    /// What names its wish for a session.
    nonce: u64,
    session: Option<SessionId>,
    last: u64,
    /// By sequence: how often it was proposed, as far as the client was told.
    outstanding: BTreeMap<u64, u32>,
}

#[derive(Debug)]
struct Asked {
    seat: Seat,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Session,
    Command { client: usize, request: RequestId },
    Read { floor: ReadFloor },
    Change,
}

impl Clients {
    /// Clients without sessions.
    pub(super) fn new(count: usize) -> Self {
        let each = (0..count).map(|client| Client { nonce: client as u64, ..Client::default() });
        Self { each: each.collect(), asked: BTreeMap::new(), next: 0 }
    }

    /// The server is gone, and with it the answers that it owed.
    pub(super) fn forget(&mut self, seat: Seat) {
        self.asked.retain(|_, asked| asked.seat != seat);
    }

    /// A server that a client may have asked has applied an entry.
    pub(super) fn see(&mut self, entry: EntryRef<'_>) {
        let Payload::OpenSession { nonce } = entry.payload else { return };
        let waits = |client: &&mut Client| client.session.is_none() && client.nonce == nonce;
        if let Some(client) = self.each.iter_mut().find(waits) {
            client.session = Some(SessionId(entry.position.index));
        }
    }

    fn ask(&mut self, seat: Seat, what: What) -> u64 {
        self.next += 1;
        self.asked.insert(self.next, Asked { seat, what });
        self.next
    }
}

impl Client {
    fn close(&mut self, stride: u64) {
        self.nonce += stride;
        self.session = None;
        self.last = 0;
        self.outstanding.clear();
    }
}

impl World {
    /// A client asks something, and thinks of the next.
    pub(super) fn client_acts(&mut self, client: usize) -> Checked {
        if self.calm {
            return Ok(());
        }
        let Span(min, max) = self.profile.think;
        let next = self.now.plus(self.streams.clients.duration(min, max));
        self.queue.put(next, Event::Client(client));
        self.client_asks(client)
    }

    /// A client asks something, unless the time for that is over.
    pub(super) fn client_asks(&mut self, client: usize) -> Checked {
        if self.calm {
            return Ok(());
        }
        let draw = &mut self.streams.clients;
        let anywhere = Seat(usize::try_from(draw.below(self.nodes.len() as u64)).unwrap_or(0));
        let guesses = draw.chance(GUESSES_PERMILLE);
        let reads = draw.chance(self.profile.read_permille);
        let leader = if guesses {
            None
        } else if reads {
            self.oldest_leader()
        } else {
            self.leader()
        };
        let seat = leader.unwrap_or(anywhere);
        if reads && self.nodes[seat.0].core.is_some() {
            return self.read(seat);
        }
        if !self.awake(seat) {
            return Ok(());
        }
        match self.clients.each[client].session {
            None => {
                let nonce = self.clients.each[client].nonce;
                self.propose(seat, What::Session, Proposal::OpenSession { nonce })
            }
            Some(session) => self.command(client, session, seat),
        }
    }

    /// Proposes a change of membership to this server.
    pub(super) fn propose_change(&mut self, seat: Seat, change: raft::Change) -> Checked {
        self.propose(seat, What::Change, Proposal::Change(change))
    }

    /// Proposes a session that belongs to no client, to see whether anything commits.
    pub(super) fn propose_probe(&mut self, seat: Seat) -> Checked {
        self.propose(seat, What::Session, Proposal::OpenSession { nonce: PROBE })
    }

    /// A core has answered.
    pub(super) fn answered(&mut self, seat: Seat, answer: &Answer, appended: bool) -> Checked {
        if self.planned.is_some() {
            return self.caller_answered(seat, answer);
        }
        let id = match answer {
            Answer::Proposed { id, .. } => id.0,
            Answer::Read { id, .. } => id.0,
            Answer::Transfer { outcome, .. } => {
                self.counts.transfers += u64::from(outcome.is_ok());
                return Ok(());
            }
        };
        let node = self.nodes[seat.0].id;
        let Some(Asked { what, .. }) = self.clients.asked.remove(&id) else {
            let what = format!("{node:?} answers {id}, which nobody asked or which was answered");
            return Err(Violation::of("answers", what));
        };
        match (what, answer) {
            (What::Read { floor }, Answer::Read { outcome: Ok(index), .. }) => {
                self.counts.reads += 1;
                self.invariants.read_answered(node, floor, *index)
            }
            (What::Command { client, request }, Answer::Proposed { outcome, .. }) => {
                self.command_answered(seat, client, request, *outcome, appended)
            }
            _ => Ok(()),
        }
    }

    /// Of those that believe to lead, the one in the oldest term: a deposed leader is the one
    /// that might answer wrongly.
    fn oldest_leader(&self) -> Option<Seat> {
        let leads = |(seat, node): (usize, &Node)| {
            let core = node.core.as_ref().filter(|core| core.role() == Role::Leader)?;
            Some((core.term(), Seat(seat)))
        };
        self.nodes.iter().enumerate().filter_map(leads).min().map(|(_, seat)| seat)
    }

    fn read(&mut self, seat: Seat) -> Checked {
        let floor = self.invariants.read_asked();
        let id = ReadId(self.clients.ask(seat, What::Read { floor }));
        let Node { paused_until, incarnation, .. } = self.nodes[seat.0];
        if paused_until > self.now {
            // It waits unread until the server goes on, which does not know for how long.
            self.queue.put(paused_until, Event::Read { seat, incarnation, id });
            return Ok(());
        }
        self.read_arrives(seat, id)
    }

    /// A read reaches its server.
    pub(super) fn read_arrives(&mut self, seat: Seat, id: ReadId) -> Checked {
        self.counts.steps += 1;
        self.counts.asked += 1;
        self.trace(id.0);
        self.tell(|world| format!("{} is asked for read {}", world.nodes[seat.0].id, id.0));
        self.input(seat, Input::Read { id })
    }

    fn command(&mut self, client: usize, session: SessionId, seat: Seat) -> Checked {
        let draw = &mut self.streams.clients;
        let asker = &mut self.clients.each[client];
        let waiting: Vec<u64> = asker.outstanding.keys().copied().collect();
        // A reply is kept for each request past the lowest unanswered one. Going further than
        // the table keeps replies, a client could lock itself out of its own session.
        let kept = self.profile.sessions().replies_per_session_max as u64;
        let lowest = waiting.first().copied().unwrap_or(asker.last + 1);
        let full = waiting.len() as u64 >= self.profile.outstanding_max
            || asker.last + 1 >= lowest.saturating_add(kept);
        let again = draw.chance(RETRIES_PERMILLE) || full;
        let old = draw.pick(&waiting).copied().filter(|_| again);
        self.counts.retries += u64::from(old.is_some());
        let sequence = old.unwrap_or(asker.last + 1);
        asker.last = asker.last.max(sequence);
        asker.outstanding.entry(sequence).or_default();
        let floor = asker.outstanding.keys().next().copied().unwrap_or(sequence);
        let request = RequestId { session, sequence };
        // The length follows from the name: a retry says the same as the first try.
        let length = (session.0.0 ^ sequence) % (self.profile.command_bytes_max + 1);
        let length = usize::try_from(length).unwrap_or(0).min(CONTENT.len());
        let command = Bytes::from_static(&CONTENT[..length]);
        let proposal = Proposal::Command { request, floor, command };
        self.propose(seat, What::Command { client, request }, proposal)
    }

    fn propose(&mut self, seat: Seat, what: What, proposal: Proposal) -> Checked {
        let id = self.clients.ask(seat, what);
        self.counts.steps += 1;
        self.counts.asked += 1;
        self.trace(id);
        self.tell(|world| format!("{} is asked for {proposal:?}", world.nodes[seat.0].id));
        self.input(seat, Input::Propose { id: ProposalId(id), proposal })?;
        if self.clients.asked.contains_key(&id) {
            let node = self.nodes[seat.0].id;
            return Err(Violation::of(
                "answers",
                format!("{node:?} leaves proposal {id} unanswered"),
            ));
        }
        Ok(())
    }

    fn command_answered(
        &mut self,
        seat: Seat,
        client: usize,
        request: RequestId,
        outcome: Result<raft::Position, Refusal>,
        appended: bool,
    ) -> Checked {
        let asker = &mut self.clients.each[client];
        match outcome {
            Ok(position) => {
                let node = &mut self.nodes[seat.0];
                let log = node.core.as_ref().map(raft::Raft::log);
                let entry = log.and_then(|log| log.get(position.index));
                let stands =
                    entry.is_some_and(|e| e.position == position && e.request() == Some(request));
                if !stands {
                    let what = format!("{:?} says {request:?} stands at {position}", node.id);
                    return Err(Violation::of("answers", what));
                }
                self.counts.duplicates_recognised += u64::from(!appended);
                node.calls.open(Call { position, client, request });
                if let Some(attempts) = asker.outstanding.get_mut(&request.sequence) {
                    *attempts += 1;
                }
            }
            Err(Refusal::Applied(index)) => {
                self.counts.duplicates_recognised += 1;
                if asker.session == Some(request.session)
                    && asker.outstanding.remove(&request.sequence).is_some()
                {
                    self.counts.acknowledged += 1;
                }
                return self.invariants.acknowledged(request, index);
            }
            Err(Refusal::Expired) if asker.session == Some(request.session) => {
                self.counts.sessions_expired += 1;
                asker.close(self.profile.clients as u64);
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// A server has applied an entry at the index that this call waits for.
    pub(super) fn resolve(&mut self, call: &Call, application: &Application) -> Checked {
        let Application { position, effective, .. } = *application;
        let is_same = call.position == position || self.breaks(DriverFault::AcknowledgeByIndex);
        if !is_same {
            return self.answer_fail(call);
        }
        // It stands there; but if its session was closed before, it is not known what it did.
        if call.position == position && effective != Some(call.request) {
            return Ok(());
        }
        self.invariants.acknowledged(call.request, position.index)?;
        self.counts.acknowledged += u64::from(self.hears_the_end(call));
        Ok(())
    }

    /// The log of a server after this index gave way to another.
    pub(super) fn gave_way(&mut self, seat: Seat, after: Index) -> Checked {
        if !self.breaks(DriverFault::FailOnTruncation) {
            return Ok(());
        }
        let calls = self.nodes[seat.0].calls.cut_off(after);
        calls.iter().try_for_each(|call| self.answer_fail(call))
    }

    /// The place of a command is taken for good by another. If it was proposed there and nowhere
    /// else, it will never take effect: that is `Fail`, and the client leaves it at that.
    fn answer_fail(&mut self, call: &Call) -> Checked {
        let RequestId { session, sequence } = call.request;
        let asker = &self.clients.each[call.client];
        let once = asker.session == Some(session) && asker.outstanding.get(&sequence) == Some(&1);
        if once && self.hears_the_end(call) {
            self.counts.failed += 1;
            return self.invariants.failed(call.request, call.position);
        }
        Ok(())
    }

    /// The last answer to a request is on its way. If the client gets it, it will not ask again;
    /// some are lost.
    fn hears_the_end(&mut self, call: &Call) -> bool {
        let RequestId { session, sequence } = call.request;
        let asker = &mut self.clients.each[call.client];
        asker.session == Some(session)
            && asker.outstanding.contains_key(&sequence)
            && !self.streams.clients.chance(ANSWERS_LOST_PERMILLE)
            && asker.outstanding.remove(&sequence).is_some()
    }
}

/// What commands are made of.
const CONTENT: [u8; 64] = [0x5a; 64];
/// A client asks someone at random instead of the leader.
const GUESSES_PERMILLE: u64 = 200;
/// A client asks again instead of something new.
const RETRIES_PERMILLE: u64 = 150;
/// Answers that never reach their client.
const ANSWERS_LOST_PERMILLE: u64 = 100;
