//! Checks the features of a featureset: what kind each is, its reference, its default, and what holds the keys.

use super::compiled::{CompiledFeature, CompiledRef, FeatureKind, RefTarget};
use super::findings::{About, Findings, check_name, repeated};
use super::pipelines::{Datasets, is_filled};
use super::{CompiledDataset, FeatureDef, FeaturesetDef, FieldRef, Location};
use crate::error::{Error, Result};
use crate::expr::Literal;
use crate::key::is_key_type;
use crate::schema::DataType;
use crate::suggest;
use crate::value::Value;
use std::collections::BTreeMap;

/// Parameters of queries and columns of spines, which a key feature's name would shadow.
const RESERVED_KEY_NAMES: [&str; 9] =
    ["ts", "timestamp", "known_at", "exclusive", "featureset", "features", "entity_type", "at_least", "inputs"];
/// Column suffix of the statuses in an export.
const STATUS_SUFFIX: &str = "__status";

/// Which extractor produces a feature: `(extractor, output)` by name of the feature.
pub(super) type Producers = BTreeMap<String, (usize, usize)>;

/// All features in class order, `None` where something is wrong (reported).
pub(super) fn compile_features(
    definition: &FeaturesetDef,
    producers: &Producers,
    datasets: &Datasets,
    findings: &mut Findings,
) -> Option<Vec<CompiledFeature>> {
    let before = findings.count();
    check_names_and_ids(definition, findings);
    // A feature that cannot be a key is reported, and takes no part in what binds what.
    let is_sound = |feature: &FeatureDef| is_key(feature, producers) && key_fault(feature).is_none();
    let keys: Vec<usize> =
        (0..definition.features.len()).filter(|&index| is_sound(&definition.features[index])).collect();
    let scope = FeatureScope { definition, keys: &keys, datasets };
    let mut features = Vec::with_capacity(definition.features.len());
    for feature in &definition.features {
        let what = format!("feature '{}.{}'", definition.name, feature.name);
        let mut about = About::new(findings, place(definition, feature), what);
        let kind = scope.kind(feature, producers, &mut about);
        let default = default_value(feature, &mut about);
        let Some(kind) = kind else { continue };
        features.push(CompiledFeature {
            name: feature.name.clone(),
            data_type: feature.data_type.clone(),
            nullable: feature.nullable,
            id: feature.id,
            kind,
            default,
            deprecated: feature.deprecated,
            aliases: feature.aliases.clone(),
            description: feature.description.clone(),
        });
    }
    let is_whole = findings.count() == before && features.len() == definition.features.len();
    is_whole.then_some(features)
}

fn place<'a>(definition: &'a FeaturesetDef, feature: &'a FeatureDef) -> Option<&'a Location> {
    feature.location.as_ref().or(definition.location.as_ref())
}

fn is_key(feature: &FeatureDef, producers: &Producers) -> bool {
    !feature.request && feature.reference.is_none() && !producers.contains_key(&feature.name)
}

fn check_names_and_ids(definition: &FeaturesetDef, findings: &mut Findings) {
    let mut about = About::new(findings, definition.location.as_ref(), format!("featureset '{}'", definition.name));
    if definition.features.is_empty() {
        about.wrong("no features");
    }
    for feature in &definition.features {
        if let Err(error) = check_name("feature", &feature.name) {
            about.report(error);
        }
        if feature.name.ends_with(STATUS_SUFFIX) {
            about.wrong(format!("feature '{}': names that end in {STATUS_SUFFIX} are those of statuses", feature.name));
        }
    }
    let names: Vec<&str> = definition.features.iter().map(|feature| feature.name.as_str()).collect();
    for name in repeated(names.iter().copied()) {
        about.wrong(format!("feature '{name}' occurs twice"));
    }
    for feature in &definition.features {
        for alias in &feature.aliases {
            if names.contains(&alias.as_str()) {
                about.wrong_hint(
                    format!("feature '{alias}': the name still answers as the earlier name of '{}'", feature.name),
                    format!("remove it first: --remove {}.{alias}", definition.name),
                );
            }
        }
    }
    let mut by_id: BTreeMap<u32, &str> = BTreeMap::new();
    for feature in &definition.features {
        let Some(id) = feature.id else { continue };
        if let Some(other) = by_id.insert(id, &feature.name) {
            about.report(
                Error::definition(format!("features '{other}' and '{}' have the same id {id}", feature.name))
                    .field("id")
                    .hint("ids are unique within a featureset and never used again"),
            );
        }
    }
}

struct FeatureScope<'a> {
    definition: &'a FeaturesetDef,
    keys: &'a [usize],
    datasets: &'a Datasets,
}

impl FeatureScope<'_> {
    fn kind(&self, feature: &FeatureDef, producers: &Producers, about: &mut About<'_>) -> Option<FeatureKind> {
        let produced = producers.get(&feature.name);
        if feature.request && feature.reference.is_some() {
            about.wrong("ref and request=True exclude each other");
            return None;
        }
        if produced.is_some() && (feature.request || feature.reference.is_some()) {
            let kind = if feature.request { "request=True" } else { "ref=" };
            about.wrong_hint(format!("it has {kind}, and an extractor gives it too"), "a feature comes from one place");
            return None;
        }
        if !feature.on.is_empty() && feature.reference.is_none() {
            about.report(Error::definition("on= needs ref=").field("on"));
        }
        if feature.default.is_some() && feature.reference.is_none() {
            about.report(
                Error::definition("default= needs ref=")
                    .field("default")
                    .hint("it replaces the value of an empty window; an extractor returns its own default"),
            );
        }
        if let Some(reference) = &feature.reference {
            return self.reference(feature, reference, about).map(FeatureKind::Ref);
        }
        if let Some(&(extractor, output)) = produced {
            return Some(FeatureKind::Extracted { extractor, output });
        }
        if feature.request {
            if feature.data_type.holds_struct() {
                about
                    .wrong(format!("a request feature cannot be {}, which only an aggregate gives", feature.data_type));
            }
            return Some(FeatureKind::Request);
        }
        if let Some(fault) = key_fault(feature) {
            about.report(fault);
        }
        Some(FeatureKind::Key)
    }

    fn reference(&self, feature: &FeatureDef, reference: &FieldRef, about: &mut About<'_>) -> Option<CompiledRef> {
        let dataset = find_indexed(self.datasets, &reference.dataset, "ref", about)?;
        let Some(column) = dataset.column(&reference.field) else {
            let names = dataset.fields.iter().map(|field| field.name.as_str());
            about.report(
                Error::definition(format!("ref names the unknown field '{}.{}'", dataset.name, reference.field))
                    .field("ref")
                    .hint(suggest::hint(&reference.field, names)),
            );
            return None;
        };
        let field = &dataset.fields[column];
        let target = if dataset.is_raw() {
            RefTarget::Column(column)
        } else if !is_filled(field) {
            let role = if field.key { "the key" } else { "the timestamp" };
            about.wrong(format!("ref names {role} of '{}', which no aggregate fills", dataset.name));
            return None;
        } else {
            // Missing only if a pipeline or the field itself is wrong, about which enough was said.
            RefTarget::Aggregate(dataset.outputs.get(&field.name)?.clone())
        };
        if field.data_type != feature.data_type {
            about.report(
                Error::definition(format!(
                    "it is {}, but '{}.{}' is {}",
                    feature.data_type, dataset.name, field.name, field.data_type
                ))
                .field("type")
                .hint(format!("declare {}: {}", feature.name, field.data_type)),
            );
        }
        for key in feature.on.keys() {
            if !dataset.key_names().any(|name| name == key) {
                about.report(
                    Error::definition(format!("on= names '{key}', which is no key of '{}'", dataset.name))
                        .field("on")
                        .hint(suggest::hint(key, dataset.key_names())),
                );
            }
        }
        let mut binding = Vec::with_capacity(dataset.key_columns.len());
        for &key in &dataset.key_columns {
            let key = &dataset.fields[key];
            match self.bind_key(feature, &key.name, &key.data_type, dataset) {
                Ok(index) => binding.push(index),
                Err(error) => about.report(error),
            }
        }
        Some(CompiledRef { dataset: dataset.name.clone(), target, binding })
    }

    /// The feature that holds a key of the dataset: as `on=` says, else the key of the same name, else one key for one key.
    fn bind_key(
        &self,
        feature: &FeatureDef,
        key: &str,
        key_type: &DataType,
        dataset: &CompiledDataset,
    ) -> Result<usize> {
        let features = &self.definition.features;
        let index = match feature.on.get(key) {
            Some(name) => self.named_in_on(name)?,
            None => {
                let same_name = self.keys.iter().copied().find(|&index| features[index].name == key);
                let only = match self.keys {
                    [only] if dataset.key_columns.len() == 1 => Some(*only),
                    _ => None,
                };
                same_name.or(only).ok_or_else(|| {
                    let keys: Vec<&str> = self.keys.iter().map(|&index| features[index].name.as_str()).collect();
                    let keys = if keys.is_empty() {
                        "there are none".to_string()
                    } else {
                        format!("keys: {}", keys.join(", "))
                    };
                    Error::definition(format!("nothing binds the key '{}.{key}'", dataset.name)).field("on").hint(
                        format!("say which feature holds it: feature(ref=..., on={{\"{key}\": \"...\"}}); {keys}"),
                    )
                })?
            }
        };
        let holder = &features[index];
        if holder.data_type != *key_type {
            return Err(Error::definition(format!(
                "the key '{}.{key}' is {key_type}, but '{}', which holds it, is {}",
                dataset.name, holder.name, holder.data_type
            )));
        }
        Ok(index)
    }

    fn named_in_on(&self, name: &str) -> Result<usize> {
        let features = &self.definition.features;
        let Some(index) = features.iter().position(|feature| feature.name == name) else {
            let names = features.iter().map(|feature| feature.name.as_str());
            return Err(Error::definition(format!("on= names the unknown feature '{name}'"))
                .field("on")
                .hint(suggest::hint(name, names)));
        };
        if !features[index].request && !self.keys.contains(&index) {
            return Err(Error::definition(format!("on= names '{name}', which is computed"))
                .field("on")
                .hint("name a key or a feature with request=True; others are not in this release"));
        }
        Ok(index)
    }
}

/// A dataset that can be looked up.
pub(super) fn find_indexed<'a>(
    datasets: &'a Datasets,
    name: &str,
    what: &str,
    about: &mut About<'_>,
) -> Option<&'a CompiledDataset> {
    let Some(dataset) = datasets.get(name) else {
        let hint = suggest::hint(name, datasets.keys().map(String::as_str));
        about.report(Error::definition(format!("{what} names the unknown dataset '{name}'")).field(what).hint(hint));
        return None;
    };
    let dataset = dataset.as_ref()?;
    if !dataset.index {
        about.report(
            Error::definition(format!("{what} names '{name}', which cannot be looked up"))
                .field(what)
                .hint(format!("declare it with @dataset(index=True): class {name}")),
        );
        return None;
    }
    Some(dataset)
}

/// Why a feature that nothing produces cannot be a key.
fn key_fault(feature: &FeatureDef) -> Option<Error> {
    let unfit = if !is_key_type(&feature.data_type) {
        feature.data_type.to_string()
    } else if feature.nullable {
        "Optional".to_string()
    } else if RESERVED_KEY_NAMES.contains(&feature.name.as_str()) {
        let message = format!("a key cannot be named '{}', which is a parameter of queries", feature.name);
        return Some(Error::definition(message));
    } else {
        return None;
    };
    let message = format!("nothing produces it, so it is a key, but a key cannot be {unfit}");
    Some(Error::definition(message).hint("give it a ref=, an extractor, or request=True"))
}

/// The default as a value of the feature's type; an int stands for a float or Decimal.
fn default_value(feature: &FeatureDef, about: &mut About<'_>) -> Option<Value> {
    let literal = feature.default.as_ref()?;
    let value = literal.value().map(|value| value.widened(&feature.data_type));
    if value.as_ref().is_some_and(Value::is_null) {
        return None;
    }
    let value = value.filter(|value| value.has_type(&feature.data_type));
    if value.is_none() {
        about.report(
            Error::definition(format!("the default {} is not {}", spell(literal), feature.data_type)).field("default"),
        );
    }
    value
}

fn spell(literal: &Literal) -> String {
    match literal.value() {
        Some(value) => value.to_json().to_string(),
        None => "is not a value and".to_string(),
    }
}
