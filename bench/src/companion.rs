//! Another process of this program, in one of its hidden roles, told and heard in lines of JSON.
//!
//! Knows no role. Invariant: it ends when its handle is dropped, or when this process does, if it
//! has not by itself.

use std::process::Stdio;

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

pub(crate) struct Companion {
    role: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Companion {
    pub(crate) fn spawn(role: &'static str) -> Result<Self> {
        let binary = std::env::current_exe().context("finding this program")?;
        let spawned = Command::new(binary)
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C at the terminal is for who measures.
            .process_group(0)
            // It has no state to lose.
            .kill_on_drop(true)
            .spawn();
        let mut child = spawned.with_context(|| format!("starting a {role}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().with_context(|| format!("the output of a {role}"))?;
        Ok(Self { role, child, input, output: BufReader::new(output) })
    }

    pub(crate) async fn tell(&mut self, words: &impl Serialize) -> Result<()> {
        let (role, line) = (self.role, serde_json::to_string(words)? + "\n");
        let input = self.input.as_mut().with_context(|| format!("a {role} hears no more"))?;
        input.write_all(line.as_bytes()).await.with_context(|| format!("telling a {role}"))
    }

    /// Waits for its next line.
    pub(crate) async fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line).await?;
        serde_json::from_str(&line).with_context(|| format!("a {} went away", self.role))
    }

    /// It is told nothing more, and is to come to its end.
    pub(crate) fn dismiss(&mut self) {
        self.input = None;
    }

    /// Ends it, and waits until it is gone.
    pub(crate) async fn end(mut self) {
        // It may be gone already.
        drop(self.child.kill().await);
    }
}
