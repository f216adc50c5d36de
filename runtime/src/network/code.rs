//! Why a connection was closed: the numbers in QUIC's close frame, and the words beside them.
//!
//! The numbers are those of the crate mosaik where it has one. Invariant: what a peer says in its
//! close frame is bounded and made printable before anyone sees it.

use std::fmt;

use iroh::endpoint::{Connection, ConnectionError, VarInt};
use metrics::counter;

use crate::metric::REFUSALS;

/// A close code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub enum Code {
    /// Nobody listens for this protocol.
    InvalidAlpn = 100,
    /// The two nodes are on different networks.
    DifferentNetwork = 101,
    /// The connection was not needed any more.
    Cancelled = 102,
    /// The connection broke, or was closed with an unknown code.
    UnexpectedClose = 103,
    /// The two nodes speak different versions of the protocol.
    DifferentVersion = 104,
    /// All is said.
    Success = 200,
    /// The node leaves.
    GracefulShutdown = 204,
    /// The peer sent what the protocol does not allow.
    ProtocolViolation = 400,
    /// The peer is not known here.
    UnknownPeer = 401,
    /// No room for one more.
    NoCapacity = 10_509,
    /// The handshake could not be read.
    InvalidHandshake = 30_400,
    /// The peer is not, or no longer, let in.
    NotAllowed = 30_403,
    /// This node is not in the group.
    GroupNotFound = 30_404,
    /// The peer did not prove the group's key.
    InvalidProof = 30_405,
    /// The peer was silent for too long.
    Timeout = 30_408,
    /// The two nodes belong to different foundings of the group.
    DifferentLineage = 30_409,
    /// A newer bond took this one's place.
    Replaced = 30_410,
    /// There is a bond already, and it is kept.
    AlreadyBonded = 30_429,
}

/// A connection is not wanted, and this is what it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) reason: String,
}

impl Code {
    /// The number in the close frame.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The code with this number; `UnexpectedClose` if there is none.
    pub fn of(number: u64) -> Self {
        let known = ALL.iter().find(|code| u64::from(code.number()) == number);
        known.copied().unwrap_or(Self::UnexpectedClose)
    }

    /// Its name, as metrics and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidAlpn => "invalid_alpn",
            Self::DifferentNetwork => "different_network",
            Self::Cancelled => "cancelled",
            Self::UnexpectedClose => "unexpected_close",
            Self::DifferentVersion => "different_version",
            Self::Success => "success",
            Self::GracefulShutdown => "graceful_shutdown",
            Self::ProtocolViolation => "protocol_violation",
            Self::UnknownPeer => "unknown_peer",
            Self::NoCapacity => "no_capacity",
            Self::InvalidHandshake => "invalid_handshake",
            Self::NotAllowed => "not_allowed",
            Self::GroupNotFound => "group_not_found",
            Self::InvalidProof => "invalid_proof",
            Self::Timeout => "timeout",
            Self::DifferentLineage => "different_lineage",
            Self::Replaced => "replaced",
            Self::AlreadyBonded => "already_bonded",
        }
    }

    /// Counts someone who was turned away.
    pub(crate) fn count(self) {
        counter!(REFUSALS, "code" => self.name()).increment(1);
    }

    /// A refusal with this code.
    pub(crate) fn because(self, reason: impl Into<String>) -> Refusal {
        Refusal { code: self, reason: reason.into() }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.name())
    }
}

impl Refusal {
    /// Closes the connection and tells the peer why.
    pub(crate) fn close(&self, connection: &Connection) {
        connection.close(VarInt::from_u32(self.code.number()), bounded(&self.reason).as_bytes());
    }

    /// Closes a connection that is not let in, and counts it.
    pub(crate) fn turn_away(&self, connection: &Connection) {
        self.code.count();
        tracing::debug!(remote = %connection.remote_id().fmt_short(), refusal = %self, "turned away");
        self.close(connection);
    }

    /// What is known of why a connection ended.
    pub(crate) fn of(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let said = String::from_utf8_lossy(&close.reason);
                Code::of(close.error_code.into_inner()).because(bounded(&said))
            }
            ConnectionError::TimedOut => Code::Timeout.because("nothing was heard for too long"),
            ConnectionError::LocallyClosed => Code::Cancelled.because("closed by this node"),
            ConnectionError::Reset => Code::UnexpectedClose.because("the peer has restarted"),
            // Words of the peer's QUIC layer; bounded like any other.
            other => Code::UnexpectedClose.because(bounded(&other.to_string())),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.reason)
    }
}

fn bounded(text: &str) -> String {
    let printable = text.chars().filter(|char| !char.is_control());
    let mut bounded = String::new();
    for char in printable {
        if bounded.len() + char.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        bounded.push(char);
    }
    bounded
}

/// Fits into one packet with room to spare, so that it arrives whole.
const REASON_BYTES_MAX: usize = 256;

const ALL: [Code; 18] = [
    Code::InvalidAlpn,
    Code::DifferentNetwork,
    Code::Cancelled,
    Code::UnexpectedClose,
    Code::DifferentVersion,
    Code::Success,
    Code::GracefulShutdown,
    Code::ProtocolViolation,
    Code::UnknownPeer,
    Code::NoCapacity,
    Code::InvalidHandshake,
    Code::NotAllowed,
    Code::GroupNotFound,
    Code::InvalidProof,
    Code::Timeout,
    Code::DifferentLineage,
    Code::Replaced,
    Code::AlreadyBonded,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire_and_a_strange_number_is_unexpected() {
        for code in ALL {
            assert_eq!(Code::of(code.number().into()), code, "{code}");
        }
        assert_eq!(Code::of(0), Code::UnexpectedClose);
        assert_eq!(Code::of(u64::MAX), Code::UnexpectedClose);
    }

    #[test]
    fn a_peers_words_are_cut_and_made_printable() {
        let said = format!("\u{1b}[31mred\n{}", "ä".repeat(1_000));
        let heard = bounded(&said);
        assert!(heard.len() <= REASON_BYTES_MAX, "{} bytes", heard.len());
        assert!(heard.starts_with("[31mredä"), "{heard}");
    }
}
