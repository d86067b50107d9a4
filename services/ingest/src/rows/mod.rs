//! Rows in, validated log records out: typed values, JSON objects, columns or Arrow batches of one dataset.
//!
//! Rows are judged one by one: a bad one is rejected with its index and the reason, the good ones of a batch are kept. All
//! forms give the same bytes for the same row; the Arrow form does so without making a value per cell.

mod arrow;
mod column;
mod encoder;
#[cfg(test)]
mod tests;
mod values;

pub use encoder::{EncodedRows, Ids, RejectedRow, RowEncoder, Unreadable};
pub(crate) use values::check_event_ids;

use thyme_core::definition::CompiledDataset;
use thyme_core::schema::Field;
use thyme_core::{Error, Result, Value, suggest};

/// What the rows of a dataset must look like.
#[derive(Debug, Clone)]
pub struct RowSchema {
    pub dataset: String,
    /// In stored order.
    pub fields: Vec<Field>,
    /// Columns of the key, in key order.
    pub key_columns: Vec<usize>,
    pub time_column: usize,
    pub partitions: u16,
}

impl From<&CompiledDataset> for RowSchema {
    fn from(dataset: &CompiledDataset) -> Self {
        RowSchema {
            dataset: dataset.name.clone(),
            fields: dataset.fields.clone(),
            key_columns: dataset.key_columns.clone(),
            time_column: dataset.time_column,
            partitions: dataset.partitions,
        }
    }
}

impl RowSchema {
    fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    fn is_key(&self, column: usize) -> bool {
        self.key_columns.contains(&column)
    }

    /// Whether a row may lack this column.
    fn may_be_null(&self, column: usize) -> bool {
        self.fields[column].nullable && !self.is_key(column) && column != self.time_column
    }
    /// The key field of that name.
    pub(crate) fn key_column(&self, name: &str) -> Result<usize> {
        let found = self.column(name).filter(|column| self.is_key(*column));
        found.ok_or_else(|| {
            let names = self.key_columns.iter().map(|&column| self.fields[column].name.as_str());
            Error::invalid(format!("'{name}' is no key field of dataset '{}'", self.dataset))
                .field(name)
                .hint(suggest::hint(name, names))
        })
    }

    /// Reads a component of a key; it may not be missing or null.
    pub(crate) fn key_component(&self, column: usize, given: Option<Value>) -> Result<Value> {
        let field = &self.fields[column];
        match given {
            None | Some(Value::Null) => Err(encoder::missing(self, column)),
            Some(value) => values::read_as(value, &field.data_type).map_err(values::in_field(field)),
        }
    }
}
