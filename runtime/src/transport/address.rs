//! Socket addresses as iroh's custom transports write them, and back.
//!
//! The address and then the port, in network order. Invariant: what is written reads back, and
//! nothing else does. The scope of a link-local IPv6 address is not kept.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use iroh::TransportAddr;
use iroh_base::CustomAddr;

/// The address as a dialer names it to iroh.
pub(crate) fn reach(address: SocketAddr) -> TransportAddr {
    TransportAddr::Custom(custom(address))
}

/// The address as the transport names it to iroh.
pub(super) fn custom(address: SocketAddr) -> CustomAddr {
    let port = address.port().to_be_bytes();
    let bytes = match address {
        SocketAddr::V4(v4) => [&v4.ip().octets()[..], &port].concat(),
        SocketAddr::V6(v6) => [&v6.ip().octets()[..], &port].concat(),
    };
    CustomAddr::from_parts(TRANSPORT, &bytes)
}

/// The address that iroh names to the transport; `None` for what no socket has.
pub(crate) fn socket(address: &CustomAddr) -> Option<SocketAddr> {
    if address.id() != TRANSPORT {
        return None;
    }
    let (ip, port) = address.data().split_last_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    if let Ok(octets) = <[u8; 4]>::try_from(ip) {
        return Some((Ipv4Addr::from(octets), port).into());
    }
    let octets = <[u8; 16]>::try_from(ip).ok()?;
    Some((Ipv6Addr::from(octets), port).into())
}

/// Tells the addresses of this transport from those of others.
const TRANSPORT: u64 = 0x0054_6573_7365_7261;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["127.0.0.1:7", "0.0.0.0:65535", "[::1]:80", "[2001:db8::7]:1"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(socket(&custom(address)), Some(address));
            assert_eq!(reach(address), TransportAddr::Custom(custom(address)));
        }
    }

    #[test]
    fn what_no_socket_has_is_no_address() {
        for length in [0, 1, 2, 5, 7, 17, 19, 64] {
            let foreign = CustomAddr::from_parts(TRANSPORT, &vec![1; length]);
            assert_eq!(socket(&foreign), None, "{length} bytes");
        }
        let other = CustomAddr::from_parts(TRANSPORT + 1, &[127, 0, 0, 1, 0, 7]);
        assert_eq!(socket(&other), None, "an address of another transport");
    }
}
