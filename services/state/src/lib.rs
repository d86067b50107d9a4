//! The state layer: a pure function of the accepted events, kept in RocksDB.
//!
//! Per (table, key) the events stand in a *packed time trie* ([`trie`]): rows of up to 64 events, and above them pages that list
//! stretches of time with their partials, so that any window at any time is read through its two edges. Around it stand small
//! typed tables, one file each ([`tables`]). All writes go through a [`Tick`], which becomes one atomic write; all reads go
//! through a [`Snapshot`]. This crate is the only one that knows RocksDB.

mod closing;
mod codec;
mod digest;
mod kept;
mod keys;
mod model;
mod rocks;
mod snapshot;
mod states;
mod store;
mod tables;
mod tick;
mod trie;

pub use closing::Closing;
pub use digest::{Digest, StateDigest};
pub use model::{Durability, Event, Options, Table, Visible};
pub use snapshot::{EventsFrom, Snapshot};
pub use states::{Elsewhere, HeldNow, Snapshots, States};
pub use store::StateStore;
pub use tables::bitmap::{BITMAP_BITS, Bitmap};
pub use tables::counters::{CounterScope, Counters};
pub use tables::dedup::{DedupId, DedupKey};
pub use tables::rejected::Rejected;
pub use tables::shard::{Acceptance, SourceProgress};
pub use tick::Tick;
pub use trie::sweep::{Sweeper, Way, slides};
