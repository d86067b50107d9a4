//! Answers as JSON or as an Arrow stream. Objects keep the order of the definitions.

use crate::features::with_run_id;
use crate::problem::Answered;
use arrow_ipc::writer::StreamWriter;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use thyme_core::time::format_time;
use thyme_core::{Error, Value};
use thyme_query::{Answer, FeatureColumn, FeatureValue, LookupAnswer, Standing};

/// An object whose members stay in order.
pub struct Ordered<T>(pub Vec<(Arc<str>, T)>);

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name.as_ref(), value)?;
        }
        map.end()
    }
}

/// What an answer stands on, with the names of the HTTP interface.
fn standing(standing: &Standing) -> Vec<(Arc<str>, Json)> {
    vec![
        ("mode".into(), standing.mode.name().into()),
        ("ts".into(), format_time(standing.ts).into()),
        ("watermark".into(), standing.watermark.map(format_time).into()),
        ("position".into(), standing.position.encode().into()),
        ("final".into(), standing.is_final.into()),
        ("commit_id".into(), standing.commit_id.as_ref().into()),
    ]
}

pub fn json(body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => crate::Problem::from(Error::internal(format!("cannot write JSON: {error}"))).into_response(),
    }
}

/// The bare value where there is one key, else an object.
fn entity(keys: &[(Arc<str>, Value)], bare: bool) -> Json {
    match keys {
        [(_, only)] if bare => only.to_json(),
        _ => Json::Object(keys.iter().map(|(name, value)| (name.to_string(), value.to_json())).collect()),
    }
}

fn key_of_row(answer: &Answer, row: usize) -> Vec<(Arc<str>, Value)> {
    answer.keys.iter().map(|(name, values)| (name.clone(), values[row].clone())).collect()
}

/// The `features`, `statuses` and, where there are any, `errors` of one entity.
struct Values<'a> {
    features: Ordered<Json>,
    statuses: Ordered<&'static str>,
    errors: Ordered<&'a str>,
}

fn values<'a>(entries: impl Iterator<Item = (&'a Arc<str>, &'a FeatureValue)>) -> Values<'a> {
    let mut values = Values { features: Ordered(vec![]), statuses: Ordered(vec![]), errors: Ordered(vec![]) };
    for (name, entry) in entries {
        values.features.0.push((name.clone(), entry.value.to_json()));
        values.statuses.0.push((name.clone(), entry.status.name()));
        if let Some(reason) = entry.status.reason() {
            values.errors.0.push((name.clone(), reason));
        }
    }
    values
}

#[derive(Serialize)]
struct One<'a> {
    entity_type: &'a str,
    entity_id: Json,
    features: Option<Ordered<Json>>,
    #[serde(flatten)]
    standing: Ordered<Json>,
    statuses: Ordered<&'static str>,
    #[serde(skip_serializing_if = "is_empty")]
    errors: Ordered<&'a str>,
}

fn is_empty<T>(ordered: &Ordered<T>) -> bool {
    ordered.0.is_empty()
}

fn column_values(columns: &[FeatureColumn], row: usize) -> Values<'_> {
    values(columns.iter().map(|column| (&column.name, &column.values[row])))
}

/// One entity. `key_count` is that of the featureset, whether or not the features asked for need all of them.
pub fn one(answer: &Answer, key_count: usize) -> Response {
    let values = column_values(&answer.columns, 0);
    let body = One {
        entity_type: &answer.featureset,
        entity_id: entity(&key_of_row(answer, 0), key_count == 1),
        features: Some(values.features),
        standing: Ordered(standing(&answer.standing)),
        statuses: values.statuses,
        errors: values.errors,
    };
    with_run_id(json(&body), &answer.run.id)
}

/// A row of a dataset; `features` is null for an unknown key of a raw dataset.
pub fn looked_up(answer: &LookupAnswer) -> Response {
    let fields = answer.row.as_deref().unwrap_or_default();
    let values = values(fields.iter().map(|field| (&field.name, &field.value)));
    let body = One {
        entity_type: &answer.dataset,
        entity_id: entity(&answer.key, answer.key.len() == 1),
        features: answer.row.is_some().then_some(values.features),
        standing: Ordered(standing(&answer.standing)),
        statuses: values.statuses,
        errors: values.errors,
    };
    with_run_id(json(&body), &answer.run.id)
}

/// `features` names the columns of `values`, which has one array per entity; the standing is said once.
pub fn batch(answer: &Answer, key_count: usize, statuses: bool) -> Response {
    let names: Vec<&str> =
        std::iter::once("entity_id").chain(answer.columns.iter().map(|column| column.name.as_ref())).collect();
    let mut rows = Vec::with_capacity(answer.row_count);
    for row in 0..answer.row_count {
        let mut cells = vec![entity(&key_of_row(answer, row), key_count == 1)];
        cells.extend(answer.columns.iter().map(|column| column.values[row].value.to_json()));
        rows.push(Json::Array(cells));
    }
    let mut body = vec![("features".into(), json!(names)), ("values".into(), Json::Array(rows))];
    if statuses {
        let of_row = |row: usize| answer.columns.iter().map(move |column| column.values[row].status.name()).collect();
        let all: Vec<Vec<&str>> = (0..answer.row_count).map(of_row).collect();
        body.push(("statuses".into(), json!(all)));
    }
    body.extend(standing(&answer.standing));
    with_run_id(json(&Ordered(body)), &answer.run.id)
}

/// One result per query, in order; a row with errors says them.
pub fn offline(answer: &Answer, statuses: bool) -> Response {
    #[derive(Serialize)]
    struct Row<'a> {
        features: Ordered<Json>,
        #[serde(skip_serializing_if = "Option::is_none")]
        statuses: Option<Ordered<&'static str>>,
        #[serde(skip_serializing_if = "is_empty")]
        errors: Ordered<&'a str>,
    }
    #[derive(Serialize)]
    struct Rows<'a> {
        results: Vec<Row<'a>>,
        #[serde(flatten)]
        standing: Ordered<Json>,
    }
    let mut rows = Vec::with_capacity(answer.row_count);
    for row in 0..answer.row_count {
        let Values { features, statuses: found, errors } = column_values(&answer.columns, row);
        rows.push(Row { features, statuses: statuses.then_some(found), errors });
    }
    let body = Rows { results: rows, standing: Ordered(standing(&answer.standing)) };
    with_run_id(json(&body), &answer.run.id)
}

/// The same as an Arrow stream: key columns, features, and with `statuses` a `<feature>__status` column each.
pub fn arrow(answer: &Answer, statuses: bool) -> Answered {
    let batch = answer.to_record_batch(statuses)?;
    let write = || {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
        writer.write(&batch)?;
        writer.into_inner()
    };
    let bytes = write().map_err(|error| Error::internal(format!("cannot write an Arrow stream: {error}")))?;
    let response = ([(header::CONTENT_TYPE, "application/vnd.apache.arrow.stream")], bytes).into_response();
    Ok(with_run_id(response, &answer.run.id))
}
