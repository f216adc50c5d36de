//! A lane of a bond: one stream with its own priority, and its own queue in front of it.
//!
//! A frame is written at once if the stream takes it, and queued otherwise: no task stands
//! between the driver and QUIC while the lane is free. Invariant: frames of one lane go in the
//! order they were sent in, whole, and at most `queue_bytes_max` wait.

use std::{
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BytesMut};
use iroh::endpoint::SendStream;
use metrics::Gauge;
use raft::Message;
use tokio::sync::Notify;

use crate::{
    ConsensusConfig,
    group::wire::MemberFrame,
    network::{HEADER_BYTES, header},
};

/// What shares an order and a priority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// Votes, heartbeats, acknowledgements: small, and worth most when they are early.
    Control,
    /// Entries.
    Append,
    /// Forwarded calls and their answers.
    Client,
    /// Whatever has time.
    Bulk,
}

/// Why a frame was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dropped {
    /// There is no bond to that node.
    NoBond,
    /// The lane's queue has no room.
    Full,
    /// It is larger than a frame may be.
    Oversized,
    /// The bond is closing.
    Closed,
    /// It was received on a bond that is over or has been replaced.
    Replaced,
}

/// The sending end of a lane.
pub(super) struct LaneSender {
    state: Mutex<Sending>,
    /// Something was queued.
    queued: Notify,
    queue_bytes_max: usize,
    queue_bytes: Gauge,
}

struct Sending {
    stream: SendStream,
    /// Waits for the stream, a partly written frame first.
    queue: BytesMut,
    /// Frames are encoded here.
    scratch: Vec<u8>,
    closed: bool,
}

impl Lane {
    pub(super) const COUNT: usize = 4;
    pub(super) const ALL: [Self; Self::COUNT] =
        [Self::Control, Self::Append, Self::Client, Self::Bulk];

    /// The lane of a frame.
    pub(super) fn of(frame: &MemberFrame) -> Self {
        match frame {
            MemberFrame::Raft(Message::Append { .. } | Message::InstallSnapshot { .. }) => {
                Self::Append
            }
            MemberFrame::Raft(
                Message::RequestVote { .. }
                | Message::Vote { .. }
                | Message::AppendReply { .. }
                | Message::Heartbeat { .. }
                | Message::HeartbeatReply { .. }
                | Message::TimeoutNow { .. },
            )
            | MemberFrame::Ping
            | MemberFrame::Introduction(_)
            | MemberFrame::Leave
            | MemberFrame::Left => Self::Control,
            MemberFrame::Forward { .. } | MemberFrame::Answer { .. } => Self::Client,
            MemberFrame::Snapshot(_) | MemberFrame::Replay(_) => Self::Bulk,
        }
    }

    /// The lane that a stream's first byte names.
    pub(super) fn named(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }

    pub(super) fn name(self) -> &'static str {
        ["control", "append", "client", "bulk"][self.index()]
    }

    fn priority(self) -> i32 {
        [3, 2, 1, 0][self.index()]
    }

    fn queue_bytes_max(self, consensus: &ConsensusConfig) -> usize {
        match self {
            Self::Control => 1 << 20,
            // As much as the core has under way to one follower, and once more what it repeats.
            Self::Append => 2 * consensus.inflight_bytes_max as usize,
            Self::Client => 16 << 20,
            // Twice what an honest member may have under way of us.
            Self::Bulk => {
                let batch = consensus.batch_bytes_max as usize;
                (2 * consensus.inflight_per_peer_max as usize * batch).max(16 << 20)
            }
        }
    }
}

impl Dropped {
    pub(super) const COUNT: usize = 5;
    pub(super) const ALL: [Self; Self::COUNT] =
        [Self::NoBond, Self::Full, Self::Oversized, Self::Closed, Self::Replaced];

    pub(super) fn index(self) -> usize {
        self as usize
    }

    pub(super) fn name(self) -> &'static str {
        ["no_bond", "full", "oversized", "closed", "replaced"][self.index()]
    }
}

impl LaneSender {
    /// The first thing on the stream is the lane's name, once [`LaneSender::write`] runs.
    pub(super) fn new(
        lane: Lane,
        stream: SendStream,
        consensus: &ConsensusConfig,
        queue_bytes: Gauge,
    ) -> Self {
        // Errs only on a stream that is closed already, and then so does the first write.
        drop(stream.set_priority(lane.priority()));
        let name = u8::try_from(lane.index()).expect("lanes are few");
        queue_bytes.increment(1);
        let queue = BytesMut::from(&[name][..]);
        Self {
            state: Mutex::new(Sending { stream, queue, scratch: Vec::new(), closed: false }),
            queued: Notify::new(),
            queue_bytes_max: lane.queue_bytes_max(consensus),
            queue_bytes,
        }
    }

    /// Sends a frame without waiting, and says how many bytes it took.
    pub(super) fn send(
        &self,
        frame: &MemberFrame,
        frame_bytes_max: usize,
    ) -> Result<usize, Dropped> {
        let mut sending = self.sending();
        if sending.closed {
            return Err(Dropped::Closed);
        }
        let encoded = sending.encode(frame);
        let bytes = encoded.len();
        let sent = match bytes > HEADER_BYTES + frame_bytes_max {
            true => Err(Dropped::Oversized),
            false => self.write_or_queue(&mut sending, &encoded),
        };
        if encoded.capacity() <= SCRATCH_BYTES_MAX {
            sending.scratch = encoded;
        }
        sent.map(|()| bytes)
    }

    /// Writes what is queued, whenever something is, until the stream is closed.
    pub(super) async fn write(&self) {
        let flushed =
            |context: &mut Context<'_>| self.sending().poll_flush(context, &self.queue_bytes);
        while std::future::poll_fn(flushed).await {
            self.queued.notified().await;
        }
    }

    fn write_or_queue(&self, sending: &mut Sending, mut encoded: &[u8]) -> Result<(), Dropped> {
        // What waits goes first.
        if sending.queue.is_empty() {
            let mut context = Context::from_waker(Waker::noop());
            while !encoded.is_empty() {
                match poll_write(&mut sending.stream, &mut context, encoded) {
                    Poll::Ready(Some(written)) => encoded = &encoded[written..],
                    Poll::Ready(None) => {
                        sending.closed = true;
                        return Err(Dropped::Closed);
                    }
                    // The writing task asks again, and is then woken when there is room.
                    Poll::Pending => break,
                }
            }
            if encoded.is_empty() {
                return Ok(());
            }
        } else if sending.queue.len() + encoded.len() > self.queue_bytes_max.max(encoded.len()) {
            return Err(Dropped::Full);
        }
        sending.queue.extend_from_slice(encoded);
        self.queue_bytes.increment(encoded.len() as f64);
        self.queued.notify_one();
        Ok(())
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LaneSender {
    fn drop(&mut self) {
        let left = self.sending().queue.len();
        self.queue_bytes.decrement(left as f64);
    }
}

impl Sending {
    /// The frame with its length before it.
    fn encode(&mut self, frame: &MemberFrame) -> Vec<u8> {
        let mut encoded = std::mem::take(&mut self.scratch);
        encoded.clear();
        encoded.extend_from_slice(&[0; HEADER_BYTES]);
        let mut encoded =
            postcard::to_extend(frame, encoded).expect("frames are plain values and always encode");
        let length = header(encoded.len() - HEADER_BYTES);
        encoded[..HEADER_BYTES].copy_from_slice(&length);
        encoded
    }

    /// True once the queue is empty, false once the stream is closed.
    fn poll_flush(&mut self, context: &mut Context<'_>, queue_bytes: &Gauge) -> Poll<bool> {
        while !self.queue.is_empty() && !self.closed {
            match poll_write(&mut self.stream, context, &self.queue) {
                Poll::Ready(Some(written)) => {
                    self.queue.advance(written);
                    queue_bytes.decrement(written as f64);
                }
                Poll::Ready(None) => self.closed = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > SCRATCH_BYTES_MAX {
            self.queue = BytesMut::new();
        }
        Poll::Ready(!self.closed)
    }
}

/// How much the stream took; `None` once it is closed.
fn poll_write(
    stream: &mut SendStream,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<Option<usize>> {
    Pin::new(stream).poll_write(context, bytes).map(Result::ok)
}

/// Buffers that grew beyond this are given back.
const SCRATCH_BYTES_MAX: usize = 1 << 20;
