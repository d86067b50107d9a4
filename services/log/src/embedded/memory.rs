//! Segments in memory, for tests and notebooks.

use super::store::Store;
use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Per segment: what was written, by position. Reads within one write are slices of it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    segments: Arc<RwLock<BTreeMap<u32, BTreeMap<u64, Bytes>>>>,
}

fn end_of(writes: &BTreeMap<u64, Bytes>) -> u64 {
    writes.last_key_value().map_or(0, |(position, bytes)| position + bytes.len() as u64)
}

impl Store for MemoryStore {
    fn segments(&self) -> io::Result<Vec<u32>> {
        Ok(self.segments.read().keys().copied().collect())
    }

    fn length(&self, segment: u32) -> io::Result<u64> {
        let segments = self.segments.read();
        segments.get(&segment).map(end_of).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&self, segment: u32, header: &[u8]) -> io::Result<()> {
        self.segments.write().insert(segment, BTreeMap::from([(0, Bytes::copy_from_slice(header))]));
        Ok(())
    }

    fn append(&self, segment: u32, position: u64, bytes: &Bytes) -> io::Result<()> {
        let mut segments = self.segments.write();
        let writes = segments.get_mut(&segment).ok_or(io::ErrorKind::NotFound)?;
        writes.insert(position, bytes.clone());
        Ok(())
    }

    fn sync(&self, _segment: u32) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, segment: u32, length: u64) -> io::Result<()> {
        let mut segments = self.segments.write();
        let writes = segments.get_mut(&segment).ok_or(io::ErrorKind::NotFound)?;
        writes.split_off(&length);
        if let Some((position, bytes)) = writes.iter_mut().next_back() {
            bytes.truncate((length - position) as usize);
        }
        Ok(())
    }

    fn read(&self, segment: u32, position: u64, length: usize) -> io::Result<Bytes> {
        let segments = self.segments.read();
        let writes = segments.get(&segment).ok_or(io::ErrorKind::NotFound)?;
        if position + length as u64 > end_of(writes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let first = writes.range(..=position).next_back().map_or(0, |(at, _)| *at);
        let mut joined = BytesMut::new();
        for (at, bytes) in writes.range(first..) {
            let start = (position + joined.len() as u64 - at) as usize;
            let end = bytes.len().min(start + length - joined.len());
            if joined.is_empty() && end - start == length {
                return Ok(bytes.slice(start..end));
            }
            joined.extend_from_slice(&bytes[start..end]);
            if joined.len() == length {
                break;
            }
        }
        Ok(joined.freeze())
    }

    fn name(&self, segment: u32) -> String {
        format!("segment {segment} in memory")
    }

    fn unlock(&self) {}
}
