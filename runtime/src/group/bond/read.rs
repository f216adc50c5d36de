//! Reads one lane of a bond: frames from the stream to the driver.
//!
//! Invariant: a peer that sends what is no frame of this lane loses its bond; nothing that it
//! sends is held beyond one frame before the driver has room.

use std::sync::Arc;

use iroh::endpoint::RecvStream;
use tokio::sync::mpsc;

use crate::{
    group::{
        bond::{BondEvent, Side, lane::Lane, table::Bond},
        wire::MemberFrame,
    },
    network::{CHUNK_BYTES_MAX, Code, Deframer, HEADER_BYTES, Refusal},
};

/// Reads until the bond is closed or replaced; errs if the peer misbehaves.
pub(super) async fn read(
    side: Arc<Side>,
    events: mpsc::Sender<BondEvent>,
    bond: Arc<Bond>,
    mut stream: RecvStream,
    lane: Option<Lane>,
) -> Result<(), Refusal> {
    let violation = |reason: String| Code::ProtocolViolation.because(reason);
    let lane = match lane {
        Some(lane) => lane,
        None => {
            let mut name = [0];
            // The connection is gone; whoever closed it has said why.
            let Ok(()) = stream.read_exact(&mut name).await else { return Ok(()) };
            Lane::named(name[0])
                .ok_or_else(|| violation(format!("there is no lane {}", name[0])))?
        }
    };
    if !bond.open_lane(lane) {
        return Err(violation(format!("a second {} lane", lane.name())));
    }
    let mut deframer = Deframer::new(side.frame_bytes_max());
    while let Ok(Some(chunk)) = stream.read_chunk(CHUNK_BYTES_MAX).await {
        bond.heard(side.clock.now());
        deframer.push(chunk);
        while let Some(bytes) = deframer.next().map_err(|oversized| oversized.refusal())? {
            side.metrics.received(lane, HEADER_BYTES + bytes.len());
            let frame: MemberFrame = postcard::from_bytes(&bytes)
                .map_err(|error| violation(format!("no frame of a member: {error}")))?;
            if Lane::of(&frame) != lane {
                return Err(violation(format!("a frame that is not for the {} lane", lane.name())));
            }
            // That it came is all a ping says.
            if frame == MemberFrame::Ping {
                continue;
            }
            let Ok(room) = events.reserve().await else { return Ok(()) };
            if !side.table.deliver(&bond, room, frame) {
                return Ok(());
            }
        }
    }
    Ok(())
}
