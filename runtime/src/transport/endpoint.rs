//! iroh's custom transport over a [`DatagramSocket`].
//!
//! Only passes on: no queue, no timer and no copy of its own. Invariant: one transmission of
//! iroh's is one datagram of the socket's, both ways.

use std::{
    io::{self, IoSliceMut},
    sync::Arc,
    task::{Context, Poll},
};

use iroh::endpoint::transports::{
    CustomEndpoint, CustomSender, CustomTransport, RecvInfo, Transmit,
};
use iroh_base::CustomAddr;
use n0_watcher::{Direct, Watchable};
use noq_udp::RecvMeta;

use super::{DatagramSocket, address};

/// Hands the socket, which is bound already, to the endpoint that asks for it.
#[derive(Debug)]
pub(crate) struct Sockets(pub(crate) Arc<dyn DatagramSocket>);

/// The receiving end.
#[derive(Debug)]
struct Receiver {
    socket: Arc<dyn DatagramSocket>,
    addresses: Watchable<Vec<CustomAddr>>,
}

/// A sending end; each connection has one.
#[derive(Debug)]
struct Sender(Arc<dyn DatagramSocket>);

impl CustomTransport for Sockets {
    fn bind(&self) -> io::Result<Box<dyn CustomEndpoint>> {
        let socket = Arc::clone(&self.0);
        let addresses = Watchable::new(vec![address::custom(socket.local_address())]);
        Ok(Box::new(Receiver { socket, addresses }))
    }
}

impl CustomEndpoint for Receiver {
    fn watch_local_addrs(&self) -> Direct<Vec<CustomAddr>> {
        self.addresses.watch()
    }

    fn create_sender(&self) -> Arc<dyn CustomSender> {
        Arc::new(Sender(Arc::clone(&self.socket)))
    }

    fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
        origins: &mut [RecvInfo],
    ) -> Poll<io::Result<usize>> {
        let mut received = 0;
        while received < buffers.len() {
            match self.socket.poll_receive(context, &mut buffers[received]) {
                Poll::Ready(Ok((bytes, from))) => {
                    let mut meta = RecvMeta::default();
                    (meta.len, meta.stride) = (bytes, bytes);
                    metas[received] = meta;
                    origins[received] = RecvInfo::new(address::custom(from), None);
                    received += 1;
                }
                // What came before it comes first; an error that lasts is met again.
                Poll::Ready(Err(_)) | Poll::Pending if received > 0 => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(received))
    }
}

impl CustomSender for Sender {
    fn is_valid_send_addr(&self, to: &CustomAddr) -> bool {
        address::socket(to).is_some()
    }

    // iroh takes `Pending` for a lost datagram, so there is nothing to be gained from waiting.
    fn poll_send(
        &self,
        _: &mut Context<'_>,
        to: &CustomAddr,
        _: Option<&CustomAddr>,
        transmit: &Transmit<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(to) = address::socket(to) else {
            return Poll::Ready(Err(io::Error::other(format!("{to} is no socket address"))));
        };
        let bytes = transmit.contents.len();
        // The endpoint says that it takes one at a time; each piece of a batch is one all the same.
        let piece_bytes = transmit.segment_size.unwrap_or(bytes).max(1);
        let mut pieces = transmit.contents.chunks(piece_bytes);
        Poll::Ready(pieces.try_for_each(|piece| self.0.send(to, piece)))
    }
}
