//! The follower: takes its leader's entries, and stands for election when it falls silent.
//!
//! It remembers nothing of its own: what it must not forget is every server's. Invariant: what
//! it acknowledges equals its leader's log, and its commit index never passes what is known to.

use crate::{
    Appended, Dropped, Effect, Entries, EntryRef, Halt, Index, Input, Message, NO_ROUND, NodeId,
    Note, Phase, Position, Snapshot,
    message::are_consecutive,
    planted::Planted,
    server::{Server, Turn},
};

/// The state of a follower: none.
#[derive(Debug)]
pub(crate) struct Follower;

impl Follower {
    /// Takes one input. Messages arrive here only from the leader of this term, or are answers
    /// to what this server asked in another role.
    pub(crate) fn step(
        &mut self,
        server: &mut Server,
        input: Input,
        effects: &mut Vec<Effect>,
    ) -> Turn {
        match input {
            Input::Timeout => timeout(server),
            Input::Message { from, message } => heed(server, from, message, effects),
            Input::Fetched { leader, prev, entries, .. } => {
                take_fetched(server, leader, prev, &entries, effects);
                Turn::Stay
            }
            Input::Propose { .. } | Input::Read { .. } | Input::Transfer { .. } => {
                server.refuse(&input, effects);
                Turn::Stay
            }
            Input::Persisted(_)
            | Input::SnapshotTaken(_)
            | Input::SnapshotInstalled { .. }
            | Input::Fetching { .. }
            | Input::Connected(_) => Turn::Stay,
        }
    }
}

fn timeout(server: &mut Server) -> Turn {
    if server.woke_late {
        server.arm_heartbeat();
        return Turn::Stay;
    }
    if server.may_campaign() {
        // Thesis §9.6: pre-votes first, so that a server which cannot win disturbs nobody.
        return Turn::Campaign { phase: Phase::PreVote, transfer: false };
    }
    server.arm_election();
    Turn::StepDown
}

fn heed(server: &mut Server, from: NodeId, message: Message, effects: &mut Vec<Effect>) -> Turn {
    match message {
        Message::Append { prev, entries, commit, .. } => {
            append(server, from, prev, &entries, commit, effects);
        }
        Message::Heartbeat { round, commit, .. } => {
            // The leader names no more than what this server has acknowledged in this term, and
            // never takes back. But a disk may have lost the end of that and hold another
            // leader's entries in its place, so an index alone proves nothing: no further than
            // where this very process has found the logs to be equal.
            server.commit_to(commit.min(server.verified), effects);
            if round != NO_ROUND {
                let message = Message::HeartbeatReply { term: server.term(), round };
                effects.push(Effect::Send { to: from, message });
            }
        }
        Message::InstallSnapshot { snapshot, .. } => offer(server, from, snapshot, effects),
        // Thesis §3.10: as if the election timeout had elapsed; no pre-vote, since the leader
        // wants this campaign. (A server that may not campaign lets the transfer time out.)
        Message::TimeoutNow { .. } if server.may_campaign() => {
            return Turn::Campaign { phase: Phase::Vote, transfer: true };
        }
        Message::TimeoutNow { .. }
        | Message::RequestVote { .. }
        | Message::Vote { .. }
        | Message::AppendReply { .. }
        | Message::HeartbeatReply { .. } => {}
    }
    Turn::Stay
}

/// The receiver's part of AppendEntries (Raft figure 2).
fn append(
    server: &mut Server,
    from: NodeId,
    prev: Position,
    entries: &Entries,
    commit: Index,
    effects: &mut Vec<Effect>,
) {
    let is_careless =
        prev.index <= server.log.last().index && server.plant.breaks(Planted::NoBackOff);
    let outcome = if agrees(server, prev) || is_careless {
        let Ok(matched) = take(server, prev, entries, commit, effects) else { return };
        Appended::Matched(matched)
    } else {
        let index = prev.index;
        if index <= server.commit {
            server.halt(Halt::TruncateCommitted { index, commit: server.commit }, effects);
            return;
        }
        // Raft §5.3, end: name a place that skips all terms the leader cannot have before
        // `prev`. The commit index agrees in any case.
        let hint = server.log.last_at_most(index, prev.term).unwrap_or(server.log.start());
        Appended::Rejected { prev: index, hint }
    };
    let message = Message::AppendReply { term: server.term(), outcome };
    effects.push(Effect::Send { to: from, message });
}

/// What the leader vouches for is as good as an append of its own, whoever carried it here, and
/// is acknowledged like one (log matching, Raft §5.3). All of it is committed, so the log of every
/// later leader has it too (leader completeness, §5.4.3). Where the log does not reach `prev`
/// nothing is refused, for the leader has not sent it and does not wait for an answer.
fn take_fetched(
    server: &mut Server,
    leader: NodeId,
    prev: Position,
    entries: &Entries,
    effects: &mut Vec<Effect>,
) {
    let (term, last) = (server.term(), prev.index.plus(entries.len() as u64));
    let is_sound = prev.is_sound(term) && are_consecutive(prev, entries.view(), term);
    if !is_sound || !agrees(server, prev) {
        let reason = Dropped::Invalid;
        effects.push(Effect::Note(Note::Dropped { from: leader, reason }));
        return;
    }
    let Ok(matched) = take(server, prev, entries, last, effects) else { return };
    let message = Message::AppendReply { term, outcome: Appended::Matched(matched) };
    effects.push(Effect::Send { to: leader, message });
}

/// Whether the logs agree at `prev`: it is here, or lies in what our snapshot covers, which is
/// committed and so in the log of every later leader (leader completeness, Raft §5.4.3).
fn agrees(server: &Server, prev: Position) -> bool {
    prev.index < server.log.start().index || server.log.contains(prev)
}

/// Takes the entries after a place where the logs agree. Returns how far they agree now.
fn take(
    server: &mut Server,
    prev: Position,
    entries: &Entries,
    commit: Index,
    effects: &mut Vec<Effect>,
) -> Result<Index, Halt> {
    let matched = prev.index.plus(entries.len() as u64);
    merge(server, entries, effects)?;
    server.verified = server.verified.max(matched);
    // Raft §5.3: up to the last new entry, for what follows may still be another leader's.
    server.commit_to(commit.min(matched), effects);
    // All up to our commit index agrees with any leader's log, even if the append was older.
    Ok(matched.max(server.commit))
}

/// Makes the log contain these entries. Entries that are there already stay, with all that
/// follows them: an old append must not undo a newer one (Raft §5.3).
fn merge(server: &mut Server, entries: &Entries, effects: &mut Vec<Effect>) -> Result<(), Halt> {
    let start = server.log.start().index;
    let is_news =
        |entry: EntryRef<'_>| entry.position.index >= start && !server.log.contains(entry.position);
    let Some(first) = entries.iter().position(is_news) else { return Ok(()) };
    let news = entries.part(first, usize::MAX);
    let Some(index) = news.first().map(|entry| entry.position.index) else { return Ok(()) };
    if index <= server.commit {
        // State machine safety (Raft §5.4.3): what is committed is never replaced. Either this
        // server or that leader is broken, so this one stops.
        let halt = Halt::TruncateCommitted { index, commit: server.commit };
        server.halt(halt, effects);
        return Err(halt);
    }
    server.replace(index.prev(), news, effects);
    Ok(())
}

/// The receiver's part of InstallSnapshot (Raft §7).
fn offer(server: &mut Server, from: NodeId, snapshot: Snapshot, effects: &mut Vec<Effect>) {
    let position = snapshot.position;
    if position.index > server.commit && !server.log.contains(position) {
        effects.push(Effect::Install { from, snapshot });
        return;
    }
    // What the snapshot covers is committed and we hold it: no need to fetch it.
    server.verified = server.verified.max(position.index);
    server.commit_to(position.index, effects);
    let outcome = Appended::Matched(server.commit);
    let message = Message::AppendReply { term: server.term(), outcome };
    effects.push(Effect::Send { to: from, message });
}
