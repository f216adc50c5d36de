//! `Fail` is final: a request of which a client was told `Fail` never takes effect.
//!
//! Of the three answers only this one speaks of the whole future. So it is looked at twice: when
//! it is said, another term's entry must be committed where the request was proposed; and it is
//! remembered for good, should the request take effect all the same.

use std::collections::BTreeSet;

use raft::{Index, Position, RequestId, Term};

use super::{Application, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct FailIsFinal {
    failed: BTreeSet<RequestId>,
}

impl FailIsFinal {
    /// A client was told `Fail` of a request that was proposed there and nowhere else, when an
    /// entry of this term was committed there.
    pub fn told(
        &mut self,
        request: RequestId,
        proposed: Position,
        committed: Option<Term>,
    ) -> Result<(), Violation> {
        self.failed.insert(request);
        let what = match committed {
            Some(term) if term != proposed.term => return Ok(()),
            Some(_) => format!("is told Fail, and is committed at {proposed}"),
            None => format!("is told Fail, but no other entry is committed at {proposed}"),
        };
        Err(violation(request, &what))
    }

    /// A machine has applied an entry.
    pub fn applied(&self, application: &Application) -> Result<(), Violation> {
        let Some(request) = application.effective else { return Ok(()) };
        self.took_effect(request, application.position.index)
    }

    /// The request took effect at the index.
    pub fn took_effect(&self, request: RequestId, index: Index) -> Result<(), Violation> {
        if !self.failed.contains(&request) {
            return Ok(());
        }
        Err(violation(request, &format!("is told Fail, and takes effect at {index}")))
    }
}

fn violation(request: RequestId, what: &str) -> Violation {
    let RequestId { session, sequence } = request;
    Violation::of("fail is final", format!("request {}.{sequence} {what}", session.0))
}
