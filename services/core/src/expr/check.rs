//! Types of expressions.

use super::{ColumnType, Columns, Expr, Scope, bind};
use crate::error::Result;

/// The type of `expr` over `columns`. Errors name the column with the nearest valid one, or the operator and the types it takes.
pub fn check(expr: &Expr, columns: &Columns) -> Result<ColumnType> {
    let mut scope = Scope::default();
    for (index, (name, column_type)) in columns.iter().enumerate() {
        scope.add_row_column(name, index, column_type.clone());
    }
    bind(expr, &scope).map(|(_, column_type)| column_type)
}
