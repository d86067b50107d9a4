//! The whole server on a real Kafka broker. `make test KAFKA=off` leaves out everything below `on_kafka`.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod on_kafka;
#[path = "../end_to_end/support.rs"]
#[expect(dead_code, reason = "this binary uses a part of it")]
mod support;
