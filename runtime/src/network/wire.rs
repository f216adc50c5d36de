//! What carries a node's datagrams, and how it and others are reached over it.
//!
//! The one place that knows that there can be more than the host's UDP. Invariant: an endpoint
//! has one wire, and names no address of another.

#[cfg(feature = "datagram")]
use std::sync::Arc;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use iroh::{
    Endpoint, TransportAddr,
    endpoint::{Builder, IncomingAddr},
};

#[cfg(feature = "datagram")]
use crate::transport::{self, DatagramSocket};

/// See above.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    /// UDP of the host, to be bound to this address.
    Host(SocketAddr),
    /// A socket of the program's own, which is bound.
    #[cfg(feature = "datagram")]
    Datagrams(Arc<dyn DatagramSocket>),
}

/// How an address on the wire is written for iroh.
pub(crate) type Reach = fn(SocketAddr) -> TransportAddr;

impl Wire {
    /// Where the node listens, or shall.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Host(address) => *address,
            #[cfg(feature = "datagram")]
            Self::Datagrams(socket) => socket.local_address(),
        }
    }

    /// The endpoint with this wire and no other.
    ///
    /// # Errors
    /// In words, for an address that cannot be listened on.
    pub(crate) fn lay(&self, builder: Builder) -> Result<Builder, String> {
        let builder = builder.clear_ip_transports();
        match self {
            Self::Host(address) => builder.bind_addr(*address).map_err(|error| error.to_string()),
            #[cfg(feature = "datagram")]
            Self::Datagrams(socket) => {
                let sockets = transport::Sockets(Arc::clone(socket));
                Ok(builder.add_custom_transport(Arc::new(sockets)))
            }
        }
    }

    pub(crate) fn reach(&self) -> Reach {
        match self {
            Self::Host(_) => TransportAddr::Ip,
            #[cfg(feature = "datagram")]
            Self::Datagrams(_) => transport::reach,
        }
    }

    /// Where others may reach the endpoint. One that listens everywhere names this host's
    /// loopback address and what the host's interfaces are known to have.
    pub(crate) fn addresses(&self, endpoint: &Endpoint) -> Vec<SocketAddr> {
        let bound = match self {
            Self::Host(_) => endpoint.bound_sockets(),
            #[cfg(feature = "datagram")]
            Self::Datagrams(socket) => vec![socket.local_address()],
        };
        let known = endpoint.addr();
        let known = known.ip_addrs().copied().filter(|known| !known.ip().is_unspecified());
        let addresses: BTreeSet<_> = bound.into_iter().map(reachable).chain(known).collect();
        addresses.into_iter().collect()
    }
}

/// Where a dial says that it comes from. What has no address, because it did not come over a wire
/// of ours, counts as one address together.
pub(crate) fn origin(address: &IncomingAddr) -> IpAddr {
    let ip = match address {
        IncomingAddr::Ip(address) => Some(address.ip()),
        #[cfg(feature = "datagram")]
        IncomingAddr::Custom(address) => transport::socket(address).map(|address| address.ip()),
        _ => None,
    };
    ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

fn reachable(bound: SocketAddr) -> SocketAddr {
    match bound {
        _ if !bound.ip().is_unspecified() => bound,
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, bound.port()).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, bound.port()).into(),
    }
}
