//! What a member hears from its bonds, one thing at a time.
//!
//! Frames are read in the task of whoever asks: no other task stands between QUIC and the core,
//! and a peer that nobody reads is held up by QUIC's own windows. Invariant: what is heard of a
//! peer comes in one order: `Up`, its frames, then `Down` or the next `Up`. Lanes come through
//! the same queue as their bond's `Up`, and a frame is handed out only while its bond stands.
//! Control lanes come first: a heartbeat waits for one frame of other lanes, not for all that
//! have arrived. But a peer that fills its own holds nobody's entries up for ever.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered, SelectAll},
};
use raft::NodeId;
use tokio::sync::mpsc;

use crate::{
    Lineage,
    group::{
        bond::{
            Side,
            lane::Lane,
            read::LaneReader,
            table::{Foreign, Told},
        },
        wire::MemberFrame,
    },
};

/// What bonds tell the driver.
#[derive(Debug)]
pub(crate) enum BondEvent {
    /// A bond is up (again, if `node` was bonded before: what was sent on the old may be lost).
    Up {
        node: NodeId,
        /// Of which lineage it was when it bonded, as far as it knew.
        lineage: Option<Lineage>,
    },
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
    /// Lanes that have not said yet which they are.
    opening: FuturesUnordered<BoxFuture<'static, Option<LaneReader>>>,
    lanes: Lanes<BondEvent>,
}

/// What comes on all lanes of all bonds, control lanes first. Fair to lanes of the same rank.
struct Lanes<T> {
    control: SelectAll<BoxStream<'static, T>>,
    others: SelectAll<BoxStream<'static, T>>,
    /// Frames of control lanes since the others were looked at.
    in_a_row: usize,
}

impl BondEvents {
    pub(super) fn new(side: Arc<Side>, told: mpsc::Receiver<Told>) -> Self {
        let opening = FuturesUnordered::new();
        Self { side, told, next: None, opening, lanes: Lanes::new() }
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
                Some(Told::Up { node, lineage, instead_of: None }) => {
                    return Poll::Ready(Some(BondEvent::Up { node, lineage }));
                }
                Some(Told::Up { node, lineage, instead_of: Some(gone) }) => {
                    self.next = Some(BondEvent::Up { node, lineage });
                    return Poll::Ready(Some(BondEvent::Down { node: gone }));
                }
                Some(Told::Foreign(foreign)) => {
                    return Poll::Ready(Some(BondEvent::Foreign(foreign)));
                }
                Some(Told::Down { node }) => return Poll::Ready(Some(BondEvent::Down { node })),
                Some(Told::Lane(opened)) => {
                    let reader = LaneReader::open(Arc::clone(&self.side), opened);
                    self.opening.push(reader.boxed());
                }
                None => return Poll::Ready(None),
            }
        }
        while let Poll::Ready(Some(opened)) = self.opening.poll_next_unpin(context) {
            if let Some(reader) = opened {
                self.lanes.push(reader.lane(), frames(reader).boxed());
            }
        }
        self.lanes.poll_next(context).map(Some)
    }
}

impl<T> Lanes<T> {
    fn new() -> Self {
        Self { control: SelectAll::new(), others: SelectAll::new(), in_a_row: 0 }
    }

    fn push(&mut self, lane: Lane, frames: BoxStream<'static, T>) {
        match lane {
            Lane::Control => self.control.push(frames),
            Lane::Append | Lane::Client | Lane::Bulk => self.others.push(frames),
        }
    }

    /// Without any lane there is nothing to wait for here: new ones are told elsewhere.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<T> {
        if self.in_a_row < CONTROL_IN_A_ROW
            && let Poll::Ready(Some(frame)) = self.control.poll_next_unpin(context)
        {
            self.in_a_row += 1;
            return Poll::Ready(frame);
        }
        self.in_a_row = 0;
        for lanes in [&mut self.others, &mut self.control] {
            if let Poll::Ready(Some(frame)) = lanes.poll_next_unpin(context) {
                return Poll::Ready(frame);
            }
        }
        Poll::Pending
    }
}

fn frames(reader: LaneReader) -> impl Stream<Item = BondEvent> + Send {
    stream::unfold(reader, |mut reader| async move {
        let frame = reader.next().await?;
        Some((BondEvent::Frame { from: reader.from(), frame }, reader))
    })
}

/// More than all members have to say at a time.
const CONTROL_IN_A_ROW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_lane_that_never_ends_holds_no_entries_up() {
        let mut lanes = Lanes::new();
        lanes.push(Lane::Control, stream::repeat(Lane::Control).boxed());
        lanes.push(Lane::Append, stream::repeat(Lane::Append).boxed());
        let mut next = || lanes.poll_next(&mut Context::from_waker(Waker::noop()));
        let heard = [(); 3 * (CONTROL_IN_A_ROW + 1)].map(|()| next());
        let appended = heard.iter().filter(|lane| **lane == Poll::Ready(Lane::Append)).count();
        assert_eq!(appended, 3);
    }

    #[test]
    fn a_heartbeat_waits_for_no_entries_that_have_arrived() {
        let mut lanes = Lanes::new();
        lanes.push(Lane::Append, stream::iter(vec![Lane::Append; 3]).boxed());
        lanes.push(Lane::Control, stream::iter(vec![Lane::Control; 2]).boxed());
        lanes.push(Lane::Client, stream::iter(vec![Lane::Client; 3]).boxed());
        let mut next = || lanes.poll_next(&mut Context::from_waker(Waker::noop()));
        assert_eq!([next(), next()], [Poll::Ready(Lane::Control); 2]);
        let rest: Vec<_> = std::iter::from_fn(|| match next() {
            Poll::Ready(lane) => Some(lane),
            Poll::Pending => None,
        })
        .collect();
        assert_eq!(rest.len(), 6, "{rest:?}");
        assert!(rest[..4].contains(&Lane::Append) && rest[..4].contains(&Lane::Client));
    }
}
