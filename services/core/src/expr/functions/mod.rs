//! Operators and functions by family. Each family types its operators (`resolve`) and evaluates them.

pub(super) mod cast;
pub(super) mod compare;
pub(super) mod decimal;
pub(super) mod json;
pub(super) mod logic;
pub(super) mod number;
pub(super) mod text;
pub(super) mod time;

use super::Op;
use super::eval::{Binary, Bound, Unary, Variadic};
use crate::error::{Error, Result};
use crate::schema::DataType;
use crate::time::parse_time;
use crate::value::Value;

/// A bound expression with its type.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub node: Bound,
    /// `None`: a null or an empty list literal, which fits any (list) type.
    pub data_type: Option<DataType>,
    pub nullable: bool,
}

impl Typed {
    pub fn type_name(&self) -> String {
        match (&self.data_type, &self.node) {
            (Some(data_type), _) => data_type.to_string(),
            (None, Bound::Literal(Value::List(_))) => "an empty list".to_string(),
            (None, _) => "null".to_string(),
        }
    }

    /// Whether it may stand where `data_type` is wanted.
    pub fn fits(&self, data_type: &DataType) -> bool {
        match (&self.data_type, &self.node) {
            (Some(found), _) => found == data_type,
            (None, Bound::Literal(value)) => value.has_type(data_type),
            (None, _) => true,
        }
    }

    pub fn is_number(&self) -> bool {
        self.data_type.as_ref().is_none_or(DataType::is_number)
    }

    pub fn literal(&self) -> Option<&Value> {
        match &self.node {
            Bound::Literal(value) => Some(value),
            _ => None,
        }
    }
}

/// Types and binds one call.
pub(super) fn resolve(op: Op, args: Vec<Typed>) -> Result<Typed> {
    use Op::*;
    match op {
        Add | Sub | Mul | Div | Floordiv | Mod | Neg | Abs | Round | Floor | Ceil | Sqrt | Exp | Log | Pow => {
            number::resolve(op, args)
        }
        Eq | Ne | Lt | Le | Gt | Ge | Least | Greatest => compare::resolve(op, args),
        And | Or | Not | IsNull | FillNull | IsIn => logic::resolve(op, args),
        Lower | Upper | Strip | Length | Contains | StartsWith | EndsWith | Replace | Slice | Concat => {
            text::resolve(op, args)
        }
        JsonExtract => json::resolve(args),
        ToInt | ToFloat | ToStr | ToBool | ToDecimal => cast::resolve(op, args),
        Year | Month | Day | Hour | Minute | Second | DayOfWeek | DayOfYear | EpochSeconds | EpochMicros | Truncate
        | AddDuration | SubDuration | DiffMicros => time::resolve(op, args),
    }
}

/// The name users write: `floordiv`.
pub(super) fn name(op: Op) -> String {
    match serde_json::to_value(op) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{op:?}").to_lowercase(),
    }
}

/// Refuses another number of arguments.
pub(super) fn arity(op: Op, args: &[Typed], allowed: std::ops::RangeInclusive<usize>) -> Result<()> {
    if allowed.contains(&args.len()) {
        return Ok(());
    }
    let (low, high) = (*allowed.start(), *allowed.end());
    let wanted = match (low, high) {
        (1, 1) => "1 argument".to_string(),
        (_, usize::MAX) => format!("{low} or more arguments"),
        _ if low == high => format!("{low} arguments"),
        _ => format!("{low} to {high} arguments"),
    };
    Err(Error::definition(format!("'{}' takes {wanted}, got {}", name(op), args.len())))
}

/// `'lower' takes str, got int`.
pub(super) fn wrong_types(op: Op, takes: &str, args: &[Typed]) -> Error {
    let got: Vec<String> = args.iter().map(Typed::type_name).collect();
    Error::definition(format!("'{}' takes {takes}, got {}", name(op), got.join(" and ")))
}

/// Refuses arguments that are not of `wanted`.
pub(super) fn all_of(op: Op, args: &[Typed], wanted: &DataType, takes: &str) -> Result<()> {
    if args.iter().all(|arg| arg.fits(wanted)) { Ok(()) } else { Err(wrong_types(op, takes, args)) }
}

/// The type all terms share (int and float share float, int and Decimal Decimal), `None` if all are untyped literals.
pub(super) fn unify(what: &str, terms: &[Typed]) -> Result<Option<DataType>> {
    let mut common: Option<DataType> = None;
    for term in terms {
        let Some(found) = &term.data_type else { continue };
        common = Some(match common {
            None => found.clone(),
            Some(known) if known == *found => known,
            Some(known) => shared_number(&known, found).ok_or_else(|| {
                let error = Error::definition(format!("{what} must be of one type, got {known} and {found}"));
                if known.is_number() && found.is_number() { error.hint(DECIMAL_WITH_FLOAT) } else { error }
            })?,
        });
    }
    if let Some(common) = &common
        && let Some(misfit) = terms.iter().find(|term| term.data_type.is_none() && !term.fits(common))
    {
        return Err(Error::definition(format!("{what} must be of one type, got {common} and {}", misfit.type_name())));
    }
    Ok(common)
}

/// What to do where exact meets inexact.
pub(super) const DECIMAL_WITH_FLOAT: &str =
    "say which is meant: to_float of the Decimal, or a Decimal(\"0.8\") instead of a float literal";

/// The type that two different types of number share.
fn shared_number(one: &DataType, other: &DataType) -> Option<DataType> {
    match (one, other) {
        (DataType::Int, DataType::Float) | (DataType::Float, DataType::Int) => Some(DataType::Float),
        (DataType::Int, DataType::Decimal) | (DataType::Decimal, DataType::Int) => Some(DataType::Decimal),
        _ => None,
    }
}

/// The terms brought to the type they share.
pub(super) fn common(what: &str, terms: Vec<Typed>) -> Result<(Vec<Bound>, Option<DataType>, bool)> {
    let data_type = unify(what, &terms)?;
    let nullable = terms.iter().any(|term| term.nullable);
    let widen: Option<Unary> = match &data_type {
        Some(DataType::Float) => Some(|value, _| value.clone().widened(&DataType::Float)),
        Some(DataType::Decimal) => Some(|value, _| value.clone().widened(&DataType::Decimal)),
        _ => None,
    };
    let nodes = terms
        .into_iter()
        .map(|term| match (&term.data_type, term.node, widen, &data_type) {
            (Some(DataType::Int), Bound::Literal(value), _, Some(shared)) => Bound::Literal(value.widened(shared)),
            (Some(DataType::Int), node, Some(widen), _) => Bound::Unary(widen, Box::new(node)),
            (_, node, _, _) => node,
        })
        .collect();
    Ok((nodes, data_type, nullable))
}

/// Where a datetime meets text literals, these are read as times.
pub(super) fn times_from_text(terms: &mut [Typed]) -> Result<()> {
    if !terms.iter().any(|term| term.data_type == Some(DataType::Time)) {
        return Ok(());
    }
    for term in terms {
        if let Bound::Literal(Value::Str(text)) = &term.node {
            let micros = parse_time(text).map_err(|error| {
                let hint = error.hint_text().unwrap_or_default().to_string();
                Error::definition(error.message()).hint(hint)
            })?;
            *term =
                Typed { node: Bound::Literal(Value::Time(micros)), data_type: Some(DataType::Time), nullable: false };
        }
    }
    Ok(())
}

/// A function of one argument.
pub(super) fn unary(args: Vec<Typed>, data_type: DataType, can_fail: bool, function: Unary) -> Typed {
    let nullable = can_fail || args.iter().any(|arg| arg.nullable);
    let inner = args.into_iter().next().map_or(Bound::Literal(Value::Null), |arg| arg.node);
    Typed { node: Bound::Unary(function, Box::new(inner)), data_type: Some(data_type), nullable }
}

/// A function of two arguments.
pub(super) fn binary(args: Vec<Typed>, data_type: DataType, can_fail: bool, function: Binary) -> Typed {
    let nullable = can_fail || args.iter().any(|arg| arg.nullable);
    let mut nodes = args.into_iter().map(|arg| arg.node);
    let mut next = || nodes.next().unwrap_or(Bound::Literal(Value::Null));
    Typed { node: Bound::Binary(function, Box::new((next(), next()))), data_type: Some(data_type), nullable }
}

/// A function of any number of arguments.
pub(super) fn variadic(args: Vec<Typed>, data_type: DataType, can_fail: bool, function: Variadic) -> Typed {
    let nullable = can_fail || args.iter().any(|arg| arg.nullable);
    let nodes = args.into_iter().map(|arg| arg.node).collect();
    Typed { node: Bound::Variadic(function, nodes), data_type: Some(data_type), nullable }
}
