//! Plans: what a question about some features of a featureset reads and calls, worked out once per deployment.

use crate::deployment::{Served, Source};
use std::sync::Arc;
use std::time::Duration;
use thyme_core::aggregate::ReadPlan;
use thyme_core::definition::{
    Compiled, CompiledDataset, CompiledFeature, CompiledFeatureset, CompiledInput, CompiledPipeline, FeatureKind,
    PlannedCall, PlannedRead,
};
use thyme_core::error::{Error, Result};
use thyme_core::schema::DataType;
use thyme_core::suggest;
use thyme_core::value::Value;

/// A question about a set of features, planned. Values travel in slots, one per feature that is needed.
#[derive(Debug)]
pub(crate) struct Planned {
    pub featureset: Arc<str>,
    pub compiled: Arc<CompiledFeatureset>,
    /// What each slot holds.
    pub slots: Vec<SlotPlan>,
    /// The answer's columns: name as asked, slot.
    pub wanted: Vec<(Arc<str>, usize)>,
    pub keys: Vec<GivenPlan>,
    pub requests: Vec<GivenPlan>,
    pub reads: Vec<ReadTable>,
    pub calls: Vec<CallPlan>,
    /// Tables that extractors may look up: any key, so all partitions.
    pub looked_up: Vec<Arc<Source>>,
}

impl Planned {
    /// All tables that it reads.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.reads.iter().map(|read| &read.source).chain(&self.looked_up)
    }
}

#[derive(Debug)]
pub(crate) struct SlotPlan {
    /// `feature`, or `Other.feature` where it is another featureset's.
    pub name: Arc<str>,
    pub data_type: DataType,
    pub nullable: bool,
    pub default: Option<Value>,
}

/// A key or request feature that a question gives.
#[derive(Debug)]
pub(crate) struct GivenPlan {
    pub name: Arc<str>,
    pub slot: usize,
    pub data_type: DataType,
    pub nullable: bool,
}

/// A native read: one table, one key.
#[derive(Debug)]
pub(crate) struct ReadTable {
    pub source: Arc<Source>,
    /// Slots of the key's components, in key order.
    pub key: Vec<usize>,
    pub what: ReadWhat,
}

#[derive(Debug)]
pub(crate) enum ReadWhat {
    /// Windows of a pipeline's table; `slots` is parallel to the plan's outputs.
    Windows { pipeline: Arc<CompiledPipeline>, plan: ReadPlan, slots: Vec<usize> },
    /// The newest raw row; (column, slot).
    Newest { dataset: Arc<CompiledDataset>, columns: Vec<(usize, usize)> },
}

/// A call of an extractor.
#[derive(Debug)]
pub(crate) struct CallPlan {
    pub featureset: Arc<str>,
    pub extractor: Arc<str>,
    /// `Featureset.extractor`, for messages.
    pub label: String,
    pub inputs: Vec<usize>,
    /// Slot of each output, where it is needed.
    pub outputs: Vec<Option<usize>>,
    pub deadline: Option<Duration>,
    /// Receives and returns columns.
    pub batch: bool,
    /// Datasets it may look up.
    pub deps: Arc<[String]>,
}

/// Plans the features with these names; all that are produced if there are none.
pub(crate) fn plan_features(
    served: &Served,
    name: &Arc<str>,
    featureset: &Arc<CompiledFeatureset>,
    asked: &[String],
) -> Result<Planned> {
    let (names, wanted) = wanted_features(featureset, asked)?;
    let compiled = served.compiled();
    let plan = compiled.feature_plan(name, &wanted)?;
    let mut slots = Vec::with_capacity(plan.slots.len());
    for slot in &plan.slots {
        let owner = owner(compiled, &slot.featureset)?;
        let feature = &owner.features[slot.feature];
        let own = slot.featureset.as_str() == name.as_ref();
        let label = if own { feature.name.clone() } else { format!("{}.{}", slot.featureset, feature.name) };
        slots.push(SlotPlan {
            name: label.into(),
            data_type: feature.data_type.clone(),
            nullable: feature.nullable,
            default: slot.default.clone(),
        });
    }
    let given = |(feature, slot): &(usize, usize)| {
        let feature = &featureset.features[*feature];
        GivenPlan {
            name: Arc::from(feature.name.as_str()),
            slot: *slot,
            data_type: feature.data_type.clone(),
            nullable: feature.nullable,
        }
    };
    let reads: Result<Vec<ReadTable>> = plan.reads.iter().map(|read| plan_read(served, read)).collect();
    let mut calls = Vec::with_capacity(plan.calls.len());
    let mut looked_up: Vec<Arc<Source>> = Vec::new();
    for call in &plan.calls {
        let call = plan_call(compiled, call)?;
        for dep in call.deps.iter() {
            for source in served.sources_of_dataset(served.dataset(dep)?.as_ref())? {
                if !looked_up.iter().any(|known| Arc::ptr_eq(known, &source)) {
                    looked_up.push(source);
                }
            }
        }
        calls.push(call);
    }
    Ok(Planned {
        featureset: name.clone(),
        compiled: featureset.clone(),
        slots,
        wanted: names.into_iter().zip(plan.wanted.iter().copied()).collect(),
        keys: plan.keys.iter().map(given).collect(),
        requests: plan.requests.iter().map(given).collect(),
        reads: reads?,
        calls,
        looked_up,
    })
}

/// Names as asked, and indices. Without names: everything that is produced.
fn wanted_features(featureset: &CompiledFeatureset, asked: &[String]) -> Result<(Vec<Arc<str>>, Vec<usize>)> {
    if asked.is_empty() {
        let features = featureset.features.iter().enumerate();
        let produced = features.filter(|(_, feature)| !matches!(feature.kind, FeatureKind::Key | FeatureKind::Request));
        return Ok(produced.map(|(index, feature)| (Arc::from(feature.name.as_str()), index)).unzip());
    }
    let mut names: Vec<Arc<str>> = Vec::with_capacity(asked.len());
    let mut wanted = Vec::with_capacity(asked.len());
    for name in asked {
        let index = featureset.feature(name).ok_or_else(|| {
            let known = featureset.features.iter().map(|feature| feature.name.as_str());
            Error::not_found(format!("unknown feature '{name}' of featureset '{}'", featureset.name))
                .field("features")
                .hint(suggest::hint(name, known))
        })?;
        if names.iter().any(|known| known.as_ref() == name) {
            return Err(Error::invalid(format!("feature '{name}' is asked for twice")).field("features"));
        }
        names.push(Arc::from(name.as_str()));
        wanted.push(index);
    }
    Ok((names, wanted))
}

fn owner<'a>(compiled: &'a Compiled, featureset: &str) -> Result<&'a Arc<CompiledFeatureset>> {
    let found = compiled.featuresets.get(featureset);
    found.ok_or_else(|| Error::internal(format!("a plan names featureset '{featureset}', which is not compiled")))
}

fn plan_read(served: &Served, read: &PlannedRead) -> Result<ReadTable> {
    let Some(name) = &read.pipeline else {
        let dataset = served.dataset(&read.dataset)?;
        let source = served.source(&dataset.table_identity(), &dataset.name)?;
        return Ok(ReadTable {
            source,
            key: read.key.clone(),
            what: ReadWhat::Newest { dataset, columns: read.fills.clone() },
        });
    };
    let pipeline = served.compiled().pipelines.get(name).cloned();
    let pipeline =
        pipeline.ok_or_else(|| Error::internal(format!("a plan names pipeline '{name}', which is not compiled")))?;
    let source = served.source(&pipeline.table_identity(), name)?;
    let (outputs, slots): (Vec<usize>, Vec<usize>) = read.fills.iter().copied().unzip();
    let plan = pipeline.plan.read_plan(&outputs);
    Ok(ReadTable { source, key: read.key.clone(), what: ReadWhat::Windows { pipeline, plan, slots } })
}

fn plan_call(compiled: &Compiled, call: &PlannedCall) -> Result<CallPlan> {
    let featureset = owner(compiled, &call.featureset)?;
    let extractor = &featureset.extractors[call.extractor];
    Ok(CallPlan {
        featureset: Arc::from(call.featureset.as_str()),
        extractor: Arc::from(extractor.name.as_str()),
        label: format!("{}.{}", call.featureset, extractor.name),
        inputs: call.inputs.clone(),
        outputs: call.outputs.clone(),
        deadline: extractor.deadline_ms.map(|millis| Duration::from_millis(u64::from(millis))),
        batch: extractor.batch,
        deps: extractor.deps.as_slice().into(),
    })
}

/// The feature behind an extractor's input.
pub(crate) fn input_feature<'a>(
    compiled: &'a Compiled,
    own: &'a CompiledFeatureset,
    input: &CompiledInput,
) -> Option<&'a CompiledFeature> {
    match input {
        CompiledInput::Own(feature) => own.features.get(*feature),
        CompiledInput::Other { featureset, feature, .. } => {
            compiled.featuresets.get(featureset)?.features.get(*feature)
        }
    }
}
