//! An answer as one Arrow batch.

use crate::answer::Answer;
use crate::cells::status_array;
use crate::columns::{arrow_type, broken, to_array};
use crate::export::standing_metadata;
use arrow_array::ArrayRef;
use arrow_array::RecordBatch;
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema};
use std::sync::Arc;
use thyme_core::error::Result;
use thyme_core::schema::DataType;
use thyme_core::value::Value;

impl Answer {
    /// The keys, the features and, where asked, `<feature>__status`, one row per entity; the schema metadata carries
    /// `thyme.featureset`, `thyme.mode`, `thyme.ts`, `thyme.watermark`, `thyme.position`, `thyme.final`, `thyme.commit_id` and
    /// `thyme.query_run_id`.
    pub fn to_record_batch(&self, statuses: bool) -> Result<RecordBatch> {
        let mut fields = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for (name, values) in &self.keys {
            // A key feature that was also asked for stands once.
            if self.columns.iter().any(|column| column.name == *name) {
                continue;
            }
            let data_type = key_type(values);
            fields.push(ArrowField::new(name.as_ref(), arrow_type(&data_type), true));
            arrays.push(to_array(values.iter(), &data_type)?);
        }
        for column in &self.columns {
            fields.push(ArrowField::new(column.name.as_ref(), arrow_type(&column.data_type), true));
            arrays.push(to_array(column.values.iter().map(|value| &value.value), &column.data_type)?);
        }
        for column in self.columns.iter().filter(|_| statuses) {
            fields.push(ArrowField::new(format!("{}__status", column.name), ArrowType::Utf8, true));
            arrays.push(status_array(&column.values));
        }
        let mut metadata = standing_metadata(&self.featureset, &self.standing);
        metadata.insert("thyme.final".to_string(), self.standing.is_final.to_string());
        metadata.insert("thyme.query_run_id".to_string(), self.run.id.to_string());
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        RecordBatch::try_new(schema, arrays).map_err(broken)
    }
}

/// Keys are typed values; a column of nulls only passes as text.
fn key_type(values: &[Value]) -> DataType {
    values.iter().find_map(Value::scalar_type).unwrap_or(DataType::Str)
}
