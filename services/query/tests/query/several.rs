//! Several featuresets in one export: column by column what the exports of each are that stand on the same.

use crate::exports::{export_question, names, spine, times, users};
use crate::summary::{order, row, spine_of};
use crate::world::{HOUR, NATIVE, World, definitions, functions, wait};
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use thyme_core::error::Result;
use thyme_core::pin::Pin;
use thyme_core::testing::cases;
use thyme_core::time::ClockMode;
use thyme_query::{ExportQuestion, ExportSummary, RunRecord};

/// The usual featureset, one that names its key otherwise and has a feature of the same name, and one by shop.
fn world() -> World {
    let mut definitions = definitions(Some("1h"));
    let list = definitions["featuresets"].as_array_mut().unwrap();
    let reference = |name: &str, kind: &str, field: &str| json!({"name": name, "type": kind, "ref": {"dataset": "UserStats", "field": field}, "on": {"user": "who"}});
    let extractor = json!({
        "name": "twice", "version": 1, "inputs": [{"featureset": "G", "feature": "spend"}], "outputs": ["double"],
        "style": "arguments", "module": "m", "qualname": "G.twice", "source_hash": "",
    });
    let features: [Json; 4] = [
        json!({"name": "who", "type": "str"}),
        reference("spend", "float", "spend_2h"),
        reference("orders", "int", "orders_1h"),
        json!({"name": "double", "type": "float"}),
    ];
    list.push(json!({"name": "G", "features": features, "extractors": [extractor]}));
    let by_shop = json!({"name": "busy", "type": "int", "ref": {"dataset": "ShopStats", "field": "orders_1h"}});
    list.push(json!({"name": "H", "features": [{"name": "shop", "type": "int"}, by_shop]}));
    World::with(definitions, functions(), ClockMode::Event)
}

fn of_several(featuresets: &[&str]) -> ExportQuestion {
    ExportQuestion {
        featuresets: featuresets.iter().map(|name| name.to_string()).collect(),
        timestamp_column: "when".to_string(),
        entity_columns: [("G.who".to_string(), "uid".to_string())].into(),
        statuses: true,
        ..ExportQuestion::default()
    }
}

type Exported = (RecordBatch, ExportSummary, Vec<RunRecord>);

fn export(world: &World, question: ExportQuestion, spine: &RecordBatch) -> Result<Exported> {
    wait(async {
        let mut export = world.query.export(question, spine.schema()).await?;
        let joined = export.join(spine.clone()).await?;
        let summary = export.summary();
        Ok((joined, summary, export.finish()))
    })
}

/// What makes a question another one.
type Change = fn(&mut ExportQuestion);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(48, 500)))]

    #[test]
    fn several_featuresets_give_what_each_gives_alone_under_the_same_pin(
        orders in prop::collection::vec(order(), 0..60),
        later in prop::collection::vec(order(), 1..20),
        rows in prop::collection::vec(row(), 0..40),
    ) {
        let world = world();
        world.orders(&orders);
        let spine = spine_of(&rows);
        let (joined, summary, runs) = export(&world, of_several(&["F", "G", "H"]), &spine).unwrap();
        let pin = Pin::decode(&joined.schema().metadata()["thyme.pin"]).unwrap();
        world.orders(&later);
        let again = ExportQuestion { pin: Some(pin.clone()), ..of_several(&["F", "G", "H"]) };
        let (again, of_again, _) = export(&world, again, &spine).unwrap();
        prop_assert_eq!(again.columns(), joined.columns());
        let mut same = summary.clone();
        same.plan.reads.iter_mut().for_each(|read| read.done = None);
        prop_assert_eq!(of_again, same);
        prop_assert_eq!(&joined.columns()[..spine.num_columns()], spine.columns());

        let (mut told, mut width) = (summary.features.iter(), spine.num_columns());
        for (featureset, run) in ["F", "G", "H"].into_iter().zip(&runs) {
            let mut alone = ExportQuestion { featureset: featureset.to_string(), pin: Some(pin.clone()), ..of_several(&[]) };
            alone.entity_columns = if featureset == "G" { [("who".to_string(), "uid".to_string())].into() } else { Default::default() };
            let (single, of_single, single_runs) = export(&world, alone, &spine).unwrap();
            prop_assert_eq!((run.featureset.as_ref(), run.row_count), (featureset, rows.len() as u64));
            prop_assert_eq!(run.hit_count, single_runs[0].hit_count);
            prop_assert!(summary.known >= run.hit_count);
            for field in &single.schema().fields()[spine.num_columns()..] {
                let name = format!("{featureset}.{}", field.name());
                let (of_all, of_one) = (joined.column_by_name(&name), single.column_by_name(field.name()));
                prop_assert_eq!(of_all.unwrap(), of_one.unwrap(), "{}", name);
                width += 1;
            }
            for counts in of_single.features {
                let of_all = told.next().unwrap();
                prop_assert_eq!(&of_all.name, &format!("{featureset}.{}", counts.name));
                prop_assert_eq!(&of_all.counts, &counts.counts, "{}", &of_all.name);
            }
        }
        prop_assert_eq!((told.next(), width), (None, joined.num_columns()));
    }
}

#[test]
fn columns_runs_and_plan_are_those_of_each_featureset() {
    let world = world();
    world.orders(&[("a", HOUR, 1, Some(1.0), 2)]);
    let spine = spine(vec![
        ("uid", users(vec![Some("a"), Some("nobody")])),
        ("when", times(vec![Some(HOUR), Some(HOUR)])),
        ("shop", Arc::new(Int64Array::from(vec![7, 1])) as ArrayRef),
    ]);
    let mut asked = of_several(&["H", "F", "G"]);
    asked.features = names(&["G.spend", "F.orders", "H.busy", "F.spend"]);
    let (joined, summary, runs) = export(&world, asked, &spine).unwrap();
    let columns: Vec<String> = joined.schema().fields().iter().map(|field| field.name().clone()).collect();
    let features = ["H.busy", "F.orders", "F.spend", "G.spend"];
    let statuses = features.map(|name| format!("{name}__status"));
    let expected: Vec<&str> =
        ["uid", "when", "shop"].into_iter().chain(features).chain(statuses.iter().map(String::as_str)).collect();
    assert_eq!(columns, expected);
    let metadata = joined.schema().metadata().clone();
    assert_eq!(metadata["thyme.featureset"], "H,F,G");
    let ids: Vec<&str> = runs.iter().map(|run| &*run.id).collect();
    assert_eq!(metadata["thyme.query_run_id"], ids.join(","));
    assert_eq!(metadata["thyme.definition"].split(',').count(), 3);
    assert_eq!(world.runs.0.lock().len(), 3, "a run for each");
    // The first row's user is known, the second row's shop.
    assert_eq!((summary.rows, summary.known), (2, 2));
    assert_eq!(runs.iter().map(|run| run.hit_count).collect::<Vec<_>>(), [1, 1, 1]);
    let reads: Vec<_> = summary.plan.reads.iter().map(|read| (read.key[0].as_str(), read.features.clone())).collect();
    let of = |features: &[&str]| names(features).unwrap();
    let expected = [("H.shop", of(&["H.busy"])), ("F.uid", of(&["F.orders", "F.spend"])), ("G.who", of(&["G.spend"]))];
    assert_eq!(reads, expected);
    assert!(summary.plan.reads.iter().all(|read| read.done.is_some_and(|done| done.chunks == 1 && done.keys == 2)));
}

#[test]
fn a_chunk_has_room_for_all_featuresets() {
    let world = world();
    let empty = spine_of(&[]);
    let rows_at_once = |question: ExportQuestion| {
        wait(async { world.query.export(question, empty.schema()).await.unwrap().rows_at_once() })
    };
    // Both so wide that what a row costs decides, not the most rows of a chunk.
    let alone = rows_at_once(export_question(NATIVE));
    let mut both = of_several(&["F", "G"]);
    let of_f: Vec<String> = NATIVE.iter().map(|name| format!("F.{name}")).collect();
    both.features = Some([of_f, vec!["G.spend".to_string(), "G.orders".to_string()]].concat());
    let both = rows_at_once(both);
    assert!(both < alone && both > 1_000, "{both} {alone}");
    // The fewest of any: those with extractors have fewer.
    let mut called = of_several(&["F", "G"]);
    called.features = names(&["F.orders", "G.double"]);
    assert_eq!(rows_at_once(called), 65_536);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let world = world();
    let good = || vec![("uid", users(vec![Some("a")])), ("when", times(vec![Some(0)]))];
    let refused = |change: fn(&mut ExportQuestion), columns: Vec<(&str, ArrayRef)>| {
        let mut question = of_several(&["F", "G"]);
        question.features = names(&["F.spend", "G.spend"]);
        change(&mut question);
        export(&world, question, &spine(columns)).unwrap_err().to_string()
    };
    let cases: [(Change, &str); 9] = [
        (|question| question.featureset = "F".to_string(), "both featureset and featuresets are given"),
        (|question| question.featuresets.push("F".to_string()), "featureset 'F' is named twice"),
        (|question| question.featuresets.push("H".to_string()), "no features of featureset 'H' are asked for"),
        (|question| question.featuresets.push("K".to_string()), "no features of featureset 'K' are asked for"),
        (|question| question.features = names(&["spend"]), "'spend' is a feature of none of the featuresets"),
        (|question| question.features = names(&["F.spent", "G.spend"]), "unknown feature 'spent' of featureset 'F'"),
        (
            |question| question.entity_columns = [("G.uid".into(), "uid".into())].into(),
            "unknown key 'G.uid' of featuresets 'F', 'G'",
        ),
        (|question| question.entity_columns.clear(), "the spine has no column 'who' for key 'G.who'"),
        (|question| question.features = None, "the spine has no column 'shop' for key 'F.shop'"),
    ];
    for (change, says) in cases {
        let message = refused(change, good());
        assert!(message.starts_with(says), "{message}");
    }
    let mut clash = good();
    clash.push(("G.spend", Arc::new(Int64Array::from(vec![1]))));
    let message = refused(|_| {}, clash);
    assert!(message.starts_with("the spine has a column 'G.spend', which is also an output"), "{message}");

    // A pin of one featureset says nothing about another.
    let (joined, ..) = export(&world, export_question(&["spend"]), &spine(good())).unwrap();
    let mut other = of_several(&["F", "G"]);
    other.features = names(&["F.spend", "G.spend"]);
    other.pin = Some(Pin::decode(&joined.schema().metadata()["thyme.pin"]).unwrap());
    let message = export(&world, other, &spine(good())).unwrap_err().to_string();
    assert!(message.starts_with("the pin is of another definition of featureset 'G'"), "{message}");
}
