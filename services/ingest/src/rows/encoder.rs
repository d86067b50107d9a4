//! The common end of all forms of rows: keys, record headers, ids and rejections, written into one buffer per call.

use super::RowSchema;
use bytes::Bytes;
use thyme_core::record::{EventId, Record};
use thyme_core::time::Micros;
use thyme_core::{Error, Result, Value, key};
use thyme_log::NewRecord;

/// The longest event id a caller may give, in bytes.
const MAX_EVENT_ID: usize = 256;

/// How the rows of a call are told apart when they are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Every arrival is an event of its own.
    None,
    /// The call, and the number of its first row here. Ids given row by row go before it.
    Call { call: u128, first_row: u32 },
}

/// A row that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Counted over all rows given to the encoder.
    pub index: u64,
    pub reason: String,
    /// The field at fault, where there is one.
    pub field: Option<String>,
}

/// Records ready to append.
#[derive(Debug, Default)]
pub struct EncodedRows {
    /// By partition, in row order.
    pub partitions: Vec<Vec<NewRecord>>,
    pub accepted: u64,
    pub rejected: Vec<RejectedRow>,
}

/// Encodes the rows of one append. `append_time` is stamped on all of them.
pub struct RowEncoder<'s> {
    pub(super) schema: &'s RowSchema,
    append_time: Micros,
    ids: Ids,
    next_index: u64,
    buffer: Vec<u8>,
    spans: Vec<Span>,
    /// Spans that are no rows but what could not be read as one.
    unreadable: u64,
    rejected: Vec<RejectedRow>,
}

/// A row of a source that is no row of the dataset.
#[derive(Debug, Clone, Copy)]
pub struct Unreadable<'a> {
    pub id: &'a EventId,
    /// Where it stands and what is wrong with it.
    pub reason: &'a str,
    /// The values of the key fields, if they could be read.
    pub key: Option<&'a [Value]>,
    /// The beginning of the row as it came. Not kept without the key: nobody could erase it.
    pub text: &'a str,
}

/// Where a record lies in the buffer: key, then value, up to the next span or the end.
struct Span {
    partition: u16,
    key: usize,
    value: usize,
    end: usize,
}

impl<'s> RowEncoder<'s> {
    pub fn new(schema: &'s RowSchema, append_time: Micros, ids: Ids) -> Self {
        RowEncoder {
            schema,
            append_time,
            ids,
            next_index: 0,
            buffer: Vec::new(),
            spans: Vec::new(),
            unreadable: 0,
            rejected: Vec::new(),
        }
    }

    /// A record for the dataset's dead letters. It is no row of the call.
    pub fn unreadable(&mut self, row: Unreadable<'_>) {
        let start = self.buffer.len();
        let key = row.key.and_then(key::encode_key);
        let text = if key.is_some() { row.text.as_bytes() } else { &[] };
        let key = key.unwrap_or_default();
        self.buffer.extend_from_slice(&key);
        let value = self.buffer.len();
        let (append_time, id, reason) = (self.append_time, row.id.clone(), row.reason);
        Record::Unreadable { append_time, id, reason, text }.encode_to(&mut self.buffer);
        let partition = key::partition(&key, self.schema.partitions);
        self.spans.push(Span { partition, key: start, value, end: self.buffer.len() });
        self.unreadable += 1;
    }

    /// The rows rejected since this was last asked; they are in [`EncodedRows::rejected`] no more.
    pub fn take_rejected(&mut self) -> Vec<RejectedRow> {
        std::mem::take(&mut self.rejected)
    }

    /// Goes on counting after `rows` earlier rows of the same call.
    pub fn skip(&mut self, rows: u64) {
        self.next_index += rows;
    }

    /// Rows seen so far, taken, rejected or skipped.
    pub fn rows(&self) -> u64 {
        self.next_index
    }

    /// Bytes of the records so far.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn reserve(&mut self, rows: usize, bytes: usize) {
        self.spans.reserve(rows);
        self.buffer.reserve(bytes);
    }

    /// Takes the next row, written by `write`, or notes why not.
    pub(super) fn row(&mut self, write: impl FnOnce(&mut RowWriter<'_>) -> Result<()>) {
        let index = self.next_index;
        self.next_index += 1;
        let start = self.buffer.len();
        let mut writer = RowWriter {
            schema: self.schema,
            append_time: self.append_time,
            call: self.call_id(index),
            given: None,
            span: Span { partition: 0, key: start, value: start, end: start },
            buffer: &mut self.buffer,
        };
        match write(&mut writer) {
            Ok(()) => {
                let mut span = writer.span;
                span.end = self.buffer.len();
                self.spans.push(span);
            }
            Err(error) => {
                self.buffer.truncate(start);
                self.rejected.push(RejectedRow {
                    index,
                    reason: error.to_string(),
                    field: error.field_name().map(str::to_string),
                });
            }
        }
    }

    fn call_id(&self, index: u64) -> Result<EventId> {
        let Ids::Call { call, first_row } = self.ids else { return Ok(EventId::None) };
        let row = u64::from(first_row).checked_add(index).and_then(|row| u32::try_from(row).ok());
        let row =
            row.ok_or_else(|| Error::invalid("a call holds at most 4294967295 rows").hint("begin another call"))?;
        Ok(EventId::Call { call, row })
    }

    pub fn finish(self) -> EncodedRows {
        let mut partitions: Vec<Vec<NewRecord>> = Vec::new();
        partitions.resize_with(usize::from(self.schema.partitions), Vec::new);
        let accepted = self.spans.len() as u64 - self.unreadable;
        let buffer = Bytes::from(self.buffer);
        for span in self.spans {
            partitions[usize::from(span.partition)]
                .push(NewRecord::new(buffer.slice(span.key..span.value), buffer.slice(span.value..span.end)));
        }
        EncodedRows { partitions, accepted, rejected: self.rejected }
    }
}

/// Writes one row: first the head, then the columns.
pub(super) struct RowWriter<'b> {
    schema: &'b RowSchema,
    append_time: Micros,
    call: Result<EventId>,
    given: Option<EventId>,
    span: Span,
    pub(super) buffer: &'b mut Vec<u8>,
}

impl RowWriter<'_> {
    /// The caller's own id for this row.
    pub(super) fn give_id(&mut self, id: &[u8]) -> Result<()> {
        if id.is_empty() || id.len() > MAX_EVENT_ID {
            let message = format!("an event id has 1 to {MAX_EVENT_ID} bytes, this one has {}", id.len());
            return Err(Error::invalid(message).field("event_ids"));
        }
        self.given = Some(EventId::Given(id.into()));
        Ok(())
    }

    /// Key and record header; the row's bytes come after it.
    pub(super) fn head(&mut self, key: &[Value], event_time: Micros) -> Result<()> {
        let encoded = key::encode_key(key).ok_or_else(|| null_key(self.schema, key))?;
        self.span.partition = key::partition(&encoded, self.schema.partitions);
        self.buffer.extend_from_slice(&encoded);
        self.span.value = self.buffer.len();
        let id = match self.given.take() {
            Some(id) => id,
            None => self.call.clone()?,
        };
        Record::Event { append_time: self.append_time, event_time, id, row: &[] }.encode_to(self.buffer);
        Ok(())
    }
}

fn null_key(schema: &RowSchema, key: &[Value]) -> Error {
    let null = key.iter().position(Value::is_null).unwrap_or(0);
    missing(schema, schema.key_columns[null])
}

/// A column that has to have a value has none.
pub(super) fn missing(schema: &RowSchema, column: usize) -> Error {
    let field = &schema.fields[column];
    let error = if schema.is_key(column) {
        Error::invalid(format!("the key field '{}' is missing or null", field.name))
    } else if column == schema.time_column {
        Error::invalid(format!("the timestamp field '{}' is missing or null", field.name))
    } else {
        Error::invalid(format!("the field '{}' is missing or null", field.name))
            .hint(format!("declare it Optional[{}] to allow null", field.data_type))
    };
    error.field(&*field.name)
}
