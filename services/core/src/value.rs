//! A feature value, a column value, a key component: one dynamically typed value, its order and its JSON form.

use crate::decimal::Decimal;
use crate::error::{Error, Result};
use crate::schema::DataType;
use crate::time::{format_time, parse_time};
use base64::Engine as _;
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    /// Finite, and never -0.0: see [`Value::float`].
    Float(f64),
    Str(Arc<str>),
    Bytes(Arc<[u8]>),
    /// Microseconds since 1970 UTC.
    Time(i64),
    Decimal(Decimal),
    List(Arc<[Value]>),
    Map(Arc<BTreeMap<Arc<str>, Value>>),
}

impl Value {
    /// A float value: NaN and the infinities are not values (`None`), -0.0 becomes 0.0.
    pub fn float(number: f64) -> Option<Value> {
        number.is_finite().then_some(Value::Float(number + 0.0))
    }
    pub fn str(text: impl Into<Arc<str>>) -> Value {
        Value::Str(text.into())
    }
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }
    /// Name of the dynamic type, as users write it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::Time(_) => "datetime",
            Value::Decimal(_) => "Decimal",
            Value::List(_) => "list",
            Value::Map(_) => "dict",
        }
    }
    /// The type of a value that says its own: none of null, and of a list or dict, whose items may be anything.
    pub fn scalar_type(&self) -> Option<DataType> {
        match self {
            Value::Bool(_) => Some(DataType::Bool),
            Value::Int(_) => Some(DataType::Int),
            Value::Float(_) => Some(DataType::Float),
            Value::Str(_) => Some(DataType::Str),
            Value::Bytes(_) => Some(DataType::Bytes),
            Value::Time(_) => Some(DataType::Time),
            Value::Decimal(_) => Some(DataType::Decimal),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }
    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) | Value::Float(_) => 2,
            Value::Decimal(_) => 3,
            Value::Str(_) => 4,
            Value::Bytes(_) => 5,
            Value::Time(_) => 6,
            Value::List(_) => 7,
            Value::Map(_) => 8,
        }
    }

    /// The public JSON form: an int keeps all its digits, a float is the shortest text that reads back the same bits, a
    /// datetime is ISO-8601 with `Z`, a Decimal its digits as text, bytes are base64.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Int(number) => Json::from(*number),
            Value::Float(number) => Json::from(*number),
            Value::Str(text) => Json::from(text.as_ref()),
            Value::Bytes(bytes) => Json::from(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Value::Time(micros) => Json::from(format_time(*micros)),
            Value::Decimal(number) => Json::from(number.to_string()),
            Value::List(items) => Json::Array(items.iter().map(Value::to_json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|(name, value)| (name.to_string(), value.to_json())).collect())
            }
        }
    }

    /// Reads the public JSON form as `data_type`. A JSON integer for a float or a Decimal is accepted; a float for an int is refused,
    /// and for a Decimal, because a reader of JSON has rounded it to its nearest float already.
    pub fn from_json(json: &Json, data_type: &DataType) -> Result<Value> {
        let wrong = || Error::invalid(format!("expected {data_type}, got {}", describe(json)));
        Ok(match (data_type, json) {
            (_, Json::Null) => Value::Null,
            (DataType::Bool, Json::Bool(flag)) => Value::Bool(*flag),
            (DataType::Int, Json::Number(number)) => Value::Int(number.as_i64().ok_or_else(wrong)?),
            (DataType::Float, Json::Number(number)) => number.as_f64().and_then(Value::float).ok_or_else(wrong)?,
            (DataType::Str, Json::String(text)) => Value::str(text.as_str()),
            (DataType::Bytes, Json::String(text)) => {
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .map_err(|_| wrong().hint("bytes travel as base64 in JSON"))?;
                Value::Bytes(bytes.into())
            }
            (DataType::Time, Json::String(text)) => Value::Time(parse_time(text)?),
            (DataType::Decimal, Json::String(text)) => Value::Decimal(Decimal::parse(text)?),
            (DataType::Decimal, Json::Number(number)) if !number.is_f64() => {
                Value::Decimal(Decimal::parse(&number.to_string())?)
            }
            (DataType::Decimal, Json::Number(_)) => {
                return Err(wrong().hint(
                    "write it as text, such as \"12.50\": a JSON number with a point has lost digits when it is read",
                ));
            }
            (DataType::List(item), Json::Array(items)) => {
                let read: Result<Vec<Value>> = items.iter().map(|entry| Value::from_json(entry, item)).collect();
                Value::List(read?.into())
            }
            (DataType::Map(item), Json::Object(entries)) => {
                let mut read = BTreeMap::new();
                for (name, entry) in entries {
                    read.insert(Arc::from(name.as_str()), Value::from_json(entry, item)?);
                }
                Value::Map(Arc::new(read))
            }
            (DataType::Struct(fixed), Json::Object(entries)) => {
                let fields = fixed.fields();
                if entries.len() != fields.len() {
                    return Err(wrong());
                }
                let mut read = BTreeMap::new();
                for (name, field) in fields {
                    read.insert(Arc::from(name), Value::from_json(entries.get(name).ok_or_else(wrong)?, field)?);
                }
                Value::Map(Arc::new(read))
            }
            _ => return Err(wrong()),
        })
    }

    /// Reads the text of a key or parameter (`?uid=7`, `-e uid=7`) by its declared type.
    pub fn from_text(text: &str, data_type: &DataType) -> Result<Value> {
        let wrong = || Error::invalid(format!("expected {data_type}, got '{text}'"));
        Ok(match data_type {
            DataType::Bool => Value::Bool(text.parse().map_err(|_| wrong())?),
            DataType::Int => Value::Int(text.parse().map_err(|_| wrong())?),
            DataType::Float => text.parse::<f64>().ok().and_then(Value::float).ok_or_else(wrong)?,
            DataType::Str => Value::str(text),
            DataType::Time => Value::Time(parse_time(text)?),
            DataType::Decimal => Value::Decimal(Decimal::parse(text)?),
            DataType::Bytes => Value::from_json(&Json::from(text), data_type)?,
            DataType::List(_) | DataType::Map(_) | DataType::Struct(_) => {
                let json: Json = serde_json::from_str(text).map_err(|_| wrong())?;
                Value::from_json(&json, data_type)?
            }
        })
    }

    /// An int as the float or Decimal that `data_type` is; any other value unchanged.
    pub fn widened(self, data_type: &DataType) -> Value {
        self.widening(data_type).unwrap_or(self)
    }

    /// What [`Value::widened`] makes of it, where that is another value.
    #[inline]
    pub fn widening(&self, data_type: &DataType) -> Option<Value> {
        match (self, data_type) {
            (Value::Int(number), DataType::Float) => Some(Value::Float(*number as f64)),
            (Value::Int(number), DataType::Decimal) => Some(Value::Decimal(Decimal::from_int(*number))),
            _ => None,
        }
    }

    /// Whether this value may stand in a column of `data_type` (null always may; nullability is the field's matter).
    pub fn has_type(&self, data_type: &DataType) -> bool {
        match (self, data_type) {
            (Value::Null, _)
            | (Value::Bool(_), DataType::Bool)
            | (Value::Int(_), DataType::Int)
            | (Value::Float(_), DataType::Float)
            | (Value::Str(_), DataType::Str)
            | (Value::Bytes(_), DataType::Bytes)
            | (Value::Time(_), DataType::Time)
            | (Value::Decimal(_), DataType::Decimal) => true,
            (Value::List(items), DataType::List(item)) => items.iter().all(|entry| entry.has_type(item)),
            (Value::Map(entries), DataType::Map(item)) => entries.values().all(|entry| entry.has_type(item)),
            (Value::Map(entries), DataType::Struct(fixed)) => {
                let fields = fixed.fields();
                let holds =
                    |(name, field): (&str, &DataType)| entries.get(name).is_some_and(|value| value.has_type(field));
                entries.len() == fields.len() && fields.into_iter().all(holds)
            }
            _ => false,
        }
    }
}

fn describe(json: &Json) -> String {
    match json {
        Json::String(text) => format!("the text '{text}'"),
        Json::Array(_) => "a list".to_string(),
        Json::Object(_) => "an object".to_string(),
        other => other.to_string(),
    }
}

impl Ord for Value {
    /// A total order: by type, then by value; ints and floats compare as numbers, exactly.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) | (Value::Time(a), Value::Time(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Int(a), Value::Float(b)) => int_float(*a, *b),
            (Value::Float(a), Value::Int(b)) => int_float(*b, *a).reverse(),
            (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
            (Value::Str(a), Value::Str(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::List(a), Value::List(b)) => a.cmp(b),
            (Value::Map(a), Value::Map(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// Compares an int with a float; equal numbers of different types are told apart by type, so that `Ord` agrees with `Eq`.
fn int_float(int: i64, float: f64) -> Ordering {
    if float >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    let floor = float.floor();
    int.cmp(&(floor as i64)).then(Ordering::Less)
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Value {}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Value::Null => {}
            Value::Bool(flag) => flag.hash(state),
            Value::Int(number) | Value::Time(number) => number.hash(state),
            Value::Float(number) => number.to_bits().hash(state),
            Value::Decimal(number) => number.hash(state),
            Value::Str(text) => text.hash(state),
            Value::Bytes(bytes) => bytes.hash(state),
            Value::List(items) => items.hash(state),
            Value::Map(entries) => entries.hash(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trip_keeps_bits() {
        let cases = [
            (Value::Int(i64::MAX), DataType::Int),
            (Value::Float(0.1 + 0.2), DataType::Float),
            (Value::Float(5e-324), DataType::Float),
            (Value::Time(1_705_320_000_000_001), DataType::Time),
            (Value::Bytes(vec![0u8, 255].into()), DataType::Bytes),
            (Value::Decimal(Decimal::parse("-99999999999999999999.999999999999999999").unwrap()), DataType::Decimal),
            (Value::List(vec![Value::Int(1), Value::Null].into()), DataType::List(Box::new(DataType::Int))),
        ];
        for (value, data_type) in cases {
            let text = serde_json::to_string(&value.to_json()).unwrap();
            let back = Value::from_json(&serde_json::from_str(&text).unwrap(), &data_type).unwrap();
            assert_eq!(back, value, "{text}");
        }
    }

    #[test]
    fn a_struct_has_its_fields_and_no_others() {
        let entries = DataType::top_k_entries(DataType::Str);
        let read = |json: Json| Value::from_json(&json, &entries);
        let good = serde_json::json!([{"value": "a", "count": 2}, {"value": null, "count": 1}]);
        let value = read(good.clone()).unwrap();
        assert!(value.has_type(&entries));
        assert_eq!(value.to_json(), good);
        assert!(!value.has_type(&DataType::top_k_entries(DataType::Int)));
        for bad in [
            serde_json::json!([{"value": "a"}]),
            serde_json::json!([{"value": "a", "count": "2"}]),
            serde_json::json!([{"value": "a", "count": 2, "more": 1}]),
            serde_json::json!([["a", 2]]),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
        let loose = DataType::List(Box::new(DataType::Map(Box::new(DataType::Int))));
        let bad = Value::from_json(&serde_json::json!([{"value": 1, "total": 2}]), &loose).unwrap();
        assert!(!bad.has_type(&DataType::top_k_entries(DataType::Int)));
    }

    #[test]
    fn floats_for_ints_are_refused_and_nan_is_no_value() {
        assert!(Value::from_json(&serde_json::json!(1.0), &DataType::Int).is_err());
        assert_eq!(Value::from_json(&serde_json::json!(1), &DataType::Float).unwrap(), Value::Float(1.0));
        let decimal = |json: Json| Value::from_json(&json, &DataType::Decimal);
        assert_eq!(decimal(serde_json::json!(u64::MAX)).unwrap().to_json(), serde_json::json!("18446744073709551615"));
        let error = decimal(serde_json::json!(12.5)).unwrap_err();
        assert_eq!(error.message(), "expected Decimal, got 12.5");
        assert_eq!(
            error.hint_text(),
            Some("write it as text, such as \"12.50\": a JSON number with a point has lost digits when it is read")
        );
        assert!(Value::float(f64::NAN).is_none());
        assert!(matches!(Value::float(-0.0), Some(Value::Float(zero)) if zero.is_sign_positive()));
    }

    #[test]
    fn order_is_total_over_numbers() {
        assert!(Value::Int(3) < Value::Float(3.5));
        assert!(Value::Float(2.5) < Value::Int(3));
        assert!(Value::Int(i64::MAX) < Value::Float(1e19));
        assert_ne!(Value::Int(1), Value::Float(1.0));
    }
}
