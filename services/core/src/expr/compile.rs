//! Types an expression and binds it to column indices, in one pass: what is checked is what runs.

use super::eval::{Bound, Column};
use super::functions::{self, Typed};
use super::{ColumnType, Expr, Literal, Op};
use crate::error::{Error, Result};
use crate::schema::DataType;
use crate::suggest;
use crate::value::Value;
use std::collections::BTreeMap;

/// The columns an expression may name, and where they stand.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    columns: BTreeMap<String, (Column, ColumnType)>,
}

impl Scope {
    /// A column of the row.
    pub fn add_row_column(&mut self, name: &str, index: usize, column_type: ColumnType) {
        self.columns.insert(name.to_string(), (Column::Row(index), column_type));
    }

    /// A computed column; replaces one of the same name.
    pub fn add_computed(&mut self, name: &str, index: usize, column_type: ColumnType) {
        self.columns.insert(name.to_string(), (Column::Computed(index), column_type));
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }

    pub fn column_type(&self, name: &str) -> Option<&ColumnType> {
        self.columns.get(name).map(|(_, column_type)| column_type)
    }
}

/// The type of `expr`, and its bound form.
pub fn bind(expr: &Expr, scope: &Scope) -> Result<(Bound, ColumnType)> {
    let typed = resolve(expr, scope)?;
    let Some(data_type) = typed.data_type else {
        return Err(Error::definition("an expression that is always null has no type")
            .hint("give it a type with a cast, such as to_int"));
    };
    Ok((typed.node, ColumnType { data_type, nullable: typed.nullable }))
}

fn resolve(expr: &Expr, scope: &Scope) -> Result<Typed> {
    match expr {
        Expr::Col(name) => match scope.columns.get(name) {
            Some((column, column_type)) => Ok(Typed {
                node: match column {
                    Column::Row(index) => Bound::Row(*index),
                    Column::Computed(index) => Bound::Computed(*index),
                },
                data_type: Some(column_type.data_type.clone()),
                nullable: column_type.nullable,
            }),
            None => Err(Error::definition(format!("unknown column '{name}'"))
                .field(name.as_str())
                .hint(suggest::hint(name, scope.names()))),
        },
        Expr::Lit(literal) => literal_typed(literal),
        Expr::Call { op: Op::IsIn, args } => is_in(args, scope),
        Expr::Call { op, args } => {
            let args: Result<Vec<Typed>> = args.iter().map(|arg| resolve(arg, scope)).collect();
            functions::resolve(*op, args?)
        }
        Expr::When { branches, otherwise } => when(branches, otherwise, scope),
    }
}

fn literal_typed(literal: &Literal) -> Result<Typed> {
    let Some(value) = literal.value() else {
        return Err(Error::definition(format!("not a value: {literal:?}"))
            .hint("NaN and the infinities are not values, a Decimal has 20 digits before and 18 after the point, bytes are base64"));
    };
    let data_type = match literal {
        Literal::List(items) => {
            let items: Result<Vec<Typed>> = items.iter().map(literal_typed).collect();
            let item_type = functions::unify("a list literal", &items?)?;
            item_type.map(|item| DataType::List(Box::new(item)))
        }
        _ => value.scalar_type(),
    };
    let value = match (&data_type, value) {
        (Some(DataType::List(item)), Value::List(values)) => {
            Value::List(values.iter().map(|value| value.clone().widened(item)).collect())
        }
        (_, value) => value,
    };
    Ok(Typed { nullable: value.is_null(), node: Bound::Literal(value), data_type })
}

/// `is_in(x, [a, b])` or `is_in(x, a, b)`.
fn is_in(args: &[Expr], scope: &Scope) -> Result<Typed> {
    let [needle, items @ ..] = args else {
        return Err(Error::definition("'is_in' takes a value and a list, got no arguments"));
    };
    let mut terms = vec![resolve(needle, scope)?];
    match items {
        [Expr::Lit(Literal::List(items))] => {
            for item in items {
                terms.push(literal_typed(item)?);
            }
        }
        _ => {
            for item in items {
                terms.push(resolve(item, scope)?);
            }
        }
    }
    functions::times_from_text(&mut terms)?;
    functions::unify("'is_in'", &terms)?;
    let nullable = terms.iter().any(|term| term.nullable);
    let mut nodes = terms.into_iter().map(|term| term.node);
    let needle = nodes.next().unwrap_or(Bound::Literal(Value::Null));
    Ok(Typed { node: Bound::IsIn(Box::new(needle), nodes.collect()), data_type: Some(DataType::Bool), nullable })
}

fn when(branches: &[(Expr, Expr)], otherwise: &Expr, scope: &Scope) -> Result<Typed> {
    if branches.is_empty() {
        return Err(
            Error::definition("'when' without a branch").hint("write when(condition).then(value).otherwise(value)")
        );
    }
    let mut conditions = Vec::with_capacity(branches.len());
    let mut values = Vec::with_capacity(branches.len() + 1);
    for (condition, value) in branches {
        let condition = resolve(condition, scope)?;
        if condition.data_type.as_ref().is_some_and(|found| *found != DataType::Bool) {
            return Err(Error::definition(format!("'when' takes a bool condition, got {}", condition.type_name())));
        }
        conditions.push(condition.node);
        values.push(resolve(value, scope)?);
    }
    values.push(resolve(otherwise, scope)?);
    functions::times_from_text(&mut values)?;
    let (mut nodes, data_type, nullable) = functions::common("the branches of 'when'", values)?;
    let otherwise = nodes.pop().unwrap_or(Bound::Literal(Value::Null));
    Ok(Typed {
        node: Bound::When(conditions.into_iter().zip(nodes).collect(), Box::new(otherwise)),
        data_type,
        nullable,
    })
}
