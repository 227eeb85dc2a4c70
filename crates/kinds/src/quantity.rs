//! Resource quantities: decimal numbers with an SI or binary suffix, exact to the nano unit.

use std::fmt;
use std::str::FromStr;

const NANOS: i128 = 1_000_000_000;

/// An amount such as `500m`, `2Gi` or `1e3`, in nano units.
///
/// Upstream rounds what is finer than a nano unit up; so does [`Quantity::from_str`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

/// The text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseQuantityError;

impl fmt::Display for ParseQuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    }
}

impl std::error::Error for ParseQuantityError {}

impl Quantity {
    /// Whole units, rounded up as upstream's `Value()` does.
    pub fn value(self) -> i64 {
        clamp(self.nanos.div_euclid(NANOS) + i128::from(self.nanos.rem_euclid(NANOS) != 0))
    }

    /// Thousandths, rounded up as upstream's `MilliValue()` does.
    pub fn milli_value(self) -> i64 {
        const MICROS: i128 = NANOS / 1000;
        clamp(self.nanos.div_euclid(MICROS) + i128::from(self.nanos.rem_euclid(MICROS) != 0))
    }

    /// -1, 0 or 1.
    pub fn signum(self) -> i128 {
        self.nanos.signum()
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos) }
    }
}

fn clamp(wide: i128) -> i64 {
    i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let no_digits = whole.is_empty() && fraction.is_empty();
        if no_digits || fraction.contains('.') || number.len() > 40 {
            return Err(ParseQuantityError);
        }
        let nanos = scaled(whole, fraction, suffix_scale(suffix)?).unwrap_or(i128::MAX);
        Ok(Self { nanos: if negative { -nanos } else { nanos } })
    }
}

/// What a suffix multiplies by: a power of two, or a power of ten.
#[derive(Clone, Copy)]
enum Scale {
    Two(u32),
    Ten(i32),
}

fn suffix_scale(suffix: &str) -> Result<Scale, ParseQuantityError> {
    Ok(match suffix {
        "" => Scale::Ten(0),
        "n" => Scale::Ten(-9),
        "u" => Scale::Ten(-6),
        "m" => Scale::Ten(-3),
        "k" => Scale::Ten(3),
        "M" => Scale::Ten(6),
        "G" => Scale::Ten(9),
        "T" => Scale::Ten(12),
        "P" => Scale::Ten(15),
        "E" => Scale::Ten(18),
        "Ki" => Scale::Two(10),
        "Mi" => Scale::Two(20),
        "Gi" => Scale::Two(30),
        "Ti" => Scale::Two(40),
        "Pi" => Scale::Two(50),
        "Ei" => Scale::Two(60),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E']).ok_or(ParseQuantityError)?;
            Scale::Ten(digits.parse::<i8>().map_err(|_| ParseQuantityError)?.into())
        }
    })
}

/// Nano units of `whole.fraction` times the scale, rounded up; `None` when that is beyond what fits.
fn scaled(whole: &str, fraction: &str, scale: Scale) -> Option<i128> {
    let digits: i128 = match format!("{whole}{fraction}").trim_start_matches('0') {
        "" => return Some(0),
        digits => digits.parse().ok()?,
    };
    let (factor, power) = match scale {
        Scale::Two(bits) => (1_i128 << bits, 9),
        Scale::Ten(exponent) => (1, exponent + 9),
    };
    let digits = digits.checked_mul(factor)?;
    let shift = power - i32::try_from(fraction.len()).ok()?;
    if shift >= 0 {
        return digits.checked_mul(10_i128.checked_pow(shift.unsigned_abs())?);
    }
    match 10_i128.checked_pow(shift.unsigned_abs()) {
        Some(divisor) => Some(digits.div_euclid(divisor) + i128::from(digits.rem_euclid(divisor) != 0)),
        None => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milli(text: &str) -> i64 {
        text.parse::<Quantity>().unwrap().milli_value()
    }

    #[test]
    fn suffixes_scale_by_ten_and_by_two() {
        assert_eq!(milli("1"), 1000);
        assert_eq!(milli("250m"), 250);
        assert_eq!(milli("1.5Ki"), 1536 * 1000);
        assert_eq!(milli("2e3"), 2_000_000);
        assert_eq!(milli("1E"), i64::MAX);
        assert_eq!("1Gi".parse::<Quantity>().unwrap().value(), 1 << 30);
        assert_eq!(milli(".5"), 500);
        assert_eq!(milli("-1"), -1000);
    }

    #[test]
    fn what_is_too_fine_rounds_up() {
        assert_eq!(milli("1u"), 1);
        assert_eq!("1n".parse::<Quantity>().unwrap().value(), 1);
        assert_eq!("0.0000000000001".parse::<Quantity>().unwrap(), "1n".parse().unwrap());
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "abc", "1.2.3", "1 Gi", "--1", "1ki", "1e", ".", "1e999", "١"] {
            assert_eq!(text.parse::<Quantity>(), Err(ParseQuantityError), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-+]?[0-9.]{0,50}[a-zA-Z]{0,3}[-+]?[0-9]{0,4}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
