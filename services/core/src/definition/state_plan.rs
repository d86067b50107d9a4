//! Which tables and logs a deployment has, and what becomes of them.

use super::compiled::Compiled;
use super::plan::{Plan, StateItem};
use std::collections::BTreeMap;

/// A table or log of a deployment.
struct State {
    /// What it is, whatever its version: `pipeline UserStats.compute`.
    role: String,
    /// The raw dataset whose log it is built from; `None` for a dataset's own log.
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
        let state = State { role: format!("pipeline {}", pipeline.name), input: Some(pipeline.input.clone()) };
        found.insert(pipeline.table_identity(), state);
        if let Some(route) = &pipeline.route {
            let columns = route.id.split_once(':').map_or("", |(_, columns)| columns);
            let role = format!("route {}:{columns}", pipeline.input);
            found.insert(route.log_identity(), State { role, input: Some(pipeline.input.clone()) });
        }
    }
    for emission in compiled.emissions() {
        let state =
            State { role: format!("emit {}", emission.pipeline.name), input: Some(emission.pipeline.input.clone()) };
        found.insert(emission.identity(), state);
    }
    found
}
