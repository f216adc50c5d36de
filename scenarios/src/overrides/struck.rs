//! What `--fault` says is done to a node.
//!
//! Knows the words and no plan. Invariant: a word that is none is refused with those there are.

use std::fmt;
use std::str::FromStr;

use chaos::fault::Fault;
use chaos::plan::PlanError;

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Struck {
    /// This, in each trial.
    By(Fault),
    /// One of what the world can do, drawn for each trial.
    AtRandom,
}

impl Struck {
    /// As it is parsed; a word that is none is refused with what is allowed where it stands.
    pub(crate) fn read(word: &str, allowed: &str) -> Result<Self, PlanError> {
        word.parse::<Self>().map_err(|error| match error {
            PlanError::Field { field, value, .. } => {
                PlanError::Field { field, value, allowed: allowed.to_owned() }
            }
            other => other,
        })
    }
}

impl FromStr for Struck {
    type Err = PlanError;

    fn from_str(name: &str) -> Result<Self, PlanError> {
        match (name, name.parse()) {
            ("random", _) => Ok(Self::AtRandom),
            (_, Ok(fault)) => Ok(Self::By(fault)),
            (_, Err(PlanError::Field { field, value, allowed })) => {
                let allowed = format!("{allowed}, or random");
                Err(PlanError::Field { field, value, allowed })
            }
            (_, Err(error)) => Err(error),
        }
    }
}

impl fmt::Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::By(fault) => fault.fmt(f),
            Self::AtRandom => f.write_str("random"),
        }
    }
}
