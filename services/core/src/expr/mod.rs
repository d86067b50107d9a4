//! Expressions over the columns of a row, with SQL's three-valued logic. `Expr` is what a commit carries; `check` types it,
//! `eval` computes it.

mod check;
mod compile;
mod eval;
mod functions;
mod print;
mod warnings;

pub use crate::aggregate::{ColumnType, Columns};
pub use check::check;
pub use compile::{Scope, bind};
pub use eval::Bound;
pub(crate) use eval::Column;
pub use warnings::Warnings;

use crate::decimal::Decimal;
use crate::value::Value;
use base64::Engine as _;
use serde::{Deserialize, Serialize};

/// A literal, typed: `{"int": 5}`, `{"float": 0.5}`, `{"str": "x"}`, `{"bool": true}`, `{"null": null}`,
/// `{"datetime": microseconds}`, `{"decimal": "12.5"}`, `{"bytes": base64}`, `{"list": [literals]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Literal {
    Null(()),
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    /// Microseconds since 1970 UTC.
    Datetime(i64),
    /// In decimal notation.
    Decimal(String),
    /// Base64.
    Bytes(String),
    List(Vec<Literal>),
}

impl Literal {
    /// The value; `None` for NaN, infinity, a decimal that is none or has too many digits, or broken base64.
    pub fn value(&self) -> Option<Value> {
        Some(match self {
            Literal::Null(()) => Value::Null,
            Literal::Bool(flag) => Value::Bool(*flag),
            Literal::Int(number) => Value::Int(*number),
            Literal::Float(number) => Value::float(*number)?,
            Literal::Str(text) => Value::str(text.as_str()),
            Literal::Datetime(micros) => Value::Time(*micros),
            Literal::Decimal(text) => Value::Decimal(Decimal::parse(text).ok()?),
            Literal::Bytes(text) => Value::Bytes(base64::engine::general_purpose::STANDARD.decode(text).ok()?.into()),
            Literal::List(items) => {
                let values: Option<Vec<Value>> = items.iter().map(Literal::value).collect();
                Value::List(values?.into())
            }
        })
    }
}

/// An expression as written. JSON: `{"col": "amount"}`, `{"lit": {"int": 5}}`, `{"call": {"op": "gt", "args": […]}}`,
/// `{"when": {"branches": [[condition, value], …], "otherwise": …}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expr {
    Col(String),
    Lit(Literal),
    Call { op: Op, args: Vec<Expr> },
    When { branches: Vec<(Expr, Expr)>, otherwise: Box<Expr> },
}

/// Operators and functions. Arity and types: see `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    // arithmetic: int with int stays int, with Decimal is Decimal (overflow is null), else float; div is float division, floordiv floors
    Add,
    Sub,
    Mul,
    Div,
    Floordiv,
    Mod,
    Neg,
    Abs,
    Round,
    Floor,
    Ceil,
    Sqrt,
    Exp,
    Log,
    Pow,
    Least,
    Greatest,
    // comparison and logic, three-valued
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
    Not,
    IsNull,
    FillNull,
    IsIn,
    // text
    Lower,
    Upper,
    Strip,
    Length,
    Contains,
    StartsWith,
    EndsWith,
    Replace,
    Slice,
    Concat,
    /// `json_extract(text, "$.a.b[0]")` -> str (numbers and booleans as their JSON text, missing or JSON null is null).
    JsonExtract,
    // casts: a failed cast is null
    ToInt,
    ToFloat,
    ToStr,
    ToBool,
    ToDecimal,
    // time, UTC
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    DayOfWeek,
    DayOfYear,
    EpochSeconds,
    EpochMicros,
    /// `truncate(time, "1h")`: floor to a multiple of the length since 1970.
    Truncate,
    /// `time + duration` where the second argument is a literal such as `"1h"`, and minus.
    AddDuration,
    SubDuration,
    /// Microseconds from the second time to the first, int.
    DiffMicros,
}

#[cfg(test)]
mod tests;
