//! Columns of values as they travel in batches: one array of one type, the null rows beside it.

use crate::convert::{value_from_wire, value_to_wire};
use crate::v1;
use crate::v1::column::Values;
use thyme_core::schema::DataType;
use thyme_core::{Decimal, Error, Result, Value};

/// A column of `data_type` as it travels. A value that is not of that type travels in an `any` array.
pub fn column_to_wire(name: &str, data_type: &DataType, values: &[Value]) -> v1::Column {
    let typed = match data_type {
        DataType::Bool => pick(values, false, |value| if let Value::Bool(flag) = value { Some(*flag) } else { None })
            .map(|values| Values::Bools(v1::BoolArray { values })),
        DataType::Int => pick(values, 0, |value| if let Value::Int(number) = value { Some(*number) } else { None })
            .map(|values| Values::Ints(v1::Int64Array { values })),
        DataType::Float => {
            pick(values, 0.0, |value| if let Value::Float(number) = value { Some(*number) } else { None })
                .map(|values| Values::Doubles(v1::DoubleArray { values }))
        }
        DataType::Str => {
            pick(
                values,
                String::new(),
                |value| if let Value::Str(text) = value { Some(text.to_string()) } else { None },
            )
            .map(|values| Values::Strings(v1::StringArray { values }))
        }
        DataType::Bytes => pick(values, bytes::Bytes::new(), |value| {
            if let Value::Bytes(bytes) = value { Some(bytes::Bytes::copy_from_slice(bytes)) } else { None }
        })
        .map(|values| Values::Bytes(v1::BytesArray { values })),
        DataType::Time => pick(values, 0, |value| if let Value::Time(micros) = value { Some(*micros) } else { None })
            .map(|micros| Values::Datetimes(v1::DatetimeArray { micros })),
        DataType::Decimal => pick(values, String::new(), |value| {
            if let Value::Decimal(number) = value { Some(number.to_string()) } else { None }
        })
        .map(|values| Values::Decimals(v1::DecimalArray { values })),
        DataType::List(_) | DataType::Map(_) | DataType::Struct(_) => None,
    };
    let (array, null_rows) = match typed {
        Some(array) => {
            let nulls = values.iter().enumerate().filter(|(_, value)| value.is_null());
            (array, nulls.map(|(row, _)| row as u32).collect())
        }
        None => (Values::Any(v1::ListValue { values: values.iter().map(value_to_wire).collect() }), Vec::new()),
    };
    v1::Column { name: name.to_string(), r#type: data_type.to_string(), null_rows, values: Some(array) }
}

/// Nulls become `empty`; `None` if a value is of another type.
fn pick<T: Clone>(values: &[Value], empty: T, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    values.iter().map(|value| if value.is_null() { Some(empty.clone()) } else { read(value) }).collect()
}

/// Reads a column, value by value: a value that is none (NaN) is an error in its own place. A broken column is an error.
pub fn column_from_wire(column: v1::Column) -> Result<Vec<Result<Value>>> {
    let name = column.name;
    let mut values: Vec<Result<Value>> = match column.values {
        None => return Err(Error::invalid(format!("column '{name}' has no array")).field(name)),
        Some(Values::Bools(array)) => array.values.into_iter().map(|flag| Ok(Value::Bool(flag))).collect(),
        Some(Values::Ints(array)) => array.values.into_iter().map(|number| Ok(Value::Int(number))).collect(),
        Some(Values::Doubles(array)) => {
            let read =
                |number: f64| Value::float(number).ok_or_else(|| Error::invalid(format!("{number} is not a value")));
            array.values.into_iter().map(read).collect()
        }
        Some(Values::Strings(array)) => array.values.into_iter().map(|text| Ok(Value::str(text))).collect(),
        Some(Values::Bytes(array)) => {
            array.values.into_iter().map(|bytes| Ok(Value::Bytes(bytes.as_ref().into()))).collect()
        }
        Some(Values::Datetimes(array)) => array.micros.into_iter().map(|micros| Ok(Value::Time(micros))).collect(),
        Some(Values::Decimals(array)) => {
            // At a null row there is no number.
            let read = |text: String| {
                if text.is_empty() { Ok(Value::Null) } else { Decimal::parse(&text).map(Value::Decimal) }
            };
            array.values.into_iter().map(read).collect()
        }
        Some(Values::Any(array)) => array.values.into_iter().map(value_from_wire).collect(),
    };
    for row in column.null_rows {
        match values.get_mut(row as usize) {
            Some(value) => *value = Ok(Value::Null),
            None => {
                let message = format!("column '{name}' names null row {row}, but has {} rows", values.len());
                return Err(Error::invalid(message).field(name));
            }
        }
    }
    Ok(values)
}

/// Reads a column in which every value must be one.
pub fn whole_column_from_wire(column: v1::Column) -> Result<Vec<Value>> {
    let name = column.name.clone();
    let values: Result<Vec<Value>> = column_from_wire(column)?.into_iter().collect();
    values.map_err(|error| error.context(format_args!("column '{name}'")).field(name))
}
