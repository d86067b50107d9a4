//! A schema as the registry keeps it: JSON. Whatever says nothing about the bytes (doc, defaults, aliases, order) is ignored.

use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};
use thyme_core::{Error, Result};

#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Null,
    Bool,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    List(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    Record(Vec<(String, Type)>),
    /// A named type, by its full name: it may contain itself.
    Named(String),
    Logical(Logical, Box<Type>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Logical {
    /// Days.
    Date,
    /// Of a time zone or none: local times are taken as UTC.
    Timestamp {
        per_second: i64,
    },
    Decimal {
        scale: i64,
    },
    /// The value carries its scale.
    BigDecimal,
    /// In 16 bytes.
    Uuid,
}

#[derive(Debug)]
pub struct Schema {
    pub(super) root: Type,
    pub(super) named: BTreeMap<String, Type>,
}

impl Schema {
    /// `references`: the schemas whose types it names, each after those that it needs itself.
    pub fn parse(text: &str, references: &[String]) -> Result<Schema> {
        let mut parser = Parser::default();
        for reference in references {
            parser.text(reference)?;
        }
        let root = parser.text(text)?;
        Ok(Schema { root, named: parser.named })
    }
}

#[derive(Default)]
struct Parser {
    named: BTreeMap<String, Type>,
    /// With those that are being read.
    known: BTreeSet<String>,
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<Type> {
        match serde_json::from_str::<Json>(text) {
            Ok(json) => self.read(&json, ""),
            // The registry keeps a primitive type with or without quotes.
            Err(_) if primitive(text.trim()).is_some() => self.by_name(text.trim(), ""),
            Err(error) => Err(Error::invalid(format!("the schema is not valid JSON: {error}"))),
        }
    }

    fn read(&mut self, json: &Json, namespace: &str) -> Result<Type> {
        match json {
            Json::String(name) => self.by_name(name, namespace),
            Json::Array(branches) => {
                let branches: Result<Vec<Type>> = branches.iter().map(|branch| self.read(branch, namespace)).collect();
                let branches = branches?;
                // No schema has one, and without a level between them a reader could be led as deep as the text is.
                if branches.iter().any(|branch| matches!(branch, Type::Union(_))) {
                    return Err(Error::invalid("the schema has a union right within a union"));
                }
                Ok(Type::Union(branches))
            }
            Json::Object(object) => self.of_object(object, namespace),
            other => Err(Error::invalid(format!("a type is a name, a list or an object, got {other}"))),
        }
    }

    fn by_name(&self, name: &str, namespace: &str) -> Result<Type> {
        if let Some(primitive) = primitive(name) {
            return Ok(primitive);
        }
        let full = full_name(name, namespace);
        let found = [full.as_str(), name].into_iter().find(|name| self.known.contains(*name));
        found
            .map(|found| Type::Named(found.to_string()))
            .ok_or_else(|| Error::invalid(format!("the schema names an unknown type '{name}'")))
    }

    fn of_object(&mut self, object: &Map<String, Json>, namespace: &str) -> Result<Type> {
        let of = object.get("type").ok_or_else(|| missing("type", object))?;
        let Json::String(kind) = of else { return self.read(of, namespace) };
        let plain = match kind.as_str() {
            "array" => Type::List(Box::new(self.member("items", object, namespace)?)),
            "map" => Type::Map(Box::new(self.member("values", object, namespace)?)),
            "record" | "error" | "enum" | "fixed" => return self.define(kind, object, namespace),
            name => self.by_name(name, namespace)?,
        };
        Ok(logical(object, plain))
    }

    fn member(&mut self, name: &str, object: &Map<String, Json>, namespace: &str) -> Result<Type> {
        self.read(object.get(name).ok_or_else(|| missing(name, object))?, namespace)
    }

    fn define(&mut self, kind: &str, object: &Map<String, Json>, namespace: &str) -> Result<Type> {
        let name = text_of("name", object)?;
        let namespace = object.get("namespace").and_then(Json::as_str).unwrap_or(namespace);
        let full = full_name(name, namespace);
        // Types within it are looked for beside it.
        let inner = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_string();
        self.known.insert(full.clone());
        let plain = match kind {
            "enum" => Type::Enum(symbols(object)?),
            "fixed" => {
                let size = object.get("size").and_then(Json::as_u64).and_then(|size| usize::try_from(size).ok());
                logical(object, Type::Fixed(size.ok_or_else(|| missing("size", object))?))
            }
            _ => self.record(object, &inner)?,
        };
        match self.named.get(&full) {
            Some(before) if *before != plain => Err(Error::invalid(format!("the schema defines '{full}' twice"))),
            _ => {
                self.named.insert(full.clone(), plain);
                Ok(Type::Named(full))
            }
        }
    }

    fn record(&mut self, object: &Map<String, Json>, namespace: &str) -> Result<Type> {
        let mut fields = Vec::new();
        for field in list_of("fields", object)? {
            let field = field.as_object().ok_or_else(|| missing("fields", object))?;
            let name = text_of("name", field)?;
            // `{"name": …, "type": "long", "logicalType": …}` is not what the specification says, and is not read so.
            let of = self.member("type", field, namespace);
            fields.push((name.to_string(), of.map_err(|error| error.context(format_args!("'{name}'")))?));
        }
        Ok(Type::Record(fields))
    }
}

fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Bool,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::Text,
        _ => return None,
    })
}

/// The type with its logical one, if that is known and fits; else it is plain, as the specification wants it.
fn logical(object: &Map<String, Json>, plain: Type) -> Type {
    let name = object.get("logicalType").and_then(Json::as_str).unwrap_or_default();
    let found = match (name, &plain) {
        ("date", Type::Int) => Some(Logical::Date),
        ("timestamp-millis" | "local-timestamp-millis", Type::Long) => Some(Logical::Timestamp { per_second: 1000 }),
        ("timestamp-micros" | "local-timestamp-micros", Type::Long) => {
            Some(Logical::Timestamp { per_second: 1_000_000 })
        }
        ("timestamp-nanos" | "local-timestamp-nanos", Type::Long) => {
            Some(Logical::Timestamp { per_second: 1_000_000_000 })
        }
        ("decimal", Type::Bytes | Type::Fixed(_)) => scale_of(object).map(|scale| Logical::Decimal { scale }),
        ("big-decimal", Type::Bytes) => Some(Logical::BigDecimal),
        ("uuid", Type::Fixed(16)) => Some(Logical::Uuid),
        _ => None,
    };
    match found {
        Some(logical) => Type::Logical(logical, Box::new(plain)),
        None => plain,
    }
}

/// A decimal has a precision, and no more digits behind the point than that.
fn scale_of(object: &Map<String, Json>) -> Option<i64> {
    let precision = object.get("precision").and_then(Json::as_i64).filter(|precision| *precision > 0)?;
    let scale = object.get("scale").map_or(Some(0), Json::as_i64)?;
    (0..=precision).contains(&scale).then_some(scale)
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_string() } else { format!("{namespace}.{name}") }
}

fn symbols(object: &Map<String, Json>) -> Result<Vec<String>> {
    let symbols = list_of("symbols", object)?.iter().map(|symbol| symbol.as_str().map(str::to_string));
    symbols.collect::<Option<Vec<String>>>().ok_or_else(|| missing("symbols", object))
}

fn text_of<'a>(name: &str, object: &'a Map<String, Json>) -> Result<&'a str> {
    object.get(name).and_then(Json::as_str).ok_or_else(|| missing(name, object))
}

fn list_of<'a>(name: &str, object: &'a Map<String, Json>) -> Result<&'a Vec<Json>> {
    object.get(name).and_then(Json::as_array).ok_or_else(|| missing(name, object))
}

fn missing(name: &str, object: &Map<String, Json>) -> Error {
    let whose = object.get("name").and_then(Json::as_str).unwrap_or("a type");
    Error::invalid(format!("the schema has no valid '{name}' of {whose}"))
}
