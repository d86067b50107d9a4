//! Checks pipelines and binds them.

use super::PipelineDef;
use super::chains::{Pipelines, mixes_keys, upstream_of};
use super::compiled::{CompiledDataset, CompiledPipeline, Route};
use super::findings::{About, Findings, check_name, repeated};
use super::program::RowProgram;
use super::steps::BoundSteps;
use crate::aggregate::{OutputPlan, TablePlan};
use crate::error::Error;
use crate::key::is_key_type;
use crate::schema::{DataType, Field};
use crate::suggest;
use crate::window::format_duration;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Datasets by name; `None` for one that is declared but broken, about which enough was said.
pub(super) type Datasets = BTreeMap<String, Option<CompiledDataset>>;

/// `UserStats.compute`.
pub(super) fn full_name(definition: &PipelineDef) -> String {
    format!("{}.{}", definition.dataset, definition.name)
}

/// The pipeline, if nothing is wrong with it.
pub(super) fn compile_pipeline(
    definition: &PipelineDef,
    datasets: &Datasets,
    pipelines: &Pipelines,
    erased: &BTreeMap<String, Vec<u64>>,
    findings: &mut Findings,
) -> Option<CompiledPipeline> {
    let name = full_name(definition);
    let mut about = About::new(findings, definition.location.as_ref(), format!("pipeline '{name}'"));
    let before = about.count();
    about.keep(check_name("pipeline", &definition.name));
    if definition.version == 0 {
        about.wrong("versions begin at 1");
    }
    let target = find_dataset(datasets, &definition.dataset, "fills", &mut about);
    let input = find_dataset(datasets, &definition.input, "reads", &mut about)?;
    let upstream = if input.is_raw() { None } else { Some(upstream_of(input, pipelines, &mut about)?) };
    let mut steps = BoundSteps::new(input);
    for step in &definition.steps {
        steps.add(step, &mut about);
    }
    if about.count() > before {
        return None;
    }
    check_group_types(&definition.group_by, &steps, &mut about);
    let plan = compile_aggregates(definition, &steps, &mut about);
    let target = target?;
    let group = match_key(&definition.group_by, &steps, target, &mut about);
    let output_columns = plan.as_ref().map(|plan| match_outputs(plan, target, &mut about));
    if about.count() > before {
        return None;
    }
    let mut plan = plan?;
    plan.layout.kept = input.history.and_then(|history| Some(plan.longest_window()?.saturating_add(history)));
    let root = upstream.map_or(&input.name, |upstream| &upstream.root);
    if let Some(history) = input.history.filter(|_| target.emit && plan.layout.kept.is_some()) {
        about.report(
            Error::definition(format!(
                "emit of '{}' needs all events of '{}', which lets them go (history={})",
                target.name,
                root,
                format_duration(history)
            ))
            .field("emit")
            .hint(format!("leave history= out of '{root}', or emit=True out of '{}'", target.name)),
        );
        return None;
    }
    if target.emit && upstream.is_some_and(|upstream| mixes_keys(upstream)) {
        about.report(
            Error::definition(format!(
                "emit of '{}' needs a log that stays: the rows of '{}' hold several keys of '{root}', and are made anew when one of them is \
                 erased",
                target.name, input.name
            ))
            .field("emit")
            .hint(format!("leave emit=True out of '{}', or read '{root}' here", target.name)),
        );
        return None;
    }
    let program = about.keep(steps.row_program(&plan))?;
    let route = about.keep(steps.route(&group, upstream.map(Arc::as_ref)))?;
    if let Some(field) = unreadable(input, &program, route.as_ref()) {
        about.report(
            Error::definition(format!("'{}' is {}, which a pipeline cannot read", field.name, field.data_type))
                .field(field.name.as_str())
                .hint("leave it out of the steps, groupby and aggregates"),
        );
        return None;
    }
    let erased = match upstream {
        Some(upstream) if mixes_keys(upstream) => None,
        _ => datasets.get(root).and_then(Option::as_ref).filter(|_| route.is_some()),
    }
    .and_then(|root| erased.get(&root.identity()));
    Some(CompiledPipeline {
        name,
        version: definition.version,
        dataset: definition.dataset.clone(),
        input: definition.input.clone(),
        root: root.clone(),
        upstream: upstream.map(|upstream| upstream.name.clone()),
        program,
        group_columns: group,
        route,
        erased: erased.cloned().unwrap_or_default(),
        plan: Arc::new(plan),
        output_columns: output_columns?,
        location: definition.location.clone(),
    })
}

/// A field that is read although the log has no values for it: see [`super::Emission::routed`].
fn unreadable<'a>(input: &'a CompiledDataset, program: &RowProgram, route: Option<&Route>) -> Option<&'a Field> {
    let keys = route.map(|route| route.key_program.wanted_columns());
    let is_read = |column: usize| program.wanted_columns()[column] || keys.is_some_and(|keys| keys[column]);
    (0..input.fields.len())
        .find(|&column| is_read(column) && input.types[column].holds_struct())
        .map(|column| &input.fields[column])
}

fn find_dataset<'a>(
    datasets: &'a Datasets,
    name: &str,
    verb: &str,
    about: &mut About<'_>,
) -> Option<&'a CompiledDataset> {
    match datasets.get(name) {
        Some(found) => found.as_ref(),
        None => {
            let hint = suggest::hint(name, datasets.keys().map(String::as_str));
            about.report(Error::definition(format!("{verb} the unknown dataset '{name}'")).field(name).hint(hint));
            None
        }
    }
}

fn check_group_types(group_by: &[String], steps: &BoundSteps<'_>, about: &mut About<'_>) {
    if group_by.is_empty() {
        about.wrong("groupby without a column");
    }
    for name in repeated(group_by.iter().map(String::as_str)) {
        about.wrong(format!("groupby names '{name}' twice"));
    }
    for name in group_by {
        match steps.column_type(name) {
            None => {
                let hint = suggest::hint(name, steps.names());
                about.report(
                    Error::definition(format!("groupby names the unknown column '{name}'"))
                        .field(name.as_str())
                        .hint(hint),
                );
            }
            Some(found) if !is_key_type(&found.data_type) => about.wrong_hint(
                format!("groupby column '{name}' is {}", found.data_type),
                "a key is bool, int, str, bytes or datetime",
            ),
            Some(_) => {}
        }
    }
}

/// The group columns in the order of the aggregated dataset's key: these must be the same by name and type.
fn match_key(
    group_by: &[String],
    steps: &BoundSteps<'_>,
    target: &CompiledDataset,
    about: &mut About<'_>,
) -> Vec<String> {
    let keys: Vec<&str> = target.key_names().collect();
    let is_same = keys.len() == group_by.len() && group_by.iter().all(|name| keys.contains(&name.as_str()));
    if !is_same {
        let groups = if group_by.is_empty() { "nothing".to_string() } else { group_by.join(", ") };
        about.wrong_hint(
            format!("groups by {groups}, but the key of '{}' is {}", target.name, keys.join(", ")),
            "group by the key fields of the dataset that the pipeline fills; rename with assign where names differ",
        );
        return Vec::new();
    }
    for &column in &target.key_columns {
        let field = &target.fields[column];
        if let Some(found) = steps.column_type(&field.name)
            && is_key_type(&found.data_type)
            && found.data_type != field.data_type
        {
            about.wrong(format!(
                "groupby column '{}' is {}, but the key field of '{}' is {}",
                field.name, found.data_type, target.name, field.data_type
            ));
        }
    }
    keys.into_iter().map(str::to_string).collect()
}

fn compile_aggregates(definition: &PipelineDef, steps: &BoundSteps<'_>, about: &mut About<'_>) -> Option<TablePlan> {
    if definition.aggregates.is_empty() {
        about.wrong("no aggregates");
    }
    let before = about.count();
    for aggregate in &definition.aggregates {
        if let Some(predicate) = &aggregate.predicate
            && let Err(error) = steps.predicate("where", predicate)
        {
            about.report(error.context(format!("aggregate '{}'", aggregate.name)));
        }
    }
    // By name, so that the table's layout does not depend on the order in which they are written.
    let mut aggregates = definition.aggregates.clone();
    aggregates.sort_by(|a, b| a.name.cmp(&b.name));
    match TablePlan::compile_all(&aggregates, &steps.columns()) {
        Ok(plan) => (about.count() == before).then_some(plan),
        Err(errors) => {
            errors.into_iter().for_each(|error| about.report(error));
            None
        }
    }
}

/// For each output of the plan, the field that it fills.
fn match_outputs(plan: &TablePlan, target: &CompiledDataset, about: &mut About<'_>) -> Vec<usize> {
    let mut columns = Vec::with_capacity(plan.outputs.len());
    for output in &plan.outputs {
        let Some(column) = target.column(&output.name) else {
            let free = target.fields.iter().filter(|field| is_filled(field)).map(|field| field.name.as_str());
            let hint = suggest::hint(&output.name, free);
            about.report(
                Error::definition(format!("aggregate '{}' fills no field of '{}'", output.name, target.name))
                    .field(output.name.as_str())
                    .hint(hint),
            );
            continue;
        };
        let field = &target.fields[column];
        if !is_filled(field) {
            let role = if field.key { "a key" } else { "the timestamp" };
            about.wrong(format!("aggregate '{}' cannot fill {role} of '{}'", output.name, target.name));
        } else if field.data_type != output.result_type {
            about.report(type_mismatch(output, field, target));
        }
        columns.push(column);
    }
    columns
}

fn type_mismatch(output: &OutputPlan, field: &Field, target: &CompiledDataset) -> Error {
    let declared =
        if field.nullable { format!("Optional[{}]", output.result_type) } else { output.result_type.to_string() };
    let mut hint = format!("declare {}.{}: {declared}", target.name, field.name);
    match (&output.result_type, &field.data_type) {
        (DataType::Int | DataType::Decimal, DataType::Float) => {
            hint = format!("{hint}, or aggregate to_float of the column");
        }
        (DataType::Int, DataType::Decimal) => hint = format!("{hint}, or aggregate to_decimal of the column"),
        _ => {}
    }
    Error::definition(format!(
        "aggregate '{}' gives {}, but the field '{}.{}' is {}",
        output.name, output.result_type, target.name, field.name, field.data_type
    ))
    .field(field.name.as_str())
    .hint(hint)
}

/// Whether a field of an aggregated dataset is filled by an aggregate.
pub(super) fn is_filled(field: &Field) -> bool {
    !field.key && !field.timestamp
}
