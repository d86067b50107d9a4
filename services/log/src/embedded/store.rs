//! Where segments are kept: files of a directory, or memory. The journal above is the same code for both.

use bytes::Bytes;
use std::io;

/// Numbered, append-only byte sequences. One writer; reads may run beside it, of bytes that were written before.
pub trait Store: Send + Sync {
    /// Numbers of the segments, ascending.
    fn segments(&self) -> io::Result<Vec<u32>>;
    fn length(&self, segment: u32) -> io::Result<u64>;
    /// Makes a segment holding `header`, durable when it returns.
    fn create(&self, segment: u32, header: &[u8]) -> io::Result<()>;
    /// Writes at the end, which is at `position`.
    fn append(&self, segment: u32, position: u64, bytes: &Bytes) -> io::Result<()>;
    /// Makes what was appended durable.
    fn sync(&self, segment: u32) -> io::Result<()>;
    /// Cuts the segment to `length`, durable when it returns.
    fn truncate(&self, segment: u32, length: u64) -> io::Result<()>;
    /// Exactly `length` bytes at `position`; `UnexpectedEof` if there are fewer.
    fn read(&self, segment: u32, position: u64, length: usize) -> io::Result<Bytes>;
    /// For messages.
    fn name(&self, segment: u32) -> String;
    /// Lets go of whatever keeps other processes out.
    fn unlock(&self);
}
