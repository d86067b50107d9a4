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

pub use encoder::{EncodedRows, Ids, RejectedRow, RowEncoder};

use thyme_core::definition::CompiledDataset;
use thyme_core::schema::Field;

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
}
