//! Checks featuresets and binds them: features, extractors, features of other featuresets, cycles.

use super::compiled::{CompiledExtractor, CompiledFeatureset, CompiledInput, FeatureKind};
use super::cross::{bind_others, find_cycles};
use super::features::{Producers, compile_features, find_indexed};
use super::findings::{About, Findings, check_name, repeated};
use super::pipelines::Datasets;
use super::{Definitions, ExtractorDef, FeatureRef, FeaturesetDef};
use crate::error::Error;
use crate::suggest;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn compile_featuresets(
    definitions: &Definitions,
    datasets: &Datasets,
    findings: &mut Findings,
) -> BTreeMap<String, Arc<CompiledFeatureset>> {
    let before = findings.count();
    check_modules(definitions, findings);
    let mut compiled = BTreeMap::new();
    for definition in &definitions.featuresets {
        if let Some(featureset) = compile_featureset(definition, definitions, datasets, findings) {
            compiled.insert(featureset.name.clone(), featureset);
        }
    }
    // A broken featureset was reported; what others take from it cannot be followed.
    let all_compiled = compiled.len() == definitions.featuresets.len();
    if all_compiled {
        find_cycles(&compiled, findings);
    }
    if all_compiled && findings.count() == before {
        bind_others(&mut compiled, findings);
    }
    compiled.into_iter().map(|(name, featureset)| (name, Arc::new(featureset))).collect()
}

fn check_modules(definitions: &Definitions, findings: &mut Findings) {
    for module in &definitions.modules {
        let is_inside = !module.path.is_empty()
            && !module.path.starts_with('/')
            && module.path.split(['/', '\\']).all(|part| part != ".." && !part.contains(':'));
        if !is_inside {
            let message =
                format!("module '{}': the path '{}' is not below the commit's directory", module.name, module.path);
            findings.report(None, Error::definition(message));
        }
    }
}

fn compile_featureset(
    definition: &FeaturesetDef,
    definitions: &Definitions,
    datasets: &Datasets,
    findings: &mut Findings,
) -> Option<CompiledFeatureset> {
    let before = findings.count();
    let mut about = About::new(findings, definition.location.as_ref(), format!("featureset '{}'", definition.name));
    about.keep(check_name("featureset", &definition.name));
    for name in repeated(definition.extractors.iter().map(|extractor| extractor.name.as_str())) {
        about.wrong(format!("extractor '{name}' is defined twice"));
    }
    let producers = find_producers(definition, findings);
    let features = compile_features(definition, &producers, datasets, findings);
    let mut extractors = Vec::with_capacity(definition.extractors.len());
    for extractor in &definition.extractors {
        extractors.extend(compile_extractor(extractor, definition, definitions, datasets, findings));
    }
    if findings.count() > before {
        return None;
    }
    let features = features?;
    let keys = (0..features.len()).filter(|&index| features[index].kind == FeatureKind::Key).collect();
    Some(CompiledFeatureset {
        name: definition.name.clone(),
        features,
        keys,
        extractors,
        metadata: definition.metadata.clone(),
        location: definition.location.clone(),
    })
}

fn extractor_about<'a>(
    extractor: &'a ExtractorDef,
    definition: &'a FeaturesetDef,
    findings: &'a mut Findings,
) -> About<'a> {
    let location = extractor.location.as_ref().or(definition.location.as_ref());
    About::new(findings, location, format!("extractor '{}.{}'", definition.name, extractor.name))
}

/// Which extractor gives which feature; two for one are reported.
fn find_producers(definition: &FeaturesetDef, findings: &mut Findings) -> Producers {
    let mut producers = Producers::new();
    for (index, extractor) in definition.extractors.iter().enumerate() {
        let mut about = extractor_about(extractor, definition, findings);
        for (output, name) in extractor.outputs.iter().enumerate() {
            if let Some((other, _)) = producers.get(name) {
                let other = &definition.extractors[*other].name;
                about.wrong_hint(format!("'{name}' is given by '{other}' too"), "a feature comes from one place");
            } else {
                producers.insert(name.clone(), (index, output));
            }
        }
    }
    producers
}

fn compile_extractor(
    extractor: &ExtractorDef,
    definition: &FeaturesetDef,
    definitions: &Definitions,
    datasets: &Datasets,
    findings: &mut Findings,
) -> Option<CompiledExtractor> {
    let mut about = extractor_about(extractor, definition, findings);
    let before = about.count();
    if extractor.version == 0 {
        about.wrong("versions begin at 1");
    }
    if extractor.outputs.is_empty() {
        about.wrong_hint("it gives no feature", "write @extractor_outputs(\"...\")");
    }
    let mut outputs = Vec::with_capacity(extractor.outputs.len());
    for name in &extractor.outputs {
        outputs.extend(find_feature(name, definition, "outputs", &mut about));
    }
    let mut inputs = Vec::with_capacity(extractor.inputs.len());
    for input in &extractor.inputs {
        inputs.extend(resolve_input(input, definition, definitions, &mut about));
    }
    for name in repeated(extractor.inputs.iter().map(|input| input.feature.as_str())) {
        about.wrong(format!("two inputs are called '{name}'"));
    }
    for dataset in &extractor.deps {
        find_indexed(datasets, dataset, "deps", &mut about);
    }
    (about.count() == before).then(|| CompiledExtractor {
        name: extractor.name.clone(),
        version: extractor.version,
        inputs,
        outputs,
        deps: extractor.deps.clone(),
        style: extractor.style,
        batch: extractor.batch,
        module: extractor.module.clone(),
        qualname: extractor.qualname.clone(),
        deadline_ms: extractor.deadline_ms,
        source_hash: extractor.source_hash.clone(),
        location: extractor.location.clone(),
    })
}

fn find_feature(name: &str, definition: &FeaturesetDef, what: &str, about: &mut About<'_>) -> Option<usize> {
    let features = &definition.features;
    let by_name = features.iter().position(|feature| feature.name == name);
    let found =
        by_name.or_else(|| features.iter().position(|feature| feature.aliases.iter().any(|alias| alias == name)));
    if found.is_none() {
        let hint = suggest::hint(name, features.iter().map(|feature| feature.name.as_str()));
        about.report(
            Error::definition(format!("{what} name the unknown feature '{}.{name}'", definition.name))
                .field(name)
                .hint(hint),
        );
    }
    found
}

/// What an input names. A feature of another featureset is bound later, when all are known.
fn resolve_input(
    input: &FeatureRef,
    definition: &FeaturesetDef,
    definitions: &Definitions,
    about: &mut About<'_>,
) -> Option<CompiledInput> {
    if input.featureset == definition.name {
        return find_feature(&input.feature, definition, "inputs", about).map(CompiledInput::Own);
    }
    let Some(other) = definitions.featuresets.iter().find(|other| other.name == input.featureset) else {
        let names = definitions.featuresets.iter().map(|other| other.name.as_str());
        let hint = suggest::hint(&input.featureset, names);
        let message = format!("inputs name the unknown featureset '{}'", input.featureset);
        about.report(Error::definition(message).field(input.featureset.as_str()).hint(hint));
        return None;
    };
    let feature = find_feature(&input.feature, other, "inputs", about)?;
    Some(CompiledInput::Other { featureset: other.name.clone(), feature, binding: BTreeMap::new() })
}
