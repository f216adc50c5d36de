//! Reads one lane of a bond: frames from the stream, for whoever asks.
//!
//! Invariant: a peer that sends what is no frame of this lane loses its bond; nothing that it
//! sends is held beyond one frame before somebody asks for the next.

use std::sync::Arc;

use bytes::Bytes;
use iroh::endpoint::RecvStream;
use raft::NodeId;

use crate::{
    group::{
        bond::{
            Side,
            lane::{Dropped, Lane},
            table::{Bond, Opened},
        },
        wire::{self, MemberFrame},
    },
    network::{CHUNK_BYTES_MAX, Code, Deframer, HEADER_BYTES, Refusal},
};

/// The receiving end of a lane.
pub(super) struct LaneReader {
    side: Arc<Side>,
    bond: Arc<Bond>,
    stream: RecvStream,
    deframer: Deframer,
    lane: Lane,
}

impl LaneReader {
    /// Reads what lane this is, the stream's first byte; `None` once the bond is over. The
    /// control lane's name has been read already by whoever was dialed.
    pub(super) async fn open(side: Arc<Side>, opened: Opened) -> Option<Self> {
        let Opened { bond, mut stream, lane } = opened;
        let lane = match lane {
            Some(lane) => {
                bond.open_lane(lane);
                lane
            }
            None => match open(&bond, &mut stream).await {
                Ok(lane) => lane?,
                Err(violation) => {
                    misbehaves(&bond, violation);
                    return None;
                }
            },
        };
        let deframer = match lane {
            // Logs keep what comes here.
            Lane::Bulk => Deframer::new(side.frame_bytes_max()).set_aside(SET_ASIDE_BYTES_MAX),
            _ => Deframer::new(side.frame_bytes_max()),
        };
        Some(Self { side, bond, stream, deframer, lane })
    }

    /// Which lane it is.
    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// Whom the connection proved.
    pub(super) fn from(&self) -> NodeId {
        self.bond.node
    }

    /// The next frame that says something; `None` once the bond is over or replaced. A peer that
    /// misbehaves loses its bond here.
    pub(super) async fn next(&mut self) -> Option<MemberFrame> {
        match self.read().await {
            Ok(frame) => frame,
            Err(violation) => {
                misbehaves(&self.bond, violation);
                None
            }
        }
    }

    /// Counts the frame in hand and those that came with it.
    fn drop_rest(&mut self) {
        self.side.metrics.dropped(self.lane, Dropped::Replaced);
        while let Ok(Some(_)) = self.deframer.next() {
            self.side.metrics.dropped(self.lane, Dropped::Replaced);
        }
    }

    async fn read(&mut self) -> Result<Option<MemberFrame>, Refusal> {
        let mut pings = 0;
        loop {
            while let Some(bytes) = self.deframer.next().map_err(|large| large.refusal())? {
                self.side.metrics.received(self.lane, HEADER_BYTES + bytes.len());
                let frame = decode(self.lane, &bytes)?;
                if !self.side.table.holds(&self.bond) {
                    self.drop_rest();
                    return Ok(None);
                }
                // That it came is all a ping says.
                if frame != MemberFrame::Ping {
                    return Ok(Some(frame));
                }
                pings += 1;
                // They may come faster than they are read, and timers must not wait for their end.
                if pings % PINGS_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
            // The connection is gone; whoever closed it has said why.
            let Ok(Some(chunk)) = self.stream.read_chunk(CHUNK_BYTES_MAX).await else {
                return Ok(None);
            };
            self.bond.heard(self.side.clock.now());
            self.deframer.push(chunk);
        }
    }
}

/// Chunks of entries in good order have no more.
const SET_ASIDE_BYTES_MAX: usize = 1 << 20;
/// So many are read before others have their turn.
pub(super) const PINGS_AT_ONCE: usize = 64;

/// The lane that a new stream names; `None` if the connection is gone.
async fn open(bond: &Bond, stream: &mut RecvStream) -> Result<Option<Lane>, Refusal> {
    let mut name = [0];
    let Ok(()) = stream.read_exact(&mut name).await else { return Ok(None) };
    let Some(lane) = Lane::named(name[0]) else {
        return Err(violation(format!("there is no lane {}", name[0])));
    };
    match bond.open_lane(lane) {
        true => Ok(Some(lane)),
        false => Err(violation(format!("a second {} lane", lane.name()))),
    }
}

fn misbehaves(bond: &Bond, violation: Refusal) {
    tracing::warn!(node = %bond.node, %violation, "a peer misbehaves");
    bond.end(violation);
}

fn decode(lane: Lane, bytes: &Bytes) -> Result<MemberFrame, Refusal> {
    let frame = decode_frame(bytes)?;
    match Lane::of(&frame) == lane {
        true => Ok(frame),
        false => Err(violation(format!("a frame that is not for the {} lane", lane.name()))),
    }
}

/// The frame that these bytes are, on whatever lane.
pub(crate) fn decode_frame(bytes: &Bytes) -> Result<MemberFrame, Refusal> {
    let frame =
        wire::decode(bytes).map_err(|error| violation(format!("no frame of a member: {error}")))?;
    match &frame {
        MemberFrame::Introduction(introduction) => introduction.check().map_err(violation)?,
        MemberFrame::Replay(replay) => replay.check().map_err(violation)?,
        _ => {}
    }
    Ok(frame)
}

fn violation(reason: String) -> Refusal {
    Code::ProtocolViolation.because(reason)
}
