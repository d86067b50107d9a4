//! Online, point in time and export give the same bits, and these are those of a brute force over all events.

use crate::world::{HOUR, NATIVE, World, definitions, functions, question, wait};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use proptest::prelude::*;
use std::sync::Arc;
use thyme_core::aggregate::Outcome;
use thyme_core::aggregate::oracle::{OracleEvent, expected};
use thyme_core::position::Position;
use thyme_core::schema::DataType;
use thyme_core::testing::cases;
use thyme_core::time::ClockMode;
use thyme_core::value::Value;
use thyme_query::{At, ExportQuestion};

type Order = (&'static str, i64, i64, Option<f64>, i64);

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let user = prop::sample::select(vec!["a", "b", "c"]);
    let amount = prop::option::weighted(0.8, prop::sample::select(vec![0.1, 1e16, -1e16, 3.25, 1e-300]));
    let order = (user, 0..6 * HOUR / 1000, 1i64..3, amount, -2i64..9);
    let order = order.prop_map(|(user, time, shop, amount, items)| (user, time / 900 * 900_000, shop, amount, items));
    prop::collection::vec(order, 0..120)
}

/// The value of an aggregate of UserStats by brute force.
fn by_force(world: &World, orders: &[Order], aggregate: &str, user: &str, at: i64, exclusive: bool) -> Outcome {
    let pipelines = &world.compiled.definitions.pipelines;
    let pipeline = pipelines.iter().find(|pipeline| pipeline.dataset == "UserStats").unwrap();
    let definition = pipeline.aggregates.iter().find(|known| known.name == aggregate).unwrap();
    let value = |order: &Order| match definition.of.as_deref() {
        Some("amount") => order.3.map_or(Value::Null, Value::Float),
        Some("items") => Value::Int(order.4),
        _ => Value::Null,
    };
    let of_type = match definition.of.as_deref() {
        Some("amount") => Some(DataType::Float),
        Some("items") => Some(DataType::Int),
        _ => None,
    };
    let events: Vec<OracleEvent> = orders
        .iter()
        .enumerate()
        .filter(|(_, order)| order.0 == user && order.4 >= 0)
        .map(|(index, order)| OracleEvent {
            time: order.1,
            origin: Position { partition: 0, offset: index as u64 },
            value: value(order),
            counts: true,
        })
        .collect();
    expected(definition, of_type.as_ref(), &events, at, exclusive).outcome
}

fn spine(asked: &[(&str, i64)]) -> RecordBatch {
    let users = StringArray::from_iter_values(asked.iter().map(|(user, _)| *user));
    let times = TimestampMicrosecondArray::from_iter_values(asked.iter().map(|(_, time)| *time)).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("uid", Arc::new(users)),
        ("shop", Arc::new(Int64Array::from(vec![1; asked.len()]))),
        ("when", Arc::new(times)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(256, 2_500)))]

    #[test]
    fn online_point_in_time_export_and_brute_force_agree(
        orders in orders(),
        asked in prop::collection::vec((prop::sample::select(vec!["a", "b", "c", "d"]), 0usize..120, -1i64..2, 0usize..3), 1..40),
        exclusive: bool,
        slices in 1u16..6,
    ) {
        let world = World::sliced(definitions(None), functions(), ClockMode::Event, slices);
        world.orders(&orders);
        // At edges of windows around events, a microsecond before and after.
        let windows = [0, HOUR, 2 * HOUR];
        let asked: Vec<(&str, i64)> = asked
            .into_iter()
            .map(|(user, near, shift, window)| {
                let time = orders.get(near % orders.len().max(1)).map_or(HOUR, |order| order.1);
                (user, time + shift + windows[window])
            })
            .collect();
        let mut header = ExportQuestion {
            featureset: "F".to_string(),
            features: Some(NATIVE.iter().map(|name| name.to_string()).collect()),
            timestamp_column: "when".to_string(),
            statuses: true,
            ..ExportQuestion::default()
        };
        header.asking.exclusive = exclusive;
        let joined = wait(async {
            let spine = spine(&asked);
            let mut export = world.query.export(header, spine.schema()).await?;
            export.join(spine).await
        }).unwrap();
        for (row, (user, time)) in asked.iter().enumerate() {
            let mut single = question(user, NATIVE, At::Time(*time));
            single.asking.exclusive = exclusive;
            let answer = world.ask(single).unwrap();
            let batch = answer.to_record_batch(true).unwrap();
            for name in NATIVE.iter().flat_map(|name| [name.to_string(), format!("{name}__status")]) {
                let of_export = joined.column_by_name(&name).unwrap().slice(row, 1);
                prop_assert_eq!(&of_export, batch.column_by_name(&name).unwrap(), "{} {} {}", name, user, time);
            }
            let features = [("orders", "orders_1h"), ("items", "items_1h"), ("spend", "spend_2h"), ("biggest", "biggest"), ("mean", "mean_2h")];
            for (feature, aggregate) in features {
                let column = answer.columns.iter().find(|column| column.name.as_ref() == feature).unwrap();
                let got = column.values[0].value.clone();
                match by_force(&world, &orders, aggregate, user, *time, exclusive) {
                    Outcome::Value(value) => prop_assert_eq!(got, value, "{}", feature),
                    Outcome::Empty(_) if feature == "mean" => prop_assert_eq!(got, Value::Float(-2.0)),
                    Outcome::Empty(value) => prop_assert_eq!(got, value, "{}", feature),
                    Outcome::Error(_) => prop_assert!(column.values[0].status.reason().is_some()),
                }
            }
        }
        if !exclusive {
            let online = world.ask(question("a", NATIVE, At::Now)).unwrap();
            let later = world.ask(question("a", NATIVE, At::Time(online.standing.ts))).unwrap();
            prop_assert_eq!(online.columns, later.columns);
        }
    }
}
