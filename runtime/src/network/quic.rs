//! How QUIC is set up: windows, timeouts, and what of iroh is used.
//!
//! Direct connections over the given addresses only: no relays, no lookups, no port mapping.
//! Invariant: what a stranger can make this node buffer is bounded by `UNPROVEN_WINDOW_BYTES`
//! for each connection, and comes on one stream; the wide window opens once a peer has proved
//! itself, and lanes once it is to be bonded.

use std::{sync::Arc, time::Duration};

use iroh::{
    Endpoint, EndpointAddr, PublicKey, RelayMode,
    endpoint::{Connection, PortmapperConfig, QuicTransportConfig, VarInt, presets},
};

use crate::network::{
    NetworkError, Peer, SecretKey,
    congestion::BoundedCubic,
    wire::{Reach, Wire},
};

/// Binds the endpoint, whose connections share the moments at which they look at their paths.
pub(crate) async fn bind(
    wire: &Wire,
    secret: &SecretKey,
    alpns: Vec<Vec<u8>>,
    congestion: Arc<BoundedCubic>,
) -> Result<Endpoint, NetworkError> {
    let refused = |reason: String| NetworkError::Bind { address: wire.address(), reason };
    let builder = Endpoint::builder(presets::Minimal)
        .secret_key(secret.to_iroh())
        .alpns(alpns)
        .transport_config(transport(IDLE_TIMEOUT, 0, congestion))
        .relay_mode(RelayMode::Disabled)
        .portmapper_config(PortmapperConfig::Disabled)
        .clear_address_lookup();
    let bound = wire.lay(builder).map_err(refused)?.bind().await;
    bound.map_err(|error| refused(causes(&error)))
}

/// The settings of a connection that is to be a bond, and may be idle for this long.
pub(crate) fn bond_transport(idle: Duration, congestion: Arc<BoundedCubic>) -> QuicTransportConfig {
    transport(idle, LANES, congestion)
}

/// The settings of a connection that may be idle for this long, and on which the peer may open
/// so many lanes.
fn transport(idle: Duration, lanes: u32, congestion: Arc<BoundedCubic>) -> QuicTransportConfig {
    let idle = VarInt::from_u32(u32::try_from(idle.as_millis()).unwrap_or(u32::MAX));
    QuicTransportConfig::builder()
        // The first guess of the round trip rules how soon a lost first packet is repeated: the
        // usual third of a second is longer than a whole election.
        .initial_rtt(Duration::from_millis(20))
        .max_idle_timeout(Some(idle.into()))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(lanes))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(UNPROVEN_WINDOW_BYTES))
        // Never the bottleneck: a full lane must not keep another lane from sending.
        .send_window(2 * u64::from(STREAM_WINDOW_BYTES * LANES))
        .congestion_controller_factory(congestion)
        .datagram_receive_buffer_size(None)
        .build()
}

/// Opens the wide window, since the peer has proved itself or is the user's own business. As
/// wide as all streams together, so that no stream can take another one's share.
pub(crate) fn trust(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES * LANES));
}

/// Lets the peer open lanes, since it is about to be bonded.
pub(crate) fn open_lanes(connection: &Connection) {
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(LANES));
}

/// The peer as iroh knows it.
pub(crate) fn address(peer: &Peer, reach: Reach) -> Result<EndpointAddr, NetworkError> {
    let unreachable =
        |reason: &str| NetworkError::Unreachable { peer: peer.id, reason: reason.into() };
    let id =
        PublicKey::from_bytes(&peer.id.0).map_err(|_| unreachable("its id is no public key"))?;
    if peer.addresses.is_empty() {
        return Err(unreachable("no address of it is known"));
    }
    Ok(EndpointAddr::from_parts(id, peer.addresses.iter().copied().map(reach)))
}

/// The error and what caused it, on one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Streams of a bond in each direction.
const LANES: u32 = 4;
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const UNPROVEN_WINDOW_BYTES: u32 = 64 << 10;
/// Of a link that says nothing; QUIC keeps it alive meanwhile, so only a dead peer reaches this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
