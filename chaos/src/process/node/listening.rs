//! How a node comes to listen: on the host's own transport, or on a socket that can be hurt.
//!
//! Invariant: a link that shall be hurt is so before anything listens.

use std::{sync::Arc, time::Duration};

use runtime::{Clock, Network, NetworkBuilder, SecretKey};

use super::clock::NodeClock;
use crate::{
    member::{NETWORK, nanos},
    process::{
        HostClock, PacketSocket,
        control::{Init, LinkSetting, Transport},
    },
    seed::{Seed, mix},
};

/// A network, and the socket below it if that can be hurt.
pub(super) struct Listening {
    pub(super) network: Network,
    pub(super) socket: Option<Arc<PacketSocket>>,
    pub(super) clock: Arc<NodeClock>,
}

impl Listening {
    /// Listens. A port that was just given up may be taken for a moment: it is waited for.
    pub(super) async fn start(init: &Init) -> Result<Self, String> {
        let deadline = HostClock.now().plus(BIND_BOUND);
        loop {
            match Self::attempt(init).await {
                Ok(listening) => return Ok(listening),
                Err(error) if HostClock.now() < deadline && init.bind.port() != 0 => {
                    eprintln!("waits for its address: {error}");
                    HostClock.sleep_until(HostClock.now().plus(BIND_PAUSE)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(init: &Init) -> Result<Self, String> {
        let clock = Arc::new(NodeClock::new(init.clock));
        let builder = Network::builder(NETWORK)
            .secret_key(SecretKey::from_bytes(init.secret))
            .clock(Arc::<NodeClock>::clone(&clock))
            .handshakes_per_address_max(ONE_ADDRESS_HANDSHAKES_MAX)
            .entropy(entropy(init));
        let (builder, socket) = match &init.transport {
            Transport::Host => (builder.bind(init.bind), None),
            Transport::Packets { links } => {
                let socket = socket(init, links)?;
                (over(builder, &socket), Some(socket))
            }
        };
        let network = builder.build().await.map_err(|error| error.to_string())?;
        Ok(Self { network, socket, clock })
    }
}

fn over(builder: NetworkBuilder, socket: &Arc<PacketSocket>) -> NetworkBuilder {
    builder.datagrams(Arc::<PacketSocket>::clone(socket))
}

fn socket(init: &Init, links: &[LinkSetting]) -> Result<Arc<PacketSocket>, String> {
    let socket = PacketSocket::bind(init.bind, Seed(init.entropy));
    let socket = socket.map_err(|error| format!("cannot listen on {}: {error}", init.bind))?;
    set(&socket, links)?;
    Ok(Arc::new(socket))
}

/// Has this befall the links.
pub(super) fn set(socket: &PacketSocket, links: &[LinkSetting]) -> Result<(), String> {
    links.iter().try_for_each(|LinkSetting { remote, direction, faults }| {
        let set = socket.set(*remote, *direction, faults.clone());
        set.map_err(|error| error.to_string())
    })
}

/// Draws must not repeat after a restart, or the node would wait exactly as long as before.
fn entropy(init: &Init) -> u64 {
    mix(init.entropy, nanos(HostClock.now()))
}

/// All nodes and clients are one address here: it has all the places that there are.
const ONE_ADDRESS_HANDSHAKES_MAX: usize = 256;
const BIND_BOUND: Duration = Duration::from_secs(10);
const BIND_PAUSE: Duration = Duration::from_millis(20);
