//! What answers stand on: the clock, the watermark, finality, the position, known_at; and run records.

use crate::world::{HOUR, World, definitions, functions, question};
use std::sync::atomic::Ordering;
use thyme_core::error::ErrorKind;
use thyme_core::position::{KnownAt, PositionSet};
use thyme_core::time::ClockMode;
use thyme_core::value::Value;
use thyme_query::{At, Mode, Question};

/// Users whose orders reach every partition of the log.
const USERS: &[&str] = &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

fn everyone_at(time: i64) -> Vec<(&'static str, i64, i64, Option<f64>, i64)> {
    USERS.iter().map(|user| (*user, time, 1, Some(1.0), 1)).collect()
}

#[test]
fn now_is_the_event_clock_or_the_wall_clock() {
    let world = World::new(None);
    let ask = |world: &World| world.ask(question("a", &["orders"], At::Now)).unwrap();
    assert_eq!(ask(&world).standing.ts, 0);
    world.orders(&[("b", 3 * HOUR, 1, None, 1), ("a", 2 * HOUR, 1, None, 1)]);
    let answer = ask(&world);
    assert_eq!((answer.standing.ts, answer.standing.mode), (3 * HOUR, Mode::Online));
    assert_eq!(answer.columns[0].values[0].value, Value::Int(1));

    let world = World::with(definitions(None), functions(), ClockMode::Wall);
    world.clock.0.store(2 * HOUR, Ordering::SeqCst);
    world.orders(&[("a", 2 * HOUR, 1, None, 1)]);
    world.clock.0.store(9 * HOUR, Ordering::SeqCst);
    let answer = ask(&world);
    assert_eq!((answer.standing.ts, answer.columns[0].values[0].value.clone()), (9 * HOUR, Value::Int(0)));
}

#[test]
fn an_answer_is_final_below_the_watermark_of_its_partitions() {
    let world = World::new(Some("1h"));
    let ask = |features: &[&str], at: i64| world.ask(question("a", features, At::Time(at))).unwrap().standing;
    assert_eq!(ask(&["orders"], 0).watermark, None);
    world.orders(&[("a", 5 * HOUR, 1, None, 1)]);
    let direct = ask(&["orders"], 4 * HOUR - 1);
    assert_eq!((direct.watermark, direct.is_final), (Some(4 * HOUR), true));
    assert!(!ask(&["orders"], 4 * HOUR).is_final);
    // By shop any partition may bring a row, and three of four are empty.
    let routed = ask(&["shop_orders"], HOUR);
    assert_eq!((routed.watermark, routed.is_final), (None, false));
    world.orders(&everyone_at(6 * HOUR));
    let routed = ask(&["shop_orders"], 5 * HOUR - 1);
    assert_eq!((routed.watermark, routed.is_final), (Some(5 * HOUR), true));
}

#[test]
fn nothing_is_final_where_nothing_is_ever_late() {
    let world = World::new(None);
    world.orders(&everyone_at(5 * HOUR));
    let standing = world.ask(question("a", &["orders", "shop_orders"], At::Time(1))).unwrap().standing;
    assert_eq!((standing.watermark, standing.is_final), (None, false));
}

#[test]
fn a_position_gives_back_what_was_served_whatever_came_afterwards() {
    let world = World::new(None);
    world.orders(&[("a", 5 * HOUR, 1, Some(2.0), 1), ("b", 5 * HOUR, 1, Some(2.0), 1)]);
    let features = ["orders", "spend", "shop_orders", "newest_items", "biggest"];
    let first = world.ask(question("a", &features, At::Now)).unwrap();
    // Late events, before T.
    world.orders(&[("a", 5 * HOUR - 7, 1, Some(64.0), 8), ("a", 5 * HOUR, 1, Some(1.0), 9)]);
    let again = |known_at: Option<KnownAt>| {
        let mut asked = question("a", &features, At::Time(first.standing.ts));
        asked.asking.known_at = known_at;
        world.ask(asked).unwrap()
    };
    assert_ne!(again(None).columns, first.columns);
    let told = again(Some(KnownAt::Position(first.standing.position.clone())));
    assert_eq!(told.columns, first.columns);
    assert_eq!(told.standing.position, first.standing.position);
}

#[test]
fn an_append_time_hides_what_came_later() {
    let world = World::new(None);
    world.clock.0.store(100, Ordering::SeqCst);
    world.orders(&[("a", HOUR, 1, Some(2.0), 1)]);
    world.clock.0.store(101, Ordering::SeqCst);
    world.orders(&[("a", HOUR, 1, Some(4.0), 1)]);
    for (known_at, spend) in [(99, 0.0), (100, 2.0), (101, 6.0)] {
        let mut asked = question("a", &["spend"], At::Time(HOUR));
        asked.asking.known_at = Some(KnownAt::AppendTime(known_at));
        assert_eq!(world.ask(asked).unwrap().columns[0].values[0].value, Value::Float(spend));
    }
}

#[test]
fn a_position_that_does_not_cover_the_question_is_refused() {
    let world = World::new(None);
    world.orders(&everyone_at(HOUR));
    let position = world.ask(question("a", &["orders"], At::Now)).unwrap().standing.position;
    let mut asked = question("a", &["shop_orders"], At::Time(HOUR));
    asked.asking.known_at = Some(KnownAt::Position(position));
    let error = world.ask(asked.clone()).unwrap_err();
    assert_eq!((error.kind(), error.field_name()), (ErrorKind::InvalidArgument, Some("known_at")));

    let mut ahead = PositionSet::default();
    for log in 0..10 {
        (0..4).for_each(|partition| ahead.set(log, partition, 1_000));
    }
    asked.asking.known_at = Some(KnownAt::Position(ahead));
    assert_eq!(world.ask(asked).unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn a_run_says_who_was_asked_when_and_on_what() {
    let world = World::new(Some("1h"));
    world.orders(&[("a", 5 * HOUR, 1, Some(2.0), 1)]);
    let mut asked: Question = question("a", &["orders"], At::Time(HOUR));
    asked.keys = ["a", "nobody"].iter().flat_map(|user| question(user, &[], At::Now).keys).collect();
    asked.asking.api_key_fingerprint = Some("0123abcd".into());
    let answer = world.ask(asked).unwrap();
    let runs = world.runs.0.lock();
    let run = &runs[0];
    assert_eq!(*run, answer.run);
    assert_eq!(run.entity_ids, vec![serde_json::json!("a"), serde_json::json!("nobody")]);
    assert_eq!((run.row_count, run.hit_count), (2, 0));
    assert_eq!((run.requested_timestamp, run.ts), (Some(HOUR), HOUR));
    assert_eq!((run.commit_id.as_ref(), run.kind.name()), ("c1", "online"));
    assert_eq!(run.api_key_fingerprint.as_deref(), Some("0123abcd"));
    assert_eq!(run.position, answer.standing.position);
    assert_eq!(run.error, None);
    assert_eq!(run.id.len(), 36);
}
