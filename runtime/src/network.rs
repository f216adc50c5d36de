//! One node on the network: the table of contents, and the handle that all else is reached by.
//!
//! A [`Network`] is an endpoint with an identity: it dials peers by their id, and its door
//! brings those who dial it to the group or protocol they ask for. It knows nothing of Raft.

mod builder;
mod code;
mod congestion;
mod connections;
mod door;
mod entropy;
mod error;
mod framing;
#[cfg(test)]
mod garbage;
mod guest;
mod handshake;
mod link;
mod papers;
mod place;
mod quic;
mod registry;
mod secret;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use iroh::{
    Endpoint,
    endpoint::{ConnectOptions, Connection},
};
use raft::PeerId;
use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

pub use builder::NetworkBuilder;
pub use code::Code;
pub use error::NetworkError;
pub use link::{Link, LinkReceiver, LinkSender};
pub use secret::SecretKey;

pub(crate) use code::Refusal;
pub(crate) use door::{BOND_ALPN, within};
pub(crate) use framing::{CHUNK_BYTES_MAX, Deframer, HEADER_BYTES, header};
pub(crate) use handshake::{
    Card, Hello, HelloRole, MemberHello, Session, Talk, Welcome, connection_id,
};
pub(crate) use papers::Papers;
pub(crate) use quic::{open_lanes, trust};
pub(crate) use registry::{Applicant, Claim};

use crate::{
    Clock, GroupBuilder, GroupId, GroupKey,
    group::ClientBuilder,
    network::{
        congestion::BoundedCubic, connections::Connections, door::CLIENT_ALPN, registry::Registry,
        wire::Reach,
    },
};

/// A node on the network: an endpoint with an identity. A cheap handle.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

/// Another node and where it may be reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its public key.
    pub id: PeerId,
    /// Its UDP addresses.
    pub addresses: Vec<SocketAddr>,
}

/// A hash of the network's name: nodes of different networks do not talk to each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetworkId(pub(crate) [u8; 32]);

struct Inner {
    id: NetworkId,
    peer: Peer,
    reach: Reach,
    congestion: Arc<BoundedCubic>,
    clock: Arc<dyn Clock>,
    nonce: u64,
    draws: Mutex<Xoshiro256PlusPlus>,
    registry: Arc<Registry>,
    connections: Arc<Connections>,
    closing: watch::Sender<bool>,
    /// Taken out at shutdown: its port is free once the last clone is gone.
    endpoint: Mutex<Option<Endpoint>>,
    handshake_timeout: Duration,
    frame_bytes_max: usize,
}

impl Network {
    /// A node on the network of this name.
    pub fn builder(name: &str) -> NetworkBuilder {
        NetworkBuilder::new(name)
    }

    /// This node, as others may reach it.
    pub fn peer(&self) -> Peer {
        self.inner.peer.clone()
    }

    /// The network that this node is on.
    pub fn id(&self) -> NetworkId {
        self.inner.id
    }

    /// Where the node's time comes from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// A member of a group, to be described and joined. All members share the key.
    pub fn group(&self, key: GroupKey) -> GroupBuilder<()> {
        GroupBuilder::new(self.clone(), key)
    }

    /// A client of a group that this node is no member of, to be described and connected.
    pub fn client(&self, key: GroupKey) -> ClientBuilder {
        ClientBuilder::new(self.clone(), key)
    }

    /// Opens a link to a peer that [accepts](Self::accept) this protocol.
    ///
    /// # Errors
    /// A peer that cannot be reached in time, and what it says if it turns this node away.
    pub async fn dial(&self, peer: &Peer, protocol: &str) -> Result<Link, NetworkError> {
        let patience = self.inner.handshake_timeout;
        let dialed = within(&**self.clock(), patience, async {
            let connection = self.connect(peer, protocol.as_bytes(), None).await?;
            let greeted = self.explained(&connection, self.greet(&connection)).await;
            let talk = settle(&connection, greeted)?;
            Ok(self.link(connection, talk))
        });
        dialed.await.unwrap_or(Err(NetworkError::Timeout { peer: peer.id, patience }))
    }

    /// The next link that a peer dialed with this protocol; `None` once the node is shut down,
    /// and for a protocol that was not named to the builder.
    pub async fn accept(&self, protocol: &str) -> Option<Link> {
        self.inner.registry.accept(protocol.as_bytes()).await
    }

    /// Leaves the network: tells all groups and peers, and frees the port.
    ///
    /// Resolves when the peers know, or a second has passed. Further calls change nothing.
    pub async fn shutdown(&self) {
        self.inner.closing.send_replace(true);
        self.inner.registry.close();
        self.inner.connections.close(&Code::GracefulShutdown.because("this node leaves"));
        let endpoint = self.inner.endpoint.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(endpoint) = endpoint {
            // A peer that is gone never acknowledges; it learns from its own timeout.
            within(&**self.clock(), GOODBYE_MAX, endpoint.close()).await;
        }
    }

    /// A draw from the node's own seeded stream.
    pub(crate) fn draw(&self) -> u64 {
        self.inner.draws.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// Names this start of the process.
    pub(crate) fn nonce(&self) -> u64 {
        self.inner.nonce
    }

    /// This node's seat in the group, for who is about to join; `None` if it is in it already, or
    /// about to be.
    pub(crate) fn claim_group(&self, group: GroupId, key: &GroupKey) -> Option<Claim> {
        self.inner.registry.claim(group, key)
    }

    /// Whether this node is in the group already.
    #[cfg(test)]
    pub(crate) fn has_group(&self, group: GroupId) -> bool {
        self.inner.registry.has_group(group)
    }

    /// Resolves when the node leaves the network.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.inner.closing.subscribe()
    }

    /// Members of the group that prove its key come here, until [`Network::leave_group`].
    pub(crate) fn serve_members(
        &self,
        group: GroupId,
        key: &GroupKey,
    ) -> mpsc::Receiver<Applicant> {
        self.inner.registry.seat_members(group, key)
    }

    /// Clients of the group that prove its key come here, until [`Network::leave_group`].
    pub(crate) fn serve_clients(&self, group: GroupId, key: &GroupKey) -> mpsc::Receiver<Link> {
        self.inner.registry.seat_clients(group, key)
    }

    /// Nobody is let into the group any more.
    pub(crate) fn leave_group(&self, group: GroupId) {
        self.inner.registry.leave(group);
    }

    /// Opens a client's link to a member of the group; each has proved the key to the other.
    pub(crate) async fn dial_client(
        &self,
        peer: &Peer,
        group: GroupId,
        key: &GroupKey,
        handshake_timeout: Duration,
    ) -> Result<Link, NetworkError> {
        let dialed = within(&**self.clock(), handshake_timeout, async {
            let connection = self.connect(peer, CLIENT_ALPN, None).await?;
            let session = self.session(&connection, group);
            let introduced = self.introduce(&connection, &session, key, HelloRole::Client).await;
            let (talk, _) = settle(&connection, introduced)?;
            Ok(self.link(connection, talk))
        });
        let patience = handshake_timeout;
        dialed.await.unwrap_or(Err(NetworkError::Timeout { peer: peer.id, patience }))
    }

    /// Connects to a peer. With `idle` it is to be a bond, and breaks when nothing came for so
    /// long.
    pub(crate) async fn connect(
        &self,
        peer: &Peer,
        alpn: &[u8],
        idle: Option<Duration>,
    ) -> Result<Connection, NetworkError> {
        let endpoint = self.inner.endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let endpoint = endpoint.ok_or(NetworkError::ShutDown)?;
        let address = quic::address(peer, self.inner.reach)?;
        let mut options = ConnectOptions::new();
        if let Some(idle) = idle {
            options = options.with_transport_config(quic::bond_transport(
                idle,
                Arc::clone(&self.inner.congestion),
            ));
        }
        let unreachable = |reason: String| NetworkError::Unreachable { peer: peer.id, reason };
        let connecting = endpoint
            .connect_with_opts(address, alpn, options)
            .await
            .map_err(|error| unreachable(quic::causes(&error)))?;
        let connection = connecting.await.map_err(|error| unreachable(quic::causes(&error)))?;
        self.inner.connections.add(&connection);
        if *self.inner.closing.borrow() {
            return Err(NetworkError::ShutDown);
        }
        Ok(connection)
    }

    /// How many connections are open.
    #[cfg(test)]
    pub(crate) fn connections_open(&self) -> usize {
        self.inner.connections.open()
    }

    /// The connection's TLS session in the light of a group.
    pub(crate) fn session(&self, connection: &Connection, group: GroupId) -> Session {
        Session::of(connection, self.inner.peer.id, group)
    }

    /// The dialer's side of the handshake, up to the peer's proof of the key.
    pub(crate) async fn introduce(
        &self,
        connection: &Connection,
        session: &Session,
        key: &GroupKey,
        role: HelloRole,
    ) -> Result<(Talk, Welcome), Refusal> {
        let (group, proof, papers) = (session.group, session.proof(key), Papers::default());
        let hello = Hello { group, proof, role, papers };
        let welcomed = async {
            let mut talk = handshake::open(connection, self.inner.id).await?;
            talk.say(&hello).await?;
            talk.expect_preface(self.inner.id).await?;
            let welcome: Welcome = talk.hear().await?;
            Ok((talk, welcome))
        };
        let (talk, welcome) = self.explained(connection, welcomed).await?;
        session.verify(key, &welcome.proof)?;
        welcome.papers.check()?;
        Ok((talk, welcome))
    }

    async fn greet(&self, connection: &Connection) -> Result<Talk, Refusal> {
        let mut talk = handshake::open(connection, self.inner.id).await?;
        talk.expect_preface(self.inner.id).await?;
        Ok(talk)
    }

    /// Waits for the reason when the peer breaks a handshake off: the end of its streams may
    /// come before the close frame that says why, and is no reason itself.
    async fn explained<T>(
        &self,
        connection: &Connection,
        talk: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let outcome = talk.await;
        if let Err(Refusal { code: Code::UnexpectedClose | Code::InvalidHandshake, .. }) = outcome {
            within(&**self.clock(), REASON_MAX, connection.closed()).await;
        }
        outcome
    }

    fn link(&self, connection: Connection, talk: Talk) -> Link {
        let link = Link::new(connection, talk, self.inner.frame_bytes_max, None);
        link.trust();
        link
    }
}

/// Says who ended a handshake that went wrong: the peer, or this node, which then closes.
pub(crate) fn settle<T>(
    connection: &Connection,
    outcome: Result<T, Refusal>,
) -> Result<T, NetworkError> {
    let refusal = match outcome {
        Ok(done) => return Ok(done),
        Err(refusal) => refusal,
    };
    if connection.close_reason().is_some() {
        return Err(link::lost(connection));
    }
    refusal.close(connection);
    Err(NetworkError::refused(PeerId(*connection.remote_id().as_bytes()), refusal))
}

impl NetworkId {
    /// The id of the network of this name.
    pub fn of(name: &str) -> Self {
        Self(blake3::derive_key("tessera 2026 network", name.as_bytes()))
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..5].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkId({self})")
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network({} on {})", self.inner.peer.id, self.inner.id)
    }
}

/// How long a node that leaves waits for its peers to know.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// How long the reason for a broken handshake may come after its end.
const REASON_MAX: Duration = Duration::from_millis(500);
