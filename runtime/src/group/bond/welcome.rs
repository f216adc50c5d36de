//! Lets a peer in that has dialed and proved the group's key.
//!
//! Invariant: a bond stands only once the dialer has shown, by its first lane, that it has heard
//! the welcome; a dialer that died meanwhile never displaces a bond that lives.

use std::sync::Arc;

use iroh::endpoint::RecvStream;
use raft::NodeId;
use tokio::sync::mpsc;

use crate::{
    group::bond::{
        Side,
        keep::{self, Kept},
        lane::Lane,
        table::{Bond, Claim, Told},
    },
    network::{Applicant, Code, Papers, Refusal, Welcome, open_lanes, within},
};

/// Lets the applicant in, or turns it away.
pub(super) async fn receive(side: Arc<Side>, tell: mpsc::Sender<Told>, applicant: Applicant) {
    let connection = applicant.connection.clone();
    let patience = side.member.consensus.handshake_timeout;
    let welcomed = within(&*side.clock, patience, welcome(&side, &tell, applicant)).await;
    let late = || Code::Timeout.because(format!("no handshake within {patience:?}"));
    if let Err(refusal) = welcomed.unwrap_or_else(|| Err(late()))
        // A dialer that thought better of it was not turned away.
        && connection.close_reason().is_none()
    {
        refusal.turn_away(&connection);
    }
}

async fn welcome(
    side: &Arc<Side>,
    tell: &mpsc::Sender<Told>,
    applicant: Applicant,
) -> Result<(), Refusal> {
    let Applicant { connection, mut talk, session, hello, place } = applicant;
    let node = NodeId { peer: session.remote, store: hello.card.store };
    let foreign = side.foreign(node.peer, &hello.card);
    if foreign.is_none() {
        side.admit(node, &hello.card)?;
    }
    let parties = (false, side.me, node.peer);
    let dial = (hello.attempt, hello.lost);
    let claim = Claim::new(&connection, parties, hello.card.nonce, dial);
    if foreign.is_none() {
        side.table.weigh(&claim)?;
    }
    open_lanes(&connection);
    talk.preface(side.network.id()).await?;
    let proof = session.proof(&side.member.key);
    let (card, papers) = (Some(side.card()), Papers::default());
    talk.say(&Welcome { proof, card, papers }).await?;
    if let Some(foreign) = foreign {
        // Each has proved itself and shown its lineage: now both know, and the dialer closes.
        Code::DifferentLineage.count();
        tell.send(Told::Foreign(foreign)).await.map_err(gone)?;
        connection.closed().await;
        return Ok(());
    }
    let confirmed = confirm(connection.accept_uni().await.map_err(|error| Refusal::of(&error))?);
    let confirmed = confirmed.await?;
    let bond = Bond::open(side, connection, claim, hello.card).await?;
    let room = tell.reserve().await.map_err(gone)?;
    let replaced = side.table.install(&bond, room, &side.member.admittance.borrow())?;
    place.let_in();
    keep::spawn(side, tell, Kept { bond, confirmed: Some(confirmed), replaced });
    Ok(())
}

fn gone<T>(_: mpsc::error::SendError<T>) -> Refusal {
    Code::GracefulShutdown.because("this member leaves the group")
}

/// The dialer opens its control lane first.
async fn confirm(mut stream: RecvStream) -> Result<RecvStream, Refusal> {
    let mut name = [0];
    stream
        .read_exact(&mut name)
        .await
        .map_err(|_| Code::UnexpectedClose.because("the connection broke during the handshake"))?;
    match Lane::named(name[0]) {
        Some(Lane::Control) => Ok(stream),
        _ => Err(Code::ProtocolViolation.because("the first lane must be the control lane")),
    }
}
