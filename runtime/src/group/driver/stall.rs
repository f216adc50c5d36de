//! Whether the disk hangs, and when a leader with such a disk asks another to lead.
//!
//! Knows the numbers of the writes and how often it was asked, and nothing of the core. Invariant:
//! time in which nobody looked counts for next to nothing: a process that was stopped finds its
//! writes as it left them, and hears first what its disk has to say.

use std::time::Duration;

use raft::{Time, WriteId};

use crate::ConsensusConfig;

/// See the module.
pub(super) struct Stall {
    submitted: WriteId,
    durable: WriteId,
    /// For how long something was to become durable and nothing did.
    waited: Duration,
    looked: Time,
    /// So much is counted from one look to the next, at most.
    step_max: Duration,
    /// So long nobody speaks of hanging.
    patience: Duration,
    /// With so much waited another is asked to lead.
    due: Duration,
    pause: Duration,
}

impl Stall {
    pub(super) fn new(consensus: &ConsensusConfig) -> Self {
        let patience = (HANG_ELECTIONS * consensus.election_timeout_max()).max(HANG_MIN);
        Self {
            submitted: WriteId(0),
            durable: WriteId(0),
            waited: Duration::ZERO,
            looked: Time::default(),
            step_max: 2 * consensus.heartbeat_interval,
            patience,
            due: patience,
            pause: patience,
        }
    }

    /// A write begins.
    pub(super) fn submitted(&mut self, id: WriteId) {
        self.submitted = id;
    }

    /// The disk gets on: the write is durable, and so are all before it.
    pub(super) fn persisted(&mut self, id: WriteId) {
        self.durable = id;
        self.waited = Duration::ZERO;
        (self.due, self.pause) = (self.patience, self.patience);
    }

    /// Whether another is to be asked to lead, now. To be asked about each heartbeat by a leader;
    /// once it was, it is so again only after a pause that doubles.
    pub(super) fn look(&mut self, now: Time) -> bool {
        let passed = now.since(self.looked).min(self.step_max);
        self.looked = now;
        if self.submitted <= self.durable {
            return false;
        }
        self.waited += passed;
        if self.waited < self.due {
            return false;
        }
        self.due = self.waited + self.pause;
        self.pause = (2 * self.pause).min(PAUSES_MAX * self.patience);
        true
    }
}

/// A group does without a leader for less than that, however its election goes.
const HANG_ELECTIONS: u32 = 4;
/// A disk that others use as well may take as long for one sync.
const HANG_MIN: Duration = Duration::from_secs(1);
/// The longest pause, in times of the first.
const PAUSES_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(50);

    struct Scene {
        stall: Stall,
        now: Time,
    }

    impl Scene {
        fn new() -> Self {
            let consensus = ConsensusConfig { heartbeat_interval: STEP, ..Default::default() };
            assert!(HANG_ELECTIONS * consensus.election_timeout_max() > HANG_MIN);
            Self { stall: Stall::new(&consensus), now: Time(Duration::from_secs(9)) }
        }

        /// How many looks it takes until another is asked, if so many suffice.
        fn asked_after(&mut self, looks_max: u32) -> Option<u32> {
            (1..=looks_max).find(|_| {
                self.now = self.now.plus(STEP);
                self.stall.look(self.now)
            })
        }
    }

    #[test]
    fn a_disk_that_hangs_is_told_from_one_that_is_slow_and_from_one_that_has_nothing_to_do() {
        let mut scene = Scene::new();
        assert_eq!(scene.asked_after(1_000), None, "nothing was submitted");
        let patience = scene.stall.patience.as_millis() / STEP.as_millis();
        let patience = u32::try_from(patience).expect("it is short");
        for write in 1..=9 {
            scene.stall.submitted(WriteId(write + 1));
            assert_eq!(scene.asked_after(patience - 1), None, "it gets on");
            scene.stall.persisted(WriteId(write));
        }
        let asked = [(); 7].map(|()| scene.asked_after(1_000));
        let pauses = [1, 1, 2, 4, 8, 16, 16].map(|pause| Some(pause * patience));
        assert_eq!(asked, pauses);
        scene.stall.persisted(WriteId(10));
        assert_eq!(scene.asked_after(1_000), None, "nothing is left");
        scene.stall.submitted(WriteId(11));
        assert_eq!(scene.asked_after(1_000), Some(patience), "it begins anew");
    }

    #[test]
    fn a_process_that_was_stopped_hears_its_disk_before_it_speaks_of_hanging() {
        let mut scene = Scene::new();
        scene.stall.submitted(WriteId(1));
        for _ in 0..5 {
            scene.now = scene.now.plus(Duration::from_secs(3_600));
            assert!(!scene.stall.look(scene.now));
        }
    }
}
