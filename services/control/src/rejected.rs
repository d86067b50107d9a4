//! Rows that did not become events, with the reason and, where they can be read, themselves.

use crate::controller::Controller;
use crate::listing::page_size;
use crate::model::{RejectedView, Time};
use serde_json::{Value as Json, json};
use thyme_core::definition::CompiledDataset;
use thyme_core::record::{Record, decode_row};
use thyme_core::{Error, Result, suggest};
use thyme_state::Rejected;

/// How far back in the event feed rows of a source are looked for.
const FEED_PAGES: usize = 10;
const FEED_PAGE: u32 = 1000;
/// The event that tells of one.
const SOURCE_EVENT: &str = "source.row_rejected";

impl Controller {
    /// At most `limit` (0: 50) of each kind: dead letters, samples of late rows, rows of the dataset's source.
    pub async fn rejected(&self, dataset: &str, limit: u32) -> Result<Vec<RejectedView>> {
        let limit = page_size(limit) as usize;
        let mut views = self.refused_by_the_engine(dataset, limit)?;
        let mut before = None;
        let mut of_the_source = 0;
        for _ in 0..FEED_PAGES {
            let page = self.parts.catalog.events(FEED_PAGE, before).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            let told = page.into_iter().map(|entry| entry.event);
            for event in told.filter(|event| event.event_type == SOURCE_EVENT && event.subject == dataset) {
                if of_the_source == limit {
                    return Ok(views);
                }
                of_the_source += 1;
                let row = event.detail.get("sample").cloned().unwrap_or(Json::Null);
                views.push(RejectedView {
                    kind: "source",
                    reason: event.message,
                    partition: None,
                    offset: None,
                    arrived: Time(event.created_at),
                    row,
                });
            }
        }
        Ok(views)
    }

    fn refused_by_the_engine(&self, name: &str, limit: usize) -> Result<Vec<RejectedView>> {
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
        let snapshot = self.parts.state.snapshot();
        let dead = snapshot.dead_letters(log, None, limit)?;
        let late = snapshot.late_samples(log, None, limit)?;
        let dead = dead.into_iter().map(|row| view("dead_letter", row, dataset));
        Ok(dead.chain(late.into_iter().map(|row| view("late", row, dataset))).collect())
    }
}

fn view(kind: &'static str, rejected: Rejected, dataset: &CompiledDataset) -> RejectedView {
    RejectedView {
        kind,
        row: readable(&rejected.record, dataset).unwrap_or(Json::Null),
        reason: rejected.reason,
        partition: Some(rejected.partition),
        offset: Some(rejected.offset),
        arrived: Time(rejected.append_time),
    }
}

/// The row by field name; `None` if that is what is wrong with it.
fn readable(record: &[u8], dataset: &CompiledDataset) -> Option<Json> {
    let Ok(Record::Event { row, .. }) = Record::decode(record) else { return None };
    let values = decode_row(row, &dataset.types, None).ok()?;
    let named = dataset.fields.iter().zip(&values);
    Some(
        named
            .map(|(field, value)| (field.name.clone(), json!(value.to_json())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    )
}
