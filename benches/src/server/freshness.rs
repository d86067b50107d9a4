//! From an event's acknowledgement to the first answer that counts it.

use super::process::Server;
use crate::definitions::{ALL_FEATURES, DATASET};
use crate::failure::Outcome;
use crate::report::{Measure, median};
use crate::settings::Settings;
use crate::workload::{SECOND, Workload};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use thyme_proto::v1;
use thyme_proto::v1::feature_service_client::FeatureServiceClient;
use thyme_proto::v1::ingest_service_client::IngestServiceClient;
use thyme_proto::v1::value::Kind;

const EVENTS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(10);

/// Adds events to keys of its own, after the last of the workload: a measure after this one sees the same answers for the rest.
pub async fn measure(settings: &Settings, server: &Server, workload: &Workload) -> Outcome<()> {
    let mut ingest = IngestServiceClient::new(server.control.clone());
    let mut features = FeatureServiceClient::new(server.query.clone());
    let last = workload.events.iter().map(|event| event.time).max().unwrap_or_default();
    let mut medians = Vec::new();
    let mut number = 0;
    for _ in 0..settings.runs {
        let mut times = Vec::new();
        for _ in 0..EVENTS {
            number += 1;
            let key = 1_000_000_000 + number;
            ingest.ingest(event(key, last + number * SECOND)).await?;
            let acknowledged = Instant::now();
            while !is_counted(&mut features, key).await? {
                if acknowledged.elapsed() > PATIENCE {
                    return Err("an acknowledged event does not become visible".into());
                }
            }
            times.push(acknowledged.elapsed().as_secs_f64() * 1e3);
        }
        medians.push(median(times));
    }
    settings.report(&Measure::new("freshness.p50_ms", median(medians), "ms"));
    Ok(())
}

fn value(kind: Kind) -> v1::Value {
    v1::Value { kind: Some(kind) }
}

fn event(key: i64, time: i64) -> v1::IngestRequest {
    let fields = BTreeMap::from([
        ("key".to_string(), value(Kind::Int64Value(key))),
        ("ts".to_string(), value(Kind::DatetimeMicros(time))),
        ("amount".to_string(), value(Kind::DoubleValue(1.0))),
    ]);
    let rows = v1::RowList { rows: vec![v1::Row { fields }] };
    v1::IngestRequest {
        dataset: DATASET.to_string(),
        payload: Some(v1::ingest_request::Payload::Rows(rows)),
        ..Default::default()
    }
}

async fn is_counted(features: &mut FeatureServiceClient<tonic::transport::Channel>, key: i64) -> Outcome<bool> {
    let request = v1::GetFeaturesRequest {
        featureset: ALL_FEATURES.to_string(),
        key: BTreeMap::from([("key".to_string(), value(Kind::Int64Value(key)))]),
        features: vec!["count_7d".to_string()],
        ..Default::default()
    };
    let answer = features.get_features(request).await?.into_inner();
    let count = answer.features.first().and_then(|feature| feature.value.as_ref()?.kind.clone());
    Ok(count == Some(Kind::Int64Value(1)))
}
