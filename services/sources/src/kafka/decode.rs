//! The value of a record as the dataset's fields.

use super::datum::{Datum, hex};
use super::schemas::{MAGIC, Schemas, WAITS};
use super::settings::{Format, Settings};
use crate::coerce;
use thyme_core::schema::Field;
use thyme_core::{Error, Result, Value};

/// What Confluent's serializers put before the value: a zero and the id of its schema in four bytes.
const HEADER: usize = 5;

/// A record that is none of the dataset.
pub struct Unfit {
    pub reason: Error,
    /// As [`crate::RejectedRow::values`].
    pub values: Vec<Value>,
    pub sample: String,
}

pub struct Decoder {
    fields: Vec<Field>,
    /// `None` for plain JSON.
    schemas: Option<Schemas>,
}

impl Decoder {
    pub fn new(settings: &Settings, fields: &[Field]) -> Decoder {
        let schemas = match settings.format {
            Format::Json => None,
            format => Some(Schemas::new(format, settings.registry.clone(), WAITS)),
        };
        Decoder { fields: fields.to_vec(), schemas }
    }

    /// An error is about the source as a whole, never about this one record.
    pub fn read(&mut self, value: Option<&[u8]>) -> Result<Result<Vec<Value>, Unfit>> {
        let Some(value) = value else {
            let reason = Error::invalid("the record has no value (a tombstone)")
                .hint("each record is an event; a deletion is none");
            return Ok(Err(Unfit { reason, values: Vec::new(), sample: String::new() }));
        };
        let Some(schemas) = &mut self.schemas else { return Ok(self.json(value)) };
        Ok(match schemas.read(value)? {
            Ok(datum) => self.fields_of(&datum),
            Err(reason) => Err(Unfit { reason, values: Vec::new(), sample: hex(value) }),
        })
    }

    /// No JSON begins with a zero byte, so a header tells itself. Its schema is not needed to read what follows.
    fn json(&self, value: &[u8]) -> Result<Vec<Value>, Unfit> {
        let text = match value.first() {
            Some(&MAGIC) => value.get(HEADER..).unwrap_or_default(),
            _ => value,
        };
        let read = coerce::object(text).map(|object| {
            let values = coerce::from_object(&object, &self.fields);
            values.map_err(|reason| (reason, coerce::readable(&object, &self.fields)))
        });
        let (reason, values) = match read {
            Ok(Ok(values)) => return Ok(values),
            Ok(Err(unfit)) => unfit,
            Err(reason) => (reason, Vec::new()),
        };
        Err(Unfit { reason, values, sample: coerce::sample(text) })
    }

    fn fields_of(&self, datum: &Datum) -> Result<Vec<Value>, Unfit> {
        datum.values(&self.fields).map_err(|reason| Unfit {
            reason,
            values: datum.readable(&self.fields),
            sample: coerce::sample(datum.shown().to_string().as_bytes()),
        })
    }
}
