//! What the measures commit: one dataset, Count, Sum, Avg and Max over some windows, and featuresets over them.

use crate::failure::Outcome;
use serde_json::{Value, json};
use std::sync::Arc;
use thyme_core::definition::{Compiled, Definitions, compile};

/// How long an id is remembered at least: the default.
pub const DEDUP_WINDOW: i64 = 7 * crate::workload::DAY;
pub const DATASET: &str = "Purchase";
pub const STATS: &str = "Stats";
pub const PIPELINE: &str = "Stats.compute";
/// All aggregates.
pub const ALL_FEATURES: &str = "Everything";
/// Ten of them, and two computed by extractors.
pub const EXTRACTED: &str = "Extracted";
/// An extracted feature whose function needs no interpreter, and the same one of a function that does.
pub const ONE: &str = "one";
pub const ONE_IN_PYTHON: &str = "one_in_python";
/// How many features an online question asks for.
pub const ONLINE_FEATURES: usize = 10;

/// What its extractors run; where the features come from is said by the definitions.
const MODULE: &str = r#"from thyme import extractor, extractor_inputs, extractor_outputs, feature, featureset


@featureset
class Extracted:
    key: int = feature(id=1)
    count_1h: int = feature(id=2)
    one: int = feature(id=3)
    one_in_python: int = feature(id=4)

    @extractor(version=1)
    @extractor_inputs("count_1h")
    @extractor_outputs("one")
    def increment(cls, ts, count_1h):
        return count_1h + 1

    @extractor(version=1)
    @extractor_inputs("count_1h")
    @extractor_outputs("one_in_python")
    def increment_in_python(cls, ts, count_1h):
        return next_of(count_1h)


def next_of(number):
    return number + 1
"#;

/// Names and types of the aggregates over the windows with these suffixes.
fn aggregates(windows: &[&str]) -> Vec<(String, &'static str, &'static str, String)> {
    let mut found = Vec::new();
    for window in windows {
        for (kind, data_type) in [("count", "int"), ("sum", "float"), ("avg", "float"), ("max", "float")] {
            found.push((format!("{kind}_{window}"), kind, data_type, (*window).to_string()));
        }
    }
    found
}

/// Names of the aggregates, in order.
pub fn feature_names(windows: &[&str]) -> Vec<String> {
    aggregates(windows).into_iter().map(|(name, ..)| name).collect()
}

/// The definition format, version 1.
pub fn json_of(windows: &[&str], with_extractor: bool) -> Value {
    let aggregates = aggregates(windows);
    let mut fields = vec![
        json!({"name": "key", "type": "int", "key": true}),
        json!({"name": "ts", "type": "datetime", "timestamp": true}),
    ];
    let mut definitions = Vec::new();
    let mut features = vec![json!({"name": "key", "type": "int"})];
    for (name, kind, data_type, window) in &aggregates {
        let nullable = matches!(*kind, "avg" | "max");
        fields.push(json!({"name": name, "type": data_type, "nullable": nullable}));
        let mut aggregate = json!({"name": name, "op": {"kind": kind}, "window": window});
        if *kind != "count" {
            aggregate["of"] = json!("amount");
        }
        definitions.push(aggregate);
        let reference = json!({"dataset": STATS, "field": name});
        features.push(json!({"name": name, "type": data_type, "nullable": nullable, "ref": reference}));
    }
    let mut featuresets = vec![json!({"name": ALL_FEATURES, "features": features})];
    let mut modules = Vec::new();
    if with_extractor {
        let mut features: Vec<Value> = features.into_iter().take(1 + ONLINE_FEATURES).collect();
        let mut extractors = Vec::new();
        for (function, output) in [("increment", ONE), ("increment_in_python", ONE_IN_PYTHON)] {
            features.push(json!({"name": output, "type": "int"}));
            extractors.push(json!({
                "name": function, "version": 1, "style": "arguments",
                "inputs": [{"featureset": EXTRACTED, "feature": "count_1h"}], "outputs": [output],
                "module": "bench_features", "qualname": format!("Extracted.{function}"), "source_hash": "1",
            }));
        }
        featuresets.push(json!({"name": EXTRACTED, "features": features, "extractors": extractors}));
        modules.push(json!({"name": "bench_features", "path": "bench_features.py", "source": MODULE}));
    }
    json!({
        "format": 1,
        "datasets": [
            {
                "name": DATASET, "version": 1, "index": false, "max_lateness": "15m",
                "fields": [
                    {"name": "key", "type": "int", "key": true},
                    {"name": "ts", "type": "datetime", "timestamp": true},
                    {"name": "amount", "type": "float"},
                ],
            },
            {"name": STATS, "version": 1, "index": true, "fields": fields},
        ],
        "pipelines": [{
            "name": "compute", "version": 1, "dataset": STATS, "input": DATASET, "group_by": ["key"],
            "aggregates": definitions,
        }],
        "featuresets": featuresets,
        "modules": modules,
    })
}

/// The same, compiled, for an engine without a server.
pub fn compiled(windows: &[&str]) -> Outcome<Arc<Compiled>> {
    compiled_json(json_of(windows, false))
}

/// The same over a dataset with a key of its own, one per event, so that the pipeline's rows come by a repartition log.
pub fn regrouped(windows: &[&str]) -> Outcome<Arc<Compiled>> {
    let mut definitions = json_of(windows, false);
    definitions["datasets"][0]["fields"] = json!([
        {"name": "purchase", "type": "int", "key": true},
        {"name": "key", "type": "int"},
        {"name": "ts", "type": "datetime", "timestamp": true},
        {"name": "amount", "type": "float"},
    ]);
    compiled_json(definitions)
}

fn compiled_json(definitions: Value) -> Outcome<Arc<Compiled>> {
    let definitions: Definitions = serde_json::from_value(definitions)?;
    let compiled = compile(&definitions).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        texts.join("; ")
    })?;
    Ok(Arc::new(compiled))
}
