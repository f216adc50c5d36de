//! The dials of a client that has no link: whose turn it is, when, and who is dialed now.
//!
//! A node that is gone does not say so. One that has not let us in for a while is not waited for:
//! the next is dialed beside it, another beside these only if they stay silent for longer, and the
//! first that lets us in wins. Knows no clock and no network. Invariants: each member waits for
//! its turn, is dialed, or is the one that we are linked to, so none is dialed twice at a time; no
//! more than [`DIALS_MAX`] are, and none once one let us in.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use raft::Time;
use tokio::task::{Id, JoinSet};

use crate::group::ConsensusConfig;

/// See the module. Members go by their places among all that the client knows.
pub(super) struct Dials<L> {
    members: u32,
    /// Those that wait, the next one first.
    turns: VecDeque<usize>,
    /// In the order in which they were dialed.
    dialed: BTreeMap<Id, usize>,
    under_way: JoinSet<Result<L, String>>,
    /// Not to dial before.
    at: Time,
    failures: u32,
}

impl<L: Send + 'static> Dials<L> {
    /// Of so many members, beginning with the one at that place.
    pub(super) fn new(members: usize, first: usize) -> Self {
        Self {
            members: u32::try_from(members).unwrap_or(u32::MAX).max(1),
            turns: (0..members).map(|turn| (first + turn) % members).collect(),
            dialed: BTreeMap::new(),
            under_way: JoinSet::new(),
            at: Time::default(),
            failures: 0,
        }
    }

    /// When the next may be dialed; never while nobody waits, or as many are dialed as may be.
    pub(super) fn due(&self) -> Option<Time> {
        let has_room = !self.turns.is_empty() && self.dialed.len() < DIALS_MAX;
        has_room.then_some(self.at)
    }

    /// Whom to dial now, if it is time.
    pub(super) fn turn(&self, now: Time) -> Option<usize> {
        let is_time = self.due().is_some_and(|due| due <= now);
        self.turns.front().copied().filter(|_| is_time)
    }

    /// Dials that one. The next has its turn once those that are dialed have been silent for too
    /// long and, as after one that failed, a pause has passed.
    pub(super) fn begin(
        &mut self,
        place: usize,
        now: Time,
        consensus: &ConsensusConfig,
        draw: u64,
        dialing: impl Future<Output = Result<L, String>> + Send + 'static,
    ) {
        self.turns.retain(|waits| *waits != place);
        let id = self.under_way.spawn(dialing).id();
        self.dialed.insert(id, place);
        assert!(self.dialed.len() <= DIALS_MAX, "{} dials at a time", self.dialed.len());
        let silence = patience(consensus, self.dialed.len());
        self.at = now.plus(silence + pause(consensus, self.round(), draw));
    }

    /// The next that ends, and whom it dialed; never resolves while nobody is dialed. Where it
    /// brings a link, all others have been let go.
    pub(super) async fn ended(&mut self) -> (usize, Result<L, String>) {
        let Some(ended) = self.under_way.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Err(error.to_string())),
        };
        let place = self.dialed.remove(&id).expect("each task is a dial of somebody");
        match &outcome {
            Ok(_) => self.let_go(),
            Err(_) => self.turns.push_back(place),
        }
        (place, outcome)
    }

    /// That one has let us in without a dial of these.
    pub(super) fn linked(&mut self, place: usize) {
        self.turns.retain(|waits| *waits != place);
    }

    /// The link with that one is gone: it comes last.
    pub(super) fn parted(&mut self, place: usize) {
        assert!(!self.turns.contains(&place), "member {place} waits while we are linked to it");
        self.turns.push_back(place);
    }

    /// That one comes next, if it waits.
    pub(super) fn prefer(&mut self, place: usize) {
        if self.turns.contains(&place) {
            self.turns.retain(|waits| *waits != place);
            self.turns.push_front(place);
        }
    }

    /// The next need not wait.
    pub(super) fn hurry(&mut self, now: Time) {
        self.at = now;
    }

    /// One has failed: the next waits a little.
    pub(super) fn back_off(&mut self, now: Time, consensus: &ConsensusConfig, draw: u64) {
        let pause = pause(consensus, self.round(), draw);
        self.failures = self.failures.saturating_add(1);
        self.at = now.plus(pause);
    }

    /// One serves us: what failed before is forgotten.
    pub(super) fn served(&mut self) {
        self.failures = 0;
    }

    /// Each member gets its turn before the pause grows.
    fn round(&self) -> u32 {
        self.failures / self.members
    }

    /// Dropped, a dial closes its connection, and so does a link that came a moment too late.
    fn let_go(&mut self) {
        self.under_way = JoinSet::new();
        self.turns.extend(std::mem::take(&mut self.dialed).into_values());
    }
}

/// How long so many dials may keep silent before there is one more.
///
/// One is mostly of a node that is gone, and nobody should wait for that. Two are seldom both: it
/// may be all of them that are slow, and each dial that is let go keeps a place from others of our
/// address for a while. So they are given more, and a good part of what a handshake may take.
fn patience(consensus: &ConsensusConfig, under_way: usize) -> Duration {
    let silence = consensus.client_silence_max;
    match under_way {
        ..=1 => silence,
        _ => (2 * silence).max(consensus.handshake_timeout / HANDSHAKE_PARTS),
    }
}

/// How long to leave members alone that did not serve us for so many rounds.
pub(super) fn pause(consensus: &ConsensusConfig, round: u32, draw: u64) -> Duration {
    let doubled = consensus.redial_backoff_min.saturating_mul(1 << round.min(10));
    let half = doubled.min(consensus.redial_backoff_max) / 2;
    // Half fixed, half drawn: clients that lost a node together do not come back in step.
    half + Duration::from_nanos(draw % (half.as_nanos() as u64).max(1))
}

/// Dials of one client at a time. So many members of five or six that are gone hold nobody up.
pub(super) const DIALS_MAX: usize = 3;
/// The third dial comes no sooner than this part of a handshake's longest time after the second.
const HANDSHAKE_PARTS: u32 = 4;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{ConsensusProfile, group::samples::until};

    const DRAW: u64 = 7;

    /// Dials in a time that goes on when somebody waits for it.
    struct Scene {
        dials: Dials<&'static str>,
        consensus: ConsensusConfig,
        now: Time,
        /// Each dial without an answer holds one more of it.
        held: Arc<()>,
    }

    impl Scene {
        fn new(members: usize, first: usize) -> Self {
            Self {
                dials: Dials::new(members, first),
                consensus: ConsensusProfile::Lan.config(),
                now: Time::default(),
                held: Arc::default(),
            }
        }

        /// Waits until somebody may be dialed.
        fn turn(&mut self) -> Option<usize> {
            self.now = self.now.max(self.dials.due()?);
            self.dials.turn(self.now)
        }

        /// Dials the next one, who says nothing.
        fn in_vain(&mut self) -> Option<usize> {
            let place = self.turn()?;
            let held = Arc::clone(&self.held);
            let dialing = async move {
                let _held = held;
                std::future::pending::<Result<&'static str, String>>().await
            };
            self.dials.begin(place, self.now, &self.consensus, DRAW, dialing);
            Some(place)
        }

        /// Dials the next one, who answers so.
        async fn answered(&mut self, answer: Result<&'static str, &'static str>) -> usize {
            let dialed = self.turn().expect("somebody waits");
            let dialing = std::future::ready(answer.map_err(str::to_owned));
            self.dials.begin(dialed, self.now, &self.consensus, DRAW, dialing);
            let (place, outcome) = self.dials.ended().await;
            assert_eq!((place, outcome), (dialed, answer.map_err(str::to_owned)));
            place
        }

        fn back_off(&mut self) {
            self.dials.back_off(self.now, &self.consensus, DRAW);
        }

        fn unanswered(&self) -> usize {
            Arc::strong_count(&self.held) - 1
        }
    }

    #[tokio::test]
    async fn beside_a_member_that_says_nothing_others_are_dialed_but_no_more_than_may_be() {
        let mut scene = Scene::new(5, 3);
        let mut dialed = Vec::new();
        while let Some(place) = scene.in_vain() {
            dialed.push((place, scene.now));
        }
        let places: Vec<_> = dialed.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [3, 4, 0]);
        assert_eq!(scene.unanswered(), DIALS_MAX);
        // Two that are silent are given twice as long as one.
        for (pair, silences) in dialed.windows(2).zip([1_u32, 2]) {
            let gap = pair[1].1.since(pair[0].1);
            let least = silences * scene.consensus.client_silence_max;
            let most = least + scene.consensus.redial_backoff_min;
            assert!(gap > least && gap <= most, "{gap:?}");
        }
        let handshake = scene.consensus.handshake_timeout;
        assert!(scene.now.0 < handshake / 2, "the third only at {:?}", scene.now);
    }

    #[tokio::test]
    async fn where_handshakes_may_take_many_silences_only_the_second_dial_comes_as_soon() {
        let mut scene = Scene::new(5, 0);
        scene.consensus = ConsensusProfile::Loopback.config();
        let mut dialed = Vec::new();
        while scene.in_vain().is_some() {
            dialed.push(scene.now);
        }
        let gaps: Vec<_> = dialed.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        let (silence, part) =
            (scene.consensus.client_silence_max, scene.consensus.handshake_timeout / 4);
        let most = |least: Duration| least + scene.consensus.redial_backoff_min;
        assert!(part > 5 * silence, "it is far more than two of them");
        assert_eq!(gaps.len(), 2, "{gaps:?}");
        assert!(gaps[0] > silence && gaps[0] <= most(silence), "{gaps:?}");
        assert!(gaps[1] > part && gaps[1] <= most(part), "{gaps:?}");
    }

    #[tokio::test]
    async fn the_first_member_that_lets_us_in_wins_and_the_other_dials_are_let_go() {
        let mut scene = Scene::new(5, 0);
        assert_eq!([scene.in_vain(), scene.in_vain()], [Some(0), Some(1)]);
        assert_eq!(scene.unanswered(), 2);
        assert_eq!(scene.answered(Ok("a link")).await, 2);
        until("the end of the others", || scene.unanswered() == 0).await;
        scene.dials.parted(2);
        assert_eq!(scene.dials.turns, [3, 4, 0, 1, 2], "who was not asked yet comes first");
    }

    #[tokio::test]
    async fn no_dial_outlives_its_client() {
        let mut scene = Scene::new(3, 0);
        assert_eq!([scene.in_vain(), scene.in_vain()], [Some(0), Some(1)]);
        let held = Arc::clone(&scene.held);
        drop(scene);
        until("the end of both", || Arc::strong_count(&held) == 1).await;
    }

    #[tokio::test]
    async fn a_dial_that_fails_makes_room_for_the_next_after_a_pause() {
        let mut scene = Scene::new(4, 0);
        assert_eq!([scene.in_vain(), scene.in_vain()], [Some(0), Some(1)]);
        assert_eq!(scene.answered(Err("no")).await, 2);
        scene.back_off();
        let failed = scene.now;
        assert_eq!(scene.in_vain(), Some(3));
        assert_eq!(scene.now.since(failed), pause(&scene.consensus, 0, DRAW));
        assert_eq!(scene.in_vain(), None, "there are as many as may be");
        assert_eq!(scene.unanswered(), DIALS_MAX);
    }

    #[tokio::test]
    async fn where_all_refuse_pauses_grow_once_each_has_had_its_turn() {
        let mut scene = Scene::new(3, 1);
        for round in 0..4 {
            for place in [1, 2, 0] {
                assert_eq!(scene.answered(Err("no")).await, place);
                scene.back_off();
                let due = scene.dials.due().expect("nobody is dialed");
                assert_eq!(due.since(scene.now), pause(&scene.consensus, round, DRAW));
            }
        }
        scene.dials.served();
        scene.back_off();
        let due = scene.dials.due().expect("nobody is dialed");
        assert_eq!(due.since(scene.now), pause(&scene.consensus, 0, DRAW));
    }

    #[tokio::test]
    async fn a_leader_that_was_named_comes_next_and_the_node_that_was_left_last() {
        let mut scene = Scene::new(4, 1);
        assert_eq!(scene.answered(Ok("a link")).await, 1);
        scene.dials.parted(1);
        scene.dials.prefer(3);
        assert_eq!(scene.dials.turns, [3, 2, 0, 1]);
        scene.dials.linked(2);
        assert_eq!(scene.dials.turns, [3, 0, 1], "it has let us in");
        scene.dials.prefer(2);
        assert_eq!(scene.dials.turns, [3, 0, 1], "it does not wait");
    }
}
