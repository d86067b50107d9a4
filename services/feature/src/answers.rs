//! From answers to responses.

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::{Error, Result, Value};
use thyme_proto::columns::column_to_wire;
use thyme_proto::convert::{row_to_wire, time_to_wire, value_to_wire};
use thyme_proto::v1;
use thyme_query::{Answer, FeatureColumn, FeatureValue, LookupAnswer, Mode, Standing, Status};

pub(crate) fn info(standing: &Standing, run_id: &str, one_time: bool) -> v1::AnswerInfo {
    let mode = match standing.mode {
        Mode::Online => v1::AnswerMode::Online,
        Mode::PointInTime => v1::AnswerMode::PointInTime,
    };
    v1::AnswerInfo {
        query_run_id: run_id.to_string(),
        mode: mode.into(),
        ts: one_time.then(|| time_to_wire(standing.ts)),
        watermark: standing.watermark.map(time_to_wire),
        position: standing.position.encode(),
        r#final: standing.is_final,
        commit_id: standing.commit_id.to_string(),
    }
}

pub(crate) fn status(status: &Status) -> v1::ValueStatus {
    match status {
        Status::Ok => v1::ValueStatus::Ok,
        Status::Default => v1::ValueStatus::Default,
        Status::Error(_) => v1::ValueStatus::Error,
    }
}

pub(crate) fn feature_value(name: &str, feature: &FeatureValue) -> v1::FeatureValue {
    v1::FeatureValue {
        name: name.to_string(),
        value: Some(value_to_wire(&feature.value)),
        status: status(&feature.status).into(),
        error: feature.status.reason().unwrap_or_default().to_string(),
    }
}

/// The keys of one row of an answer.
pub(crate) fn key_of_row(answer: &Answer, row: usize) -> BTreeMap<String, v1::Value> {
    row_to_wire(answer.keys.iter().filter_map(|(name, values)| Some((name.as_ref(), values.get(row)?))))
}

pub(crate) fn one(answer: &Answer) -> Result<v1::GetFeaturesResponse> {
    let mut features = Vec::with_capacity(answer.columns.len());
    for column in &answer.columns {
        let value = column.values.first().ok_or_else(|| Error::internal("an answer without rows"))?;
        features.push(feature_value(&column.name, value));
    }
    Ok(v1::GetFeaturesResponse {
        featureset: answer.featureset.to_string(),
        key: key_of_row(answer, 0),
        features,
        info: Some(info(&answer.standing, &answer.run.id, true)),
    })
}

pub(crate) fn many(answer: &Answer, as_arrow: bool, one_time: bool) -> Result<v1::BatchGetFeaturesResponse> {
    let mut response = v1::BatchGetFeaturesResponse {
        featureset: answer.featureset.to_string(),
        rows: answer.row_count as u64,
        info: Some(info(&answer.standing, &answer.run.id, one_time)),
        ..v1::BatchGetFeaturesResponse::default()
    };
    if as_arrow {
        response.arrow_ipc = to_arrow_ipc(&answer.to_record_batch(true)?)?.into();
    } else {
        response.keys = answer.keys.iter().map(|(name, values)| key_column(name, values)).collect();
        response.features = answer.columns.iter().map(feature_column).collect();
    }
    Ok(response)
}

fn key_column(name: &str, values: &[Value]) -> v1::Column {
    let data_type = values.iter().find_map(Value::scalar_type);
    column_to_wire(name, &data_type.unwrap_or(thyme_core::schema::DataType::Str), values)
}

fn feature_column(column: &FeatureColumn) -> v1::FeatureColumn {
    let values: Vec<Value> = column.values.iter().map(|feature| feature.value.clone()).collect();
    let all_ok = column.values.iter().all(|feature| feature.status == Status::Ok);
    let statuses = column.values.iter().map(|feature| status(&feature.status).into());
    let errors = column
        .values
        .iter()
        .enumerate()
        .filter_map(|(row, feature)| feature.status.reason().map(|reason| (row as u32, reason.to_string())));
    v1::FeatureColumn {
        column: Some(column_to_wire(&column.name, &column.data_type, &values)),
        statuses: if all_ok { Vec::new() } else { statuses.collect() },
        errors: errors.collect(),
    }
}

/// An Arrow IPC stream of one batch.
fn to_arrow_ipc(batch: &RecordBatch) -> Result<Vec<u8>> {
    let failed = |error| Error::internal(format!("writing Arrow failed: {error}"));
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(failed)?;
    writer.write(batch).map_err(failed)?;
    writer.into_inner().map_err(failed)
}

pub(crate) fn lookup(answer: &LookupAnswer) -> v1::LookupResponse {
    let fields = answer.row.iter().flatten();
    v1::LookupResponse {
        dataset: answer.dataset.to_string(),
        key: named(&answer.key),
        found: answer.row.is_some(),
        fields: fields.map(|field| feature_value(&field.name, &field.value)).collect(),
        info: Some(info(&answer.standing, &answer.run.id, true)),
    }
}

pub(crate) fn named(values: &[(Arc<str>, Value)]) -> BTreeMap<String, v1::Value> {
    row_to_wire(values.iter().map(|(name, value)| (name.as_ref(), value)))
}
