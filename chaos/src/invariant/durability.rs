//! Order is durability: what a message promises is on its sender's disk (Raft figure 2,
//! "updated on stable storage before responding"), and a server applies only what it persisted.
//!
//! A promise made in an earlier term may leave late, when its entries have been replaced since;
//! that is no worse than a slow network, so only promises of the disk's own term are compared.

use raft::{Appended, HardState, Message, Phase, Role};

use super::{Departure, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct Durability;

impl Durability {
    /// A server has stepped.
    pub fn observe(&self, view: &View<'_>) -> Result<(), Violation> {
        let elected = HardState { vote: Some(view.node), ..view.hard_state };
        let broken = if view.applied > view.durable.index {
            format!("applies through {}, its disk ends at {}", view.applied, view.durable)
        } else if view.role == Role::Leader && view.durable_state != elected {
            let HardState { term, vote } = view.durable_state;
            format!("leads term {}, its disk has term {term}, vote {vote:?}", elected.term)
        } else {
            return Ok(());
        };
        Err(Violation::of("durability", format!("{:?} {broken}", view.node)))
    }

    /// A message leaves a server.
    pub fn left(&self, departure: &Departure<'_>) -> Result<(), Violation> {
        // What binds is written out here once more, and not asked of the core: it might be wrong.
        let HardState { term, vote } = departure.hard_state;
        let kept = match departure.message {
            Message::Vote { granted: true, phase: Phase::Vote, term: of } => {
                term > *of || (term == *of && vote == Some(departure.to))
            }
            Message::RequestVote { phase: Phase::Vote, term: of, .. } => {
                term > *of || (term == *of && vote == Some(departure.node))
            }
            Message::AppendReply { outcome: Appended::Matched(index), term: of } => {
                term > *of || (term == *of && *index <= departure.durable.index)
            }
            _ => true,
        };
        if kept {
            return Ok(());
        }
        Err(Violation::of(
            "durability",
            format!(
                "{:?} sends {:?}, its disk has term {term}, vote {vote:?}, last entry {}",
                departure.node, departure.message, departure.durable
            ),
        ))
    }
}
