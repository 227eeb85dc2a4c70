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

    /// So many whole units.
    pub fn whole(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANOS }
    }

    /// The difference, or nothing if that would be negative.
    #[must_use]
    pub fn saturating_sub(self, less: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(less.nanos).max(0) }
    }

    /// The canonical text, with a binary suffix where one fits and is asked for.
    pub fn text(self, binary: bool) -> String {
        written(self.nanos, binary, false)
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

/// The canonical text of a quantity, as upstream stores it: `1000m` is `1`, `0.5` is `500m`, `1024Mi` is `1Gi`.
pub fn canonical(text: &str) -> Result<String, ParseQuantityError> {
    let Quantity { nanos } = text.parse()?;
    if nanos.unsigned_abs() >= i128::MAX.unsigned_abs() {
        return Ok(text.to_owned());
    }
    let scientific = text.ends_with(|c: char| c.is_ascii_digit()) && text.contains(['e', 'E']);
    Ok(written(nanos, text.ends_with('i'), scientific))
}

fn written(nanos: i128, as_binary: bool, scientific: bool) -> String {
    match nanos {
        0 => "0".to_owned(),
        // A small binary number reads better as a decimal one, and a fraction can't be written otherwise.
        _ if as_binary && nanos.abs() >= 1024 * NANOS && nanos % NANOS == 0 => binary(nanos / NANOS),
        _ => decimal(nanos, scientific),
    }
}

fn binary(mut number: i128) -> String {
    let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().peekable();
    while number % 1024 == 0 && suffixes.len() > 1 {
        number /= 1024;
        suffixes.next();
    }
    format!("{number}{}", suffixes.peek().map_or("", |suffix| suffix))
}

fn decimal(mut number: i128, scientific: bool) -> String {
    let mut exponent = -9;
    while number % 1000 == 0 && exponent < 18 {
        number /= 1000;
        exponent += 3;
    }
    let suffix = match exponent {
        0 => "",
        other if scientific => return format!("{number}e{other}"),
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        _ => "E",
    };
    format!("{number}{suffix}")
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
    fn the_canonical_form_has_the_largest_suffix_that_keeps_the_number_whole() {
        for (text, expected) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1000", "1k"),
            ("1500m", "1500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("512Ki", "512Ki"),
            ("1073741824", "1073741824"),
            ("0.5Ki", "512"),
            ("-2000m", "-2"),
            ("0Gi", "0"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("100e1", "1e3"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(canonical("lots"), Err(ParseQuantityError));
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
            if let Ok(canonical) = canonical(&text) {
                proptest::prop_assert_eq!(canonical.parse::<Quantity>(), text.parse::<Quantity>());
                proptest::prop_assert_eq!(super::canonical(&canonical), Ok(canonical));
            }
        }
    }
}
