//! Rows as Arrow record batches: columns are downcast once, cells are encoded straight into the record.

use super::RowSchema;
use super::column::Column;
use super::encoder::{RowEncoder, RowWriter, missing};
use super::values::{check_columns_present, in_field, unknown};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType as ArrowType;
use thyme_core::record::put_varint;
use thyme_core::schema::DataType;
use thyme_core::{Error, Result, Value};

impl RowEncoder<'_> {
    /// All rows of a batch. Unknown, repeated and missing columns and columns of a wrong type fail the call. The column named
    /// by `event_id_column` holds the caller's event ids (text, bytes or integers); it need not be a field. Or `event_ids` has
    /// one per row.
    pub fn arrow(&mut self, batch: &RecordBatch, event_id_column: Option<&str>, event_ids: &[String]) -> Result<()> {
        let schema = self.schema;
        let columns = open_columns(schema, batch, event_id_column)?;
        let ids = event_id_column.map(|name| open_ids(batch, name)).transpose()?;
        let bytes: usize = batch.columns().iter().map(|column| column.get_buffer_memory_size()).sum();
        self.reserve(batch.num_rows(), bytes.min(batch.num_rows() * 1024) + batch.num_rows() * 64);
        let mut key = Vec::with_capacity(schema.key_columns.len());
        for row in 0..batch.num_rows() {
            self.row(|writer| {
                match (&ids, event_ids.get(row)) {
                    (Some(ids), _) => give_id(writer, ids, row)?,
                    (None, Some(id)) => writer.give_id(id.as_bytes())?,
                    (None, None) => {}
                }
                key.clear();
                write_row(writer, schema, &columns, row, &mut key)
            });
        }
        Ok(())
    }
}

fn open_columns(schema: &RowSchema, batch: &RecordBatch, event_id_column: Option<&str>) -> Result<Vec<Column>> {
    let mut columns: Vec<Option<Column>> = Vec::new();
    columns.resize_with(schema.fields.len(), || None);
    for (given, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let name = given.name().as_str();
        let Some(index) = schema.column(name) else {
            if event_id_column == Some(name) {
                continue;
            }
            return Err(unknown(schema, name, "column"));
        };
        let field = &schema.fields[index];
        let column = Column::open(array, &field.data_type).map_err(|error| {
            error.context(format_args!("column '{name}' of dataset '{}'", schema.dataset)).field(name)
        })?;
        if columns[index].replace(column).is_some() {
            return Err(Error::invalid(format!("column '{name}' is there twice")).field(name));
        }
    }
    check_columns_present(schema, |column| columns[column].is_some())?;
    Ok(columns.into_iter().map(|column| column.unwrap_or_else(Column::absent)).collect())
}

fn write_row(
    writer: &mut RowWriter<'_>,
    schema: &RowSchema,
    columns: &[Column],
    row: usize,
    key: &mut Vec<Value>,
) -> Result<()> {
    for (index, column) in columns.iter().enumerate() {
        if column.is_null(row) && !schema.may_be_null(index) {
            return Err(missing(schema, index));
        }
    }
    for &index in &schema.key_columns {
        key.push(columns[index].value(row).map_err(in_field(&schema.fields[index]))?);
    }
    let time = columns[schema.time_column].time(row).map_err(in_field(&schema.fields[schema.time_column]))?;
    writer.head(key, time)?;
    // From here on byte for byte what `record::encode_row` writes.
    put_varint(writer.buffer, columns.len() as u64);
    let bits_at = writer.buffer.len();
    writer.buffer.resize(bits_at + columns.len().div_ceil(8), 0);
    for (index, column) in columns.iter().enumerate() {
        if column.is_null(row) {
            writer.buffer[bits_at + index / 8] |= 1 << (index % 8);
        } else {
            column.put(row, writer.buffer).map_err(in_field(&schema.fields[index]))?;
        }
    }
    Ok(())
}

/// The column of event ids, as text, bytes or integers.
fn open_ids(batch: &RecordBatch, name: &str) -> Result<Column> {
    let array: &ArrayRef = batch.column_by_name(name).ok_or_else(|| {
        let schema = batch.schema();
        let names = schema.fields().iter().map(|field| field.name().as_str());
        Error::invalid(format!("no column '{name}' for the event ids"))
            .field("event_id_column")
            .hint(thyme_core::suggest::hint(name, names))
    })?;
    let opened = [DataType::Str, DataType::Bytes, DataType::Int]
        .iter()
        .find_map(|data_type| Column::open(array, data_type).ok())
        .filter(|_| !matches!(array.data_type(), ArrowType::Null));
    opened.ok_or_else(|| {
        let message = format!("event ids in column '{name}' are text, bytes or integers, not {}", array.data_type());
        Error::invalid(message).field("event_id_column")
    })
}

fn give_id(writer: &mut RowWriter<'_>, ids: &Column, row: usize) -> Result<()> {
    match ids.value(row)? {
        Value::Str(text) => writer.give_id(text.as_bytes()),
        Value::Bytes(bytes) => writer.give_id(&bytes),
        Value::Int(number) => writer.give_id(number.to_string().as_bytes()),
        _ => Err(Error::invalid("the event id is null").field("event_ids")),
    }
}
