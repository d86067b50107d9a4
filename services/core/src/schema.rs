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
    List(Box<DataType>),
    Map(Box<DataType>),
}

impl DataType {
    pub fn is_number(&self) -> bool {
        matches!(self, DataType::Int | DataType::Float)
    }

    /// Reads the spelling users write: `int`, `list[str]`, `dict[str, float]`.
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
            _ => {
                if let Some(item) = inner("list[") {
                    DataType::List(Box::new(DataType::parse(item)?))
                } else if let Some(entry) = inner("dict[") {
                    let item = entry.strip_prefix("str,").ok_or_else(|| {
                        Error::definition(format!("unsupported type '{text}'"))
                            .hint("a dict has str keys: dict[str, T]")
                    })?;
                    DataType::Map(Box::new(DataType::parse(item)?))
                } else {
                    return Err(Error::definition(format!("unsupported type '{text}'"))
                        .hint("allowed: bool, int, float, str, bytes, datetime, list[T], dict[str, T], Optional[T]"));
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
            DataType::List(item) => write!(f, "list[{item}]"),
            DataType::Map(item) => write!(f, "dict[str, {item}]"),
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
        for text in ["int", "list[str]", "dict[str, list[float]]", "datetime"] {
            assert_eq!(DataType::parse(text).unwrap().to_string(), text);
        }
        assert!(DataType::parse("Decimal").is_err());
        assert!(DataType::parse("dict[int, str]").is_err());
    }
}
