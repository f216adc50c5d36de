//! The door: takes connections in, asks who they are, and brings them where they belong.
//!
//! Invariant: a stranger costs one place out of a bounded number, for a bounded time, and
//! leaves nothing behind when it is turned away; one for whom there is no place costs no
//! handshake. What it costs whom, limit by limit, is told in `runtime/DOORS.md`.

use std::{future::Future, sync::Arc, time::Duration};

use metrics::counter;

use iroh::{
    Endpoint,
    endpoint::{Connection, Incoming},
};
use raft::PeerId;
use tokio::sync::{mpsc, watch};

use crate::{
    Clock, Link,
    metric::{DIALS_REFUSED, DIALS_RETRIED},
    network::{
        Code, NetworkId,
        code::Refusal,
        connections::Connections,
        guest::{Guest, Guests},
        handshake::{Hello, HelloRole, Session, Talk, Welcome},
        papers::Papers,
        place::{Knock, Origin, Place, Places},
        registry::{Applicant, Registry, Seat},
        wire,
    },
};

/// For members.
pub(crate) const BOND_ALPN: &[u8] = b"tessera/bond/4";
/// For clients that are no members.
pub(crate) const CLIENT_ALPN: &[u8] = b"tessera/client/2";

/// The door of one node.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) network: NetworkId,
    pub(crate) local: PeerId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) guests: Arc<Guests>,
    pub(crate) places: Arc<Places>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) frame_bytes_max: usize,
}

impl Door {
    /// Takes connections in until the node closes.
    pub(crate) async fn open(self, endpoint: Endpoint, mut closing: watch::Receiver<bool>) {
        loop {
            let incoming = tokio::select! {
                incoming = endpoint.accept() => incoming,
                _ = closing.wait_for(|closing| *closing) => None,
            };
            let Some(incoming) = incoming else { return };
            self.knock(incoming);
        }
    }

    /// Decides about a dial before it costs a handshake. Never waits: those behind it do.
    fn knock(&self, incoming: Incoming) {
        let origin = Origin::of(wire::origin(&incoming.remote_addr()));
        match self.places.take(origin, incoming.remote_addr_validated()) {
            Knock::Placed(place) => drop(tokio::spawn(self.clone().receive(incoming, place))),
            Knock::Unproven => {
                counter!(DIALS_RETRIED).increment(1);
                // Errs for a dial that cannot come back, and so will not.
                if let Err(error) = incoming.retry() {
                    error.into_incoming().refuse();
                }
            }
            Knock::Full(limit) => {
                counter!(DIALS_REFUSED, "limit" => limit).increment(1);
                incoming.refuse();
            }
        }
    }

    async fn receive(self, incoming: Incoming, place: Place) {
        let patience = self.clock.sleep_until(self.clock.now().plus(self.handshake_timeout));
        let mut patience = std::pin::pin!(patience);
        let connected = tokio::select! {
            connected = incoming.into_future() => connected,
            () = &mut patience => return Code::Timeout.count(),
        };
        let connection = match connected {
            Ok(connection) => connection,
            // Not even a TLS handshake: nobody to give a reason to.
            Err(_) => return Code::UnexpectedClose.count(),
        };
        self.connections.add(&connection);
        let admitted = tokio::select! {
            admitted = self.admit(&connection, place) => admitted,
            () = &mut patience => Err(Code::Timeout.because(format!(
                "no handshake within {:?}", self.handshake_timeout
            ))),
        };
        if let Err(refusal) = admitted {
            refusal.turn_away(&connection);
        }
    }

    async fn admit(&self, connection: &Connection, place: Place) -> Result<(), Refusal> {
        let known = |alpn| alpn == BOND_ALPN || alpn == CLIENT_ALPN;
        if !known(connection.alpn()) && !self.registry.has_protocol(connection.alpn()) {
            return Err(Code::InvalidAlpn.because("nobody listens for this protocol"));
        }
        let streams = connection.accept_bi().await;
        let mut talk = Talk::new(streams.map_err(|error| Refusal::of(&error))?);
        talk.expect_preface(self.network).await?;
        if !known(connection.alpn()) {
            return self.admit_user(connection, talk, place).await;
        }
        let hello: Hello = talk.hear().await?;
        let session = Session::of(connection, self.local, hello.group);
        let seat = self.registry.seat(hello.group, session.remote)?;
        session.verify(&seat.key, &hello.proof)?;
        hello.papers.check()?;
        match (connection.alpn() == BOND_ALPN, hello.role) {
            (true, HelloRole::Member(hello)) => {
                let Some(members) = seat.members else {
                    return Err(Code::GroupNotFound.because("this node takes no members in"));
                };
                let connection = connection.clone();
                let applicant = Applicant { connection, talk, session, hello, place };
                members.try_send(applicant).map_err(|error| no_room(&error))
            }
            (false, HelloRole::Client) => {
                self.admit_client(connection, talk, &session, seat).await?;
                place.let_in();
                Ok(())
            }
            _ => Err(Code::InvalidHandshake
                .because("members and clients have a protocol each, and this is the other's")),
        }
    }

    async fn admit_user(
        &self,
        connection: &Connection,
        mut talk: Talk,
        place: Place,
    ) -> Result<(), Refusal> {
        let guest = self.guests.receive(PeerId(*connection.remote_id().as_bytes()))?;
        talk.preface(self.network).await?;
        self.registry.deliver(connection.alpn(), self.link(connection, talk, guest))?;
        place.let_in();
        Ok(())
    }

    async fn admit_client(
        &self,
        connection: &Connection,
        mut talk: Talk,
        session: &Session,
        seat: Seat,
    ) -> Result<(), Refusal> {
        let Some(clients) = seat.clients else {
            return Err(Code::GroupNotFound.because("this node serves no clients"));
        };
        let guest = self.guests.receive(session.remote)?;
        // Room first: a client that is welcome is also served.
        let room = clients.try_reserve().map_err(|error| no_room(&error))?;
        talk.preface(self.network).await?;
        let (proof, papers) = (session.proof(&seat.key), Papers::default());
        talk.say(&Welcome { proof, card: None, papers }).await?;
        let link = self.link(connection, talk, guest);
        link.trust();
        room.send(link);
        Ok(())
    }

    fn link(&self, connection: &Connection, talk: Talk, guest: Guest) -> Link {
        Link::new(connection.clone(), talk, self.frame_bytes_max, Some(guest))
    }
}

fn no_room<T>(error: &mpsc::error::TrySendError<T>) -> Refusal {
    match error {
        mpsc::error::TrySendError::Full(_) => {
            Code::NoCapacity.because("too many are waiting to be let in")
        }
        mpsc::error::TrySendError::Closed(_) => {
            Code::GroupNotFound.because("this node is leaving the group")
        }
    }
}

/// Runs `work` for at most as long as the clock says.
pub(crate) async fn within<T>(
    clock: &dyn Clock,
    patience: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = clock.sleep_until(clock.now().plus(patience)) => None,
    }
}
