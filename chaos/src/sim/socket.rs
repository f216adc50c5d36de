//! A socket on turmoil's network, with the same table of links as a process has.
//!
//! Invariant: what a node that is gone or stands still would send goes nowhere, and what it would
//! receive waits.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use runtime::{Clock as _, transport::DatagramSocket};
use tokio::{
    sync::Notify,
    task::{AbortHandle, spawn},
};
use turmoil::net::UdpSocket;

use super::{
    clock::{self, SimClock},
    trace::Trace,
};
use crate::link::{Direction, LinkFaults, Parcel, Table, TableError};

/// What the world does to a node's socket. Outlives it.
#[derive(Debug)]
pub(super) struct Wires {
    pub(super) table: Mutex<Table>,
    /// The node is gone.
    gone: AtomicBool,
    /// The node stands still.
    stands: AtomicBool,
    reader: Mutex<Option<Waker>>,
    /// Something is due earlier than the courier knows.
    earlier: Notify,
}

/// See the module.
pub(super) struct SimSocket {
    shared: Arc<Shared>,
    courier: AbortHandle,
}

struct Shared {
    address: SocketAddr,
    socket: Arc<UdpSocket>,
    /// Waits for the next datagram. It holds on to turmoil's queue, so it must be over before
    /// the queue is read.
    waits: Mutex<Option<Waits>>,
    wires: Arc<Wires>,
    trace: Arc<Trace>,
}

type Waits = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Wires {
    pub(super) fn new(table: Table) -> Self {
        let (gone, stands) = (AtomicBool::new(false), AtomicBool::new(false));
        let (reader, earlier) = (Mutex::default(), Notify::new());
        Self { table: Mutex::new(table), gone, stands, reader, earlier }
    }

    /// The node is gone.
    pub(super) fn cut(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Whether the node is gone.
    pub(super) fn is_cut(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// The node stands still, or goes on.
    pub(super) fn stand(&self, stands: bool) {
        self.stands.store(stands, Ordering::Relaxed);
        if let Some(reader) = lock(&self.reader).take() {
            reader.wake();
        }
    }

    /// From now on this befalls what is sent to the remote; what was held goes on if it may.
    pub(super) fn set(&self, remote: SocketAddr, faults: LinkFaults) -> Result<(), TableError> {
        let mut table = self.table();
        table.set(remote, Direction::Out, faults)?;
        let waits = table.has_news();
        drop(table);
        if waits {
            self.earlier.notify_one();
        }
        Ok(())
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    fn is_silent(&self) -> bool {
        self.is_cut() || self.stands.load(Ordering::Relaxed)
    }
}

impl SimSocket {
    /// Binds this address of the simulated host that runs; port 0 lets the host choose.
    pub(super) async fn bind(
        address: SocketAddr,
        wires: Arc<Wires>,
        trace: Arc<Trace>,
    ) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?;
        let address = SocketAddr::new(address.ip(), socket.local_addr()?.port());
        let shared = Arc::new(Shared {
            address,
            socket: Arc::new(socket),
            waits: Mutex::default(),
            wires,
            trace,
        });
        let courier = spawn(carry(Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, courier })
    }
}

impl Shared {
    /// On its way. What turmoil refuses is lost, as on any network.
    fn hand_over(&self, to: SocketAddr, datagram: &[u8]) {
        if self.wires.is_silent() {
            return;
        }
        self.trace.packet(clock::now(), self.address, to, datagram);
        if let Err(error) = self.socket.try_send_to(datagram, to) {
            tracing::debug!(%to, %error, "a datagram is lost");
        }
    }

    /// Delivers what is due; tells when there will be more.
    fn deliver(&self) -> Option<runtime::Time> {
        loop {
            let due = self.wires.table().due(clock::now());
            match due {
                Ok(Parcel { remote, datagram, .. }) => self.hand_over(remote, &datagram),
                Err(due) => return due,
            }
        }
    }
}

/// Carries what comes later, until the socket is gone.
async fn carry(shared: Arc<Shared>) {
    loop {
        let due = shared.deliver();
        let earlier = shared.wires.earlier.notified();
        match due {
            Some(due) => tokio::select! {
                biased;
                () = earlier => {}
                () = SimClock.sleep_until(due) => {}
            },
            None => earlier.await,
        }
    }
}

impl DatagramSocket for SimSocket {
    fn local_address(&self) -> SocketAddr {
        self.shared.address
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let mut table = self.shared.wires.table();
        let at_once = table.route(clock::now(), to, Direction::Out, datagram);
        let waits = table.has_news();
        drop(table);
        if waits {
            self.shared.wires.earlier.notify_one();
        }
        match at_once {
            None => self.shared.hand_over(to, datagram),
            Some(copies) => copies.iter().for_each(|copy| self.shared.hand_over(to, copy)),
        }
        Ok(())
    }

    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let Shared { socket, waits, wires, .. } = &*self.shared;
        if wires.is_silent() {
            *lock(&wires.reader) = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut waits = lock(waits);
        loop {
            if let Some(waiting) = waits.as_mut() {
                ready!(waiting.as_mut().poll(context))?;
                *waits = None;
            }
            match socket.try_recv_from(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let socket = Arc::clone(socket);
                    *waits = Some(Box::pin(async move { socket.readable().await }));
                }
                received => return Poll::Ready(received),
            }
        }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.courier.abort();
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({})", self.shared.address)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
