//! Rows that did not become events, with the reason and, where they can be read, themselves.

use crate::controller::Controller;
use crate::listing::page_size;
use crate::model::{RejectedView, Time};
use serde_json::{Value as Json, json};
use thyme_core::definition::CompiledDataset;
use thyme_core::record::{Record, decode_row};
use thyme_core::{Error, Result, suggest};
use thyme_state::Rejected;

impl Controller {
    /// At most `limit` (0: 50) of each kind: dead letters, rows of the dataset's source among them, and samples of late rows.
    pub fn rejected(&self, name: &str, limit: u32) -> Result<Vec<RejectedView>> {
        let limit = page_size(limit) as usize;
        let serving = self.serving();
        let versions = serving.versions();
        let find = |name: &str| {
            let mut found = versions.iter().filter_map(|version| Some((version, version.compiled.datasets.get(name)?)));
            found.next()
        };
        let Some((version, dataset)) = find(name) else {
            let known = versions.iter().flat_map(|version| version.compiled.datasets.keys()).map(String::as_str);
            return Err(Error::not_found(format!("unknown dataset '{name}'"))
                .field("dataset")
                .hint(suggest::hint(name, known)));
        };
        if !dataset.is_raw() {
            return Err(Error::precondition(format!(
                "dataset '{name}' is filled by its pipelines and takes no rows of its own"
            ))
            .field("dataset"));
        }
        let log = version.log_id(dataset)?;
        let snapshots = self.parts.states.snapshot();
        // Slices are in order of partition.
        let (mut dead, mut late) = (Vec::new(), Vec::new());
        for log in std::iter::once(log).chain(version.route_logs(dataset)?) {
            for state in snapshots.iter() {
                dead.extend(state.dead_letters(log, None, limit)?);
            }
        }
        for state in snapshots.iter() {
            late.extend(state.late_samples(log, None, limit)?);
        }
        dead.truncate(limit);
        late.truncate(limit);
        let dead = dead.into_iter().map(|row| view("dead_letter", row, dataset));
        Ok(dead.chain(late.into_iter().map(|row| view("late", row, dataset))).collect())
    }
}

fn view(kind: &'static str, rejected: Rejected, dataset: &CompiledDataset) -> RejectedView {
    let record = Record::decode(&rejected.record).ok();
    RejectedView {
        kind: if matches!(record, Some(Record::Unreadable { .. })) { "source" } else { kind },
        row: record.and_then(|record| readable(&record, dataset)).unwrap_or(Json::Null),
        reason: rejected.reason,
        partition: Some(rejected.partition),
        offset: Some(rejected.offset),
        arrived: Time(rejected.append_time),
    }
}

/// The row by field name, or the beginning of the text that could not be read as one; `None` where neither is kept.
fn readable(record: &Record<'_>, dataset: &CompiledDataset) -> Option<Json> {
    let row = match record {
        Record::Event { row, .. } => row,
        Record::Unreadable { text, .. } if !text.is_empty() => return Some(String::from_utf8_lossy(text).into()),
        _ => return None,
    };
    let values = decode_row(row, &dataset.types, None).ok()?;
    let named = dataset.fields.iter().zip(&values);
    Some(
        named
            .map(|(field, value)| (field.name.clone(), json!(value.to_json())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    )
}
