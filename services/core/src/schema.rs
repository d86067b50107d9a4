//! Column types and dataset fields.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The type of a column or feature. `Optional` is a property of the field, not of the type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DataType {
    Bool,
    Int,
    Float,
    Str,
    Bytes,
    Time,
    /// See [`crate::decimal`].
    Decimal,
    List(Box<DataType>),
    Map(Box<DataType>),
    /// Only in what an aggregate gives: nothing that is stored or sent in has it.
    Struct(Box<StructType>),
}

/// A value with fixed, named fields: a [`crate::value::Value::Map`] with exactly these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StructType {
    /// One of the values that `TopK` lists, of this type, and how often it occurs.
    TopKEntry(DataType),
}

impl StructType {
    /// Names and types of the fields, in the order in which they are shown.
    pub fn fields(&self) -> [(&'static str, &DataType); 2] {
        match self {
            StructType::TopKEntry(value) => [("value", value), ("count", &DataType::Int)],
        }
    }
}

impl DataType {
    /// `list[TopKEntry[value]]`.
    pub fn top_k_entries(value: DataType) -> DataType {
        DataType::List(Box::new(DataType::Struct(Box::new(StructType::TopKEntry(value)))))
    }

    /// Whether there is a struct in it.
    pub fn holds_struct(&self) -> bool {
        match self {
            DataType::Struct(_) => true,
            DataType::List(item) | DataType::Map(item) => item.holds_struct(),
            _ => false,
        }
    }

    pub fn is_number(&self) -> bool {
        matches!(self, DataType::Int | DataType::Float | DataType::Decimal)
    }

    /// Reads the spelling users write: `int`, `list[str]`, `dict[str, float]`, `list[TopKEntry[str]]`.
    pub fn parse(text: &str) -> Result<DataType> {
        let text = text.trim();
        let inner = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(']'));
        Ok(match text {
            "bool" => DataType::Bool,
            "int" => DataType::Int,
            "float" => DataType::Float,
            "str" => DataType::Str,
            "bytes" => DataType::Bytes,
            "datetime" => DataType::Time,
            "Decimal" => DataType::Decimal,
            _ => {
                if let Some(item) = inner("list[") {
                    DataType::List(Box::new(DataType::parse(item)?))
                } else if let Some(value) = inner("TopKEntry[") {
                    DataType::Struct(Box::new(StructType::TopKEntry(DataType::parse(value)?)))
                } else if let Some(entry) = inner("dict[") {
                    let item = entry.strip_prefix("str,").ok_or_else(|| {
                        Error::definition(format!("unsupported type '{text}'"))
                            .hint("a dict has str keys: dict[str, T]")
                    })?;
                    DataType::Map(Box::new(DataType::parse(item)?))
                } else {
                    return Err(Error::definition(format!("unsupported type '{text}'")).hint(
                        "allowed: bool, int, float, str, bytes, datetime, Decimal, list[T], dict[str, T], Optional[T]",
                    ));
                }
            }
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Bool => f.write_str("bool"),
            DataType::Int => f.write_str("int"),
            DataType::Float => f.write_str("float"),
            DataType::Str => f.write_str("str"),
            DataType::Bytes => f.write_str("bytes"),
            DataType::Time => f.write_str("datetime"),
            DataType::Decimal => f.write_str("Decimal"),
            DataType::List(item) => write!(f, "list[{item}]"),
            DataType::Map(item) => write!(f, "dict[str, {item}]"),
            DataType::Struct(fixed) => match fixed.as_ref() {
                StructType::TopKEntry(value) => write!(f, "TopKEntry[{value}]"),
            },
        }
    }
}

impl Serialize for DataType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DataType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        DataType::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A field of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// Declared `Optional[...]`.
    #[serde(default)]
    pub nullable: bool,
    #[serde(default)]
    pub key: bool,
    #[serde(default)]
    pub timestamp: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_print_as_they_are_written() {
        for text in ["int", "list[str]", "dict[str, list[float]]", "datetime", "Decimal", "list[TopKEntry[str]]"] {
            assert_eq!(DataType::parse(text).unwrap().to_string(), text);
        }
        assert!(DataType::parse("decimal").is_err());
        assert!(DataType::parse("dict[int, str]").is_err());
        assert!(DataType::parse("TopKEntry[]").is_err());
    }
}
