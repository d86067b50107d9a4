//! `history=`: above the horizon every answer is that of a world that keeps everything, below it there is none.

use crate::world::{HOUR, World, definitions, functions, question, wait};
use proptest::prelude::*;
use thyme_core::error::ErrorKind;
use thyme_core::position::KnownAt;
use thyme_core::testing::cases;
use thyme_core::time::ClockMode;
use thyme_core::value::Value;
use thyme_query::{Asking, At, Given, GivenMap, LookupQuestion, Question, Status};

const USERS: &[&str] = &["a", "b", "c", "d", "e", "f"];
const FEATURES: &[&str] = &["orders", "items", "spend", "mean", "last_amount", "newest_items"];

/// The usual world without its endless window, with or without a history.
fn world(history: Option<&str>) -> World {
    let mut definitions = definitions(Some("1h"));
    definitions["datasets"][0]["history"] = history.into();
    let aggregates = definitions["pipelines"][0]["aggregates"].as_array_mut().unwrap();
    aggregates.iter_mut().for_each(|aggregate| {
        if aggregate["window"] == "forever" {
            aggregate["window"] = "2h".into();
        }
    });
    World::with(definitions, functions(), ClockMode::Event)
}

fn lookup(user: &str, at: i64) -> LookupQuestion {
    LookupQuestion {
        dataset: "UserStats".to_string(),
        key: GivenMap::from([("user".to_string(), Given::Text(user.to_string()))]),
        at: Some(at),
        asking: Asking::default(),
    }
}

type Order = (usize, i64, i64, Option<u32>, i64);

fn add(world: &World, orders: &[Order], before: usize) {
    let rows = orders.iter().enumerate().map(|(index, (user, jitter, shop, amount, items))| {
        let time = 100 * HOUR + (before + index) as i64 * HOUR / 2 + jitter;
        (USERS[*user], time, *shop, amount.map(|cents| f64::from(cents) / 100.0), *items)
    });
    world.orders(&rows.collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(60, 600), ..ProptestConfig::default() })]

    #[test]
    fn answers_above_the_horizon_are_those_of_everything(
        orders in proptest::collection::vec(
            (0..USERS.len(), -2 * HOUR..HOUR, 0i64..3, proptest::option::of(0u32..500), -1i64..9), 30..100),
        asked in proptest::collection::vec((0..USERS.len(), 90 * HOUR..160 * HOUR, any::<bool>()), 30),
        cut in 1usize..30,
    ) {
        let (kept, all) = (world(Some("5h")), world(None));
        for world in [&kept, &all] {
            add(world, &orders[..cut], 0);
        }
        let position = kept.ask(question("a", &FEATURES[..1], At::Now)).unwrap().standing.position;
        for world in [&kept, &all] {
            add(world, &orders[cut..], cut);
        }
        for (user, time, exclusive) in asked {
            for features in [FEATURES, &["shop_orders", "shop_large"]] {
                let asking = Asking { exclusive, ..Asking::default() };
                let ask = Question { asking, ..question(USERS[user], features, At::Time(time)) };
                let everything = all.ask(ask.clone()).unwrap();
                let horizon = everything.standing.watermark.map(|watermark| watermark - 5 * HOUR);
                match kept.ask(ask) {
                    Ok(answer) => {
                        prop_assert!(horizon.is_none_or(|horizon| time >= horizon));
                        prop_assert_eq!(&answer.columns, &everything.columns);
                    }
                    Err(error) => {
                        prop_assert!(time < horizon.unwrap());
                        prop_assert_eq!(error.kind(), ErrorKind::OutOfRange);
                    }
                }
            }
            // What was known at an earlier position, as long as T is within the horizon of now.
            let asking = Asking { known_at: Some(KnownAt::Position(position.clone())), exclusive, ..Asking::default() };
            let ask = Question { asking, ..question("a", FEATURES, At::Time(time)) };
            if let Ok(answer) = kept.ask(ask.clone()) {
                prop_assert_eq!(answer.columns, all.ask(ask).unwrap().columns);
            }
        }
    }
}

#[test]
fn too_early_a_time_is_an_error_that_names_the_horizon() {
    let world = world(Some("5h"));
    let start = 100 * HOUR;
    // Of every partition, so that the shops have a watermark too.
    let users: Vec<String> = (0..16).map(|user| format!("u{user}")).collect();
    for hour in 0..30 {
        let mut rows: Vec<_> = users.iter().map(|user| (user.as_str(), start + hour * HOUR, 1, Some(1.0), 1)).collect();
        rows.push(("a", start + hour * HOUR, 1, Some(1.0), 1));
        world.orders(&rows);
    }
    // The newest event is of hour 129, the watermark an hour below, the horizon five hours below that.
    let horizon = 123 * HOUR;
    let value =
        |feature: &str, at: At| world.ask(question("a", &[feature], at)).map(|answer| answer.columns[0].values.clone());
    for feature in ["orders", "shop_orders", "newest_items", "double"] {
        assert!(value(feature, At::Time(horizon)).unwrap()[0].status == Status::Ok, "{feature}");
        assert!(value(feature, At::Now).is_ok());
        let error = value(feature, At::Time(horizon - 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfRange);
        assert_eq!(
            error.message(),
            "1970-01-06T02:59:59.999999Z is before the horizon 1970-01-06T03:00:00Z: 'Order' has history=5h below its watermark"
        );
        assert!(error.to_string().contains("ask at the horizon or later"), "{error}");
    }
    let explained = wait(world.query.explain(question("a", &["orders"], At::Time(horizon - 1))));
    assert_eq!(explained.unwrap_err().kind(), ErrorKind::OutOfRange);
    assert!(wait(world.query.explain(question("a", &["orders"], At::Time(horizon)))).is_ok());
    assert_eq!(wait(world.query.lookup(lookup("a", horizon - 1))).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert!(wait(world.query.lookup(lookup("a", horizon))).is_ok());
    // An extractor's lookup fails its own outputs only.
    let seen = value("seen", At::Time(horizon - 1)).unwrap();
    assert!(matches!(&seen[0].status, Status::Error(reason) if reason.contains("is before the horizon")), "{seen:?}");
    assert_eq!(value("seen", At::Time(horizon)).unwrap()[0].value, Value::Int(2));
    // In a spine each row has its own T.
    let mut spine = question("a", &["orders", "spend"], At::Each(vec![Some(horizon - 1), Some(horizon)]));
    spine.keys = vec![spine.keys[0].clone(); 2];
    let answer = world.ask(spine).unwrap();
    for column in &answer.columns {
        assert!(matches!(&column.values[0].status, Status::Error(reason) if reason.contains("is before the horizon")));
        assert!(column.values[0].value.is_null());
        assert_eq!(column.values[1].status, Status::Ok);
    }
}
