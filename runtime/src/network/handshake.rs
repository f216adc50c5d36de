//! The first words on a connection: who speaks which version, on which network, in which group.
//!
//! Every connection's first stream begins with a preface in both directions. Members and clients
//! follow it with a `Hello`, answered by a `Welcome`; each side proves the group's key on this very
//! TLS session, and shows its [`Papers`]. Invariant: before its proof is verified a peer may send
//! 4 KiB, and nothing of it is kept.

use iroh::endpoint::{Connection, RecvStream, SendStream};
use raft::{PeerId, StoreId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    GroupId, GroupKey, Lineage,
    network::{
        Code, NetworkId,
        code::Refusal,
        framing::{self, CHUNK_BYTES_MAX, Deframer},
        papers::Papers,
    },
};

/// Said by the dialer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) group: GroupId,
    /// The dialer's proof of the group's key.
    pub(crate) proof: [u8; 32],
    pub(crate) role: HelloRole,
    pub(crate) papers: Papers,
}

/// As what the dialer comes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum HelloRole {
    Member(MemberHello),
    Client,
}

/// What a member says of itself when it dials.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberHello {
    pub(crate) card: Card,
    /// Counts this process's dials of this peer.
    pub(crate) attempt: u64,
    /// The last bond with this peer that ended here: the peer need not hold on to it.
    pub(crate) lost: Option<u64>,
}

/// Who a member is, besides its peer id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// `None` while the member waits for a founding.
    pub(crate) lineage: Option<Lineage>,
    /// That lineage holds nothing that anyone was promised: its one member may give it up.
    pub(crate) dissolves: bool,
    pub(crate) store: StoreId,
    /// Drawn at each start of the process.
    pub(crate) nonce: u64,
}

/// The answer to a `Hello`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// The answerer's proof of the group's key.
    pub(crate) proof: [u8; 32],
    /// `None` towards a client.
    pub(crate) card: Option<Card>,
    pub(crate) papers: Papers,
}

/// The stream of the handshake, both ways.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) sender: SendStream,
    pub(crate) receiver: RecvStream,
    pub(crate) deframer: Deframer,
}

/// One TLS session, seen from one end, in the light of one group.
pub(crate) struct Session {
    exported: [u8; 32],
    pub(crate) group: GroupId,
    pub(crate) local: PeerId,
    pub(crate) remote: PeerId,
}

impl Talk {
    pub(crate) fn new((sender, receiver): (SendStream, RecvStream)) -> Self {
        Self { sender, receiver, deframer: Deframer::new(UNPROVEN_BYTES_MAX) }
    }

    /// Says which version this is, and which network.
    pub(crate) async fn preface(&mut self, network: NetworkId) -> Result<(), Refusal> {
        let preface = [&MAGIC[..], &VERSION.to_le_bytes(), &network.0].concat();
        self.sender.write_all(&preface).await.map_err(|_| broken())
    }

    /// Checks what the peer says of version and network.
    pub(crate) async fn expect_preface(&mut self, network: NetworkId) -> Result<(), Refusal> {
        let mut magic = [0; MAGIC.len()];
        let mut version = [0; size_of::<u16>()];
        let mut theirs = NetworkId([0; 32]);
        self.receiver.read_exact(&mut magic).await.map_err(|_| broken())?;
        if magic != MAGIC {
            return Err(Code::ProtocolViolation.because("this is no Tessera stream"));
        }
        self.receiver.read_exact(&mut version).await.map_err(|_| broken())?;
        let version = u16::from_le_bytes(version);
        if version != VERSION {
            return Err(Code::DifferentVersion
                .because(format!("the peer speaks version {version}, this node {VERSION}")));
        }
        self.receiver.read_exact(&mut theirs.0).await.map_err(|_| broken())?;
        if theirs != network {
            return Err(Code::DifferentNetwork
                .because(format!("the peer is on network {theirs}, this node on {network}")));
        }
        Ok(())
    }

    pub(crate) async fn say(&mut self, words: &impl Serialize) -> Result<(), Refusal> {
        let words = postcard::to_stdvec(words).expect("plain values always encode");
        let frame = [&framing::header(words.len())[..], &words].concat();
        self.sender.write_all(&frame).await.map_err(|_| broken())
    }

    pub(crate) async fn hear<T: DeserializeOwned>(&mut self) -> Result<T, Refusal> {
        loop {
            if let Some(frame) = self.deframer.next().map_err(framing::Oversized::refusal)? {
                return decode(&frame);
            }
            match self.receiver.read_chunk(CHUNK_BYTES_MAX).await {
                Ok(Some(chunk)) => self.deframer.push(chunk),
                Ok(None) => return Err(Code::InvalidHandshake.because("it ends half-way")),
                Err(_) => return Err(broken()),
            }
        }
    }
}

impl Session {
    pub(crate) fn of(connection: &Connection, local: PeerId, group: GroupId) -> Self {
        let remote = PeerId(*connection.remote_id().as_bytes());
        let context = postcard::to_stdvec(&group).expect("plain values always encode");
        Self { exported: export(connection, PROOF_LABEL, &context), group, local, remote }
    }

    /// This end's proof of the key.
    pub(crate) fn proof(&self, key: &GroupKey) -> [u8; 32] {
        key.proof(&self.exported, self.local)
    }

    /// Whether the other end proved the key.
    pub(crate) fn verify(&self, key: &GroupKey, proof: &[u8; 32]) -> Result<(), Refusal> {
        match key.verifies(proof, &self.exported, self.remote) {
            true => Ok(()),
            false => Err(Code::InvalidProof
                .because(format!("peer {} did not prove the group's key", self.remote))),
        }
    }
}

/// A whole frame of the handshake: less than it announces is refused, and so is more.
pub(super) fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, Refusal> {
    let broken = |why: &dyn std::fmt::Display| {
        let bytes = frame.len();
        Code::InvalidHandshake
            .because(format!("its {bytes} bytes are no handshake of version {VERSION}: {why}"))
    };
    match postcard::take_from_bytes(frame) {
        Ok((words, [])) => Ok(words),
        Ok((_, rest)) => Err(broken(&format!("{} bytes are left over", rest.len()))),
        Err(error) => Err(broken(&error)),
    }
}

/// The dialer's first words, which the peer checks before anything else.
pub(crate) async fn open(connection: &Connection, network: NetworkId) -> Result<Talk, Refusal> {
    let mut talk = Talk::new(connection.open_bi().await.map_err(|error| Refusal::of(&error))?);
    talk.preface(network).await?;
    Ok(talk)
}

/// A number that both ends of a connection know, and nobody else.
pub(crate) fn connection_id(connection: &Connection) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = export(connection, ID_LABEL, b"");
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn export(connection: &Connection, label: &[u8], context: &[u8]) -> [u8; 32] {
    let mut exported = [0; 32];
    connection
        .export_keying_material(&mut exported, label, context)
        .expect("a completed TLS 1.3 handshake exports 32 bytes");
    exported
}

/// The connection went away half-way; its own reason says more.
fn broken() -> Refusal {
    Code::UnexpectedClose.because("the connection broke during the handshake")
}

/// What a peer may say before it has proved anything.
pub(crate) const UNPROVEN_BYTES_MAX: usize = 4 << 10;

pub(crate) const MAGIC: [u8; 4] = *b"tsra";
/// Changes whenever two versions could misunderstand each other.
pub(crate) const VERSION: u16 = 3;

const PROOF_LABEL: &[u8] = b"tessera 2026 proof";
const ID_LABEL: &[u8] = b"tessera 2026 connection";
