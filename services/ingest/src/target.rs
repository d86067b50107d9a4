//! Where rows go: the raw datasets of a deployment, with what their rows must look like and which log takes them.

use crate::rows::RowSchema;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::definition::Compiled;
use thyme_core::{Error, ErrorKind, Result, suggest};

/// A raw dataset.
#[derive(Debug, Clone)]
pub struct Target {
    pub schema: RowSchema,
    pub topic: String,
    /// The log's small id, as it stands in positions.
    pub log: u32,
    /// For each table with its events that is built anew for an erase, because it groups them by another key or holds rows of rows, the
    /// places in its log up to which it knows the erases; none where it knows of no erase.
    pub regrouped: Vec<Vec<u64>>,
}

impl Target {
    /// Whether a table that groups by another key does not know all erases below these places.
    pub fn has_not_left_out(&self, erased_below: &[u64]) -> bool {
        let knows = |known: &Vec<u64>| {
            erased_below
                .iter()
                .enumerate()
                .all(|(index, place)| known.get(index).copied().unwrap_or_default() >= *place)
        };
        !self.regrouped.iter().all(knows)
    }

    /// A log that says there is no such topic, though the dataset is committed and its topic was made by that: a broker that has just come
    /// up, which lists its topics a moment later. Whoever sends rows is to try again.
    pub(crate) fn not_listed(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::NotFound {
            return error;
        }
        let otherwise = error.hint_text().map(|hint| format!("; if it stays so: {hint}")).unwrap_or_default();
        Error::unavailable(format!(
            "the log of dataset '{}' is not there yet: {}",
            self.schema.dataset,
            error.message()
        ))
        .hint(format!("try again: a broker that has just come up lists its topics a moment later{otherwise}"))
    }
}

/// All datasets by name: raw ones can be written to, aggregated ones say why not.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    raw: BTreeMap<String, Arc<Target>>,
    /// Aggregated dataset -> the raw datasets behind it.
    aggregated: BTreeMap<String, Vec<String>>,
}

impl Targets {
    /// The targets of a deployment; `log_id` knows the small id of a log identity such as `log:Order@1`.
    pub fn new(compiled: &Compiled, log_id: impl Fn(&str) -> Result<u32>) -> Result<Targets> {
        let mut targets = Targets::default();
        for (name, dataset) in &compiled.datasets {
            if dataset.is_raw() {
                let readers = compiled.pipelines.values().filter(|pipeline| pipeline.root == *name);
                let regrouped = readers.filter(|pipeline| pipeline.route.is_some());
                let target = Target {
                    schema: RowSchema::from(dataset.as_ref()),
                    topic: dataset.topic(),
                    log: log_id(&dataset.log_identity())?,
                    regrouped: regrouped.map(|pipeline| pipeline.known_erases().to_vec()).collect(),
                };
                targets.raw.insert(name.clone(), Arc::new(target));
            } else {
                let pipelines = dataset.pipelines.iter().filter_map(|pipeline| compiled.pipelines.get(pipeline));
                let mut inputs: Vec<String> = pipelines.map(|pipeline| pipeline.root.clone()).collect();
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
