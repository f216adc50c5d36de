//! What a member hears from its bonds, one thing at a time.
//!
//! Frames are read in the task of whoever asks: no other task stands between QUIC and the core,
//! and a peer that nobody reads is held up by QUIC's own windows. Invariant: what is heard of a
//! peer comes in one order: `Up`, its frames, then `Down` or the next `Up`. Lanes come through
//! the same queue as their bond's `Up`, and a frame is handed out only while its bond stands.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::{
    Stream, StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use raft::NodeId;
use tokio::sync::mpsc;

use crate::group::{
    bond::{
        Side,
        read::LaneReader,
        table::{Foreign, Told},
    },
    wire::MemberFrame,
};

/// What bonds tell the driver.
#[derive(Debug)]
pub(crate) enum BondEvent {
    /// A bond is up (again, if `node` was bonded before: what was sent on the old may be lost).
    Up { node: NodeId },
    /// The bond is gone and nothing replaced it yet.
    Down { node: NodeId },
    /// A frame, from whom the connection proved.
    Frame { from: NodeId, frame: MemberFrame },
    /// A peer that proved the key belongs to another lineage; it and this node part again.
    Foreign(Foreign),
}

/// The listening end of all bonds of one group.
pub(crate) struct BondEvents {
    side: Arc<Side>,
    told: mpsc::Receiver<Told>,
    /// Comes before anything else: the second half of what was told.
    next: Option<BondEvent>,
    lanes: SelectAll<BoxStream<'static, BondEvent>>,
}

impl BondEvents {
    pub(super) fn new(side: Arc<Side>, told: mpsc::Receiver<Told>) -> Self {
        Self { side, told, next: None, lanes: SelectAll::new() }
    }

    /// The next event; `None` once the bonds are shut down. Giving up loses nothing.
    pub(crate) async fn recv(&mut self) -> Option<BondEvent> {
        poll_fn(|context| self.poll(context)).await
    }

    /// An event that is there already. Who gets none must come back with [`BondEvents::recv`]
    /// to be woken by the next.
    pub(crate) fn try_recv(&mut self) -> Option<BondEvent> {
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }

    /// How many tasks have told something that was not heard yet.
    pub(crate) fn len(&self) -> usize {
        self.told.len()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<BondEvent>> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(next));
        }
        while let Poll::Ready(told) = self.told.poll_recv(context) {
            match told {
                Some(Told::Up { node, instead_of: None }) => {
                    return Poll::Ready(Some(BondEvent::Up { node }));
                }
                Some(Told::Up { node, instead_of: Some(gone) }) => {
                    self.next = Some(BondEvent::Up { node });
                    return Poll::Ready(Some(BondEvent::Down { node: gone }));
                }
                Some(Told::Foreign(foreign)) => {
                    return Poll::Ready(Some(BondEvent::Foreign(foreign)));
                }
                Some(Told::Down { node }) => return Poll::Ready(Some(BondEvent::Down { node })),
                Some(Told::Lane(opened)) => {
                    let reader = LaneReader::new(Arc::clone(&self.side), opened);
                    self.lanes.push(frames(reader).boxed());
                }
                None => return Poll::Ready(None),
            }
        }
        match Pin::new(&mut self.lanes).poll_next(context) {
            Poll::Ready(Some(event)) => Poll::Ready(Some(event)),
            // Without any lane there is nothing to wait for but what is told.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

fn frames(reader: LaneReader) -> impl Stream<Item = BondEvent> + Send {
    stream::unfold(reader, |mut reader| async move {
        let frame = reader.next().await?;
        Some((BondEvent::Frame { from: reader.from(), frame }, reader))
    })
}
