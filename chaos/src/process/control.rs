//! What the harness and a node say to each other over the node's standard input and output.
//!
//! One JSON value per line, both ways. Never an operation: those travel over QUIC. Invariant:
//! no line is longer than [`LINE_BYTES_MAX`], and what is longer ends the channel.

use std::{
    io::{self, BufRead, Read},
    net::SocketAddr,
    path::PathBuf,
};

use runtime::{ConsensusConfig, Peer, Planted};
use serde::{Deserialize, Serialize};

use crate::{
    cluster::{NodeEvent, NodeStatus},
    disk::{DiskFault, DiskReport},
    fault::NodeNumber,
    history::{LogLine, RequestId},
    link::{Direction, LinkFaults, LinkReport},
    skew::ClockFault,
};

/// The harness asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Returns in the reply.
    pub(super) id: u64,
    /// Which of its groups it is about, from 1, where it is about one.
    pub(super) group: u64,
    /// What is asked.
    pub(super) ask: Ask,
}

/// What can be asked of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// Be this node. The first request, once.
    Init(Box<Init>),
    /// Join all groups with these, this node among them. The second, once.
    Join {
        /// All nodes by number.
        nodes: Vec<(NodeNumber, Peer)>,
    },
    /// How are you?
    Status,
    /// Tell when everything up to the index is applied.
    Reached {
        /// The index.
        index: u64,
    },
    /// A page of the committed log.
    Log {
        /// Its first index.
        from: u64,
    },
    /// Hurt these links from now on, if any, and tell what has befallen all that ever were.
    Links {
        /// The links. Others stay as they are.
        links: Vec<LinkSetting>,
    },
    /// Have this befall your clocks from now on, if anything is said, and tell what they show.
    Clock {
        /// What.
        fault: Option<ClockFault>,
    },
    /// From now on this befalls your disk, or nothing; tell what does.
    Harm {
        /// What.
        fault: Option<DiskFault>,
    },
    /// What came of what befalls your disk?
    Disk,
    /// Hand leadership over to another; tell when you lead no more.
    HandOver,
    /// Leave the group in good order. Nothing but the end follows.
    Leave,
    /// End in good order.
    Shutdown,
}

/// What a node's clocks show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClockReading {
    /// What the host's monotonic clock showed.
    pub host_ns: u64,
    /// What the node's own showed at the same moment.
    pub monotonic_ns: u64,
    /// What befalls them.
    pub fault: ClockFault,
    /// How far the wall clock is off, with all its jumps.
    pub wall_off_ms: i64,
}

/// Who a node is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Init {
    /// Its number.
    pub(super) node: NodeNumber,
    /// What its identity follows from.
    pub(super) secret: [u8; 32],
    /// Where it listens; port 0 lets the system choose.
    pub(super) bind: SocketAddr,
    /// What members and clients of the group share; of several groups, of each.
    pub(super) groups: Vec<String>,
    /// What carries its datagrams.
    pub(super) transport: Transport,
    /// How it keeps time and how much it takes on.
    pub(super) consensus: ConsensusConfig,
    /// A rule that it breaks on purpose.
    pub(super) planted: Option<Planted>,
    /// What befalls its clocks.
    pub(super) clock: ClockFault,
    /// What befalls its disk.
    pub(super) disk: Option<DiskFault>,
    /// Its stores, one for each group; without any it remembers nothing.
    pub(super) stores: Vec<PathBuf>,
    /// Whether it had its stores before: then a missing one is an error and not a new one.
    pub(super) store_must_exist: bool,
    /// What its draws follow from.
    pub(super) entropy: u64,
}

/// What carries a node's datagrams.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Transport {
    /// iroh's own, over UDP of the host.
    Host,
    /// A socket whose links can be hurt, and are so from the start.
    Packets {
        /// The links that are hurt.
        links: Vec<LinkSetting>,
    },
}

/// What shall befall a link, at one of its ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct LinkSetting {
    /// The other end.
    pub(super) remote: SocketAddr,
    /// Which way.
    pub(super) direction: Direction,
    /// What befalls its datagrams.
    pub(super) faults: LinkFaults,
}

/// A node says something.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// It answers.
    Reply {
        /// From the request.
        id: u64,
        /// The answer, or why there is none.
        answer: Result<Answer, String>,
    },
    /// It noted something.
    Event(NodeEvent),
}

/// An answer to each [`Ask`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// To `Init`: it listens here.
    Bound(Peer),
    /// To `Join`.
    Joined,
    /// It leads no more.
    HandedOver,
    /// To `Status`.
    Status(NodeStatus),
    /// To `Reached`: it had applied it at this moment.
    Reached {
        /// The moment.
        at_ns: u64,
    },
    /// To `Log`.
    Log(Vec<LogRow>),
    /// To `Links`.
    Links(Vec<LinkReport>),
    /// To `Clock`.
    Clock(ClockReading),
    /// To `Harm` and `Disk`.
    Disk(DiskReport),
    /// To `Leave`: it is no member any more.
    Left,
    /// To `Shutdown`.
    Bye,
}

/// A line of a log: term, index, session and sequence of its request, value.
pub(super) type LogRow = (u64, u64, Option<(u64, u64)>, Option<u64>);

pub(super) fn row_of(line: LogLine) -> LogRow {
    let request = line.request.map(|request| (request.session, request.sequence));
    (line.term, line.index, request, line.value)
}

pub(super) fn line_of((term, index, request, value): LogRow) -> LogLine {
    let request = request.map(|(session, sequence)| RequestId { session, sequence });
    LogLine { term, index, request, value }
}

/// The next line without its end; nothing at the end of the channel.
///
/// # Errors
/// Those of the reader, and `InvalidData` for a line that is too long or ends too soon.
pub(super) fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => {
            let reason = format!("a line that has no end after {read} bytes");
            Err(io::Error::new(io::ErrorKind::InvalidData, reason))
        }
    }
}

/// A value as a line.
pub(super) fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("plain data with text keys always encodes");
    line.push(b'\n');
    line
}

/// Far above a page of a log.
pub(super) const LINE_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use runtime::{ConsensusProfile, PeerId, Role};

    use super::*;
    use crate::{
        cluster::{Fetched, What},
        disk::DiskKind,
        link::LinkCounts,
    };

    fn setting() -> LinkSetting {
        LinkSetting {
            remote: "127.0.0.1:7".parse().expect("an address"),
            direction: Direction::Out,
            faults: LinkFaults::blocked(),
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let peer = Peer {
            id: PeerId([9; 32]),
            addresses: vec!["127.0.0.1:7".parse().expect("an address")],
        };
        let init = Init {
            node: NodeNumber(3),
            secret: [7; 32],
            bind: "127.0.0.1:0".parse().expect("an address"),
            groups: vec!["x".into()],
            transport: Transport::Packets { links: vec![setting()] },
            consensus: ConsensusProfile::Loopback.config(),
            planted: Some(Planted::LiveQuorum),
            clock: ClockFault { wall_offset_ms: -1, ..ClockFault::default() },
            disk: Some(DiskFault::of(DiskKind::Stall)),
            stores: vec!["a/b".into()],
            store_must_exist: true,
            entropy: u64::MAX,
        };
        let asks = [
            Ask::Init(Box::new(init)),
            Ask::Join { nodes: vec![(NodeNumber(1), peer.clone())] },
            Ask::Status,
            Ask::Reached { index: 1 },
            Ask::Log { from: 1 },
            Ask::Links { links: vec![setting()] },
            Ask::Clock { fault: Some(ClockFault { rate_ppm: 5, ..ClockFault::default() }) },
            Ask::Harm { fault: Some(DiskFault::of(DiskKind::TornWrite)) },
            Ask::Harm { fault: None },
            Ask::Disk,
            Ask::HandOver,
            Ask::Leave,
            Ask::Shutdown,
        ];
        for ask in asks {
            let request = Request { id: 1, group: 1, ask };
            let mut line = to_line(&request);
            assert_eq!(line.pop(), Some(b'\n'));
            assert_eq!(serde_json::from_slice::<Request>(&line).expect("its own"), request);
        }
    }

    #[test]
    fn what_a_node_says_reads_back() {
        let peer = Peer {
            id: PeerId([9; 32]),
            addresses: vec!["127.0.0.1:7".parse().expect("an address")],
        };
        let line = LogLine {
            term: 1,
            index: 2,
            request: Some(RequestId { session: 3, sequence: 4 }),
            value: None,
        };
        let status = NodeStatus {
            role: Role::Leader,
            term: 1,
            leader: Some(NodeNumber(2)),
            commit: 3,
            applied: 3,
            last: 4,
            last_term: 1,
            bonded: vec![NodeNumber(2)],
            voters: vec![NodeNumber(1), NodeNumber(2)],
            votes: true,
            stopped: None,
            events_lost: 0,
            fetched: Fetched::default(),
        };
        let LinkSetting { remote, direction, faults } = setting();
        let report = LinkReport { remote, direction, faults, counts: LinkCounts::default() };
        let answers = [
            Answer::Links(vec![report]),
            Answer::Clock(ClockReading {
                host_ns: 1,
                monotonic_ns: u64::MAX,
                fault: ClockFault::default(),
                wall_off_ms: -7,
            }),
            Answer::Disk(DiskReport {
                errors: 1,
                files: vec!["a".into()],
                ..DiskReport::default()
            }),
            Answer::Bound(peer),
            Answer::Joined,
            Answer::Status(status),
            Answer::Log(vec![row_of(line)]),
        ];
        for answer in answers {
            let said = Said::Reply { id: 1, answer: Ok(answer) };
            let read = serde_json::from_slice::<Said>(&to_line(&said)).expect("its own");
            assert_eq!(read, said);
        }
        assert_eq!(line_of(row_of(line)), line);
        let event = NodeEvent {
            at_ns: 1,
            node: NodeNumber(1),
            what: What::Became { role: Role::Follower, term: 2 },
        };
        let said = Said::Event(event);
        assert_eq!(serde_json::from_slice::<Said>(&to_line(&said)).expect("its own"), said);
    }

    #[test]
    fn lines_have_an_end_and_a_bound() {
        let mut text: &[u8] = b"one\n\ntwo\nthr";
        assert_eq!(read_line(&mut text).expect("a line"), Some(b"one".to_vec()));
        assert_eq!(read_line(&mut text).expect("a line"), Some(Vec::new()));
        assert_eq!(read_line(&mut text).expect("a line"), Some(b"two".to_vec()));
        read_line(&mut text).expect_err("cut short");
        assert_eq!(read_line(&mut text).expect("the end"), None);
        let endless = io::BufReader::new(io::repeat(b'x'));
        read_line(&mut { endless }).expect_err("too long");
    }
}
