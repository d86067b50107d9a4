//! Lookups: the row of a dataset for one key at one time, for the API and for extractors.

use crate::answer::FeatureValue;
use crate::calls::coerce;
use crate::deployment::{Served, Source};
use crate::reads::settled;
use crate::runtime::Lookups;
use crate::view::{Touched, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thyme_core::aggregate::{Outcome, ReadPlan};
use thyme_core::definition::{CompiledDataset, CompiledPipeline};
use thyme_core::error::{Error, Result};
use thyme_core::key;
use thyme_core::slice::slice_of;
use thyme_core::suggest;
use thyme_core::time::{Micros, format_time};
use thyme_core::value::Value;

/// How the rows of a dataset are looked up.
pub(crate) struct LookupPlan {
    pub dataset: Arc<CompiledDataset>,
    pub reads: Vec<LookupRead>,
}

pub(crate) struct LookupRead {
    pub source: Arc<Source>,
    /// `None` reads the newest raw row.
    pub windows: Option<LookupWindows>,
}

pub(crate) struct LookupWindows {
    pub pipeline: Arc<CompiledPipeline>,
    pub plan: ReadPlan,
}

/// One value per field of the dataset; `None` for an unknown key of a raw dataset.
pub(crate) struct LookupRow {
    pub values: Option<Vec<FeatureValue>>,
    /// Whether the key is known at that time.
    pub hit: bool,
}

impl LookupPlan {
    pub fn new(served: &Served, name: &str) -> Result<LookupPlan> {
        let dataset = served.dataset(name)?;
        if !dataset.index {
            return Err(Error::precondition(format!("dataset '{name}' has no index and cannot be looked up"))
                .field("dataset")
                .hint("declare it with @dataset(index=True)"));
        }
        let mut reads = Vec::new();
        if dataset.is_raw() {
            reads.push(LookupRead { source: served.source(&dataset.table_identity(), name)?, windows: None });
        }
        for pipeline_name in &dataset.pipelines {
            let pipeline = served.compiled().pipelines.get(pipeline_name).cloned();
            let pipeline =
                pipeline.ok_or_else(|| Error::internal(format!("pipeline '{pipeline_name}' is not compiled")))?;
            let source = served.source(&pipeline.table_identity(), pipeline_name)?;
            let all: Vec<usize> = (0..pipeline.plan.outputs.len()).collect();
            let plan = pipeline.plan.read_plan(&all);
            reads.push(LookupRead { source, windows: Some(LookupWindows { pipeline, plan }) });
        }
        Ok(LookupPlan { dataset, reads })
    }

    /// The slices that a key's rows are in, if any of these is not here.
    pub fn slices(&self, view: &View, key: &[Value]) -> Option<BTreeSet<u16>> {
        if !view.is_partial() {
            return None;
        }
        let encoded = key::encode_key(key)?;
        let slice = |read: &LookupRead| {
            let partition = key::partition(&encoded, read.source.partitions);
            slice_of(partition, read.source.partitions, view.slices())
        };
        let is_elsewhere = self.reads.iter().any(|read| !view.has(slice(read)));
        is_elsewhere.then(|| self.reads.iter().map(slice).collect())
    }

    pub fn read(&self, view: &View, key: &[Value], at: Micros, touched: &mut Touched) -> Result<LookupRow> {
        // A null component makes an unknown key: nothing is read.
        let encoded = key::encode_key(key);
        let mut values: Vec<FeatureValue> = vec![FeatureValue::default_of(Value::Null); self.dataset.fields.len()];
        let mut hit = false;
        for read in &self.reads {
            let place = match (&encoded, view.read_time(at)) {
                (Some(encoded), Some(until)) => {
                    let partition = key::partition(encoded, read.source.partitions);
                    touched.partition(&read.source, partition);
                    if let Some(horizon) = view.horizon(&read.source, partition)? {
                        horizon.check(at)?;
                        view.check_kept(&horizon, at)?;
                    }
                    let state = view.state(&read.source, partition)?;
                    Some((state, encoded, until, view.visible(&read.source, partition)?))
                }
                _ => None,
            };
            let table = &read.source.served.table;
            let Some(windows) = &read.windows else {
                let newest = match place {
                    Some((state, encoded, until, visible)) => state.newest(table, encoded, until, &visible)?,
                    None => None,
                };
                let values = newest.map(|event| event.values.into_iter().map(FeatureValue::ok).collect());
                return Ok(LookupRow { hit: values.is_some(), values });
            };
            let plan = &windows.pipeline.plan;
            let mut write = |index: usize, outcome: &Outcome| {
                let column = windows.pipeline.output_columns[index];
                let (value, status) = settled(outcome, None, plan.outputs[index].default.as_ref());
                values[column] = FeatureValue { value: value.clone().widened(&self.dataset.types[column]), status };
            };
            match place {
                Some((state, encoded, until, visible)) => {
                    let data = state.read(table, encoded, until, &view.windows(&windows.plan.windows), &visible)?;
                    hit |= state.known(table, encoded, until, &visible)?;
                    windows.plan.finish(plan, at, &data, write);
                }
                None => {
                    let empty = plan.outputs.iter().map(|output| Outcome::Empty(output.empty.clone()));
                    empty.enumerate().for_each(|(index, outcome)| write(index, &outcome));
                }
            }
        }
        for (&column, component) in self.dataset.key_columns.iter().zip(key) {
            values[column] = FeatureValue::ok(component.clone());
        }
        values[self.dataset.time_column] = FeatureValue::ok(Value::Time(at));
        Ok(LookupRow { values: Some(values), hit })
    }
}

/// The lookups of one extractor call.
pub(crate) struct RequestLookups {
    view: Arc<View>,
    deps: Arc<[String]>,
}

impl RequestLookups {
    pub fn new(view: Arc<View>, deps: Arc<[String]>) -> RequestLookups {
        RequestLookups { view, deps }
    }
}

impl Lookups for RequestLookups {
    fn lookup(
        &self,
        dataset: &str,
        at: Micros,
        row_time: Micros,
        key: &BTreeMap<String, Value>,
    ) -> Result<Option<BTreeMap<String, Value>>> {
        if at > row_time {
            return Err(Error::invalid(format!(
                "a lookup at {} is later than the question's time {}",
                format_time(at),
                format_time(row_time)
            ))
            .field("ts")
            .hint("look up at the ts that the extractor was given, or earlier"));
        }
        if !self.deps.iter().any(|dep| dep == dataset) {
            return Err(Error::invalid(format!("dataset '{dataset}' is not among the extractor's deps"))
                .hint(format!("declare it: @extractor(deps=[{dataset}])")));
        }
        let plan = self.view.served.lookup_plan(dataset)?;
        let components = key_components(&plan.dataset, key)?;
        let row = plan.read(&self.view, &components, at, &mut Touched::default())?;
        let Some(values) = row.values else { return Ok(None) };
        let mut named = BTreeMap::new();
        for (field, value) in plan.dataset.fields.iter().zip(values) {
            if let Some(reason) = value.status.reason() {
                return Err(Error::invalid(format!("{dataset}.{}: {reason}", field.name)));
            }
            named.insert(field.name.clone(), value.value);
        }
        Ok(Some(named))
    }
}

/// The components of a key given by name, in key order.
fn key_components(dataset: &CompiledDataset, key: &BTreeMap<String, Value>) -> Result<Vec<Value>> {
    if let Some(unknown) = key.keys().find(|name| !dataset.key_names().any(|known| known == name.as_str())) {
        return Err(Error::invalid(format!("unknown key '{unknown}' of dataset '{}'", dataset.name))
            .field(unknown.as_str())
            .hint(suggest::hint(unknown, dataset.key_names())));
    }
    dataset
        .key_columns
        .iter()
        .map(|&column| {
            let field = &dataset.fields[column];
            let value = key.get(&field.name).cloned().ok_or_else(|| {
                Error::invalid(format!("missing key '{}' of dataset '{}'", field.name, dataset.name))
                    .field(field.name.as_str())
            })?;
            let got = value.type_name();
            coerce(value, &field.data_type).ok_or_else(|| {
                Error::invalid(format!("key '{}': expected {}, got {got}", field.name, field.data_type))
                    .field(field.name.as_str())
            })
        })
        .collect()
}
