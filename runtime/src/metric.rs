//! Everything that is counted, through the `metrics` facade: names, units, and what they mean.
//!
//! Knows nothing of who counts: whoever does keeps a handle, so that nothing is allocated where
//! a frame or a command passes. Labels: `group`, `peer` (this member), `lane`, `code`, `reason`,
//! `fault`, `cause`, `way`, `outcome`, `limit`.

#[cfg(test)]
#[allow(dead_code)] // shared with the tests of the public face
#[path = "../tests/model/recorder.rs"]
pub(crate) mod recorder;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Tells the recorder what each name means. To be called before anything is counted.
pub(crate) fn describe() {
    for (name, kind, unit, meaning) in ALL {
        match kind {
            Kind::Counter => describe_counter!(name, unit, meaning),
            Kind::Gauge => describe_gauge!(name, unit, meaning),
            Kind::Histogram => describe_histogram!(name, unit, meaning),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

pub(crate) const COMMIT_SECONDS: &str = "tessera.group.commit.seconds";
pub(crate) const CALLS: &str = "tessera.group.calls";
pub(crate) const MAILBOX: &str = "tessera.group.mailbox";
pub(crate) const BOND_EVENTS: &str = "tessera.group.bond.events";
pub(crate) const APPLIER: &str = "tessera.group.applier";
pub(crate) const REFUSED_BUSY: &str = "tessera.group.refused.busy";
pub(crate) const CALLER_REFUSED: &str = "tessera.caller.refused";
pub(crate) const ANSWERS_DROPPED: &str = "tessera.client.answers.dropped";
pub(crate) const CLIENTS_TURNED_AWAY: &str = "tessera.client.turned_away";
pub(crate) const CLIENT_SWITCHES: &str = "tessera.client.switches";
pub(crate) const ELECTIONS: &str = "tessera.raft.elections";
pub(crate) const ELECTION_SECONDS: &str = "tessera.raft.election.seconds";
pub(crate) const LEADER_CHANGES: &str = "tessera.raft.leader.changes";
pub(crate) const QUORUMS_LOST: &str = "tessera.raft.quorums.lost";
pub(crate) const TIMERS_LATE: &str = "tessera.raft.timers.late";
pub(crate) const TRUNCATIONS: &str = "tessera.raft.truncations";
pub(crate) const TERM: &str = "tessera.raft.term";
pub(crate) const ROLE: &str = "tessera.raft.role";
pub(crate) const COMMIT: &str = "tessera.raft.commit";
pub(crate) const VOTERS: &str = "tessera.raft.voters";
pub(crate) const LEARNERS: &str = "tessera.raft.learners";
pub(crate) const MEMBER_CHANGES: &str = "tessera.group.member.changes";
pub(crate) const MESSAGES_HELD: &str = "tessera.raft.messages.held";
pub(crate) const MESSAGES_DROPPED: &str = "tessera.raft.messages.dropped";
pub(crate) const SNAPSHOTS_IGNORED: &str = "tessera.raft.snapshots.ignored";
pub(crate) const SNAPSHOTS_TAKEN: &str = "tessera.snapshot.taken";
pub(crate) const SNAPSHOTS_INSTALLED: &str = "tessera.snapshot.installed";
pub(crate) const SNAPSHOTS_FAILED: &str = "tessera.snapshot.failed";
pub(crate) const SNAPSHOT_PARTS_DROPPED: &str = "tessera.snapshot.parts.dropped";
pub(crate) const SNAPSHOTS_OUTRUN: &str = "tessera.snapshot.outrun";
pub(crate) const SNAPSHOT_SECONDS: &str = "tessera.snapshot.seconds";
pub(crate) const SNAPSHOT_INDEX: &str = "tessera.snapshot.index";
pub(crate) const SNAPSHOT_BYTES: &str = "tessera.snapshot.bytes";
pub(crate) const STORAGE_BACKLOG_BYTES: &str = "tessera.storage.backlog.bytes";
pub(crate) const STORAGE_HANGS: &str = "tessera.storage.hangs";
pub(crate) const REPLAY_BEHIND: &str = "tessera.replay.behind";
pub(crate) const REPLAY_ENTRIES: &str = "tessera.replay.entries";
pub(crate) const REPLAY_BYTES_FETCHED: &str = "tessera.replay.bytes.fetched";
pub(crate) const REPLAY_BYTES_SERVED: &str = "tessera.replay.bytes.served";
pub(crate) const REPLAY_REFUSED: &str = "tessera.replay.refused";
pub(crate) const REPLAY_FAULTS: &str = "tessera.replay.faults";
pub(crate) const BOND_BYTES_SENT: &str = "tessera.bond.bytes.sent";
pub(crate) const BOND_BYTES_RECEIVED: &str = "tessera.bond.bytes.received";
pub(crate) const BOND_MESSAGES_SENT: &str = "tessera.bond.messages.sent";
pub(crate) const BOND_MESSAGES_RECEIVED: &str = "tessera.bond.messages.received";
pub(crate) const BOND_DROPPED: &str = "tessera.bond.dropped";
pub(crate) const BOND_QUEUE_BYTES: &str = "tessera.bond.queue.bytes";
pub(crate) const BOND_ACTIVE: &str = "tessera.bond.active";
pub(crate) const BOND_FORMED: &str = "tessera.bond.formed";
pub(crate) const BOND_ENDED: &str = "tessera.bond.ended";
pub(crate) const BOND_DIALS: &str = "tessera.bond.dials";
pub(crate) const REFUSALS: &str = "tessera.network.refusals";
pub(crate) const HANDSHAKES: &str = "tessera.network.handshakes";
pub(crate) const DIALS_REFUSED: &str = "tessera.network.dials.refused";
pub(crate) const DIALS_RETRIED: &str = "tessera.network.dials.retried";
pub(crate) const LINKS: &str = "tessera.network.links";

const ALL: [(&str, Kind, Unit, &str); 56] = [
    (
        COMMIT_SECONDS,
        Kind::Histogram,
        Unit::Seconds,
        "From the arrival of a call at the leader until its entry is committed.",
    ),
    (CALLS, Kind::Gauge, Unit::Count, "Calls under way."),
    (MAILBOX, Kind::Gauge, Unit::Count, "Calls that wait for the driver."),
    (
        BOND_EVENTS,
        Kind::Gauge,
        Unit::Count,
        "Bonds and lanes that came or went unheard by the driver; frames wait in QUIC.",
    ),
    (APPLIER, Kind::Gauge, Unit::Count, "Batches that wait for the machine."),
    (
        REFUSED_BUSY,
        Kind::Counter,
        Unit::Count,
        "Calls that the driver refused because too much was under way.",
    ),
    (
        CALLER_REFUSED,
        Kind::Counter,
        Unit::Count,
        "Calls refused before they came to a driver, by reason.",
    ),
    (
        ANSWERS_DROPPED,
        Kind::Counter,
        Unit::Count,
        "Answers for which a client's link had no room, by reason.",
    ),
    (
        CLIENTS_TURNED_AWAY,
        Kind::Counter,
        Unit::Count,
        "Clients whose link was closed for what they did, by close code.",
    ),
    (
        CLIENT_SWITCHES,
        Kind::Counter,
        Unit::Count,
        "Silent or leaderless nodes that a client left for another.",
    ),
    (ELECTIONS, Kind::Counter, Unit::Count, "Elections that this member stood in."),
    (
        ELECTION_SECONDS,
        Kind::Histogram,
        Unit::Seconds,
        "From this member's first campaign until a leader is known.",
    ),
    (LEADER_CHANGES, Kind::Counter, Unit::Count, "Leaders that this member came to know of."),
    (QUORUMS_LOST, Kind::Counter, Unit::Count, "Times that this member led and heard no quorum."),
    (
        TIMERS_LATE,
        Kind::Counter,
        Unit::Count,
        "Timers that came so late that messages may have waited.",
    ),
    (TRUNCATIONS, Kind::Counter, Unit::Count, "Suffixes of the log that a leader replaced."),
    (TERM, Kind::Gauge, Unit::Count, "The term."),
    (ROLE, Kind::Gauge, Unit::Count, "The role: 0 follower, 1 candidate, 2 leader."),
    (COMMIT, Kind::Gauge, Unit::Count, "The commit index."),
    (VOTERS, Kind::Gauge, Unit::Count, "Voters of the configuration in force."),
    (LEARNERS, Kind::Gauge, Unit::Count, "Learners of the configuration in force."),
    (
        MEMBER_CHANGES,
        Kind::Counter,
        Unit::Count,
        "Changes of membership that this member had appended as a leader, by cause.",
    ),
    (
        MESSAGES_HELD,
        Kind::Gauge,
        Unit::Count,
        "Messages held back until what they promise is durable.",
    ),
    (MESSAGES_DROPPED, Kind::Counter, Unit::Count, "Messages that were not heeded, by reason."),
    (SNAPSHOTS_IGNORED, Kind::Counter, Unit::Count, "Snapshots that were offered to no use."),
    (
        SNAPSHOTS_TAKEN,
        Kind::Counter,
        Unit::Count,
        "Snapshots that this member took of its own state.",
    ),
    (
        SNAPSHOTS_INSTALLED,
        Kind::Counter,
        Unit::Count,
        "Snapshots of others that this member went on from.",
    ),
    (
        SNAPSHOTS_FAILED,
        Kind::Counter,
        Unit::Count,
        "Snapshots that came to nothing, by what was done: take or fetch.",
    ),
    (
        SNAPSHOT_PARTS_DROPPED,
        Kind::Counter,
        Unit::Count,
        "Questions for parts of snapshots, and answers to them, for which there was no room.",
    ),
    (
        SNAPSHOTS_OUTRUN,
        Kind::Counter,
        Unit::Count,
        "Times that the log could not wait for a member that reads a snapshot of this one.",
    ),
    (
        SNAPSHOT_SECONDS,
        Kind::Histogram,
        Unit::Seconds,
        "From the decision to take or fetch a snapshot until it is durable, by which of the two.",
    ),
    (SNAPSHOT_INDEX, Kind::Gauge, Unit::Count, "The last entry of the snapshot."),
    (SNAPSHOT_BYTES, Kind::Gauge, Unit::Bytes, "The length of the snapshot."),
    (
        STORAGE_BACKLOG_BYTES,
        Kind::Gauge,
        Unit::Bytes,
        "Submitted to the store and not yet durable.",
    ),
    (
        STORAGE_HANGS,
        Kind::Counter,
        Unit::Count,
        "Times that this member led with a disk that hung, and asked another to lead.",
    ),
    (
        REPLAY_BEHIND,
        Kind::Gauge,
        Unit::Count,
        "Entries that this member lacked when it last looked, while it fetches in bulk.",
    ),
    (REPLAY_ENTRIES, Kind::Counter, Unit::Count, "Entries that were fetched in bulk."),
    (REPLAY_BYTES_FETCHED, Kind::Counter, Unit::Bytes, "Their bytes, encoded."),
    (REPLAY_BYTES_SERVED, Kind::Counter, Unit::Bytes, "Entries sent in bulk to other members."),
    (
        REPLAY_REFUSED,
        Kind::Counter,
        Unit::Count,
        "Requests for entries in bulk: beyond what a member may ask, too late, or of no member.",
    ),
    (
        REPLAY_FAULTS,
        Kind::Counter,
        Unit::Count,
        "Answers of other members that did not help, and requests that were not answered.",
    ),
    (BOND_BYTES_SENT, Kind::Counter, Unit::Bytes, "Left over a lane, headers included."),
    (BOND_BYTES_RECEIVED, Kind::Counter, Unit::Bytes, "Came over a lane, headers included."),
    (BOND_MESSAGES_SENT, Kind::Counter, Unit::Count, "Frames that left over a lane."),
    (BOND_MESSAGES_RECEIVED, Kind::Counter, Unit::Count, "Frames that came over a lane."),
    (BOND_DROPPED, Kind::Counter, Unit::Count, "Frames that were not sent, by lane and reason."),
    (BOND_QUEUE_BYTES, Kind::Gauge, Unit::Bytes, "Waits in front of a lane."),
    (BOND_ACTIVE, Kind::Gauge, Unit::Count, "Bonds that are up."),
    (BOND_FORMED, Kind::Counter, Unit::Count, "Bonds that came up."),
    (BOND_ENDED, Kind::Counter, Unit::Count, "Bonds that went, by close code."),
    (BOND_DIALS, Kind::Counter, Unit::Count, "Dials of peers, by what came of them."),
    (REFUSALS, Kind::Counter, Unit::Count, "Connections turned away, by close code."),
    (HANDSHAKES, Kind::Gauge, Unit::Count, "Connections that have not said yet who they are."),
    (
        DIALS_REFUSED,
        Kind::Counter,
        Unit::Count,
        "Dials refused before any handshake, by the limit that was reached: places or address.",
    ),
    (
        DIALS_RETRIED,
        Kind::Counter,
        Unit::Count,
        "Dialers that were to show first that they can be reached where they say they are.",
    ),
    (LINKS, Kind::Gauge, Unit::Count, "Links that others hold: clients, and users of protocols."),
];
