//! One JSON object per line.

use super::text::{Step, TextFormat};
use crate::coerce;
use serde_json::{Map, Value as Json};
use thyme_core::schema::Field;
use thyme_core::{Result, Value};

pub struct JsonLines;

impl TextFormat for JsonLines {
    type Layout = ();

    fn layout(&self, _: &[u8], _: &[Field]) -> Result<Option<((), usize)>> {
        Ok(Some(((), 0)))
    }

    fn step(&self, bytes: &[u8], is_end: bool) -> Step {
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(newline) => Step::Record(newline + 1),
            // No beginning of an object is itself an object: what parses is complete.
            None if is_end && serde_json::from_slice::<Map<String, Json>>(bytes).is_ok() => Step::Record(bytes.len()),
            None => Step::Incomplete("the line does not end"),
        }
    }

    fn values(&self, record: &[u8], _: &(), fields: &[Field]) -> Result<Option<Vec<Value>>> {
        if record.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let object = coerce::object(record.trim_ascii_end()).map_err(|error| match error.message() {
            "not a JSON object" => error.hint("write one object per line: {\"field\": value, …}"),
            _ => error,
        })?;
        coerce::from_object(&object, fields).map(Some)
    }

    fn readable(&self, record: &[u8], _: &(), fields: &[Field]) -> Vec<Value> {
        let object = serde_json::from_slice::<Map<String, Json>>(record.trim_ascii_end());
        object.map_or_else(|_| Vec::new(), |object| coerce::readable(&object, fields))
    }
}
