//! Point-in-time export over Flight `DoExchange`, sorted and in random order.

use super::process::Server;
use crate::definitions::{ALL_FEATURES, feature_names};
use crate::engine::ALL_WINDOWS;
use crate::failure::Outcome;
use crate::oracle::{self, Answer};
use crate::report::{Measure, median};
use crate::settings::Settings;
use crate::workload::random::Random;
use crate::workload::{SpineRow, Workload};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_flight::FlightDescriptor;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use std::sync::Arc;

const SPINE_ROWS: usize = 10_000;
const CHECKS: usize = 1000;

pub async fn measure(settings: &Settings, server: &Server, workload: &Workload) -> Outcome<()> {
    let mut random = Random::new(7);
    let mut shuffled = workload.spine.clone();
    random.shuffle(&mut shuffled);
    let mut sorted = workload.spine.clone();
    sorted.sort_by_key(|row| (row.key, row.time));
    for (name, spine) in [("export.sorted_rows_per_cpu_s", sorted), ("export.random_rows_per_cpu_s", shuffled)] {
        if !settings.wants(name) {
            continue;
        }
        let joined = export(server, &spine).await?;
        check(workload, &joined)?;
        let mut rates = Vec::new();
        for _ in 0..settings.runs {
            rates.push(rows_per_cpu_second(name, server, &spine).await?);
        }
        settings.report(&Measure::new(name, median(rates), "rows/CPU-s"));
    }
    Ok(())
}

/// Of one export.
pub async fn rows_per_cpu_second(name: &str, server: &Server, spine: &[SpineRow]) -> Outcome<f64> {
    server.wait_until_quiet().await?;
    let before = server.cpu_seconds()?;
    let rows: usize = export(server, spine).await?.iter().map(RecordBatch::num_rows).sum();
    let cpu_seconds = server.cpu_seconds()? - before;
    if rows != spine.len() {
        return Err(format!("{} rows were asked for, {rows} came back", spine.len()).into());
    }
    eprintln!("  {name}: {rows} rows, {cpu_seconds:.2} CPU s");
    Ok(rows as f64 / cpu_seconds)
}

/// The joined rows of a spine.
pub async fn export(server: &Server, spine: &[SpineRow]) -> Outcome<Vec<RecordBatch>> {
    let command = json!({"featureset": ALL_FEATURES, "timestamp_column": "ts"}).to_string();
    let batches: Outcome<Vec<RecordBatch>> = spine.chunks(SPINE_ROWS).map(spine_batch).collect();
    let upload = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command)))
        .build(futures::stream::iter(batches?).map(Ok));
    let inner = arrow_flight::flight_service_client::FlightServiceClient::new(server.query.clone())
        .max_decoding_message_size(usize::MAX);
    let mut flight = arrow_flight::FlightClient::new_from_inner(inner);
    Ok(flight.do_exchange(upload).await?.try_collect().await?)
}

fn spine_batch(rows: &[SpineRow]) -> Outcome<RecordBatch> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Schema::new(vec![Field::new("key", DataType::Int64, false), Field::new("ts", time, false)]);
    let keys: Int64Array = rows.iter().map(|row| row.key).collect::<Vec<_>>().into();
    let times: TimestampMicrosecondArray = rows.iter().map(|row| row.time).collect::<Vec<_>>().into();
    Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(keys), Arc::new(times.with_timezone("UTC"))])?)
}

/// Compares some of the joined rows with the brute force.
pub fn check(workload: &Workload, joined: &[RecordBatch]) -> Outcome<()> {
    let total: usize = joined.iter().map(RecordBatch::num_rows).sum();
    let mut chosen = vec![false; total];
    for index in Random::new(11).sample(total, CHECKS) {
        chosen[index] = true;
    }
    let (mut questions, mut answers) = (Vec::new(), Vec::new());
    let mut first = 0;
    for batch in joined {
        for row in (0..batch.num_rows()).filter(|row| chosen[first + row]) {
            let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("no column {name} came back"));
            let key = column("key")?.as_primitive::<Int64Type>().value(row);
            let time = column("ts")?.as_primitive::<TimestampMicrosecondType>().value(row);
            questions.push(SpineRow { key, time });
            let mut answer = Answer::new();
            for name in feature_names(&ALL_WINDOWS) {
                let values = column(&name)?;
                let number = match values.data_type() {
                    _ if values.is_null(row) => None,
                    DataType::Int64 => Some(values.as_primitive::<Int64Type>().value(row) as f64),
                    _ => Some(values.as_primitive::<Float64Type>().value(row)),
                };
                answer.insert(name, number);
            }
            answers.push(answer);
        }
        first += batch.num_rows();
    }
    oracle::check(&workload.events, &questions, &answers, &ALL_WINDOWS)
}
