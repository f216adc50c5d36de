//! Numbers and durations as people write them.
//!
//! Decides whether it is one; whether it lies where it must is `validate`'s to say. Invariant:
//! whatever is refused is refused with what is expected.

use std::num::IntErrorKind;

/// A duration with its unit, in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let ms_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(DURATION.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| DURATION.to_owned())?;
    number.checked_mul(ms_per_unit).ok_or_else(|| DURATION.to_owned())
}

/// A duration as it may be typed: whole seconds, or else milliseconds.
pub(super) fn typed(duration_ms: u64) -> String {
    match duration_ms % 1_000 {
        0 => format!("{}s", duration_ms / 1_000),
        _ => format!("{duration_ms}ms"),
    }
}

/// A whole number.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    within::<0, { u64::MAX }>(text)
}

/// A whole number. Whether it lies where it must is `validate`'s to say; of one that is too large
/// to be read the same is said here.
pub(crate) fn within<const MIN: u64, const MAX: u64>(text: &str) -> Result<u64, String> {
    text.parse::<u64>().map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow => {
            format!("it is too large, and must lie between {MIN} and {MAX}")
        }
        _ => "expected a whole number that is not negative".to_owned(),
    })
}

pub(super) const DURATION: &str = "expected a whole number and a unit: 1500ms, 5s, 10m, 1h";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration_ms("600s"), Ok(600_000));
        assert_eq!(duration_ms("10m"), Ok(600_000));
        assert_eq!(duration_ms("1h"), Ok(3_600_000));
        assert_eq!(duration_ms("1500ms"), Ok(1_500));
        for bad in ["", "5", "s", "-5s", "5 s", "1.5s", "5d", "99999999999999999999s", "5sm"] {
            assert_eq!(duration_ms(bad), Err(DURATION.to_owned()), "{bad}");
        }
    }

    #[test]
    fn what_is_told_of_a_duration_may_be_typed() {
        for ms in [1, 500, 1_000, 1_500, 120_000] {
            assert_eq!(duration_ms(&typed(ms)), Ok(ms));
        }
    }

    #[test]
    fn numbers_are_whole_and_not_endless() {
        assert_eq!((within::<1, 9>("9"), count("0")), (Ok(9), Ok(0)));
        assert_eq!(within::<1, 9>("10"), Ok(10), "`validate` refuses it");
        let endless = "99999999999999999999";
        let refused = within::<1, 9>(endless).unwrap_err();
        assert_eq!(refused, "it is too large, and must lie between 1 and 9");
        assert!(count(endless).unwrap_err().ends_with("between 0 and 18446744073709551615"));
        for bad in ["", "-1", "many", "1.5", "-99999999999999999999"] {
            let refused = within::<1, 9>(bad).unwrap_err();
            assert_eq!(refused, "expected a whole number that is not negative", "{bad}");
        }
    }
}
