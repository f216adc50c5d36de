//! Writes histories and logs, one line per operation or entry.
//!
//! Every line is flushed when it is complete, so that a killed harness leaves what it had. What
//! was open at that moment is then missing: such a file is evidence, but not a whole history.

use std::io::{self, Write};

use serde::Serialize;

use super::{LogLine, NodeLog, Operation};

/// Streams operations as they complete.
#[derive(Debug)]
pub struct Writer<W: Write> {
    sink: W,
    line: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes to `sink`; a whole line at a time, so it needs no buffer of its own.
    pub fn new(sink: W) -> Self {
        Self { sink, line: Vec::new() }
    }

    /// Appends one operation and flushes.
    pub fn append(&mut self, operation: &Operation) -> io::Result<()> {
        self.put(operation)?;
        self.sink.flush()
    }

    fn put(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        self.sink.write_all(&self.line)
    }
}

#[derive(Serialize)]
struct Row<'a> {
    node: u64,
    #[serde(skip_serializing_if = "is_first")]
    group: u64,
    #[serde(flatten)]
    line: &'a LogLine,
}

// Serde hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_first(group: &u64) -> bool {
    *group == 1
}

/// Writes the logs of all nodes, so that they can be judged again.
pub fn write_logs(sink: impl Write, logs: &[NodeLog]) -> io::Result<()> {
    let mut writer = Writer::new(io::BufWriter::new(sink));
    for log in logs {
        for line in &log.lines {
            writer.put(&Row { node: log.node, group: log.group, line })?;
        }
    }
    writer.sink.flush()
}
