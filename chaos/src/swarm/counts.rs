//! What a run has seen: without these, a green run could mean that nothing happened.

use std::{fmt, ops::AddAssign};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// How often each thing happened.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, more: Self) {
                $(self.$name += more.$name;)*
            }
        }

        impl Counts {
            /// Each count with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counts! {
    /// Messages, proposals and timeouts.
    steps,
    /// How long it took in the world's own time, in milliseconds.
    simulated_ms,
    /// A server became leader.
    elections,
    /// A server began to ask for votes or pre-votes.
    campaigns,
    /// A leader stepped down for want of a quorum.
    quorums_lost,
    /// A server lost what was not durable.
    crashes,
    /// Writes that crashes took with them.
    writes_lost,
    /// A server came back with its disk.
    restarts,
    /// A server came back without its disk, as another server.
    wipes,
    /// A server was stopped and went on later.
    pauses,
    /// Links were cut.
    partitions,
    /// A suffix of a log was replaced.
    truncations,
    /// A configuration was committed.
    membership_changes,
    /// A leader told a successor to campaign.
    transfers,
    /// A server wrote a snapshot and dropped its log up to it.
    snapshots_taken,
    /// A leader met a follower that needs a snapshot.
    snapshots_to_be,
    /// A server went on from another's snapshot.
    snapshots_installed,
    /// A server's log grew by what others carried.
    carried,
    /// Messages that arrived.
    delivered,
    /// Messages that the network lost or cut off.
    lost,
    /// Messages that the network doubled.
    duplicated,
    /// Messages that overtook an earlier one on their link.
    reordered,
    /// A core found its timer late and waited for messages first.
    timers_late,
    /// Proposals and reads made.
    asked,
    /// Requests that clients proposed again.
    retries,
    /// Requests that were answered as applied before, or as standing in the log.
    duplicates_recognised,
    /// Entries committed.
    committed,
    /// Requests acknowledged.
    acknowledged,
    /// Requests of which it was said that they will never take effect.
    failed,
    /// Strong reads answered.
    reads,
    /// Sessions that were closed under their client.
    sessions_expired,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, count)) in self.named().enumerate() {
            let end = if number % 3 == 2 { "\n" } else { "" };
            write!(f, "  {name:<22}{count:>9}{end}")?;
        }
        Ok(())
    }
}
