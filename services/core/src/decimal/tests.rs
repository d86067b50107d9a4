//! Decimals against integers of any length and against their own digits.

use super::{Decimal, SCALE, WHOLE_DIGITS};
use crate::aggregate::oracle::{Integer, round_ratio};
use crate::value::Value;
use proptest::prelude::*;
use std::cmp::Ordering;

const GREATEST: &str = "99999999999999999999.999999999999999999";

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

/// Often near the edges, small, whole, or with few digits after the point.
fn number() -> impl Strategy<Value = Decimal> {
    let limit = 10i128.pow(38);
    prop_oneof![
        (-limit + 1..limit).prop_map(|units| Decimal::from_units(units).unwrap()),
        (-3i128..4).prop_map(|units| Decimal::from_units(units).unwrap()),
        (-1000i64..1000).prop_map(Decimal::from_int),
        (any::<i64>(), 0u32..19).prop_map(|(unscaled, zeros)| {
            Decimal::from_units(i128::from(unscaled % 1_000_000) * 10i128.pow(zeros)).unwrap()
        }),
        (any::<i64>(), 0u32..19)
            .prop_map(|(unscaled, zeros)| Decimal::from_units(i128::from(unscaled) * 10i128.pow(zeros)).unwrap()),
        prop::sample::select(vec![decimal(GREATEST), decimal(GREATEST).negated()]),
    ]
}

fn units(number: Decimal) -> Integer {
    Integer::from_i128(number.units())
}

fn power_of_ten(exponent: u32) -> Integer {
    (0..exponent).fold(Integer::from_i64(1), |power, _| power.times(&Integer::from_i64(10)))
}

fn sign(number: &Integer) -> Ordering {
    round_ratio(number, &Integer::from_i64(1)).unwrap().total_cmp(&0.0)
}

/// Whether `found` is `numerator / denominator` units, rounded half to even, and `None` where that is beyond 38 digits.
fn is_rounded(found: Option<Decimal>, numerator: &Integer, denominator: i64) -> bool {
    let denominator = Integer::from_i64(denominator);
    let twice = Integer::from_i64(2);
    match found {
        Some(found) => {
            let off = numerator.minus(&units(found).times(&denominator)).times(&twice);
            let (below, above) = (sign(&off.plus(&denominator)), sign(&off.minus(&denominator)));
            match (below, above) {
                (Ordering::Greater, Ordering::Less) => true,
                (Ordering::Equal, _) | (_, Ordering::Equal) => found.units() % 2 == 0,
                _ => false,
            }
        }
        None => {
            let magnitude =
                if sign(numerator).is_lt() { Integer::default().minus(numerator) } else { numerator.clone() };
            // Half a unit below 10^38 rounds up to it.
            let edge = power_of_ten(38).times(&twice).minus(&Integer::from_i64(1)).times(&denominator);
            sign(&magnitude.times(&twice).minus(&edge)).is_ge()
        }
    }
}

proptest! {
    #[test]
    fn text_and_bytes_read_back(number in number()) {
        let text = number.to_string();
        prop_assert_eq!(decimal(&text), number);
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, "1"));
        prop_assert!(!fraction.ends_with('0') && (whole.trim_start_matches('-') == "0" || !whole.trim_start_matches('-').starts_with('0')), "{text}");
        let mut bytes = Vec::new();
        number.encode(&mut bytes);
        let mut rest = bytes.as_slice();
        prop_assert_eq!(Decimal::decode(&mut rest).unwrap(), number);
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn noise_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..24), text in "[-+0-9.eE]{0,12}") {
        if let Ok(number) = Decimal::decode(&mut bytes.as_slice()) {
            prop_assert_eq!(Decimal::from_units(number.units()), Some(number));
        }
        if let Ok(number) = Decimal::parse(&text) {
            let near = text.parse::<f64>().unwrap();
            prop_assert!((number.to_f64() - near).abs() <= near.abs() * 1e-15, "{text} {number}");
        }
    }

    /// The digits are moved by the exponent as text.
    #[test]
    fn any_notation_is_read_and_no_digit_is_lost(
        whole in "[0-9]{0,24}", fraction in "[0-9]{0,24}", exponent in -30i32..30, negative: bool,
    ) {
        prop_assume!(!whole.is_empty() || !fraction.is_empty());
        let zeros = "0".repeat(60);
        let digits = format!("{zeros}{whole}{fraction}{zeros}");
        let point = (60 + whole.len() as i32 + exponent) as usize;
        let (before, behind) = (digits[..point].trim_start_matches('0'), digits[point..].trim_end_matches('0'));
        let sign = if negative { "-" } else { "" };
        let found = Decimal::parse(&format!("{sign}{whole}.{fraction}e{exponent}"));
        if before.len() > usize::from(WHOLE_DIGITS) || behind.len() > usize::from(SCALE) {
            let error = found.unwrap_err().to_string();
            let side = if before.len() > usize::from(WHOLE_DIGITS) { format!("{} digits before", before.len()) } else { format!("{} digits after", behind.len()) };
            prop_assert!(error.contains(&side), "{error}");
        } else {
            let before = if before.is_empty() { "0" } else { before };
            let plain = if behind.is_empty() { before.to_string() } else { format!("{before}.{behind}") };
            let expected = if plain == "0" { plain } else { format!("{sign}{plain}") };
            prop_assert_eq!(found.unwrap().to_string(), expected);
        }
    }

    #[test]
    fn arithmetic_is_exact_or_beyond(a in number(), b in number()) {
        let within = |wide: Integer| wide.to_i128().and_then(Decimal::from_units);
        prop_assert_eq!(a.checked_add(b), within(units(a).plus(&units(b))));
        prop_assert_eq!(a.checked_sub(b), within(units(a).minus(&units(b))));
        prop_assert!(is_rounded(a.checked_mul(b), &units(a).times(&units(b)), 10i64.pow(18)), "{a} * {b}");
        prop_assert_eq!(a.negated().units(), -a.units());
        prop_assert_eq!(a.abs().units(), a.units().abs());
        prop_assert_eq!(a.cmp(&b), a.units().cmp(&b.units()));
    }

    #[test]
    fn division_with_a_rest_adds_up(a in number(), b in number()) {
        prop_assume!(b != Decimal::ZERO);
        let rest = a.checked_mod(b).unwrap();
        prop_assert!(rest == Decimal::ZERO || (rest < Decimal::ZERO) == (b < Decimal::ZERO));
        prop_assert!(rest.abs() < b.abs());
        let whole = units(a).minus(&units(rest));
        match a.checked_floordiv(b) {
            Some(quotient) => {
                prop_assert_eq!(quotient.units() % 10i128.pow(18), 0);
                let times = Integer::from_i128(quotient.units() / 10i128.pow(18));
                prop_assert_eq!(times.times(&units(b)), whole);
            }
            None => {
                // 10^20 divisors and more.
                let many = units(b.abs()).times(&power_of_ten(20));
                let magnitude = if sign(&whole).is_lt() { Integer::default().minus(&whole) } else { whole };
                prop_assert!(sign(&magnitude.minus(&many)).is_ge(), "{a} // {b}");
            }
        }
    }

    #[test]
    fn rounding_is_half_to_even(number in number(), digits in 0u8..16) {
        let power = 10i64.pow(u32::from(18 - digits));
        let rounded = number.round(digits);
        match rounded.map(Decimal::units) {
            Some(rounded) => {
                prop_assert_eq!(rounded % i128::from(power), 0);
                // In units of the last digit that is kept.
                let kept = Decimal::from_units(rounded / i128::from(power));
                prop_assert!(is_rounded(kept, &units(number), power), "{number} to {digits}");
            }
            None => prop_assert!(number.abs() >= decimal("99999999999999999999")),
        }
        let floor = number.floor();
        prop_assert_eq!(floor.map(Decimal::units), Some(number.units().div_euclid(10i128.pow(18)) * 10i128.pow(18)).filter(|units| *units > -(10i128.pow(38))));
        prop_assert_eq!(number.ceil(), number.negated().floor().map(Decimal::negated));
    }

    #[test]
    fn floats_are_compared_and_made_exactly(
        number in number(), float in prop_oneof![prop::num::f64::NORMAL.prop_filter("far", |float| float.abs() < 1e200), prop::num::f64::SUBNORMAL, -10.0f64..10.0, -1e21f64..1e21],
    ) {
        let one = power_of_ten(18);
        prop_assert_eq!(Some(number.to_f64()), round_ratio(&units(number), &one));
        for float in [float, number.to_f64(), number.to_f64().next_up(), number.to_f64().next_down()] {
            let off = units(number).times(&Integer::power_of_two(1074)).minus(&Integer::from_f64_units(float).times(&one));
            let expected = round_ratio(&off, &Integer::power_of_two(1074)).unwrap().total_cmp(&0.0);
            prop_assert_eq!(number.compare_f64(float), expected, "{} {}", number, float);
        }
    }

    #[test]
    fn a_float_becomes_its_shortest_text(float in prop_oneof![-1e21f64..1e21, -10.0f64..10.0, prop::num::f64::NORMAL]) {
        let text = float.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let found = Decimal::from_f64(float);
        if fraction.len() <= 18 {
            prop_assert_eq!(found, Decimal::parse(&text).ok());
        } else {
            // To half a unit of the 18 digits that are kept, by the digits that are cut.
            let kept = Decimal::parse(&format!("{whole}.{}", &fraction[..18])).unwrap();
            let cut = &fraction[18..];
            let half = format!("5{}", "0".repeat(cut.len() - 1));
            let up = Decimal::from_units(if text.starts_with('-') { -1 } else { 1 }).unwrap();
            let expected = match cut.cmp(&half) {
                Ordering::Less => kept,
                Ordering::Greater => kept.checked_add(up).unwrap(),
                Ordering::Equal if kept.units() % 2 == 0 => kept,
                Ordering::Equal => kept.checked_add(up).unwrap(),
            };
            prop_assert_eq!(found, Some(expected), "{}", text);
        }
    }

    #[test]
    fn scaled_integers_are_read_as_their_digits(unscaled in prop_oneof![any::<i128>(), -1000i128..1000], scale in -40i8..40) {
        let found = Decimal::from_scaled(unscaled, scale);
        let expected = Decimal::parse(&format!("{unscaled}e{}", -i32::from(scale)));
        prop_assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(|error| error.to_string()));
    }
}

#[test]
fn what_is_no_decimal_says_why() {
    let cases = [
        ("", "expected Decimal, got ''"),
        (".", "expected Decimal, got '.'"),
        ("-", "expected Decimal, got '-'"),
        ("1,5", "expected Decimal, got '1,5'"),
        (" 1", "expected Decimal, got ' 1'"),
        ("1e", "expected Decimal, got '1e'"),
        ("1e+-2", "expected Decimal, got '1e+-2'"),
        ("0x10", "expected Decimal, got '0x10'"),
        ("١", "expected Decimal, got '١'"),
        ("NaN", "NaN is not a value"),
        ("-Infinity", "-Infinity is not a value"),
        ("100000000000000000000", "100000000000000000000 has 21 digits before the point, a Decimal at most 20"),
        ("1e20", "1e20 has 21 digits before the point, a Decimal at most 20"),
        (
            "1e999999999999999999999",
            "1e999999999999999999999 has 1099511627777 digits before the point, a Decimal at most 20",
        ),
        ("-0.0000000000000000001", "-0.0000000000000000001 has 19 digits after the point, a Decimal at most 18"),
    ];
    for (text, expected) in cases {
        assert_eq!(Decimal::parse(text).unwrap_err().message(), expected, "{text}");
    }
    let long = "9".repeat(1000);
    let error = Decimal::parse(&long).unwrap_err();
    assert_eq!(error.message(), format!("{}… has 1000 digits before the point, a Decimal at most 20", "9".repeat(60)));
    assert!(error.hint_text().unwrap().contains("str"));
}

#[test]
fn one_number_has_one_form() {
    for same in ["1.5", "1.50", "+1.5", "01.500", "15e-1", "0.15E+1", ".15e1", "1.50000000000000000000000000000"] {
        assert_eq!(decimal(same), decimal("1.5"));
        assert_eq!(decimal(same).to_string(), "1.5");
    }
    for zero in ["0", "-0", "0.000", "-0e400", ".0"] {
        assert_eq!(decimal(zero), Decimal::ZERO);
        assert_eq!(decimal(zero).to_string(), "0");
    }
    let bytes = |text: &str| {
        let mut bytes = Vec::new();
        decimal(text).encode(&mut bytes);
        bytes
    };
    assert_eq!(bytes("0"), [0, 0]);
    assert_eq!(bytes("-1"), [0, 1]);
    assert_eq!(bytes("1200"), [0, 0xe0, 0x12]);
    assert_eq!(bytes("0.25"), [2, 50]);
    assert_eq!(bytes(GREATEST).len(), 20);
}

#[test]
fn stored_bytes_that_are_no_decimal_are_refused() {
    // 19 digits after the point; 21 before it; no end.
    for broken in
        [&[19, 2][..], &[0, 0x80, 0x80, 0x80, 0xb1, 0xac, 0x8b, 0xaf, 0xc7, 0xd7, 0x15], &[0, 0x80], &[2], &[]]
    {
        assert!(Decimal::decode(&mut &*broken).is_err(), "{broken:?}");
    }
}

#[test]
fn a_value_is_no_larger_for_it() {
    assert_eq!(size_of::<Value>(), 24);
}
