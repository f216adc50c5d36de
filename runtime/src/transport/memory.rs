//! A network of sockets in memory, for tests: perfect, but for what a full socket loses.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::DatagramSocket;

/// Where sockets find each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Wires(Arc<Mutex<BTreeMap<SocketAddr, Port>>>);

/// A socket on the wires.
#[derive(Debug)]
pub(super) struct MemorySocket {
    wires: Wires,
    address: SocketAddr,
}

#[derive(Debug, Default)]
struct Port {
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
    received: u64,
}

impl Wires {
    /// A socket at this address, which nobody else has.
    pub(super) fn bind(&self, address: SocketAddr) -> Arc<MemorySocket> {
        assert!(self.lock().insert(address, Port::default()).is_none(), "{address} is taken");
        Arc::new(MemorySocket { wires: self.clone(), address })
    }

    /// How many datagrams were taken at this address; `None` once nobody listens there.
    pub(super) fn received(&self, address: SocketAddr) -> Option<u64> {
        self.lock().get(&address).map(|port| port.received)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Port>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DatagramSocket for MemorySocket {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let mut ports = self.wires.lock();
        let Some(port) = ports.get_mut(&to) else { return Ok(()) };
        if port.waiting.len() < WAITING_MAX {
            port.waiting.push_back((self.address, datagram.to_vec()));
            if let Some(reader) = port.reader.take() {
                reader.wake();
            }
        }
        Ok(())
    }

    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut ports = self.wires.lock();
        let port = ports.get_mut(&self.address).expect("the address is ours until we are dropped");
        let Some((from, datagram)) = port.waiting.pop_front() else {
            port.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        port.received += 1;
        let bytes = datagram.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&datagram[..bytes]);
        Poll::Ready(Ok((bytes, from)))
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        self.wires.lock().remove(&self.address);
    }
}

const WAITING_MAX: usize = 1_024;
