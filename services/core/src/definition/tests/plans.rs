//! What it takes to answer wanted features.

use super::compiled;
use crate::definition::{Compiled, FeaturePlan};

const SECOND: &str = r#"{"name": "B", "features": [
    {"name": "user", "type": "str"}, {"name": "basket_category", "type": "str", "request": true}, {"name": "both", "type": "bool"}],
    "extractors": [{"name": "e", "version": 1, "inputs": [{"featureset": "UserFeatures", "feature": "suspicious"},
    {"featureset": "UserFeatures", "feature": "category_orders"}], "outputs": ["both"],
    "style": "dict", "module": "m", "qualname": "B.e", "source_hash": ""}]}"#;

fn plan(compiled: &Compiled, featureset: &str, wanted: &[&str]) -> FeaturePlan {
    let found = &compiled.featuresets[featureset];
    let wanted: Vec<usize> = wanted.iter().map(|name| found.feature(name).unwrap()).collect();
    compiled.feature_plan(featureset, &wanted).unwrap()
}

/// The plan in words: given features, reads, calls.
fn describe(compiled: &Compiled, plan: &FeaturePlan) -> Vec<String> {
    let name = |slot: usize| {
        let slot = &plan.slots[slot];
        let feature = &compiled.featuresets[&slot.featureset].features[slot.feature].name;
        if slot.featureset == plan.featureset { feature.clone() } else { format!("{}.{feature}", slot.featureset) }
    };
    let names = |slots: &mut dyn Iterator<Item = usize>| slots.map(&name).collect::<Vec<_>>().join(",");
    let mut words = Vec::new();
    words.push(format!("keys {}", names(&mut plan.keys.iter().map(|(_, slot)| *slot))));
    words.push(format!("requests {}", names(&mut plan.requests.iter().map(|(_, slot)| *slot))));
    for read in &plan.reads {
        let key = names(&mut read.key.iter().copied());
        let fills = names(&mut read.fills.iter().map(|(_, slot)| *slot));
        words.push(format!("read {} by {key} for {fills}", read.pipeline.as_ref().unwrap_or(&read.dataset)));
    }
    for call in &plan.calls {
        let extractor = &compiled.featuresets[&call.featureset].extractors[call.extractor].name;
        let inputs = names(&mut call.inputs.iter().copied());
        let outputs = names(&mut call.outputs.iter().flatten().copied());
        words.push(format!("call {extractor}({inputs}) for {outputs}"));
    }
    words
}

#[test]
fn only_what_the_wanted_features_need() {
    let compiled = compiled(&[("featuresets/-", SECOND)]);
    let table: [(&str, &[&str], &[&str]); 5] = [
        ("UserFeatures", &["uid"], &["keys uid", "requests "]),
        (
            "UserFeatures",
            &["category_orders"],
            &[
                "keys ",
                "requests basket_category",
                "read CategoryStats.by_category by basket_category for category_orders",
            ],
        ),
        ("UserFeatures", &["orders_1h"], &["keys uid", "requests ", "read UserStats.compute by uid for orders_1h"]),
        (
            "UserFeatures",
            &["suspicious", "orders_1h", "spend_7d"],
            &[
                "keys uid",
                "requests ",
                "read UserStats.compute by uid for orders_1h",
                "call from_stats(uid) for spend_7d",
                "call judge(orders_1h,spend_7d) for suspicious",
            ],
        ),
        (
            "B",
            &["both"],
            &[
                "keys user",
                "requests basket_category",
                "read UserStats.compute by user for UserFeatures.orders_1h",
                "read CategoryStats.by_category by basket_category for UserFeatures.category_orders",
                "call from_stats(user) for UserFeatures.spend_7d",
                "call judge(UserFeatures.orders_1h,UserFeatures.spend_7d) for UserFeatures.suspicious",
                "call e(UserFeatures.suspicious,UserFeatures.category_orders) for both",
            ],
        ),
    ];
    for (featureset, wanted, expected) in table {
        let plan = plan(&compiled, featureset, wanted);
        assert_eq!(describe(&compiled, &plan), expected, "{featureset} {wanted:?}");
        let names: Vec<&str> = plan
            .wanted
            .iter()
            .map(|slot| compiled.featuresets[featureset].features[plan.slots[*slot].feature].name.as_str())
            .collect();
        assert_eq!(names, wanted);
    }
}

#[test]
fn inputs_are_always_filled_before() {
    let compiled = compiled(&[("featuresets/-", SECOND)]);
    for (name, featureset) in &compiled.featuresets {
        let all: Vec<usize> = (0..featureset.features.len()).rev().collect();
        let plan = compiled.feature_plan(name, &all).unwrap();
        let given = plan.keys.iter().chain(&plan.requests).map(|(_, slot)| *slot);
        let mut filled: std::collections::BTreeSet<usize> = given.collect();
        for read in &plan.reads {
            assert!(read.key.iter().all(|slot| filled.contains(slot)));
        }
        filled.extend(plan.reads.iter().flat_map(|read| read.fills.iter().map(|(_, slot)| *slot)));
        for call in &plan.calls {
            assert!(call.inputs.iter().all(|slot| filled.contains(slot)));
            filled.extend(call.outputs.iter().flatten().copied());
        }
        assert_eq!(filled.len(), plan.slots.len());
    }
}

#[test]
fn unknown_featuresets_are_named() {
    let error = compiled(&[]).feature_plan("UserFeature", &[]).unwrap_err();
    assert_eq!(error.to_string(), "unknown featureset 'UserFeature' (hint: did you mean 'UserFeatures'?)");
}
