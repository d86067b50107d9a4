//! Numbers against wider arithmetic, texts against Python's slices.

use super::notation::parse;
use crate::expr::{ColumnType, Scope, Warnings, bind};
use crate::schema::DataType;
use crate::value::Value;
use proptest::prelude::*;

fn eval(text: &str, row: &[Value]) -> (Value, u64) {
    let mut scope = Scope::default();
    for (index, (name, value)) in ["a", "b"].iter().zip(row).enumerate() {
        let data_type = match value {
            Value::Int(_) => DataType::Int,
            Value::Float(_) => DataType::Float,
            _ => DataType::Str,
        };
        scope.add_row_column(name, index, ColumnType { data_type, nullable: false });
    }
    let mut warnings = Warnings::default();
    let (bound, _) = bind(&parse(text), &scope).unwrap();
    (bound.eval(row, &[], &mut warnings).into_owned(), warnings.total())
}

/// Ints that are often near the edges and small.
fn int() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -3i64..4, Just(i64::MIN), Just(i64::MAX), Just(1 << 53)]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL,
        int().prop_map(|number| number as f64),
        (-8i64..8).prop_map(|number| number as f64 / 2.0),
    ]
}

proptest! {
    #[test]
    fn ints_are_exact_or_null(a in int(), b in int()) {
        let (wide_a, wide_b) = (i128::from(a), i128::from(b));
        let floor = |a: i128, b: i128| (a - a.rem_euclid(b.abs())).checked_div(b).map(|q| {
            // rem_euclid goes down for a positive divisor and up for a negative one.
            if b < 0 && a.rem_euclid(-b) != 0 { q - 1 } else { q }
        });
        let cases = [
            ("(add a b)", Some(wide_a + wide_b)),
            ("(sub a b)", Some(wide_a - wide_b)),
            ("(mul a b)", Some(wide_a * wide_b)),
            ("(floordiv a b)", if b == 0 { None } else { floor(wide_a, wide_b) }),
            ("(mod a b)", if b == 0 { None } else { floor(wide_a, wide_b).map(|q| wide_a - q * wide_b) }),
        ];
        for (text, expected) in cases {
            let expected = expected.and_then(|number| i64::try_from(number).ok());
            let (found, warned) = eval(text, &[Value::Int(a), Value::Int(b)]);
            prop_assert_eq!(found.as_int(), expected, "{} {} {}", text, a, b);
            prop_assert_eq!(warned > 0, expected.is_none());
        }
    }

    #[test]
    fn floats_are_finite_or_null_and_floor_agrees_with_mod(a in float(), b in float()) {
        let row = [Value::float(a).unwrap(), Value::float(b).unwrap()];
        for text in ["(add a b)", "(sub a b)", "(mul a b)", "(div a b)", "(floordiv a b)", "(mod a b)", "(pow a b)"] {
            let (found, warned) = eval(text, &row);
            match found {
                Value::Float(number) => {
                    prop_assert!(number.is_finite() && (number != 0.0 || number.is_sign_positive()));
                    prop_assert_eq!(warned, 0);
                }
                _ => prop_assert_eq!(warned, 1),
            }
        }
        if let (Value::Float(remainder), _) = eval("(mod a b)", &row) {
            prop_assert!(remainder == 0.0 || (remainder < 0.0) == (b < 0.0));
            prop_assert!(remainder.abs() <= b.abs());
        }
    }

    #[test]
    fn ints_and_floats_compare_exactly(a in int(), b in float()) {
        // Both as multiples of 2^-1074 would be exact; the integer part and the fraction are enough.
        let whole = b.floor();
        let expected = if whole >= 1e30 {
            std::cmp::Ordering::Less
        } else if whole <= -1e30 {
            std::cmp::Ordering::Greater
        } else {
            i128::from(a).cmp(&(whole as i128)).then(if b > whole { std::cmp::Ordering::Less } else { std::cmp::Ordering::Equal })
        };
        let row = [Value::Int(a), Value::float(b).unwrap()];
        prop_assert_eq!(eval("(lt a b)", &row).0, Value::Bool(expected.is_lt()));
        prop_assert_eq!(eval("(eq a b)", &row).0, Value::Bool(expected.is_eq()));
        prop_assert_eq!(eval("(gt a b)", &row).0, Value::Bool(expected.is_gt()));
        prop_assert_eq!(eval("(lt b a)", &row).0, Value::Bool(expected.is_gt()));
    }

    #[test]
    fn slices_are_those_of_python(text in "[aé漢]{0,6}", start in -8i64..8, length in 0i64..8) {
        let letters: Vec<char> = text.chars().collect();
        let expected: String = (0..letters.len() as i64)
            .filter(|at| {
                let first = if start < 0 { letters.len() as i64 + start } else { start };
                *at >= first && *at < first + length
            })
            .map(|at| letters[at as usize])
            .collect();
        let (found, _) = eval(&format!("(slice a {start} {length})"), &[Value::str(text.as_str())]);
        prop_assert_eq!(found, Value::str(expected));
    }
}
