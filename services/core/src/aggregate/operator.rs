//! What an operator is: what it needs from a table, and how that becomes a value.

use super::AggregateDef;
use super::layout::{PartialKind, ScanItem, WindowData};
use super::partial::Partial;
use super::plan::{ColumnType, Columns, Number, Outcome, OutputRead};
use crate::error::{Error, Result};
use crate::schema::DataType;
use crate::suggest;
use crate::time::Micros;
use crate::value::Value;
use std::fmt;
use std::sync::Arc;

/// Makes the value from what was read. Compiled once, with its parameters.
pub(super) trait Operator: fmt::Debug + Send + Sync {
    /// The value, if it is a number.
    fn number(&self, _inputs: &Inputs<'_>) -> Option<Number> {
        None
    }
    /// What it is where [`Operator::number`] gives none; `None` if the inputs are not those that its [`Needs`] asked for.
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome>;
}

/// One aggregate to be planned, its `of` resolved.
pub(super) struct Request<'a> {
    pub aggregate: &'a AggregateDef,
    of: Option<(&'a str, &'a ColumnType)>,
}

impl<'a> Request<'a> {
    pub fn new(aggregate: &'a AggregateDef, columns: &'a Columns) -> Result<Request<'a>> {
        let of = match &aggregate.of {
            None => None,
            Some(name) => match columns.get(name) {
                Some(column) => Some((name.as_str(), column)),
                None => {
                    return Err(Error::definition(format!("unknown column '{name}'"))
                        .field("of")
                        .hint(suggest::hint(name, columns.keys().map(String::as_str))));
                }
            },
        };
        Ok(Request { aggregate, of })
    }

    pub fn column(&self) -> Option<(&'a str, &'a ColumnType)> {
        self.of
    }

    /// The column, for an operator that cannot go without.
    pub fn required(&self, operator: &str) -> Result<&'a ColumnType> {
        self.of
            .map(|(_, column)| column)
            .ok_or_else(|| Error::definition(format!("{operator} needs of=, the column it aggregates")).field("of"))
    }

    /// The column, for an operator that takes some types only; `takes` names them for the message.
    pub fn required_type(
        &self,
        operator: &str,
        takes: &str,
        accepts: impl Fn(&DataType) -> bool,
    ) -> Result<&'a ColumnType> {
        let column = self.required(operator)?;
        if !accepts(&column.data_type) {
            let name = self.of.map_or("", |(name, _)| name);
            return Err(Error::definition(format!(
                "{operator} takes a column of {takes}, but '{name}' is {}",
                column.data_type
            ))
            .field("of"));
        }
        Ok(column)
    }

    /// A column of int, float or Decimal.
    pub fn required_number(&self, operator: &str) -> Result<&'a ColumnType> {
        self.required_type(operator, "int, float or Decimal", DataType::is_number)
    }
}

/// What an operator asks of its table.
pub(super) struct Needs {
    pub operator: Arc<dyn Operator>,
    /// Partials over `of` and `where=`, in the order in which [`Inputs`] hands them out.
    pub partials: Vec<PartialKind>,
    pub scan: Option<ScanShape>,
    pub result_type: DataType,
    /// Whether a null may come out although the window is not empty.
    pub nullable: bool,
    pub empty: Value,
}

/// A scan of the values of `of`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanShape {
    pub skip_null: bool,
    pub newest_first: bool,
    pub limit: Option<u32>,
}

impl ScanShape {
    /// The newest value that is not null.
    pub const NEWEST: ScanShape = ScanShape { skip_null: true, newest_first: true, limit: Some(1) };
    /// All values of the window that are not null, newest first.
    pub const VALUES: ScanShape = ScanShape { skip_null: true, newest_first: true, limit: None };
}

/// What was read for one output.
pub(super) struct Inputs<'a> {
    data: &'a [WindowData],
    read: &'a OutputRead,
    /// The question's time T.
    pub at: Micros,
}

impl<'a> Inputs<'a> {
    pub fn new(data: &'a [WindowData], read: &'a OutputRead, at: Micros) -> Inputs<'a> {
        Inputs { data, read, at }
    }
    /// The partial that the operator asked for as number `index`.
    #[inline]
    pub fn partial(&self, index: usize) -> Option<&'a Partial> {
        let read = self.read.partials.get(index)?;
        self.data.get(read.window)?.partials.get(usize::from(read.place))
    }
    #[inline]
    pub fn count(&self, index: usize) -> Option<u64> {
        match self.partial(index)? {
            Partial::Count(count) => Some(*count),
            _ => None,
        }
    }
    pub fn items(&self) -> Option<&'a [ScanItem]> {
        Some(self.data.get(self.read.window)?.scans.get(usize::from(self.read.scan?))?)
    }
}

/// The greatest `k` of LastK, FirstK and TopK: an answer stays small.
const MAX_K: u32 = 10_000;

/// Checks the `k` of LastK, FirstK and TopK.
pub(super) fn checked_k(operator: &str, k: u32) -> Result<usize> {
    if k == 0 || k > MAX_K {
        return Err(Error::definition(format!("{operator} takes k from 1 to {MAX_K}, got {k}")).field("k"));
    }
    Ok(k as usize)
}
