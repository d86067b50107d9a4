//! The log on a real Kafka broker. `make test KAFKA=off` leaves out everything below `on_kafka`.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod on_kafka;
