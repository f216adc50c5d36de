//! A process with a member that comes, catches up, and goes, again and again: what fills the bulk
//! lanes of a group.
//!
//! Invariant: it ends, in good order, when its input closes.

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use runtime::{Event, GroupKey, Index, LeadershipPreference, Network, Peer, storage};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{echo::Echo, node};

/// Where to come to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Invitation {
    /// The members.
    pub(crate) peers: Vec<Peer>,
    /// What their group is called.
    pub(crate) group: String,
    /// How far to catch up.
    pub(crate) goal: Index,
}

/// The body of the process: reads its invitation, says when it fetches for the first time, and
/// at the end how often it has caught up.
pub(crate) fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let line = tokio::task::spawn_blocking(|| io::stdin().lines().next()).await?;
        let line = line.context("the parent went away")??;
        let invitation: Invitation = serde_json::from_str(&line).context("the invitation")?;
        let (closing, closed) = watch::channel(false);
        let closing = tokio::task::spawn_blocking(move || {
            let ended = io::copy(&mut io::stdin().lock(), &mut io::sink());
            closing.send_replace(true);
            ended.map(drop)
        });
        let (fetches, fetching) = std::sync::mpsc::channel();
        // Aside, since it waits: this thread carries the member.
        let saying = tokio::task::spawn_blocking(move || match fetching.recv() {
            Ok(()) => say(&"fetching"),
            Err(_) => Ok(()),
        });
        let mut caught_up = 0u64;
        while !*closed.borrow() {
            let network = node::bind().await?;
            let visited = visit(&network, &invitation, fetches.clone(), closed.clone()).await?;
            network.shutdown().await;
            ensure!(visited != Visit::NeedsNoBulk, "what it missed came by ordinary replication");
            caught_up += u64::from(visited == Visit::CaughtUp);
        }
        drop(fetches);
        saying.await??;
        say(&caught_up)?;
        Ok(closing.await??)
    })
}

/// What a visit came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    CaughtUp,
    /// It has caught up, and the bulk lanes carried nothing.
    NeedsNoBulk,
    CalledAway,
}

async fn visit(
    network: &Network,
    invitation: &Invitation,
    fetches: std::sync::mpsc::Sender<()>,
    mut closed: watch::Receiver<bool>,
) -> Result<Visit> {
    let group = network
        .group(GroupKey::from_secret(invitation.group.clone()))
        .machine(Echo::default())
        .consensus(node::whole_log())
        .storage(storage::Memory)
        .peers(invitation.peers.clone())
        .preference(LeadershipPreference::Observer)
        .observe(move |_, event| {
            if matches!(event, Event::ReplayBegan { .. }) {
                // Nobody listens any more once it was said.
                let _ = fetches.send(());
            }
        })
        .join()
        .await?;
    let when = group.when();
    let visited = tokio::select! {
        applied = tokio::time::timeout(VISIT_MAX, when.applied(invitation.goal)) => {
            applied.context("not caught up in time")??;
            match group.status().replayed.begun {
                0 => Visit::NeedsNoBulk,
                _ => Visit::CaughtUp,
            }
        }
        _ = closed.wait_for(|is_closed| *is_closed) => Visit::CalledAway,
    };
    group.leave().await?;
    Ok(visited)
}

fn say(what: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(io::stdout().flush()?)
}

const VISIT_MAX: Duration = Duration::from_secs(60);
