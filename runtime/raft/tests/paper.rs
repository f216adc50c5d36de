//! One test per rule of the paper and the thesis; each names where the rule stands.
//!
//! One core is looked at, the test plays everybody else. Stories of whole groups are in
//! `testdata`.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/cluster.rs"]
mod cluster;
#[path = "paper/elections.rs"]
mod elections;
#[path = "paper/extensions.rs"]
mod extensions;
#[path = "paper/fetching.rs"]
mod fetching;
#[allow(dead_code)] // one part of the helpers for each half of the tests
#[path = "model/lone.rs"]
mod lone;
#[path = "paper/replication.rs"]
mod replication;
#[path = "paper/robustness.rs"]
mod robustness;
