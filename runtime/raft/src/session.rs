//! Client sessions: what makes a retried command apply at most once (thesis §6.3).
//!
//! Replicated state: changed only by entries in log order, so that every server decides alike.
//! Generic over what is kept of a reply: the core keeps indexes, the runtime keeps replies.
//! Invariant: bounded by `sessions_max` and `replies_per_session_max`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{EntryRef, Index, Payload, sequenced::Sequenced};

/// A session: the index of the entry that opened it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct SessionId(pub Index);

/// Names one request of one client for ever.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct RequestId {
    /// The client's session.
    pub session: SessionId,
    /// Counts the session's requests from 1.
    pub sequence: u64,
}

/// Bounds of the table. They decide what is applied, so all members must agree on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionLimits {
    /// Open sessions; opening one more closes the one that has been silent longest.
    pub sessions_max: usize,
    /// Replies kept for one session; a command beyond them is not applied.
    pub replies_per_session_max: usize,
}

/// What the table says of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission<'a, R> {
    /// Never applied: apply it.
    Fresh,
    /// Applied before; this is what was kept.
    Duplicate(&'a R),
    /// The session is closed or unknown, or the sequence is below its floor.
    Expired,
    /// The session holds as many replies as it may.
    Full,
}

/// The session table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sessions<R> {
    limits: SessionLimits,
    open: BTreeMap<SessionId, Session<R>>,
    /// Each session by an entry that used it, not always the last: that is looked at only when
    /// one has to go, and a command in between costs nothing here.
    silent: BTreeMap<Index, SessionId>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Session<R> {
    /// Drawn by whoever opened it, and known to nobody else who calls.
    nonce: u64,
    floor: u64,
    used: Index,
    replies: Sequenced<R>,
}

impl<R> Sessions<R> {
    /// An empty table.
    pub fn new(limits: SessionLimits) -> Self {
        Self { limits, open: BTreeMap::new(), silent: BTreeMap::new() }
    }

    /// How many sessions are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no session is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What would become of the request if it were applied now.
    pub fn admission(&self, request: RequestId) -> Admission<'_, R> {
        let Some(session) = self.open.get(&request.session) else { return Admission::Expired };
        match session.replies.get(request.sequence) {
            Some(reply) => Admission::Duplicate(reply),
            None => session.admits(request.sequence, self.limits),
        }
    }

    /// What the session was opened with; `None` if it is not open.
    pub fn nonce(&self, session: SessionId) -> Option<u64> {
        self.open.get(&session).map(|session| session.nonce)
    }

    /// The bounds of the table.
    pub fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// Whether the table keeps to its bounds and agrees with itself: what comes from elsewhere may
    /// not.
    pub fn is_sound(&self) -> bool {
        let SessionLimits { sessions_max, replies_per_session_max } = self.limits;
        let is_open = |(used, id): (&Index, &SessionId)| {
            self.open.get(id).is_some_and(|session| *used <= session.used)
        };
        let listed: BTreeSet<_> = self.silent.values().collect();
        let fits = |session: &Session<R>| session.replies.len() <= replies_per_session_max;
        self.open.len() <= sessions_max
            && self.open.len() == self.silent.len()
            && self.open.len() == listed.len()
            && self.silent.iter().all(is_open)
            && self.open.values().all(fits)
    }

    /// How many replies the session keeps from sequence `floor` on.
    pub(crate) fn replies_from(&self, session: SessionId, floor: u64) -> usize {
        self.open.get(&session).map_or(0, |session| session.replies.count_from(floor))
    }

    /// Takes note of the next entry of the log. For a command: `apply` is called if and only if
    /// it is to be applied, and what it makes of its argument is kept as the reply.
    ///
    /// Returns the admission as it was decided, the reply included.
    #[inline]
    pub fn observe(&mut self, entry: EntryRef<'_>, apply: impl FnOnce(&mut R)) -> Admission<'_, R>
    where
        R: Default,
    {
        let index = entry.position.index;
        match entry.payload {
            Payload::OpenSession { nonce } => {
                self.open(index, nonce);
                Admission::Fresh
            }
            Payload::Command { request, floor, .. } => {
                let limits = self.limits;
                let Some(session) = self.open.get_mut(&request.session) else {
                    return Admission::Expired;
                };
                session.touch(floor, index);
                let admits = session.admits(request.sequence, limits);
                let fresh = matches!(admits, Admission::Fresh).then_some(apply);
                let known = session.replies.get_or_fill(request.sequence, fresh);
                known.map_or(admits, Admission::Duplicate)
            }
            Payload::Noop | Payload::Configuration(_) => Admission::Fresh,
        }
    }

    /// The kept reply of a request.
    pub fn reply(&self, request: RequestId) -> Option<&R> {
        self.open.get(&request.session)?.replies.get(request.sequence)
    }

    /// The same table with something else kept of each reply.
    pub fn map<T>(&self, mut keep: impl FnMut(&R) -> T) -> Sessions<T> {
        let open = self.open.iter().map(|(id, session)| {
            let replies =
                session.replies.iter().map(|(sequence, reply)| (sequence, keep(reply))).collect();
            (
                *id,
                Session { nonce: session.nonce, floor: session.floor, used: session.used, replies },
            )
        });
        Sessions { limits: self.limits, open: open.collect(), silent: self.silent.clone() }
    }

    fn open(&mut self, index: Index, nonce: u64) {
        // Expiry follows the order of the log, never a clock: all servers close the same one.
        if self.open.len() >= self.limits.sessions_max
            && let Some(oldest) = self.pop_silent()
        {
            self.open.remove(&oldest);
        }
        let id = SessionId(index);
        let replies = Sequenced::default();
        self.open.insert(id, Session { nonce, floor: 0, used: index, replies });
        self.silent.insert(index, id);
    }

    /// Takes the session that has been silent longest out of the list.
    fn pop_silent(&mut self) -> Option<SessionId> {
        loop {
            let (listed, id) = self.silent.pop_first()?;
            // Nothing that follows was used earlier than it is listed.
            match self.open.get(&id) {
                Some(session) if session.used > listed => self.silent.insert(session.used, id),
                _ => return Some(id),
            };
        }
    }
}

impl<R> Session<R> {
    /// What would become of a sequence of which no reply is kept.
    fn admits<'a>(&self, sequence: u64, limits: SessionLimits) -> Admission<'a, R> {
        if sequence < self.floor {
            return Admission::Expired;
        }
        if self.replies.len() >= limits.replies_per_session_max {
            return Admission::Full;
        }
        Admission::Fresh
    }

    fn touch(&mut self, floor: u64, index: Index) {
        self.used = index;
        self.floor = self.floor.max(floor);
        self.replies.raise(self.floor);
    }
}
