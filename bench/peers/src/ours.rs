//! Tessera's groups, in a process of their own: the benchmarks' hidden command `turns`.
//!
//! A line of JSON each way; see `bench/src/turns.rs`. The process ends when its input closes.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::Wish;

/// The process; it is killed when this is dropped.
pub(crate) struct Ours {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

#[derive(Deserialize)]
struct Full {
    full: u32,
}

#[derive(Deserialize)]
struct Followed {
    took_us: f64,
}

impl Ours {
    /// Starts it, and waits until its groups are full.
    pub(crate) async fn start(wish: &Wish, bench: Option<&Path>) -> Result<Self> {
        let mut command = match bench {
            Some(path) => Command::new(path),
            None => {
                let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
                cargo.args(["run", "--release", "--quiet", "--package", "bench", "--"]);
                cargo.current_dir(ROOT);
                cargo
            }
        };
        let sizes: Vec<_> = wish.batch_sizes.iter().map(u32::to_string).collect();
        let mut child = command
            .arg("turns")
            .args(["--entries", &wish.entries.to_string(), "--bytes", &wish.bytes.to_string()])
            .args(["--batch-sizes", &sizes.join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", command.as_std().get_program().display()))?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?).lines();
        let mut ours = Self { _child: child, input, output };
        let Full { full } = ours.told(FULL_MAX).await?;
        anyhow::ensure!(full == wish.entries, "{full} entries instead of {}", wish.entries);
        Ok(ours)
    }

    /// One follower comes, catches up, and goes.
    pub(crate) async fn follow(&mut self, size: u32) -> Result<Duration> {
        self.input.write_all(format!("{size}\n").as_bytes()).await.context("asking for a turn")?;
        let Followed { took_us } = self.told(TURN_MAX).await?;
        Ok(Duration::from_secs_f64(took_us / 1e6))
    }

    async fn told<T: for<'a> Deserialize<'a>>(&mut self, within: Duration) -> Result<T> {
        let line = tokio::time::timeout(within, self.output.next_line());
        let line = line.await.with_context(|| format!("no answer within {within:?}"))??;
        let line = line.context("Tessera's benchmarks ended, and said why above")?;
        serde_json::from_str(&line).with_context(|| format!("it said: {line}"))
    }
}

/// Where Tessera's workspace is.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// It may have to be built first.
const FULL_MAX: Duration = Duration::from_secs(3_600);
/// Beyond what a turn is allowed there.
const TURN_MAX: Duration = Duration::from_secs(300);
