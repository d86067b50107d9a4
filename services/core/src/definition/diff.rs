//! What takes one deployment to the next, and what is refused on the way.

use super::compiled::{Compiled, CompiledDataset, CompiledPipeline};
use super::diff_features::diff_featuresets;
use super::findings::Findings;
use super::plan::{Plan, PlanItem};
use super::state_plan::{plan_state, warn_of_kept};
use super::{Location, Metadata, PipelineDef, SourceDef};
use crate::aggregate::{AggregateDef, AggregateOp};
use crate::error::Error;
use crate::schema::Field;
use crate::window::format_duration;
use std::collections::{BTreeMap, BTreeSet};

/// Every feature id ever published: (featureset, id) -> the name it was last published under.
pub type PublishedIds = BTreeMap<(String, u32), String>;

/// The plan that takes `current` to `next` (both whole, see [`super::merge`]). Refused, with everything that is wrong:
/// breaking changes without a version bump, versions that go back, and feature ids that are used again.
///
/// Where things stand in the source is no content: moving a class changes nothing.
pub fn diff(current: &Compiled, next: &Compiled, published: &PublishedIds) -> Result<Plan, Vec<Error>> {
    let mut differ = Differ { plan: Plan::default(), findings: Findings::default() };
    diff_datasets(current, next, &mut differ);
    diff_pipelines(current, next, &mut differ);
    diff_featuresets(current, next, published, &mut differ);
    diff_modules(current, next, &mut differ);
    warn_of_kept(current, next, &mut differ.plan);
    plan_state(current, next, &mut differ.plan);
    let Differ { mut plan, findings } = differ;
    for list in [&mut plan.added, &mut plan.changed, &mut plan.removed] {
        list.sort();
    }
    findings.finish(plan)
}

/// The plan so far, and what is wrong with it.
pub(super) struct Differ {
    pub plan: Plan,
    pub findings: Findings,
}

impl Differ {
    pub fn added(&mut self, kind: &str, name: impl Into<String>) {
        self.plan.added.push(PlanItem { kind: kind.to_string(), name: name.into(), details: Vec::new() });
    }
    pub fn removed(&mut self, kind: &str, name: impl Into<String>) {
        self.plan.removed.push(PlanItem { kind: kind.to_string(), name: name.into(), details: Vec::new() });
    }
    /// Nothing, if there are no details.
    pub fn changed(&mut self, kind: &str, name: impl Into<String>, details: Vec<String>) {
        if !details.is_empty() {
            self.plan.changed.push(PlanItem { kind: kind.to_string(), name: name.into(), details });
        }
    }

    /// Refuses `breaking` changes within a version, and versions that go back. The change of version, if there is one.
    pub fn version_change(
        &mut self,
        what: &str,
        (current, next): (u32, u32),
        breaking: &[String],
        location: Option<&Location>,
    ) -> Option<String> {
        if next < current {
            let error = Error::precondition(format!("{what}: version {next} is older than {current}, which is there"))
                .field("version")
                .hint("versions only grow");
            self.findings.report(location, error);
        } else if next == current && !breaking.is_empty() {
            let message = format!("{what}: a breaking change without a new version: {}", breaking.join("; "));
            let error = Error::precondition(message)
                .field("version")
                .hint(format!("raise version={current} to {}", current + 1));
            self.findings.report(location, error);
        }
        (next != current).then(|| format!("version {current} -> {next}"))
    }
}

fn diff_datasets(current: &Compiled, next: &Compiled, differ: &mut Differ) {
    for (name, dataset) in &next.datasets {
        let Some(earlier) = current.datasets.get(name) else {
            differ.added("dataset", name);
            if dataset.source.is_some() {
                differ.added("source", name);
            }
            continue;
        };
        let breaking = breaking_dataset_changes(earlier, dataset);
        let what = format!("dataset '{name}'");
        let versions = (earlier.version, dataset.version);
        let mut details: Vec<String> =
            differ.version_change(&what, versions, &breaking, dataset.location.as_ref()).into_iter().collect();
        if dataset.version > earlier.version {
            details.extend(breaking);
            if earlier.is_raw() {
                differ.plan.warnings.push(format!(
                    "{} begins with an empty log: the events of {} are not carried over",
                    dataset.identity(),
                    earlier.identity()
                ));
            }
        }
        for field in &dataset.fields {
            match earlier.fields.iter().find(|known| known.name == field.name) {
                None => details.push(format!("new field {}: {}", field.name, field_type(field))),
                Some(known) if known.description != field.description => {
                    details.push(format!("description of {}", field.name));
                }
                Some(_) => {}
            }
        }
        if earlier.history != dataset.history && dataset.is_raw() {
            let (old, new) = (optional_length(earlier.history), optional_length(dataset.history));
            details.push(format!("history changes from {old} to {new}"));
        }
        if dataset.emit != earlier.emit {
            details.push(format!("emit {} -> {}", earlier.emit, dataset.emit));
        }
        details.extend(metadata_changes(&earlier.metadata, &dataset.metadata));
        differ.changed("dataset", name, details);
        diff_source(name, earlier.source.as_ref(), dataset.source.as_ref(), differ);
    }
    for (name, dataset) in current.datasets.iter().filter(|(name, _)| !next.datasets.contains_key(*name)) {
        differ.removed("dataset", name);
        if dataset.source.is_some() {
            differ.removed("source", name);
        }
    }
}

pub(super) fn field_type(field: &Field) -> String {
    if field.nullable { format!("Optional[{}]", field.data_type) } else { field.data_type.to_string() }
}

/// What would make stored rows, or the answers of those who use the dataset, mean something else.
fn breaking_dataset_changes(earlier: &CompiledDataset, dataset: &CompiledDataset) -> Vec<String> {
    let mut found = Vec::new();
    for known in &earlier.fields {
        let Some(field) = dataset.fields.iter().find(|field| field.name == known.name) else {
            found.push(format!("field {} is gone", known.name));
            continue;
        };
        if (&known.data_type, known.nullable) != (&field.data_type, field.nullable) {
            found.push(format!("field {} changes from {} to {}", field.name, field_type(known), field_type(field)));
        }
        if known.key != field.key {
            found.push(format!("field {} {} a key", field.name, if field.key { "becomes" } else { "is no longer" }));
        }
        if known.timestamp != field.timestamp {
            let verb = if field.timestamp { "becomes" } else { "is no longer" };
            found.push(format!("field {} {verb} the timestamp", field.name));
        }
    }
    for field in dataset.fields.iter().filter(|field| earlier.column(&field.name).is_none()) {
        if field.key || field.timestamp {
            found.push(format!("the new field {} is a {}", field.name, if field.key { "key" } else { "timestamp" }));
        } else if dataset.is_raw() && !field.nullable {
            found.push(format!("the new field {} is not Optional, and earlier rows have no value for it", field.name));
        }
    }
    let same_prefix = earlier.fields.iter().zip(&dataset.fields).all(|(known, field)| known.name == field.name);
    if found.is_empty() && !same_prefix {
        found.push("the stored order of its fields".to_string());
    }
    if earlier.is_raw() != dataset.is_raw() {
        let kind = |dataset: &CompiledDataset| if dataset.is_raw() { "raw" } else { "filled by pipelines" };
        found.push(format!("it was {} and would be {}", kind(earlier), kind(dataset)));
    }
    // Those of an aggregated dataset are the raw one's behind it, but for the index.
    let settings = [
        ("index", earlier.index.to_string(), dataset.index.to_string()),
        ("partitions", earlier.partitions.to_string(), dataset.partitions.to_string()),
        ("max_lateness", optional_length(earlier.max_lateness), optional_length(dataset.max_lateness)),
        ("max_future", format_duration(earlier.max_future), format_duration(dataset.max_future)),
        ("dedup_window", format_duration(earlier.dedup_window), format_duration(dataset.dedup_window)),
    ];
    for (name, old, new) in settings.iter().filter(|(name, ..)| dataset.is_raw() || *name == "index") {
        if old == new {
            continue;
        }
        found.push(format!("{name} changes from {old} to {new}"));
    }
    found
}

fn optional_length(length: Option<i64>) -> String {
    length.map_or_else(|| "unset".to_string(), format_duration)
}

pub(super) fn metadata_changes(earlier: &Metadata, now: &Metadata) -> Vec<String> {
    let changes = [
        ("description", earlier.description != now.description),
        ("owner", earlier.owner != now.owner),
        ("tags", earlier.tags != now.tags),
        ("project", earlier.project != now.project),
        ("deprecated", earlier.deprecated != now.deprecated),
        ("replacement", earlier.replacement != now.replacement),
    ];
    changes.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name.to_string()).collect()
}

fn diff_source(name: &str, earlier: Option<&SourceDef>, now: Option<&SourceDef>, differ: &mut Differ) {
    match (earlier, now) {
        (None, None) => {}
        (None, Some(_)) => differ.added("source", name),
        (Some(_), None) => differ.removed("source", name),
        (Some(earlier), Some(now)) => {
            let changes = [
                ("kind", earlier.kind != now.kind),
                ("settings", earlier.settings != now.settings),
                ("cursor", earlier.cursor != now.cursor),
                ("every", earlier.every != now.every),
                ("max_lateness", earlier.max_lateness != now.max_lateness),
                ("cdc", earlier.cdc != now.cdc),
            ];
            let named = changes.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name.to_string());
            let mut details: Vec<String> = named.collect();
            details.extend(metadata_changes(&earlier.metadata, &now.metadata));
            differ.changed("source", name, details);
        }
    }
}

fn definition<'a>(compiled: &'a Compiled, pipeline: &CompiledPipeline) -> Option<&'a PipelineDef> {
    compiled.definitions.pipelines.iter().find(|found| super::pipelines::full_name(found) == pipeline.name)
}

fn diff_pipelines(current: &Compiled, next: &Compiled, differ: &mut Differ) {
    for (name, pipeline) in &next.pipelines {
        let Some(definition_now) = definition(next, pipeline) else { continue };
        let Some(earlier) = current.pipelines.get(name) else {
            differ.added("pipeline", name);
            warn_of_costs(name, definition_now, differ);
            continue;
        };
        let Some(definition_then) = definition(current, earlier) else { continue };
        let inputs = (input_identity(current, earlier), input_identity(next, pipeline));
        let mut changes = body_changes(definition_then, definition_now);
        if inputs.0 != inputs.1 {
            changes.insert(0, format!("it reads {} instead of {}", inputs.1, inputs.0));
        }
        let versions = (earlier.version, pipeline.version);
        let what = format!("pipeline '{name}'");
        let version = differ.version_change(&what, versions, &changes, pipeline.location.as_ref());
        if pipeline.version > earlier.version {
            warn_of_costs(name, definition_now, differ);
        }
        // No change of the definition: the same values, without what was erased.
        let erases = (earlier.known_erases() != pipeline.known_erases() && inputs.0 == inputs.1)
            .then(|| format!("keys erased from {} are left out", pipeline.root));
        differ.changed("pipeline", name, version.into_iter().chain(changes).chain(erases).collect());
    }
    for name in current.pipelines.keys().filter(|name| !next.pipelines.contains_key(*name)) {
        differ.removed("pipeline", name);
    }
}

/// `Order@1`; `UserStats@1 by compute@1`, because a new version of the pipeline that fills it makes other rows.
fn input_identity(compiled: &Compiled, pipeline: &CompiledPipeline) -> String {
    let dataset =
        compiled.datasets.get(&pipeline.input).map_or_else(|| pipeline.input.clone(), |dataset| dataset.identity());
    match pipeline.upstream.as_ref().and_then(|upstream| compiled.pipelines.get(upstream)) {
        Some(upstream) => format!("{dataset} by {}@{}", upstream.short_name(), upstream.version),
        None => dataset,
    }
}

fn body_changes(earlier: &PipelineDef, now: &PipelineDef) -> Vec<String> {
    let mut found = Vec::new();
    if earlier.steps != now.steps {
        found.push("its filters and assigns change".to_string());
    }
    let keys = |definition: &PipelineDef| definition.group_by.iter().cloned().collect::<BTreeSet<String>>();
    if keys(earlier) != keys(now) {
        found.push("its groupby changes".to_string());
    }
    let find = |list: &[AggregateDef], name: &str| list.iter().find(|aggregate| aggregate.name == name).cloned();
    for aggregate in &now.aggregates {
        match find(&earlier.aggregates, &aggregate.name) {
            None => found.push(format!("aggregate {} is new", aggregate.name)),
            Some(known) if known != *aggregate => found.push(format!("aggregate {} changes", aggregate.name)),
            Some(_) => {}
        }
    }
    for aggregate in &earlier.aggregates {
        if find(&now.aggregates, &aggregate.name).is_none() {
            found.push(format!("aggregate {} is gone", aggregate.name));
        }
    }
    found
}

/// Aggregates whose cost grows with the distinct values of their window.
fn warn_of_costs(name: &str, pipeline: &PipelineDef, differ: &mut Differ) {
    for aggregate in &pipeline.aggregates {
        let operator = match &aggregate.op {
            AggregateOp::CountDistinct { approx: false } => "an exact CountDistinct",
            AggregateOp::TopK { .. } => "TopK",
            AggregateOp::LastK { dedup: true, .. } | AggregateOp::FirstK { dedup: true, .. } => "dedup=",
            _ => continue,
        };
        differ.plan.warnings.push(format!(
            "{name}: {} uses {operator}, which costs time and space with the distinct values of its window",
            aggregate.name
        ));
    }
}

fn diff_modules(current: &Compiled, next: &Compiled, differ: &mut Differ) {
    let find = |compiled: &Compiled, name: &str| {
        compiled.definitions.modules.iter().find(|module| module.name == name).cloned()
    };
    for module in &next.definitions.modules {
        match find(current, &module.name) {
            None => differ.added("module", &module.name),
            Some(known) if known != *module => differ.changed("module", &module.name, vec!["source".to_string()]),
            Some(_) => {}
        }
    }
    for module in &current.definitions.modules {
        if find(next, &module.name).is_none() {
            differ.removed("module", &module.name);
        }
    }
}
