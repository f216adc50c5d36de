//! A lineage that is forced: one member goes on alone after a majority was lost for good.
//!
//! Where a majority is gone every command ends at its deadline (`Timeout`), failed, or unknown if
//! it may stand in a log. Rightly: what the lost had acknowledged the rest may not know. To go on
//! all the same is a decision that only an operator can take, on a closed store and knowing the
//! price. The store then belongs to a new lineage, whose configuration is this server alone, so
//! whatever is left of the old one and of this can never be taken for one group. Invariant: a
//! store is forced as a whole or not at all, wherever the process or the power ends.

use std::path::Path;

use raft::{Configuration, Entry, HardState, NodeId, Payload, PeerId, Position, StoreId};
use serde::{Deserialize, Serialize};

use super::{
    Contents, Disk, Founding, StorageError, creation, marker,
    medium::{Absence, Host, Medium},
    recovery,
    stream::Stream,
};
use crate::{GroupId, Lineage};

/// What a store holds, as far as it matters to who thinks of forcing a new lineage on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survey {
    /// The group.
    pub group: GroupId,
    /// Whose store it is, and which.
    pub node: NodeId,
    /// Which founding of the group it belongs to.
    pub lineage: Lineage,
    /// The configuration in force in its log, committed or not.
    pub configuration: Configuration,
    /// The last entry of its log.
    pub last: Position,
}

/// A record that puts a store into a lineage of its own. One record, so that the new
/// configuration is never found without the new lineage: in the old one it would be a majority
/// of one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Forced {
    pub(crate) founding: Founding,
    pub(crate) hard_state: HardState,
    /// The configuration, right after the last entry.
    pub(crate) entry: Entry,
}

impl Disk {
    /// What the closed store in this directory holds. Reading it back repairs what a crash left
    /// torn, as any opening does, and changes nothing else.
    ///
    /// # Errors
    /// A store that is in use, missing, foreign or damaged, or whose group is not founded.
    pub fn survey(path: impl AsRef<Path>) -> Result<Survey, StorageError> {
        open(path.as_ref()).map(|(_, survey, _)| survey)
    }

    /// Makes the closed store in this directory the only member of a new lineage, which the
    /// member that is opened on it next goes on with, alone; others may then join it.
    ///
    /// All entries in its log take effect, also those that the group never committed. All that
    /// its log lacks is lost, acknowledged or not. Other members of the old lineage refuse it
    /// from now on, as it refuses them: their stores have to go before they can join.
    ///
    /// # Errors
    /// As [`Disk::survey`], and for a store that is its group's only member already. Nothing has
    /// changed then.
    pub fn force_new_lineage(path: impl AsRef<Path>) -> Result<Lineage, StorageError> {
        let (mut stream, survey, contents) = open(path.as_ref())?;
        let Survey { group: _, node, lineage, configuration, last } = survey;
        let alone = Configuration::of([node]);
        if configuration == alone {
            return Err(refused(path.as_ref(), "it is its group's only member already"));
        }
        let term = contents.hard_state.term.next();
        let position = Position { term, index: last.index.next() };
        let founded = contents.founding.map(|founding| founding.configuration);
        let founding = Founding {
            lineage: lineage.forced(node, position),
            configuration: founded.unwrap_or_default(),
        };
        let lineage = founding.lineage;
        stream.append_forced(&Forced {
            founding,
            hard_state: HardState { term, vote: Some(node) },
            entry: Entry { position, payload: Payload::Configuration(alone) },
        })?;
        stream.commit()?;
        stream.seal()?;
        Ok(lineage)
    }
}

fn open(path: &Path) -> Result<(Stream, Survey, Contents), StorageError> {
    let medium = Host::open(path, Absence::Refused)?;
    creation::refuse_unfinished(&medium)?;
    open_medium(Box::new(medium))
}

fn open_medium(medium: Box<dyn Medium>) -> Result<(Stream, Survey, Contents), StorageError> {
    let owner = marker::owner(&*medium, marker::NAME)?;
    let path = medium.path().to_path_buf();
    let (stream, contents) = recovery::recover(medium.into(), owner, super::disk::SEGMENT_BYTES)?;
    let survey = survey(owner.group, owner.peer, stream.id(), &contents);
    let survey = survey.ok_or_else(|| refused(&path, "its group was never founded"))?;
    Ok((stream, survey, contents))
}

fn survey(group: GroupId, peer: PeerId, store: StoreId, contents: &Contents) -> Option<Survey> {
    let Founding { lineage, configuration } = contents.founding.as_ref()?;
    let (start, configuration) = match &contents.snapshot {
        Some(covers) => (covers.position, &covers.configuration),
        None => (Position::default(), configuration),
    };
    let newest = contents.entries.iter().rev().find_map(|entry| match &entry.payload {
        Payload::Configuration(configuration) => Some(configuration),
        Payload::Noop | Payload::OpenSession { .. } | Payload::Command { .. } => None,
    });
    Some(Survey {
        group,
        node: NodeId { peer, store },
        lineage: *lineage,
        configuration: newest.unwrap_or(configuration).clone(),
        last: contents.entries.last().map_or(start, |entry| entry.position),
    })
}

fn refused(path: &Path, what: &str) -> StorageError {
    StorageError::Refused { path: path.into(), what: what.into() }
}
