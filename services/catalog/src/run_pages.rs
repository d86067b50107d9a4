//! Query runs as they are stored: pages of JSON, an array with one array per run. A run is written into its page when it ends, so
//! that runs wait for the catalog as text and not as many small objects. The featureset, kind and commit of a run are null where
//! they are those of the run before: most runs of a page ask the same featureset, and what is written costs by its length.

use crate::model::QueryRun;
use serde_json::Value as Json;
use thyme_core::time::Micros;
use thyme_core::{Error, Result};

/// Most runs of one page: a listing reads whole pages.
const RUNS_PER_PAGE: usize = 500;

/// A run to be stored; the fields are those of [`QueryRun`].
#[derive(Debug, Clone, Copy)]
pub struct NewRun<'r> {
    pub id: &'r str,
    pub featureset: &'r str,
    pub entity_ids: &'r [Json],
    pub requested_timestamp: Option<Micros>,
    pub kind: &'r str,
    pub row_count: u64,
    pub hit_count: u64,
    pub latency_us: u64,
    pub api_key_fingerprint: Option<&'r str>,
    pub commit_id: &'r str,
    pub watermark: Option<Micros>,
    pub error: Option<&'r str>,
    pub created_at: Micros,
}

impl<'r> From<&'r QueryRun> for NewRun<'r> {
    fn from(run: &'r QueryRun) -> NewRun<'r> {
        NewRun {
            id: &run.id,
            featureset: &run.featureset,
            entity_ids: &run.entity_ids,
            requested_timestamp: run.requested_timestamp,
            kind: &run.kind,
            row_count: run.row_count,
            hit_count: run.hit_count,
            latency_us: run.latency_us,
            api_key_fingerprint: run.api_key_fingerprint.as_deref(),
            commit_id: &run.commit_id,
            watermark: run.watermark,
            error: run.error.as_deref(),
            created_at: run.created_at,
        }
    }
}

/// A run as a page holds it. The order is the format; what is added goes to the end.
type Stored = (
    String,
    Option<String>,
    Vec<Json>,
    Option<Micros>,
    Option<String>,
    u64,
    u64,
    u64,
    Option<String>,
    Option<String>,
    Option<Micros>,
    Option<String>,
    Micros,
);

/// Runs in order, as pages.
#[derive(Debug, Default)]
pub struct RunPages {
    pages: Vec<Page>,
    count: usize,
    first_id: Option<String>,
}

#[derive(Debug, Default)]
struct Page {
    text: Vec<u8>,
    count: usize,
    /// Of the run before; empty before the first.
    featureset: String,
    kind: String,
    commit_id: String,
}

impl RunPages {
    pub fn of<'r>(runs: impl IntoIterator<Item = &'r QueryRun>) -> Result<RunPages> {
        let mut pages = RunPages::default();
        for run in runs {
            pages.push(&NewRun::from(run))?;
        }
        Ok(pages)
    }

    pub fn push(&mut self, run: &NewRun<'_>) -> Result<()> {
        if self.pages.last().is_none_or(|page| page.count == RUNS_PER_PAGE) {
            self.pages.push(Page::default());
        }
        let Some(page) = self.pages.last_mut() else { return Ok(()) };
        page.push(run)?;
        self.count += 1;
        if self.first_id.is_none() {
            self.first_id = Some(run.id.to_string());
        }
        Ok(())
    }

    /// The id of the first run.
    pub(crate) fn first_id(&self) -> Option<&str> {
        self.first_id.as_deref()
    }

    /// How many runs there are.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The text of each page, and how many runs it has.
    pub(crate) fn pages(&self) -> impl Iterator<Item = Result<(String, usize)>> {
        self.pages.iter().filter(|page| page.count > 0).map(|page| {
            let mut text = page.text.clone();
            text.push(b']');
            let text = String::from_utf8(text).map_err(|_| Error::internal("a page of query runs is no text"))?;
            Ok((text, page.count))
        })
    }
}

impl Page {
    fn push(&mut self, run: &NewRun<'_>) -> Result<()> {
        let is_first = self.count == 0;
        let before = self.text.len();
        self.text.push(if is_first { b'[' } else { b',' });
        let unless_same = |last: &str, new| (is_first || last != new).then_some(new);
        let stored = (
            run.id,
            unless_same(&self.featureset, run.featureset),
            run.entity_ids,
            run.requested_timestamp,
            unless_same(&self.kind, run.kind),
            run.row_count,
            run.hit_count,
            run.latency_us,
            run.api_key_fingerprint,
            unless_same(&self.commit_id, run.commit_id),
            run.watermark,
            run.error,
            run.created_at,
        );
        if let Err(error) = serde_json::to_writer(&mut self.text, &stored) {
            self.text.truncate(before);
            return Err(Error::internal(format!("a query run does not encode: {error}")));
        }
        let (featureset, kind, commit_id) = (stored.1, stored.4, stored.9);
        for (last, new) in
            [(&mut self.featureset, featureset), (&mut self.kind, kind), (&mut self.commit_id, commit_id)]
        {
            if let Some(new) = new {
                new.clone_into(last);
            }
        }
        self.count += 1;
        Ok(())
    }
}

/// The runs of a page, oldest first.
pub(crate) fn read_page(text: &str) -> Result<Vec<QueryRun>> {
    let broken = |what: &dyn std::fmt::Display| {
        Error::data_loss(format!("the catalog holds a broken page of query runs: {what}"))
    };
    let stored: Vec<Stored> = serde_json::from_str(text).map_err(|error| broken(&error))?;
    let mut runs: Vec<QueryRun> = Vec::with_capacity(stored.len());
    for stored in stored {
        let run = run_of(stored, runs.last()).ok_or_else(|| broken(&"its first run leaves out what is the same"))?;
        runs.push(run);
    }
    Ok(runs)
}

fn run_of(stored: Stored, before: Option<&QueryRun>) -> Option<QueryRun> {
    let same = |new: Option<String>, of: fn(&QueryRun) -> &String| new.or_else(|| before.map(|run| of(run).clone()));
    Some(QueryRun {
        id: stored.0,
        featureset: same(stored.1, |run| &run.featureset)?,
        entity_ids: stored.2,
        requested_timestamp: stored.3,
        kind: same(stored.4, |run| &run.kind)?,
        row_count: stored.5,
        hit_count: stored.6,
        latency_us: stored.7,
        api_key_fingerprint: stored.8,
        commit_id: same(stored.9, |run| &run.commit_id)?,
        watermark: stored.10,
        error: stored.11,
        created_at: stored.12,
    })
}
