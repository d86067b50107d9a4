//! Between features: cycles, and what binds the keys of another featureset whose feature an extractor takes.

use super::compiled::{CompiledFeatureset, CompiledInput, FeatureKind};
use super::findings::{About, Findings};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

type Featuresets = BTreeMap<String, CompiledFeatureset>;
/// Featureset and feature.
type Node = (String, usize);

/// Reports extractors that need their own outputs, each cycle once, as a path.
pub(super) fn find_cycles(featuresets: &Featuresets, findings: &mut Findings) {
    let mut done = BTreeSet::new();
    for (name, featureset) in featuresets {
        for feature in 0..featureset.features.len() {
            follow((name.clone(), feature), featuresets, &mut Vec::new(), &mut done, findings);
        }
    }
}

fn follow(
    node: Node,
    featuresets: &Featuresets,
    path: &mut Vec<Node>,
    done: &mut BTreeSet<Node>,
    findings: &mut Findings,
) {
    if let Some(start) = path.iter().position(|earlier| *earlier == node) {
        path.push(node);
        report_cycle(&path[start..], featuresets, findings);
        path.pop();
        return;
    }
    if done.contains(&node) {
        return;
    }
    path.push(node.clone());
    for next in needs(&node, featuresets) {
        follow(next, featuresets, path, done, findings);
    }
    path.pop();
    done.insert(node);
}

/// The features that an extracted feature is computed from.
fn needs(node: &Node, featuresets: &Featuresets) -> Vec<Node> {
    let Some(featureset) = featuresets.get(&node.0) else { return Vec::new() };
    let FeatureKind::Extracted { extractor, .. } = featureset.features[node.1].kind else { return Vec::new() };
    let inputs = featureset.extractors[extractor].inputs.iter();
    inputs
        .map(|input| match input {
            CompiledInput::Own(feature) => (node.0.clone(), *feature),
            CompiledInput::Other { featureset, feature, .. } => (featureset.clone(), *feature),
        })
        .collect()
}

fn report_cycle(path: &[Node], featuresets: &Featuresets, findings: &mut Findings) {
    let one_featureset = path.iter().all(|node| node.0 == path[0].0);
    let names: Vec<String> = path
        .iter()
        .map(|(featureset, feature)| {
            let name = featuresets.get(featureset).map_or("?", |found| found.features[*feature].name.as_str());
            if one_featureset { name.to_string() } else { format!("{featureset}.{name}") }
        })
        .collect();
    let Some(featureset) = featuresets.get(&path[0].0) else { return };
    let location = match featureset.features[path[0].1].kind {
        FeatureKind::Extracted { extractor, .. } => featureset.extractors[extractor].location.as_ref(),
        _ => None,
    };
    let error = Error::definition(format!(
        "featureset '{}': extractors need each other: {}",
        featureset.name,
        names.join(" -> ")
    ))
    .hint("a feature cannot be computed from itself");
    findings.report(location.or(featureset.location.as_ref()), error);
}

/// Binds every input that is a feature of another featureset. There are no cycles.
pub(super) fn bind_others(featuresets: &mut Featuresets, findings: &mut Findings) {
    let shared: &Featuresets = featuresets;
    let mut binder = Binder { featuresets: shared, memo: BTreeMap::new(), bindings: BTreeMap::new() };
    for (name, featureset) in shared {
        for (index, extractor) in featureset.extractors.iter().enumerate() {
            for input in 0..extractor.inputs.len() {
                if let Err(error) = binder.binding(name, index, input) {
                    let what = format!("extractor '{name}.{}'", extractor.name);
                    let location = extractor.location.as_ref().or(featureset.location.as_ref());
                    About::new(findings, location, what).report(error);
                }
            }
        }
    }
    let bindings = binder.bindings;
    for ((name, extractor, input), bound) in bindings {
        if let Some(featureset) = featuresets.get_mut(&name)
            && let CompiledInput::Other { binding, .. } = &mut featureset.extractors[extractor].inputs[input]
        {
            *binding = bound;
        }
    }
}

struct Binder<'a> {
    featuresets: &'a Featuresets,
    /// The key and request features (of the same featureset) that a feature depends on.
    memo: BTreeMap<Node, BTreeSet<usize>>,
    bindings: BTreeMap<(String, usize, usize), BTreeMap<usize, usize>>,
}

impl Binder<'_> {
    fn depends_on(&mut self, node: &Node) -> Result<BTreeSet<usize>> {
        if let Some(known) = self.memo.get(node) {
            return Ok(known.clone());
        }
        let featuresets = self.featuresets;
        let Some(featureset) = featuresets.get(&node.0) else { return Ok(BTreeSet::new()) };
        let mut found = BTreeSet::new();
        match &featureset.features[node.1].kind {
            FeatureKind::Key | FeatureKind::Request => {
                found.insert(node.1);
            }
            FeatureKind::Ref(reference) => found.extend(reference.binding.iter().copied()),
            FeatureKind::Extracted { extractor, .. } => {
                for (index, input) in featureset.extractors[*extractor].inputs.iter().enumerate() {
                    match input {
                        CompiledInput::Own(feature) => found.extend(self.depends_on(&(node.0.clone(), *feature))?),
                        CompiledInput::Other { .. } => {
                            found.extend(self.binding(&node.0, *extractor, index)?.into_values())
                        }
                    }
                }
            }
        }
        self.memo.insert(node.clone(), found.clone());
        Ok(found)
    }

    /// What binds the keys of one input; empty for an own feature.
    fn binding(&mut self, name: &str, extractor: usize, input: usize) -> Result<BTreeMap<usize, usize>> {
        let place = (name.to_string(), extractor, input);
        if let Some(known) = self.bindings.get(&place) {
            return Ok(known.clone());
        }
        let featuresets = self.featuresets;
        let own = &featuresets[name];
        let CompiledInput::Other { featureset, feature, .. } = &own.extractors[extractor].inputs[input] else {
            return Ok(BTreeMap::new());
        };
        let other = &featuresets[featureset];
        let mut binding = BTreeMap::new();
        for needed in self.depends_on(&(featureset.clone(), *feature))? {
            binding.insert(needed, bind_feature(own, other, *feature, needed)?);
        }
        self.bindings.insert(place, binding.clone());
        Ok(binding)
    }
}

/// The key or request feature of `own` that supplies `needed` of `other`: that of the same name, else one key for one key.
fn bind_feature(own: &CompiledFeatureset, other: &CompiledFeatureset, asked: usize, needed: usize) -> Result<usize> {
    let wanted = &other.features[needed];
    let asked = format!("{}.{}", other.name, other.features[asked].name);
    let is_given = |index: &usize| matches!(own.features[*index].kind, FeatureKind::Key | FeatureKind::Request);
    let same_name = (0..own.features.len()).find(|&index| own.features[index].name == wanted.name);
    let only = match (own.keys.as_slice(), other.keys.as_slice()) {
        ([only], [other_only]) if *other_only == needed => Some(*only),
        _ => None,
    };
    let Some(found) = same_name.filter(is_given).or(only) else {
        let kind = if wanted.kind == FeatureKind::Key { "key" } else { "request feature" };
        let message = format!("the input '{asked}' needs the {kind} '{}', which nothing here supplies", wanted.name);
        return Err(Error::definition(message)
            .field(wanted.name.as_str())
            .hint(format!("add '{}' to '{}' as a key or as a feature with request=True", wanted.name, own.name)));
    };
    let supplier = &own.features[found];
    if supplier.data_type != wanted.data_type {
        return Err(Error::definition(format!(
            "the input '{asked}' needs '{}' as {}, but '{}.{}' is {}",
            wanted.name, wanted.data_type, own.name, supplier.name, supplier.data_type
        )));
    }
    Ok(found)
}
