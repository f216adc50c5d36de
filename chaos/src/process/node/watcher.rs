//! Notices when the node did not get to run.
//!
//! A thread that asks for very little, so that what keeps it from running keeps everything else
//! from running too. Invariant: it measures the host, never the node's own slowness.

use std::{io, thread, time::Duration};

use runtime::{Clock, Time};

use super::outbox::Outbox;
use crate::{
    cluster::What,
    member::{STALL, nanos},
    process::HostClock,
};

/// Starts to watch, for as long as the process lives.
pub(super) fn start(outbox: Outbox) -> io::Result<()> {
    thread::Builder::new().name("watcher".into()).spawn(move || {
        loop {
            let asleep = HostClock.now();
            thread::sleep(SLEEP);
            let awake = HostClock.now();
            if let Some(due) = overslept(asleep, awake) {
                outbox.event_at(awake, What::Stall { from_ns: nanos(due) });
            }
        }
    })?;
    Ok(())
}

/// When it should have woken, if it woke so late that it matters.
fn overslept(asleep: Time, awake: Time) -> Option<Time> {
    let due = asleep.plus(SLEEP);
    (awake.since(due) >= STALL).then_some(due)
}

const SLEEP: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_late_by_the_stated_time_is_a_stall() {
        let at = |ms| Time(Duration::from_millis(ms));
        assert_eq!(overslept(at(100), at(105)), None);
        assert_eq!(overslept(at(100), at(124)), None);
        assert_eq!(overslept(at(100), at(125)), Some(at(105)));
        assert_eq!(overslept(at(100), at(900)), Some(at(105)));
    }
}
