//! The query engine over the real log, engine and state, in memory, against brute force.

mod errors;
mod exports;
mod extractors;
mod parity;
mod standing;
mod statuses;
mod world;
