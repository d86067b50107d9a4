//! Input rows for a proof: ordinary values, the corners of each type, and what the program itself compares with. The same rows
//! every time: nothing here is left to chance.

use super::program::{Expr, Program, Statement};
use thyme_core::schema::DataType;
use thyme_core::value::Value;

const TWO_TO_53: i64 = 1 << 53;
const INTS: [i64; 14] = [
    0,
    1,
    -1,
    2,
    -2,
    7,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
    TWO_TO_53,
    TWO_TO_53 + 1,
    TWO_TO_53 - 1,
    -TWO_TO_53,
    -TWO_TO_53 - 1,
];
const FLOATS: [f64; 20] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    0.1,
    1e-9,
    -3.7,
    5e-324,
    f64::MIN_POSITIVE,
    f64::MAX,
    f64::MIN,
    9_007_199_254_740_993.0,
    9.3e18,
    -1e300,
    1e16,
];
const TEXTS: [&str; 16] = [
    "",
    " ",
    "a",
    "A",
    "abc",
    "ABC",
    "Abc",
    " x\t",
    "\u{1c}y\n",
    "0",
    "12",
    "é",
    "ß",
    "İstanbul",
    "漢字",
    "\u{1f600}z",
];
/// One in so many is None.
const NONE_EVERY: u64 = 10;

/// Draws numbers: SplitMix64, always from the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_of<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        items.get(self.below(items.len() as u64) as usize).cloned()
    }
}

/// Constants of a program, and what lies next to them.
#[derive(Default)]
struct Constants {
    ints: Vec<i64>,
    floats: Vec<f64>,
    texts: Vec<String>,
}

pub(crate) fn rows(program: &Program, types: &[DataType], count: usize) -> Vec<Vec<Value>> {
    let mut constants = Constants::default();
    constants.add_block(&program.body);
    let mut dice = Dice(0);
    (0..count).map(|_| types.iter().map(|data_type| value(&mut dice, data_type, &constants)).collect()).collect()
}

fn value(dice: &mut Dice, data_type: &DataType, constants: &Constants) -> Value {
    if dice.below(NONE_EVERY) == 0 {
        return Value::Null;
    }
    let kind = dice.below(4);
    match data_type {
        DataType::Bool => Value::Bool(kind < 2),
        DataType::Int => Value::Int(match kind {
            0 => dice.one_of(&INTS).unwrap_or_default(),
            1 => dice.one_of(&constants.ints).unwrap_or(3),
            2 => dice.below(2_000_001) as i64 - 1_000_000,
            _ => dice.below(41) as i64 - 20,
        }),
        DataType::Float => Value::Float(match kind {
            0 => dice.one_of(&FLOATS).unwrap_or_default(),
            1 => dice.one_of(&constants.floats).unwrap_or(0.25),
            2 => (dice.below(2_000_001) as f64 - 1e6) / 1000.0,
            _ => (dice.below(161) as f64 - 80.0) / 4.0,
        }),
        DataType::Str => Value::str(match kind {
            0 | 1 => dice.one_of(&TEXTS).unwrap_or_default().to_string(),
            2 => dice.one_of(&constants.texts).unwrap_or_default(),
            _ => format!("k{}", dice.below(100)),
        }),
        // Programs do not read it.
        _ => Value::Null,
    }
}

impl Constants {
    fn add_block(&mut self, statements: &[Statement]) {
        for statement in statements {
            match statement {
                Statement::Assign(_, expr) => self.add(expr),
                Statement::If(test, body, other) => {
                    self.add(test);
                    self.add_block(body);
                    self.add_block(other);
                }
                Statement::Return(outputs) => outputs.iter().for_each(|output| self.add(output)),
            }
        }
    }

    fn add(&mut self, expr: &Expr) {
        match expr {
            Expr::Int(number) => {
                let near = [*number, number.saturating_sub(1), number.saturating_add(1), number.saturating_neg()];
                self.ints.extend(near);
                self.floats.extend([*number as f64, *number as f64 + 0.5]);
            }
            Expr::Float(number) => {
                self.floats.extend([*number, number.next_up(), number.next_down(), -number]);
                self.ints.extend([number.floor() as i64, number.ceil() as i64]);
            }
            Expr::Str(text) => {
                let more = format!("{text}x");
                self.texts.extend([text.to_string(), more, format!(" {text}"), text.to_uppercase()]);
            }
            Expr::None | Expr::Bool(_) | Expr::Input(_) | Expr::Local(_) => {}
            Expr::Negative(operand) | Expr::Positive(operand) | Expr::Not(operand) | Expr::IsNone(operand) => {
                self.add(operand);
            }
            Expr::Binary(_, left, right) => [left, right].into_iter().for_each(|operand| self.add(operand)),
            Expr::Compare(left, rights) => {
                self.add(left);
                rights.iter().for_each(|(_, right)| self.add(right));
            }
            Expr::IfElse(test, value, other) => [test, value, other].into_iter().for_each(|part| self.add(part)),
            Expr::And(operands) | Expr::Or(operands) | Expr::Call(_, operands) => {
                operands.iter().for_each(|operand| self.add(operand));
            }
        }
    }
}
