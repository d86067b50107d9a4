//! Which tables and logs a deployment has, and what becomes of them.

use super::compiled::Compiled;
use super::plan::{Plan, StateItem};
use crate::window::{Window, format_duration};
use std::collections::BTreeMap;

/// A table or log of a deployment.
struct State {
    /// What it is, whatever its version: `pipeline UserStats.compute`.
    role: String,
    /// The raw dataset whose events it is built from; `None` for a dataset's own log.
    input: Option<String>,
}

/// Fills the state lists of `plan`.
pub(super) fn plan_state(current: &Compiled, next: &Compiled, plan: &mut Plan) {
    let before = states(current);
    let after = states(next);
    for (identity, state) in &after {
        let mut item =
            StateItem { identity: identity.clone(), replaces: None, input: state.input.clone(), replay_records: None };
        if before.contains_key(identity) {
            plan.kept.push(item);
            continue;
        }
        let predecessor = before.iter().find(|(known, other)| other.role == state.role && !after.contains_key(*known));
        match predecessor {
            Some((known, _)) => {
                item.replaces = Some(known.clone());
                plan.rebuilt.push(item);
            }
            None => plan.built.push(item),
        }
    }
    for (identity, state) in &before {
        if !after.contains_key(identity) {
            let input = state.input.clone();
            plan.dropped.push(StateItem { identity: identity.clone(), replaces: None, input, replay_records: None });
        }
    }
}

/// What `history=` cannot bound is said where it becomes so: tables that keep everything although their dataset has one.
pub(super) fn warn_of_kept(current: &Compiled, next: &Compiled, plan: &mut Plan) {
    let before = unbounded(current);
    for (identity, warning) in unbounded(next) {
        if before.get(&identity) != Some(&warning) {
            plan.warnings.push(warning);
        }
    }
}

/// By the table's identity.
fn unbounded(compiled: &Compiled) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for dataset in compiled.datasets.values().filter(|dataset| dataset.has_row_table()) {
        if let Some(history) = dataset.history {
            let warning = format!(
                "{}: history={} does not bound its rows: they are looked up (index=True), so all are kept",
                dataset.name,
                format_duration(history)
            );
            found.insert(dataset.table_identity(), warning);
        }
    }
    for pipeline in compiled.pipelines.values().filter(|pipeline| pipeline.plan.layout.kept.is_none()) {
        let Some(history) = compiled.datasets.get(&pipeline.input).and_then(|input| input.history) else { continue };
        let endless = pipeline.plan.outputs.iter().filter(|output| output.window == Window::Forever);
        let names: Vec<&str> = endless.map(|output| output.name.as_str()).collect();
        let warning = format!(
            "{}: history={} of {} does not bound its state: the window of {} is forever, so all is kept",
            pipeline.name,
            format_duration(history),
            pipeline.root,
            names.join(", ")
        );
        found.insert(pipeline.table_identity(), warning);
    }
    found
}

/// By catalog identity.
fn states(compiled: &Compiled) -> BTreeMap<String, State> {
    let mut found = BTreeMap::new();
    for dataset in compiled.datasets.values().filter(|dataset| dataset.is_raw()) {
        let name = &dataset.name;
        found.insert(dataset.log_identity(), State { role: format!("log {name}"), input: None });
        if dataset.has_row_table() {
            let state = State { role: format!("raw {name}"), input: Some(name.clone()) };
            found.insert(dataset.table_identity(), state);
        }
    }
    for pipeline in compiled.pipelines.values() {
        let state = State { role: format!("pipeline {}", pipeline.name), input: Some(pipeline.root.clone()) };
        found.insert(pipeline.table_identity(), state);
        if let Some(route) = &pipeline.route {
            let role = format!("route {}:{}", pipeline.input, route.columns);
            found.insert(route.log_identity(), State { role, input: Some(pipeline.root.clone()) });
        }
    }
    for emission in compiled.emissions() {
        let state =
            State { role: format!("emit {}", emission.pipeline.name), input: Some(emission.pipeline.root.clone()) };
        found.insert(emission.identity(), state);
    }
    found
}
