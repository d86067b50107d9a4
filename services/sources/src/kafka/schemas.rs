//! Values that name their schema: a zero, its id in four bytes, then the value as the schema says (Confluent's wire format).

use super::avro::Schema;
use super::datum::Datum;
use super::protobuf::Messages;
use super::registry::{Registry, Written};
use super::settings::{Format, RegistrySettings};
use std::collections::HashMap;
use std::time::Duration;
use thyme_core::{Error, ErrorKind, Result};

pub const MAGIC: u8 = 0;

/// A registry of several nodes may learn of a new schema a moment later than its records arrive.
const ASKED_AGAIN: usize = 3;
const PAUSE: Duration = Duration::from_millis(500);

pub struct Schemas {
    format: Format,
    registry: Registry,
    known: HashMap<u32, Known>,
}

enum Known {
    Avro(Schema),
    Protobuf(Messages),
    Missing,
}

impl Schemas {
    pub fn new(format: Format, settings: RegistrySettings) -> Result<Schemas> {
        Ok(Schemas { format, registry: Registry::new(settings)?, known: HashMap::new() })
    }

    /// The outer error is about the source as a whole (no registry, a schema that cannot be read), the inner one about this value.
    pub fn read(&mut self, value: &[u8]) -> Result<Result<Datum>> {
        let [MAGIC, a, b, c, d, rest @ ..] = value else {
            let reason = Error::invalid("the value names no schema: it does not begin with a zero and the id of one");
            return Ok(Err(reason
                .hint("write the topic with a serializer of the schema registry, or read it with format=\"json\"")));
        };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        let read = match self.known(id)? {
            Known::Avro(schema) => schema.read(rest),
            Known::Protobuf(messages) => messages.read(rest),
            Known::Missing => Err(Error::invalid("the schema registry has no such schema")),
        };
        Ok(read.map_err(|error| error.context(format_args!("schema {id}"))))
    }

    fn known(&mut self, id: u32) -> Result<&Known> {
        if !self.known.contains_key(&id) {
            let found = self.ask(id)?;
            self.known.insert(id, found);
        }
        self.known.get(&id).ok_or_else(|| Error::internal("a schema that was just read is missing"))
    }

    fn ask(&self, id: u32) -> Result<Known> {
        let mut written = self.registry.schema(id)?;
        for _ in 0..ASKED_AGAIN {
            if written.is_none() {
                std::thread::sleep(PAUSE);
                written = self.registry.schema(id)?;
            }
        }
        let Some(written) = written else { return Ok(Known::Missing) };
        // Not one bad record but all of this schema: the source waits, so that nothing goes to the dead letters that could be read.
        self.understood(&written).map_err(|error| {
            let whole = Error::new(ErrorKind::FailedPrecondition, error.message().to_string());
            let whole = whole.context(format_args!("schema {id} of the schema registry"));
            match error.hint_text() {
                Some(hint) => whole.hint(hint),
                None => whole,
            }
        })
    }

    fn understood(&self, written: &Written) -> Result<Known> {
        let Written { kind, text, references } = written;
        match (self.format, kind.as_str()) {
            (Format::Avro, "AVRO") => {
                let texts: Vec<String> = references.iter().map(|(_, text)| text.clone()).collect();
                Schema::parse(text, &texts).map(Known::Avro)
            }
            (Format::Protobuf, "PROTOBUF") => Messages::compile(text, references).map(Known::Protobuf),
            (format, kind) => {
                Err(Error::invalid(format!("it is of type {kind}, and the source reads {}", format.name()))
                    .hint(format!("write format=\"{}\"", kind.to_lowercase())))
            }
        }
    }
}
