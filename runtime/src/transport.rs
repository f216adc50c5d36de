//! Datagrams over a socket of the program's own, in place of the host's UDP.
//!
//! For laboratories: a simulated network, or a real one that loses on purpose. Knows neither
//! peers nor connections, and looks into no datagram. Invariant: a network that was given a
//! socket opens no other, so that no datagram goes another way.

mod address;
mod endpoint;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    net::SocketAddr,
    task::{Context, Poll},
};

pub(crate) use address::{reach, socket};
pub(crate) use endpoint::Sockets;

/// What carries a network's datagrams: unreliable, unordered, each whole or not at all.
///
/// Whoever makes it binds it; it is handed over with [`NetworkBuilder::datagrams`]. Everything
/// above it bears datagrams that are lost, doubled, late, out of order or changed. Marks of
/// congestion (ECN) and several datagrams in one call (GSO, GRO) are not offered.
///
/// The network lets go of it once it is shut down and its last handle is dropped. Dropping it
/// frees its address; what it has not delivered by then may be lost.
///
/// [`NetworkBuilder::datagrams`]: crate::NetworkBuilder::datagrams
pub trait DatagramSocket: fmt::Debug + Send + Sync + 'static {
    /// Where others reach it. Never changes; its port is not 0.
    fn local_address(&self) -> SocketAddr;

    /// Hands a datagram over. Called from several tasks at once, and never waits: a full socket
    /// lets the datagram go, as a network does, and says nothing. QUIC sends it again in time.
    ///
    /// # Errors
    /// What the host says. The datagram counts as lost, and the socket goes on.
    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()>;

    /// Takes the next datagram: how many bytes of `buffer` it fills, and who sent it. What does
    /// not fit is cut off. Called from one task at a time, which is woken when there is more.
    ///
    /// # Errors
    /// What the host says. A socket that fails eight times in a row ends the network.
    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>>;
}
