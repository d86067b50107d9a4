//! Where rows go: the raw datasets of a deployment, with what their rows must look like and which log takes them.

use crate::rows::RowSchema;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::definition::{Compiled, CompiledDataset};
use thyme_core::{Error, Result, suggest};

/// A raw dataset.
#[derive(Debug, Clone)]
pub struct Target {
    pub schema: RowSchema,
    pub topic: String,
    /// The log's small id, as it stands in positions.
    pub log: u32,
    /// Why keys of this dataset cannot be erased.
    pub erase_refused: Option<String>,
}

/// All datasets by name: raw ones can be written to, aggregated ones say why not.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    raw: BTreeMap<String, Arc<Target>>,
    /// Aggregated dataset -> the raw datasets that its pipelines read.
    aggregated: BTreeMap<String, Vec<String>>,
}

impl Targets {
    /// The targets of a deployment; `log_id` knows the small id of a log identity such as `log:Order@1`.
    pub fn new(compiled: &Compiled, log_id: impl Fn(&str) -> Result<u32>) -> Result<Targets> {
        let mut targets = Targets::default();
        for (name, dataset) in &compiled.datasets {
            if dataset.is_raw() {
                let target = Target {
                    schema: RowSchema::from(dataset.as_ref()),
                    topic: dataset.topic(),
                    log: log_id(&dataset.log_identity())?,
                    erase_refused: erase_refused(compiled, dataset),
                };
                targets.raw.insert(name.clone(), Arc::new(target));
            } else {
                let pipelines = dataset.pipelines.iter().filter_map(|pipeline| compiled.pipelines.get(pipeline));
                let mut inputs: Vec<String> = pipelines.map(|pipeline| pipeline.input.clone()).collect();
                inputs.dedup();
                targets.aggregated.insert(name.clone(), inputs);
            }
        }
        Ok(targets)
    }

    /// The dataset to write to.
    pub fn get(&self, dataset: &str) -> Result<Arc<Target>> {
        if let Some(target) = self.raw.get(dataset) {
            return Ok(target.clone());
        }
        if let Some(inputs) = self.aggregated.get(dataset) {
            let message = format!("dataset '{dataset}' is filled by its pipelines and takes no rows of its own");
            return Err(Error::precondition(message)
                .field("dataset")
                .hint(format!("send rows to what they read: {}", inputs.join(", "))));
        }
        Err(Error::not_found(format!("unknown dataset '{dataset}'"))
            .field("dataset")
            .hint(suggest::hint(dataset, self.raw.keys().map(String::as_str))))
    }
}

/// An erase reaches what is kept under the dataset's own key only.
fn erase_refused(compiled: &Compiled, dataset: &CompiledDataset) -> Option<String> {
    let reads_it = |name: &str| name == dataset.name;
    let regrouped =
        compiled.pipelines.values().find(|pipeline| reads_it(&pipeline.input) && pipeline.route.is_some())?;
    Some(format!(
        "pipeline '{}' groups dataset '{}' by {}, which is not the dataset's own key",
        regrouped.name,
        dataset.name,
        regrouped.group_columns.join(", ")
    ))
}
