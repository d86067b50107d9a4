//! What a commit makes of the definitions that there are.

use super::{compiled, patched};
use crate::definition::{Definitions, compile, merge};

fn merged(current: &Definitions, change: &Definitions, remove: &[&str]) -> Definitions {
    let remove: Vec<String> = remove.iter().map(|name| name.to_string()).collect();
    merge(current, change, &remove).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn refused(current: &Definitions, change: &Definitions, remove: &[&str]) -> Vec<String> {
    let remove: Vec<String> = remove.iter().map(|name| name.to_string()).collect();
    merge(current, change, &remove).unwrap_err().iter().map(|error| error.to_string()).collect()
}

fn nothing() -> Definitions {
    Definitions { format: 1, ..Definitions::default() }
}

#[test]
fn the_same_again_changes_nothing() {
    let example = patched(&[]);
    assert_eq!(merged(&Definitions::default(), &example, &[]), example);
    let again = merged(&example, &example, &[]);
    assert_eq!(compile(&again).unwrap().datasets.len(), 3);
    assert_eq!(merged(&example, &nothing(), &[]), example);
}

#[test]
fn stored_fields_keep_their_order() {
    let current = patched(&[]);
    let reordered = patched(&[(
        "Order/fields",
        r#"[{"name": "added", "type": "int", "nullable": true}, {"name": "category", "type": "str", "nullable": true},
            {"name": "ts", "type": "datetime", "timestamp": true}, {"name": "amount", "type": "float"},
            {"name": "items", "type": "int", "nullable": true}, {"name": "user_id", "type": "str", "key": true}]"#,
    )]);
    let names = |definitions: &Definitions| {
        definitions.datasets[0].fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&merged(&current, &reordered, &[])), ["user_id", "ts", "amount", "items", "category", "added"]);
    let mut next_version = reordered.clone();
    next_version.datasets[0].version = 2;
    assert_eq!(names(&merged(&current, &next_version, &[])), names(&reordered));
}

#[test]
fn a_new_name_for_an_id_keeps_the_old_one() {
    let current = patched(&[]);
    let change = patched(&[
        ("UserFeatures/features/4/name", "\"basket\""),
        ("UserFeatures/features/5/on/category", "\"basket\""),
    ]);
    let once = merged(&current, &change, &[]);
    assert_eq!(once.featuresets[0].features[4].aliases, ["basket_category"]);
    let twice = merged(&once, &change, &[]);
    assert_eq!(once, twice);
    let found = compile(&twice).unwrap().featuresets["UserFeatures"].feature("basket_category");
    assert_eq!(found, Some(4));
    assert!(
        merged(&twice, &nothing(), &["UserFeatures.basket_category"]).featuresets[0].features[4].aliases.is_empty()
    );
    assert!(merged(&current, &change, &["UserFeatures.basket_category"]).featuresets[0].features[4].aliases.is_empty());
    // Back to the old name: then the new one is the alias.
    assert_eq!(merged(&once, &current, &[]).featuresets[0].features[4].aliases, ["basket"]);
    // The old name cannot be taken by another feature while it answers.
    let taken = patched(&[
        ("UserFeatures/features/4/name", "\"basket\""),
        ("UserFeatures/features/5/on/category", "\"basket\""),
        ("UserFeatures/features/-", r#"{"name": "basket_category", "type": "int", "request": true}"#),
    ]);
    let errors = compile(&merged(&current, &taken, &[])).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "features.py:43: featureset 'UserFeatures': feature 'basket_category': the name still answers as the earlier name of 'basket' (hint: remove it first: --remove UserFeatures.basket_category)"
    );
}

#[test]
fn two_published_features_never_become_one() {
    let with_another = r#"{"name": "other", "type": "int", "request": true}"#;
    let current = patched(&[("UserFeatures/features/-", with_another)]);
    let features = &current.featuresets[0].features;
    let (id, other) = (features[4].id.unwrap(), features.len() - 1);
    let mut change = current.clone();
    change.featuresets[0].features[other].id = Some(id);
    change.featuresets[0].features.remove(4);
    let errors = refused(&current, &change, &[]);
    let told = format!(
        "feature 'UserFeatures.other' takes the id {id} of 'basket_category', but is a published feature itself"
    );
    assert!(errors.iter().any(|error| error.contains(&told)), "{errors:?}");
    // Under a new name it is a rename.
    let mut renamed = current.clone();
    renamed.featuresets[0].features[4].name = "newcomer".into();
    let carried = merged(&current, &renamed, &[]);
    let newcomer = carried.featuresets[0].features.iter().find(|feature| feature.name == "newcomer").unwrap();
    assert_eq!(newcomer.aliases, ["basket_category"]);
}

#[test]
fn what_is_gone_from_a_class_must_be_named() {
    let current = patched(&[]);
    let change = patched(&[("UserFeatures/features/5", "null")]);
    assert_eq!(
        refused(&current, &change, &[]),
        [
            "features.py:43: feature 'UserFeatures.category_orders' is gone from its class (hint: a commit removes nothing by itself: put it back, or add --remove UserFeatures.category_orders)",
        ]
    );
    assert_eq!(merged(&current, &change, &["UserFeatures.category_orders"]).featuresets[0].features.len(), 5);
}

#[test]
fn removal_is_refused_while_something_depends() {
    let current = patched(&[]);
    let table: [(&[&str], &[&str]); 6] = [
        (
            &["Order"],
            &[
                "cannot remove 'Order': pipeline 'CategoryStats.by_category', pipeline 'UserStats.compute' still need it (hint: change or remove these first, or in the same commit)",
            ],
        ),
        (
            &["UserStats"],
            &[
                "cannot remove 'UserStats': extractor 'UserFeatures.from_stats', feature 'UserFeatures.orders_1h' still need it (hint: change or remove these first, or in the same commit)",
            ],
        ),
        (
            &["UserFeatures.basket_category"],
            &[
                "cannot remove 'UserFeatures.basket_category': feature 'UserFeatures.category_orders' still need it (hint: change or remove these first, or in the same commit)",
            ],
        ),
        (
            &["UserFeatures.spend_7d"],
            &[
                "cannot remove 'UserFeatures.spend_7d': extractor 'UserFeatures.from_stats', extractor 'UserFeatures.judge' still need it (hint: change or remove these first, or in the same commit)",
            ],
        ),
        (
            &["UserFeature"],
            &["cannot remove 'UserFeature': there is nothing of that name (hint: did you mean 'UserFeatures'?)"],
        ),
        (
            &["UserFeatures.x"],
            &["cannot remove 'UserFeatures.x': there is nothing of that name (hint: did you mean 'UserFeatures.uid'?)"],
        ),
    ];
    for (remove, expected) in table {
        assert_eq!(refused(&current, &nothing(), remove), expected);
    }
    assert_eq!(
        refused(&current, &current, &["UserFeatures"]),
        ["'UserFeatures' is in the commit and is to be removed"]
    );
    let rest = merged(&current, &nothing(), &["UserFeatures", "CategoryStats"]);
    assert_eq!((rest.datasets.len(), rest.pipelines.len(), rest.featuresets.len()), (2, 1, 0));
    assert_eq!(compile(&rest).unwrap().datasets.len(), 2);
    let empty = merged(&current, &nothing(), &["UserFeatures", "CategoryStats", "UserStats", "Order"]);
    assert!(empty.datasets.is_empty() && empty.pipelines.is_empty());
}

#[test]
fn a_dataset_comes_with_its_pipelines() {
    let current = patched(&[]);
    let mut change = patched(&[("compute/name", "\"computed\"")]);
    change.datasets.retain(|dataset| dataset.name == "UserStats");
    change.pipelines.retain(|pipeline| pipeline.dataset == "UserStats");
    change.featuresets.clear();
    let names = merged(&current, &change, &[]).pipelines.iter().map(|found| found.name.clone()).collect::<Vec<_>>();
    assert_eq!(names, ["by_category", "computed"]);
    assert_eq!(compiled(&[]).pipelines.len(), 2);
}
