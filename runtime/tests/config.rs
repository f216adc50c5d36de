//! Every setting of a group at its bounds and beyond them, and what the error says.

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use runtime::{ConsensusConfig, ConsensusProfile};

const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// The settings that a field's bounds are tried in.
type Base = fn() -> ConsensusConfig;

/// A field: its name, how it is set, in which settings, its least and its greatest value, and
/// how the error puts that.
type Field<T> = (&'static str, fn(&mut ConsensusConfig) -> &mut T, Base, T, T, &'static str);

fn lan() -> ConsensusConfig {
    ConsensusProfile::Lan.config()
}

/// Whatever follows from another field is as large as may be.
fn roomy() -> ConsensusConfig {
    ConsensusConfig {
        election_timeout: HOUR,
        forward_timeout: HOUR,
        query_timeout: HOUR,
        client_silence_max: HOUR,
        redial_backoff_max: HOUR,
        evict_after: 30 * 24 * HOUR,
        requests_bytes_max: 1 << 30,
        ..lan()
    }
}

/// A line of the tables below.
macro_rules! field {
    ($name:ident, $base:expr, $min:expr, $max:expr, $rule:expr) => {
        (stringify!($name), |config| &mut config.$name, $base, $min, $max, $rule)
    };
}

fn times() -> Vec<Field<Duration>> {
    let (zero, hour) = (Duration::ZERO, "must lie between 1ms and 3600s");
    let election = "must lie between 150ms (election_timeout) and 3600s";
    let beats = "must lie between 100ms (two of heartbeat_interval) and 3600s";
    let silence = "must lie between 1.2s (four of election_timeout + election_timeout_jitter) and \
                   2592000s";
    let upto_longest = "must lie between 1ms and 500ms (redial_backoff_max)";
    let steady: Base = || ConsensusConfig { heartbeat_jitter: Duration::ZERO, ..roomy() };
    let eager: Base = || ConsensusConfig { redial_backoff_min: MS, ..lan() };
    let jitter = "must be shorter than heartbeat_interval, 50ms";
    vec![
        field!(heartbeat_interval, steady, MS, HOUR / 2, "must lie between 1ms and 1800s"),
        field!(heartbeat_jitter, lan, zero, 50 * MS - NS, jitter),
        field!(election_timeout, roomy, 100 * MS, HOUR, beats),
        field!(election_timeout_jitter, roomy, MS, HOUR, hour),
        field!(bootstrap_delay, lan, zero, HOUR, "must lie between 0ns and 3600s"),
        field!(lease_margin, lan, zero, HOUR, "must lie between 0ns and 3600s"),
        field!(forward_timeout, lan, 150 * MS, HOUR, election),
        field!(query_timeout, lan, 150 * MS, HOUR, election),
        field!(client_silence_max, lan, 100 * MS, HOUR, beats),
        field!(handshake_timeout, lan, 10 * MS, HOUR, "must lie between 10ms and 3600s"),
        field!(redial_backoff_min, lan, MS, 500 * MS, upto_longest),
        field!(redial_backoff_max, eager, MS, HOUR, hour),
        field!(evict_after, lan, 1_200 * MS, 30 * 24 * HOUR, silence),
        field!(fetch_timeout, lan, 10 * MS, HOUR, "must lie between 10ms and 3600s"),
    ]
}

fn limits() -> Vec<Field<u32>> {
    let (kib, mib, gib) = (1 << 10, 1 << 20, 1 << 30);
    let entries = "must lie between 1 and 16777216";
    let million = "must lie between 1 and 1048576";
    let window = "must lie between 1024 and 1073741824";
    let message = "must lie between 1024 and 67108864";
    let command = "must lie between 64 and 67108864";
    let many: Base = || ConsensusConfig { voters_max: 9, ..lan() };
    let requests = "must lie between 1048576 (command_bytes_max) and 1073741824";
    vec![
        field!(max_missed_heartbeats, lan, 2, 10_000, "must lie between 2 and 10000"),
        field!(inflight_entries_max, lan, 1, 1 << 24, entries),
        field!(inflight_bytes_max, lan, kib, gib, window),
        field!(message_bytes_max, lan, kib, 64 * mib, message),
        field!(command_bytes_max, roomy, 64, 64 * mib, command),
        field!(uncommitted_entries_max, lan, 1, 1 << 24, entries),
        field!(clock_drift_ppm_max, lan, 0, 500_000, "must lie between 0 and 500000"),
        field!(requests_max, lan, 1, mib, million),
        field!(requests_bytes_max, lan, mib, gib, requests),
        field!(sessions_max, lan, 1, mib, million),
        field!(replies_per_session_max, lan, 1, mib, million),
        field!(snapshot_log_entries, lan, 0, 1 << 30, "must lie between 0 and 1073741824"),
        field!(snapshot_log_bytes, lan, 0, 1 << 30, "must lie between 0 and 1073741824"),
        field!(snapshot_tail_entries, lan, 0, 1 << 24, "must lie between 0 and 16777216"),
        field!(voters_max, lan, 3, 9, "must lie between 3 (voters_min) and 9"),
        field!(voters_min, many, 2, 9, "must lie between 2 and 9"),
        field!(learners_max, lan, 0, 64, "must lie between 0 and 64"),
        field!(batch_size, lan, 1, mib, million),
        field!(batch_bytes_max, lan, kib, 16 * mib, "must lie between 1024 and 16777216"),
        field!(inflight_per_peer_max, lan, 1, 64, "must lie between 1 and 64"),
        field!(catch_up_rate_max, lan, 64 * kib, u32::MAX, "must lie between 65536 and 4294967295"),
    ]
}

/// Tries a field at its bounds and right beyond them.
fn try_bounds<T: Copy + Debug>(
    (name, field, base, min, max, rule): Field<T>,
    beyond: impl Fn(T, T) -> [Option<T>; 2],
) {
    let mut config = base();
    for allowed in [min, max] {
        *field(&mut config) = allowed;
        assert_eq!(config.validate(), Ok(()), "{name} = {allowed:?}");
    }
    for refused in beyond(min, max).into_iter().flatten() {
        *field(&mut config) = refused;
        let error = config.validate().expect_err(name);
        assert_eq!(error.to_string(), format!("{name} is {refused:?}, but {rule}"));
        assert_eq!((error.field, error.value), (name, format!("{refused:?}")));
    }
}

#[test]
fn every_setting_is_held_against_its_bounds_and_the_error_names_all_there_is_to_know() {
    for field in times() {
        try_bounds(field, |min, max| [min.checked_sub(NS), Some(max + NS)]);
    }
    for field in limits() {
        try_bounds(field, |min, max| [min.checked_sub(1), max.checked_add(1)]);
    }
}

#[test]
fn no_setting_is_left_out() {
    // Does not compile once there is another one: it needs a line above.
    let ConsensusConfig {
        heartbeat_interval: _,
        heartbeat_jitter: _,
        max_missed_heartbeats: _,
        election_timeout: _,
        election_timeout_jitter: _,
        bootstrap_delay: _,
        forward_timeout: _,
        query_timeout: _,
        inflight_entries_max: _,
        inflight_bytes_max: _,
        message_bytes_max: _,
        command_bytes_max: _,
        uncommitted_entries_max: _,
        requests_max: _,
        requests_bytes_max: _,
        sessions_max: _,
        replies_per_session_max: _,
        snapshot_log_entries: _,
        snapshot_log_bytes: _,
        snapshot_tail_entries: _,
        // A switch: it has no bounds.
        lease_reads: _,
        clock_drift_ppm_max: _,
        lease_margin: _,
        voters_max: _,
        voters_min: _,
        learners_max: _,
        evict_after: _,
        batch_size: _,
        batch_bytes_max: _,
        inflight_per_peer_max: _,
        fetch_timeout: _,
        catch_up_rate_max: _,
        client_silence_max: _,
        handshake_timeout: _,
        redial_backoff_min: _,
        redial_backoff_max: _,
    } = lan();
    let times = times().into_iter().map(|(name, ..)| name);
    let names: BTreeSet<_> = times.chain(limits().into_iter().map(|(name, ..)| name)).collect();
    assert_eq!(names.len(), 35);
}

#[test]
fn a_lease_of_which_nothing_is_left_is_refused() {
    let config = |lease_margin| ConsensusConfig { lease_reads: true, lease_margin, ..lan() };
    assert_eq!(config(5 * MS).validate(), Ok(()));
    // 150 ms, less a tenth of it twice, is 122 ms.
    let error = config(123 * MS).validate().expect_err("nothing is left");
    assert_eq!((error.field, error.value.as_str()), ("lease_margin", "123ms"));
    assert!(error.rule.contains("election_timeout, 150ms"), "{error}");
    let without = ConsensusConfig { lease_reads: false, ..config(123 * MS) };
    assert_eq!(without.validate(), Ok(()), "nobody asks for leases");
}

#[test]
fn no_setting_makes_the_bounds_of_another_contradict_themselves() {
    for base in [lan as Base, roomy] {
        for (_, field, _, min, max, _) in times() {
            for value in [Duration::ZERO, min, max, Duration::MAX] {
                let mut config = base();
                *field(&mut config) = value;
                let Err(error) = config.validate() else { continue };
                // A rule that nothing can keep names a lower bound above the upper.
                assert!(!error.rule.contains("7200s"), "{error}");
                assert!(!error.rule.contains("and 0ns"), "{error}");
            }
        }
    }
}

#[test]
fn the_named_profiles_work_and_the_wide_one_has_the_constants_of_the_reference() {
    for profile in [ConsensusProfile::Lan, ConsensusProfile::Wan, ConsensusProfile::Loopback] {
        profile.config().validate().expect("the named profiles work");
    }
    let wan = ConsensusProfile::Wan.config();
    let times = [wan.heartbeat_interval, wan.heartbeat_jitter, wan.election_timeout];
    assert_eq!(times, [500 * MS, 150 * MS, 2_000 * MS]);
    let times = [wan.election_timeout_jitter, wan.bootstrap_delay, wan.forward_timeout];
    assert_eq!(times, [500 * MS, 3_000 * MS, 2_000 * MS]);
    assert_eq!((wan.query_timeout, wan.max_missed_heartbeats), (2_000 * MS, 10));
}
