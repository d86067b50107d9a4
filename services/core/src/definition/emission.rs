//! The topic of an aggregated dataset with `emit=True`: its names, and what a record of it holds. The form of the records is
//! frozen by `docs/decisions/0013-topics-of-aggregated-datasets.md`.

use super::compiled::{Compiled, CompiledDataset, CompiledPipeline};
use crate::aggregate::{Outcome, ReadPlan, WindowData};
use crate::error::Result;
use crate::key::decode_key;
use crate::record::encode_row;
use crate::time::Micros;
use crate::value::Value;
use std::sync::Arc;

/// What one pipeline writes for other consumers: a row of its dataset per accepted event.
#[derive(Debug, Clone)]
pub struct Emission {
    pub dataset: Arc<CompiledDataset>,
    pub pipeline: Arc<CompiledPipeline>,
    /// All outputs of the pipeline.
    pub plan: ReadPlan,
}

impl Emission {
    pub fn new(dataset: Arc<CompiledDataset>, pipeline: Arc<CompiledPipeline>) -> Emission {
        let all: Vec<usize> = (0..pipeline.plan.outputs.len()).collect();
        let plan = pipeline.plan.read_plan(&all);
        Emission { dataset, pipeline, plan }
    }

    /// Identity of the topic in the catalog: `emit:UserStats@1:compute@1`. A new version of either is another topic, written
    /// from the start of the log.
    pub fn identity(&self) -> String {
        format!("emit:{}:{}@{}", self.dataset.identity(), self.pipeline.short_name(), self.pipeline.version)
    }

    /// `UserStats.v1.compute.v1`.
    pub fn topic(&self) -> String {
        format!("{}.{}.v{}", self.dataset.topic(), self.pipeline.short_name(), self.pipeline.version)
    }

    /// The row value(key, at), in stored order, and the fields that have no value there; `data` is what was read for `plan.windows`.
    pub fn values(&self, key: &[u8], at: Micros, data: &[WindowData]) -> Result<(Vec<Value>, Vec<String>)> {
        let mut values = vec![Value::Null; self.dataset.fields.len()];
        let mut failed = Vec::new();
        for (&column, component) in self.dataset.key_columns.iter().zip(decode_key(key)?) {
            values[column] = component;
        }
        values[self.dataset.time_column] = Value::Time(at);
        let table_plan = &self.pipeline.plan;
        self.plan.finish(table_plan, at, data, |place, outcome| {
            let (output, column) = (&table_plan.outputs[place], self.pipeline.output_columns[place]);
            let value = match outcome {
                Outcome::Value(value) => value,
                Outcome::Empty(empty) => output.default.as_ref().unwrap_or(empty),
                Outcome::Error(_) => {
                    failed.push(output.name.clone());
                    &Value::Null
                }
            };
            values[column] = value.clone().widened(&self.dataset.types[column]);
        });
        Ok((values, failed))
    }

    /// A row of [`Emission::values`] as a record of the topic holds it: a JSON object with every field of the dataset, those without a value null.
    pub fn record(&self, values: &[Value]) -> String {
        let names = self.dataset.fields.iter().map(|field| field.name.clone());
        let object: serde_json::Map<String, serde_json::Value> = names.zip(values.iter().map(Value::to_json)).collect();
        serde_json::Value::Object(object).to_string()
    }

    /// The same row for pipelines that read the dataset, encoded as a row of a log. What only an aggregate gives (TopK) is left out: no
    /// pipeline can read it.
    pub fn routed(&self, values: &[Value]) -> (Vec<Value>, Vec<u8>) {
        let kept = values.iter().zip(&self.dataset.types).map(|(value, data_type)| match value {
            _ if data_type.holds_struct() => Value::Null,
            Value::Float(number) => Value::Float(number + 0.0),
            other => other.clone(),
        });
        let kept: Vec<Value> = kept.collect();
        let mut encoded = Vec::new();
        encode_row(&kept, &mut encoded);
        (kept, encoded)
    }
}

impl Compiled {
    /// What pipelines write for other consumers, in the order of the datasets.
    pub fn emissions(&self) -> impl Iterator<Item = Emission> {
        self.datasets.values().filter(|dataset| dataset.emit).flat_map(move |dataset| {
            let pipelines = dataset.pipelines.iter().filter_map(move |name| self.pipelines.get(name));
            pipelines.map(move |pipeline| Emission::new(dataset.clone(), pipeline.clone()))
        })
    }
}
