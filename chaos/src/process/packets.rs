//! A node's UDP socket whose links can be hurt while it runs.
//!
//! Real datagrams on a real socket; the [`Table`] says what becomes of each, and a task of the
//! socket's carries those that come later. Looks into no datagram. Invariants: what waits has a
//! bound, and dropping the socket frees its address and ends the task.

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{SocketAddr, UdpSocket as HostSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
};

use runtime::{Clock, Time, transport::DatagramSocket};
use tokio::{
    io::ReadBuf,
    net::UdpSocket,
    sync::Notify,
    task::{AbortHandle, spawn},
};

use crate::{
    link::{Direction, LinkFaults, LinkReport, Parcel, Table, TableError},
    process::HostClock,
    seed::Seed,
};

/// See the module.
#[derive(Debug)]
pub struct PacketSocket {
    shared: Arc<Shared>,
    courier: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    /// The same socket twice: what waits for datagrams is tokio's, what sends never waits.
    receiving: UdpSocket,
    sending: HostSocket,
    table: Mutex<Table>,
    /// Something is due earlier than the courier knows.
    earlier: Arc<Notify>,
}

impl PacketSocket {
    /// Binds the address. Draws come from the seed.
    ///
    /// # Errors
    /// What the host says.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(address: SocketAddr, seed: Seed) -> io::Result<Self> {
        let sending = HostSocket::bind(address)?;
        sending.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            address: sending.local_addr()?,
            receiving: UdpSocket::from_std(sending.try_clone()?)?,
            sending,
            table: Mutex::new(Table::new(seed)),
            earlier: Arc::default(),
        });
        let courier = spawn(carry(Arc::downgrade(&shared), Arc::clone(&shared.earlier)));
        Ok(Self { shared, courier: courier.abort_handle() })
    }

    /// From now on this befalls what goes to the remote, or comes from it. What is sent once this
    /// has returned goes by it; what is under way keeps its time, and what was held goes on if it
    /// may.
    ///
    /// # Errors
    /// Faults that a link cannot do, and more links than a table holds.
    pub fn set(
        &self,
        remote: SocketAddr,
        direction: Direction,
        faults: LinkFaults,
    ) -> Result<(), TableError> {
        let mut table = self.shared.table();
        table.set(remote, direction, faults)?;
        let waits = table.has_news();
        drop(table);
        if waits {
            self.shared.earlier.notify_one();
        }
        Ok(())
    }

    /// Every link that was ever set, with what has befallen its datagrams.
    pub fn links(&self) -> Vec<LinkReport> {
        self.shared.table().reports()
    }
}

impl DatagramSocket for PacketSocket {
    fn local_address(&self) -> SocketAddr {
        self.shared.address
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let now = HostClock.now();
        let mut table = self.shared.table();
        let at_once = table.route(now, to, Direction::Out, datagram);
        let waits = table.has_news();
        drop(table);
        if waits {
            self.shared.earlier.notify_one();
        }
        let Some(at_once) = at_once else { return self.shared.hand_over(to, datagram) };
        at_once.iter().try_for_each(|copy| self.shared.hand_over(to, copy))
    }

    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            if let Some((from, datagram)) = self.shared.table().take(context.waker()) {
                let bytes = datagram.len().min(buffer.len());
                buffer[..bytes].copy_from_slice(&datagram[..bytes]);
                return Poll::Ready(Ok((bytes, from)));
            }
            let mut read = ReadBuf::new(buffer);
            let from = ready!(self.shared.receiving.poll_recv_from(context, &mut read))?;
            let bytes = read.filled().len();
            let now = HostClock.now();
            let mut table = self.shared.table();
            let at_once = table.route(now, from, Direction::In, &buffer[..bytes]);
            let waits = table.has_news();
            let Some(at_once) = at_once else { return Poll::Ready(Ok((bytes, from))) };
            table.arrive(from, at_once);
            drop(table);
            if waits {
                self.shared.earlier.notify_one();
            }
        }
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        self.courier.abort();
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To the host, which may have no room for it: then it is lost, as on any network.
    fn hand_over(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        match self.sending.send_to(datagram, to) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Delivers all that is due, under one lock, so that nothing overtakes it meanwhile; tells
    /// when there will be more.
    fn deliver(&self) -> Option<Time> {
        let mut table = self.table();
        loop {
            match table.due(HostClock.now()) {
                Ok(Parcel { remote, direction: Direction::In, datagram, .. }) => {
                    table.arrive(remote, vec![datagram]);
                }
                Ok(Parcel { remote, direction: Direction::Out, datagram, .. }) => {
                    if let Err(error) = self.hand_over(remote, &datagram) {
                        tracing::debug!(to = %remote, %error, "a late datagram is lost");
                    }
                }
                Err(due) => return due,
            }
        }
    }
}

/// Carries what comes later, until the socket is gone. Holds on to it only while it carries.
async fn carry(shared: Weak<Shared>, earlier: Arc<Notify>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let due = shared.deliver();
        drop(shared);
        match due {
            Some(due) => tokio::select! {
                () = HostClock.sleep_until(due) => {}
                () = earlier.notified() => {}
            },
            None => earlier.notified().await,
        }
    }
}
