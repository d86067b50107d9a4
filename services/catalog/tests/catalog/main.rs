//! One suite over both databases, and what is particular to each.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod addresses;
mod conformance;
mod on_postgres;
mod on_sqlite;
