//! Pipelines on datasets that pipelines fill.

use super::{compile, example};
use crate::definition::{Compiled, Definitions, PublishedIds, diff};
use crate::schema::DataType;
use serde_json::{Value as Json, json};

/// The worked example with `Days` on `UserStats` (by another key), and `Weeks` on that (by the same).
fn chained(change: impl FnOnce(&mut Json)) -> Definitions {
    let mut all = example();
    let dataset = |name: &str, line: u32| {
        json!({"name": name, "version": 1, "index": true, "location": {"file": "features.py", "line": line}, "fields": [
            {"name": "orders_1h", "type": "int", "key": true}, {"name": "ts", "type": "datetime", "timestamp": true},
            {"name": "most", "type": "float"}]})
    };
    let pipeline = |dataset: &str, input: &str, of: &str, line: u32| {
        json!({"name": "compute", "version": 1, "dataset": dataset, "input": input, "group_by": ["orders_1h"],
            "location": {"file": "features.py", "line": line},
            "aggregates": [{"name": "most", "op": {"kind": "max"}, "of": of, "window": "1d"}]})
    };
    let datasets = all["datasets"].as_array_mut().unwrap();
    datasets.extend([dataset("Days", 70), dataset("Weeks", 80)]);
    let pipelines = all["pipelines"].as_array_mut().unwrap();
    // In any order.
    pipelines.insert(0, pipeline("Weeks", "Days", "most", 85));
    pipelines.insert(1, pipeline("Days", "UserStats", "spend_7d", 75));
    change(&mut all);
    serde_json::from_value(all).unwrap()
}

fn compiled(change: impl FnOnce(&mut Json)) -> Compiled {
    compile(&chained(change)).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn errors(change: impl FnOnce(&mut Json)) -> Vec<String> {
    match compile(&chained(change)) {
        Ok(_) => vec!["accepted".to_string()],
        Err(errors) => errors.iter().map(|error| error.to_string()).collect(),
    }
}

fn pipeline<'a>(all: &'a mut Json, dataset: &str) -> &'a mut Json {
    all["pipelines"].as_array_mut().unwrap().iter_mut().find(|pipeline| pipeline["dataset"] == dataset).unwrap()
}

fn dataset<'a>(all: &'a mut Json, name: &str) -> &'a mut Json {
    all["datasets"].as_array_mut().unwrap().iter_mut().find(|dataset| dataset["name"] == name).unwrap()
}

#[test]
fn a_chain_is_bound_to_its_raw_dataset() {
    let found = compiled(|all| {
        dataset(all, "Order")["partitions"] = json!(7);
        dataset(all, "Order")["max_lateness"] = json!("3h");
    });
    for (name, upstream, id, topic, is_aligned) in [
        ("Days", "UserStats.compute", "UserStats@1:compute@1:orders_1h", "UserStats.v1.compute.v1.by.orders_1h", false),
        ("Weeks", "Days.compute", "Days@1:compute@1:orders_1h", "Days.v1.compute.v1.by.orders_1h", true),
    ] {
        let pipeline = &found.pipelines[&format!("{name}.compute")];
        assert_eq!((pipeline.root.as_str(), pipeline.upstream.as_deref()), ("Order", Some(upstream)));
        let route = pipeline.route.as_ref().unwrap();
        assert_eq!((route.id.as_str(), route.topic.as_str(), route.is_aligned), (id, topic, is_aligned));
        let filled = &found.datasets[name];
        let raw = &found.datasets["Order"];
        assert_eq!((filled.partitions, filled.max_lateness), (7, raw.max_lateness));
    }
    let direct = &found.pipelines["UserStats.compute"];
    assert_eq!((direct.root.as_str(), &direct.upstream), ("Order", &None));
}

/// An aggregate may have no value whatever its field is declared as, so that an aggregate over it counts what there is.
#[test]
fn aggregated_columns_may_be_null() {
    let found = compiled(|all| {
        pipeline(all, "Days")["aggregates"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "last", "op": {"kind": "last"}, "of": "spend_7d", "window": "1d"}));
        dataset(all, "Days")["fields"].as_array_mut().unwrap().push(json!({"name": "last", "type": "float"}));
    });
    let outputs = &found.pipelines["Days.compute"].plan.outputs;
    let last = outputs.iter().find(|output| output.name == "last").unwrap();
    assert!(last.nullable);
    assert_eq!(last.result_type, DataType::Float);
}

#[test]
fn refusals() {
    let cases: Vec<(Vec<String>, &str)> = vec![
        (
            errors(|all| pipeline(all, "UserStats")["input"] = json!("Weeks")),
            "features.py:85: pipeline 'Weeks.compute': datasets are filled from each other: Weeks <- Days <- UserStats <- Weeks \
             (hint: a dataset cannot be computed from itself: read the raw dataset in one of these)",
        ),
        (
            errors(|all| pipeline(all, "Days")["input"] = json!("Days")),
            "features.py:75: pipeline 'Days.compute': datasets are filled from each other: Days <- Days (hint: a dataset cannot \
             be computed from itself: read the raw dataset in one of these)",
        ),
        (
            errors(|all| {
                let mut second = pipeline(all, "Days").clone();
                second["name"] = json!("again");
                second["aggregates"][0]["name"] = json!("least");
                all["pipelines"].as_array_mut().unwrap().push(second);
                dataset(all, "Days")["fields"].as_array_mut().unwrap().push(json!({"name": "least", "type": "float"}));
            }),
            "features.py:85: pipeline 'Weeks.compute': 'Days' is filled by 2 pipelines, so that a row of it is not one event's \
             (hint: make a dataset of each pipeline, and read that)",
        ),
        (
            errors(|all| {
                dataset(all, "Order")["max_lateness"] = json!("1h");
                dataset(all, "Order")["history"] = json!("30d");
            }),
            "features.py:75: pipeline 'Days.compute': the rows of 'UserStats' need all events of 'Order', which lets them go \
             (history=30d) (hint: leave history= out of 'Order', or read 'Order' here)",
        ),
        (
            errors(|all| dataset(all, "Weeks")["emit"] = json!(true)),
            "features.py:85: pipeline 'Weeks.compute': emit of 'Weeks' needs a log that stays: the rows of 'Days' hold several keys of \
             'Order', and are made anew when one of them is erased (hint: leave emit=True out of 'Weeks', or read 'Order' here)",
        ),
        (
            errors(|all| pipeline(all, "Days")["aggregates"][0]["of"] = json!("amount")),
            "features.py:75: pipeline 'Days.compute': aggregate 'most': unknown column 'amount'",
        ),
        (
            errors(|all| {
                pipeline(all, "UserStats")["aggregates"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "tops", "op": {"kind": "top_k", "k": 3}, "of": "category", "window": "1d"}));
                dataset(all, "UserStats")["fields"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "tops", "type": "list[TopKEntry[str]]"}));
                let last = json!({"name": "last", "op": {"kind": "last"}, "of": "tops", "window": "1d"});
                pipeline(all, "Days")["aggregates"].as_array_mut().unwrap().push(last);
                dataset(all, "Days")["fields"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "last", "type": "list[TopKEntry[str]]"}));
            }),
            "features.py:75: pipeline 'Days.compute': 'tops' is list[TopKEntry[str]], which a pipeline cannot read",
        ),
    ];
    for (found, wanted) in cases {
        assert!(found.iter().any(|error| error.starts_with(wanted)), "{wanted}\n{found:#?}");
        assert_eq!(found.len(), 1, "{found:#?}");
    }
    // Rows of one key each stay where they are.
    assert_eq!(errors(|all| dataset(all, "Days")["emit"] = json!(true)), ["accepted"]);
}

#[test]
fn a_new_version_upstream_needs_one_here() {
    let next_version = |all: &mut Json| {
        pipeline(all, "UserStats")["version"] = json!(2);
        pipeline(all, "UserStats")["aggregates"][0]["window"] = json!("2h");
    };
    let (current, next) = (compiled(|_| ()), compiled(next_version));
    let refused = diff(&current, &next, &PublishedIds::new()).unwrap_err();
    let refused: Vec<String> = refused.iter().map(|error| error.to_string()).collect();
    assert_eq!(
        refused,
        [
            "features.py:75: pipeline 'Days.compute': a breaking change without a new version: it reads UserStats@1 by compute@2 \
          instead of UserStats@1 by compute@1 (hint: raise version=1 to 2)"
        ]
    );
    let next = compiled(|all| {
        next_version(all);
        pipeline(all, "Days")["version"] = json!(2);
        pipeline(all, "Weeks")["version"] = json!(2);
    });
    let rendered = diff(&current, &next, &PublishedIds::new()).unwrap().render();
    for line in [
        "rebuild pipeline:Days.compute@2 for pipeline:Days.compute@1, replaying Order",
        "rebuild route:UserStats@1:compute@2:orders_1h for route:UserStats@1:compute@1:orders_1h, replaying Order",
        "drop    route:Days@1:compute@1:orders_1h",
    ] {
        assert!(rendered.contains(line), "{line}\n{rendered}");
    }
}

/// Rows of one key of the raw dataset each stay in their log, and the table leaves out what is erased; any other log is made anew.
#[test]
fn erased_keys_go_along_the_chain() {
    let current = chained(|_| ());
    let mut next = current.clone();
    next.erased.insert("Order@1".to_string(), vec![0, 7, 0, 144]);
    let (current, next) = (compile(&current).unwrap(), compile(&next).unwrap());
    let route = |name: &str| next.pipelines[name].route.clone().unwrap();
    assert_eq!(route("Days.compute").id, "UserStats@1:compute@1:orders_1h");
    assert_eq!(next.pipelines["Days.compute"].erased, [0, 7, 0, 144]);
    assert_eq!(next.pipelines["Days.compute"].table_identity(), "pipeline:Days.compute@1+erased151");
    assert_eq!(route("Weeks.compute").id, "Days@1:compute@1:orders_1h+erased151");
    assert_eq!(route("Weeks.compute").topic, "Days.v1.compute.v1.by.orders_1h.erased151");
    assert!(next.pipelines["Weeks.compute"].erased.is_empty());
    assert_eq!(next.pipelines["Weeks.compute"].known_erases(), [0, 7, 0, 144]);
    assert_eq!(next.pipelines["Weeks.compute"].table_identity(), "pipeline:Weeks.compute@1+erased151");
    let rendered = diff(&current, &next, &PublishedIds::new()).unwrap().render();
    for line in [
        "~ pipeline Days.compute: keys erased from Order are left out",
        "~ pipeline Weeks.compute: keys erased from Order are left out",
        "keep    route:UserStats@1:compute@1:orders_1h",
        "rebuild route:Days@1:compute@1:orders_1h+erased151 for route:Days@1:compute@1:orders_1h, replaying Order",
    ] {
        assert!(rendered.contains(line), "{line}\n{rendered}");
    }
}
