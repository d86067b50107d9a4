//! The difference between featuresets: features, ids, renames, extractors.

use super::compiled::{Compiled, CompiledFeatureset};
use super::diff::{Differ, PublishedIds, metadata_changes};
use super::plan::Renamed;
use super::{ExtractorDef, FeatureDef, FeaturesetDef};
use crate::error::Error;
use std::collections::BTreeMap;

pub(super) fn diff_featuresets(current: &Compiled, next: &Compiled, published: &PublishedIds, differ: &mut Differ) {
    let find = |compiled: &'_ Compiled, name: &str| {
        compiled.definitions.featuresets.iter().position(|featureset| featureset.name == name)
    };
    for now in &next.definitions.featuresets {
        let earlier = find(current, &now.name).map(|index| &current.definitions.featuresets[index]);
        check_ids(now, earlier, published, differ);
        let Some(earlier) = earlier else {
            differ.added("featureset", &now.name);
            now.extractors.iter().for_each(|extractor| warn_of_impurity(now, extractor, differ));
            continue;
        };
        differ.changed("featureset", &now.name, metadata_changes(&earlier.metadata, &now.metadata));
        diff_features(earlier, now, differ);
        diff_extractors(earlier, now, differ);
        if let (Some(then), Some(now)) = (current.featuresets.get(&now.name), next.featuresets.get(&now.name)) {
            warn_of_keys(then, now, differ);
        }
    }
    for earlier in &current.definitions.featuresets {
        if find(next, &earlier.name).is_none() {
            differ.removed("featureset", &earlier.name);
        }
    }
}

/// An id that was published once stands for that feature for ever.
fn check_ids(now: &FeaturesetDef, earlier: Option<&FeaturesetDef>, published: &PublishedIds, differ: &mut Differ) {
    for feature in &now.features {
        let Some(id) = feature.id else { continue };
        let goes_on = earlier.is_some_and(|earlier| earlier.features.iter().any(|known| known.id == Some(id)));
        let Some(name) = published.get(&(now.name.clone(), id)) else { continue };
        if !goes_on && *name != feature.name {
            let message = format!(
                "feature '{}.{}': id {id} was published as '{name}' and is never used again",
                now.name, feature.name
            );
            let free =
                published.range((now.name.clone(), 0)..=(now.name.clone(), u32::MAX)).map(|((_, id), _)| *id).max();
            let hint = format!("the next free id is {}", free.unwrap_or(id).saturating_add(1));
            let location = feature.location.as_ref().or(now.location.as_ref());
            differ.findings.report(location, Error::precondition(message).field("id").hint(hint));
        }
    }
}

/// The feature that `feature` goes on from.
fn predecessor<'a>(feature: &FeatureDef, earlier: &'a FeaturesetDef) -> Option<&'a FeatureDef> {
    let same_id = earlier.features.iter().find(|known| known.id.is_some() && known.id == feature.id);
    same_id.or_else(|| earlier.features.iter().find(|known| known.name == feature.name))
}

fn diff_features(earlier: &FeaturesetDef, now: &FeaturesetDef, differ: &mut Differ) {
    for feature in &now.features {
        let full = format!("{}.{}", now.name, feature.name);
        let Some(known) = predecessor(feature, earlier) else {
            differ.added("feature", full);
            continue;
        };
        if let (true, Some(id)) = (known.name != feature.name, feature.id) {
            let (from, to) = (known.name.clone(), feature.name.clone());
            differ.plan.renamed.push(Renamed { featureset: now.name.clone(), id, from, to });
        }
        if known.data_type != feature.data_type {
            let message = format!("feature '{full}' changes from {} to {}", known.data_type, feature.data_type);
            if let (Some(id), true) = (feature.id, known.id == feature.id) {
                let error = Error::precondition(format!("{message}, but its id {id} stands for the former"))
                    .field("id")
                    .hint("give it a new id: ids are never used for something else");
                differ.findings.report(feature.location.as_ref().or(now.location.as_ref()), error);
            } else {
                differ.plan.warnings.push(message);
            }
        }
        let mut details = feature_changes(known, feature);
        for alias in known.aliases.iter().filter(|alias| **alias != feature.name && !feature.aliases.contains(*alias)) {
            details.push(format!("the earlier name {alias} no longer answers"));
        }
        differ.changed("feature", full, details);
    }
    for known in &earlier.features {
        let goes_on = now.features.iter().any(|feature| predecessor(feature, earlier) == Some(known));
        if !goes_on {
            differ.removed("feature", format!("{}.{}", earlier.name, known.name));
        }
    }
}

fn feature_changes(known: &FeatureDef, feature: &FeatureDef) -> Vec<String> {
    let spelled = |feature: &FeatureDef| match &feature.reference {
        Some(reference) => format!("ref {}.{}", reference.dataset, reference.field),
        None if feature.request => "request".to_string(),
        None => "no ref".to_string(),
    };
    let id = |feature: &FeatureDef| feature.id.map_or("none".to_string(), |id| id.to_string());
    let mut details = Vec::new();
    if known.data_type != feature.data_type {
        details.push(format!("type {} -> {}", known.data_type, feature.data_type));
    }
    if spelled(known) != spelled(feature) {
        details.push(format!("{} -> {}", spelled(known), spelled(feature)));
    }
    if known.id != feature.id {
        details.push(format!("id {} -> {}", id(known), id(feature)));
    }
    let others = [
        ("Optional", known.nullable != feature.nullable),
        ("on=", known.on != feature.on),
        ("default", known.default != feature.default),
        ("deprecated", known.deprecated != feature.deprecated),
        ("description", known.description != feature.description),
    ];
    details.extend(others.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name.to_string()));
    details
}

fn diff_extractors(earlier: &FeaturesetDef, now: &FeaturesetDef, differ: &mut Differ) {
    for extractor in &now.extractors {
        let full = format!("{}.{}", now.name, extractor.name);
        let Some(known) = earlier.extractors.iter().find(|known| known.name == extractor.name) else {
            differ.added("extractor", full);
            warn_of_impurity(now, extractor, differ);
            continue;
        };
        let breaking = extractor_changes(known, earlier, extractor, now);
        let what = format!("extractor '{full}'");
        let versions = (known.version, extractor.version);
        let version = differ.version_change(&what, versions, &breaking, extractor.location.as_ref());
        let mut details: Vec<String> = version.into_iter().chain(breaking).collect();
        let others = [
            ("deadline", known.deadline_ms != extractor.deadline_ms),
            ("module", (&known.module, &known.qualname) != (&extractor.module, &extractor.qualname)),
        ];
        details.extend(others.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name.to_string()));
        if !details.is_empty() {
            warn_of_impurity(now, extractor, differ);
        }
        differ.changed("extractor", full, details);
    }
    for known in &earlier.extractors {
        if !now.extractors.iter().any(|extractor| extractor.name == known.name) {
            differ.removed("extractor", format!("{}.{}", earlier.name, known.name));
        }
    }
}

/// What changes the values that an extractor gives. A renamed feature is the same feature.
fn extractor_changes(
    known: &ExtractorDef,
    earlier: &FeaturesetDef,
    extractor: &ExtractorDef,
    now: &FeaturesetDef,
) -> Vec<String> {
    let then_names = stable_names(earlier);
    let now_names = stable_names(now);
    let inputs = |definition: &ExtractorDef, own: &str, names: &BTreeMap<String, String>| -> Vec<String> {
        let spelled = definition.inputs.iter().map(|input| {
            let stable = names.get(&input.feature).filter(|_| input.featureset == own);
            stable.cloned().unwrap_or_else(|| format!("{}.{}", input.featureset, input.feature))
        });
        spelled.collect()
    };
    let outputs = |definition: &ExtractorDef, names: &BTreeMap<String, String>| -> Vec<String> {
        definition.outputs.iter().map(|output| names.get(output).unwrap_or(output).clone()).collect()
    };
    let changes = [
        ("its code changes", known.source_hash != extractor.source_hash),
        ("its inputs change", inputs(known, &earlier.name, &then_names) != inputs(extractor, &now.name, &now_names)),
        ("its outputs change", outputs(known, &then_names) != outputs(extractor, &now_names)),
        ("its deps change", known.deps != extractor.deps),
        ("the way it is called changes", (known.style, known.batch) != (extractor.style, extractor.batch)),
    ];
    changes.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name.to_string()).collect()
}

/// Feature name (or earlier name) -> its id, else its name: the same for a feature before and after a rename.
fn stable_names(featureset: &FeaturesetDef) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for feature in &featureset.features {
        let stable = feature.id.map_or_else(|| feature.name.clone(), |id| format!("#{id}"));
        for name in feature.aliases.iter().chain([&feature.name]) {
            names.insert(name.clone(), stable.clone());
        }
    }
    names
}

fn warn_of_impurity(featureset: &FeaturesetDef, extractor: &ExtractorDef, differ: &mut Differ) {
    if !extractor.impure.is_empty() {
        differ.plan.warnings.push(format!(
            "{}.{} uses {}: its values may differ for the same question",
            featureset.name,
            extractor.name,
            extractor.impure.join(", ")
        ));
    }
}

/// A featureset has no version; those who query it must know of other keys.
fn warn_of_keys(then: &CompiledFeatureset, now: &CompiledFeatureset, differ: &mut Differ) {
    let before: Vec<&str> = then.key_names().collect();
    let after: Vec<&str> = now.key_names().collect();
    if before != after {
        let warning = format!("the keys of {} change from ({}) to ({})", now.name, before.join(", "), after.join(", "));
        differ.plan.warnings.push(warning);
    }
}
