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
    progress::Stage,
    stranger::{Fates, Orders, Stretch},
    watch::Watch,
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
    /// Before the first stretch that counts, and after the last.
    terms: Option<(u64, u64)>,
}

/// Valid if no term changed and the p99 kept its bound.
pub(crate) fn main(wish: &Wish, out: &Path, json: bool) -> Result<Verdict> {
    ensure!(wish.addresses <= wish.strangers, "--addresses must not be more than --strangers");
    let plan = serde_json::json!({
        "strangers": wish.strangers, "addresses": wish.addresses,
        "rate_per_s": wish.rate_per_s, "seconds": wish.seconds,
        "commits_per_s": COMMITS_PER_S, "nodes": NODES, "storage": "memory", "profile": "lan",
    });
    let mut outcome = Outcome::new("bench-strangers", plan);
    let (watch, mut seen) = (Watch::begin(stages(wish))?, Seen::default());
    watch.carry_out(beset(wish, &watch, &mut seen))?;
    let idle = outcome.summarise("idle_commit_us", &seen.idle).and_then(|idle| idle.p99);
    let beset = outcome.summarise("beset_commit_us", &seen.beset).and_then(|beset| beset.p99);
    outcome.no_election(seen.terms);
    outcome.ratio_of("beset_to_idle_commit_p99", beset, idle);
    // Of a part of it the bound says nothing.
    if !watch.is_cut_short() {
        let (beset, idle) =
            beset.zip(idle).context("too few commits for a p99: take more --seconds")?;
        let ratio = beset / idle;
        outcome.check(Check {
            name: "commit_p99".into(),
            verdict: if ratio <= RATIO_MAX { Verdict::Valid } else { Verdict::Invalid },
            detail: format!("{ratio:.2} times its idle value; {RATIO_MAX} are allowed"),
        });
    }
    outcome.count("dials", seen.fates.values().sum());
    for (fate, count) in &seen.fates {
        outcome.count(&format!("dials_{fate}"), *count);
    }
    outcome.finish(&watch, out, json)
}

fn stages(wish: &Wish) -> Vec<Stage> {
    let pace = Duration::from_secs(1) / COMMITS_PER_S;
    vec![
        Stage {
            words: "gathering strangers".into(),
            unit: "strangers",
            units: wish.strangers.into(),
            each: GATHERED,
        },
        Stage {
            words: "warming up".into(),
            unit: "commits",
            units: u64::from(COMMITS_PER_S) * WARM_UP.as_secs(),
            each: pace,
        },
        Stage {
            words: "committing, left alone and beset by turns".into(),
            unit: "commits",
            units: 2 * u64::from(COMMITS_PER_S) * u64::from(wish.seconds),
            each: pace,
        },
    ]
}

async fn beset(wish: &Wish, watch: &Watch, seen: &mut Seen) -> Result<()> {
    watch.go_on();
    // It leads, and is the one that is beset.
    let (node, _processes) = node::led().await?;
    let orders = Orders {
        target: node.network.peer(),
        strangers: wish.strangers,
        addresses: wish.addresses,
        rate_per_s: wish.rate_per_s,
    };
    let mut crowd = Companion::spawn("stranger")?;
    crowd.tell(&orders).await?;
    let there: usize = crowd.hear().await?;
    ensure!(there == wish.strangers as usize, "only {there} strangers came");
    watch.go_on();
    // The first stretch warms up and is not counted.
    commit_for(&node, WARM_UP, watch, &mut Vec::new()).await?;
    let term = || node.groups[0].status().term.0;
    let before = term();
    watch.go_on();
    for share in shares(wish.seconds) {
        commit_for(&node, share, watch, &mut seen.idle).await?;
        seen.terms = Some((before, term()));
        let duration_ms = u64::try_from(share.as_millis()).context("a short stretch")?;
        crowd.tell(&Stretch { duration_ms }).await?;
        commit_for(&node, share, watch, &mut seen.beset).await?;
        seen.terms = Some((before, term()));
        for (fate, count) in crowd.hear::<Fates>().await? {
            *seen.fates.entry(fate).or_default() += count;
        }
    }
    seen.terms = Some((before, term()));
    node.network.shutdown().await;
    Ok(())
}

/// Commits at a steady pace.
async fn commit_for(
    node: &Node,
    duration: Duration,
    watch: &Watch,
    times: &mut Vec<Duration>,
) -> Result<()> {
    let clock = SystemClock::new();
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
        watch.add(1);
    }
    Ok(())
}

/// Stretches of the same length, together as long as asked for.
fn shares(seconds: u32) -> Vec<Duration> {
    let stretches = seconds.div_ceil(STRETCH_S_MAX);
    vec![Duration::from_secs(seconds.into()) / stretches; stretches as usize]
}

const COMMITS_PER_S: u32 = 200;
const STRETCH_S_MAX: u32 = 10;
const WARM_UP: Duration = Duration::from_secs(2);
/// What a stranger may take until it is there.
const GATHERED: Duration = Duration::from_millis(2);
/// The figure to reach.
const RATIO_MAX: f64 = 3.0;
