//! What a commit makes of the definitions that there are.

use super::pipelines::full_name;
use super::{DatasetDef, Definitions, FeatureDef, FeatureRef, FeaturesetDef, ModuleDef};
use crate::error::Error;
use crate::schema::Field;
use crate::suggest;
use std::collections::{BTreeMap, BTreeSet};

/// `current` with `change` added: a commit adds and changes what it contains and never removes the rest. `remove` names
/// what goes (`Order`, `UserFeatures`, `UserStats.compute`, `UserFeatures.spend_7d`), and is refused while something depends
/// on it.
///
/// A dataset comes with all its pipelines, a featureset with all its features and extractors. Fields that a dataset has
/// already keep their stored order, new ones come after them. A feature with the id of another name is renamed: the
/// earlier name is kept as an alias.
pub fn merge(current: &Definitions, change: &Definitions, remove: &[String]) -> Result<Definitions, Vec<Error>> {
    let mut errors = Vec::new();
    let removal = Removal::new(current, change, remove, &mut errors);
    let mut merged = Definitions { format: change.format, ..current.clone() };
    merged.datasets.retain(|dataset| !removal.whole.contains(dataset.name.as_str()));
    merged.featuresets.retain(|featureset| !removal.whole.contains(featureset.name.as_str()));
    merged.pipelines.retain(|pipeline| {
        let is_replaced = change.datasets.iter().any(|dataset| dataset.name == pipeline.dataset);
        let is_removed = removal.names(&full_name(pipeline)) || removal.whole.contains(pipeline.dataset.as_str());
        !is_replaced && !is_removed
    });
    for featureset in &mut merged.featuresets {
        let name = featureset.name.clone();
        featureset.features.retain(|feature| !removal.names(&format!("{name}.{}", feature.name)));
        for feature in &mut featureset.features {
            feature.aliases.retain(|alias| !removal.names(&format!("{name}.{alias}")));
        }
    }
    for dataset in &change.datasets {
        let known = current.datasets.iter().find(|known| known.name == dataset.name);
        put(&mut merged.datasets, in_stored_order(dataset, known), |one, other| one.name == other.name);
    }
    for pipeline in &change.pipelines {
        put(&mut merged.pipelines, pipeline.clone(), |one, other| full_name(one) == full_name(other));
    }
    for featureset in &change.featuresets {
        let known = current.featuresets.iter().find(|known| known.name == featureset.name);
        let with_aliases = match known {
            Some(known) => carry_names(featureset, known, &removal, &mut errors),
            None => featureset.clone(),
        };
        put(&mut merged.featuresets, with_aliases, |one, other| one.name == other.name);
    }
    for module in &change.modules {
        put(&mut merged.modules, module.clone(), |one: &ModuleDef, other| one.name == other.name);
    }
    for name in remove {
        let dependants = dependants(name, &merged);
        if !dependants.is_empty() {
            errors.push(
                Error::precondition(format!("cannot remove '{name}': {} still need it", dependants.join(", ")))
                    .field(name.as_str())
                    .hint("change or remove these first, or in the same commit"),
            );
        }
    }
    if errors.is_empty() { Ok(merged) } else { Err(errors) }
}

/// Replaces the one that is the same, or adds it.
fn put<T>(list: &mut Vec<T>, item: T, same: impl Fn(&T, &T) -> bool) {
    match list.iter_mut().find(|known| same(known, &item)) {
        Some(known) => *known = item,
        None => list.push(item),
    }
}

/// What is to be removed: all names, and those of whole datasets and featuresets.
struct Removal<'a> {
    all: BTreeSet<&'a str>,
    whole: BTreeSet<&'a str>,
}

impl<'a> Removal<'a> {
    fn new(current: &Definitions, change: &Definitions, remove: &'a [String], errors: &mut Vec<Error>) -> Removal<'a> {
        let known = removable(current);
        let mut removal = Removal { all: BTreeSet::new(), whole: BTreeSet::new() };
        for name in remove {
            if !known.contains(name) {
                let owner = name.split_once('.').map_or(String::new(), |(owner, _)| format!("{owner}."));
                let has_owner = known.iter().any(|candidate| candidate.starts_with(&owner));
                let near =
                    known.iter().map(String::as_str).filter(|candidate| !has_owner || candidate.starts_with(&owner));
                errors.push(
                    Error::not_found(format!("cannot remove '{name}': there is nothing of that name"))
                        .field(name.as_str())
                        .hint(suggest::hint(name, near)),
                );
                continue;
            }
            if removable(change).contains(name) {
                errors.push(
                    Error::invalid(format!("'{name}' is in the commit and is to be removed")).field(name.as_str()),
                );
                continue;
            }
            removal.all.insert(name);
            if !name.contains('.') {
                removal.whole.insert(name);
            }
        }
        removal
    }

    fn names(&self, name: &str) -> bool {
        self.all.contains(name)
    }
}

/// Everything that can be named: datasets, featuresets, pipelines, features and their earlier names.
fn removable(definitions: &Definitions) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = definitions.datasets.iter().map(|dataset| dataset.name.clone()).collect();
    names.extend(definitions.pipelines.iter().map(full_name));
    for featureset in &definitions.featuresets {
        names.insert(featureset.name.clone());
        for feature in &featureset.features {
            names.insert(format!("{}.{}", featureset.name, feature.name));
            names.extend(feature.aliases.iter().map(|alias| format!("{}.{alias}", featureset.name)));
        }
    }
    names
}

/// The fields in stored order: rows in the log have their values in it, so within a version it only grows at the end.
fn in_stored_order(dataset: &DatasetDef, known: Option<&DatasetDef>) -> DatasetDef {
    let mut ordered = dataset.clone();
    if let Some(known) = known.filter(|known| known.version == dataset.version) {
        let place = |field: &Field| known.fields.iter().position(|stored| stored.name == field.name);
        ordered.fields.sort_by_key(|field| place(field).unwrap_or(usize::MAX));
    }
    ordered
}

/// The featureset with the earlier names of its features. A feature that is gone must be removed by name.
fn carry_names(
    featureset: &FeaturesetDef,
    known: &FeaturesetDef,
    removal: &Removal<'_>,
    errors: &mut Vec<Error>,
) -> FeaturesetDef {
    let mut carried = featureset.clone();
    let mut went_on: BTreeMap<usize, &str> = BTreeMap::new();
    for earlier in &known.features {
        let full = format!("{}.{}", known.name, earlier.name);
        let Some(index) = successor(earlier, &featureset.features) else {
            if !removal.names(&full) {
                let mut error = Error::precondition(format!("feature '{full}' is gone from its class"))
                    .field(earlier.name.as_str())
                    .hint(format!("a commit removes nothing by itself: put it back, or add --remove {full}"));
                if let Some(place) = &featureset.location {
                    error = error.at(format!("{}:{}", place.file, place.line));
                }
                errors.push(error);
            }
            continue;
        };
        let feature = &mut carried.features[index];
        if let Some(other) = went_on.insert(index, &earlier.name) {
            let former = if *other == feature.name { earlier.name.as_str() } else { other };
            errors.push(taken_over(known, featureset, &featureset.features[index], former));
            continue;
        }
        for name in earlier.aliases.iter().chain([&earlier.name]) {
            let is_removed = removal.names(&format!("{}.{name}", known.name));
            if *name != feature.name && !is_removed && !feature.aliases.contains(name) {
                feature.aliases.push(name.clone());
            }
        }
    }
    carried
}

/// Two published features cannot become one: what is asked for by either name would change its meaning.
fn taken_over(known: &FeaturesetDef, featureset: &FeaturesetDef, feature: &FeatureDef, former: &str) -> Error {
    let id = feature.id.map(|id| format!("the id {id} of ")).unwrap_or_default();
    let name = format!("{}.{}", known.name, feature.name);
    let error =
        Error::precondition(format!("feature '{name}' takes {id}'{former}', but is a published feature itself"))
            .field(feature.name.as_str())
            .hint(format!("give '{former}' a new name, or leave the id of '{name}' as it was"));
    match &featureset.location {
        Some(place) => error.at(format!("{}:{}", place.file, place.line)),
        None => error,
    }
}

/// The feature that goes on from `earlier`: that of the same id, else of the same name.
fn successor(earlier: &FeatureDef, features: &[FeatureDef]) -> Option<usize> {
    let same_id = features.iter().position(|feature| feature.id.is_some() && feature.id == earlier.id);
    same_id.or_else(|| features.iter().position(|feature| feature.name == earlier.name))
}

/// What in `definitions` needs the thing of that name.
fn dependants(name: &str, definitions: &Definitions) -> Vec<String> {
    let mut found = BTreeSet::new();
    let exists_still = removable(definitions).contains(name);
    if exists_still {
        return Vec::new();
    }
    for pipeline in definitions.pipelines.iter().filter(|pipeline| pipeline.input == name) {
        found.insert(format!("pipeline '{}'", full_name(pipeline)));
    }
    for featureset in &definitions.featuresets {
        let is_input =
            |input: &FeatureRef| input.featureset == name || format!("{}.{}", input.featureset, input.feature) == name;
        let own = |feature: &str| format!("{}.{feature}", featureset.name) == name;
        for feature in &featureset.features {
            let refers = feature.reference.as_ref().is_some_and(|reference| reference.dataset == name);
            if refers || feature.on.values().any(|holder| own(holder)) {
                found.insert(format!("feature '{}.{}'", featureset.name, feature.name));
            }
        }
        for extractor in &featureset.extractors {
            let needs_input = extractor.inputs.iter().any(is_input);
            let gives = extractor.outputs.iter().any(|output| own(output));
            if needs_input || gives || extractor.deps.iter().any(|dataset| dataset == name) {
                found.insert(format!("extractor '{}.{}'", featureset.name, extractor.name));
            }
        }
    }
    found.into_iter().collect()
}
