//! At most once: a request stands once in any log and takes effect once (thesis §6.3).
//!
//! Rests on log matching: a log is fixed by its last position, so a second standing need only be
//! looked for where an entry is created, which is on a leader. A leader that creates an entry
//! for a request must not have that request in its log already.

use std::collections::BTreeMap;

use raft::{Index, Position, RequestId, Role};

use super::{Application, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct AtMostOnce {
    requests: BTreeMap<RequestId, Standing>,
    /// Some machine has applied through here. Every other has to go through the same states,
    /// which is for state-machine safety to see, so the first one is enough to look at.
    through: Index,
}

#[derive(Debug, Default)]
struct Standing {
    /// Wherever a leader has put it; more than one only where logs part.
    created: Vec<Position>,
    /// Where it took effect.
    effective: Option<Index>,
}

impl AtMostOnce {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let (Role::Leader, Some(written)) = (view.role, view.written) else { return Ok(()) };
        let mut index = written.max(view.log.start().index);
        while index < view.log.last().index {
            index = index.next();
            let Some(entry) = view.log.get(index) else { continue };
            if entry.position.term != view.hard_state.term {
                continue;
            }
            if let Some(request) = entry.request() {
                self.created(view, request, entry.position)?;
            }
        }
        Ok(())
    }

    /// A machine has applied an entry.
    pub fn applied(&mut self, application: &Application) -> Result<(), Violation> {
        let index = application.position.index;
        if index <= self.through {
            return Ok(());
        }
        self.through = index;
        let Some(request) = application.effective else { return Ok(()) };
        let standing = self.requests.entry(request).or_default();
        match *standing.effective.get_or_insert(index) {
            known if known == index => Ok(()),
            known => {
                let node = application.node;
                Err(violation(request, &format!("takes effect at {known}, on {node:?} at {index}")))
            }
        }
    }

    /// A client was told that its request has taken effect at the index.
    pub fn acknowledged(&self, request: RequestId, index: Index) -> Result<(), Violation> {
        let effective = self.effective(request);
        if effective == Some(index) {
            return Ok(());
        }
        Err(violation(
            request,
            &format!("is acknowledged at {index}, took effect at {effective:?}"),
        ))
    }

    /// Where the request took effect, if it did.
    pub fn effective(&self, request: RequestId) -> Option<Index> {
        self.requests.get(&request).and_then(|standing| standing.effective)
    }

    fn created(
        &mut self,
        view: &View<'_>,
        request: RequestId,
        position: Position,
    ) -> Result<(), Violation> {
        let standing = self.requests.entry(request).or_default();
        if standing.created.contains(&position) {
            return Ok(());
        }
        let log = view.log;
        let twice = standing.created.iter().find(|other| {
            other.index > log.start().index && log.term_at(other.index) == Some(other.term)
        });
        if let Some(other) = twice {
            let what = format!("stands at {other} and {position} in the log of {:?}", view.node);
            return Err(violation(request, &what));
        }
        if let Some(effective) = standing.effective
            && effective <= log.start().index
        {
            let what = format!("took effect at {effective}, {:?} appends {position}", view.node);
            return Err(violation(request, &what));
        }
        standing.created.push(position);
        Ok(())
    }
}

fn violation(request: RequestId, what: &str) -> Violation {
    let RequestId { session, sequence } = request;
    Violation::of("at most once", format!("request {}.{sequence} {what}", session.0))
}
