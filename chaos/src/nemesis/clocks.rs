//! The clock faults of one trial.
//!
//! Of faults that overlap on one node the latest befalls its clocks. Invariant: a jump of the wall
//! clock is told once.

use std::collections::BTreeMap;

use crate::{fault::NodeNumber, skew::ClockFault};

/// The clock faults that are on, by their place in the schedule.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    on: BTreeMap<usize, (NodeNumber, ClockFault)>,
}

impl Clocks {
    /// A fault begins: what befalls the node's clocks from now on.
    pub(super) fn begin(
        &mut self,
        place: usize,
        node: NodeNumber,
        fault: ClockFault,
    ) -> ClockFault {
        self.on.insert(place, (node, ClockFault { wall_jump_ms: 0, ..fault }));
        ClockFault { wall_jump_ms: fault.wall_jump_ms, ..self.in_force(node) }
    }

    /// A fault ends: what befalls the node's clocks from now on.
    pub(super) fn end(&mut self, place: usize) -> Option<(NodeNumber, ClockFault)> {
        let (node, _) = self.on.remove(&place)?;
        Some((node, self.in_force(node)))
    }

    fn in_force(&self, node: NodeNumber) -> ClockFault {
        let of_node = self.on.values().filter(|(other, _)| *other == node);
        of_node.map(|(_, fault)| *fault).next_back().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_befalls_and_a_jump_is_told_once() {
        let mut clocks = Clocks::default();
        let rate = |rate_ppm| ClockFault { rate_ppm, ..ClockFault::default() };
        let node = NodeNumber(2);
        assert_eq!(clocks.begin(0, node, rate(5)), rate(5));
        let jump = ClockFault { wall_jump_ms: 9, rate_ppm: 7, ..ClockFault::default() };
        assert_eq!(clocks.begin(1, node, jump), jump);
        assert_eq!(clocks.begin(2, NodeNumber(3), rate(1)), rate(1));
        assert_eq!(clocks.end(0), Some((node, rate(7))), "without the jump");
        assert_eq!(clocks.end(1), Some((node, ClockFault::default())));
        assert_eq!(clocks.end(1), None);
    }
}
