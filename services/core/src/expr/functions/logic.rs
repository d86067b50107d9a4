//! `and`, `or`, `not`, three-valued; `is_null`, `fill_null`.

use super::{Typed, all_of, arity, common, times_from_text, unary};
use crate::error::{Error, Result};
use crate::expr::Op;
use crate::expr::eval::Bound;
use crate::schema::DataType;
use crate::value::Value;

pub(in crate::expr) fn resolve(op: Op, mut args: Vec<Typed>) -> Result<Typed> {
    match op {
        Op::And | Op::Or => {
            arity(op, &args, 1..=usize::MAX)?;
            all_of(op, &args, &DataType::Bool, "bools")?;
            let nullable = args.iter().any(|arg| arg.nullable);
            let nodes = args.into_iter().map(|arg| arg.node).collect();
            let node = if op == Op::And { Bound::And(nodes) } else { Bound::Or(nodes) };
            Ok(Typed { node, data_type: Some(DataType::Bool), nullable })
        }
        Op::Not => {
            arity(op, &args, 1..=1)?;
            all_of(op, &args, &DataType::Bool, "a bool")?;
            Ok(unary(args, DataType::Bool, false, |value, _| Value::Bool(*value == Value::Bool(false))))
        }
        Op::IsNull => {
            arity(op, &args, 1..=1)?;
            let inner = args.into_iter().next().map_or(Bound::Literal(Value::Null), |arg| arg.node);
            Ok(Typed { node: Bound::IsNull(Box::new(inner)), data_type: Some(DataType::Bool), nullable: false })
        }
        Op::FillNull => {
            arity(op, &args, 2..=usize::MAX)?;
            times_from_text(&mut args)?;
            let nullable = args.iter().all(|arg| arg.nullable);
            let (nodes, data_type, _) = common("'fill_null' arguments", args)?;
            Ok(Typed { node: Bound::Coalesce(nodes), data_type, nullable })
        }
        _ => Err(Error::internal("'is_in' is bound with its list")),
    }
}
