//! `events.jsonl`: what each node noted of itself, one event per line, in the order of arrival.
//!
//! Plain data, and a collection with limits. Lanes, traces and the page are made of it; nothing is
//! judged by it. Invariant: however much nodes talk, roles and terms are not pushed out by chatter.

use crate::folder::LineWriter;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Something that a node noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, since the start of the run.
    pub at_ns: u64,
    /// Which node.
    pub node: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What it noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// Its role or term changed, or it has just started.
    Became {
        /// `follower`, `candidate` or `leader`.
        role: String,
        /// The term.
        term: u64,
    },
    /// It knows who leads, itself included; `None`: nobody.
    Leader {
        /// Who.
        leader: Option<u64>,
        /// In which term.
        term: u64,
    },
    /// It stands for election.
    Campaign {
        /// For which term.
        term: u64,
        /// Whether it only asked whether it could win.
        pre_vote: bool,
    },
    /// The first commit that it saw in its role and term.
    Committed {
        /// At which index.
        index: u64,
        /// In which term.
        term: u64,
    },
    /// All founders have met.
    Founded,
    /// A configuration is in force there in which a node has another part than in the one before.
    Member {
        /// The node.
        member: u64,
        /// `added`, `promoted` or `removed`.
        is: String,
    },
    /// A bond came up.
    Bonded {
        /// With whom.
        with: u64,
    },
    /// A bond went down.
    Unbonded {
        /// With whom.
        with: u64,
    },
    /// It did not run for 20 ms or more.
    Stall {
        /// Since when.
        from_ns: u64,
    },
    /// A sample of what it uses.
    Usage {
        /// Resident memory.
        resident_kb: u64,
        /// Of it, what the log is reckoned to take.
        log_kb: u64,
        /// Processor time since its start.
        cpu_ms: u64,
        /// How much waits in its queues, in fields beside these.
        #[serde(flatten)]
        queues: Queues,
    },
    /// It stopped by itself.
    Stopped {
        /// Why.
        reason: String,
    },
    /// It ended unasked.
    Died {
        /// How.
        reason: String,
    },
    /// Anything else.
    Note {
        /// In words.
        text: String,
    },
    /// What a later version of this program wrote, and this one does not know.
    #[serde(other)]
    Other,
}

/// How much waits in a node's queues; each `None` in a run from before it was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queues {
    /// Calls under way.
    pub calls: Option<u64>,
    /// What its stores do not hold durably yet.
    pub storage_backlog_kb: Option<u64>,
    /// Messages held back until what they promise is durable.
    pub held_messages: Option<u64>,
    /// Calls that wait for its members' own tasks.
    pub mailbox_calls: Option<u64>,
    /// Bonds and lanes that came or went, unheard by those tasks.
    pub bond_events: Option<u64>,
    /// Batches that wait for its machines.
    pub applier_batches: Option<u64>,
    /// What waits in front of the lanes of its bonds: votes, heartbeats and acknowledgements;
    pub lane_control_kb: Option<u64>,
    /// entries;
    pub lane_append_kb: Option<u64>,
    /// calls that are passed on, and their answers;
    pub lane_client_kb: Option<u64>,
    /// and what those fetch who are far behind.
    pub lane_bulk_kb: Option<u64>,
}

/// A queue of a node: its name, and its depth among the others.
pub(crate) type Queue = (&'static str, fn(&Queues) -> Option<u64>);

/// Queues by what they count, in the order of a command's way, as people are told of them.
pub(crate) const QUEUES_COUNTED: [Queue; 5] = [
    ("calls under way", |queues| queues.calls),
    ("calls in the mailbox", |queues| queues.mailbox_calls),
    ("bond events", |queues| queues.bond_events),
    ("batches for the machine", |queues| queues.applier_batches),
    ("messages held back", |queues| queues.held_messages),
];
/// The same of those whose bytes are counted.
pub(crate) const QUEUES_KB: [Queue; 5] = [
    ("not yet durable, kB", |queues| queues.storage_backlog_kb),
    ("control lanes, kB", |queues| queues.lane_control_kb),
    ("append lanes, kB", |queues| queues.lane_append_kb),
    ("client lanes, kB", |queues| queues.lane_client_kb),
    ("bulk lanes, kB", |queues| queues.lane_bulk_kb),
];

impl What {
    /// Whether a lane or an outage cannot be told without it.
    fn is_vital(&self) -> bool {
        !matches!(
            self,
            Self::Bonded { .. }
                | Self::Unbonded { .. }
                | Self::Usage { .. }
                | Self::Note { .. }
                | Self::Other
        )
    }
}

/// The events of a run, as many as are kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Events {
    kept: Vec<Event>,
    chatter: usize,
    dropped: u64,
}

impl Events {
    /// Takes an event in; whether there was room for it.
    pub fn push(&mut self, event: Event) -> bool {
        let is_vital = event.what.is_vital();
        let (kept, kept_max) = match is_vital {
            true => (self.kept.len() - self.chatter, VITAL_MAX),
            false => (self.chatter, CHATTER_MAX),
        };
        if kept >= kept_max {
            self.dropped += 1;
            return false;
        }
        self.chatter += usize::from(!is_vital);
        self.kept.push(event);
        true
    }

    /// All that are kept, in the order of arrival.
    pub fn kept(&self) -> &[Event] {
        &self.kept
    }

    /// How many more there were.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Keeps events, and appends each to `events.jsonl` as it comes.
#[derive(Debug)]
pub struct EventLog {
    events: Events,
    lines: LineWriter,
}

impl EventLog {
    pub(crate) fn new(lines: LineWriter) -> Self {
        Self { events: Events::default(), lines }
    }

    /// Takes an event in.
    pub fn append(&mut self, event: Event) -> Result<()> {
        let mut line =
            serde_json::to_vec(&event).map_err(|error| Error::encode(self.lines.path(), &error))?;
        line.push(b'\n');
        if self.events.push(event) { self.lines.append(&line) } else { Ok(()) }
    }

    /// What was appended.
    pub fn events(&self) -> &Events {
        &self.events
    }
}

/// Roles, terms, commits and stalls: a run of hours with an election each second.
const VITAL_MAX: usize = 100_000;
/// Bonds, notes and samples: five nodes, four samples a second, for more than an hour.
const CHATTER_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: What) -> Event {
        Event { at_ns: 1_500_000, node: 3, what }
    }

    #[test]
    fn an_event_is_a_flat_line_and_reads_back() {
        let became = event(What::Became { role: "leader".to_owned(), term: 7 });
        let line = serde_json::to_string(&became).unwrap();
        let expected = r#"{"at_ns":1500000,"node":3,"what":"became","role":"leader","term":7}"#;
        assert_eq!(line, expected);
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), became);
        let unled = event(What::Leader { leader: None, term: u64::MAX });
        let line = serde_json::to_string(&unled).unwrap();
        assert!(line.ends_with(r#""leader":null,"term":18446744073709551615}"#), "{line}");
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), unled);
    }

    #[test]
    fn a_sample_from_before_depths_were_told_has_none() {
        let line =
            r#"{"at_ns":1500000,"node":3,"what":"usage","resident_kb":9,"log_kb":8,"cpu_ms":7}"#;
        let usage = |queues| What::Usage { resident_kb: 9, log_kb: 8, cpu_ms: 7, queues };
        assert_eq!(serde_json::from_str::<Event>(line).unwrap(), event(usage(Queues::default())));
        // Then there were three of them.
        let three = line.replace('}', r#","calls":0,"storage_backlog_kb":0,"held_messages":4}"#);
        let (calls, storage_backlog_kb, held_messages) = (Some(0), Some(0), Some(4));
        let some = Queues { calls, storage_backlog_kb, held_messages, ..Queues::default() };
        assert_eq!(serde_json::from_str::<Event>(&three).unwrap(), event(usage(some)));
        assert_eq!(sum(&some), 4, "of what is not told nothing is 0");
    }

    /// Of all the queues that are told.
    fn sum(queues: &Queues) -> u64 {
        let all = QUEUES_COUNTED.into_iter().chain(QUEUES_KB);
        all.filter_map(|(_, depth)| depth(queues)).sum()
    }

    #[test]
    fn each_queue_is_a_field_of_a_sample() {
        let queues = Queues {
            calls: Some(1),
            storage_backlog_kb: Some(2),
            held_messages: Some(3),
            mailbox_calls: Some(4),
            bond_events: Some(5),
            applier_batches: Some(6),
            lane_control_kb: Some(7),
            lane_append_kb: Some(8),
            lane_client_kb: Some(9),
            lane_bulk_kb: Some(10),
        };
        let told = event(What::Usage { resident_kb: 9, log_kb: 8, cpu_ms: 7, queues });
        let line = serde_json::to_string(&told).unwrap();
        let fields: Vec<(String, u64)> = line
            .trim_matches(['{', '}'])
            .split(',')
            .skip(6)
            .map(|field| field.split_once(':').unwrap())
            .map(|(name, value)| (name.trim_matches('"').to_owned(), value.parse().unwrap()))
            .collect();
        let names = [
            "calls",
            "storage_backlog_kb",
            "held_messages",
            "mailbox_calls",
            "bond_events",
            "applier_batches",
            "lane_control_kb",
            "lane_append_kb",
            "lane_client_kb",
            "lane_bulk_kb",
        ];
        let expected: Vec<_> = names.into_iter().map(str::to_owned).zip(1..).collect();
        assert_eq!(fields, expected, "{line}");
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), told);
        assert_eq!(sum(&queues), 55, "each has its name, once");
    }

    #[test]
    fn what_a_later_version_notes_is_no_error() {
        let line = r#"{"at_ns":1,"node":2,"what":"evicted","by":3}"#;
        assert_eq!(serde_json::from_str::<Event>(line).unwrap().what, What::Other);
    }

    #[test]
    fn chatter_does_not_push_out_roles() {
        let mut events = Events::default();
        for _ in 0..CHATTER_MAX + 7 {
            events.push(event(What::Bonded { with: 1 }));
        }
        assert_eq!((events.kept().len(), events.dropped()), (CHATTER_MAX, 7));
        assert!(events.push(event(What::Founded)));
        for _ in 0..VITAL_MAX {
            events.push(event(What::Stall { from_ns: 1 }));
        }
        assert_eq!((events.kept().len(), events.dropped()), (CHATTER_MAX + VITAL_MAX, 8));
    }
}
