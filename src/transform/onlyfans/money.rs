//! Amounts of money, from the decimal text the source wrote.
//!
//! Owns: the one reading of an amount. Invariant: no amount ever passes through a binary float.

/// Longest text that can be an amount.
const LEN_MAX: usize = 64;

/// An amount in cents. `None`: blank, so not stated.
///
/// Read are JSON numbers in any form (`25`, `3.99`, `1.5e1`) and texts (`"$12.00"`, `"1,234.50"`, `"free"`). Fractions of a cent are
/// rounded half up: they are shares (80 % of 3.99 is 3.192) and remains of the source's own floats (3.9900000000000002).
///
/// # Errors
/// What is wrong with it: negative (no event means a payment back), not a decimal number, commas elsewhere than between thousands (`1,50`
/// may mean two things), beyond an `i64`.
pub(super) fn minor_units(text: &str) -> Result<Option<i64>, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if text.eq_ignore_ascii_case("free") {
        return Ok(Some(0));
    }
    if text.len() > LEN_MAX {
        return Err("too long");
    }
    let (negative, text) = take_sign_and_currency(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| "not a decimal number")?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !is_grouped_by_thousands(whole) {
        return Err("a comma is not between thousands");
    }

    let mut buffer = [0u8; LEN_MAX];
    let (mut len, mut whole_len) = (0usize, 0i64);
    for (byte, in_whole) in whole.bytes().filter(|&b| b != b',').map(|b| (b, true)).chain(fraction.bytes().map(|b| (b, false))) {
        if !byte.is_ascii_digit() {
            return Err("not a decimal number");
        }
        buffer[len] = byte - b'0';
        len += 1;
        whole_len += i64::from(in_whole);
    }
    if len == 0 {
        return Err("not a decimal number");
    }
    let digits = &buffer[..len];
    if digits.iter().all(|&digit| digit == 0) {
        return Ok(Some(0));
    }
    if negative {
        return Err("negative");
    }
    // How many of the digits stand before the cents' end; zeros follow where there are fewer.
    let cents_len = whole_len + i64::from(exponent) + 2;
    if cents_len - leading_zeros(digits) > 19 {
        return Err("too large");
    }
    let digit = |at: i64| usize::try_from(at).ok().and_then(|at| digits.get(at)).map_or(0, |&digit| i64::from(digit));
    let first = leading_zeros(digits);
    let cents = (first..cents_len).try_fold(0i64, |cents, at| cents.checked_mul(10)?.checked_add(digit(at)));
    let rounding = i64::from(digit(cents_len) >= 5);
    cents.and_then(|cents| cents.checked_add(rounding)).map(Some).ok_or("too large")
}

/// `-5`, `$5`, `-$5`, `$-5`.
fn take_sign_and_currency(text: &str) -> (bool, &str) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let text = ["US$", "USD", "$"].into_iter().find_map(|currency| text.strip_prefix(currency)).map_or(text, str::trim_start);
    match text.strip_prefix('-') {
        Some(rest) if !negative => (true, rest),
        _ => (negative, text),
    }
}

/// Whether commas, if any, stand before every third digit counted from the right.
fn is_grouped_by_thousands(whole: &str) -> bool {
    let mut groups = whole.split(',');
    let first = groups.next().map_or(0, str::len);
    let mut grouped = false;
    for group in groups {
        if group.len() != 3 {
            return false;
        }
        grouped = true;
    }
    !grouped || (1..=3).contains(&first)
}

fn leading_zeros(digits: &[u8]) -> i64 {
    let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
    i64::try_from(zeros).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_from_their_decimal_text() {
        for (text, expected) in [
            ("25", Ok(Some(2500))),
            ("3.99", Ok(Some(399))),
            ("0", Ok(Some(0))),
            ("0.0", Ok(Some(0))),
            ("-0", Ok(Some(0))),
            ("", Ok(None)),
            ("  ", Ok(None)),
            ("$12.00", Ok(Some(1200))),
            ("$ 12.5", Ok(Some(1250))),
            ("US$7", Ok(Some(700))),
            ("USD 7.10", Ok(Some(710))),
            ("1,234.50", Ok(Some(123_450))),
            ("$1,234,567.89", Ok(Some(123_456_789))),
            ("FREE", Ok(Some(0))),
            (".5", Ok(Some(50))),
            ("5.", Ok(Some(500))),
            ("0.29", Ok(Some(29))),
            ("4.35", Ok(Some(435))),
            ("1.005", Ok(Some(101))),
            ("3.192", Ok(Some(319))),
            ("3.9900000000000002", Ok(Some(399))),
            ("3.9899999999999998", Ok(Some(399))),
            ("0.999", Ok(Some(100))),
            ("0.001", Ok(Some(0))),
            ("1e2", Ok(Some(10_000))),
            ("1.5E1", Ok(Some(1500))),
            ("125e-2", Ok(Some(125))),
            ("5e-3", Ok(Some(1))),
            ("1e-400", Ok(Some(0))),
            ("0e999999999", Ok(Some(0))),
            ("92233720368547758.07", Ok(Some(i64::MAX))),
            ("92233720368547758.08", Err("too large")),
            ("1e400", Err("too large")),
            ("1e99999999999", Err("not a decimal number")),
            ("-5", Err("negative")),
            ("-$5.00", Err("negative")),
            ("$-5.00", Err("negative")),
            ("1,50", Err("a comma is not between thousands")),
            ("12,00.5", Err("a comma is not between thousands")),
            ("1234,567", Err("a comma is not between thousands")),
            (",123", Err("a comma is not between thousands")),
            ("1.234,50", Err("not a decimal number")),
            ("12.00 €", Err("not a decimal number")),
            ("$", Err("not a decimal number")),
            (".", Err("not a decimal number")),
            ("abc", Err("not a decimal number")),
            ("NaN", Err("not a decimal number")),
            ("0x10", Err("not a decimal number")),
            ("١٢", Err("not a decimal number")),
            ("--5", Err("not a decimal number")),
            ("12\u{0}", Err("not a decimal number")),
            (&"9".repeat(65), Err("too long")),
        ] {
            assert_eq!(minor_units(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn cents_survive_every_way_of_writing_them(cents in 0i64..10_000_000_000) {
            let (dollars, rest) = (cents / 100, cents % 100);
            for text in [format!("{dollars}.{rest:02}"), format!("${dollars}.{rest:02}000"), format!("{cents}e-2"), format!("0.{cents:012}e10")] {
                prop_assert_eq!(minor_units(&text), Ok(Some(cents)), "{}", text);
            }
        }

        #[test]
        fn any_text_is_an_amount_or_an_error(text in "[-$+,.0-9eE a-z]{0,70}|.{0,10}") {
            let _ = minor_units(&text);
        }
    }
}
