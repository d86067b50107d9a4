//! Rows through the programs of the worked example.

use super::compiled;
use crate::expr::Warnings;
use crate::key::encode_key;
use crate::value::Value;

fn row(amount: f64, items: Value, category: Value) -> Vec<Value> {
    vec![Value::str("u1"), Value::Time(5), Value::float(amount).unwrap(), items, category]
}

#[test]
fn filter_assign_values_and_predicates() {
    let compiled = compiled(&[]);
    let pipeline = &compiled.pipelines["UserStats.compute"];
    let mut warnings = Warnings::default();
    let evaluated = pipeline.program.run(&row(10.0, Value::Int(2), Value::Null), &mut warnings).unwrap();
    let value_of = |name: &str| {
        let column = pipeline.plan.column_sources.iter().position(|source| source == name).unwrap();
        evaluated.values[column].clone()
    };
    assert_eq!((value_of("net"), value_of("amount")), (Value::Float(8.0), Value::Float(10.0)));
    assert_eq!(evaluated.predicates, 1);
    let without_items = pipeline.program.run(&row(10.0, Value::Null, Value::Null), &mut warnings).unwrap();
    assert_eq!(without_items.predicates, 0);
    assert_eq!(pipeline.program.run(&row(0.0, Value::Int(2), Value::Null), &mut warnings), None);
    assert_eq!(pipeline.program.wanted_columns(), [false, false, true, true, false]);
    assert_eq!(warnings.total(), 0);
}

#[test]
fn keys_of_routes() {
    let compiled = compiled(&[]);
    let route = compiled.pipelines["CategoryStats.by_category"].route.clone().unwrap();
    let mut warnings = Warnings::default();
    let key = route.key_program.run(&row(1.0, Value::Null, Value::str("BOOKS")), &mut warnings);
    assert_eq!(key, encode_key(&[Value::str("books")]));
    assert_eq!(route.key_program.run(&row(1.0, Value::Null, Value::Null), &mut warnings), None);
    assert_eq!(route.key_program.wanted_columns(), [false, false, false, false, true]);
}

#[test]
fn columns_that_nothing_needs_are_not_computed() {
    let dead = r#"{"op": "assign", "columns": [
        {"name": "dead", "expr": {"call": {"op": "div", "args": [{"col": "items"}, {"lit": {"int": 0}}]}}},
        {"name": "deader", "expr": {"col": "dead"}},
        {"name": "amount", "expr": {"call": {"op": "add", "args": [{"col": "amount"}, {"lit": {"int": 1}}]}}},
        {"name": "amount", "expr": {"call": {"op": "mul", "args": [{"col": "amount"}, {"lit": {"int": 2}}]}}}]}"#;
    let compiled = compiled(&[("compute/steps/0", dead)]);
    let pipeline = &compiled.pipelines["UserStats.compute"];
    let mut warnings = Warnings::default();
    let evaluated = pipeline.program.run(&row(4.0, Value::Int(1), Value::Null), &mut warnings).unwrap();
    let mut values = evaluated.values.clone();
    values.sort();
    assert_eq!(values, [Value::Float(8.0), Value::Float(10.0)]);
    assert_eq!(warnings.total(), 0);
}

/// Filters run in order with the assigns: a filter that guards a division keeps it from warning.
#[test]
fn a_filter_guards_what_comes_after_it() {
    let steps = r#"[{"op": "filter", "expr": {"call": {"op": "ne", "args": [{"col": "items"}, {"lit": {"int": 0}}]}}},
        {"op": "assign", "columns": [{"name": "net", "expr": {"call": {"op": "div", "args": [{"col": "amount"}, {"col": "items"}]}}}]}]"#;
    let compiled = compiled(&[("compute/steps", steps)]);
    let program = &compiled.pipelines["UserStats.compute"].program;
    let mut warnings = Warnings::default();
    assert!(program.run(&row(4.0, Value::Int(0), Value::Null), &mut warnings).is_none());
    assert_eq!(warnings.total(), 0);
    assert!(program.run(&row(4.0, Value::Int(2), Value::Null), &mut warnings).is_some());
}
