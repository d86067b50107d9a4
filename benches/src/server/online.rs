//! Online questions, one call in flight: latency over the floor of an empty call to the same server.

use super::process::Server;
use crate::definitions::{ALL_FEATURES, EXTRACTED, ONE, ONE_IN_PYTHON, ONLINE_FEATURES, feature_names};
use crate::engine::ALL_WINDOWS;
use crate::failure::Outcome;
use crate::report::{Measure, median};
use crate::settings::Settings;
use crate::workload::Workload;
use crate::workload::random::Random;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use thyme_proto::v1;
use thyme_proto::v1::feature_service_client::FeatureServiceClient;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// What an extractor adds that needs no interpreter, and what one adds that does.
pub const ADDED_BY_EXTRACTOR: &str = "online.extractor_added_us";
pub const ADDED_BY_PYTHON: &str = "online.python_extractor_added_us";
pub const CALLS: usize = 2000;
/// Calls before those that count.
pub const WARM_UP: usize = 300;
const BATCH_KEYS: usize = 100;

/// Calls of one kind, made one after the other.
pub struct Caller<'w> {
    features: FeatureServiceClient<Channel>,
    health: HealthClient<Channel>,
    workload: &'w Workload,
    random: Random,
}

impl<'w> Caller<'w> {
    pub fn new(server: &Server, workload: &'w Workload) -> Caller<'w> {
        Caller {
            features: FeatureServiceClient::new(server.query.clone()),
            health: HealthClient::new(server.query.clone()),
            workload,
            random: Random::new(3),
        }
    }

    /// A key of the workload's events, hot keys as often as they are hot.
    fn key(&mut self) -> i64 {
        self.workload.events[self.random.index(self.workload.events.len())].key
    }

    /// An empty call.
    pub async fn floor(&mut self) -> Outcome<Duration> {
        let started = Instant::now();
        self.health.check(HealthCheckRequest::default()).await?;
        Ok(started.elapsed())
    }

    /// One entity, ten features.
    pub async fn unary(&mut self) -> Outcome<Duration> {
        let request = question(self.key(), ALL_FEATURES, &[]);
        self.ask(request, ONLINE_FEATURES).await
    }

    /// The same ten features of the other featureset, and extracted ones.
    async fn extracted(&mut self, more: &[&str]) -> Outcome<Duration> {
        let request = question(self.key(), EXTRACTED, more);
        self.ask(request, ONLINE_FEATURES + more.len()).await
    }

    async fn ask(&mut self, request: v1::GetFeaturesRequest, expected: usize) -> Outcome<Duration> {
        let started = Instant::now();
        let answer = self.features.get_features(request).await?;
        let elapsed = started.elapsed();
        let features = answer.into_inner().features;
        let failed = features.iter().find(|feature| !feature.error.is_empty());
        if features.len() != expected || failed.is_some() {
            return Err(format!("not the {expected} features asked for: {failed:?}").into());
        }
        Ok(elapsed)
    }

    /// The ten features of so many entities.
    pub fn batch_question(&mut self, rows: usize) -> v1::BatchGetFeaturesRequest {
        let values: Vec<i64> = (0..rows).map(|_| self.key()).collect();
        let ints = v1::column::Values::Ints(v1::Int64Array { values });
        let keys = v1::Column { name: "key".to_string(), values: Some(ints), ..Default::default() };
        let mut features = feature_names(&ALL_WINDOWS);
        features.truncate(ONLINE_FEATURES);
        v1::BatchGetFeaturesRequest {
            featureset: ALL_FEATURES.to_string(),
            keys: vec![keys],
            features,
            ..Default::default()
        }
    }

    /// A hundred entities in one call.
    async fn batch(&mut self) -> Outcome<Duration> {
        let request = self.batch_question(BATCH_KEYS);
        let started = Instant::now();
        let answer = self.features.batch_get_features(request).await?;
        let elapsed = started.elapsed();
        let rows = answer.into_inner().rows;
        if rows != BATCH_KEYS as u64 {
            return Err(format!("{rows} rows came back").into());
        }
        Ok(elapsed)
    }
}

/// Ten features of an entity, and more.
pub fn question(key: i64, featureset: &str, more: &[&str]) -> v1::GetFeaturesRequest {
    let key = v1::Value { kind: Some(v1::value::Kind::Int64Value(key)) };
    let mut features = feature_names(&ALL_WINDOWS);
    features.truncate(ONLINE_FEATURES);
    features.extend(more.iter().map(ToString::to_string));
    v1::GetFeaturesRequest {
        featureset: featureset.to_string(),
        key: BTreeMap::from([("key".to_string(), key)]),
        features,
        ..Default::default()
    }
}

pub async fn measure(settings: &Settings, server: &Server, workload: &Workload) -> Outcome<()> {
    let mut caller = Caller::new(server, workload);
    for _ in 0..WARM_UP {
        caller.floor().await?;
        caller.unary().await?;
    }
    if settings.wants("online.unary_p50_ratio") {
        let (mut ratios, mut unary_p50, mut floor_p50) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..settings.runs {
            let (mut floor, mut unary) = (Vec::new(), Vec::new());
            for _ in 0..CALLS {
                floor.push(caller.floor().await?.as_secs_f64());
                unary.push(caller.unary().await?.as_secs_f64());
            }
            let (floor, unary) = (median(floor), median(unary));
            ratios.push(unary / floor);
            unary_p50.push(unary * 1e6);
            floor_p50.push(floor * 1e6);
        }
        eprintln!("  unary {:.0} µs, floor {:.0} µs", median(unary_p50), median(floor_p50));
        let measure = Measure::new("online.unary_p50_ratio", median(ratios), "ratio");
        settings.report(&measure.over("grpc health check on the same server"));
    }
    if settings.wants("online.batch100_p50_ms") {
        let mut medians = Vec::new();
        for _ in 0..settings.runs {
            let mut times = Vec::new();
            for _ in 0..CALLS / 4 {
                times.push(caller.batch().await?.as_secs_f64() * 1e3);
            }
            medians.push(median(times));
        }
        settings.report(&Measure::new("online.batch100_p50_ms", median(medians), "ms"));
    }
    for (name, feature) in [(ADDED_BY_EXTRACTOR, ONE), (ADDED_BY_PYTHON, ONE_IN_PYTHON)] {
        if !settings.wants(name) {
            continue;
        }
        if !server.has_python {
            eprintln!("  {name} needs the thyme command of a Python environment (make install)");
            continue;
        }
        let mut added = Vec::new();
        for _ in 0..settings.runs {
            let (mut plain, mut extracted) = (Vec::new(), Vec::new());
            for _ in 0..CALLS {
                plain.push(caller.extracted(&[]).await?.as_secs_f64() * 1e6);
                extracted.push(caller.extracted(&[feature]).await?.as_secs_f64() * 1e6);
            }
            added.push(median(extracted) - median(plain));
        }
        settings.report(&Measure::new(name, median(added), "µs"));
    }
    Ok(())
}
