//! What it takes to answer a set of wanted features: the keys and inputs a question must give, the native reads, and the
//! extractor calls in order, over one flat space of value slots. Features of other featuresets are part of the same plan.

use super::compiled::{Compiled, CompiledFeatureset, CompiledInput, CompiledRef, FeatureKind, RefTarget};
use crate::error::{Error, Result};
use crate::suggest;
use crate::value::Value;
use std::collections::BTreeMap;

/// The plan for a set of wanted features of one featureset.
#[derive(Debug, Clone, PartialEq)]
pub struct FeaturePlan {
    pub featureset: String,
    /// One per feature (of this or another featureset) whose value is needed.
    pub slots: Vec<Slot>,
    /// The slot of each wanted feature, in the order asked.
    pub wanted: Vec<usize>,
    /// (feature, slot) of the key features that the question must give, in class order.
    pub keys: Vec<(usize, usize)>,
    /// (feature, slot) of the request features that the question must give, in class order.
    pub requests: Vec<(usize, usize)>,
    /// Native reads: each fills slots from one table and one key, and needs only keys and requests.
    pub reads: Vec<PlannedRead>,
    /// Extractor calls, in an order in which every input slot is filled before.
    pub calls: Vec<PlannedCall>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    pub featureset: String,
    pub feature: usize,
    /// The feature's default.
    pub default: Option<Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRead {
    pub dataset: String,
    /// The pipeline whose table is read; `None` reads the newest row of a raw dataset.
    pub pipeline: Option<String>,
    /// Slots that hold the key's components, in key order.
    pub key: Vec<usize>,
    /// (output of the pipeline's plan, or column of the raw row; slot to fill).
    pub fills: Vec<(usize, usize)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PlannedCall {
    pub featureset: String,
    /// Index into that featureset's extractors.
    pub extractor: usize,
    pub inputs: Vec<usize>,
    /// The slot of each output; `None` where nothing asks for that output.
    pub outputs: Vec<Option<usize>>,
}

impl Compiled {
    /// The plan for `wanted` features of a featureset, by index into its features.
    pub fn feature_plan(&self, featureset: &str, wanted: &[usize]) -> Result<FeaturePlan> {
        let found = self.featuresets.get(featureset).ok_or_else(|| {
            let hint = suggest::hint(featureset, self.featuresets.keys().map(String::as_str));
            Error::not_found(format!("unknown featureset '{featureset}'")).field("featureset").hint(hint)
        })?;
        let mut planner = Planner {
            compiled: self,
            plan: FeaturePlan {
                featureset: featureset.to_string(),
                slots: Vec::new(),
                wanted: Vec::with_capacity(wanted.len()),
                keys: Vec::new(),
                requests: Vec::new(),
                reads: Vec::new(),
                calls: Vec::new(),
            },
            memo: BTreeMap::new(),
        };
        for &feature in wanted {
            if feature >= found.features.len() {
                return Err(Error::internal(format!("featureset '{featureset}' has no feature {feature}")));
            }
            let slot = planner.slot(featureset, feature, None)?;
            planner.plan.wanted.push(slot);
        }
        planner.plan.keys.sort_unstable();
        planner.plan.requests.sort_unstable();
        Ok(planner.plan)
    }
}

/// For a feature of another featureset: the slots of its key and request features.
type Given = BTreeMap<usize, usize>;

struct Planner<'a> {
    compiled: &'a Compiled,
    plan: FeaturePlan,
    memo: BTreeMap<(String, usize, Option<Given>), usize>,
}

impl Planner<'_> {
    /// The slot of a feature, filled by what is planned so far. `given` is `None` in the featureset that is asked.
    fn slot(&mut self, name: &str, feature: usize, given: Option<&Given>) -> Result<usize> {
        let place = (name.to_string(), feature, given.cloned());
        if let Some(&known) = self.memo.get(&place) {
            return Ok(known);
        }
        let compiled = self.compiled;
        let featureset = compiled.featuresets.get(name).ok_or_else(|| lost(name))?;
        let slot = match &featureset.features[feature].kind {
            FeatureKind::Key | FeatureKind::Request => match given {
                Some(given) => *given.get(&feature).ok_or_else(|| lost(name))?,
                None => self.question_slot(featureset, feature),
            },
            FeatureKind::Ref(reference) => self.read_slot(featureset, feature, reference, given)?,
            FeatureKind::Extracted { extractor, output } => {
                self.call_slot(featureset, feature, (*extractor, *output), given)?
            }
        };
        self.memo.insert(place, slot);
        Ok(slot)
    }

    fn new_slot(&mut self, featureset: &CompiledFeatureset, feature: usize) -> usize {
        let default = featureset.features[feature].default.clone();
        self.plan.slots.push(Slot { featureset: featureset.name.clone(), feature, default });
        self.plan.slots.len() - 1
    }

    fn question_slot(&mut self, featureset: &CompiledFeatureset, feature: usize) -> usize {
        let slot = self.new_slot(featureset, feature);
        let is_key = featureset.features[feature].kind == FeatureKind::Key;
        let list = if is_key { &mut self.plan.keys } else { &mut self.plan.requests };
        list.push((feature, slot));
        slot
    }

    fn read_slot(
        &mut self,
        featureset: &CompiledFeatureset,
        feature: usize,
        reference: &CompiledRef,
        given: Option<&Given>,
    ) -> Result<usize> {
        let mut key = Vec::with_capacity(reference.binding.len());
        for &holder in &reference.binding {
            key.push(self.slot(&featureset.name, holder, given)?);
        }
        let (pipeline, item) = match &reference.target {
            RefTarget::Aggregate(output) => (Some(output.pipeline.clone()), output.output),
            RefTarget::Column(column) => (None, *column),
        };
        let same =
            |read: &PlannedRead| read.dataset == reference.dataset && read.pipeline == pipeline && read.key == key;
        let read = self.plan.reads.iter().position(same);
        let read = read.unwrap_or_else(|| {
            let dataset = reference.dataset.clone();
            self.plan.reads.push(PlannedRead { dataset, pipeline, key, fills: Vec::new() });
            self.plan.reads.len() - 1
        });
        // The same feature with the same key, reached on another way.
        let is_this = |slot: &Slot| slot.featureset == featureset.name && slot.feature == feature;
        let known = self.plan.reads[read].fills.iter().find(|(_, slot)| is_this(&self.plan.slots[*slot]));
        if let Some(&(_, slot)) = known {
            return Ok(slot);
        }
        let slot = self.new_slot(featureset, feature);
        self.plan.reads[read].fills.push((item, slot));
        Ok(slot)
    }

    fn call_slot(
        &mut self,
        featureset: &CompiledFeatureset,
        feature: usize,
        (extractor, output): (usize, usize),
        given: Option<&Given>,
    ) -> Result<usize> {
        let compiled = &featureset.extractors[extractor];
        let mut inputs = Vec::with_capacity(compiled.inputs.len());
        for input in &compiled.inputs {
            inputs.push(match input {
                CompiledInput::Own(feature) => self.slot(&featureset.name, *feature, given)?,
                CompiledInput::Other { featureset: other, feature, binding } => {
                    let mut other_given = Given::new();
                    for (&needed, &supplier) in binding {
                        other_given.insert(needed, self.slot(&featureset.name, supplier, given)?);
                    }
                    self.slot(other, *feature, Some(&other_given))?
                }
            });
        }
        let same = |call: &PlannedCall| {
            call.featureset == featureset.name && call.extractor == extractor && call.inputs == inputs
        };
        let call = self.plan.calls.iter().position(same);
        let call = call.unwrap_or_else(|| {
            let outputs = vec![None; compiled.outputs.len()];
            self.plan.calls.push(PlannedCall { featureset: featureset.name.clone(), extractor, inputs, outputs });
            self.plan.calls.len() - 1
        });
        if let Some(slot) = self.plan.calls[call].outputs[output] {
            return Ok(slot);
        }
        let slot = self.new_slot(featureset, feature);
        self.plan.calls[call].outputs[output] = Some(slot);
        Ok(slot)
    }
}

fn lost(name: &str) -> Error {
    Error::internal(format!("the plan of featureset '{name}' is not bound"))
}
