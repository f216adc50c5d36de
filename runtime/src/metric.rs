//! The names under which the network half counts, through the `metrics` facade.
//!
//! Names only: whoever counts keeps a handle, so that nothing is allocated where a frame passes.

/// Bytes that left or came over a lane, headers included.
pub(crate) const BOND_BYTES_SENT: &str = "tessera.bond.bytes.sent";
/// See above.
pub(crate) const BOND_BYTES_RECEIVED: &str = "tessera.bond.bytes.received";
/// Frames that left over a lane.
pub(crate) const BOND_MESSAGES_SENT: &str = "tessera.bond.messages.sent";
/// Frames that came over a lane.
pub(crate) const BOND_MESSAGES_RECEIVED: &str = "tessera.bond.messages.received";
/// Frames that were not sent, by lane and reason.
pub(crate) const BOND_DROPPED: &str = "tessera.bond.dropped";
/// Bytes that wait in front of a lane.
pub(crate) const BOND_QUEUE_BYTES: &str = "tessera.bond.queue.bytes";
/// Bonds that are up.
pub(crate) const BOND_ACTIVE: &str = "tessera.bond.active";
/// Bonds that came up.
pub(crate) const BOND_FORMED: &str = "tessera.bond.formed";
/// Bonds that went, by close code.
pub(crate) const BOND_ENDED: &str = "tessera.bond.ended";
/// Dials of peers, by what came of them.
pub(crate) const BOND_DIALS: &str = "tessera.bond.dials";
/// Connections turned away at the door, by close code.
pub(crate) const REFUSALS: &str = "tessera.network.refusals";
/// Connections that have not said yet who they are.
pub(crate) const HANDSHAKES: &str = "tessera.network.handshakes";
