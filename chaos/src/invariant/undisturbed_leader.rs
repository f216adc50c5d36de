//! A leader that is heard is left in peace: whoever hears it neither votes for another nor takes
//! over a later term because it is asked to (thesis §4.2.3). Else a server that comes back from
//! where it heard nobody deposes a leader that all others follow.
//!
//! A campaign that the leader itself asked for is exempt (thesis §3.10). Silence is measured by
//! the server's own clock.

use raft::{HardState, Role, Time};

use super::{Cause, PerServer, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct UndisturbedLeader {
    seen: PerServer<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    incarnation: u64,
    leads: bool,
    /// When the leader of its term was last heard.
    heard: Option<Time>,
    hard_state: HardState,
}

impl UndisturbedLeader {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let seen = self.seen.of(view.server);
        if seen.incarnation != view.incarnation {
            *seen = Seen { incarnation: view.incarnation, ..Seen::default() };
        } else if let Cause::Asked { from, term, transfer: false, .. } = view.cause
            && seen.hears_leader(view)
            && seen.hard_state != view.hard_state
        {
            let (node, of) = (view.node, seen.hard_state.term);
            let what = format!(
                "{node:?} hears the leader of term {of}, and moves to {:?} since {from:?} asks for \
                 its vote in term {term}",
                view.hard_state
            );
            return Err(Violation::of("undisturbed leader", what));
        }
        seen.leads = view.role == Role::Leader;
        seen.hard_state = view.hard_state;
        match (view.cause, view.leader) {
            (_, None) => seen.heard = None,
            (Cause::Led(from, term), Some(leader))
                if from == leader && term == view.hard_state.term =>
            {
                seen.heard = Some(view.now);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Seen {
    /// As it was before this step.
    fn hears_leader(&self, view: &View<'_>) -> bool {
        let recently = |heard| view.now.since(heard) < view.election_timeout_min;
        self.leads || self.heard.is_some_and(recently)
    }
}
