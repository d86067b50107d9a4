//! A Parquet file, read once, row group by row group.

use super::SourceFile;
use super::cursor::{self, ParquetCursor};
use crate::columns::Column;
use crate::saved::Saved as _;
use crate::{Place, Poll, RejectedRow, SourceRow, coerce};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use ::parquet::errors::ParquetError;
use arrow_array::RecordBatch;
use std::fs::File;
use std::os::unix::fs::FileExt;
use thyme_core::record::encode_row;
use thyme_core::schema::Field;
use thyme_core::{Error, ErrorKind, Result, Value, suggest};

/// How much of the file's end is fingerprinted; it holds the sizes and statistics of all row groups.
const FOOTER: u64 = 64 << 10;

pub fn poll(source: &SourceFile, fields: &[Field], saved: Option<&[u8]>, max_rows: usize) -> Result<Poll> {
    let file = source.open()?;
    let (length, footer) = identity(source, &file)?;
    let mut cursor: ParquetCursor =
        saved.map_or_else(|| Ok(ParquetCursor::start(length, footer)), ParquetCursor::decode)?;
    if (cursor.length, cursor.footer) != (length, footer) {
        return Err(source.replaced("a Parquet file does not change"));
    }
    let failed = |error: ParquetError| {
        Error::new(ErrorKind::InvalidArgument, format!("{} is no Parquet file: {error}", source.path.display()))
    };
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
    let sizes: Vec<usize> = builder.metadata().row_groups().iter().map(|group| group.num_rows() as usize).collect();
    let wanted: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    let schema = builder.parquet_schema();
    let roots = schema.root_schema().get_fields();
    let found = (0..roots.len()).filter(|at| wanted.contains(&roots[*at].name()));
    let mask = ProjectionMask::roots(schema, found);
    let mut poll = Poll { rows: vec![], rejected: vec![], cursor: vec![], has_more: false, pending: None };
    check_columns(source, fields, builder.schema())?;
    cursor.settle(&sizes);
    if let Some(size) = sizes.get(cursor.row_group) {
        let count = max_rows.min(size - cursor.row);
        let selection = vec![RowSelector::skip(cursor.row), RowSelector::select(count)];
        let reader = builder
            .with_projection(mask)
            .with_row_groups(vec![cursor.row_group])
            .with_row_selection(RowSelection::from(selection))
            .with_batch_size(count)
            .build()
            .map_err(failed)?;
        let mut number = (sizes[..cursor.row_group].iter().sum::<usize>() + cursor.row) as u64;
        for batch in reader {
            let batch = batch.map_err(|error| failed(error.into()))?;
            take_rows(source, fields, &batch, number, &mut poll)
                .map_err(|error| error.context(source.path.display()))?;
            number += batch.num_rows() as u64;
        }
        cursor.row += count;
        cursor.settle(&sizes);
        poll.has_more = cursor.row_group < sizes.len();
    }
    poll.cursor = cursor.encode()?;
    Ok(poll)
}

fn identity(source: &SourceFile, file: &File) -> Result<(u64, u64)> {
    let length = file.metadata().map_err(|error| source.failed(&error))?.len();
    let read = length.min(FOOTER);
    let mut footer = vec![0; read as usize];
    file.read_exact_at(&mut footer, length - read).map_err(|error| source.failed(&error))?;
    Ok((length, cursor::fingerprint(&footer)))
}

fn check_columns(source: &SourceFile, fields: &[Field], schema: &arrow_schema::SchemaRef) -> Result<()> {
    for field in fields {
        if !field.nullable && schema.index_of(&field.name).is_err() {
            let hint = suggest::hint(&field.name, schema.fields().iter().map(|column| column.name().as_str()));
            let message = format!("{}: the file has no column '{}'", source.path.display(), field.name);
            return Err(Error::invalid(message).field(&field.name).hint(hint));
        }
    }
    Ok(())
}

fn take_rows(source: &SourceFile, fields: &[Field], batch: &RecordBatch, first: u64, poll: &mut Poll) -> Result<()> {
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let array = batch.column_by_name(&field.name);
        let column = array.map(|array| Column::new(array, &field.data_type)).transpose();
        columns.push(column.map_err(|error| coerce::of_field(field, error))?);
    }
    for row in 0..batch.num_rows() {
        let place = first + row as u64;
        match row_values(fields, &columns, row) {
            Ok(values) => {
                let mut content = Vec::new();
                encode_row(&values, &mut content);
                poll.rows.push(SourceRow { values, id: source.id(place, &content) });
            }
            Err(reason) => {
                let sample = sample(fields, &columns, row);
                let id = source.id(place, sample.as_bytes());
                let values = readable(&columns, row);
                poll.rejected.push(RejectedRow { place: Place::Row(place + 1), reason, sample, values, id });
            }
        }
    }
    Ok(())
}

fn row_values(fields: &[Field], columns: &[Option<Column>], row: usize) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(fields.len());
    for (field, column) in fields.iter().zip(columns) {
        let value = match column {
            None => Value::Null,
            Some(column) if field.nullable && column.is_nan(row) => Value::Null,
            Some(column) => column.value(row).map_err(|error| coerce::of_field(field, error))?,
        };
        values.push(coerce::checked(value, field)?);
    }
    Ok(values)
}

fn readable(columns: &[Option<Column>], row: usize) -> Vec<Value> {
    let read = |column: &Option<Column>| column.as_ref().and_then(|column| column.value(row).ok());
    columns.iter().map(|column| read(column).unwrap_or(Value::Null)).collect()
}

fn sample(fields: &[Field], columns: &[Option<Column>], row: usize) -> String {
    let mut text = String::new();
    for (field, column) in fields.iter().zip(columns) {
        let value = column.as_ref().map(|column| column.value(row));
        let shown = match value {
            Some(Ok(value)) => value.to_json().to_string(),
            Some(Err(_)) => "?".to_string(),
            None => continue,
        };
        text.push_str(&format!("{}{}={shown}", if text.is_empty() { "" } else { ", " }, field.name));
    }
    coerce::sample(text.as_bytes())
}
