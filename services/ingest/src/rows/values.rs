//! Rows as typed values, JSON objects or columns of values.

use super::RowSchema;
use super::encoder::{RowEncoder, RowWriter, missing};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use thyme_core::record::encode_row;
use thyme_core::schema::{DataType, Field};
use thyme_core::time::{Micros, TIMES, parse_time};
use thyme_core::{Decimal, Error, Result, Value, suggest};

impl RowEncoder<'_> {
    /// A row by field name. A row that could not even be read is passed as its error. `event_id` goes before the call's.
    pub fn named(&mut self, row: Result<BTreeMap<String, Value>>, event_id: Option<&[u8]>) {
        let schema = self.schema;
        self.row(|writer| write_named(writer, schema, row?.into_iter(), event_id, |value, _| Ok(value)));
    }

    /// A row as a JSON object, each value in the public JSON form of its field's type.
    pub fn json(&mut self, row: &Json, event_id: Option<&[u8]>) {
        let schema = self.schema;
        self.row(|writer| {
            let Json::Object(entries) = row else {
                return Err(Error::invalid("expected an object with the row's fields"));
            };
            let entries = entries.iter();
            write_named(writer, schema, entries, event_id, |json, field| Value::from_json(json, &field.data_type))
        });
    }

    /// Columns of equal length; a value that could not be read is passed as its error. Unknown, repeated and missing columns
    /// fail the call. `event_ids` has one entry per row or none at all.
    pub fn columns(&mut self, columns: Vec<(String, Vec<Result<Value>>)>, event_ids: &[String]) -> Result<()> {
        let schema = self.schema;
        let rows = columns.first().map_or(0, |(_, values)| values.len());
        let mut by_field: Vec<Option<std::vec::IntoIter<Result<Value>>>> = Vec::new();
        by_field.resize_with(schema.fields.len(), || None);
        for (name, values) in columns {
            let column = schema.column(&name).ok_or_else(|| unknown(schema, &name, "column"))?;
            if values.len() != rows {
                let message = format!("column '{name}' has {} rows, the first column {rows}", values.len());
                return Err(Error::invalid(message).field(name));
            }
            if by_field[column].replace(values.into_iter()).is_some() {
                return Err(Error::invalid(format!("column '{name}' is there twice")).field(name));
            }
        }
        check_columns_present(schema, |column| by_field[column].is_some())?;
        check_event_ids(event_ids, rows)?;
        for row in 0..rows {
            let cells: Vec<Option<Result<Value>>> =
                by_field.iter_mut().map(|values| values.as_mut().and_then(Iterator::next)).collect();
            let event_id = event_ids.get(row).map(String::as_bytes);
            self.row(|writer| {
                let mut values = vec![Value::Null; schema.fields.len()];
                for (column, cell) in cells.into_iter().enumerate() {
                    let field = &schema.fields[column];
                    let value = cell.unwrap_or(Ok(Value::Null));
                    values[column] =
                        value.and_then(|value| read_as(value, &field.data_type)).map_err(in_field(field))?;
                }
                write_values(writer, schema, values, event_id)
            });
        }
        Ok(())
    }
}

fn write_named<N: AsRef<str>, T>(
    writer: &mut RowWriter<'_>,
    schema: &RowSchema,
    entries: impl Iterator<Item = (N, T)>,
    event_id: Option<&[u8]>,
    read: impl Fn(T, &Field) -> Result<Value>,
) -> Result<()> {
    let mut values = vec![Value::Null; schema.fields.len()];
    for (name, given) in entries {
        let name = name.as_ref();
        let column = schema.column(name).ok_or_else(|| unknown(schema, name, "field"))?;
        let field = &schema.fields[column];
        let value = read(given, field).and_then(|value| read_as(value, &field.data_type));
        values[column] = value.map_err(in_field(field))?;
    }
    write_values(writer, schema, values, event_id)
}

fn write_values(
    writer: &mut RowWriter<'_>,
    schema: &RowSchema,
    values: Vec<Value>,
    event_id: Option<&[u8]>,
) -> Result<()> {
    for (column, value) in values.iter().enumerate() {
        if value.is_null() && !schema.may_be_null(column) {
            return Err(missing(schema, column));
        }
    }
    if let Some(event_id) = event_id {
        writer.give_id(event_id)?;
    }
    let Value::Time(event_time) = values[schema.time_column] else { return Err(missing(schema, schema.time_column)) };
    let key: Vec<Value> = schema.key_columns.iter().map(|&column| values[column].clone()).collect();
    writer.head(&key, event_time)?;
    encode_row(&values, writer.buffer);
    Ok(())
}

/// Reads a value as a field's type: an int for a float or Decimal and a text for a datetime or Decimal are accepted, nothing else is
/// converted.
pub(super) fn read_as(value: Value, data_type: &DataType) -> Result<Value> {
    Ok(match (value, data_type) {
        (Value::Str(text), DataType::Decimal) => Value::Decimal(Decimal::parse(&text)?),
        (Value::Float(number), DataType::Decimal) => return Err(decimal_from_float(number)),
        (Value::Str(text), DataType::Time) => Value::Time(check_time(parse_time(&text)?)?),
        (Value::Time(micros), DataType::Time) => Value::Time(check_time(micros)?),
        (Value::List(items), DataType::List(item)) => {
            let read: Result<Vec<Value>> = items.iter().map(|entry| read_as(entry.clone(), item)).collect();
            Value::List(read?.into())
        }
        (Value::Map(entries), DataType::Map(item)) => {
            let mut read = BTreeMap::new();
            for (name, entry) in entries.iter() {
                read.insert(name.clone(), read_as(entry.clone(), item)?);
            }
            Value::Map(read.into())
        }
        (value, data_type) => {
            let value = value.widened(data_type);
            if !value.has_type(data_type) {
                return Err(Error::invalid(format!("expected {data_type}, got {}", describe(&value))));
            }
            value
        }
    })
}

/// A float has lost the digits that were meant.
fn decimal_from_float(number: f64) -> Error {
    Error::invalid(format!("expected Decimal, got the float {}", Value::Float(number).to_json()))
        .hint("send a Decimal or its text; in Python Decimal(str(x)) is the number that is printed")
}

fn describe(value: &Value) -> String {
    match value {
        Value::Str(text) => format!("the text '{text}'"),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => format!("the {} {}", value.type_name(), value.to_json()),
        Value::Decimal(number) => format!("the Decimal {number}"),
        other => format!("a {}", other.type_name()),
    }
}

pub(super) fn check_time(micros: Micros) -> Result<Micros> {
    if TIMES.contains(&micros) {
        return Ok(micros);
    }
    Err(Error::invalid(format!("a datetime out of range: {micros} microseconds since 1970"))
        .hint("years 1 to 9999 are supported"))
}

/// Puts the field's name before the message of an error about its value.
pub(super) fn in_field(field: &Field) -> impl Fn(Error) -> Error + '_ {
    move |error| error.context(format_args!("'{}'", field.name)).field(&*field.name)
}

pub(super) fn unknown(schema: &RowSchema, name: &str, what: &str) -> Error {
    Error::invalid(format!("unknown {what} '{name}' of dataset '{}'", schema.dataset))
        .field(name)
        .hint(suggest::hint(name, schema.field_names()))
}

pub(super) fn check_columns_present(schema: &RowSchema, present: impl Fn(usize) -> bool) -> Result<()> {
    for (column, field) in schema.fields.iter().enumerate() {
        if !present(column) && !schema.may_be_null(column) {
            let message =
                format!("missing column '{}' ({}) of dataset '{}'", field.name, field.data_type, schema.dataset);
            return Err(Error::invalid(message).field(&*field.name));
        }
    }
    Ok(())
}

pub(crate) fn check_event_ids(event_ids: &[String], rows: usize) -> Result<()> {
    if event_ids.is_empty() || event_ids.len() == rows {
        return Ok(());
    }
    let message = format!("{} event_ids for {rows} rows", event_ids.len());
    Err(Error::invalid(message).field("event_ids").hint("give one per row, or none at all"))
}
