//! Dials a peer, again and again, while there is no bond with it.
//!
//! Each peer has its own timer. Invariant: there is never more than one dial of a peer under
//! way, and what a peer does cannot make this node dial it faster than the backoff allows.

use std::{sync::Arc, time::Duration};

use raft::{NodeId, PeerId};
use tokio::sync::{mpsc, watch};

use crate::{
    Peer,
    group::bond::{
        Admittance, Side,
        keep::{self, Kept},
        part,
        table::{Bond, Claim, Told},
    },
    network::{BOND_ALPN, Code, HelloRole, MemberHello, NetworkError, settle, within},
};

/// The pauses between dials: doubling, with jitter.
struct Backoff {
    next: Duration,
    min: Duration,
    max: Duration,
}

/// Dials whenever there is no bond. Ends only with its task.
pub(super) async fn dial_for_ever(side: Arc<Side>, tell: mpsc::Sender<Told>, peer: PeerId) {
    let mut bonded = side.table.watch(peer);
    let consensus = &side.member.consensus;
    let mut backoff = Backoff::new(consensus.redial_backoff_min, consensus.redial_backoff_max);
    // Of two that start together the lower dials first: its dial is the one that is kept. The
    // higher waits a moment, but never relies on it.
    let mut pause = match side.me < peer {
        true => Duration::ZERO,
        false => consensus.redial_backoff_min,
    };
    // Nor once it knows that the group was there before it, which has not heard of it yet.
    let mut admittance = side.member.admittance.clone();
    let mut may_be_new = admittance.borrow().lineage.is_none();
    loop {
        let wait = side.clock.sleep_until(side.clock.now().plus(pause));
        let came = tokio::select! {
            came = bonded.wait_for(|bonded| *bonded) => came.is_ok(),
            () = wait => false,
            () = adopted(&mut admittance), if may_be_new => false,
        };
        may_be_new = false;
        if !came {
            match attempt(&side, &tell, &side.wanted(peer)).await {
                Ok(outcome) => side.metrics.dialed(outcome),
                Err(error) => {
                    tracing::debug!(%error, "no bond");
                    side.metrics.dialed(outcome_of(&error));
                    pause = backoff.grow(side.network.draw());
                    continue;
                }
            }
        }
        let since = side.clock.now();
        if bonded.wait_for(|bonded| !*bonded).await.is_err() {
            return;
        }
        let stood = side.clock.now().since(since);
        pause = backoff.after_bond(stood, side.network.draw());
    }
}

/// Resolves once this node is of the lineage of somebody whom it met.
async fn adopted(admittance: &mut watch::Receiver<Admittance>) {
    if admittance.wait_for(|admittance| admittance.lineage.is_some()).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// One dial. Ends early if the peer's own dial comes first.
pub(super) async fn attempt(
    side: &Arc<Side>,
    tell: &mpsc::Sender<Told>,
    peer: &Peer,
) -> Result<&'static str, NetworkError> {
    let patience = side.member.consensus.handshake_timeout;
    let dialed = within(&*side.clock, patience, bond(side, tell, peer)).await;
    dialed.unwrap_or(Err(NetworkError::Timeout { peer: peer.id, patience }))
}

async fn bond(
    side: &Arc<Side>,
    tell: &mpsc::Sender<Told>,
    peer: &Peer,
) -> Result<&'static str, NetworkError> {
    let mut bonded: watch::Receiver<bool> = side.table.watch(peer.id);
    // QUIC gives up well after the bond would; the bond's own heartbeats judge first.
    let idle = 2 * side.silence_max() + Duration::from_secs(1);
    let connection = tokio::select! {
        connection = side.network.connect(peer, BOND_ALPN, Some(idle)) => connection?,
        // Before our hello the peer knows nothing of this dial, so that it can be dropped.
        _ = bonded.wait_for(|bonded| *bonded) => return Ok("overtaken"),
    };
    let Some((attempt, lost)) = side.table.begin(peer.id) else {
        Code::Cancelled.because("the peer's own dial came first").close(&connection);
        return Ok("overtaken");
    };
    let session = side.network.session(&connection, side.member.group);
    let card = side.card();
    let role = HelloRole::Member(MemberHello { card, attempt, lost });
    let introduced = side.network.introduce(&connection, &session, &side.member.key, role).await;
    let (_talk, welcome) = settle(&connection, introduced)?;
    let card = welcome
        .card
        .ok_or_else(|| Code::InvalidHandshake.because("a member's welcome without its card"));
    let card = settle(&connection, card)?;
    let node = NodeId { peer: peer.id, store: card.store };
    if let Some(foreign) = side.foreign(peer.id, &card) {
        // Errs once nobody listens any more.
        drop(tell.send(Told::Foreign(foreign)).await);
    }
    settle(&connection, side.admit(node, &card))?;
    let parties = (true, side.me, peer.id);
    let claim = Claim::new(&connection, parties, card.nonce, (attempt, lost));
    settle(&connection, side.table.weigh(&claim))?;
    let bond = settle(&connection, Bond::open(side, connection.clone(), claim, card).await)?;
    let Ok(room) = tell.reserve().await else { return Err(NetworkError::ShutDown) };
    let installed = side.table.install(&bond, room, &side.member.admittance.borrow());
    let replaced = settle(&connection, installed)?;
    // What is replaced stays open until the peer's first lane shows that it has let us in.
    keep::spawn(side, tell, Kept { bond, confirmed: None, replaced });
    Ok("bonded")
}

impl Backoff {
    fn new(min: Duration, max: Duration) -> Self {
        Self { next: min, min, max }
    }

    /// The pause after a failed dial.
    fn grow(&mut self, draw: u64) -> Duration {
        let half = self.next / 2;
        self.next = (2 * self.next).min(self.max);
        // Half fixed, half drawn: nodes that lost each other together do not dial in step.
        half + part(half, draw)
    }

    /// The pause after a bond that stood for so long. One that did not last is no success: a
    /// peer that keeps misbehaving is dialed ever less.
    fn after_bond(&mut self, stood: Duration, draw: u64) -> Duration {
        if stood >= self.max {
            self.next = self.min;
        }
        self.grow(draw)
    }
}

fn outcome_of(error: &NetworkError) -> &'static str {
    match error {
        NetworkError::Closed { code, .. } | NetworkError::Refused { code, .. } => code.name(),
        NetworkError::Timeout { .. } => "timeout",
        NetworkError::ShutDown => "shut_down",
        _ => "unreachable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_their_bounds_and_only_a_lasting_bond_resets_them() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(20), ms(100));
        for full in [20, 40, 80, 100, 100].map(ms) {
            for draw in [0, u64::MAX] {
                let mut fork = Backoff { ..backoff };
                let pause = fork.grow(draw);
                assert!((full / 2..=full).contains(&pause), "{pause:?} of {full:?}");
            }
            backoff.grow(7);
        }
        assert!(backoff.after_bond(ms(99), 7) >= ms(50), "a short bond is no success");
        assert!(backoff.after_bond(ms(100), 7) <= ms(20), "a lasting one is");
    }
}
