//! Events and erases of a few users by chance, for chains of pipelines.

use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use thyme_core::record::EventId;
use thyme_log::{EmbeddedLog, EventLog};

pub const START: i64 = 1_700_000_000_000_000;
pub const MINUTE: i64 = HOUR / 60;

pub fn event(users: u8) -> impl Strategy<Value = Sent> {
    let id = prop_oneof![1 => (0u8..60).prop_map(|name| EventId::Given(vec![name].into())), 3 => Just(EventId::None)];
    let city = proptest::option::weighted(0.9, 0u8..3);
    (0..users, 0i64..30 * HOUR, 0u32..16, city, id).prop_map(|(user, time, quarters, city, id)| Sent {
        user: format!("u{user}"),
        // Minutes, so that events lie at the ends of windows.
        time: START + time / MINUTE * MINUTE,
        // Quarters, so that a sum is the same in any order.
        amount: f64::from(quarters) / 4.0,
        city: city.map(|city| format!("c{city}")),
        id,
        append_time: START,
    })
}

pub fn written(users: u8) -> impl Strategy<Value = Written> {
    prop_oneof![8 => event(users).prop_map(Written::Event), 1 => (0..users).prop_map(|user| Written::Erase(format!("u{user}")))]
}

pub fn new_log() -> Arc<dyn EventLog> {
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    append(&log, Vec::new());
    log
}
