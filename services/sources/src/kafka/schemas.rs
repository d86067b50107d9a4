//! Values that name their schema: a zero, its id in four bytes, then the value as the schema says (Confluent's wire format).
//!
//! An id's schema never changes, so each is asked for once, and one that cannot be read, or is of another format, is no reason to wait: its
//! records go to the dead letters, and those behind them are read. An id that the registry does not know is the record's own fault, but a registry of
//! several nodes may learn of a schema a moment after its records: it is asked some more times, and again for later records.

use super::avro::Schema;
use super::datum::Datum;
use super::protobuf::Messages;
use super::registry::{Registry, Written};
use super::settings::{Format, RegistrySettings};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use thyme_core::{Error, Result};

pub const MAGIC: u8 = 0;

/// Questions more about an id that the registry does not know.
const ASKED_AGAIN: usize = 3;
/// Behind so many unknown ids each other one is asked for only once: a topic full of garbage is not worth the wait.
const PATIENCE: usize = 5;
/// Ids that are kept as unknown; any garbage names some.
const MOST_MISSING: usize = 1000;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For one answer of the registry.
    pub answer: Duration,
    /// For all that one schema refers to.
    pub schema: Duration,
    /// Between two questions about an id that it does not know.
    pub pause: Duration,
    /// Until such an id is asked for again.
    pub missing: Duration,
}

pub const WAITS: Waits = Waits {
    answer: Duration::from_secs(10),
    schema: Duration::from_secs(60),
    pause: Duration::from_millis(500),
    missing: Duration::from_secs(30),
};

pub struct Schemas {
    format: Format,
    registry: Registry,
    waits: Waits,
    known: HashMap<u32, Known>,
    /// When the registry last said so.
    missing: HashMap<u32, Instant>,
}

enum Known {
    Avro(Schema),
    Protobuf(Messages),
    /// Neither now nor later, and why: what stands under an id does not change.
    Unreadable(Error),
}

impl Schemas {
    /// Nothing is asked yet.
    pub fn new(format: Format, settings: RegistrySettings, waits: Waits) -> Schemas {
        let registry = Registry::new(settings, waits);
        Schemas { format, registry, waits, known: HashMap::new(), missing: HashMap::new() }
    }

    /// The outer error is about the source as a whole (no registry, or one that refuses the server), the inner one about this value.
    pub fn read(&mut self, value: &[u8]) -> Result<Result<Datum>> {
        let [MAGIC, a, b, c, d, rest @ ..] = value else {
            let reason = Error::invalid("the value names no schema: it does not begin with a zero and the id of one");
            return Ok(Err(reason
                .hint("write the topic with a serializer of the schema registry, or read it with format=\"json\"")));
        };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        let read = match self.known(id)? {
            Some(Known::Avro(schema)) => schema.read(rest),
            Some(Known::Protobuf(messages)) => messages.read(rest),
            Some(Known::Unreadable(why)) => Err(why.clone()),
            None => Err(Error::invalid("the schema registry has no such schema")
                .hint("check that schema_registry is the one that the topic is written with")),
        };
        Ok(read.map_err(|error| error.context(format_args!("schema {id}"))))
    }

    fn known(&mut self, id: u32) -> Result<Option<&Known>> {
        if !self.known.contains_key(&id) {
            if self.missing.get(&id).is_some_and(|asked| self.is_recent(asked)) {
                return Ok(None);
            }
            let Some(written) = self.ask(id)? else { return Ok(None) };
            let known = self.understood(&written);
            self.known.insert(id, known.unwrap_or_else(Known::Unreadable));
        }
        Ok(self.known.get(&id))
    }

    fn ask(&mut self, id: u32) -> Result<Option<Written>> {
        let mut written = self.registry.schema(id)?;
        let unknown = self.missing.values().filter(|asked| self.is_recent(asked)).count();
        let mut questions = if unknown < PATIENCE { ASKED_AGAIN } else { 0 };
        while written.is_none() && questions > 0 {
            std::thread::sleep(self.waits.pause);
            written = self.registry.schema(id)?;
            questions -= 1;
        }
        if written.is_some() {
            self.missing.remove(&id);
            return Ok(written);
        }
        if self.missing.len() >= MOST_MISSING {
            self.missing.clear();
        }
        self.missing.insert(id, Instant::now());
        Ok(None)
    }

    fn is_recent(&self, asked: &Instant) -> bool {
        asked.elapsed() < self.waits.missing
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
