//! Why a node cannot be on the network, or cannot reach another.

use std::{net::SocketAddr, time::Duration};

use raft::PeerId;
use thiserror::Error;

use crate::network::{Code, code::Refusal};

/// Why a node cannot be on the network, or cannot reach another.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NetworkError {
    /// The address is taken, not this host's, or not allowed.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// Where the node was to listen.
        address: SocketAddr,
        /// What the host says.
        reason: String,
    },
    /// A setting that cannot work.
    #[error("{0}")]
    Wish(String),
    /// No connection could be made.
    #[error("peer {peer} cannot be reached: {reason}")]
    Unreachable {
        /// The peer.
        peer: PeerId,
        /// What went wrong.
        reason: String,
    },
    /// The peer did not answer in time.
    #[error("peer {peer} did not answer within {patience:?}")]
    Timeout {
        /// The peer.
        peer: PeerId,
        /// How long it had.
        patience: Duration,
    },
    /// The peer closed the connection, or it broke.
    #[error("peer {peer} closed the connection ({code}): {reason}")]
    Closed {
        /// The peer.
        peer: PeerId,
        /// Its code.
        code: Code,
        /// Its words, bounded.
        reason: String,
    },
    /// This node turned the peer away.
    #[error("peer {peer} is turned away ({code}): {reason}")]
    Refused {
        /// The peer.
        peer: PeerId,
        /// What it is told.
        code: Code,
        /// What it is told, in words.
        reason: String,
    },
    /// A frame that the link does not take. The link goes on.
    #[error("a frame of {bytes} bytes, but this link takes at most {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The link's limit.
        bytes_max: usize,
    },
    /// The node has left the network.
    #[error("the node is shut down")]
    ShutDown,
}

impl NetworkError {
    /// The code of a closing, whoever closed.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Closed { code, .. } | Self::Refused { code, .. } => Some(*code),
            Self::Timeout { .. } => Some(Code::Timeout),
            _ => None,
        }
    }

    pub(crate) fn closed(peer: PeerId, Refusal { code, reason }: Refusal) -> Self {
        Self::Closed { peer, code, reason }
    }

    pub(crate) fn refused(peer: PeerId, Refusal { code, reason }: Refusal) -> Self {
        Self::Refused { peer, code, reason }
    }
}
