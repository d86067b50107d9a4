//! Plans: what changes, what becomes of the state, what is refused.

use super::{compiled, patched};
use crate::definition::{Compiled, Definitions, Plan, PublishedIds, compile, diff, merge};

type Patches = &'static [(&'static str, &'static str)];

/// The ids of the example, and one that was removed long ago.
fn published() -> PublishedIds {
    let ids = [
        (1, "uid"),
        (2, "orders_1h"),
        (3, "spend_7d"),
        (4, "suspicious"),
        (5, "basket_category"),
        (6, "category_orders"),
        (9, "gone"),
    ];
    ids.into_iter().map(|(id, name)| (("UserFeatures".to_string(), id), name.to_string())).collect()
}

fn after(patches: &[(&str, &str)], remove: &[&str]) -> (Compiled, Compiled) {
    let current = patched(&[]);
    let remove: Vec<String> = remove.iter().map(|name| name.to_string()).collect();
    let next = merge(&current, &patched(patches), &remove).unwrap_or_else(|errors| panic!("{errors:#?}"));
    (compile(&current).unwrap(), compile(&next).unwrap_or_else(|errors| panic!("{errors:#?}")))
}

fn plan(patches: &[(&str, &str)], remove: &[&str]) -> Plan {
    let (current, next) = after(patches, remove);
    diff(&current, &next, &published()).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn refusals(patches: &[(&str, &str)]) -> Vec<String> {
    let (current, next) = after(patches, &[]);
    match diff(&current, &next, &published()) {
        Ok(plan) => vec![plan.render()],
        Err(errors) => errors.iter().map(|error| error.to_string()).collect(),
    }
}

#[test]
fn the_first_commit() {
    let plan = diff(&Compiled::default(), &compiled(&[]), &PublishedIds::new()).unwrap();
    let route = plan.built.iter().find(|item| item.identity.starts_with("route:")).unwrap().identity.clone();
    let expected = format!(
        "+ dataset CategoryStats\n+ dataset Order\n+ dataset UserStats\n+ featureset UserFeatures\n+ module features\n\
         + pipeline CategoryStats.by_category\n+ pipeline UserStats.compute\n+ source Order\n\nstate\n  \
         build   log:Order@1\n  build   pipeline:CategoryStats.by_category@1, replaying Order\n  \
         build   pipeline:UserStats.compute@1, replaying Order\n  build   raw:Order@1, replaying Order\n  \
         build   {route}, replaying Order\n"
    );
    assert_eq!(plan.render(), expected);
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["added"][0], serde_json::json!({"kind": "dataset", "name": "CategoryStats"}));
    assert_eq!(serde_json::from_value::<Plan>(json).unwrap(), plan);
}

#[test]
fn the_same_content_is_an_empty_plan() {
    let moved =
        [("Order/location/line", "99"), ("compute/location", "null"), ("UserFeatures/extractors/0/location/line", "1")];
    let reordered = [("compute/aggregates/0", r#"{"name": "orders_1h", "op": {"kind": "count"}, "window": "60m"}"#)];
    for patches in [&[][..], &moved[..], &reordered[..]] {
        let plan = plan(patches, &[]);
        assert!(plan.is_empty() && plan.built.is_empty() && plan.dropped.is_empty(), "{}", plan.render());
        assert_eq!(plan.kept.len(), 5);
        assert!(plan.render().starts_with("nothing changes\n"));
    }
}

#[test]
fn compatible_changes() {
    let table: [(Patches, &[&str], &[&str]); 7] = [
        (
            &[
                ("Order/fields/-", r#"{"name": "note", "type": "str", "nullable": true}"#),
                ("Order/source/every", "\"9s\""),
            ],
            &[],
            &["~ dataset Order: new field note: Optional[str]", "~ source Order: every"],
        ),
        (&[("Order/metadata/owner", "\"me\"")], &[], &["~ dataset Order: owner"]),
        (&[("UserFeatures/features/1/default", r#"{"int": 1}"#)], &[], &["~ feature UserFeatures.orders_1h: default"]),
        (
            &[("UserFeatures/features/4/name", "\"basket\""), ("UserFeatures/features/5/on/category", "\"basket\"")],
            &[],
            &[
                "~ feature UserFeatures.category_orders: on=",
                "> feature UserFeatures.basket (id 5) was basket_category, which still answers, as deprecated",
            ],
        ),
        (
            &[
                ("UserFeatures/features/2/name", "\"spend\""),
                ("UserFeatures/extractors/0/outputs", "[\"spend\"]"),
                ("UserFeatures/extractors/1/inputs/1/feature", "\"spend\""),
            ],
            &[],
            &["> feature UserFeatures.spend (id 3) was spend_7d, which still answers, as deprecated"],
        ),
        (
            &[("UserFeatures/features/5", "null")],
            &["UserFeatures.category_orders"],
            &["- feature UserFeatures.category_orders"],
        ),
        (
            &[
                ("UserFeatures/extractors/0/version", "2"),
                ("UserFeatures/extractors/0/source_hash", "\"x\""),
                ("UserFeatures/extractors/0/impure", "[\"time.time\"]"),
                ("modules/0/source", "\"\""),
            ],
            &[],
            &["~ extractor UserFeatures.from_stats: version 1 -> 2; its code changes", "~ module features: source"],
        ),
    ];
    for (patches, remove, expected) in table {
        let plan = plan(patches, remove);
        let text = plan.render();
        let head: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
        assert_eq!(head, expected);
        assert!(plan.built.is_empty() && plan.rebuilt.is_empty() && plan.dropped.is_empty());
    }
}

#[test]
fn a_new_pipeline_version_is_rebuilt() {
    let plan = plan(
        &[
            ("compute/version", "2"),
            ("compute/aggregates/1/window", "\"30d\""),
            ("compute/aggregates/1/op", r#"{"kind": "sum"}"#),
        ],
        &[],
    );
    assert_eq!(plan.changed.len(), 1);
    assert_eq!(plan.changed[0].details, ["version 1 -> 2", "aggregate spend_7d changes"]);
    assert_eq!(plan.rebuilt.len(), 1);
    assert_eq!(plan.rebuilt[0].identity, "pipeline:UserStats.compute@2");
    assert_eq!(plan.rebuilt[0].replaces.as_deref(), Some("pipeline:UserStats.compute@1"));
    assert_eq!(plan.rebuilt[0].input.as_deref(), Some("Order"));
    assert_eq!(plan.dropped[0].identity, "pipeline:UserStats.compute@1");
    assert_eq!(plan.kept.len(), 4);
    assert!(
        plan.render()
            .contains("  rebuild pipeline:UserStats.compute@2 for pipeline:UserStats.compute@1, replaying Order\n")
    );
}

#[test]
fn a_new_dataset_version_needs_new_pipeline_versions() {
    let retyped = ("Order/fields/3/type", "\"float\"");
    assert_eq!(
        refusals(&[retyped, ("Order/version", "2")]),
        [
            "features.py:37: pipeline 'CategoryStats.by_category': a breaking change without a new version: it reads Order@2 instead of Order@1 (hint: raise version=1 to 2)",
            "features.py:22: pipeline 'UserStats.compute': a breaking change without a new version: it reads Order@2 instead of Order@1 (hint: raise version=1 to 2)",
        ]
    );
    let plan = plan(&[retyped, ("Order/version", "2"), ("compute/version", "2"), ("by_category/version", "2")], &[]);
    assert_eq!(plan.warnings, ["Order@2 begins with an empty log: the events of Order@1 are not carried over"]);
    assert_eq!(plan.rebuilt.len(), 5);
    assert!(plan.kept.is_empty() && plan.built.is_empty());
}

#[test]
fn breaking_changes_are_listed() {
    let table: [(Patches, &[&str]); 14] = [
        (
            &[("Order/fields/3/type", "\"float\"")],
            &[
                "features.py:4: dataset 'Order': a breaking change without a new version: field items changes from Optional[int] to Optional[float] (hint: raise version=1 to 2)",
            ],
        ),
        (
            &[("Order/fields/3/nullable", "false")],
            &[
                "features.py:4: dataset 'Order': a breaking change without a new version: field items changes from Optional[int] to int (hint: raise version=1 to 2)",
            ],
        ),
        (
            &[("Order/fields/-", r#"{"name": "note", "type": "str"}"#)],
            &[
                "features.py:4: dataset 'Order': a breaking change without a new version: the new field note is not Optional, and earlier rows have no value for it (hint: raise version=1 to 2)",
            ],
        ),
        (
            &[("Order/index", "false"), ("Order/partitions", "8")],
            &[
                "features.py:4: dataset 'Order': a breaking change without a new version: index changes from true to false; partitions changes from 4 to 8 (hint: raise version=1 to 2)",
            ],
        ),
        (
            &[("Order/source/max_lateness", "\"2h\"")],
            &[
                "features.py:4: dataset 'Order': a breaking change without a new version: max_lateness changes from 1h to 2h (hint: raise version=1 to 2)",
            ],
        ),
        (
            &[("Order/max_future", "\"2d\""), ("Order/dedup_window", "\"1d\"")],
            &[
                "features.py:4: dataset 'Order': a breaking change without a new version: max_future changes from 1d to 2d; dedup_window changes from 7d to 1d (hint: raise version=1 to 2)",
            ],
        ),
        (
            &[("compute/steps/0", "null")],
            &[
                "features.py:22: pipeline 'UserStats.compute': a breaking change without a new version: its filters and assigns change (hint: raise version=1 to 2)",
            ],
        ),
        (
            &[("compute/aggregates/0/window", "\"2h\"")],
            &[
                "features.py:22: pipeline 'UserStats.compute': a breaking change without a new version: aggregate orders_1h changes (hint: raise version=1 to 2)",
            ],
        ),
        (
            &[
                ("UserStats/fields/-", r#"{"name": "n", "type": "int"}"#),
                ("compute/aggregates/-", r#"{"name": "n", "op": {"kind": "count"}, "window": "2h"}"#),
            ],
            &[
                "features.py:22: pipeline 'UserStats.compute': a breaking change without a new version: aggregate n is new (hint: raise version=1 to 2)",
            ],
        ),
        (
            &[("UserFeatures/extractors/0/source_hash", "\"other\"")],
            &[
                "features.py:52: extractor 'UserFeatures.from_stats': a breaking change without a new version: its code changes (hint: raise version=1 to 2)",
            ],
        ),
        (
            &[(
                "UserFeatures/extractors/1/inputs",
                r#"[{"featureset": "UserFeatures", "feature": "uid"}, {"featureset": "UserFeatures", "feature": "spend_7d"}]"#,
            )],
            &[
                "features.py:58: extractor 'UserFeatures.judge': a breaking change without a new version: its inputs change (hint: raise version=1 to 2)",
            ],
        ),
        (
            &[("UserFeatures/features/-", r#"{"name": "new", "type": "int", "id": 9, "request": true}"#)],
            &[
                "features.py:43: feature 'UserFeatures.new': id 9 was published as 'gone' and is never used again (hint: the next free id is 10)",
            ],
        ),
        (
            &[
                ("UserFeatures/features/4/type", "\"int\""),
                ("UserFeatures/features/5", r#"{"name": "category_orders", "type": "int", "id": 6, "request": true}"#),
            ],
            &[
                "features.py:43: feature 'UserFeatures.basket_category' changes from str to int, but its id 5 stands for the former (hint: give it a new id: ids are never used for something else)",
            ],
        ),
        (
            &[("UserFeatures/features/-", r#"{"name": "gone", "type": "int", "id": 9, "request": true}"#)],
            &["+ feature UserFeatures.gone\n\nstate\n"],
        ),
    ];
    for (patches, expected) in table {
        let mut found = refusals(patches);
        if let Some(text) = found.first_mut().filter(|text| text.starts_with('+')) {
            text.truncate(text.find("state\n").unwrap() + 6);
        }
        assert_eq!(found, expected, "{patches:?}");
    }
}

#[test]
fn versions_only_grow() {
    let next =
        compile(&patched(&[("Order/version", "2"), ("compute/version", "3"), ("by_category/version", "3")])).unwrap();
    let errors = diff(&next, &compiled(&[]), &published()).unwrap_err();
    let found: Vec<String> = errors.iter().map(|error| error.to_string()).collect();
    assert_eq!(
        found,
        [
            "features.py:4: dataset 'Order': version 1 is older than 2, which is there (hint: versions only grow)",
            "features.py:37: pipeline 'CategoryStats.by_category': version 1 is older than 3, which is there (hint: versions only grow)",
            "features.py:22: pipeline 'UserStats.compute': version 1 is older than 3, which is there (hint: versions only grow)",
        ]
    );
}

#[test]
fn removal_drops_state_and_costs_are_said() {
    let current = patched(&[]);
    let nothing = Definitions { format: 1, ..Definitions::default() };
    let next = merge(&current, &nothing, &["UserFeatures".to_string(), "CategoryStats".to_string()]).unwrap();
    let plan = diff(&compile(&current).unwrap(), &compile(&next).unwrap(), &published()).unwrap();
    let removed: Vec<String> = plan.removed.iter().map(|item| format!("{} {}", item.kind, item.name)).collect();
    assert_eq!(removed, ["dataset CategoryStats", "featureset UserFeatures", "pipeline CategoryStats.by_category"]);
    let dropped: Vec<&str> = plan.dropped.iter().map(|item| item.identity.split('.').next().unwrap()).collect();
    assert_eq!(dropped, ["pipeline:CategoryStats", "route:Order@1:category"]);
}

/// What is kept belongs to a table's identity: another history builds it anew.
#[test]
fn a_history() {
    let plan_of = |patches: Patches| plan(patches, &[]).render();
    assert_eq!(
        plan_of(&[("Order/history", "\"30d\"")]),
        "~ dataset Order: history changes from unset to 30d\n\nstate\n  keep    log:Order@1\n  keep    raw:Order@1\n  \
         keep    ROUTE\n  \
         rebuild pipeline:CategoryStats.by_category@1+kept31d for pipeline:CategoryStats.by_category@1, replaying Order\n  \
         rebuild pipeline:UserStats.compute@1+kept37d for pipeline:UserStats.compute@1, replaying Order\n  \
         drop    pipeline:CategoryStats.by_category@1\n  drop    pipeline:UserStats.compute@1\n\nwarnings\n  \
         ! Order: history=30d does not bound its rows: they are looked up (index=True), so all are kept\n"
            .replace("ROUTE", &compiled(&[]).pipelines["CategoryStats.by_category"].route.as_ref().unwrap().log_identity())
    );
    let endless: Patches = &[
        ("Order/history", "\"30d\""),
        ("Order/index", "false"),
        ("Order/version", "2"),
        ("by_category/version", "2"),
        ("compute/version", "2"),
        ("compute/aggregates/0/window", "\"forever\""),
    ];
    let plan = plan(endless, &[]);
    let about_history: Vec<&String> = plan.warnings.iter().filter(|warning| warning.contains("history")).collect();
    assert_eq!(
        about_history,
        [
            "UserStats.compute: history=30d of Order does not bound its state: the window of orders_1h is forever, so all is kept"
        ]
    );
    let identities: Vec<&str> = plan.rebuilt.iter().map(|item| item.identity.as_str()).collect();
    assert!(identities.contains(&"pipeline:UserStats.compute@2"), "{identities:?}");
    assert!(identities.contains(&"pipeline:CategoryStats.by_category@2+kept31d"), "{identities:?}");
}

/// What is grouped by another key is built anew without what was erased; nothing else changes, and nothing is refused.
#[test]
fn erased_keys() {
    let current = patched(&[]);
    let mut next = current.clone();
    next.erased.insert("Order@1".to_string(), vec![0, 7, 0, 144]);
    let (then, now) = (compile(&current).unwrap(), compile(&next).unwrap());
    let route = now.pipelines["CategoryStats.by_category"].route.as_ref().unwrap().log_identity();
    assert_eq!(
        diff(&then, &now, &published()).unwrap().render(),
        format!(
            "~ pipeline CategoryStats.by_category: keys erased from Order are left out\n\nstate\n  keep    log:Order@1\n  \
             keep    pipeline:UserStats.compute@1\n  keep    raw:Order@1\n  keep    {route}\n  \
             rebuild pipeline:CategoryStats.by_category@1+erased151 for pipeline:CategoryStats.by_category@1, replaying Order\n  \
             drop    pipeline:CategoryStats.by_category@1\n"
        )
    );
    assert!(diff(&now, &now, &published()).unwrap().is_empty());
    // A commit does not say what is erased, and keeps it.
    assert_eq!(merge(&next, &current, &[]).unwrap().erased, next.erased);
}

#[test]
fn a_topic_for_other_consumers() {
    let emitting: Patches = &[("UserStats/emit", "true")];
    let rendered = plan(emitting, &[]).render();
    assert!(rendered.starts_with("~ dataset UserStats: emit false -> true\n\nstate\n"), "{rendered}");
    let built: Vec<&str> =
        rendered.lines().filter(|line| line.starts_with("  build") || line.contains("drop")).collect();
    assert_eq!(built, ["  build   emit:UserStats@1:compute@1, replaying Order"]);
    // Another version of the pipeline writes another topic.
    let next: Patches = &[("UserStats/emit", "true"), ("compute/version", "2")];
    let (current, next) = (compile(&patched(emitting)).unwrap(), compile(&patched(next)).unwrap());
    let plan = diff(&current, &next, &published()).unwrap();
    let rebuilt: Vec<(&str, Option<&str>)> =
        plan.rebuilt.iter().map(|item| (item.identity.as_str(), item.replaces.as_deref())).collect();
    assert!(rebuilt.contains(&("emit:UserStats@1:compute@2", Some("emit:UserStats@1:compute@1"))), "{rebuilt:?}");
    assert_eq!(next.emissions().map(|emission| emission.topic()).collect::<Vec<_>>(), ["UserStats.v1.compute.v2"]);
}
