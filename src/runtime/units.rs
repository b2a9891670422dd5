//! Money, ages and lengths of time as people read them.

use std::borrow::Cow;
use std::time::Duration;

use crate::schema::time::Millis;

/// A point in time to the second, in UTC: `2026-07-23 12:00:01`.
#[must_use]
pub fn utc(at: Millis) -> String {
    let mut text = at.to_string();
    text.truncate("0000-00-00T00:00:00".len());
    text.replace('T', " ")
}

/// Cents as dollars: `$1,234.05`, `-$0.50`.
#[must_use]
pub fn money(minor: i64) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    let minor = minor.unsigned_abs();
    format!("{sign}${}.{:02}", number(minor / 100), minor % 100)
}

/// A criterion of a high-value fan as it is stored, `spend_minor >= 50000`, in money: `spend >= $500.00`. Any other is itself.
#[must_use]
pub fn criterion(why: &str) -> Cow<'_, str> {
    let amount = || {
        let (what, minor) = why.split_once("_minor >= ")?;
        Some(format!("{what} >= {}", money(minor.parse().ok().filter(|_| matches!(what, "spend" | "payment"))?)))
    };
    amount().map_or(Cow::Borrowed(why), Cow::Owned)
}

/// A number with commas between thousands: `1,234,567`.
#[must_use]
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How long ago something was, in its largest unit: `now` (under a second), `45s ago`, `3m ago`, `2h ago`, `5d ago`; `in 3m` for what
/// is yet to come.
#[must_use]
pub fn ago(age_ms: i64) -> String {
    let length = short(age_ms.unsigned_abs());
    match age_ms {
        ..=-1000 => format!("in {length}"),
        -999..1000 => "now".to_owned(),
        1000.. => format!("{length} ago"),
    }
}

/// A length of time in its largest unit, rounded down: `45s`, `3m`, `2h`, `5d`.
#[must_use]
pub fn short(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m", s / 60),
        3_600..86_400 => format!("{}h", s / 3_600),
        _ => format!("{}d", s / 86_400),
    }
}

/// A length of time in its two largest units: `350ms`, `1.2s`, `1m 30s`, `2h 5m`, `3d 4h`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let (s, ms) = (duration.as_secs(), duration.subsec_millis());
    let two = |large: u64, large_name: &str, small: u64, small_name: &str| match small {
        0 => format!("{large}{large_name}"),
        _ => format!("{large}{large_name} {small}{small_name}"),
    };
    match s {
        0 => format!("{ms}ms"),
        1..60 if ms >= 100 => format!("{s}.{}s", ms / 100),
        1..60 => format!("{s}s"),
        60..3_600 => two(s / 60, "m", s % 60, "s"),
        3_600..86_400 => two(s / 3_600, "h", s / 60 % 60, "m"),
        _ => two(s / 86_400, "d", s / 3_600 % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc() {
        assert_eq!(utc(Millis(1_784_808_000_999)), "2026-07-23 12:00:00");
        assert_eq!(utc(Millis(i64::MIN)).len(), 19);
    }

    #[test]
    fn money_is_exact() {
        for (minor, expected) in [
            (0, "$0.00"),
            (1_200, "$12.00"),
            (-5, "-$0.05"),
            (123_456_789, "$1,234,567.89"),
            (99_999, "$999.99"),
            (i64::MIN, "-$92,233,720,368,547,758.08"),
        ] {
            assert_eq!(money(minor), expected);
        }
    }

    #[test]
    fn criteria_are_told_in_money() {
        for (why, expected) in [
            ("spend_minor >= 50000", "spend >= $500.00"),
            ("payment_minor >= 10000", "payment >= $100.00"),
            ("list:vip", "list:vip"),
            ("list:x_minor >= 5", "list:x_minor >= 5"),
            ("spend_minor >= much", "spend_minor >= much"),
            ("listed by id", "listed by id"),
        ] {
            assert_eq!(criterion(why), expected);
        }
    }

    #[test]
    fn ages_are_in_their_largest_unit() {
        for (ms, expected) in [
            (0, "now"),
            (-999, "now"),
            (1_000, "1s ago"),
            (59_999, "59s ago"),
            (180_000, "3m ago"),
            (7_200_000, "2h ago"),
            (5 * 86_400_000, "5d ago"),
            (-180_000, "in 3m"),
            (i64::MIN, "in 106751991167d"),
        ] {
            assert_eq!(ago(ms), expected, "{ms}");
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (ms, expected) in [
            (0, "0ms"),
            (350, "350ms"),
            (1_000, "1s"),
            (1_250, "1.2s"),
            (90_000, "1m 30s"),
            (120_000, "2m"),
            (7_500_000, "2h 5m"),
            (3 * 86_400_000 + 4 * 3_600_000, "3d 4h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), expected, "{ms}");
        }
    }
}
