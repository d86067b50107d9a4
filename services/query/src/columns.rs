//! Between values and Arrow columns. Int is Int64, float Float64, str Utf8, bytes Binary, datetime Timestamp(µs, UTC),
//! Decimal Decimal128(38, 18), list[T] List, dict[str, T] Map, the entry of a TopK a Struct.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Decimal256Type, Float64Type, Int64Type, TimestampMicrosecondType, TimestampNanosecondType,
    UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, MapArray,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::cast;
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Fields, TimeUnit};
use std::sync::Arc;
use thyme_core::decimal::{Decimal, PRECISION, SCALE};
use thyme_core::error::{Error, Result};
use thyme_core::schema::{DataType, StructType};
use thyme_core::time::{Micros, parse_time};
use thyme_core::value::Value;

pub(crate) const UTC: &str = "UTC";

/// The Arrow type of a column.
pub fn arrow_type(data_type: &DataType) -> ArrowType {
    match data_type {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int => ArrowType::Int64,
        DataType::Float => ArrowType::Float64,
        DataType::Str => ArrowType::Utf8,
        DataType::Bytes => ArrowType::Binary,
        DataType::Time => ArrowType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        DataType::Decimal => ArrowType::Decimal128(PRECISION, SCALE as i8),
        DataType::List(item) => ArrowType::List(Arc::new(ArrowField::new("item", arrow_type(item), true))),
        DataType::Map(item) => {
            ArrowType::Map(Arc::new(ArrowField::new("entries", ArrowType::Struct(map_fields(item)), false)), false)
        }
        DataType::Struct(fixed) => ArrowType::Struct(struct_fields(fixed)),
    }
}

/// About what a value takes in a column. How long texts and lists are is not known before they are read.
pub(crate) fn column_bytes(data_type: &DataType) -> usize {
    match data_type {
        DataType::Bool => 1,
        DataType::Int | DataType::Float | DataType::Time => 8,
        DataType::Decimal => 16,
        DataType::Str | DataType::Bytes => 32,
        DataType::List(item) | DataType::Map(item) => 16 * column_bytes(item),
        DataType::Struct(fixed) => fixed.fields().iter().map(|(_, field)| column_bytes(field)).sum(),
    }
}

fn map_fields(item: &DataType) -> Fields {
    Fields::from(vec![
        ArrowField::new("keys", ArrowType::Utf8, false),
        ArrowField::new("values", arrow_type(item), true),
    ])
}

fn struct_fields(fixed: &StructType) -> Fields {
    fixed.fields().iter().map(|(name, field)| ArrowField::new(*name, arrow_type(field), true)).collect()
}

/// A column of these values, which must be of the type or null.
pub fn to_array<'a>(values: impl ExactSizeIterator<Item = &'a Value>, data_type: &DataType) -> Result<ArrayRef> {
    let wrong = |value: &Value| Error::internal(format!("a {} in a column of {data_type}", value.type_name()));
    macro_rules! collect {
        ($array:ty, $variant:pat => $inner:expr) => {{
            let mut failed = None;
            let array: $array = values
                .map(|value| match value {
                    Value::Null => None,
                    $variant => Some($inner),
                    other => {
                        failed.get_or_insert_with(|| wrong(other));
                        None
                    }
                })
                .collect();
            if let Some(error) = failed {
                return Err(error);
            }
            array
        }};
    }
    Ok(match data_type {
        DataType::Bool => Arc::new(collect!(BooleanArray, Value::Bool(flag) => *flag)),
        DataType::Int => Arc::new(collect!(Int64Array, Value::Int(number) => *number)),
        DataType::Float => Arc::new(collect!(Float64Array, Value::Float(number) => *number)),
        DataType::Str => Arc::new(collect!(StringArray, Value::Str(text) => text.as_ref())),
        DataType::Bytes => Arc::new(collect!(BinaryArray, Value::Bytes(bytes) => bytes.as_ref())),
        DataType::Time => {
            let array = collect!(TimestampMicrosecondArray, Value::Time(micros) => *micros);
            Arc::new(array.with_timezone(UTC))
        }
        DataType::Decimal => {
            let array = collect!(Decimal128Array, Value::Decimal(number) => number.units());
            Arc::new(array.with_precision_and_scale(PRECISION, SCALE as i8).map_err(broken)?)
        }
        DataType::List(item) => list_array(values, item)?,
        DataType::Map(item) => map_array(values, item)?,
        DataType::Struct(fixed) => struct_array(values, fixed)?,
    })
}

fn list_array<'a>(values: impl ExactSizeIterator<Item = &'a Value>, item: &DataType) -> Result<ArrayRef> {
    let mut lengths = Vec::with_capacity(values.len());
    let mut valid = Vec::with_capacity(values.len());
    let mut items: Vec<&Value> = Vec::new();
    for value in values {
        let entries: &[Value] = match value {
            Value::List(entries) => entries,
            _ => &[],
        };
        valid.push(!value.is_null());
        lengths.push(entries.len());
        items.extend(entries);
    }
    let child = to_array(items.into_iter(), item)?;
    let field = Arc::new(ArrowField::new("item", arrow_type(item), true));
    let nulls = Some(NullBuffer::from(valid));
    let array = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), child, nulls).map_err(broken)?;
    Ok(Arc::new(array))
}

fn map_array<'a>(values: impl ExactSizeIterator<Item = &'a Value>, item: &DataType) -> Result<ArrayRef> {
    let mut lengths = Vec::with_capacity(values.len());
    let mut valid = Vec::with_capacity(values.len());
    let mut names: Vec<&str> = Vec::new();
    let mut items: Vec<&Value> = Vec::new();
    for value in values {
        valid.push(!value.is_null());
        let Value::Map(entries) = value else {
            lengths.push(0);
            continue;
        };
        lengths.push(entries.len());
        for (name, entry) in entries.iter() {
            names.push(name);
            items.push(entry);
        }
    }
    let children: Vec<ArrayRef> = vec![Arc::new(StringArray::from(names)), to_array(items.into_iter(), item)?];
    let entries = StructArray::try_new(map_fields(item), children, None).map_err(broken)?;
    let field = Arc::new(ArrowField::new("entries", ArrowType::Struct(map_fields(item)), false));
    let nulls = Some(NullBuffer::from(valid));
    let array = MapArray::try_new(field, OffsetBuffer::from_lengths(lengths), entries, nulls, false).map_err(broken)?;
    Ok(Arc::new(array))
}

fn struct_array<'a>(values: impl ExactSizeIterator<Item = &'a Value>, fixed: &StructType) -> Result<ArrayRef> {
    let values: Vec<&Value> = values.collect();
    let valid: Vec<bool> = values.iter().map(|value| !value.is_null()).collect();
    let mut children: Vec<ArrayRef> = Vec::new();
    for (name, field) in fixed.fields() {
        let child = values.iter().map(|value| match value {
            Value::Map(entries) => entries.get(name).unwrap_or(&Value::Null),
            _ => &Value::Null,
        });
        children.push(to_array(child.collect::<Vec<_>>().into_iter(), field)?);
    }
    let array = StructArray::try_new(struct_fields(fixed), children, Some(NullBuffer::from(valid))).map_err(broken)?;
    Ok(Arc::new(array))
}

/// The values of a column, read as `data_type`. Any width of integer, decimal or text is read; an integer column stands for floats
/// and Decimals, a text column for Decimals; nothing else is converted. `column` is for messages.
pub fn from_array(array: &ArrayRef, data_type: &DataType, column: &str) -> Result<Vec<Value>> {
    let wrong =
        || Error::invalid(format!("column '{column}' is {}, expected {data_type}", array.data_type())).field(column);
    let plain = unpack(array)?;
    let kind = plain.data_type();
    let is_text = matches!(kind, ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View);
    let is_bytes = matches!(
        kind,
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_)
    );
    if *kind == ArrowType::Null {
        return Ok(vec![Value::Null; plain.len()]);
    }
    Ok(match data_type {
        DataType::Bool if *kind == ArrowType::Boolean => {
            read(plain.as_boolean().iter(), |flag| Some(Value::Bool(flag)))
        }
        DataType::Int if kind.is_integer() => ints(&plain, wrong)?,
        DataType::Decimal if kind.is_decimal() || kind.is_integer() || is_text => {
            let read =
                |number: Option<Result<Decimal>>| number.map_or(Ok(Value::Null), |number| number.map(Value::Decimal));
            let values: Result<Vec<Value>> = decimals(&plain)?.into_iter().map(read).collect();
            values.map_err(|error| error.context(format!("column '{column}'")).field(column))?
        }
        DataType::Float if kind.is_numeric() && !kind.is_decimal() => {
            let cast = cast(&plain, &ArrowType::Float64).map_err(broken)?;
            let numbers = cast.as_primitive::<Float64Type>();
            if numbers.iter().flatten().any(|number| !number.is_finite()) {
                return Err(Error::invalid(format!("column '{column}' holds NaN or an infinity")).field(column));
            }
            read(numbers.iter(), Value::float)
        }
        DataType::Str if is_text => {
            let cast = cast(&plain, &ArrowType::Utf8).map_err(broken)?;
            // Texts that follow each other are often the same: keys of a sorted spine.
            let mut last: Arc<str> = "".into();
            read(cast.as_string::<i32>().iter(), |text| {
                if *last != *text {
                    last = text.into();
                }
                Some(Value::Str(last.clone()))
            })
        }
        DataType::Bytes if is_bytes => {
            let cast = cast(&plain, &ArrowType::Binary).map_err(broken)?;
            read(cast.as_binary::<i32>().iter(), |bytes| Some(Value::Bytes(bytes.into())))
        }
        DataType::Time => {
            times_from_array(&plain, column)?.into_iter().map(|time| time.map_or(Value::Null, Value::Time)).collect()
        }
        DataType::List(item) if matches!(kind, ArrowType::List(_)) => {
            let lists = plain.as_list::<i32>();
            let mut values = Vec::with_capacity(lists.len());
            for list in lists.iter() {
                values.push(match list {
                    Some(list) => Value::List(from_array(&list, item, column)?.into()),
                    None => Value::Null,
                });
            }
            values
        }
        _ => return Err(wrong()),
    })
}

/// Event times of a column: a timestamp of any unit or zone (none is UTC; finer than a microsecond is floored), a date, or
/// ISO-8601 text.
pub fn times_from_array(array: &ArrayRef, column: &str) -> Result<Vec<Option<Micros>>> {
    let plain = unpack(array)?;
    let micros = ArrowType::Timestamp(TimeUnit::Microsecond, None);
    match plain.data_type() {
        ArrowType::Null => Ok(vec![None; plain.len()]),
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => {
            let nanos = plain.as_primitive::<TimestampNanosecondType>();
            Ok(nanos.iter().map(|time| time.map(|nanos| nanos.div_euclid(1000))).collect())
        }
        // The stored numbers are UTC whatever the zone, so the zone is dropped, not converted.
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => {
            Ok(plain.as_primitive::<TimestampMicrosecondType>().iter().collect())
        }
        ArrowType::Timestamp(unit, Some(_)) => {
            let naive = cast(&plain, &ArrowType::Timestamp(*unit, Some(UTC.into()))).map_err(broken)?;
            let cast = cast(&naive, &ArrowType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))).map_err(broken)?;
            Ok(cast.as_primitive::<TimestampMicrosecondType>().iter().collect())
        }
        ArrowType::Timestamp(_, None) | ArrowType::Date32 | ArrowType::Date64 => {
            let cast = cast(&plain, &micros).map_err(broken)?;
            Ok(cast.as_primitive::<TimestampMicrosecondType>().iter().collect())
        }
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => {
            let cast = cast(&plain, &ArrowType::Utf8).map_err(broken)?;
            let texts = cast.as_string::<i32>().iter();
            texts
                .enumerate()
                .map(|(row, text)| {
                    let read = text.map(parse_time).transpose();
                    read.map_err(|error| error.context(format!("column '{column}', row {row}")).field(column))
                })
                .collect()
        }
        other => Err(Error::invalid(format!("column '{column}' is {other}, expected timestamps"))
            .field(column)
            .hint("pass a timestamp column, or ISO-8601 text")),
    }
}

/// Dictionary and run-end encodings are undone.
fn unpack(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        ArrowType::Dictionary(_, inner) => cast(array, inner).map_err(broken),
        ArrowType::RunEndEncoded(_, inner) => cast(array, inner.data_type()).map_err(broken),
        _ => Ok(array.clone()),
    }
}

/// Of decimals of any width, integers, or texts.
fn decimals(array: &ArrayRef) -> Result<Vec<Option<Result<Decimal>>>> {
    Ok(match array.data_type() {
        ArrowType::Decimal128(_, scale) => {
            let numbers = array.as_primitive::<Decimal128Type>().iter();
            numbers.map(|number| number.map(|unscaled| Decimal::from_scaled(unscaled, *scale))).collect()
        }
        // Through their digits.
        ArrowType::Decimal256(..) => {
            let numbers = array.as_primitive::<Decimal256Type>();
            let read = |row| numbers.is_valid(row).then(|| Decimal::parse(&numbers.value_as_string(row)));
            (0..numbers.len()).map(read).collect()
        }
        ArrowType::Decimal32(_, scale) | ArrowType::Decimal64(_, scale) => {
            decimals(&cast(array, &ArrowType::Decimal128(PRECISION, *scale)).map_err(broken)?)?
        }
        kind if kind.is_integer() => decimals(&cast(array, &ArrowType::Decimal128(PRECISION, 0)).map_err(broken)?)?,
        _ => {
            let cast = cast(array, &ArrowType::Utf8).map_err(broken)?;
            cast.as_string::<i32>().iter().map(|text| text.map(Decimal::parse)).collect()
        }
    })
}

fn ints(array: &ArrayRef, wrong: impl Fn() -> Error) -> Result<Vec<Value>> {
    if *array.data_type() == ArrowType::UInt64 {
        let numbers = array.as_primitive::<UInt64Type>().iter();
        return numbers
            .map(|number| match number {
                None => Ok(Value::Null),
                Some(number) => i64::try_from(number).map(Value::Int).map_err(|_| wrong()),
            })
            .collect();
    }
    let cast = cast(array, &ArrowType::Int64).map_err(broken)?;
    Ok(read(cast.as_primitive::<Int64Type>().iter(), |number| Some(Value::Int(number))))
}

fn read<T>(items: impl Iterator<Item = Option<T>>, mut value: impl FnMut(T) -> Option<Value>) -> Vec<Value> {
    items.map(|item| item.and_then(&mut value).unwrap_or_default()).collect()
}

pub(crate) fn broken(error: arrow_schema::ArrowError) -> Error {
    Error::invalid(format!("the Arrow data cannot be read: {error}"))
}
