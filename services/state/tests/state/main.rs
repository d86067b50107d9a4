//! The state layer against a brute force over plain lists of events.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod canonical;
mod checkpoints;
mod digests;
mod listing;
mod reads;
mod stores;
mod tables;
mod workload;
