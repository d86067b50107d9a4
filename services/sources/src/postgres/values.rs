//! The texts of a row as values.

use super::table::{Form, Table};
use crate::coerce;
use serde_json::Value as Json;
use thyme_core::schema::Field;
use thyme_core::{Error, Result, Value};

/// The texts of a row; `None` is NULL.
pub struct PageRow {
    pub columns: Vec<Option<String>>,
    /// Cursor and primary key.
    pub keys: Vec<String>,
}

impl PageRow {
    /// For people: `ts=2024-01-15 12:00:00, id=7`.
    pub fn key_text(&self, table: &Table) -> String {
        let name = |name: &str| name.strip_prefix("t.").unwrap_or(name).to_string();
        let parts = table.keys.iter().zip(&self.keys).map(|(key, text)| format!("{}={text}", name(&key.name)));
        parts.collect::<Vec<String>>().join(", ")
    }

    /// Key and columns without ambiguity.
    pub fn content(&self) -> String {
        format!("{:?}{:?}", self.keys, self.columns)
    }

    /// For people: the columns that are fields.
    pub fn shown(&self, fields: &[Field]) -> String {
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "NULL".to_string());
        let parts = fields.iter().zip(&self.columns).map(|(field, text)| format!("{}={}", field.name, shown(text)));
        parts.collect::<Vec<String>>().join(", ")
    }
}

pub fn of_row(row: &PageRow, table: &Table, fields: &[Field]) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(fields.len());
    for ((text, column), field) in row.columns.iter().zip(&table.columns).zip(fields) {
        let value = read(text.as_deref(), column.form, field)?;
        values.push(coerce::checked(value, field)?);
    }
    Ok(values)
}

/// What can be read, null where nothing can.
pub fn readable(row: &PageRow, table: &Table, fields: &[Field]) -> Vec<Value> {
    let cells = row.columns.iter().zip(&table.columns).zip(fields);
    cells.map(|((text, column), field)| read(text.as_deref(), column.form, field).unwrap_or(Value::Null)).collect()
}

fn read(text: Option<&str>, form: Form, field: &Field) -> Result<Value> {
    let Some(text) = text else { return Ok(Value::Null) };
    let value = match form {
        Form::Plain => Value::from_text(text, &field.data_type),
        Form::Whole => Value::from_text(without_zeros(text), &field.data_type),
        Form::Hex => hex(text).map(|bytes| Value::Bytes(bytes.into())),
        Form::Json => serde_json::from_str::<Json>(text)
            .map_err(|error| Error::invalid(format!("not valid JSON: {error}")))
            .and_then(|json| match json {
                Json::Null => Ok(Value::Null),
                json => Value::from_json(&json, &field.data_type),
            }),
    };
    value.map_err(|error| coerce::of_field(field, error))
}

/// A numeric that is whole, as digits: `12.00` is 12.
fn without_zeros(text: &str) -> &str {
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
        _ => text,
    }
}

fn hex(text: &str) -> Result<Vec<u8>> {
    let wrong = || Error::internal("PostgreSQL wrote bytes that are not hexadecimal");
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(wrong);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?)).collect()
}
