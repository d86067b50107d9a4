//! Random events, random tick sizes, restarts and lost transactions: what is in state is what a naive model accepts, and the rows
//! are byte-identical however the work was cut up.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod common;

use common::*;
use proptest::prelude::*;
use std::sync::Arc;
use thyme_core::Value;
use thyme_core::key::encode_key;
use thyme_core::record::EventId;
use thyme_core::testing::cases;
use thyme_state::StateStore;

fn event() -> impl Strategy<Value = Sent> {
    let id = prop_oneof![
        4 => (0u32..40).prop_map(|row| EventId::Call { call: 7, row }),
        4 => (0u8..60).prop_map(|name| EventId::Given(vec![name].into())),
        2 => Just(EventId::None),
    ];
    let city = proptest::option::weighted(0.9, 0u8..3);
    (0u8..5, 0i64..30 * HOUR, 0u32..400, city, id).prop_map(|(user, time, cents, city, id)| Sent {
        user: format!("u{user}"),
        time: 1_700_000_000_000_000 + time / 1_000_000 * 500_000,
        amount: f64::from(cents) / 100.0,
        city: city.map(|city| format!("c{city}")),
        id,
        append_time: 1_700_000_000_000_000,
    })
}

/// A call's row number stands for one row: the SDK never sends two keys under one id.
fn sane(mut events: Vec<Sent>) -> Vec<Sent> {
    for event in &mut events {
        if let EventId::Call { row, .. } = event.id {
            event.user = format!("u{}", row % 5);
        }
    }
    events
}

fn check_against_model(world: &World, state: &Arc<StateStore>, events: &[Sent]) {
    let kept = accepted(events);
    for user in 0..5 {
        let user = format!("u{user}");
        let key = encode_key(&[Value::str(user.as_str())]).unwrap();
        let raw = essence(&stored(state, &world.raw, &key), 2);
        assert_eq!(raw, expected(&kept, |event| event.user == user));
        let direct = essence(&stored(state, &world.direct, &key), 0);
        assert_eq!(direct, expected(&kept, |event| event.user == user && event.amount > 1.0));
    }
    for city in 0..3 {
        let city = format!("c{city}");
        let key = encode_key(&[Value::str(city.as_str())]).unwrap();
        let routed = essence(&stored(state, &world.routed, &key), 0);
        assert_eq!(routed, expected(&kept, |event| event.city.as_ref() == Some(&city)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(1_000, 10_000), ..ProptestConfig::default() })]

    #[test]
    fn rows_do_not_depend_on_ticks_restarts_or_lost_transactions(
        events in proptest::collection::vec(event(), 1..120),
        ticks in proptest::collection::vec(1usize..20, 1..6),
        seed: u64,
    ) {
        let events = sane(events);
        let world = World::new();
        let calm = StateStore::in_memory().unwrap();
        world.engine(&calm, &log_with(&events), 1_000).run_to_end().unwrap();

        let (stormy, inner) = after_a_storm(&world, &events, &ticks, seed);

        check_against_model(&world, &stormy, &events);
        prop_assert_eq!(calm.digest(&world.raw).unwrap(), stormy.digest(&world.raw).unwrap());
        prop_assert_eq!(calm.digest(&world.direct).unwrap(), stormy.digest(&world.direct).unwrap());

        // The repartition log is an input of its own: whoever reads it again gets the same rows.
        let again = StateStore::in_memory().unwrap();
        world.engine(&again, &inner, 11).run_to_end().unwrap();
        prop_assert_eq!(again.digest(&world.routed).unwrap(), stormy.digest(&world.routed).unwrap());
        prop_assert_eq!(again.digest(&world.direct).unwrap(), stormy.digest(&world.direct).unwrap());
    }
}
