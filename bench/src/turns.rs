//! Followers at somebody else's word: how another program has ours take turns with its own.
//!
//! One line of JSON says that all groups are full; then each line of input is a size of chunks,
//! and one line of JSON says how long a follower took with it. Ends with its input, and knows
//! nothing of what it is compared to.

use std::{collections::BTreeMap, io::Write};

use anyhow::{Context, Result};

use crate::catch_up::{self, Full};

pub(crate) fn main(entries: u32, bytes: usize, sizes: Vec<u32>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(runtime.spawn(serve(entries, bytes, sizes)))?
}

async fn serve(entries: u32, bytes: usize, sizes: Vec<u32>) -> Result<()> {
    let networks = catch_up::bind().await?;
    let mut all = BTreeMap::new();
    for size in sizes {
        all.insert(size, Full::build(&networks, size, (entries, bytes), |_| ()).await?);
    }
    say(&serde_json::json!({ "full": entries }))?;
    while let Some(line) = line().await? {
        let size = line.trim().parse().with_context(|| format!("`{line}` is no size"))?;
        let full = all.get(&size).with_context(|| format!("no group has chunks of {size}"))?;
        let followed = full.one().await.with_context(|| format!("with chunks of {size}"))?;
        say(&serde_json::json!({
            "took_us": followed.took.as_secs_f64() * 1e6,
            "peers": followed.sources,
        }))?;
    }
    for network in networks {
        network.shutdown().await;
    }
    Ok(())
}

/// The next line of input; it is read aside, since this thread may carry nodes.
async fn line() -> Result<Option<String>> {
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
    line.transpose().context("reading the next size")
}

fn say(what: &serde_json::Value) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{what}").and_then(|()| output.flush()).context("nobody listens")
}
