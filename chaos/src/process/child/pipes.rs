//! The threads at both ends of a node's pipes, and its end.
//!
//! Threads, since a pipe to a node that stands still blocks whoever writes to it. Invariant: a
//! node's end is told only after everything that it had said.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, ExitStatus},
    sync::{Arc, atomic::Ordering, mpsc as blocking},
    thread,
    time::Duration,
};

use runtime::Clock;
use tokio::sync::{mpsc, watch};

use super::{Shared, lock};
use crate::{
    cluster::{NodeEvent, What},
    fault::NodeNumber,
    process::{
        HostClock,
        control::{Said, read_line},
    },
};

/// What listens to a node and sees it end.
pub(super) struct Reader {
    pub(super) node: NodeNumber,
    pub(super) log: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) events: mpsc::Sender<NodeEvent>,
    pub(super) ending: watch::Sender<Option<ExitStatus>>,
}

pub(super) fn start(
    mut input: ChildStdin,
    to_write: blocking::Receiver<Vec<u8>>,
    output: ChildStdout,
    reader: Reader,
) -> io::Result<()> {
    let name = |what: &str| format!("node-{}-{what}", reader.node);
    let (read_name, write_name) = (name("out"), name("in"));
    thread::Builder::new().name(write_name).spawn(move || {
        // Ends with its owner, and with the node. Dropping the pipe tells the node to end.
        for line in to_write {
            if input.write_all(&line).is_err() {
                return;
            }
        }
    })?;
    thread::Builder::new().name(read_name).spawn(move || reader.run(output))?;
    Ok(())
}

impl Reader {
    fn run(self, output: ChildStdout) {
        let complaint = self.listen(&mut BufReader::new(output));
        let status = self.reap();
        // Nobody can answer any more: those who wait learn it by the closed channel.
        lock(&self.shared.pending).clear();
        if !self.shared.condemned.load(Ordering::SeqCst) {
            let status = status.map_or("unknown".to_owned(), |status| status.to_string());
            let complaint = complaint.map_or(String::new(), |complaint| format!(", {complaint}"));
            let reason = format!("{status}{complaint}{}", tail(&self.log));
            let at_ns = u64::try_from(HostClock.now().0.as_nanos()).unwrap_or(u64::MAX);
            let event = NodeEvent { at_ns, node: self.node, what: What::Died { reason } };
            // A run that is over does not listen.
            drop(self.events.blocking_send(event));
        }
        self.ending.send_replace(status);
    }

    /// Passes on what the node says until it says no more; what it should not have said.
    fn listen(&self, output: &mut BufReader<ChildStdout>) -> Option<String> {
        loop {
            let line = match read_line(output) {
                Ok(Some(line)) => line,
                Ok(None) => return None,
                Err(error) => return Some(format!("its output: {error}")),
            };
            match serde_json::from_slice(&line) {
                Ok(Said::Reply { id, answer }) => {
                    if let Some(waiting) = lock(&self.shared.pending).remove(&id) {
                        // Whoever asked may have given up.
                        drop(waiting.send(answer));
                    }
                }
                Ok(Said::Event(event)) => drop(self.events.blocking_send(event)),
                Err(error) => return Some(format!("its output: {error}")),
            }
        }
    }

    /// Waits for its end. It is near: a node closes its output only by ending.
    fn reap(&self) -> Option<ExitStatus> {
        loop {
            let mut process = lock(&self.shared.process);
            match process.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Some(status),
                Err(error) => {
                    tracing::error!(node = %self.node, %error, "cannot be waited for");
                    return None;
                }
            }
            drop(process);
            thread::sleep(REAP_POLL);
        }
    }
}

/// The end of a log, to be shown after a reason.
pub(super) fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if text.trim().is_empty() => format!("; its log {} is empty", log.display()),
        Ok(text) => {
            let lines: Vec<&str> = text.trim_end().lines().collect();
            let first = lines.len().saturating_sub(TAIL_LINES);
            format!("; its log {} ends:\n{}", log.display(), lines[first..].join("\n"))
        }
        Err(error) => format!("; its log {}: {error}", log.display()),
    }
}

const REAP_POLL: Duration = Duration::from_millis(1);
const TAIL_BYTES: u64 = 4_096;
const TAIL_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let folder = tempfile::tempdir().expect("a place for files");
        let log = folder.path().join("1.log");
        assert!(tail(&log).contains("1.log"), "a missing log is named");
        std::fs::write(&log, "\n").expect("it can be written");
        assert!(tail(&log).contains("is empty"));
        let text: String = (0..1_000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&log, text).expect("it can be written");
        let tail = tail(&log);
        assert!(tail.ends_with("line 998\nline 999"), "{tail}");
        assert!(!tail.contains("line 987"), "{tail}");
    }
}
