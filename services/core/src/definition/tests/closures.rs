//! The hash of a featureset: another one where values may differ, the same where they cannot.

use super::compiled;
use crate::definition::Compiled;
use std::sync::Arc;

/// Refers to the statistics by user, without extractors.
const PLAIN: (&str, &str) = (
    "featuresets/-",
    r#"{"name": "Plain", "features": [{"name": "user_id", "type": "str"},
        {"name": "n", "type": "int", "ref": {"dataset": "UserStats", "field": "orders_1h"}}]}"#,
);
/// Takes an input of `Plain`.
const ABOVE: (&str, &str) = (
    "featuresets/-",
    r#"{"name": "Above", "features": [{"name": "user_id", "type": "str"}, {"name": "twice", "type": "int"}],
        "extractors": [{"name": "double", "version": 1, "inputs": [{"featureset": "Plain", "feature": "n"}], "outputs": ["twice"],
            "style": "arguments", "module": "features", "qualname": "Above.double", "source_hash": "1"}]}"#,
);

/// Whose hash a patch changes, of all three.
fn changed_by(patch: (&str, &str)) -> Vec<&'static str> {
    let hash = |compiled: &Compiled, name: &str| compiled.definition_hash(name).unwrap();
    let (before, after) = (compiled(&[PLAIN, ABOVE]), compiled(&[PLAIN, ABOVE, patch]));
    let differs = |name: &&str| hash(&before, name) != hash(&after, name);
    ["UserFeatures", "Plain", "Above"].into_iter().filter(differs).collect()
}

#[test]
fn what_a_value_follows_from_changes_the_hash() {
    let all = ["UserFeatures", "Plain", "Above"].as_slice();
    let of_stats = [
        ("compute/aggregates/0/window", "\"2h\""),
        ("compute/steps/0/expr/call/args/1/lit/int", "1"),
        ("compute/version", "2"),
        ("Order/version", "2"),
        ("Order/source/max_lateness", "\"2h\""),
        ("Order/partitions", "7"),
        ("Order/history", "\"90d\""),
    ];
    for patch in of_stats {
        assert_eq!(changed_by(patch), all, "{patch:?}");
    }
    let of_some: [(_, &[&str]); 7] = [
        (("by_category/aggregates/0/window", "\"12h\""), &["UserFeatures"]),
        (("UserFeatures/features/1/default", r#"{"int": 1}"#), &["UserFeatures"]),
        (("UserFeatures/extractors/0/source_hash", "\"6a\""), &["UserFeatures"]),
        (("featuresets/1/features/1/nullable", "true"), &["Plain", "Above"]),
        (("featuresets/2/extractors/0/deadline_ms", "7"), &["Above"]),
        (("modules/0/source", "\"import numpy\""), &["UserFeatures", "Above"]),
        (("modules/-", r#"{"name": "more", "path": "more.py", "source": ""}"#), &["UserFeatures", "Above"]),
    ];
    for (patch, names) in of_some {
        assert_eq!(changed_by(patch), names, "{patch:?}");
    }
}

#[test]
fn what_changes_no_value_does_not_change_the_hash() {
    let patches = [
        ("Order/metadata/owner", "\"another\""),
        ("Order/fields/2/description", "\"in euros\""),
        ("Order/location/line", "40"),
        ("Order/source/settings/path", "\"others.jsonl\""),
        ("Order/max_lateness", "\"3h\""),
        ("UserStats/emit", "true"),
        ("compute/location/line", "41"),
        ("UserFeatures/metadata", r#"{"description": "of users", "tags": ["a"]}"#),
        ("UserFeatures/location", r#"{"file": "other.py", "line": 1}"#),
        ("UserFeatures/features/0/id", "17"),
        ("UserFeatures/features/1/description", "\"how many\""),
        ("UserFeatures/features/1/deprecated", "true"),
        ("UserFeatures/features/1/aliases", r#"["orders"]"#),
        ("UserFeatures/extractors/0/location/line", "42"),
        ("featuresets/-", r#"{"name": "Other", "features": [{"name": "uid", "type": "str"}]}"#),
    ];
    for patch in patches {
        assert!(changed_by(patch).is_empty(), "{patch:?}");
    }
}

#[test]
fn neither_order_nor_erases_are_part_of_the_definition() {
    let one = compiled(&[PLAIN, ABOVE]);
    let mut definitions = one.definitions.as_ref().clone();
    definitions.datasets.reverse();
    definitions.pipelines.reverse();
    definitions.featuresets.reverse();
    definitions.modules.reverse();
    definitions.erased.insert("Order@1".to_string(), vec![9]);
    let other = Compiled { definitions: Arc::new(definitions), ..one.clone() };
    for name in ["UserFeatures", "Plain", "Above"] {
        assert_eq!(one.definition_hash(name).unwrap(), other.definition_hash(name).unwrap(), "{name}");
    }
    let text = one.definition_hash("Plain").unwrap().to_string();
    assert_eq!((text.len(), text.chars().all(|digit| digit.is_ascii_hexdigit())), (32, true));
}
