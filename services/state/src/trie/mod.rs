//! The packed time trie: per (table, key) all events, in rows of up to 64 ([`leaf`]), under pages that list stretches of time with
//! their partials ([`page`]). It is canonical: its rows depend only on the set of events. Writing is [`insert`], going through
//! it [`walk`], windows at one time [`read`], windows at many times [`sweep`].

mod ahead;
pub mod blocks;
mod blockwise;
mod body;
pub mod coordinate;
mod digests;
mod extremes;
pub mod insert;
pub mod leaf;
mod loaded;
mod page;
mod plain;
pub mod read;
pub mod row_cache;
pub mod scan;
pub mod sweep;
mod totals;
pub mod walk;
