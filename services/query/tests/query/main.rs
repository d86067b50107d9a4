//! The query engine over the real log, engine and state, in memory, against brute force.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod changes;
mod dataset_rows;
mod errors;
mod exports;
mod extractors;
mod history;
mod operators;
mod parity;
mod parts;
mod pins;
mod ranges;
mod several;
mod standing;
mod statuses;
mod summary;
mod world;
