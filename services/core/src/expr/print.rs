//! Expressions as people read them: `(seats > 1) & ~is_null(tip)`.

use super::{Expr, Literal, Op};
use crate::time::format_time;
use std::fmt::{Display, Formatter, Result};

impl Display for Literal {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        match self {
            Literal::Null(()) => out.write_str("null"),
            Literal::Bool(flag) => write!(out, "{flag}"),
            Literal::Int(number) => write!(out, "{number}"),
            Literal::Float(number) => write!(out, "{number:?}"),
            Literal::Str(text) | Literal::Bytes(text) => write!(out, "{text:?}"),
            Literal::Datetime(micros) => out.write_str(&format_time(*micros)),
            Literal::Decimal(text) => out.write_str(text),
            Literal::List(items) => {
                out.write_str("[")?;
                separated(out, items)?;
                out.write_str("]")
            }
        }
    }
}

impl Display for Expr {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        match self {
            Expr::Col(name) => out.write_str(name),
            Expr::Lit(literal) => literal.fmt(out),
            Expr::Call { op, args } => match (symbol(*op), args.as_slice()) {
                (Some(symbol), [left, right]) => write!(out, "{} {symbol} {}", Operand(left), Operand(right)),
                (Some(symbol), [only]) => write!(out, "{symbol}{}", Operand(only)),
                _ => {
                    out.write_str(&name(*op))?;
                    out.write_str("(")?;
                    separated(out, args)?;
                    out.write_str(")")
                }
            },
            Expr::When { branches, otherwise } => {
                for (condition, value) in branches {
                    write!(out, "when({condition}).then({value}).")?;
                }
                write!(out, "otherwise({otherwise})")
            }
        }
    }
}

/// In parentheses where it is an operation itself, so that nobody needs to know which binds tighter.
struct Operand<'a>(&'a Expr);

impl Display for Operand<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        match self.0 {
            Expr::Call { op, .. } if symbol(*op).is_some() => write!(out, "({})", self.0),
            other => other.fmt(out),
        }
    }
}

fn separated<T: Display>(out: &mut Formatter<'_>, items: &[T]) -> Result {
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.write_str(", ")?;
        }
        item.fmt(out)?;
    }
    Ok(())
}

/// As it is written in Python.
fn symbol(op: Op) -> Option<&'static str> {
    Some(match op {
        Op::Add => "+",
        Op::Sub | Op::Neg => "-",
        Op::Mul => "*",
        Op::Div => "/",
        Op::Floordiv => "//",
        Op::Mod => "%",
        Op::Pow => "**",
        Op::Eq => "==",
        Op::Ne => "!=",
        Op::Lt => "<",
        Op::Le => "<=",
        Op::Gt => ">",
        Op::Ge => ">=",
        Op::And => "&",
        Op::Or => "|",
        Op::Not => "~",
        _ => return None,
    })
}

/// The name of the definition format.
fn name(op: Op) -> String {
    match serde_json::to_value(op) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{op:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_read_as_they_were_written() {
        let cases = [
            (r#"{"call": {"op": "gt", "args": [{"col": "seats"}, {"lit": {"int": 1}}]}}"#, "seats > 1"),
            (
                r#"{"call": {"op": "and", "args": [{"call": {"op": "ge", "args": [{"col": "a"}, {"lit": {"float": 2.0}}]}},
                   {"call": {"op": "not", "args": [{"call": {"op": "is_null", "args": [{"col": "b"}]}}]}}]}}"#,
                "(a >= 2.0) & (~is_null(b))",
            ),
            (
                r#"{"call": {"op": "is_in", "args": [{"col": "c"}, {"lit": {"list": [{"str": "x\"y"}, {"null": null}]}}]}}"#,
                r#"is_in(c, ["x\"y", null])"#,
            ),
            (
                r#"{"when": {"branches": [[{"col": "flag"}, {"lit": {"datetime": 0}}]], "otherwise": {"lit": {"bool": true}}}}"#,
                "when(flag).then(1970-01-01T00:00:00Z).otherwise(true)",
            ),
            (
                r#"{"call": {"op": "neg", "args": [{"call": {"op": "pow", "args": [{"col": "a"}, {"lit": {"int": 2}}]}}]}}"#,
                "-(a ** 2)",
            ),
        ];
        for (json, text) in cases {
            let expr: Expr = serde_json::from_str(json).unwrap();
            assert_eq!(expr.to_string(), text);
        }
    }
}
