//! What accepted definitions compile to.

use super::compiled;
use crate::definition::{CompiledInput, FeatureKind, OutputRef, RefTarget};
use crate::schema::DataType;
use crate::value::Value;

#[test]
fn the_worked_example() {
    let compiled = compiled(&[]);
    let order = &compiled.datasets["Order"];
    assert_eq!((order.identity().as_str(), order.topic().as_str()), ("Order@1", "Order.v1"));
    assert_eq!((order.key_columns.as_slice(), order.time_column, order.partitions), ([0].as_slice(), 1, 4));
    assert_eq!(order.max_lateness, Some(3_600_000_000));
    assert_eq!((order.max_future, order.dedup_window), (86_400_000_000, 604_800_000_000));
    assert!(order.is_raw() && order.has_row_table());
    let stats = &compiled.datasets["UserStats"];
    assert_eq!(stats.pipelines, ["UserStats.compute"]);
    assert!(!stats.is_raw() && !stats.has_row_table());
    assert_eq!(stats.outputs.keys().collect::<Vec<_>>(), ["biggest_7d", "orders_1h", "spend_7d"]);
    let pipeline = &compiled.pipelines["UserStats.compute"];
    assert_eq!(pipeline.identity(), "UserStats.compute@1");
    assert!(pipeline.route.is_none());
    for (output, column) in pipeline.output_columns.iter().enumerate() {
        assert_eq!(pipeline.plan.outputs[output].name, stats.fields[*column].name);
        assert_eq!(stats.outputs[&stats.fields[*column].name].output, output);
    }
    let features = &compiled.featuresets["UserFeatures"];
    assert_eq!(features.key_names().collect::<Vec<_>>(), ["uid"]);
    assert_eq!(features.features[1].default, Some(Value::Int(0)));
    assert_eq!(features.features[4].kind, FeatureKind::Request);
    let FeatureKind::Ref(reference) = &features.features[5].kind else { panic!() };
    assert_eq!(reference.binding, [4]);
    let output = OutputRef { pipeline: "CategoryStats.by_category".to_string(), output: 0 };
    assert_eq!(reference.target, RefTarget::Aggregate(output));
}

#[test]
fn routes_are_named_by_their_key() {
    let computed = compiled(&[]).pipelines["CategoryStats.by_category"].route.clone().unwrap();
    let digest = computed.id.strip_prefix("Order@1:category.").unwrap();
    assert_eq!(digest.len(), 8);
    assert_eq!(computed.topic, format!("Order.v1.by.category.{digest}"));
    let plain = compiled(&[("by_category/steps", "[]")]).pipelines["CategoryStats.by_category"].route.clone().unwrap();
    assert_eq!((plain.id.as_str(), plain.topic.as_str()), ("Order@1:category", "Order.v1.by.category"));
    assert_eq!(plain.log_identity(), "route:Order@1:category");
    // Filters and columns that the key does not need make no other route; another expression does.
    let route = |steps: &str| {
        compiled(&[("by_category/steps", steps)]).pipelines["CategoryStats.by_category"].route.clone().unwrap().id
    };
    let lower = |from: &str| format!(r#"{{"call": {{"op": "lower", "args": [{{"col": "{from}"}}]}}}}"#);
    let (from_category, from_copy, from_user) = (lower("category"), lower("copy"), lower("user_id"));
    let same = [
        format!(
            r#"[{{"op": "filter", "expr": {{"lit": {{"bool": true}}}}}},
            {{"op": "assign", "columns": [{{"name": "x", "expr": {{"lit": {{"int": 1}}}}}}, {{"name": "category", "expr": {from_category}}}]}}]"#
        ),
        format!(r#"[{{"op": "assign", "columns": [{{"name": "category", "expr": {from_category}}}]}}]"#),
    ];
    assert_eq!(route(&same[0]), computed.id);
    assert_eq!(route(&same[1]), computed.id);
    let other = format!(r#"[{{"op": "assign", "columns": [{{"name": "category", "expr": {from_user}}}]}}]"#);
    assert_ne!(route(&other), computed.id);
    let copied = |of: &str| {
        format!(
            r#"[{{"op": "assign", "columns": [{{"name": "copy", "expr": {{"col": "{of}"}}}}, {{"name": "category", "expr": {from_copy}}}]}}]"#
        )
    };
    assert_ne!(route(&copied("user_id")), route(&copied("category")));
}

#[test]
fn group_columns_take_the_order_of_the_key() {
    let compiled = compiled(&[
        ("Order/fields/4", r#"{"name": "category", "type": "str", "key": true}"#),
        ("by_category/steps", "[]"),
        ("by_category/group_by", "[\"user_id\", \"category\"]"),
        ("CategoryStats/fields/-", r#"{"name": "user_id", "type": "str", "key": true}"#),
        ("UserFeatures/features/5", "null"),
    ]);
    let pipeline = &compiled.pipelines["CategoryStats.by_category"];
    assert_eq!(pipeline.group_columns, ["category", "user_id"]);
    assert_eq!(pipeline.route.as_ref().unwrap().id, "Order@1:category-user_id");
    assert_eq!(compiled.datasets["Order"].key_names().collect::<Vec<_>>(), ["user_id", "category"]);
    assert_eq!(compiled.pipelines["UserStats.compute"].route.as_ref().unwrap().id, "Order@1:user_id");
}

#[test]
fn several_pipelines_fill_one_dataset() {
    let more = r#"{"name": "more", "version": 1, "dataset": "UserStats", "input": "Order", "group_by": ["user_id"],
        "aggregates": [{"name": "orders_30d", "op": {"kind": "count"}, "window": "30d"}]}"#;
    let compiled =
        compiled(&[("pipelines/-", more), ("UserStats/fields/-", r#"{"name": "orders_30d", "type": "int"}"#)]);
    let stats = &compiled.datasets["UserStats"];
    assert_eq!(stats.pipelines, ["UserStats.compute", "UserStats.more"]);
    assert_eq!(stats.outputs["orders_30d"], OutputRef { pipeline: "UserStats.more".to_string(), output: 0 });
}

#[test]
fn the_layout_does_not_depend_on_the_order_of_aggregates() {
    let forward = compiled(&[]);
    let json = super::example();
    let mut reversed = json["pipelines"][0]["aggregates"].as_array().unwrap().clone();
    reversed.reverse();
    let backward = compiled(&[("compute/aggregates", &serde_json::Value::from(reversed).to_string())]);
    let (one, other) = (&forward.pipelines["UserStats.compute"].plan, &backward.pipelines["UserStats.compute"].plan);
    assert_eq!(one.layout, other.layout);
    assert_eq!(one.column_sources, other.column_sources);
}

#[test]
fn lateness_of_the_source_wins() {
    let both = compiled(&[("Order/max_lateness", "\"9h\"")]);
    assert_eq!(both.datasets["Order"].max_lateness, Some(3_600_000_000));
    let own = compiled(&[("Order/max_lateness", "\"9h\""), ("Order/source/max_lateness", "null")]);
    assert_eq!(own.datasets["Order"].max_lateness, Some(9 * 3_600_000_000));
    let none = compiled(&[("Order/source", "null")]);
    assert_eq!(none.datasets["Order"].max_lateness, None);
}

#[test]
fn refs_to_raw_datasets_and_int_defaults_of_floats() {
    let feature = r#"{"name": "last_amount", "type": "float", "ref": {"dataset": "Order", "field": "amount"}, "default": {"int": 3}}"#;
    let compiled = compiled(&[("UserFeatures/features/-", feature)]);
    let feature = &compiled.featuresets["UserFeatures"].features[6];
    let FeatureKind::Ref(reference) = &feature.kind else { panic!() };
    assert_eq!((&reference.target, reference.binding.as_slice()), (&RefTarget::Column(2), [0].as_slice()));
    assert_eq!((&feature.data_type, &feature.default), (&DataType::Float, &Some(Value::Float(3.0))));
}

#[test]
fn features_of_other_featuresets_are_bound() {
    let other = r#"{"name": "B", "features": [{"name": "user", "type": "str"}, {"name": "big", "type": "bool"}],
        "extractors": [{"name": "e", "version": 1, "inputs": [{"featureset": "UserFeatures", "feature": "spend_7d"}], "outputs": ["big"],
        "style": "dict", "module": "m", "qualname": "B.e", "source_hash": ""}]}"#;
    let compiled = compiled(&[("featuresets/-", other)]);
    let CompiledInput::Other { featureset, feature, binding } = &compiled.featuresets["B"].extractors[0].inputs[0]
    else {
        panic!()
    };
    assert_eq!((featureset.as_str(), *feature), ("UserFeatures", 2));
    assert_eq!(binding.iter().collect::<Vec<_>>(), [(&0, &0)]);
}

/// What the Python SDK writes for its own test module is what is read here.
#[test]
fn the_snapshot_of_the_sdk() {
    let text = include_str!("../../../../../python/tests/snapshots/orders.json");
    let definitions: crate::definition::Definitions = serde_json::from_str(text).unwrap();
    let compiled = crate::definition::compile(&definitions).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(compiled.pipelines.len(), definitions.pipelines.len());
    assert_eq!(compiled.featuresets.len(), definitions.featuresets.len());
    for (name, featureset) in &compiled.featuresets {
        let all: Vec<usize> = (0..featureset.features.len()).collect();
        assert_eq!(compiled.feature_plan(name, &all).unwrap().wanted.len(), all.len());
    }
}
