//! The world around the runtime: what loads it, hits it, watches it and judges it.
//!
//! [`plan`] says what is done, [`run`] does it in a world behind [`cluster`], [`checker`] judges
//! the [`history`] afterwards. Nothing here knows reports or command lines.

pub mod checker;
pub mod cluster;
pub mod disk;
pub mod fault;
pub mod groups;
pub mod history;
pub mod invariant;
pub mod link;
mod member;
mod nemesis;
pub mod outage;
pub mod plan;
pub mod process;
pub mod register;
pub mod run;
pub mod schedule;
pub mod seed;
#[cfg(all(feature = "sim", target_os = "linux", target_env = "gnu", tokio_unstable))]
pub mod sim;
pub mod skew;
pub mod swarm;
pub mod workload;
