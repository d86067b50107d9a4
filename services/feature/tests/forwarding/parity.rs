//! Whoever is asked, the answer is that of a node that holds everything.

use crate::nodes::Node;
use crate::world::{HOUR, NATIVE, World, definitions, functions, wait};
use proptest::prelude::*;
use thyme_core::position::KnownAt;
use thyme_core::testing::cases;
use thyme_core::time::ClockMode;
use thyme_core::value::Value;
use thyme_query::{Answer, Asking, At, Given, GivenMap, LookupAnswer, LookupQuestion, Question, RunKind, RunRecord};

const SLICES: u16 = 4;
const NOW: i64 = 3 * HOUR;

type Order = (&'static str, i64, i64, Option<f64>, i64);

fn orders(most: usize) -> impl Strategy<Value = Vec<Order>> {
    let user = prop::sample::select(vec!["a", "b", "c", "e"]);
    let amount = prop::option::weighted(0.8, prop::sample::select(vec![0.1, 1e16, -1e16, 3.25, 0.0]));
    let order = (user, 0..6 * HOUR / 1_000_000, 1i64..9, amount, -2i64..9);
    let order = order.prop_map(|(user, time, shop, amount, items)| (user, time * 1_000_000, shop, amount, items));
    prop::collection::vec(order, 0..most)
}

/// A row that is asked: user (or none), shop, its time (or none), and the request feature.
type Row = (Option<&'static str>, i64, Option<i64>, i64);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let user = prop::option::weighted(0.9, prop::sample::select(vec!["a", "b", "c", "d", "e"]));
    let time = prop::option::weighted(0.9, (0i64..9).prop_map(|hour| hour * HOUR));
    prop::collection::vec((user, 1i64..9, time, -9i64..9), 1..30)
}

#[derive(Debug, Clone)]
enum When {
    Now,
    At(i64),
    Each,
}

fn asked(rows: &[Row], features: &[String], when: &When, asking: &Asking) -> Question {
    let is_spine = matches!(when, When::Each);
    let key = |(user, shop, ..): &Row| {
        // Only a spine may have a null in its keys.
        let user = if is_spine { user.map_or(Value::Null, Value::str) } else { Value::str(user.unwrap_or("d")) };
        GivenMap::from([("uid".to_string(), Given::Value(user)), ("shop".to_string(), Given::Value(Value::Int(*shop)))])
    };
    let input = |row: &Row| GivenMap::from([("limit".to_string(), Given::Value(Value::Int(row.3)))]);
    Question {
        featureset: "F".to_string(),
        keys: rows.iter().map(key).collect(),
        inputs: rows.iter().map(input).collect(),
        features: Some(features.to_vec()),
        at: match when {
            When::Now => At::Now,
            When::At(time) => At::Time(*time),
            When::Each => At::Each(rows.iter().map(|row| row.2).collect()),
        },
        asking: asking.clone(),
        kind: RunKind::Batch,
    }
}

/// A run without what differs from one question to the next.
fn settled(run: &RunRecord) -> RunRecord {
    RunRecord { id: "".into(), latency_us: 0, ..run.clone() }
}

/// All of an answer. A text tells 0.0 and -0.0 apart, and an int and a float.
fn told(answer: &Answer) -> String {
    format!("{:?} {:?} {:?} {:?}", answer.keys, answer.columns, answer.standing, settled(&answer.run))
}

fn told_row(answer: &LookupAnswer) -> String {
    format!("{:?} {:?} {:?} {:?}", answer.key, answer.row, answer.standing, settled(&answer.run))
}

/// What each of three nodes holds; the last holds everything.
fn holdings() -> impl Strategy<Value = Vec<Vec<u16>>> {
    prop::collection::vec(1u8..4, usize::from(SLICES)).prop_map(|of_slice| {
        let held = |node: u8| (0..SLICES).zip(&of_slice).filter(move |(_, nodes)| **nodes & node != 0);
        let held = |node: u8| held(node).map(|(slice, _)| slice).collect::<Vec<u16>>();
        vec![held(1), held(2), (0..SLICES).collect()]
    })
}

fn features() -> impl Strategy<Value = Vec<String>> {
    let all: Vec<&str> = NATIVE.iter().copied().chain(["double", "busy", "uid", "seen"]).collect();
    let some = prop::sample::subsequence(all.clone(), 1..all.len());
    some.prop_map(|names| names.into_iter().map(str::to_string).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(48, 480), ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_asked_answers_as_one_that_holds_everything(
        first in orders(80),
        then in orders(40),
        rows in rows(),
        features in features(),
        when in prop_oneof![Just(When::Now), (0i64..9).prop_map(|hour| When::At(hour * HOUR)), Just(When::Each)],
        holdings in holdings(),
        exclusive: bool,
        is_event_clock: bool,
        lateness in prop::option::of(Just("2h")),
    ) {
        let clock = if is_event_clock { ClockMode::Event } else { ClockMode::Wall };
        let world = World::sliced(definitions(lateness), functions(), clock, SLICES);
        world.clock.0.store(NOW, std::sync::atomic::Ordering::SeqCst);
        world.orders(&first);
        let nodes: Vec<Node> = holdings.iter().map(|held| Node::start(&world, held)).collect();
        for node in &nodes {
            let others: Vec<&Node> = nodes.iter().filter(|other| other.url != node.url).collect();
            node.knows(&others);
        }
        let question = asked(&rows, &features, &when, &Asking { exclusive, ..Asking::default() });
        let whole = world.ask(question.clone()).unwrap();
        for node in &nodes {
            let answer = node.ask(question.clone()).unwrap();
            prop_assert_eq!(told(&answer), told(&whole));
            let runs: Vec<RunRecord> = nodes.iter().flat_map(|node| std::mem::take(&mut *node.runs.0.lock())).collect();
            prop_assert_eq!(runs, vec![answer.run.clone()], "recorded once, by the node that was asked");
        }

        // The bits that were served, from what is known by then.
        world.orders(&then);
        let known_at = Some(KnownAt::Position(whole.standing.position.clone()));
        let when = match when {
            When::Now => When::At(whole.standing.ts),
            other => other,
        };
        let question = asked(&rows, &features, &when, &Asking { exclusive, known_at, ..Asking::default() });
        let again = world.ask(question.clone()).unwrap();
        prop_assert_eq!(format!("{:?}", again.columns), format!("{:?}", whole.columns));
        for node in &nodes {
            prop_assert_eq!(told(&node.ask(question.clone()).unwrap()), told(&again));
        }

        for (dataset, key) in [("UserStats", "user"), ("Order", "user"), ("ShopStats", "shop")] {
            for (user, shop, time, _) in rows.iter().take(4) {
                let value = if key == "shop" { Value::Int(*shop) } else { Value::str(user.unwrap_or("d")) };
                let question = LookupQuestion {
                    dataset: dataset.to_string(),
                    key: GivenMap::from([(key.to_string(), Given::Value(value))]),
                    at: *time,
                    asking: Asking { exclusive, ..Asking::default() },
                };
                let whole = wait(world.query.lookup(question.clone())).unwrap();
                for node in &nodes {
                    let answer = node.wait(node.query.lookup(question.clone())).unwrap();
                    prop_assert_eq!(told_row(&answer), told_row(&whole));
                }
            }
        }
    }
}

/// What an answer stands on is as far as the partition that is furthest behind, wherever that is.
#[test]
fn a_watermark_is_that_of_the_node_that_is_behind() {
    let world = World::sliced(definitions(Some("2h")), functions(), ClockMode::Event, SLICES);
    let users: Vec<String> = (0..96).map(|user| format!("u{user}")).collect();
    let order = |(user, name)| (name, 100 * HOUR + user, 1, Some(1.0), 1);
    world.orders(&(0..).zip(users.iter().map(String::as_str)).map(order).collect::<Vec<_>>());
    let nodes = [Node::start(&world, &[0, 2]), Node::start(&world, &[1, 3])];
    nodes[0].knows(&[&nodes[1]]);
    nodes[1].knows(&[&nodes[0]]);
    let key = |name: &String| GivenMap::from([("uid".to_string(), Given::Text(name.clone()))]);
    let question = |keys: Vec<GivenMap>| {
        let when = When::At(200 * HOUR);
        let asked = asked(&[], &["orders".to_string()], &when, &Asking::default());
        Question { keys, inputs: Vec::new(), ..asked }
    };
    let watermark = |name| world.ask(question(vec![key(name)])).unwrap().standing.watermark;
    let least = users.iter().map(watermark).min().unwrap();
    assert!(least.is_some());
    let (mut ahead, mut behind) = (0, 0);
    for one in &users[..12] {
        for other in &users[..12] {
            let asked = question(vec![key(one), key(other)]);
            let whole = world.ask(asked.clone()).unwrap();
            for node in &nodes {
                assert_eq!(told(&node.ask(asked.clone()).unwrap()), told(&whole), "{one} {other}");
            }
            if whole.standing.watermark == least { behind += 1 } else { ahead += 1 }
        }
    }
    assert!(ahead > 0 && behind > 0, "{ahead} {behind}");
}

/// A time before the horizon of a dataset is refused by whoever reads, in the same words; in a spine its row is an ERROR.
#[test]
fn a_horizon_is_that_of_the_slice_that_is_read() {
    let mut definitions = definitions(Some("1h"));
    definitions["datasets"][0]["history"] = "5h".into();
    let aggregates = definitions["pipelines"][0]["aggregates"].as_array_mut().unwrap();
    aggregates.iter_mut().filter(|aggregate| aggregate["window"] == "forever").for_each(|aggregate| {
        aggregate["window"] = "2h".into();
    });
    let world = World::sliced(definitions, functions(), ClockMode::Event, SLICES);
    let users: Vec<String> = (0..24).map(|user| format!("u{user}")).collect();
    for hour in 0..20 {
        // Partitions are as far as their users are.
        let time = |user: usize| (100 + hour) * HOUR + user as i64;
        let rows = users.iter().enumerate().map(|(user, name)| (name.as_str(), time(user), 1, Some(1.0), 1));
        world.orders(&rows.collect::<Vec<_>>());
    }
    let nodes = [Node::start(&world, &[0, 2]), Node::start(&world, &[1, 3])];
    nodes[0].knows(&[&nodes[1]]);
    nodes[1].knows(&[&nodes[0]]);
    let features: Vec<String> = ["orders", "spend", "newest_items", "double"].map(str::to_string).to_vec();
    let (mut answered, mut refused) = (0, 0);
    for (user, name) in (0..).zip(&users) {
        let key = GivenMap::from([("uid".to_string(), Given::Text(name.clone()))]);
        for time in [112 * HOUR, 113 * HOUR + user, 115 * HOUR] {
            let row: Row = (None, 1, Some(time), 1);
            for when in [When::At(time), When::Each] {
                let question = Question {
                    keys: vec![key.clone()],
                    inputs: Vec::new(),
                    ..asked(&[row], &features, &when, &Asking::default())
                };
                let whole = world.ask(question.clone()).map(|answer| told(&answer)).map_err(|error| error.to_string());
                for node in &nodes {
                    let answer = node.ask(question.clone()).map(|answer| told(&answer));
                    assert_eq!(answer.map_err(|error| error.to_string()), whole, "{name}");
                }
                if whole.is_ok() { answered += 1 } else { refused += 1 }
            }
        }
    }
    assert!(answered > 0 && refused > 0, "{answered} {refused}");
}
