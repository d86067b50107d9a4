//! The form of a program, as `compiler.py` writes it.

use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
pub(crate) struct Program {
    /// How many local names it has.
    pub locals: usize,
    pub body: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
pub(crate) enum Statement {
    Assign(usize, Expr),
    If(Expr, Vec<Statement>, Vec<Statement>),
    /// The outputs in declared order.
    Return(Vec<Expr>),
}

#[derive(Debug, Deserialize)]
pub(crate) enum Expr {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    Input(usize),
    Local(usize),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Not(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// A chain: `a < b < c`.
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    IsNone(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// Test, value, other value.
    IfElse(Box<Expr>, Box<Expr>, Box<Expr>),
    Call(Builtin, Vec<Expr>),
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) enum Operator {
    Add,
    Sub,
    Mult,
    Div,
    FloorDiv,
    Mod,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) enum Comparison {
    Eq,
    NotEq,
    Lt,
    LtE,
    Gt,
    GtE,
    In,
    NotIn,
}

/// Functions, and methods of str with their receiver as first argument.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) enum Builtin {
    Min,
    Max,
    Abs,
    Round,
    Int,
    Float,
    Bool,
    Len,
    Lower,
    Upper,
    Strip,
    StartsWith,
    EndsWith,
}
