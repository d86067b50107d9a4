//! Definitions as data: the worked example of `docs/definition-format.md` with patches, and the errors or results they give.

mod accepted;
mod chains;
mod changes;
mod closures;
mod features_refused;
mod merging;
mod plans;
mod refused;
mod rows;

use super::{Compiled, Definitions, compile};
use serde_json::Value as Json;

/// The JSON of the worked example.
fn example() -> Json {
    let page = include_str!("../../../../docs/definition-format.md");
    let block = page.split("```json").nth(1).unwrap().split("```").next().unwrap();
    serde_json::from_str(block).unwrap()
}

/// Places in the example, for short: `Order`, `compute`, `UserFeatures`; then a JSON pointer.
const PLACES: [(&str, &str); 7] = [
    ("Order", "/datasets/0"),
    ("UserStats", "/datasets/1"),
    ("CategoryStats", "/datasets/2"),
    ("compute", "/pipelines/0"),
    ("by_category", "/pipelines/1"),
    ("UserFeatures", "/featuresets/0"),
    ("modules", "/modules"),
];

/// Sets the value at `Place/path`. A last `-` appends, a null removes.
fn set(json: &mut Json, path: &str, value: &str) {
    let value: Json = serde_json::from_str(value).unwrap_or_else(|error| panic!("{value}: {error}"));
    let (place, rest) = path.split_once('/').map_or((path, String::new()), |(place, rest)| (place, format!("/{rest}")));
    let root = PLACES.iter().find(|(name, _)| *name == place).map_or(format!("/{place}"), |(_, root)| root.to_string());
    let full = format!("{root}{rest}");
    let (parent, last) = full.rsplit_once('/').unwrap();
    match json.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Json::Object(entries) if value.is_null() => drop(entries.remove(last).unwrap()),
        Json::Object(entries) => drop(entries.insert(last.to_string(), value)),
        Json::Array(items) if last == "-" => items.push(value),
        Json::Array(items) if value.is_null() => drop(items.remove(last.parse::<usize>().unwrap())),
        Json::Array(items) => items[last.parse::<usize>().unwrap()] = value,
        other => panic!("{parent} is {other}"),
    }
}

fn patched(patches: &[(&str, &str)]) -> Definitions {
    let mut json = example();
    patches.iter().for_each(|(path, value)| set(&mut json, path, value));
    serde_json::from_value(json).unwrap()
}

fn compiled(patches: &[(&str, &str)]) -> Compiled {
    compile(&patched(patches)).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// The errors of the example with `patches`, printed.
fn errors(patches: &[(&str, &str)]) -> Vec<String> {
    match compile(&patched(patches)) {
        Ok(_) => vec!["accepted".to_string()],
        Err(errors) => errors.iter().map(|error| error.to_string()).collect(),
    }
}

type Row = (&'static [(&'static str, &'static str)], &'static [&'static str]);

fn check_refused(table: &[Row]) {
    let mut wrong = Vec::new();
    for (patches, expected) in table {
        let found = errors(patches);
        if found != *expected {
            wrong.push(format!("{patches:?}\n  expected {expected:#?}\n  found    {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
