//! A machine that counts what it applies, and answers nothing: catching up is measured with it.
//!
//! The program in `bench/peers` gives mosaik the same one.

use std::io;

use bytes::Bytes;
use runtime::{ApplyContext, StateMachine};

#[derive(Default)]
pub(crate) struct Tally {
    commands: u64,
    bytes: u64,
}

impl StateMachine for Tally {
    type Command = Bytes;
    type Output = ();
    type Query = ();
    /// How many commands, of how many bytes.
    type Answer = (u64, u64);
    const SIGNATURE: &'static str = "bench tally 1";

    fn apply(&mut self, command: Bytes, _: &ApplyContext) {
        self.commands += 1;
        self.bytes += command.len() as u64;
    }

    fn query(&self, (): ()) -> (u64, u64) {
        (self.commands, self.bytes)
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        writer.write_all(&self.commands.to_le_bytes())?;
        writer.write_all(&self.bytes.to_le_bytes())
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut read = || {
            let mut number = [0; 8];
            reader.read_exact(&mut number).map(|()| u64::from_le_bytes(number))
        };
        (self.commands, self.bytes) = (read()?, read()?);
        Ok(())
    }
}
