//! The names of runs, scenarios and nodes, as parts of paths.
//!
//! Pure. Invariants: a name never leaves its folder; names of runs sort by time.

use crate::{Error, Result};

/// Names become parts of paths on every system, and must not leave their folder.
pub(super) fn check_name(what: &'static str, value: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = (1..=NAME_BYTES_MAX).contains(&value.len());
    if fits && value.bytes().all(plain) && !value.starts_with('.') && value != LATEST {
        return Ok(());
    }
    let allowed = "1 to 64 letters, digits, '-', '_' or '.', not a '.' first, and not 'latest'";
    // A hostile name is not echoed at full length.
    let value = value.chars().take(NAME_BYTES_MAX + 1).collect();
    Err(Error::Name { what, value, allowed })
}

/// `20261121T054213Z`: sorts by time and holds no character that a file system minds.
pub(super) fn utc(unix_s: u64) -> String {
    let unix_s = unix_s.min(UTC_UNIX_S_MAX);
    let (days, second_of_day) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) =
        (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// When a run or a sweep of this name was started, in words.
pub(super) fn started(name: &str) -> Option<String> {
    let (utc, _) = name.split_once("Z-")?;
    let (date, time) = utc.split_once('T')?;
    let is_all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if date.len() != 8 || time.len() != 6 || !is_all_digits(date) || !is_all_digits(time) {
        return None;
    }
    let (year, month, day) = (&date[..4], &date[4..6], &date[6..]);
    let (hour, minute, second) = (&time[..2], &time[2..4], &time[4..]);
    Some(format!("{year}-{month}-{day} {hour}:{minute}:{second} UTC"))
}

/// Gregorian date of a day counted from 1970-01-01, year by year and month by month.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

/// What points at the newest run.
pub(crate) const LATEST: &str = "latest";
const NAME_BYTES_MAX: usize = 64;
/// The last second of the year 9999.
const UTC_UNIX_S_MAX: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_knows_leap_years_and_ends() {
        for (unix_s, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_763_705_000, "20251121T060320Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (u64::MAX, "99991231T235959Z"),
        ] {
            assert_eq!(utc(unix_s), text);
        }
    }

    #[test]
    fn a_name_tells_when_its_run_was_started() {
        let name = format!("{}-0x0000000000000007-42-2", utc(1_763_705_000));
        assert_eq!(started(&name).unwrap(), "2025-11-21 06:03:20 UTC");
        for name in ["", "latest", "0x0000000000000007", "2025112éT06032Z-1", "1T2Z-3"] {
            assert_eq!(started(name), None, "{name}");
        }
    }

    #[test]
    fn names_cannot_leave_their_folder() {
        for name in ["a", "leader-failover", "v1.2_x"] {
            assert!(check_name("scenario", name).is_ok(), "{name}");
        }
        let long = "x".repeat(65);
        for name in ["", ".", "..", ".hidden", "a/b", "a\\b", "latest", "é", "a\n", &long] {
            let error = check_name("scenario", name).unwrap_err().to_string();
            assert!(error.contains("scenario") && error.contains("1 to 64 letters"), "{error}");
        }
    }
}
