//! The topic of an aggregated dataset with `emit=True`: its names, and what a record of it holds. The form of the records is
//! frozen by `docs/decisions/0013-topics-of-aggregated-datasets.md`.

use super::compiled::{Compiled, CompiledDataset, CompiledPipeline};
use crate::aggregate::{Outcome, ReadPlan, WindowData};
use crate::error::Result;
use crate::key::decode_key;
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

/// The value of one record of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmittedRow {
    /// A JSON object with every field of the dataset.
    pub json: String,
    /// Fields that have no value there, such as a sum beyond its type; null in the JSON.
    pub failed: Vec<String>,
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
        format!("emit:{}:{}@{}", self.dataset.identity(), self.pipeline_name(), self.pipeline.version)
    }

    /// `UserStats.v1.compute.v1`.
    pub fn topic(&self) -> String {
        format!("{}.{}.v{}", self.dataset.topic(), self.pipeline_name(), self.pipeline.version)
    }

    fn pipeline_name(&self) -> &str {
        self.pipeline.name.split_once('.').map_or(self.pipeline.name.as_str(), |(_, name)| name)
    }

    /// The row value(key, at); `data` is what was read for `plan.windows`.
    pub fn row(&self, key: &[u8], at: Micros, data: &[WindowData]) -> Result<EmittedRow> {
        let mut values = vec![Value::Null; self.dataset.fields.len()];
        let mut failed = Vec::new();
        for (&column, component) in self.dataset.key_columns.iter().zip(decode_key(key)?) {
            values[column] = component;
        }
        values[self.dataset.time_column] = Value::Time(at);
        let table_plan = &self.pipeline.plan;
        let outcomes = self.plan.finish(table_plan, at, data);
        for ((outcome, output), &column) in
            outcomes.into_iter().zip(&table_plan.outputs).zip(&self.pipeline.output_columns)
        {
            let value = match outcome {
                Outcome::Value(value) => value,
                Outcome::Empty(empty) => output.default.clone().unwrap_or(empty),
                Outcome::Error(_) => {
                    failed.push(output.name.clone());
                    Value::Null
                }
            };
            values[column] = value.widened(&self.dataset.types[column]);
        }
        let names = self.dataset.fields.iter().map(|field| field.name.clone());
        let object: serde_json::Map<String, serde_json::Value> = names.zip(values.iter().map(Value::to_json)).collect();
        Ok(EmittedRow { json: serde_json::Value::Object(object).to_string(), failed })
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
