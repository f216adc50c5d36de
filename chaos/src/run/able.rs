//! Whether a cluster was able to recover: if so the proof, and if not why.
//!
//! Pure. A group owes progress only where one node with a log as up to date as a majority's
//! reaches that majority both ways (Raft §5.4.1: only such a one can be elected; §8: only such a
//! majority can answer). Invariant: a node that did not say how it stands proves nothing.

use std::collections::BTreeMap;

use crate::{cluster::NodeStatus, fault::NodeNumber};

/// What each node said of itself at a moment, or why it said nothing.
pub(crate) type Statuses = BTreeMap<NodeNumber, Result<NodeStatus, String>>;

/// In words: who could have been elected, by whom. As an error: why nobody could.
pub(crate) fn able(statuses: &Statuses) -> Result<String, String> {
    let majority = statuses.len() / 2 + 1;
    let best = up(statuses)
        .map(|(node, status)| (node, status, electors(statuses, node, status)))
        .find(|(_, _, electors)| electors.len() + 1 >= majority);
    let Some((node, status, electors)) = best else { return Err(unable(statuses)) };
    let others: Vec<NodeNumber> = up(statuses).map(|(other, _)| other).collect();
    Ok(format!(
        "the cluster was able to: node {node}, with its last entry at term {}, index {}, was bonded \
         both ways with {}, whose logs were no newer, {majority} of {} are a majority, and {} were \
         up",
        status.last_term,
        status.last,
        listed(&electors),
        statuses.len(),
        listed(&others)
    ))
}

fn up(statuses: &Statuses) -> impl Iterator<Item = (NodeNumber, &NodeStatus)> {
    let answered =
        statuses.iter().filter_map(|(node, status)| Some((*node, status.as_ref().ok()?)));
    answered.filter(|(_, status)| status.stopped.is_none())
}

/// Those who hold a bond to the node, to whom it holds one, and whose logs are no newer.
fn electors(statuses: &Statuses, node: NodeNumber, status: &NodeStatus) -> Vec<NodeNumber> {
    let last = |status: &NodeStatus| (status.last_term, status.last);
    up(statuses)
        .filter(|(other, theirs)| {
            let bonded = status.bonded.contains(other) && theirs.bonded.contains(&node);
            *other != node && bonded && last(theirs) <= last(status)
        })
        .map(|(other, _)| other)
        .collect()
}

fn unable(statuses: &Statuses) -> String {
    let said = statuses.iter().map(|(node, status)| match status {
        Err(reason) => format!("node {node} said nothing ({reason})"),
        Ok(NodeStatus { stopped: Some(reason), .. }) => {
            format!("node {node} had stopped: {reason}")
        }
        Ok(status) => format!(
            "node {node} at term {}, index {} held bonds to {}",
            status.last_term,
            status.last,
            listed(&status.bonded)
        ),
    });
    format!(
        "no node with a log as up to date as a majority's reached that majority both ways: {}",
        said.collect::<Vec<_>>().join("; ")
    )
}

fn listed(nodes: &[NodeNumber]) -> String {
    match nodes {
        [] => "none".to_owned(),
        nodes => nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use runtime::Role;

    use super::*;
    use crate::cluster::Fetched;

    fn status(last: (u64, u64), bonded: &[u64]) -> Result<NodeStatus, String> {
        Ok(NodeStatus {
            role: Role::Follower,
            term: 9,
            leader: None,
            commit: 1,
            applied: 1,
            last_term: last.0,
            last: last.1,
            bonded: bonded.iter().copied().map(NodeNumber).collect(),
            voters: Vec::new(),
            votes: false,
            stopped: None,
            events_lost: 0,
            fetched: Fetched::default(),
        })
    }

    fn told(statuses: [Result<NodeStatus, String>; 3]) -> Result<String, String> {
        able(&(1..).map(NodeNumber).zip(statuses).collect())
    }

    #[test]
    fn the_proof_names_the_node_its_position_its_majority_and_who_was_up() {
        let proof = told([status((2, 9), &[2, 3]), status((3, 7), &[1]), Err("killed".into())]);
        let proof = proof.expect("node 2 has the newer log, and node 1 elects it");
        for words in
            ["node 2, with its last entry at term 3, index 7", "both ways with 1", "1, 2 were up"]
        {
            assert!(proof.contains(words), "`{words}` is not said: {proof}");
        }
    }

    #[test]
    fn a_bond_that_one_end_does_not_know_proves_nothing() {
        let why = told([status((2, 9), &[2, 3]), status((2, 9), &[]), status((2, 9), &[])]);
        let why = why.expect_err("nobody reaches node 1 in return");
        assert!(why.contains("node 1 at term 2, index 9 held bonds to 2, 3"), "{why}");
        assert!(why.contains("node 3 at term 2, index 9 held bonds to none"), "{why}");
    }

    #[test]
    fn who_is_behind_its_majority_cannot_lead_it() {
        // Node 1 reaches both, but they are newer; they do not reach each other.
        let star = |node_2, node_3| {
            told([status((2, 9), &[2, 3]), status(node_2, &[1]), status(node_3, &[1])])
        };
        assert!(star((2, 10), (3, 1)).is_ok(), "node 2 may lead with node 1");
        let apart = told([status((2, 9), &[]), status((3, 1), &[3]), Err("killed".into())]);
        assert!(apart.is_err());
        let stopped =
            NodeStatus { stopped: Some("disk".into()), ..status((2, 9), &[1, 3]).expect("ok") };
        let why = told([status((2, 9), &[2]), Ok(stopped), Err("killed".into())]);
        let why = why.expect_err("a node that stopped elects nobody");
        assert!(why.contains("node 2 had stopped: disk; node 3 said nothing (killed)"), "{why}");
    }
}
