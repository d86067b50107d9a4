//! Following a text file that grows: what JSON lines and CSV have in common.

use super::SourceFile;
use super::cursor::{self, TextCursor};
use crate::saved::Saved as _;
use crate::{Place, Poll, RejectedRow, SourceRow, coerce};
use std::fs::File;
use std::os::unix::fs::FileExt;
use thyme_core::schema::Field;
use thyme_core::{Error, Result, Value};

/// How much is read at once.
const CHUNK: u64 = 1 << 20;
/// A longer line is rejected.
const LONGEST_LINE: u64 = 16 << 20;
/// What some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What stands at the beginning of some bytes.
pub enum Step {
    /// A record of this length, its line end included.
    Record(usize),
    /// Nothing to be made of the first so many bytes.
    Malformed(usize, &'static str),
    /// More bytes are needed to tell.
    Incomplete(&'static str),
}

pub trait TextFormat {
    /// What has to be known of the file's beginning.
    type Layout;
    /// Reads the beginning of the file: the layout, and its length. `None` if it is not all there yet.
    fn layout(&self, bytes: &[u8], fields: &[Field]) -> Result<Option<(Self::Layout, usize)>>;
    /// `is_end`: the file ends where `bytes` do.
    fn step(&self, bytes: &[u8], is_end: bool) -> Step;
    /// `None` for a record that says nothing (a blank line).
    fn values(&self, record: &[u8], layout: &Self::Layout, fields: &[Field]) -> Result<Option<Vec<Value>>>;
    /// What can be read of a record without values: as [`crate::RejectedRow::values`].
    fn readable(&self, record: &[u8], layout: &Self::Layout, fields: &[Field]) -> Vec<Value>;
}

pub fn poll<F: TextFormat>(
    source: &SourceFile,
    format: &F,
    fields: &[Field],
    saved: Option<&[u8]>,
    max_rows: usize,
) -> Result<Poll> {
    let file = source.open()?;
    let length = file.metadata().map_err(|error| source.failed(&error))?.len();
    let mut cursor = saved.map_or_else(|| Ok(TextCursor::start()), TextCursor::decode)?;
    let opened = Opened { source, file, length };
    opened.check(&cursor)?;
    let mut poll = Poll { rows: vec![], rejected: vec![], cursor: vec![], has_more: false, pending: None };
    let beginning = opened.read(0, CHUNK)?;
    let mark = if beginning.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let layout = format.layout(&beginning[mark..], fields).map_err(|error| error.context(source.path.display()))?;
    match layout {
        Some((layout, layout_length)) => {
            if cursor.at == 0 && mark + layout_length > 0 {
                cursor.at = (mark + layout_length) as u64;
                cursor.line += lines(&beginning[..mark + layout_length]);
            }
            opened.read_rows(format, &layout, fields, &mut cursor, max_rows, &mut poll)?;
        }
        None if length > CHUNK => return Err(Error::invalid("the header does not end").context(source.path.display())),
        None if length > 0 => poll.pending = Some("line 1 is incomplete: the line does not end".to_string()),
        None => {}
    }
    opened.fingerprint(&mut cursor)?;
    poll.cursor = cursor.encode()?;
    Ok(poll)
}

struct Opened<'a> {
    source: &'a SourceFile,
    file: File,
    length: u64,
}

impl Opened<'_> {
    fn read(&self, from: u64, length: u64) -> Result<Vec<u8>> {
        let length = length.min(self.length.saturating_sub(from));
        let mut buffer = vec![0; length as usize];
        self.file.read_exact_at(&mut buffer, from).map_err(|error| self.source.failed(&error))?;
        Ok(buffer)
    }

    fn check(&self, cursor: &TextCursor) -> Result<()> {
        if self.length < cursor.at {
            let (now, read) = (self.length, cursor.at);
            return Err(self.source.replaced(&format!("it has {now} bytes, {read} were read already")));
        }
        let mut found = cursor.clone();
        self.fingerprint(&mut found)?;
        if found != *cursor {
            return Err(self.source.replaced("what was read already has changed"));
        }
        Ok(())
    }

    fn fingerprint(&self, cursor: &mut TextCursor) -> Result<()> {
        let [head, tail] = cursor.stretches();
        cursor.head = cursor::fingerprint(&self.read(head.0, head.1 - head.0)?);
        cursor.tail = cursor::fingerprint(&self.read(tail.0, tail.1 - tail.0)?);
        Ok(())
    }

    fn read_rows<F: TextFormat>(
        &self,
        format: &F,
        layout: &F::Layout,
        fields: &[Field],
        cursor: &mut TextCursor,
        max_rows: usize,
        poll: &mut Poll,
    ) -> Result<()> {
        let mut chunk = CHUNK;
        loop {
            let bytes = self.read(cursor.at, chunk)?;
            let is_end = cursor.at + bytes.len() as u64 == self.length;
            let mut rest = bytes.as_slice();
            let mut incomplete = None;
            while !rest.is_empty() && poll.rows.len() + poll.rejected.len() < max_rows {
                if cursor.skipping {
                    let newline = rest.iter().position(|byte| *byte == b'\n');
                    cursor.skipping = newline.is_none();
                    let skipped = newline.map_or(rest.len(), |newline| newline + 1);
                    consume(cursor, &mut rest, skipped);
                    continue;
                }
                let (length, outcome) = match format.step(rest, is_end) {
                    Step::Record(length) => (length, format.values(&rest[..length], layout, fields)),
                    Step::Malformed(length, why) => (length, Err(Error::invalid(why))),
                    Step::Incomplete(_) if rest.len() as u64 >= LONGEST_LINE => {
                        cursor.skipping = true;
                        (rest.len(), Err(Error::invalid(format!("the line is longer than {LONGEST_LINE} bytes"))))
                    }
                    Step::Incomplete(why) => {
                        incomplete = Some(why);
                        break;
                    }
                };
                let readable = || format.readable(&rest[..length], layout, fields);
                self.take(outcome, &rest[..length], readable, cursor, poll);
                consume(cursor, &mut rest, length);
            }
            let is_full = poll.rows.len() + poll.rejected.len() >= max_rows;
            poll.has_more = cursor.at < self.length && incomplete.is_none();
            if let Some(why) = incomplete
                && is_end
            {
                poll.pending = Some(format!("line {} is incomplete: {why}", cursor.line));
            } else if !is_full && !is_end {
                // A line longer than the chunk needs a longer one.
                chunk = if incomplete.is_some() { (rest.len() as u64 * 2).clamp(CHUNK, LONGEST_LINE) } else { CHUNK };
                continue;
            }
            return Ok(());
        }
    }

    fn take(
        &self,
        outcome: Result<Option<Vec<Value>>>,
        record: &[u8],
        readable: impl Fn() -> Vec<Value>,
        cursor: &TextCursor,
        poll: &mut Poll,
    ) {
        let id = || self.source.id(cursor.at, record.trim_ascii_end());
        match outcome {
            Ok(Some(values)) => poll.rows.push(SourceRow { values, id: id() }),
            Ok(None) => {}
            Err(reason) => {
                let (sample, values) = (coerce::sample(record), readable());
                let place = Place::Line(cursor.line);
                poll.rejected.push(RejectedRow { place, reason, sample, values, id: id() });
            }
        }
    }
}

fn consume(cursor: &mut TextCursor, rest: &mut &[u8], length: usize) {
    cursor.line += lines(&rest[..length]);
    cursor.at += length as u64;
    *rest = &rest[length..];
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}
