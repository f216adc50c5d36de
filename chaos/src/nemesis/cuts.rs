//! The links that faults of one trial hurt, and whether they took place.
//!
//! Faults overlap: a link is blocked while any of them blocks it, else it holds while any of them
//! holds, and else the latest one's faults befall it. Invariant: where no fault is left, nothing befalls the link.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cluster::CountsByLink,
    fault::{LinkRule, NodeNumber},
    link::{LinkCounts, LinkFaults},
};

/// The packet faults that are on, by their place in the schedule.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    on: BTreeMap<usize, Cut>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Cut {
    rules: Vec<LinkRule>,
    /// One that comes and goes is gone.
    is_gone: bool,
    /// What had befallen the links before.
    before: CountsByLink,
}

impl Cuts {
    /// A fault begins: what befalls its links from now on.
    pub(crate) fn begin(
        &mut self,
        place: usize,
        rules: Vec<LinkRule>,
        before: CountsByLink,
    ) -> Vec<LinkRule> {
        let links = links(&rules);
        self.on.insert(place, Cut { rules, is_gone: false, before });
        self.in_force(links)
    }

    /// A fault ends: what befalls its links from now on.
    pub(crate) fn end(&mut self, place: usize) -> Option<(Vec<LinkRule>, Cut)> {
        let cut = self.on.remove(&place)?;
        Some((self.in_force(links(&cut.rules)), cut))
    }

    /// A fault comes or goes in between: what befalls its links from now on, unless it is over.
    pub(crate) fn flap(&mut self, place: usize, is_gone: bool) -> Option<Vec<LinkRule>> {
        let cut = self.on.get_mut(&place)?;
        cut.is_gone = is_gone;
        let links = links(&cut.rules);
        Some(self.in_force(links))
    }

    fn in_force(&self, links: BTreeSet<(NodeNumber, NodeNumber)>) -> Vec<LinkRule> {
        let rule = |(from, to)| {
            let mut asked = self
                .on
                .values()
                .filter(|cut| !cut.is_gone)
                .flat_map(|cut| &cut.rules)
                .filter(|rule| (rule.from, rule.to) == (from, to))
                .map(|rule| &rule.faults);
            let blocked = asked.clone().any(|faults| faults.block);
            let held = asked.clone().find(|faults| faults.hold);
            let faults = match (blocked, held) {
                (true, _) => LinkFaults::blocked(),
                (false, Some(held)) => held.clone(),
                (false, None) => asked.next_back().cloned().unwrap_or_default(),
            };
            LinkRule { from, to, faults }
        };
        links.into_iter().map(rule).collect()
    }
}

impl Cut {
    /// What has befallen its links since it began.
    pub(crate) fn befallen(&self, after: &CountsByLink) -> LinkCounts {
        let mut befallen = LinkCounts::default();
        for link in links(&self.rules) {
            let after = after.get(&link).copied().unwrap_or_default();
            befallen += after.since(self.before.get(&link).copied().unwrap_or_default());
        }
        befallen
    }
}

fn links(rules: &[LinkRule]) -> BTreeSet<(NodeNumber, NodeNumber)> {
    rules.iter().map(|rule| (rule.from, rule.to)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(from: u64, to: u64, faults: LinkFaults) -> LinkRule {
        LinkRule { from: NodeNumber(from), to: NodeNumber(to), faults }
    }

    fn late(delay_ms: u64) -> LinkFaults {
        LinkFaults { delay_ms, ..LinkFaults::default() }
    }

    fn begin(cuts: &mut Cuts, place: usize, rules: Vec<LinkRule>) -> Vec<LinkFaults> {
        let rules = cuts.begin(place, rules, CountsByLink::new());
        rules.into_iter().map(|rule| rule.faults).collect()
    }

    fn end(cuts: &mut Cuts, place: usize) -> Vec<LinkFaults> {
        let (rules, _) = cuts.end(place).expect("it is on");
        rules.into_iter().map(|rule| rule.faults).collect()
    }

    #[test]
    fn a_link_is_cut_while_any_fault_cuts_it() {
        let mut cuts = Cuts::default();
        let blocked = LinkFaults::blocked;
        assert_eq!(begin(&mut cuts, 0, vec![rule(1, 2, blocked())]), [blocked()]);
        assert_eq!(begin(&mut cuts, 1, vec![rule(1, 2, late(5))]), [blocked()]);
        assert_eq!(begin(&mut cuts, 2, vec![rule(1, 2, blocked())]), [blocked()]);
        assert_eq!(end(&mut cuts, 0), [blocked()]);
        assert_eq!(end(&mut cuts, 2), [late(5)]);
        assert_eq!(end(&mut cuts, 1), [LinkFaults::default()]);
        let hold = || LinkFaults { hold: true, ..LinkFaults::default() };
        assert_eq!(begin(&mut cuts, 3, vec![rule(1, 2, hold())]), [hold()]);
        assert_eq!(begin(&mut cuts, 4, vec![rule(1, 2, late(5))]), [hold()]);
        assert_eq!(begin(&mut cuts, 5, vec![rule(1, 2, blocked())]), [blocked()]);
        assert_eq!(end(&mut cuts, 5), [hold()]);
        assert_eq!(end(&mut cuts, 3), [late(5)]);
        end(&mut cuts, 4);
        assert!(cuts.end(1).is_none(), "it is over already");
    }

    #[test]
    fn a_cut_that_is_gone_for_a_while_leaves_the_others() {
        let mut cuts = Cuts::default();
        let (blocked, none) = (LinkFaults::blocked, LinkFaults::default);
        begin(&mut cuts, 0, vec![rule(1, 2, blocked()), rule(2, 1, blocked())]);
        begin(&mut cuts, 1, vec![rule(1, 2, late(5))]);
        let mut flap = |is_gone| -> Vec<LinkFaults> {
            let rules = cuts.flap(0, is_gone).expect("it is on");
            rules.into_iter().map(|rule| rule.faults).collect()
        };
        assert_eq!(flap(true), [late(5), none()]);
        assert_eq!(flap(false), [blocked(), blocked()]);
        flap(true);
        assert_eq!(end(&mut cuts, 0), [late(5), none()]);
        assert_eq!(cuts.flap(0, false), None, "it is over already");
    }

    #[test]
    fn what_befell_the_links_meanwhile_is_counted() {
        let counted = |blocked| {
            let counts = LinkCounts { offered: blocked, blocked, ..LinkCounts::default() };
            CountsByLink::from([((NodeNumber(1), NodeNumber(2)), counts)])
        };
        let mut cuts = Cuts::default();
        cuts.begin(0, vec![rule(1, 2, LinkFaults::blocked())], counted(10));
        let (_, cut) = cuts.end(0).expect("it is on");
        let befallen = cut.befallen(&counted(25));
        assert_eq!((befallen.blocked, befallen.struck()), (15, 15));
        cuts.begin(0, vec![rule(1, 2, LinkFaults::blocked())], counted(10));
        let (_, cut) = cuts.end(0).expect("it is on");
        assert_eq!(cut.befallen(&counted(3)).blocked, 3, "the node was started again meanwhile");
    }
}
