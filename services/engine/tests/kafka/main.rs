//! The engine on a real Kafka broker. `make test KAFKA=off` leaves out everything below `on_kafka`.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

#[path = "../common/mod.rs"]
mod common;
mod on_kafka;
