//! Arrow columns as values. Types are checked once per column, exactly: a float column never fills an int field.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_cast::cast;
use arrow_schema::{DataType as ArrowType, TimeUnit};
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::decimal::PRECISION;
use thyme_core::schema::DataType;
use thyme_core::time::parse_time;
use thyme_core::{Decimal, Error, Result, Value};

/// A column whose values can be read as one type.
pub struct Column {
    array: ArrayRef,
    data_type: DataType,
    /// Of a list or map.
    items: Option<Box<Column>>,
}

impl Column {
    pub fn new(array: &ArrayRef, data_type: &DataType) -> Result<Column> {
        use ArrowType::*;
        let found = array.data_type();
        let as_type = |wanted: &ArrowType| {
            cast(array, wanted).map_err(|error| Error::invalid(format!("expected {data_type}, got {found}: {error}")))
        };
        let plain = |array: ArrayRef| Ok(Column { array, data_type: data_type.clone(), items: None });
        match (data_type, found) {
            (_, Null) => plain(array.clone()),
            (DataType::Bool, Boolean)
            | (DataType::Int, Int64 | UInt64)
            | (DataType::Time, Timestamp(..) | Date32 | Date64) => plain(array.clone()),
            (DataType::Int, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32) => plain(as_type(&Int64)?),
            (DataType::Float, Float16 | Float32 | Float64) => plain(as_type(&Float64)?),
            (DataType::Float, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64) => {
                plain(as_type(&Float64)?)
            }
            (DataType::Decimal, Decimal128(..) | Decimal256(..)) => plain(array.clone()),
            (DataType::Decimal, Decimal32(_, scale) | Decimal64(_, scale)) => {
                plain(as_type(&Decimal128(PRECISION, *scale))?)
            }
            (DataType::Decimal, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64) => {
                plain(as_type(&Decimal128(PRECISION, 0))?)
            }
            (DataType::Str | DataType::Time | DataType::Decimal, Utf8 | LargeUtf8 | Utf8View) => plain(as_type(&Utf8)?),
            (DataType::Bytes, Binary | LargeBinary | BinaryView | FixedSizeBinary(_)) => plain(as_type(&Binary)?),
            (_, Dictionary(_, value_type)) => Column::new(&as_type(value_type)?, data_type),
            (DataType::List(item), List(inner) | LargeList(inner) | FixedSizeList(inner, _)) => {
                let list = as_type(&List(inner.clone()))?;
                let items = Column::new(list.as_list::<i32>().values(), item)?;
                Ok(Column { array: list, data_type: data_type.clone(), items: Some(Box::new(items)) })
            }
            (DataType::Map(item), Map(..)) => {
                let map = array.as_map();
                if !matches!(map.keys().data_type(), Utf8) {
                    return Err(wrong_type(data_type, found));
                }
                let items = Column::new(map.values(), item)?;
                Ok(Column { array: array.clone(), data_type: data_type.clone(), items: Some(Box::new(items)) })
            }
            _ => Err(wrong_type(data_type, found)),
        }
    }

    pub fn value(&self, row: usize) -> Result<Value> {
        let array = &self.array;
        if array.is_null(row) || array.data_type() == &ArrowType::Null {
            return Ok(Value::Null);
        }
        Ok(match &self.data_type {
            DataType::Bool => Value::Bool(array.as_boolean().value(row)),
            DataType::Int => match array.as_primitive_opt::<Int64Type>() {
                Some(numbers) => Value::Int(numbers.value(row)),
                None => {
                    let number = array.as_primitive::<UInt64Type>().value(row);
                    Value::Int(
                        i64::try_from(number).map_err(|_| Error::invalid(format!("expected int, got {number}")))?,
                    )
                }
            },
            DataType::Float => {
                let number = array.as_primitive::<Float64Type>().value(row);
                Value::float(number).ok_or_else(|| Error::invalid(format!("expected float, got {number}")))?
            }
            DataType::Str => Value::str(array.as_string::<i32>().value(row)),
            DataType::Bytes => Value::Bytes(array.as_binary::<i32>().value(row).into()),
            DataType::Time => match array.as_string_opt::<i32>() {
                Some(texts) => Value::Time(parse_time(texts.value(row))?),
                None => Value::Time(micros(array, row)?),
            },
            DataType::Decimal => Value::Decimal(decimal(array, row)?),
            DataType::List(_) => {
                let offsets = array.as_list::<i32>().value_offsets();
                let values: Result<Vec<Value>> = self.items_of(offsets, row).collect();
                Value::List(values?.into())
            }
            DataType::Map(_) => {
                let map = array.as_map();
                let keys = map.keys().as_string::<i32>();
                let first = map.value_offsets()[row] as usize;
                let mut entries = BTreeMap::new();
                for (index, value) in self.items_of(map.value_offsets(), row).enumerate() {
                    entries.insert(Arc::from(keys.value(first + index)), value?);
                }
                Value::Map(Arc::new(entries))
            }
            DataType::Struct(_) => return Err(wrong_type(&self.data_type, array.data_type())),
        })
    }

    /// Whether the cell holds a NaN: what data frames write where a number is missing.
    pub fn is_nan(&self, row: usize) -> bool {
        let floats = self.array.as_primitive_opt::<Float64Type>();
        floats.is_some_and(|floats| floats.is_valid(row) && floats.value(row).is_nan())
    }

    fn items_of<'a>(&'a self, offsets: &[i32], row: usize) -> impl Iterator<Item = Result<Value>> + use<'a> {
        let range = offsets[row] as usize..offsets[row + 1] as usize;
        let items = self.items.as_deref();
        range.map(move |at| items.map_or(Ok(Value::Null), |items| items.value(at)))
    }
}

fn wrong_type(data_type: &DataType, found: &ArrowType) -> Error {
    Error::invalid(format!("expected {data_type}, the column is {found}"))
}

fn decimal(array: &ArrayRef, row: usize) -> Result<Decimal> {
    match array.data_type() {
        ArrowType::Decimal128(_, scale) => {
            Decimal::from_scaled(array.as_primitive::<Decimal128Type>().value(row), *scale)
        }
        ArrowType::Decimal256(..) => Decimal::parse(&array.as_primitive::<Decimal256Type>().value_as_string(row)),
        _ => Decimal::parse(array.as_string::<i32>().value(row)),
    }
}

/// Microseconds; finer times are floored.
fn micros(array: &ArrayRef, row: usize) -> Result<i64> {
    const DAY: i64 = 86_400_000_000;
    let exact = match array.data_type() {
        ArrowType::Timestamp(TimeUnit::Second, _) => {
            array.as_primitive::<TimestampSecondType>().value(row).checked_mul(1_000_000)
        }
        ArrowType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().value(row).checked_mul(1000)
        }
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => {
            Some(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => {
            Some(array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1000))
        }
        ArrowType::Date32 => i64::from(array.as_primitive::<Date32Type>().value(row)).checked_mul(DAY),
        _ => array.as_primitive::<Date64Type>().value(row).checked_mul(1000),
    };
    exact.ok_or_else(|| Error::invalid("a time is out of range"))
}
