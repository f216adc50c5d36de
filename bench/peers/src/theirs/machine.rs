//! The machine of mosaik's side: it counts what it applies, as Tessera's does.

use std::num::NonZero;

use mosaik::{
    Bytes, UniqueId,
    groups::{ApplyContext, LeadershipPreference, LogReplaySync, StateMachine},
};

/// How many commands it has applied, of how many bytes.
pub(super) struct Tally {
    commands: u64,
    bytes: u64,
    batch_size: NonZero<u64>,
    preference: LeadershipPreference,
}

impl Tally {
    pub(super) const fn new(batch_size: NonZero<u64>, preference: LeadershipPreference) -> Self {
        Self { commands: 0, bytes: 0, batch_size, preference }
    }
}

impl StateMachine for Tally {
    type Command = Bytes;
    type Query = ();
    type QueryResult = (u64, u64);
    type StateSync = LogReplaySync<Self>;

    fn signature(&self) -> UniqueId {
        UniqueId::from("tally 1")
    }

    fn apply(&mut self, command: Bytes, _: &dyn ApplyContext) {
        self.commands += 1;
        self.bytes += command.len() as u64;
    }

    fn query(&self, (): ()) -> (u64, u64) {
        (self.commands, self.bytes)
    }

    fn state_sync(&self) -> LogReplaySync<Self> {
        LogReplaySync::default().with_batch_size(self.batch_size)
    }

    fn leadership_preference(&self) -> LeadershipPreference {
        self.preference
    }
}
