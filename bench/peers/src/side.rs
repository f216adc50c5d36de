//! Who is compared: Tessera, and mosaik with two paces of its heartbeats.

use std::{fmt, time::Duration};

use anyhow::{Context, Result};
use mosaik::groups::ConsensusConfig;

/// One of those who take turns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Side {
    /// Profile `lan`.
    Tessera,
    /// With all its defaults.
    Mosaik,
    /// With short heartbeats: a follower of mosaik's learns what it lacks from one, and applies
    /// what it has fetched at another.
    MosaikShort,
}

impl Side {
    pub(crate) const ALL: [Self; 3] = [Self::Tessera, Self::Mosaik, Self::MosaikShort];

    /// How it is called in names of figures.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tessera => "tessera",
            Self::Mosaik => "mosaik",
            Self::MosaikShort => "mosaik_short",
        }
    }

    /// How mosaik's groups are set up; `None` where it is not mosaik.
    ///
    /// # Errors
    /// Settings that mosaik refuses.
    pub(crate) fn consensus(self) -> Result<Option<ConsensusConfig>> {
        match self {
            Self::Tessera => Ok(None),
            Self::Mosaik => Ok(Some(ConsensusConfig::default())),
            Self::MosaikShort => {
                // A tenth of the default. A bond is still given up only after five seconds.
                let config = ConsensusConfig::builder()
                    .with_heartbeat_interval(Duration::from_millis(50))
                    .with_heartbeat_jitter(Duration::from_millis(15))
                    .with_max_missed_heartbeats(100);
                Ok(Some(config.build().context("short heartbeats")?))
            }
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tessera => "Tessera",
            Self::Mosaik => "mosaik, defaults",
            Self::MosaikShort => "mosaik, 50 ms heartbeats",
        })
    }
}
