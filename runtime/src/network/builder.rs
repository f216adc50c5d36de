//! From wishes to a node on the network. Invariant: nothing listens for a wish that cannot be met.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::Rng;
use tokio::sync::watch;

#[cfg(feature = "datagram")]
use crate::transport::DatagramSocket;
use crate::{
    Clock, SystemClock, metric,
    network::{
        Inner, Network, NetworkError, NetworkId, Peer, SecretKey,
        connections::Connections,
        door::{BOND_ALPN, CLIENT_ALPN, Door},
        entropy::Entropy,
        handshake::UNPROVEN_BYTES_MAX,
        quic,
        registry::Registry,
        wire::Wire,
    },
};

/// Where and as whom a node listens.
#[must_use = "a builder does nothing until `build`"]
#[derive(Debug)]
pub struct NetworkBuilder {
    name: String,
    secret: Option<SecretKey>,
    address: Option<SocketAddr>,
    #[cfg(feature = "datagram")]
    datagrams: Option<Arc<dyn DatagramSocket>>,
    clock: Option<Arc<dyn Clock>>,
    seed: Option<u64>,
    protocols: BTreeSet<String>,
    handshakes_max: usize,
    handshake_timeout: Duration,
    frame_bytes_max: usize,
}

impl NetworkBuilder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            secret: None,
            address: None,
            #[cfg(feature = "datagram")]
            datagrams: None,
            clock: None,
            seed: None,
            protocols: BTreeSet::new(),
            handshakes_max: 256,
            handshake_timeout: Duration::from_secs(2),
            frame_bytes_max: 8 << 20,
        }
    }

    /// Who the node is; drawn if not given.
    pub fn secret_key(mut self, secret: SecretKey) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Where to listen: `0.0.0.0:0`, all IPv4 interfaces and any free port, if not given.
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Carries everything over this socket, which is bound, and nothing over the host's UDP.
    /// Addresses of peers stay socket addresses: those that this socket understands. Not
    /// together with [`bind`](Self::bind).
    #[cfg(feature = "datagram")]
    pub fn datagrams(mut self, socket: Arc<dyn DatagramSocket>) -> Self {
        self.datagrams = Some(socket);
        self
    }

    /// Where the node's time comes from; the host's clock if not given. QUIC keeps the host's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The seed of all the node draws; from the host if not given. Starts at different wall
    /// times draw differently all the same.
    pub fn entropy(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// A protocol of the program's own, for [`Network::dial`] and [`Network::accept`].
    pub fn protocol(mut self, name: &str) -> Self {
        self.protocols.insert(name.into());
        self
    }

    /// How many connections may be in the middle of their handshake; more are refused.
    pub fn handshakes_max(mut self, handshakes_max: usize) -> Self {
        self.handshakes_max = handshakes_max;
        self
    }

    /// How long a peer that dials may take to say who it is.
    pub fn handshake_timeout(mut self, handshake_timeout: Duration) -> Self {
        self.handshake_timeout = handshake_timeout;
        self
    }

    /// The largest frame of a client's link and of the program's own protocols.
    pub fn frame_bytes_max(mut self, frame_bytes_max: usize) -> Self {
        self.frame_bytes_max = frame_bytes_max;
        self
    }

    /// Puts the node on the network.
    ///
    /// # Errors
    /// Wishes that cannot work, and an address that cannot be had.
    pub async fn build(self) -> Result<Network, NetworkError> {
        self.check()?;
        let wire = self.wire()?;
        metric::describe();
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let entropy = Entropy::new(self.seed, clock.wall());
        let secret =
            self.secret.unwrap_or_else(|| SecretKey::from_bytes(entropy.bytes("secret key")));
        let protocols: Vec<Vec<u8>> =
            self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let alpns = protocols.iter().cloned().chain([BOND_ALPN.to_vec(), CLIENT_ALPN.to_vec()]);
        let endpoint = quic::bind(&wire, &secret, alpns.collect()).await?;
        let id = NetworkId::of(&self.name);
        let registry = Arc::new(Registry::new(protocols));
        let connections = Arc::new(Connections::default());
        let (closing, closed) = watch::channel(false);
        let door = Door {
            network: id,
            local: secret.peer_id(),
            clock: Arc::clone(&clock),
            registry: Arc::clone(&registry),
            connections: Arc::clone(&connections),
            handshakes_max: self.handshakes_max,
            handshake_timeout: self.handshake_timeout,
            frame_bytes_max: self.frame_bytes_max,
        };
        tokio::spawn(door.open(endpoint.clone(), closed));
        let inner = Inner {
            id,
            peer: Peer { id: secret.peer_id(), addresses: wire.addresses(&endpoint) },
            reach: wire.reach(),
            clock,
            nonce: entropy.stream("nonce").next_u64(),
            draws: Mutex::new(entropy.stream("draw")),
            registry,
            connections,
            closing,
            endpoint: Mutex::new(Some(endpoint)),
            handshake_timeout: self.handshake_timeout,
            frame_bytes_max: self.frame_bytes_max,
        };
        Ok(Network { inner: Arc::new(inner) })
    }

    /// What the node listens on.
    fn wire(&self) -> Result<Wire, NetworkError> {
        let address = self.address.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
        #[cfg(feature = "datagram")]
        if let Some(socket) = &self.datagrams {
            let Some(address) = self.address else {
                return Ok(Wire::Datagrams(Arc::clone(socket)));
            };
            return Err(NetworkError::Wish(format!(
                "bind ({address}) and datagrams ({}) were both given: a node listens on one",
                socket.local_address()
            )));
        }
        Ok(Wire::Host(address))
    }

    fn check(&self) -> Result<(), NetworkError> {
        let wish = |text: String| Err(NetworkError::Wish(text));
        for name in &self.protocols {
            if name.is_empty() || name.len() > PROTOCOL_BYTES_MAX {
                return wish(format!(
                    "protocol name {name:?} must have 1 to {PROTOCOL_BYTES_MAX} bytes"
                ));
            }
            if name.starts_with("tessera/") {
                return wish(format!("protocol names under tessera/ are taken: {name:?}"));
            }
        }
        if self.handshakes_max == 0 {
            return wish("handshakes_max is 0, but must be at least 1".into());
        }
        if self.handshake_timeout.is_zero() {
            return wish("handshake_timeout is 0, but must be longer".into());
        }
        if !(UNPROVEN_BYTES_MAX..=1 << 30).contains(&self.frame_bytes_max) {
            return wish(format!(
                "frame_bytes_max is {}, but must lie between {UNPROVEN_BYTES_MAX} and {}",
                self.frame_bytes_max,
                1 << 30
            ));
        }
        Ok(())
    }
}

/// What TLS allows for the name of a protocol.
const PROTOCOL_BYTES_MAX: usize = 255;
