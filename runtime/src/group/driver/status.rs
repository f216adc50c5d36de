//! The driver's half that shows how things stand: status, depths of queues, admittance.
//!
//! Invariant: whoever waits for the status is woken when role, term, leader, members, bonds or an
//! index change and when a queue begins or ends, but not by each call.

use super::Driver;
use crate::group::{metric::Depths, status::Status};

impl Driver {
    pub(super) fn publish(&mut self) {
        let applied = *self.applied.borrow_and_update();
        self.lag.applied(applied);
        let (core, body, replayed) = (&self.core, &self.body, self.replaying.tally());
        let depths = Depths {
            calls: body.calls.len(),
            storage_bytes: self.storage.backlog_bytes(),
            held: self.barrier.held(),
            mailbox: body.mail.len(),
            bond_events: body.events.len(),
            applier: self.work.max_capacity() - self.work.capacity(),
        };
        body.metrics.queues(&depths);
        let lane_bytes = body.bonds.waiting();
        body.status.send_if_modified(|status| {
            let is_seen = |status: &Status| {
                let progress = (status.commit, status.applied, status.last);
                (status.role, status.term, status.leader, progress, status.waits())
            };
            let before = is_seen(status);
            (status.role, status.term, status.leader) = (core.role(), core.term(), core.leader());
            (status.commit, status.applied, status.last) = (core.commit(), applied, core.last());
            (status.calls, status.storage_backlog_bytes) = (depths.calls, depths.storage_bytes);
            (status.held_messages, status.mailbox_calls) = (depths.held, depths.mailbox);
            (status.bond_events, status.applier_batches) = (depths.bond_events, depths.applier);
            status.lane_bytes = lane_bytes;
            status.log_bytes = core.log().bytes();
            let mut changed = before != is_seen(status);
            let start = core.log().start().index;
            changed |= std::mem::replace(&mut status.log_start, start) != start;
            if !status.bonded.iter().eq(&body.bonded) {
                status.bonded = body.bonded.iter().copied().collect();
                changed = true;
            }
            if let Some(tally) = replayed.filter(|tally| status.replayed != **tally) {
                status.replayed.clone_from(tally);
                changed = true;
            }
            if status.configuration != *core.configuration() {
                status.configuration.clone_from(core.configuration());
                changed = true;
            }
            changed
        });
        self.search_log();
        let fresh = self.fresh;
        self.body.admit.send_if_modified(|admittance| {
            std::mem::replace(&mut admittance.dissolves, fresh) != fresh
        });
    }
}
