//! Another process of this program, in one of its hidden roles, told and heard in lines of JSON.
//!
//! Knows no role. Invariant: it ends when its handle is dropped, if it has not by itself.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) struct Companion {
    role: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Companion {
    pub(crate) fn spawn(role: &'static str) -> Result<Self> {
        let binary = std::env::current_exe().context("finding this program")?;
        let spawned =
            Command::new(binary).arg(role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.with_context(|| format!("starting a {role}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().with_context(|| format!("the output of a {role}"))?;
        Ok(Self { role, child, input, output: BufReader::new(output) })
    }

    pub(crate) fn tell(&mut self, words: &impl Serialize) -> Result<()> {
        let (role, line) = (self.role, serde_json::to_string(words)?);
        let input = self.input.as_mut().with_context(|| format!("a {role} hears no more"))?;
        writeln!(input, "{line}").with_context(|| format!("telling a {role}"))
    }

    /// Waits for its next line.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("a {} went away", self.role))
    }

    /// It is told nothing more, and is to come to its end.
    pub(crate) fn dismiss(&mut self) {
        self.input = None;
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // It has no state to lose, and may be ending already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
