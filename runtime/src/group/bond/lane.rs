//! A lane of a bond: one stream with its own priority, and its own queue in front of it.
//!
//! A frame is written at once if the stream takes it, and queued otherwise: no task stands
//! between the driver and QUIC while the lane is free. Invariant: frames of one lane go in the
//! order they were sent in, whole, and at most `queue_bytes_max` wait.

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use iroh::endpoint::SendStream;
use raft::Message;
use tokio::sync::Notify;

use crate::{
    ConsensusConfig,
    group::{
        bond::metric::QueueBytes,
        replay::ReplayFrame,
        wire::{self, MemberFrame},
    },
    network::{HEADER_BYTES, header},
};

/// What shares an order and a priority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// Votes, heartbeats, acknowledgements, and what is asked before entries are fetched: small, and
    /// worth most when they are early.
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
    queue_bytes: QueueBytes,
}

struct Sending {
    stream: SendStream,
    /// Waits for the stream, the rest of a partly written frame first.
    queue: VecDeque<Bytes>,
    /// Waits behind that: small frames, and ends of them, one after the other.
    tail: BytesMut,
    /// In both.
    queue_bytes: usize,
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
            MemberFrame::Snapshot(_) | MemberFrame::Replay(ReplayFrame::Entries { .. }) => {
                Self::Bulk
            }
            // What is asked and answered before entries are fetched is small, and must not stand in
            // line behind appends that it is to make unnecessary.
            MemberFrame::Replay(
                ReplayFrame::AskHeld { .. }
                | ReplayFrame::Held { .. }
                | ReplayFrame::AskMarks { .. }
                | ReplayFrame::Marks(_)
                | ReplayFrame::Fetch { .. }
                | ReplayFrame::Busy { .. }
                | ReplayFrame::Fetching { .. },
            ) => Self::Control,
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
            // The core's window to one follower, with as much room beside it: the core asks before
            // it sends anything again, so that little else waits.
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
        queue_bytes: QueueBytes,
    ) -> Self {
        // Errs only on a stream that is closed already, and then so does the first write.
        drop(stream.set_priority(lane.priority()));
        let name = u8::try_from(lane.index()).expect("lanes are few");
        queue_bytes.add(1);
        let (queue, scratch) = (VecDeque::from([Bytes::from(vec![name])]), Vec::new());
        Self {
            state: Mutex::new(Sending {
                stream,
                queue,
                tail: BytesMut::new(),
                queue_bytes: 1,
                scratch,
                closed: false,
            }),
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
        let (head, body) = sending.encode(frame);
        let bytes = head.len() + body.len();
        let sent = match bytes > HEADER_BYTES + frame_bytes_max {
            true => Err(Dropped::Oversized),
            false => self.write_or_queue(&mut sending, &head, body),
        };
        if head.capacity() <= SCRATCH_BYTES_MAX {
            sending.scratch = head;
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

    fn write_or_queue(
        &self,
        sending: &mut Sending,
        mut head: &[u8],
        mut body: Bytes,
    ) -> Result<(), Dropped> {
        // What waits goes first.
        if sending.queue_bytes == 0 {
            let mut context = Context::from_waker(Waker::noop());
            // Where the stream takes no more the writing task asks again, and is then woken when
            // there is room.
            let polled = match poll_write(&mut sending.stream, &mut context, &mut head) {
                Poll::Ready(true) => poll_write_body(&mut sending.stream, &mut context, &mut body),
                other => other,
            };
            match polled {
                Poll::Ready(true) => return Ok(()),
                Poll::Ready(false) => {
                    sending.closed = true;
                    return Err(Dropped::Closed);
                }
                Poll::Pending => {}
            }
        } else {
            let bytes = head.len() + body.len();
            if sending.queue_bytes + bytes > self.queue_bytes_max.max(bytes) {
                return Err(Dropped::Full);
            }
        }
        self.queue_bytes.add(head.len() + body.len());
        sending.wait(head, body);
        self.queued.notify_one();
        Ok(())
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LaneSender {
    fn drop(&mut self) {
        let left = self.sending().queue_bytes;
        self.queue_bytes.take(left);
    }
}

impl Sending {
    /// The frame with its length before it; the end of it is no copy if it is large.
    fn encode(&mut self, frame: &MemberFrame) -> (Vec<u8>, Bytes) {
        let mut head = std::mem::take(&mut self.scratch);
        head.clear();
        head.extend_from_slice(&[0; HEADER_BYTES]);
        let (mut head, body) = wire::encode(frame, head);
        let length = header(head.len() - HEADER_BYTES + body.len());
        head[..HEADER_BYTES].copy_from_slice(&length);
        (head, body)
    }

    /// Has the rest of a frame wait.
    fn wait(&mut self, head: &[u8], body: Bytes) {
        self.queue_bytes += head.len() + body.len();
        self.tail.extend_from_slice(head);
        if !body.is_empty() {
            self.line_up();
            self.queue.push_back(body);
        }
    }

    /// What waits behind the others is the last of them.
    fn line_up(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// True once the queue is empty, false once the stream is closed.
    fn poll_flush(&mut self, context: &mut Context<'_>, queue_bytes: &QueueBytes) -> Poll<bool> {
        self.line_up();
        while let Some(next) = self.queue.front_mut()
            && !self.closed
        {
            let before = next.len();
            let polled = poll_write_body(&mut self.stream, context, next);
            let written = before - next.len();
            self.queue_bytes -= written;
            queue_bytes.take(written);
            match polled {
                Poll::Ready(true) => drop(self.queue.pop_front()),
                Poll::Ready(false) => self.closed = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(!self.closed)
    }
}

/// Writes all of these bytes, which are copied, and takes away what is written; false once the
/// stream is closed.
fn poll_write(stream: &mut SendStream, context: &mut Context<'_>, bytes: &mut &[u8]) -> Poll<bool> {
    while !bytes.is_empty() {
        match ready!(Pin::new(&mut *stream).poll_write(context, bytes)) {
            Ok(written) => *bytes = &bytes[written..],
            Err(_) => return Poll::Ready(false),
        }
    }
    Poll::Ready(true)
}

/// As [`poll_write`], without a copy.
fn poll_write_body(
    stream: &mut SendStream,
    context: &mut Context<'_>,
    bytes: &mut Bytes,
) -> Poll<bool> {
    while !bytes.is_empty() {
        let mut one = [std::mem::take(bytes)];
        // What is written is taken out of its place, so to poll it once loses nothing.
        let polled = pin!(stream.write_many_chunks(&mut &mut one[..])).poll(context);
        [*bytes] = one;
        if ready!(polled).is_err() {
            return Poll::Ready(false);
        }
    }
    Poll::Ready(true)
}

/// Buffers that grew beyond this are given back.
const SCRATCH_BYTES_MAX: usize = 1 << 20;
