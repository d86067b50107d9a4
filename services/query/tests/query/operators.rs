//! Every operator through the whole path (log, engine, state, answer) equals the brute force, at random times and at the edges of
//! windows -1/0/+1 µs, and does not depend on the order in which the events came (ties kept in log order).

use crate::world::{HOUR, World, definitions, functions, wait};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use thyme_core::aggregate::oracle::{OracleEvent, expected};
use thyme_core::aggregate::{AggregateDef, AggregateOp, ColumnType, Outcome, TablePlan};
use thyme_core::decimal::Decimal;
use thyme_core::definition::CompiledDataset;
use thyme_core::key::{encode_key, partition};
use thyme_core::position::Position;
use thyme_core::schema::DataType;
use thyme_core::testing::cases;
use thyme_core::time::ClockMode;
use thyme_core::value::Value;
use thyme_core::window::Window;
use thyme_query::{Asking, Given, GivenMap, LookupAnswer, LookupQuestion};

const WINDOWS: [(&str, i64); 3] = [("1h", HOUR), ("2h", 2 * HOUR), ("forever", 0)];

/// One order, its user and its shop numbered within the case.
#[derive(Debug, Clone)]
struct Order {
    user: u8,
    shop: u8,
    time: i64,
    amount: Option<f64>,
    items: i64,
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let amount = prop_oneof![
        prop::sample::select(vec![0.0, 0.1, 1e16, -1e16, 3.25, 1e-300]),
        (-500i64..500).prop_map(|cents| cents as f64 / 100.0),
    ];
    let user = prop_oneof![4 => Just(0u8), 1 => Just(1)];
    let shop = prop_oneof![4 => Just(0u8), 1 => Just(1)];
    // Coarse times: many ties.
    let time = (0..4 * HOUR / 60_000_000).prop_map(|minute| minute * 60_000_000);
    let order = (user, shop, time, prop::option::weighted(0.8, amount), -3i64..12);
    let order = order.prop_map(|(user, shop, time, amount, items)| Order { user, shop, time, amount, items });
    prop_oneof![2 => prop::collection::vec(order.clone(), 0..40), 1 => prop::collection::vec(order, 40..260)]
}

fn operators() -> Vec<(AggregateOp, Option<&'static str>)> {
    let mut all = vec![(AggregateOp::Count, None)];
    for of in ["amount", "items", "fee"] {
        let mut list = vec![AggregateOp::Count, AggregateOp::Sum, AggregateOp::Avg, AggregateOp::Min, AggregateOp::Max];
        list.extend([None, Some(0.0), Some(50.0), Some(99.0)].map(|pct| AggregateOp::ApproxPercentile { pct }));
        for dropnull in [false, true] {
            list.extend([AggregateOp::Last { dropnull }, AggregateOp::First { dropnull }]);
            for (k, dedup) in [(3, false), (100, true)] {
                let newest = AggregateOp::LastK { k, dedup, dropnull };
                list.extend([newest, AggregateOp::FirstK { k, dedup, dropnull }]);
            }
        }
        for yes in [false, true] {
            list.extend([AggregateOp::Stddev { sample: yes }, AggregateOp::Variance { sample: yes }]);
            list.push(AggregateOp::CountDistinct { approx: yes });
        }
        list.push(AggregateOp::ExpDecaySum { half_life: "30m".to_string() });
        list.push(AggregateOp::TopK { k: 3 });
        all.extend(list.into_iter().map(|operator| (operator, Some(of))));
    }
    all
}

/// Each operator over one of the windows, every other one with a `where=`.
fn aggregates() -> Vec<AggregateDef> {
    let large = json!({"call": {"op": "gt", "args": [{"col": "items"}, {"lit": {"int": 4}}]}});
    let one = |(index, (op, of)): (usize, (AggregateOp, Option<&str>))| AggregateDef {
        name: format!("a{index}"),
        op,
        of: of.map(str::to_string),
        window: Window::parse(WINDOWS[index % 3].0).unwrap(),
        predicate: (index % 2 == 1).then(|| serde_json::from_value(large.clone()).unwrap()),
        default: None,
    };
    operators().into_iter().enumerate().map(one).collect()
}

fn type_of(column: &str) -> DataType {
    match column {
        "amount" => DataType::Float,
        "fee" => DataType::Decimal,
        _ => DataType::Int,
    }
}

/// A fee of so much per item. Sums of two large ones are beyond a Decimal.
const SMALL_FEE: i128 = 333_333_333_333_333_333;
const LARGE_FEE: i128 = 8_333_333_333_333_333_333_333_333_333_333_333_333;

/// The column `fee`, made of the items: null below -2 of them, large from 10 on.
fn fee_step() -> Json {
    let call = |op: &str, args: &[Json]| json!({"call": {"op": op, "args": args}});
    let items = json!({"col": "items"});
    let fee = |units: i128| {
        let each = Decimal::from_units(units).unwrap().to_string();
        call("mul", &[items.clone(), json!({"lit": {"decimal": each}})])
    };
    let branches = json!([
        [call("lt", &[items.clone(), json!({"lit": {"int": -2}})]), {"lit": {"null": null}}],
        [call("ge", &[items.clone(), json!({"lit": {"int": 10}})]), fee(LARGE_FEE)]
    ]);
    let when = json!({"when": {"branches": branches, "otherwise": fee(SMALL_FEE)}});
    json!({"op": "assign", "columns": [{"name": "fee", "expr": when}]})
}

fn fee_of(items: i64) -> Value {
    let each = if items >= 10 { LARGE_FEE } else { SMALL_FEE };
    if items < -2 { Value::Null } else { Value::Decimal(Decimal::from_units(i128::from(items) * each).unwrap()) }
}

/// The world of orders and two datasets of all these aggregates, by user and (through a repartition) by shop.
fn world() -> World {
    let column = |name: &str| (name.to_string(), ColumnType { data_type: type_of(name), nullable: name != "items" });
    let columns = BTreeMap::from(["amount", "items", "fee"].map(column));
    let plan = TablePlan::compile(&aggregates(), &columns).unwrap();
    let mut all = definitions(None);
    for (name, key, key_type) in [("ByUser", "user", "str"), ("ByShop", "shop", "int")] {
        let mut fields = vec![
            json!({"name": key, "type": key_type, "key": true}),
            json!({"name": "ts", "type": "datetime", "timestamp": true}),
        ];
        for (aggregate, output) in aggregates().iter().zip(&plan.outputs) {
            let data_type = serde_json::to_value(&output.result_type).unwrap();
            fields.push(json!({"name": aggregate.name, "type": data_type, "nullable": true}));
        }
        let dataset = json!({"name": name, "version": 1, "index": true, "fields": fields});
        let aggregates = serde_json::to_value(aggregates()).unwrap();
        let pipeline = json!({"name": "compute", "version": 1, "dataset": name, "input": "Order", "group_by": [key], "steps": [fee_step()], "aggregates": aggregates});
        all["datasets"].as_array_mut().unwrap().push(dataset);
        all["pipelines"].as_array_mut().unwrap().push(pipeline);
    }
    World::with(all, functions(), ClockMode::Event)
}

/// Two worlds shared by all cases, each of which has keys of its own.
fn worlds() -> &'static [World; 2] {
    static WORLDS: OnceLock<[World; 2]> = OnceLock::new();
    WORLDS.get_or_init(|| [world(), world()])
}

/// The keys of one case.
struct Keys(i64);

impl Keys {
    fn fresh() -> Keys {
        static NEXT: AtomicI64 = AtomicI64::new(100);
        Keys(NEXT.fetch_add(10, Ordering::Relaxed))
    }
    fn user(&self, number: u8) -> String {
        format!("user {} {number}", self.0)
    }
    fn shop(&self, number: u8) -> i64 {
        self.0 + i64::from(number)
    }
    fn send(&self, world: &World, orders: &[Order], chunk: usize) {
        for part in orders.chunks(chunk) {
            let users: Vec<String> = part.iter().map(|order| self.user(order.user)).collect();
            let rows: Vec<(&str, i64, i64, Option<f64>, i64)> = part
                .iter()
                .zip(&users)
                .map(|(order, user)| (user.as_str(), order.time, self.shop(order.shop), order.amount, order.items))
                .collect();
            world.orders(&rows);
        }
    }
}

/// Another order of the same events, those of one instant among each other as they were.
fn shuffled(orders: &[Order], seed: u64) -> Vec<Order> {
    let mut random = seed | 1;
    let mut next = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        random >> 33
    };
    let mut places: Vec<(u64, &Order)> = orders.iter().map(|order| (next(), order)).collect();
    places.sort_by_key(|(place, _)| *place);
    let mut mixed: Vec<Order> = places.into_iter().map(|(_, order)| order.clone()).collect();
    let mut ties: BTreeMap<i64, VecDeque<Order>> = BTreeMap::new();
    for order in orders {
        ties.entry(order.time).or_default().push_back(order.clone());
    }
    for order in &mut mixed {
        *order = ties.get_mut(&order.time).unwrap().pop_front().unwrap();
    }
    mixed
}

fn look_up(world: &World, dataset: &str, key: (&str, Value), at: i64, exclusive: bool) -> LookupAnswer {
    let question = LookupQuestion {
        dataset: dataset.to_string(),
        key: GivenMap::from([(key.0.to_string(), Given::Value(key.1))]),
        at: Some(at),
        asking: Asking { exclusive, ..Asking::default() },
    };
    wait(world.query.lookup(question)).unwrap()
}

/// The answer's value of one aggregate as the operator made it.
fn outcome(answer: &LookupAnswer, name: &str) -> Outcome {
    let field = answer.row.as_ref().unwrap().iter().find(|field| field.name.as_ref() == name).unwrap();
    let value = field.value.value.clone();
    match field.value.status.name() {
        "OK" => Outcome::Value(value),
        "DEFAULT" => Outcome::Empty(value),
        _ => Outcome::Error(field.value.status.reason().unwrap_or_default().to_string()),
    }
}

/// The events of a key as an aggregate sees them.
fn seen(orders: &[Order], dataset: &CompiledDataset, keys: &Keys, aggregate: &AggregateDef) -> Vec<OracleEvent> {
    let one = |(index, order): (usize, &Order)| {
        let user = encode_key(&[Value::str(keys.user(order.user).as_str())]).unwrap();
        OracleEvent {
            time: order.time,
            origin: Position { partition: partition(&user, dataset.partitions), offset: index as u64 },
            value: match aggregate.of.as_deref() {
                Some("amount") => order.amount.map_or(Value::Null, Value::Float),
                Some("fee") => fee_of(order.items),
                Some(_) => Value::Int(order.items),
                None => Value::Null,
            },
            counts: aggregate.predicate.is_none() || order.items > 4,
        }
    };
    orders.iter().enumerate().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1_000, 10_000)))]

    #[test]
    fn every_operator_equals_the_brute_force_in_any_order(
        orders in orders(),
        chunks in (1usize..80, 1usize..80),
        seed: u64,
        asked in prop::collection::vec((0usize..260, -1i64..2, 0usize..3, 0usize..1_000, any::<bool>(), any::<bool>()), 1..7),
    ) {
        let [straight, mixed] = worlds();
        let keys = Keys::fresh();
        keys.send(straight, &orders, chunks.0);
        keys.send(mixed, &shuffled(&orders, seed), chunks.1);
        let dataset = &straight.compiled.datasets["Order"];
        let aggregates = aggregates();
        for (near, step, window, first, by_shop, exclusive) in asked {
            let near = orders.get(near % orders.len().max(1)).map_or(HOUR, |order| order.time);
            let at = near + step + WINDOWS[window].1;
            let of_key: Vec<(usize, &Order)> =
                orders.iter().enumerate().filter(|(_, order)| if by_shop { order.shop == 0 } else { order.user == 0 }).collect();
            let (name, key) = if by_shop {
                ("ByShop", ("shop", Value::Int(keys.shop(0))))
            } else {
                ("ByUser", ("user", Value::str(keys.user(0).as_str())))
            };
            let answer = look_up(straight, name, key.clone(), at, exclusive);
            let other = look_up(mixed, name, key, at, exclusive);
            // Digests follow the trie, which places the events of one instant by their positions; all else is the same bit by bit.
            let is_digest = |aggregate: &&AggregateDef| matches!(aggregate.op, AggregateOp::ApproxPercentile { .. });
            for aggregate in aggregates.iter().filter(|aggregate| !is_digest(aggregate)) {
                let same = (outcome(&answer, &aggregate.name), outcome(&other, &aggregate.name));
                prop_assert_eq!(&same.0, &same.1, "{:?} at {} by order", aggregate, at);
            }
            // The exact arithmetic of the oracle is slow: some of the aggregates for each question, all of them over the cases.
            for aggregate in aggregates.iter().cycle().skip(first % aggregates.len()).take(12) {
                let events = seen(&orders, dataset, &keys, aggregate);
                let events: Vec<OracleEvent> = of_key.iter().map(|(index, _)| events[*index].clone()).collect();
                let of_type = aggregate.of.as_deref().map(type_of);
                let wanted = expected(aggregate, of_type.as_ref(), &events, at, exclusive);
                for answer in [&answer, &other] {
                    let got = outcome(answer, &aggregate.name);
                    prop_assert!(wanted.agrees(&got), "{aggregate:?} at {at}, exclusive {exclusive}: {wanted:?} is not {got:?}");
                }
            }
        }
    }
}
