//! Opening a journal: every frame's meta is read and checked, payloads are skipped but for the last frame's.

use super::journal::{self, BadSegment, Entry, FRAME_HEADER, FrameHeader, SEGMENT_HEADER};
use super::state::{FramePlace, State};
use super::store::Store;
use super::writer::End;
use super::{damaged, io_error};
use bytes::Bytes;
use thyme_core::{Error, ErrorKind, Result};

/// How much is read at once.
const READ_AHEAD: usize = 1 << 20;

/// The state that the journal amounts to, and its end. Makes the first segment of an empty journal.
pub fn recover(store: &dyn Store) -> Result<(State, End)> {
    let listing = |error| io_error("cannot list the log's segments", &error);
    let mut segments = store.segments().map_err(listing)?;
    let mut state = State::default();
    for (index, segment) in segments.iter().enumerate() {
        if *segment != index as u32 {
            return Err(damaged(&store.name(index as u32), 0, "a segment is missing"));
        }
    }
    let newest = segments.last().copied();
    if let Some(newest) = newest
        && is_unfinished(store, newest)?
    {
        segments.pop();
    }
    let Some(last) = segments.last().copied() else {
        create(store, 0)?;
        return Ok((state, End { segment: 0, position: SEGMENT_HEADER as u64 }));
    };
    let mut end = End { segment: last, position: 0 };
    let mut version = journal::VERSION;
    for segment in segments {
        (end, version) = scan(store, segment, Some(segment) == newest, &mut state)?;
    }
    // What an older build must not misread goes into segments that it refuses by their version.
    if version < journal::VERSION {
        end = End { segment: end.segment + 1, position: SEGMENT_HEADER as u64 };
        create(store, end.segment)?;
    }
    Ok((state, end))
}

/// Whether a crash came while the segment was being made: it holds no frame and no valid header, and is made anew.
fn is_unfinished(store: &dyn Store, segment: u32) -> Result<bool> {
    let length = length(store, segment)?;
    if length < SEGMENT_HEADER as u64 {
        return Ok(true);
    }
    let header = store.read(segment, 0, SEGMENT_HEADER).map_err(|error| io_error("cannot read the log", &error))?;
    Ok(length == SEGMENT_HEADER as u64 && journal::check_segment_header(&header, segment) == Err(BadSegment::Damaged))
}

fn create(store: &dyn Store, segment: u32) -> Result<()> {
    store
        .create(segment, &journal::segment_header(segment))
        .map_err(|error| io_error(&format!("cannot write {}", store.name(segment)), &error))
}

fn length(store: &dyn Store, segment: u32) -> Result<u64> {
    store.length(segment).map_err(|error| io_error(&format!("cannot read {}", store.name(segment)), &error))
}

/// A window over a segment that moves forwards.
struct Reader<'a> {
    store: &'a dyn Store,
    segment: u32,
    length: u64,
    window_at: u64,
    window: Bytes,
}

impl Reader<'_> {
    /// Up to `length` bytes at `position`; fewer only at the end of the segment.
    fn get(&mut self, position: u64, length: usize) -> Result<Bytes> {
        let length = length.min((self.length.saturating_sub(position)) as usize);
        let window_end = self.window_at + self.window.len() as u64;
        if position < self.window_at || position + length as u64 > window_end {
            let wanted = length.max(READ_AHEAD).min((self.length - position) as usize);
            let read = self.store.read(self.segment, position, wanted);
            self.window =
                read.map_err(|error| io_error(&format!("cannot read {}", self.store.name(self.segment)), &error))?;
            self.window_at = position;
        }
        let start = (position - self.window_at) as usize;
        Ok(self.window.slice(start..start + length))
    }
}

/// Applies the frames of a segment; cuts off a torn one at the end of the last segment. Its end and its version.
fn scan(store: &dyn Store, segment: u32, is_last: bool, state: &mut State) -> Result<(End, u8)> {
    let name = store.name(segment);
    let length = length(store, segment)?;
    let mut reader = Reader { store, segment, length, window_at: 0, window: Bytes::new() };
    let version = match journal::check_segment_header(&reader.get(0, SEGMENT_HEADER)?, segment) {
        Ok(version) => version,
        Err(BadSegment::Damaged) => return Err(damaged(&name, 0, "a segment has no valid header")),
        Err(BadSegment::Version(found)) => {
            let this = journal::VERSION;
            return Err(Error::new(
                ErrorKind::FailedPrecondition,
                format!("{name} has log format version {found}, this build reads version {this}"),
            )
            .hint("use the build that wrote it, or another data directory"));
        }
    };
    let mut position = SEGMENT_HEADER as u64;
    while position < length {
        match read_frame(&mut reader, position)? {
            FrameRead::Intact { entries, payload_at, end } => {
                state
                    .apply(&entries, FramePlace { segment, frame_at: position, payload_at, frame_end: end }, None)
                    .map_err(|error| damaged(&name, position, error.message()))?;
                position = end;
            }
            FrameRead::Broken(what) => {
                let torn = is_last && !anything_after(&mut reader, position)?;
                if !torn {
                    return Err(damaged(&name, position, what));
                }
                tracing::warn!(
                    file = name,
                    offset = position,
                    bytes = length - position,
                    "cut a torn frame off the end of the log"
                );
                store.truncate(segment, position).map_err(|error| io_error(&format!("cannot write {name}"), &error))?;
                break;
            }
        }
    }
    Ok((End { segment, position }, version))
}

enum FrameRead {
    Intact { entries: Vec<Entry>, payload_at: u64, end: u64 },
    Broken(&'static str),
}

fn read_frame(reader: &mut Reader<'_>, position: u64) -> Result<FrameRead> {
    let head = reader.get(position, FRAME_HEADER)?;
    let Some(header) = FrameHeader::decode(&head, reader.segment, position) else {
        return Ok(FrameRead::Broken("a frame has no valid header"));
    };
    let meta_at = position + FRAME_HEADER as u64;
    let payload_at = meta_at + u64::from(header.meta_length);
    let end = position + header.frame_length();
    if end > reader.length {
        return Ok(FrameRead::Broken("a frame is cut short"));
    }
    let meta = reader.get(meta_at, header.meta_length as usize)?;
    if crc32fast::hash(&meta) != header.meta_crc {
        return Ok(FrameRead::Broken("a frame's meta fails its checksum"));
    }
    let entries = journal::decode_entries(&meta)?;
    let mut at = payload_at;
    for entry in &entries {
        if let Entry::Block { length, crc, .. } = entry {
            // A frame before the last was durable before the next was written: its blocks are checked when they are read.
            let is_last = end == reader.length;
            if is_last && crc32fast::hash(&reader.get(at, *length as usize)?) != *crc {
                return Ok(FrameRead::Broken("a block fails its checksum"));
            }
            at += u64::from(*length);
        }
    }
    if at != end {
        return Ok(FrameRead::Broken("a frame's blocks are not as long as its payload"));
    }
    Ok(FrameRead::Intact { entries, payload_at, end })
}

/// Whether an intact frame header follows a broken frame: then the damage is not a torn end.
fn anything_after(reader: &mut Reader<'_>, position: u64) -> Result<bool> {
    let mut at = position + 1;
    while at + FRAME_HEADER as u64 <= reader.length {
        let bytes = reader.get(at, READ_AHEAD)?;
        if journal::find_frame(&bytes, reader.segment, at).is_some() {
            return Ok(true);
        }
        at += (bytes.len() - (FRAME_HEADER - 1)).max(1) as u64;
    }
    Ok(false)
}
