//! `json_extract(text, path)`: a part of a JSON text, as text.

use super::{Typed, arity, wrong_types};
use crate::error::{Error, Result};
use crate::expr::eval::Bound;
use crate::expr::{Op, Warnings};
use crate::schema::DataType;
use crate::value::Value;
use serde_json::Value as Json;

/// A path of names and indices: `$`, `$.a.b[0]`, `$["a name"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath(Vec<PathStep>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum PathStep {
    Name(String),
    Index(usize),
}

pub(in crate::expr) fn resolve(args: Vec<Typed>) -> Result<Typed> {
    let op = Op::JsonExtract;
    arity(op, &args, 2..=2)?;
    let takes = "a str and a path as a literal, such as '$.a.b[0]'";
    let Some(path) = args[1].literal().and_then(Value::as_str) else { return Err(wrong_types(op, takes, &args)) };
    if !args[0].fits(&DataType::Str) {
        return Err(wrong_types(op, takes, &args));
    }
    let path = JsonPath::parse(path)?;
    let text = args.into_iter().next().map_or(Bound::Literal(Value::Null), |arg| arg.node);
    Ok(Typed { node: Bound::JsonExtract(path, Box::new(text)), data_type: Some(DataType::Str), nullable: true })
}

impl JsonPath {
    pub fn parse(path: &str) -> Result<JsonPath> {
        let wrong = || {
            Error::definition(format!("not a JSON path: '{path}'"))
                .hint("write $, then .name, [index] or [\"a name\"], such as $.a.b[0]")
        };
        let mut rest = path.strip_prefix('$').ok_or_else(wrong)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix('.') {
                let end = tail.find(['.', '[']).unwrap_or(tail.len());
                if end == 0 {
                    return Err(wrong());
                }
                steps.push(PathStep::Name(tail[..end].to_string()));
                rest = &tail[end..];
            } else if let Some(tail) = rest.strip_prefix('[') {
                let quote = tail.chars().next().filter(|letter| matches!(letter, '"' | '\''));
                if let Some(quote) = quote {
                    let (name, tail) = tail[1..].split_once(quote).ok_or_else(wrong)?;
                    steps.push(PathStep::Name(name.to_string()));
                    rest = tail.strip_prefix(']').ok_or_else(wrong)?;
                } else {
                    let (index, tail) = tail.split_once(']').ok_or_else(wrong)?;
                    steps.push(PathStep::Index(index.parse().map_err(|_| wrong())?));
                    rest = tail;
                }
            } else {
                return Err(wrong());
            }
        }
        Ok(JsonPath(steps))
    }

    /// A text is itself; a number, a boolean, an object or a list is its JSON text; missing and JSON null are null.
    pub(in crate::expr) fn extract(&self, text: &str, warnings: &mut Warnings) -> Value {
        let Ok(document) = serde_json::from_str::<Json>(text) else {
            warnings.bad_json += 1;
            return Value::Null;
        };
        let mut at = &document;
        for step in &self.0 {
            let next = match step {
                PathStep::Name(name) => at.as_object().and_then(|entries| entries.get(name)),
                PathStep::Index(index) => at.as_array().and_then(|items| items.get(*index)),
            };
            match next {
                Some(next) => at = next,
                None => return Value::Null,
            }
        }
        match at {
            Json::Null => Value::Null,
            Json::String(text) => Value::str(text.as_str()),
            other => Value::str(other.to_string()),
        }
    }
}
