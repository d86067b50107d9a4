//! The small tables beside the tries, one file each: what is stored, and how a tick writes and a snapshot reads it.

pub mod bitmap;
pub mod counters;
pub mod dedup;
pub mod erased;
pub mod meta;
pub mod progress;
pub mod rejected;
pub mod shard;
pub mod verdicts;
