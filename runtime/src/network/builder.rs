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
        congestion::BoundedCubic,
        connections::Connections,
        door::{BOND_ALPN, CLIENT_ALPN, Door},
        entropy::Entropy,
        guest::Guests,
        handshake::UNPROVEN_BYTES_MAX,
        place::Places,
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
    handshakes_per_address_max: usize,
    handshake_timeout: Duration,
    links_max: usize,
    links_per_peer_max: usize,
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
            handshakes_per_address_max: 64,
            handshake_timeout: Duration::from_secs(2),
            links_max: 1_024,
            links_per_peer_max: 64,
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

    /// How many connections may be in the middle of their handshake; more are refused before
    /// it begins. 256 if not given. From half of it on, dialers first show that they can be
    /// reached where they say they are.
    pub fn handshakes_max(mut self, handshakes_max: usize) -> Self {
        self.handshakes_max = handshakes_max;
        self
    }

    /// How many of these may come from one IPv4 address, or from one IPv6 network of 2^64
    /// addresses. One that was not let in counts for a second longer, so that an address which
    /// never gets in can cost no more than so many handshakes each second. 64 if not given.
    pub fn handshakes_per_address_max(mut self, handshakes_per_address_max: usize) -> Self {
        self.handshakes_per_address_max = handshakes_per_address_max;
        self
    }

    /// How many links others may hold to this node: clients of its groups, and those that dialed
    /// one of its protocols. More are refused by name. Members of its groups do not count. 1,024
    /// if not given.
    pub fn links_max(mut self, links_max: usize) -> Self {
        self.links_max = links_max;
        self
    }

    /// How many of these links one peer may hold. 64 if not given.
    pub fn links_per_peer_max(mut self, links_per_peer_max: usize) -> Self {
        self.links_per_peer_max = links_per_peer_max;
        self
    }

    /// How long a peer that dials may take to say who it is, from its first packet on. Two seconds
    /// if not given.
    pub fn handshake_timeout(mut self, handshake_timeout: Duration) -> Self {
        self.handshake_timeout = handshake_timeout;
        self
    }

    /// The largest frame of the program's own protocols, in bytes: 8 MiB if not given.
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
        let congestion = Arc::new(BoundedCubic::new(Arc::clone(&clock)));
        let endpoint = quic::bind(&wire, &secret, alpns.collect(), Arc::clone(&congestion)).await?;
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
            guests: Arc::new(Guests::new(self.links_max, self.links_per_peer_max)),
            places: Arc::new(Places::new(
                self.handshakes_max,
                self.handshakes_per_address_max,
                Arc::clone(&clock),
            )),
            handshake_timeout: self.handshake_timeout,
            frame_bytes_max: self.frame_bytes_max,
        };
        tokio::spawn(door.open(endpoint.clone(), closed));
        let inner = Inner {
            id,
            peer: Peer { id: secret.peer_id(), addresses: wire.addresses(&endpoint) },
            reach: wire.reach(),
            congestion,
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
        for (name, limit) in [
            ("handshakes_max", self.handshakes_max),
            ("handshakes_per_address_max", self.handshakes_per_address_max),
            ("links_max", self.links_max),
            ("links_per_peer_max", self.links_per_peer_max),
        ] {
            if limit == 0 {
                return wish(format!("{name} is 0, but must be at least 1"));
            }
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
