//! What strangers at the door cost a group: one that dials no node it may belong to, again and
//! again, while commits are timed.
//!
//! Idle and beset stretches take turns, so that a noisy moment hits both. Invariant: the
//! strangers have processes of their own, so that what they cost themselves is not counted.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use reports::{Check, Verdict};
use runtime::{Clock, SystemClock};

use crate::{
    companion::Companion,
    node::{self, NODES, Node},
    outcome::Outcome,
    stranger::{Fates, Orders, Stretch},
};

/// What is asked for on the command line.
pub(crate) struct Wish {
    pub(crate) strangers: u32,
    pub(crate) addresses: u32,
    pub(crate) rate_per_s: u32,
    pub(crate) seconds: u32,
}

/// What was seen of the group.
#[derive(Default)]
struct Seen {
    idle: Vec<Duration>,
    beset: Vec<Duration>,
    fates: Fates,
    terms: (u64, u64),
}

/// True if no term changed and the p99 kept its bound.
pub(crate) fn main(wish: &Wish, out: &Path, json: bool) -> Result<bool> {
    ensure!(wish.addresses <= wish.strangers, "--addresses must not be more than --strangers");
    let plan = serde_json::json!({
        "strangers": wish.strangers, "addresses": wish.addresses,
        "rate_per_s": wish.rate_per_s, "seconds": wish.seconds,
        "commits_per_s": COMMITS_PER_S, "nodes": NODES, "storage": "memory", "profile": "lan",
    });
    let mut outcome = Outcome::new("bench-strangers", plan);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let seen = runtime.block_on(beset(wish))?;
    let idle = outcome.summarise("idle_commit_us", &seen.idle).and_then(|idle| idle.p99);
    let beset = outcome.summarise("beset_commit_us", &seen.beset).and_then(|beset| beset.p99);
    let mut holds = outcome.no_election(seen.terms);
    let (Some(idle), Some(beset)) = (idle, beset) else {
        anyhow::bail!("too few commits for a p99: take more --seconds");
    };
    let ratio = beset / idle;
    outcome.ratio("beset_to_idle_commit_p99", ratio);
    holds &= ratio <= RATIO_MAX;
    outcome.check(Check {
        name: "commit_p99".into(),
        verdict: if ratio <= RATIO_MAX { Verdict::Valid } else { Verdict::Invalid },
        detail: format!("{ratio:.2} times its idle value; {RATIO_MAX} are allowed"),
    });
    outcome.count("dials", seen.fates.values().sum());
    for (fate, count) in &seen.fates {
        outcome.count(&format!("dials_{fate}"), *count);
    }
    outcome.finish(out, json)?;
    Ok(holds)
}

async fn beset(wish: &Wish) -> Result<Seen> {
    // It leads, and is the one that is beset.
    let (node, _processes) = node::led().await?;
    let orders = Orders {
        target: node.network.peer(),
        strangers: wish.strangers,
        addresses: wish.addresses,
        rate_per_s: wish.rate_per_s,
    };
    let mut crowd = Companion::spawn("stranger")?;
    crowd.tell(&orders)?;
    let there: usize = crowd.hear()?;
    ensure!(there == wish.strangers as usize, "only {there} strangers came");
    let mut seen = Seen::default();
    // The first stretch warms up and is not counted.
    commit_for(&node, WARM_UP, None).await?;
    seen.terms.0 = node.groups[0].status().term.0;
    for share in shares(wish.seconds) {
        seen.idle.append(&mut commit_for(&node, share, None).await?);
        let beset = commit_for(&node, share, Some(&mut crowd)).await?;
        seen.beset.extend(beset);
        for (fate, count) in crowd.hear::<Fates>()? {
            *seen.fates.entry(fate).or_default() += count;
        }
    }
    seen.terms.1 = node.groups[0].status().term.0;
    node.network.shutdown().await;
    Ok(seen)
}

/// Commits at a steady pace, beset by strangers if there are any.
async fn commit_for(
    node: &Node,
    duration: Duration,
    crowd: Option<&mut Companion>,
) -> Result<Vec<Duration>> {
    if let Some(crowd) = crowd {
        let duration_ms = u64::try_from(duration.as_millis()).context("a short stretch")?;
        crowd.tell(&Stretch { duration_ms })?;
    }
    let clock = SystemClock::new();
    let mut times = Vec::new();
    let pace = Duration::from_secs(1) / COMMITS_PER_S;
    for number in 0.. {
        let due = number * pace;
        if due >= duration {
            break;
        }
        clock.sleep_until(runtime::Time(due)).await;
        // From when it was due: one that is late makes those behind it late.
        node.groups[0].execute(vec![7; 64].into()).await.context("committing")?;
        times.push(clock.now().since(runtime::Time(due)));
    }
    Ok(times)
}

/// Stretches of the same length, together as long as asked for.
fn shares(seconds: u32) -> Vec<Duration> {
    let stretches = seconds.div_ceil(STRETCH_S_MAX);
    vec![Duration::from_secs(seconds.into()) / stretches; stretches as usize]
}

const COMMITS_PER_S: u32 = 200;
const STRETCH_S_MAX: u32 = 10;
const WARM_UP: Duration = Duration::from_secs(2);
/// The figure to reach.
const RATIO_MAX: f64 = 3.0;
