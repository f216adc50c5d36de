//! Wrong answers to the question who counts towards a leader's quorum, for tests of the checks.
//!
//! The right answer is the voters of the configuration in force, and stands in `leader.rs`.

use std::collections::BTreeSet;

use super::Leader;
use crate::{NodeId, Planted, server::Server};

impl Leader {
    /// Who counts instead of the voters, if that rule is broken here.
    pub(super) fn miscounted(&self, server: &Server) -> Option<BTreeSet<NodeId>> {
        let configuration = server.configuration();
        if server.plant.breaks(Planted::LearnerCounts) {
            return Some(configuration.members().collect());
        }
        let lives = |voter: &&NodeId| {
            let silence = self.followers.get(*voter).map(|follower| follower.heard());
            silence
                .is_none_or(|heard| server.now.since(heard) <= server.config.election_timeout_max)
        };
        let live = || configuration.voters.iter().filter(lives).copied().collect();
        server.plant.breaks(Planted::LiveQuorum).then(live)
    }
}
