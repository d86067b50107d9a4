//! Readiness, and the gauges that are read at the moment of a scrape.

use crate::nodes::Freshness;
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_control::{CheckpointBoard, Controller};
use thyme_core::time::Clock;
use thyme_engine::EngineHandle;
use thyme_gateway::Health;

pub struct ServerHealth {
    pub engine: EngineHandle,
    pub controller: Arc<Controller>,
    pub freshness: Arc<Freshness>,
    pub recorder: PrometheusHandle,
    pub checkpoints: Arc<CheckpointBoard>,
    pub clock: Arc<dyn Clock>,
    /// What was shown last, by dataset, topic and partition.
    pub emit_lags: Mutex<BTreeMap<(String, String, u16), u64>>,
}

impl Health for ServerHealth {
    fn not_ready(&self) -> Option<String> {
        let trouble = self.engine.trouble().map(|error| format!("the engine does not go on: {error}"));
        trouble.or_else(|| self.controller.being_built()).or_else(|| self.freshness.stale())
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
    fn read_checkpoints(&self) {
        let Some(status) = self.checkpoints.status(self.clock.now()) else { return };
        if let Some(age) = status.age_seconds {
            metrics::gauge!("thyme_checkpoint_age_seconds").set(age);
            metrics::gauge!("thyme_checkpoint_size_bytes").set(status.size_bytes as f64);
        }
        metrics::gauge!("thyme_checkpoint_last_seconds").set(status.duration_seconds);
    }

    /// What this node does not write any more is no lag of its.
    fn read_emissions(&self) {
        let mut lags = self.emit_lags.lock();
        lags.values_mut().for_each(|lag| *lag = 0);
        for emission in self.engine.emissions() {
            lags.insert((emission.dataset, emission.topic, emission.partition), emission.lag);
        }
        for ((dataset, topic, partition), lag) in lags.iter() {
            let labels = [("dataset", dataset.clone()), ("topic", topic.clone()), ("partition", partition.to_string())];
            metrics::gauge!("thyme_emit_lag_records", &labels).set(*lag as f64);
        }
    }

    fn read_gauges(&self) -> thyme_core::Result<()> {
        if let Some(behind) = self.freshness.behind() {
            metrics::gauge!("thyme_follower_behind_seconds").set(behind.as_secs_f64());
        }
        metrics::gauge!("thyme_slices_owned").set(self.controller.owned().borrow().len() as f64);
        self.read_emissions();
        for shard in self.engine.status()? {
            let labels = [
                ("dataset", shard.dataset.clone()),
                ("topic", shard.topic),
                ("partition", shard.partition.to_string()),
            ];
            let lag = shard.end.saturating_sub(shard.applied);
            metrics::gauge!("thyme_lag_records", &labels).set(lag as f64);
            metrics::counter!("thyme_events_rejected_total", &labels).absolute(shard.counters.dead);
            if shard.is_repartition {
                continue;
            }
            if let Some(watermark) = shard.watermark {
                metrics::gauge!("thyme_watermark_seconds", &labels).set(watermark as f64 / 1e6);
            }
            let counters = shard.counters;
            metrics::counter!("thyme_events_accepted_total", &labels).absolute(counters.accepted);
            metrics::counter!("thyme_events_late_dropped_total", &labels).absolute(counters.late);
            metrics::counter!("thyme_events_duplicate_total", &labels).absolute(counters.duplicate);
        }
        Ok(())
    }
}

/// What each metric means, for `/metrics`.
pub fn describe_metrics() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("thyme_events_accepted_total", "Events that count.");
    describe_counter!("thyme_events_late_dropped_total", "Events behind the watermark, dropped for everything.");
    describe_counter!("thyme_events_duplicate_total", "Events whose id was seen within the dedup window.");
    describe_counter!("thyme_events_rejected_total", "Events in the dead letters.");
    describe_counter!("thyme_ingest_appended_rows_total", "Rows appended to a dataset's log.");
    describe_counter!("thyme_ingest_rejected_rows_total", "Rows refused when they arrived.");
    describe_counter!("thyme_query_runs_dropped_total", "Query runs that were not recorded.");
    describe_counter!("thyme_tick_records_total", "Log records worked off.");
    describe_gauge!("thyme_watermark_seconds", "Greatest event time less max_lateness, seconds since 1970.");
    describe_gauge!("thyme_lag_records", "Log records that wait to be applied.");
    describe_gauge!("thyme_emit_lag_records", "Log records in state whose rows are not in the dataset's topic yet.");
    describe_counter!("thyme_checkpoints_total", "Checkpoints stored.");
    describe_counter!("thyme_checkpoint_uploaded_bytes_total", "Bytes sent to the checkpoint store.");
    describe_counter!("thyme_checkpoint_failures_total", "Checkpoints that could not be stored.");
    describe_counter!("thyme_checkpoint_divergences_total", "Times that a state at the same place had another digest.");
    describe_gauge!("thyme_checkpoint_age_seconds", "How long ago the state was as the newest checkpoint has it.");
    describe_gauge!("thyme_checkpoint_size_bytes", "Bytes of the newest checkpoint.");
    describe_gauge!("thyme_checkpoint_last_seconds", "How long it took to take and store the newest checkpoint.");
    describe_gauge!(
        "thyme_follower_behind_seconds",
        "Seconds since this node was last at the end of the log in the slices that it follows."
    );
    describe_gauge!("thyme_slices_owned", "Slices of the work that are this node's.");
    describe_histogram!("thyme_tick_duration_seconds", "Duration of a tick.");
    describe_histogram!("thyme_query_duration_seconds", "Duration of a question.");
}
