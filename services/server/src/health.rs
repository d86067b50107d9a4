//! Readiness, and the gauges that are read at the moment of a scrape.

use crate::freshness::Freshness;
use crate::holders::Ready;
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thyme_control::{CheckpointBoard, Controller};
use thyme_core::time::Clock;
use thyme_engine::{EngineHandle, ShardStatus};
use thyme_gateway::Health;

/// Dataset, topic and partition.
type Place = (String, String, u16);
type Lags = BTreeMap<Place, u64>;

pub struct ServerHealth {
    pub engine: EngineHandle,
    pub controller: Arc<Controller>,
    pub freshness: Arc<Freshness>,
    pub recorder: PrometheusHandle,
    pub checkpoints: Arc<CheckpointBoard>,
    pub clock: Arc<dyn Clock>,
    /// What was shown last.
    pub lags: Mutex<Lags>,
    pub watermarks: Mutex<BTreeSet<Place>>,
    pub emit_lags: Mutex<Lags>,
    pub rows_lags: Mutex<Lags>,
}

impl Ready for ServerHealth {
    fn may_answer(&self) -> bool {
        self.cannot_answer().is_none()
    }
}

impl Health for ServerHealth {
    fn not_ready(&self) -> Option<String> {
        self.cannot_answer().or_else(|| self.controller.kept_out())
    }

    fn metrics(&self) -> String {
        if let Err(error) = self.read_gauges() {
            tracing::warn!(%error, "the engine's metrics could not be read");
        }
        self.read_checkpoints();
        self.recorder.run_upkeep();
        self.recorder.render()
    }

    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_string()
    }
}

impl ServerHealth {
    /// What is against answering. To be kept out of a group is not: who did not ask any more to be in it would not come back.
    fn cannot_answer(&self) -> Option<String> {
        let trouble = self.engine.trouble().map(|error| format!("the engine does not go on: {error}"));
        trouble.or_else(|| self.controller.being_built()).or_else(|| self.freshness.stale())
    }

    fn read_checkpoints(&self) {
        let Some(status) = self.checkpoints.status(self.clock.now()) else { return };
        if let Some(age) = status.age_seconds {
            metrics::gauge!("thyme_checkpoint_age_seconds").set(age);
            metrics::gauge!("thyme_checkpoint_size_bytes").set(status.size_bytes as f64);
        }
        metrics::gauge!("thyme_checkpoint_last_seconds").set(status.duration_seconds);
    }

    fn read_row_lags(&self) {
        let emissions = self.engine.emissions().into_iter();
        let now = emissions.map(|emission| ((emission.dataset, emission.topic, emission.partition), emission.lag));
        for (labels, lag) in shown(&self.emit_lags, now) {
            metrics::gauge!("thyme_emit_lag_records", &labels).set(lag as f64);
        }
        let feeds = self.engine.feeds().into_iter();
        let now = feeds.map(|feed| ((feed.dataset, feed.topic, feed.partition), feed.lag));
        for (labels, lag) in shown(&self.rows_lags, now) {
            metrics::gauge!("thyme_rows_lag_records", &labels).set(lag as f64);
        }
    }

    /// NaN where the partition is another node's by now: no time is right, nor is it at the beginning of all time.
    fn show_watermarks(&self, shards: &[ShardStatus]) {
        let watermarks = shards.iter().filter(|shard| !shard.is_repartition);
        let now: BTreeMap<Place, f64> =
            watermarks.filter_map(|shard| Some((place(shard), shard.watermark? as f64 / 1e6))).collect();
        let mut shown = self.watermarks.lock();
        shown.extend(now.keys().cloned());
        for place in shown.iter() {
            let watermark = now.get(place).copied().unwrap_or(f64::NAN);
            metrics::gauge!("thyme_watermark_seconds", &labels_of(place)).set(watermark);
        }
    }

    fn read_gauges(&self) -> thyme_core::Result<()> {
        metrics::gauge!("thyme_owner").set(if self.controller.leads() { 1.0 } else { 0.0 });
        metrics::gauge!("thyme_slices_owned").set(self.controller.owned().borrow().len() as f64);
        // A gauge that was shown once stays, so who has come to own all shows 0.
        metrics::gauge!("thyme_follower_behind_seconds").set(self.freshness.behind().unwrap_or_default().as_secs_f64());
        self.read_row_lags();
        let shards = self.engine.status()?;
        let now = shards.iter().map(|shard| (place(shard), shard.end.saturating_sub(shard.applied)));
        for (labels, lag) in shown(&self.lags, now) {
            metrics::gauge!("thyme_lag_records", &labels).set(lag as f64);
        }
        self.show_watermarks(&shards);
        for shard in shards {
            let labels = labels_of(&place(&shard));
            metrics::counter!("thyme_events_rejected_total", &labels).absolute(shard.counters.dead);
            if shard.is_repartition {
                continue;
            }
            let counters = shard.counters;
            metrics::counter!("thyme_events_accepted_total", &labels).absolute(counters.accepted);
            metrics::counter!("thyme_events_late_dropped_total", &labels).absolute(counters.late);
            metrics::counter!("thyme_events_duplicate_total", &labels).absolute(counters.duplicate);
        }
        for (pipeline, counts) in self.controller.pipeline_counts()? {
            let labels = [("pipeline", pipeline)];
            metrics::counter!("thyme_pipeline_rows_accepted_total", &labels).absolute(counts.accepted);
            metrics::counter!("thyme_pipeline_rows_filtered_total", &labels).absolute(counts.filtered);
            metrics::counter!("thyme_pipeline_rows_null_key_total", &labels).absolute(counts.null_key);
            metrics::counter!("thyme_pipeline_warnings_total", &labels).absolute(counts.warnings);
        }
        Ok(())
    }
}

/// What there is now, and 0 for what this node does not fill any more: that is no lag of its.
fn shown(last: &Mutex<Lags>, now: impl Iterator<Item = (Place, u64)>) -> Vec<([(&'static str, String); 3], u64)> {
    let mut lags = last.lock();
    lags.values_mut().for_each(|lag| *lag = 0);
    lags.extend(now);
    lags.iter().map(|(place, lag)| (labels_of(place), *lag)).collect()
}

fn place(shard: &ShardStatus) -> Place {
    (shard.dataset.clone(), shard.topic.clone(), shard.partition)
}

fn labels_of((dataset, topic, partition): &Place) -> [(&'static str, String); 3] {
    [("dataset", dataset.clone()), ("topic", topic.clone()), ("partition", partition.to_string())]
}

/// What each metric means, for `/metrics`.
pub fn describe_metrics() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("thyme_events_accepted_total", "Events that count.");
    describe_counter!("thyme_events_late_dropped_total", "Events behind the watermark, dropped for everything.");
    describe_counter!("thyme_events_duplicate_total", "Events whose id was seen within the dedup window.");
    describe_counter!("thyme_events_rejected_total", "Events in the dead letters.");
    describe_counter!("thyme_pipeline_rows_accepted_total", "Rows that a pipeline aggregates.");
    describe_counter!("thyme_pipeline_rows_filtered_total", "Rows that a pipeline's filters left out.");
    describe_counter!("thyme_pipeline_rows_null_key_total", "Rows without a group key, left out by a pipeline.");
    describe_counter!("thyme_pipeline_warnings_total", "Expressions of a pipeline that came to null.");
    describe_counter!("thyme_ingest_appended_rows_total", "Rows appended to a dataset's log.");
    describe_counter!("thyme_ingest_rejected_rows_total", "Rows refused when they arrived.");
    describe_counter!("thyme_query_parts_total", "Times that another node was asked for what is not here.");
    describe_counter!("thyme_query_runs_dropped_total", "Query runs that were not recorded.");
    describe_counter!("thyme_tick_records_total", "Log records worked off.");
    describe_gauge!("thyme_connections", "Open connections of a listener.");
    describe_counter!("thyme_connections_full_total", "Times that a listener had all the connections it takes.");
    describe_gauge!("thyme_watermark_seconds", "Greatest event time less max_lateness, seconds since 1970.");
    describe_gauge!("thyme_lag_records", "Log records that wait to be applied.");
    describe_gauge!("thyme_emit_lag_records", "Log records in state whose rows are not in the topic yet.");
    describe_gauge!(
        "thyme_rows_lag_records",
        "Log records in state that are not in the tables behind a log of rows yet."
    );
    describe_counter!("thyme_checkpoints_total", "Checkpoints stored.");
    describe_counter!("thyme_checkpoint_uploaded_bytes_total", "Bytes sent to the checkpoint store.");
    describe_counter!("thyme_checkpoint_failures_total", "Checkpoints that could not be stored.");
    describe_counter!("thyme_checkpoint_comparisons_total", "Checkpoints that this replica was compared with.");
    describe_counter!("thyme_checkpoint_divergences_total", "Times that a state at the same place had another digest.");
    describe_gauge!("thyme_checkpoint_age_seconds", "How long ago the state was as the newest checkpoint has it.");
    describe_gauge!("thyme_checkpoint_size_bytes", "Bytes of the newest checkpoint.");
    describe_gauge!("thyme_checkpoint_last_seconds", "How long it took to take and store the newest checkpoint.");
    describe_gauge!("thyme_owner", "1 on the node that leads, 0 on the others.");
    describe_gauge!("thyme_slices_owned", "Slices of the work that are this node's.");
    describe_gauge!(
        "thyme_follower_behind_seconds",
        "Seconds since this node was last at the end of the log in the slices that it follows."
    );
    describe_histogram!("thyme_tick_duration_seconds", "Duration of a tick.");
    describe_histogram!("thyme_query_duration_seconds", "Duration of a question.");
}
