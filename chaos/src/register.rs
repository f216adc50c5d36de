//! The replicated state that the laboratory works on: registers that hold a number or nothing.
//!
//! Knows no client and no history. Invariant: a compare-and-set says what the register held just
//! before it, so that whoever reads the history can tell by himself whether it swapped; and what
//! only fills logs changes one register, which counts it.

use std::{collections::BTreeMap, io};

use runtime::{ApplyContext, StateMachine};
use serde::{Deserialize, Serialize};

use crate::seed::mix;

/// Registers by key; a key that is absent was never written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Registers {
    values: BTreeMap<u64, u64>,
}

/// Changes one register.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Stores the value.
    Write {
        /// The register.
        key: u64,
        /// What it holds afterwards.
        value: u64,
    },
    /// Stores the value if the register holds what is expected.
    Cas {
        /// The register.
        key: u64,
        /// What it must hold; `None`: it must never have been written.
        expected: Option<u64>,
        /// What it then holds afterwards.
        value: u64,
    },
    /// Fills the log: its bytes mean nothing. One more is counted in the register [`FILLED`].
    Fill {
        /// What is carried.
        bytes: Vec<u8>,
    },
}

/// The register that counts what only filled the log. No load uses it.
pub const FILLED: u64 = u64::MAX;

/// Not a register: who reads it is told of all of them at once, by their digest. No load uses it.
pub const DIGEST: u64 = u64::MAX - 1;

/// Reads one register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Read {
    /// The register.
    pub key: u64,
}

impl Registers {
    /// Stands for all registers and what they hold: it changes with each by itself.
    pub(crate) fn digest(&self) -> u64 {
        self.values.keys().map(|key| self.share(*key)).fold(0, u64::wrapping_add)
    }

    /// What one register adds to the digest.
    pub(crate) fn share(&self, key: u64) -> u64 {
        self.values.get(&key).map_or(0, |value| mix(mix(0, key), *value))
    }
}

impl Command {
    /// The register that it may change.
    pub(crate) fn key(&self) -> u64 {
        match self {
            Self::Write { key, .. } | Self::Cas { key, .. } => *key,
            Self::Fill { .. } => FILLED,
        }
    }

    /// The value that it stores, or would; of what only fills the log there is none.
    pub fn value(&self) -> Option<u64> {
        match self {
            Self::Write { value, .. } | Self::Cas { value, .. } => Some(*value),
            Self::Fill { .. } => None,
        }
    }
}

impl StateMachine for Registers {
    type Command = Command;
    /// What the register held just before.
    type Output = Option<u64>;
    type Query = Read;
    type Answer = Option<u64>;

    const SIGNATURE: &'static str = "tessera.chaos.registers/3";

    fn apply(&mut self, command: Command, _context: &ApplyContext) -> Option<u64> {
        match command {
            Command::Write { key, value } => self.values.insert(key, value),
            Command::Cas { key, expected, value } => {
                let held = self.values.get(&key).copied();
                if held == expected {
                    self.values.insert(key, value);
                }
                held
            }
            Command::Fill { .. } => {
                let filled = self.values.get(&FILLED).copied().unwrap_or(0);
                self.values.insert(FILLED, filled.saturating_add(1))
            }
        }
    }

    fn query(&self, query: Read) -> Option<u64> {
        match query.key {
            DIGEST => Some(self.digest()),
            key => self.values.get(&key).copied(),
        }
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        writer.write_all(&(self.values.len() as u64).to_le_bytes())?;
        for (key, value) in &self.values {
            writer.write_all(&key.to_le_bytes())?;
            writer.write_all(&value.to_le_bytes())?;
        }
        Ok(())
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let count = number(reader)?;
        let mut values = BTreeMap::new();
        let mut last = None;
        // Nothing is reserved for a count that may be a lie; ascending keys end a lie early.
        for _ in 0..count {
            let key = number(reader)?;
            if last.is_some_and(|last| key <= last) {
                return Err(invalid("its keys do not ascend"));
            }
            values.insert(key, number(reader)?);
            last = Some(key);
        }
        if reader.read(&mut [0])? != 0 {
            return Err(invalid("there is more than its count says"));
        }
        self.values = values;
        Ok(())
    }
}

fn number(reader: &mut dyn io::Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no snapshot of registers: {reason}"))
}

#[cfg(test)]
mod tests {
    use runtime::{Index, Position, Term};

    use super::*;

    fn apply(registers: &mut Registers, command: Command) -> Option<u64> {
        let position = Position { term: Term(1), index: Index(1) };
        registers.apply(command, &ApplyContext { position })
    }

    #[test]
    fn a_compare_and_set_swaps_only_what_it_expects() {
        let mut registers = Registers::default();
        let cas = |expected, value| Command::Cas { key: 1, expected, value };
        assert_eq!(apply(&mut registers, cas(Some(7), 8)), None);
        assert_eq!(registers.query(Read { key: 1 }), None);
        assert_eq!(apply(&mut registers, cas(None, 9)), None);
        assert_eq!(registers.query(Read { key: 1 }), Some(9));
        assert_eq!(apply(&mut registers, cas(None, 10)), Some(9));
        assert_eq!(apply(&mut registers, Command::Write { key: 1, value: 11 }), Some(9));
        assert_eq!(registers.query(Read { key: 1 }), Some(11));
    }

    #[test]
    fn what_only_fills_the_log_is_counted_and_read_by_nobody() {
        let mut registers = Registers::default();
        apply(&mut registers, Command::Write { key: 1, value: 7 });
        for bytes in [vec![], vec![7; 100]] {
            let fill = Command::Fill { bytes };
            assert_eq!(fill.value(), None);
            apply(&mut registers, fill);
        }
        assert_eq!(registers.query(Read { key: 1 }), Some(7));
        assert_eq!(registers.query(Read { key: FILLED }), Some(2));
    }

    #[test]
    fn machines_that_hold_the_same_have_one_digest_and_all_others_another() {
        let digest = |commands: &[(u64, u64)]| {
            let mut registers = Registers::default();
            for (key, value) in commands {
                apply(&mut registers, Command::Write { key: *key, value: *value });
            }
            registers.query(Read { key: DIGEST }).expect("of nothing as well")
        };
        let held = digest(&[(1, 7), (2, 8)]);
        assert_eq!(digest(&[(2, 9), (2, 8), (1, 7)]), held, "however it came about");
        let others: [&[(u64, u64)]; 4] = [&[], &[(1, 7)], &[(1, 8), (2, 7)], &[(1, 7), (3, 8)]];
        assert!(others.iter().all(|other| digest(other) != held));
    }

    #[test]
    fn a_snapshot_reads_back_and_anything_else_does_not() {
        let mut registers = Registers::default();
        for key in 0..20 {
            apply(&mut registers, Command::Write { key, value: key * 3 });
        }
        let mut bytes = Vec::new();
        registers.snapshot(&mut bytes).expect("a vector takes all");
        let mut restored = Registers::default();
        restored.restore(&mut bytes.as_slice()).expect("its own snapshot");
        assert_eq!(restored, registers);

        for end in 0..bytes.len() {
            let before = restored.clone();
            restored.restore(&mut &bytes[..end]).expect_err("cut short");
            assert_eq!(restored, before, "a refused snapshot changes nothing");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        restored.restore(&mut longer.as_slice()).expect_err("too long");
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        restored.restore(&mut bytes.as_slice()).expect_err("a count that lies");
    }
}
