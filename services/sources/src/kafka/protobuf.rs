//! Values in Protobuf's binary encoding, by the `.proto` text they were written with. Which of its messages is told before the value,
//! as Confluent's serializers do it: a number of indexes and the indexes, the first among the file's messages, each other within.

mod known;
mod nesting;
mod values;

use super::datum::Datum;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use protox::prost_reflect::{DynamicMessage, FileDescriptor, MessageDescriptor};
use thyme_core::{Error, Result};

/// The name of the schema itself; its references have names of their own.
const MAIN: &str = "thyme.registered.proto";
/// Messages within messages, as far as a schema may nest them.
const MOST_INDEXES: i64 = 32;
/// Braces within braces.
const DEEPEST_TEXT: usize = 100;

#[derive(Debug)]
pub struct Messages {
    file: FileDescriptor,
}

/// Files by name, as texts.
struct Texts(Vec<(String, String)>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((_, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

impl Messages {
    /// `references`: the files that it imports, by the names that it imports them by, and those that they import.
    pub fn compile(text: &str, references: &[(String, String)]) -> Result<Messages> {
        let mut texts = vec![(MAIN.to_string(), text.to_string())];
        texts.extend(references.iter().cloned());
        for (name, text) in &texts {
            if nesting::depth(text) > DEEPEST_TEXT {
                let message = format!("{}is nested deeper than {DEEPEST_TEXT} levels", place(Some(name)));
                return Err(Error::invalid(message));
            }
        }
        // A reference goes first: the registry has the version that the schema was written with.
        texts.extend(known::FILES.iter().map(|(name, text)| (name.to_string(), text.to_string())));
        let mut files = ChainFileResolver::new();
        files.add(Texts(texts));
        files.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(files);
        if let Err(error) = compiler.open_file(MAIN) {
            return Err(Error::invalid(format!("{}is not valid: {error}", place(error.file()))));
        }
        let file = compiler.descriptor_pool().get_file_by_name(MAIN);
        Ok(Messages { file: file.ok_or_else(|| Error::internal("the schema's file is missing"))? })
    }

    /// `bytes` begin with the indexes.
    pub fn read(&self, mut bytes: &[u8]) -> Result<Datum> {
        let message = self.message(&mut bytes)?;
        let name = message.full_name().to_string();
        let read = DynamicMessage::decode(message, bytes);
        let read = read.map_err(|error| Error::invalid(format!("not a message {name}: {error}")))?;
        values::of_message(&read, 0)
    }

    fn message(&self, bytes: &mut &[u8]) -> Result<MessageDescriptor> {
        let count = number(bytes)?;
        // The first message of the file is so frequent that it is written as no index at all.
        let mut indexes = vec![0];
        if count != 0 {
            if !(1..=MOST_INDEXES).contains(&count) {
                return Err(Error::invalid(format!("a message has {count} indexes")));
            }
            indexes = (0..count).map(|_| number(bytes)).collect::<Result<Vec<i64>>>()?;
        }
        let mut found: Option<MessageDescriptor> = None;
        for index in &indexes {
            let at = usize::try_from(*index).unwrap_or(usize::MAX);
            let next = match &found {
                None => self.file.messages().nth(at),
                Some(outer) => child(outer, at),
            };
            found =
                Some(next.ok_or_else(|| Error::invalid(format!("the schema has no message of index {indexes:?}")))?);
        }
        found.ok_or_else(|| Error::internal("no message"))
    }
}

/// Java's serializer counts the messages that the text names. Others count the entries of maps too, which are messages that no text
/// names: an index behind the last is taken as theirs.
fn child(outer: &MessageDescriptor, at: usize) -> Option<MessageDescriptor> {
    let named = outer.child_messages().filter(|message| !message.is_map_entry()).nth(at);
    named.or_else(|| outer.child_messages().nth(at).filter(|message| !message.is_map_entry()))
}

/// A varint whose lowest bit is the sign.
fn number(bytes: &mut &[u8]) -> Result<i64> {
    let mut number: u64 = 0;
    for shift in (0..64).step_by(7) {
        let Some((byte, rest)) = bytes.split_first() else { break };
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
    Err(Error::invalid("the indexes of the message do not end"))
}

/// The text an error is about.
fn place(file: Option<&str>) -> String {
    match file {
        Some(name) if name != MAIN => format!("the schema: its import '{name}' "),
        _ => "the schema ".to_string(),
    }
}
