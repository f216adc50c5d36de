//! The state machine of the model: a digest of all that was applied, and the session table.
//!
//! Two machines with the same digest have applied the same entries with the same effects.

use raft::{Configuration, EntryRef, Index, Payload, Position, RequestId, SessionLimits, Sessions};
use raft::{NodeId, Snapshot};

use crate::{
    invariant::{Application, Server, digest},
    seed::mix,
};

/// A machine after some entry.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// The last entry that it applied.
    pub(super) applied: Position,
    /// Folds all entries and what became of each.
    pub(super) state: u64,
    /// The last configuration that it applied; empty in a newcomer that has applied none.
    pub(super) configuration: Configuration,
    /// Who has asked what.
    pub(super) sessions: Sessions<Index>,
}

impl Machine {
    /// A machine before the first entry.
    pub(super) fn new(configuration: Configuration, limits: SessionLimits) -> Self {
        Self {
            applied: Position::default(),
            state: 0,
            configuration,
            sessions: Sessions::new(limits),
        }
    }

    /// Applies the next entry; returns whether its request took effect by it.
    pub(super) fn apply(
        &mut self,
        server: Server,
        node: NodeId,
        entry: EntryRef<'_>,
    ) -> Application {
        let mut took_effect = false;
        self.sessions.observe(entry, |kept| {
            took_effect = true;
            *kept = entry.position.index;
        });
        if let Payload::Configuration(configuration) = entry.payload {
            self.configuration.clone_from(configuration);
        }
        let effective: Option<RequestId> = entry.request().filter(|_| took_effect);
        self.applied = entry.position;
        self.state = mix(mix(self.state, digest(entry)), u64::from(took_effect));
        Application { server, node, position: entry.position, effective, state: self.state }
    }

    /// What a snapshot of this machine covers.
    pub(super) fn covers(&self) -> Snapshot {
        Snapshot { position: self.applied, configuration: self.configuration.clone() }
    }
}
