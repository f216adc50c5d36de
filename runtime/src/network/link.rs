//! A framed connection: one stream both ways, on a QUIC connection of its own.
//!
//! Knows nothing of what is in a frame. Invariant: a frame is sent whole or not at all, also when
//! the caller gives up half-way, and none is larger than the limit in either direction.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use iroh::endpoint::{Connection, RecvStream, SendStream};
use raft::PeerId;

use crate::network::{
    Code, NetworkError,
    code::Refusal,
    framing::{self, CHUNK_BYTES_MAX, Deframer},
    guest::Guest,
    handshake::Talk,
    quic,
};

/// A framed connection to another node. It closes when both its halves are dropped.
#[derive(Debug)]
pub struct Link {
    sender: LinkSender,
    receiver: LinkReceiver,
}

/// The half of a link that sends.
#[derive(Debug)]
pub struct LinkSender {
    connection: Connection,
    stream: SendStream,
    frame_bytes_max: usize,
    /// What a given-up `send` left behind; goes first, so that frames stay whole.
    pending: BytesMut,
    /// The place of whoever dialed it, among all that did.
    _guest: Option<Arc<Guest>>,
}

/// The half of a link that receives.
#[derive(Debug)]
pub struct LinkReceiver {
    connection: Connection,
    stream: RecvStream,
    deframer: Deframer,
    _guest: Option<Arc<Guest>>,
}

impl Link {
    /// The link that a handshake has led to; with a guest if the other end dialed it.
    pub(crate) fn new(
        connection: Connection,
        talk: Talk,
        frame_bytes_max: usize,
        guest: Option<Guest>,
    ) -> Self {
        let guest = guest.map(Arc::new);
        let sender = LinkSender {
            connection: connection.clone(),
            stream: talk.sender,
            frame_bytes_max,
            pending: BytesMut::new(),
            _guest: guest.clone(),
        };
        let (stream, deframer) = (talk.receiver, talk.deframer);
        let receiver = LinkReceiver { connection, stream, deframer, _guest: guest };
        let mut link = Self { sender, receiver };
        link.set_frame_bytes_max(frame_bytes_max);
        link
    }

    /// Lets the peer send as much as it may without being read. Until then it has a stranger's
    /// share: nobody may ever take the link.
    pub(crate) fn trust(&self) {
        quic::trust(&self.sender.connection);
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.sender.connection
    }

    /// Who is at the other end, as the connection proved.
    pub fn remote(&self) -> PeerId {
        self.sender.remote()
    }

    /// The largest frame from now on, in both directions; both ends should agree.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        let within = frame_bytes_max.min(FRAME_BYTES_LIMIT);
        self.sender.frame_bytes_max = within;
        self.receiver.deframer.set_frame_bytes_max(within);
    }

    /// As [`LinkSender::send`].
    ///
    /// # Errors
    /// As [`LinkSender::send`].
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), NetworkError> {
        self.sender.send(frame).await
    }

    /// As [`LinkReceiver::recv`].
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.receiver.recv().await
    }

    /// Why the link is closed; `None` while it is open.
    pub fn closing(&self) -> Option<NetworkError> {
        self.receiver.closing()
    }

    /// The two halves, for two tasks.
    pub fn split(self) -> (LinkSender, LinkReceiver) {
        (self.sender, self.receiver)
    }

    /// Closes at once; what is under way may be lost. The peer is told why.
    pub fn close(&self, code: Code, reason: &str) {
        code.because(reason).close(&self.sender.connection);
    }
}

impl LinkSender {
    /// Who is at the other end, as the connection proved.
    pub fn remote(&self) -> PeerId {
        PeerId(*self.connection.remote_id().as_bytes())
    }

    /// Sends a frame: resolves once it is handed to QUIC, which may wait for the peer to read.
    ///
    /// # Errors
    /// `TooLarge`, after which the link goes on, or `Closed`.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), NetworkError> {
        if frame.len() > self.frame_bytes_max {
            let bytes_max = self.frame_bytes_max;
            return Err(NetworkError::TooLarge { bytes: frame.len(), bytes_max });
        }
        self.flush().await?;
        self.pending.extend_from_slice(&framing::header(frame.len()));
        self.pending.extend_from_slice(frame);
        self.flush().await
    }

    /// Sends these bytes, whatever they are of a frame.
    #[cfg(test)]
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), NetworkError> {
        self.pending.extend_from_slice(bytes);
        self.flush().await
    }

    /// Says that no more frames follow, and waits until the peer has received them all.
    ///
    /// # Errors
    /// `Closed` if that cannot be known any more.
    pub async fn finish(mut self) -> Result<(), NetworkError> {
        self.flush().await?;
        // Errs only if finished before, and this takes the half.
        drop(self.stream.finish());
        match self.stream.stopped().await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.lost()),
        }
    }

    /// Closes both halves at once; what is under way may be lost. The peer is told why.
    pub fn close(&self, code: Code, reason: &str) {
        code.because(reason).close(&self.connection);
    }

    async fn flush(&mut self) -> Result<(), NetworkError> {
        while !self.pending.is_empty() {
            match self.stream.write(&self.pending).await {
                Ok(written) => self.pending.advance(written),
                Err(_) => return Err(self.lost()),
            }
        }
        Ok(())
    }

    fn lost(&self) -> NetworkError {
        lost(&self.connection)
    }
}

impl LinkReceiver {
    /// Who is at the other end, as the connection proved.
    pub fn remote(&self) -> PeerId {
        PeerId(*self.connection.remote_id().as_bytes())
    }

    /// The next frame; `None` once the link is closed, by whomever. Giving up loses nothing.
    pub async fn recv(&mut self) -> Option<Bytes> {
        loop {
            match self.deframer.next() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(oversized) => {
                    oversized.refusal().turn_away(&self.connection);
                    return None;
                }
            }
            let chunk = self.stream.read_chunk(CHUNK_BYTES_MAX).await.ok()??;
            self.deframer.push(chunk);
        }
    }

    /// Why the link is closed; `None` while it is open.
    pub fn closing(&self) -> Option<NetworkError> {
        self.connection.close_reason().map(|_| lost(&self.connection))
    }

    /// Closes both halves at once; what is under way may be lost. The peer is told why.
    pub fn close(&self, code: Code, reason: &str) {
        code.because(reason).close(&self.connection);
    }
}

impl framing::Oversized {
    pub(crate) fn refusal(self) -> Refusal {
        let Self { bytes, bytes_max } = self;
        Code::ProtocolViolation
            .because(format!("a frame of {bytes} bytes, but at most {bytes_max} are allowed"))
    }
}

/// Why the connection is gone.
pub(crate) fn lost(connection: &Connection) -> NetworkError {
    let peer = PeerId(*connection.remote_id().as_bytes());
    let refusal = match connection.close_reason() {
        Some(error) => Refusal::of(&error),
        None => Code::UnexpectedClose.because("the stream ended"),
    };
    NetworkError::closed(peer, refusal)
}

/// Frame lengths are 32 bits; a quarter of that is beyond any use.
const FRAME_BYTES_LIMIT: usize = 1 << 30;
