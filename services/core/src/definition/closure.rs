//! What the values of a featureset follow from, and its hash: two exports with equal hashes ask for the same.

use super::{Compiled, DatasetDef, Definitions, FeatureDef, FeaturesetDef, Metadata, PipelineDef};
use crate::error::{Error, Result};
use crate::schema::Field;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt;

/// The beginning of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefinitionHash(pub [u8; 16]);

impl fmt::Display for DefinitionHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl Compiled {
    /// The hash of a featureset with all featuresets, datasets and pipelines that it reaches and, if extractors are among them, the source of
    /// all modules, as any may be a helper. Without what changes no value (descriptions, owners, places in the source), and without what is
    /// erased: that changes tables, not what they mean.
    pub fn definition_hash(&self, featureset: &str) -> Result<DefinitionHash> {
        let mut reached = Reached::nothing(&self.definitions);
        reached.featureset(featureset);
        reached.hash()
    }

    /// The same of a dataset.
    pub fn dataset_hash(&self, dataset: &str) -> Result<DefinitionHash> {
        let mut reached = Reached::nothing(&self.definitions);
        reached.dataset(dataset);
        reached.hash()
    }
}

/// What a featureset reaches, by name.
struct Reached<'a> {
    all: &'a Definitions,
    featuresets: BTreeSet<&'a str>,
    datasets: BTreeSet<&'a str>,
}

impl<'a> Reached<'a> {
    fn nothing(all: &'a Definitions) -> Reached<'a> {
        Reached { all, featuresets: BTreeSet::new(), datasets: BTreeSet::new() }
    }

    fn hash(&self) -> Result<DefinitionHash> {
        let text = serde_json::to_vec(&self.definitions()).map_err(|error| Error::internal(error.to_string()))?;
        let digest = Sha256::digest(text);
        Ok(DefinitionHash(std::array::from_fn(|index| digest[index])))
    }

    fn featureset(&mut self, name: &str) {
        let Some(found) = self.all.featuresets.iter().find(|featureset| featureset.name == name) else { return };
        if !self.featuresets.insert(&found.name) {
            return;
        }
        for reference in found.features.iter().filter_map(|feature| feature.reference.as_ref()) {
            self.dataset(&reference.dataset);
        }
        for extractor in &found.extractors {
            extractor.inputs.iter().for_each(|input| self.featureset(&input.featureset));
            extractor.deps.iter().for_each(|dataset| self.dataset(dataset));
        }
    }

    fn dataset(&mut self, name: &str) {
        let Some(found) = self.all.datasets.iter().find(|dataset| dataset.name == name) else { return };
        if self.datasets.insert(&found.name) {
            let pipelines = self.all.pipelines.iter().filter(|pipeline| pipeline.dataset == name);
            pipelines.for_each(|pipeline| self.dataset(&pipeline.input));
        }
    }

    /// In the order of their names, whatever the order of commits.
    fn definitions(&self) -> Definitions {
        let datasets = self.all.datasets.iter().filter(|dataset| self.datasets.contains(dataset.name.as_str()));
        let pipelines = self.all.pipelines.iter().filter(|known| self.datasets.contains(known.dataset.as_str()));
        let featuresets = self.all.featuresets.iter().filter(|known| self.featuresets.contains(known.name.as_str()));
        let mut reached = Definitions {
            format: self.all.format,
            datasets: datasets.map(bare_dataset).collect(),
            pipelines: pipelines.map(|pipeline| PipelineDef { location: None, ..pipeline.clone() }).collect(),
            featuresets: featuresets.map(bare_featureset).collect(),
            ..Definitions::default()
        };
        if reached.featuresets.iter().any(|featureset| !featureset.extractors.is_empty()) {
            reached.modules = self.all.modules.clone();
        }
        reached.datasets.sort_by(|one, other| one.name.cmp(&other.name));
        reached.pipelines.sort_by(|one, other| (&one.dataset, &one.name).cmp(&(&other.dataset, &other.name)));
        reached.featuresets.sort_by(|one, other| one.name.cmp(&other.name));
        reached.modules.sort_by(|one, other| one.name.cmp(&other.name));
        reached
    }
}

/// Where the rows come from and where they go does not matter; of a source only the lateness does, which wins.
fn bare_dataset(dataset: &DatasetDef) -> DatasetDef {
    let of_source = dataset.source.as_ref().and_then(|source| source.max_lateness.clone());
    DatasetDef {
        fields: dataset.fields.iter().map(|field| Field { description: String::new(), ..field.clone() }).collect(),
        max_lateness: of_source.or(dataset.max_lateness.clone()),
        source: None,
        emit: false,
        metadata: Metadata::default(),
        location: None,
        ..dataset.clone()
    }
}

fn bare_featureset(featureset: &FeaturesetDef) -> FeaturesetDef {
    let mut bare = FeaturesetDef { metadata: Metadata::default(), location: None, ..featureset.clone() };
    bare.extractors.iter_mut().for_each(|extractor| extractor.location = None);
    for feature in &mut bare.features {
        let FeatureDef { id, deprecated, aliases, description, location, .. } = feature;
        (*id, *deprecated, *location) = (None, false, None);
        aliases.clear();
        description.clear();
    }
    bare
}
