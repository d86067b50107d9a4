//! The journal's bytes. A segment file is a header and frames; a frame is one atomic write.
//!
//! ```text
//! segment header, 24 bytes: "THYMELOG" | version u8 | 0 u8 u8 u8 | segment u32 | 0 u32 | crc of the 20 bytes before
//! frame header, 36 bytes:   magic u32 | segment u32 | position u64 | meta length u32 | payload length u64 | meta crc u32 |
//!                           crc of the 32 bytes before
//! meta:    entries, each a kind byte and varints (see [`Entry`])
//! payload: the blocks that the meta lists, one after the other
//! block:   per record: varint key length, key, varint value length, value; in a block with headers then their varint number,
//!          and for each varint name length, name, varint value length, value
//! ```
//! Numbers are little-endian, checksums CRC-32 (IEEE). A frame header holds its own place, so that a copy of a frame inside a
//! record's value is never taken for a frame. The format is frozen by its version byte; kinds are never reused.
//! Version 2 has blocks with headers (kind 6); all else is as in version 1, whose segments are read and no longer written to.

use thyme_core::record::{put_varint, take_varint};
use thyme_core::{Error, Result};

pub const VERSION: u8 = 2;
/// The oldest version that is read.
pub const OLDEST: u8 = 1;
pub const SEGMENT_HEADER: usize = 24;
pub const FRAME_HEADER: usize = 36;
const SEGMENT_MAGIC: &[u8; 8] = b"THYMELOG";
const FRAME_MAGIC: u32 = 0x4d52_4654; // "TFRM"

/// One thing that a frame does. Topics are named by a number that is never reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// `count` records of a partition from `base` on, in the next `length` bytes of the payload.
    Block {
        topic: u32,
        partition: u16,
        base: u64,
        count: u32,
        length: u32,
        crc: u32,
        /// Whether its records carry headers.
        headers: bool,
    },
    CreateTopic {
        topic: u32,
        name: String,
        partitions: u16,
    },
    DeleteTopic {
        topic: u32,
    },
    /// A producer of this id was made: earlier epochs are fenced.
    Producer {
        id: String,
        epoch: u64,
    },
    /// `group` goes on at `next`.
    Offset {
        group: String,
        topic: u32,
        partition: u16,
        next: u64,
    },
}

pub fn segment_header(segment: u32) -> [u8; SEGMENT_HEADER] {
    segment_header_of(VERSION, segment)
}

fn segment_header_of(version: u8, segment: u32) -> [u8; SEGMENT_HEADER] {
    let mut out = [0; SEGMENT_HEADER];
    out[..8].copy_from_slice(SEGMENT_MAGIC);
    out[8] = version;
    out[12..16].copy_from_slice(&segment.to_le_bytes());
    let crc = crc32fast::hash(&out[..20]);
    out[20..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Why a segment header was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum BadSegment {
    Damaged,
    Version(u8),
}

/// The version of the segment.
pub fn check_segment_header(bytes: &[u8], segment: u32) -> Result<u8, BadSegment> {
    if bytes.len() < SEGMENT_HEADER || &bytes[..8] != SEGMENT_MAGIC {
        return Err(BadSegment::Damaged);
    }
    // The version comes first: a later format may keep its checksum elsewhere.
    let version = bytes[8];
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(BadSegment::Version(version));
    }
    if bytes[..SEGMENT_HEADER] != segment_header_of(version, segment) {
        return Err(BadSegment::Damaged);
    }
    Ok(version)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    pub meta_length: u32,
    pub payload_length: u64,
    pub meta_crc: u32,
}

impl FrameHeader {
    /// Length of the whole frame.
    pub fn frame_length(&self) -> u64 {
        FRAME_HEADER as u64 + u64::from(self.meta_length) + self.payload_length
    }

    pub fn encode(&self, segment: u32, position: u64) -> [u8; FRAME_HEADER] {
        let mut out = [0; FRAME_HEADER];
        out[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&segment.to_le_bytes());
        out[8..16].copy_from_slice(&position.to_le_bytes());
        out[16..20].copy_from_slice(&self.meta_length.to_le_bytes());
        out[20..28].copy_from_slice(&self.payload_length.to_le_bytes());
        out[28..32].copy_from_slice(&self.meta_crc.to_le_bytes());
        let crc = crc32fast::hash(&out[..32]);
        out[32..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` unless the bytes begin with an intact header of a frame at this very place.
    pub fn decode(bytes: &[u8], segment: u32, position: u64) -> Option<FrameHeader> {
        let head = bytes.first_chunk::<FRAME_HEADER>()?;
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let intact = u32_at(0) == FRAME_MAGIC
            && u32_at(4) == segment
            && u64_at(8) == position
            && u32_at(32) == crc32fast::hash(&head[..32]);
        intact.then(|| FrameHeader { meta_length: u32_at(16), payload_length: u64_at(20), meta_crc: u32_at(28) })
    }
}

/// The first place in `bytes` that may be a frame header, to tell damage in the middle from a torn end.
pub fn find_frame(bytes: &[u8], segment: u32, position: u64) -> Option<usize> {
    let magic = FRAME_MAGIC.to_le_bytes();
    (0..bytes.len().saturating_sub(FRAME_HEADER - 1)).find(|&at| {
        bytes[at..].starts_with(&magic) && FrameHeader::decode(&bytes[at..], segment, position + at as u64).is_some()
    })
}

/// A whole frame for this place: header, meta, payload.
pub fn encode_frame(segment: u32, position: u64, entries: &[Entry], payload: &[&[u8]]) -> Vec<u8> {
    let payload_length: usize = payload.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(FRAME_HEADER + entries.len() * 24 + payload_length);
    frame.resize(FRAME_HEADER, 0);
    for entry in entries {
        encode_entry(entry, &mut frame);
    }
    let header = FrameHeader {
        meta_length: (frame.len() - FRAME_HEADER) as u32,
        payload_length: payload_length as u64,
        meta_crc: crc32fast::hash(&frame[FRAME_HEADER..]),
    };
    frame[..FRAME_HEADER].copy_from_slice(&header.encode(segment, position));
    for part in payload {
        frame.extend_from_slice(part);
    }
    frame
}

fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    match entry {
        Entry::Block { topic, partition, base, count, length, crc, headers } => {
            out.push(if *headers { 6 } else { 1 });
            put_varint(out, u64::from(*topic));
            put_varint(out, u64::from(*partition));
            put_varint(out, *base);
            put_varint(out, u64::from(*count));
            put_varint(out, u64::from(*length));
            out.extend_from_slice(&crc.to_le_bytes());
        }
        Entry::CreateTopic { topic, name, partitions } => {
            out.push(2);
            put_varint(out, u64::from(*topic));
            put_text(out, name);
            put_varint(out, u64::from(*partitions));
        }
        Entry::DeleteTopic { topic } => {
            out.push(3);
            put_varint(out, u64::from(*topic));
        }
        Entry::Producer { id, epoch } => {
            out.push(4);
            put_text(out, id);
            put_varint(out, *epoch);
        }
        Entry::Offset { group, topic, partition, next } => {
            out.push(5);
            put_text(out, group);
            put_varint(out, u64::from(*topic));
            put_varint(out, u64::from(*partition));
            put_varint(out, *next);
        }
    }
}

pub fn decode_entries(mut meta: &[u8]) -> Result<Vec<Entry>> {
    let rest = &mut meta;
    let mut entries = Vec::new();
    while let Some((kind, tail)) = rest.split_first() {
        *rest = tail;
        entries.push(match *kind {
            1 | 6 => Entry::Block {
                headers: *kind == 6,
                topic: take_number(rest)?,
                partition: take_number(rest)?,
                base: take_varint(rest)?,
                count: take_number(rest)?,
                length: take_number(rest)?,
                crc: take_crc(rest)?,
            },
            2 => {
                Entry::CreateTopic { topic: take_number(rest)?, name: take_text(rest)?, partitions: take_number(rest)? }
            }
            3 => Entry::DeleteTopic { topic: take_number(rest)? },
            4 => Entry::Producer { id: take_text(rest)?, epoch: take_varint(rest)? },
            5 => Entry::Offset {
                group: take_text(rest)?,
                topic: take_number(rest)?,
                partition: take_number(rest)?,
                next: take_varint(rest)?,
            },
            _ => return Err(broken()),
        });
    }
    Ok(entries)
}

fn broken() -> Error {
    Error::data_loss("a frame of the log does not decode")
}

fn take_number<T: TryFrom<u64>>(rest: &mut &[u8]) -> Result<T> {
    T::try_from(take_varint(rest)?).map_err(|_| broken())
}

fn take_crc(rest: &mut &[u8]) -> Result<u32> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
    *rest = tail;
    Ok(u32::from_le_bytes(*head))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn take_text(rest: &mut &[u8]) -> Result<String> {
    let length: usize = take_number(rest)?;
    let (head, tail) = rest.split_at_checked(length).ok_or_else(broken)?;
    *rest = tail;
    String::from_utf8(head.to_vec()).map_err(|_| broken())
}
