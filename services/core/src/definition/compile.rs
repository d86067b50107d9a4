//! Checks definitions and binds them: datasets, then the pipelines that fill them, then featuresets.

use super::chains::{Pipelines, take_over, upstream_first};
use super::compiled::{Compiled, CompiledDataset, OutputRef};
use super::datasets::compile_dataset;
use super::featuresets::compile_featuresets;
use super::findings::{About, Findings, repeated};
use super::pipelines::{Datasets, compile_pipeline, full_name, is_filled};
use super::{DatasetDef, Definitions, Location};
use crate::error::Error;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The version of the JSON form that this build reads.
const FORMAT: u32 = 1;

/// Checks everything and binds it to indices. All errors are reported, each with its place in the user's source.
pub fn compile(definitions: &Definitions) -> Result<Compiled, Vec<Error>> {
    let mut findings = Findings::default();
    if definitions.format != FORMAT {
        let message = format!("definitions of format {}, this server reads format {FORMAT}", definitions.format);
        return Err(vec![Error::definition(message).hint("update the side that is older: server or SDK")]);
    }
    check_unique(definitions, &mut findings);
    let mut datasets: Datasets = BTreeMap::new();
    for definition in &definitions.datasets {
        let filled_by = definitions.pipelines.iter().filter(|pipeline| pipeline.dataset == definition.name);
        let mut pipelines: Vec<String> = filled_by.map(full_name).collect();
        pipelines.sort();
        pipelines.dedup();
        let compiled = compile_dataset(definition, pipelines, &mut findings);
        datasets.insert(definition.name.clone(), compiled);
    }
    let mut pipelines = Pipelines::new();
    for definition in upstream_first(definitions, &mut findings) {
        let compiled = compile_pipeline(definition, &datasets, &pipelines, &definitions.erased, &mut findings);
        if let Some(pipeline) = compiled {
            take_over(&mut datasets, &pipeline);
            pipelines.insert(pipeline.name.clone(), Arc::new(pipeline));
        }
    }
    for definition in &definitions.datasets {
        if let Some(Some(dataset)) = datasets.get_mut(&definition.name) {
            fill_outputs(dataset, definition, definitions, &pipelines, &mut findings);
        }
    }
    let featuresets = compile_featuresets(definitions, &datasets, &mut findings);
    let datasets = datasets.into_iter().filter_map(|(name, dataset)| Some((name, Arc::new(dataset?)))).collect();
    findings.finish(Compiled { datasets, pipelines, featuresets, definitions: Arc::new(definitions.clone()) })
}

/// Each name once. A featureset and a dataset cannot share one: a query names either.
fn check_unique(definitions: &Definitions, findings: &mut Findings) {
    let datasets =
        definitions.datasets.iter().map(|dataset| ("dataset", dataset.name.as_str(), dataset.location.as_ref()));
    let featuresets = definitions
        .featuresets
        .iter()
        .map(|featureset| ("featureset", featureset.name.as_str(), featureset.location.as_ref()));
    let mut seen: BTreeMap<&str, (&str, Option<&Location>)> = BTreeMap::new();
    for (kind, name, location) in datasets.chain(featuresets) {
        if let Some((earlier, place)) = seen.get(name) {
            let mut error = Error::definition(format!("{kind} '{name}': the name is taken by a {earlier}"));
            if let Some(place) = place {
                error = error.hint(format!("the other is at {}:{}", place.file, place.line));
            }
            findings.report(location, error);
        } else {
            seen.insert(name, (kind, location));
        }
    }
    let names: Vec<String> = definitions.pipelines.iter().map(full_name).collect();
    for name in repeated(names.iter().map(String::as_str)) {
        let last = definitions.pipelines.iter().rev().find(|pipeline| full_name(pipeline) == name);
        let location = last.and_then(|pipeline| pipeline.location.as_ref());
        findings.report(location, Error::definition(format!("pipeline '{name}' is defined twice")));
    }
    let modules = definitions.modules.iter().map(|module| module.name.as_str());
    for name in repeated(modules) {
        findings.report(None, Error::definition(format!("module '{name}' occurs twice")));
    }
}

/// Every field of an aggregated dataset is produced by exactly one aggregate.
fn fill_outputs(
    dataset: &mut CompiledDataset,
    definition: &DatasetDef,
    definitions: &Definitions,
    pipelines: &Pipelines,
    findings: &mut Findings,
) {
    // Broken ones, and two of one name, were reported: what they fill is not known.
    let defined = definitions.pipelines.iter().filter(|pipeline| pipeline.dataset == dataset.name).count();
    let all_compiled = defined == dataset.pipelines.iter().filter(|name| pipelines.contains_key(*name)).count();
    if dataset.is_raw() || !all_compiled {
        return;
    }
    let mut about = About::new(findings, definition.location.as_ref(), format!("dataset '{}'", dataset.name));
    for name in &dataset.pipelines {
        let Some(pipeline) = pipelines.get(name) else { continue };
        for (output, plan) in pipeline.plan.outputs.iter().enumerate() {
            let produced = OutputRef { pipeline: name.clone(), output };
            if let Some(other) = dataset.outputs.insert(plan.name.clone(), produced) {
                about.wrong(format!(
                    "field '{}' is filled by two pipelines: '{}' and '{name}'",
                    plan.name, other.pipeline
                ));
            }
        }
    }
    for field in dataset.fields.iter().filter(|field| is_filled(field)) {
        if !dataset.outputs.contains_key(&field.name) {
            about.wrong_hint(
                format!("field '{}' is filled by no pipeline", field.name),
                format!("add {}=... to an aggregate(...), or remove the field", field.name),
            );
        }
    }
}
