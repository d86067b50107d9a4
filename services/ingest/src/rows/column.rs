//! One Arrow column read as a field's type: downcast once, then cell by cell straight to the stored bytes.

use super::values::check_time;
use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, Float64Array, Int64Array, MapArray,
    StringArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::cast;
use arrow_schema::{DataType as ArrowType, Field as ArrowField, TimeUnit};
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::decimal::PRECISION;
use thyme_core::record::{put_value, put_varint, zigzag};
use thyme_core::schema::DataType;
use thyme_core::time::parse_time;
use thyme_core::{Decimal, Error, Result, Value};

/// A column of the declared type.
pub(super) struct Column {
    /// As the caller sent them: a cell that is null only in `cells` was out of range.
    nulls: Option<NullBuffer>,
    cells: Cells,
}

enum Cells {
    /// Every cell is null.
    Nothing,
    Bool(BooleanArray),
    Int(Int64Array),
    Float(Float64Array),
    Str(StringArray),
    Bytes(BinaryArray),
    /// Microseconds.
    Time(Int64Array),
    TimeText(StringArray),
    Decimal(Decimal128Array),
    WideDecimal(Decimal256Array),
    DecimalText(StringArray),
    List(OffsetBuffer<i32>, Box<Column>),
    Map(OffsetBuffer<i32>, StringArray, Box<Column>),
    /// A dict whose keys are the struct's fields; null fields are left out.
    Struct(Vec<(Arc<str>, Column)>),
}

impl Column {
    /// A column that is not there.
    pub(super) fn absent() -> Column {
        Column { nulls: None, cells: Cells::Nothing }
    }

    /// An Arrow array that cannot hold `data_type` is an error that names both.
    pub(super) fn open(array: &ArrayRef, data_type: &DataType) -> Result<Column> {
        if let ArrowType::Dictionary(_, values) = array.data_type() {
            return Column::open(&converted(array, values)?, data_type);
        }
        let nulls = array.nulls().cloned();
        let cells = match (data_type, array.data_type()) {
            (_, ArrowType::Null) => Cells::Nothing,
            (DataType::Bool, ArrowType::Boolean) => Cells::Bool(array.as_boolean().clone()),
            (DataType::Int, from) if from.is_integer() => {
                Cells::Int(converted(array, &ArrowType::Int64)?.as_primitive().clone())
            }
            (DataType::Float, from) if from.is_integer() || from.is_floating() => {
                Cells::Float(converted(array, &ArrowType::Float64)?.as_primitive().clone())
            }
            (DataType::Str, from) if is_text(from) => Cells::Str(text(array)?),
            (DataType::Time, from) if is_text(from) => Cells::TimeText(text(array)?),
            (DataType::Decimal, from) if is_text(from) => Cells::DecimalText(text(array)?),
            (DataType::Decimal, ArrowType::Decimal256(..)) => Cells::WideDecimal(array.as_primitive().clone()),
            (DataType::Decimal, from) if from.is_decimal() || from.is_integer() => {
                let scale = scale_of(from);
                Cells::Decimal(converted(array, &ArrowType::Decimal128(PRECISION, scale))?.as_primitive().clone())
            }
            (
                DataType::Bytes,
                ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_),
            ) => Cells::Bytes(converted(array, &ArrowType::Binary)?.as_binary().clone()),
            (DataType::Time, ArrowType::Timestamp(..) | ArrowType::Date32 | ArrowType::Date64) => {
                Cells::Time(micros(array)?)
            }
            (
                DataType::List(item),
                ArrowType::List(of) | ArrowType::LargeList(of) | ArrowType::FixedSizeList(of, _),
            ) => {
                let list = converted(array, &ArrowType::List(of.clone()))?;
                let list = list.as_list::<i32>();
                Cells::List(list.offsets().clone(), Box::new(Column::open(list.values(), item)?))
            }
            (DataType::Map(item), ArrowType::Map(..)) => open_map(array.as_map(), item)?,
            (DataType::Map(item), ArrowType::Struct(_)) => open_struct(array.as_struct(), item)?,
            (data_type, from) => return Err(Error::invalid(format!("expected {data_type}, got Arrow type {from}"))),
        };
        Ok(Column { nulls, cells })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        matches!(self.cells, Cells::Nothing) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Writes a cell that is not null as [`put_value`] writes its value.
    pub(super) fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match &self.cells {
            Cells::Bool(cells) => out.push(u8::from(cells.value(row))),
            Cells::Int(cells) => put_varint(out, zigzag(int(cells, row)?)),
            Cells::Float(cells) => out.extend_from_slice(&float(cells, row)?.to_le_bytes()),
            Cells::Str(cells) => put_bytes(out, cells.value(row).as_bytes()),
            Cells::Bytes(cells) => put_bytes(out, cells.value(row)),
            Cells::Time(_) | Cells::TimeText(_) => out.extend_from_slice(&self.time(row)?.to_le_bytes()),
            Cells::Nothing => {}
            Cells::Decimal(_) | Cells::WideDecimal(_) | Cells::DecimalText(_) => self.decimal(row)?.encode(out),
            Cells::List(..) | Cells::Map(..) | Cells::Struct(_) => put_value(&self.value(row)?, out),
        }
        Ok(())
    }

    /// The time in a cell of a datetime column that is not null.
    pub(super) fn time(&self, row: usize) -> Result<i64> {
        match &self.cells {
            Cells::Time(cells) if cells.is_null(row) => Err(Error::invalid("a datetime out of range")),
            Cells::Time(cells) => check_time(cells.value(row)),
            Cells::TimeText(cells) => check_time(parse_time(cells.value(row))?),
            _ => Err(Error::internal("not a datetime column")),
        }
    }

    fn decimal(&self, row: usize) -> Result<Decimal> {
        match &self.cells {
            Cells::Decimal(cells) => Decimal::from_scaled(cells.value(row), cells.scale()),
            Cells::WideDecimal(cells) => Decimal::parse(&cells.value_as_string(row)),
            Cells::DecimalText(cells) => Decimal::parse(cells.value(row)),
            _ => Err(Error::internal("not a Decimal column")),
        }
    }

    /// The value of a cell.
    pub(super) fn value(&self, row: usize) -> Result<Value> {
        if self.is_null(row) {
            return Ok(Value::Null);
        }
        Ok(match &self.cells {
            Cells::Nothing => Value::Null,
            Cells::Bool(cells) => Value::Bool(cells.value(row)),
            Cells::Int(cells) => Value::Int(int(cells, row)?),
            Cells::Float(cells) => Value::Float(float(cells, row)?),
            Cells::Str(cells) => Value::str(cells.value(row)),
            Cells::Bytes(cells) => Value::Bytes(cells.value(row).into()),
            Cells::Time(_) | Cells::TimeText(_) => Value::Time(self.time(row)?),
            Cells::Decimal(_) | Cells::WideDecimal(_) | Cells::DecimalText(_) => Value::Decimal(self.decimal(row)?),
            Cells::List(offsets, items) => {
                let values: Result<Vec<Value>> = span(offsets, row).map(|item| items.value(item)).collect();
                Value::List(values?.into())
            }
            Cells::Map(offsets, names, items) => {
                let mut entries = BTreeMap::new();
                for item in span(offsets, row) {
                    entries.insert(Arc::from(names.value(item)), items.value(item)?);
                }
                Value::Map(Arc::new(entries))
            }
            Cells::Struct(fields) => {
                let mut entries = BTreeMap::new();
                for (name, column) in fields.iter().filter(|(_, column)| !column.is_null(row)) {
                    entries.insert(name.clone(), column.value(row)?);
                }
                Value::Map(Arc::new(entries))
            }
        })
    }
}

/// How many digits of a decimal are after the point; none of an integer.
fn scale_of(data_type: &ArrowType) -> i8 {
    use ArrowType::{Decimal32, Decimal64, Decimal128};
    match data_type {
        Decimal32(_, scale) | Decimal64(_, scale) | Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

fn int(cells: &Int64Array, row: usize) -> Result<i64> {
    if cells.is_null(row) {
        return Err(Error::invalid("an int beyond 64 bits with sign"));
    }
    Ok(cells.value(row))
}

fn float(cells: &Float64Array, row: usize) -> Result<f64> {
    let number = cells.value(row);
    // What `Value::float` does, without the value.
    if number.is_finite() { Ok(number + 0.0) } else { Err(Error::invalid(format!("{number} is not a value"))) }
}

fn span(offsets: &OffsetBuffer<i32>, row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn is_text(data_type: &ArrowType) -> bool {
    matches!(data_type, ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View)
}

fn text(array: &ArrayRef) -> Result<StringArray> {
    Ok(converted(array, &ArrowType::Utf8)?.as_string().clone())
}

fn converted(array: &ArrayRef, to: &ArrowType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    cast(array, to).map_err(|error| Error::invalid(format!("an Arrow {} column: {error}", array.data_type())))
}

/// Microseconds since 1970, floored; null where out of range.
fn micros(array: &ArrayRef) -> Result<Int64Array> {
    let per_unit: i64 = match array.data_type() {
        ArrowType::Timestamp(TimeUnit::Second, _) => 1_000_000,
        ArrowType::Timestamp(TimeUnit::Millisecond, _) | ArrowType::Date64 => 1000,
        ArrowType::Date32 => 86_400_000_000,
        _ => 1,
    };
    let ticks = match array.data_type() {
        ArrowType::Date32 => converted(&converted(array, &ArrowType::Int32)?, &ArrowType::Int64)?,
        _ => converted(array, &ArrowType::Int64)?,
    };
    let ticks: &Int64Array = ticks.as_primitive();
    Ok(match array.data_type() {
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => ticks.unary(|nanos| nanos.div_euclid(1000)),
        _ if per_unit == 1 => ticks.clone(),
        _ => ticks.unary_opt(|tick| tick.checked_mul(per_unit)),
    })
}

fn open_map(map: &MapArray, item: &DataType) -> Result<Cells> {
    if !is_text(map.keys().data_type()) {
        return Err(Error::invalid(format!(
            "expected dict[str, {item}], got keys of Arrow type {}",
            map.keys().data_type()
        )));
    }
    Ok(Cells::Map(map.offsets().clone(), text(map.keys())?, Box::new(Column::open(map.values(), item)?)))
}

fn open_struct(fields: &StructArray, item: &DataType) -> Result<Cells> {
    let mut columns = Vec::with_capacity(fields.num_columns());
    for (field, array) in fields.fields().iter().zip(fields.columns()) {
        let field: &ArrowField = field;
        let column = Column::open(array, item).map_err(|error| error.context(format_args!("'{}'", field.name())))?;
        columns.push((Arc::from(field.name().as_str()), column));
    }
    Ok(Cells::Struct(columns))
}
