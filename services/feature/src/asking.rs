//! From requests to questions.

use std::collections::BTreeMap;
use thyme_core::position::{KnownAt, PositionSet};
use thyme_core::{Error, Result};
use thyme_proto::columns::whole_column_from_wire;
use thyme_proto::convert::{row_from_wire, time_from_wire};
use thyme_proto::deadline::deadline;
use thyme_proto::v1;
use thyme_query::{Asking, At, Given, GivenMap, LookupQuestion, Question, RunKind};
use tonic::metadata::MetadataMap;

/// What a request says beside what it asks for. Empty texts are unset.
pub(crate) fn asking(known_at: &str, exclusive: bool, at_least: &str, metadata: &MetadataMap) -> Result<Asking> {
    Ok(Asking {
        known_at: text(known_at).map(KnownAt::parse).transpose()?,
        exclusive,
        at_least: text(at_least).map(PositionSet::decode).transpose().map_err(|error| error.field("at_least"))?,
        deadline: deadline(metadata),
        api_key_fingerprint: None,
    })
}

fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn time(ts: Option<&prost_types::Timestamp>) -> Result<Option<i64>> {
    ts.map(time_from_wire).transpose().map_err(|error| error.field("ts"))
}

fn given(row: BTreeMap<String, v1::Value>) -> Result<GivenMap> {
    Ok(row_from_wire(row)?.into_iter().map(|(name, value)| (name, Given::Value(value))).collect())
}

fn wanted(features: Vec<String>) -> Option<Vec<String>> {
    (!features.is_empty()).then_some(features)
}

pub(crate) fn question(request: v1::GetFeaturesRequest, metadata: &MetadataMap) -> Result<Question> {
    Ok(Question {
        featureset: request.featureset,
        keys: vec![given(request.key)?],
        inputs: vec![given(request.inputs)?],
        features: wanted(request.features),
        at: time(request.ts.as_ref())?.map_or(At::Now, At::Time),
        asking: asking(&request.known_at, request.exclusive, &request.at_least, metadata)?,
        kind: RunKind::Online,
    })
}

pub(crate) fn batch_question(request: v1::BatchGetFeaturesRequest, metadata: &MetadataMap) -> Result<Question> {
    let keys = rows("keys", request.keys)?;
    let inputs = rows("inputs", request.inputs)?;
    let at = match (time(request.ts.as_ref())?, request.row_ts_micros) {
        (None, times) if times.is_empty() => At::Now,
        (Some(ts), times) if times.is_empty() => At::Time(ts),
        (None, times) => At::Each(times.into_iter().map(Some).collect()),
        (Some(_), _) => {
            let error = Error::invalid("both ts and row_ts_micros are given").field("row_ts_micros");
            return Err(error.hint("give one time for all rows, or one per row"));
        }
    };
    if let At::Each(times) = &at
        && times.len() != keys.len()
    {
        let message = format!("{} row_ts_micros for {} keys", times.len(), keys.len());
        return Err(Error::invalid(message).field("row_ts_micros"));
    }
    if !inputs.is_empty() && inputs.len() != keys.len() {
        return Err(Error::invalid(format!("{} rows of inputs for {} keys", inputs.len(), keys.len())).field("inputs"));
    }
    let kind = if matches!(at, At::Now) { RunKind::Batch } else { RunKind::Offline };
    Ok(Question {
        featureset: request.featureset,
        keys,
        inputs,
        features: wanted(request.features),
        at,
        asking: asking(&request.known_at, request.exclusive, &request.at_least, metadata)?,
        kind,
    })
}

/// Columns of equal length, turned into rows.
fn rows(what: &str, columns: Vec<v1::Column>) -> Result<Vec<GivenMap>> {
    let mut rows: Vec<GivenMap> = Vec::new();
    for (index, column) in columns.into_iter().enumerate() {
        let name = column.name.clone();
        let values = whole_column_from_wire(column)?;
        if index == 0 {
            rows.resize_with(values.len(), GivenMap::new);
        } else if values.len() != rows.len() {
            let message = format!("column '{name}' has {} rows, the first column {}", values.len(), rows.len());
            return Err(Error::invalid(message).field(what));
        }
        for (row, value) in rows.iter_mut().zip(values) {
            if row.insert(name.clone(), Given::Value(value)).is_some() {
                return Err(Error::invalid(format!("column '{name}' is there twice")).field(what));
            }
        }
    }
    Ok(rows)
}

pub(crate) fn lookup_question(request: v1::LookupRequest, metadata: &MetadataMap) -> Result<LookupQuestion> {
    Ok(LookupQuestion {
        dataset: request.dataset,
        key: given(request.key)?,
        at: time(request.ts.as_ref())?,
        asking: asking(&request.known_at, request.exclusive, &request.at_least, metadata)?,
    })
}

/// An explanation asks for a featureset's features or a dataset's row.
pub(crate) enum ExplainQuestion {
    Features(Question),
    Row(LookupQuestion),
}

/// A plan is asked for by featureset and features alone.
pub(crate) fn plan_question(request: v1::ExplainRequest) -> Result<(String, Option<Vec<String>>)> {
    let given = [
        ("key", !request.key.is_empty()),
        ("inputs", !request.inputs.is_empty()),
        ("ts", request.ts.is_some()),
        ("known_at", !request.known_at.is_empty()),
        ("exclusive", request.exclusive),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        None => Ok((request.name, wanted(request.features))),
        Some((name, _)) => Err(Error::invalid(format!("{name} is given where a plan is asked for"))
            .field(name)
            .hint("leave it out: a plan is of any key and time")),
    }
}

pub(crate) fn explain_question(
    request: v1::ExplainRequest,
    is_dataset: bool,
    metadata: &MetadataMap,
) -> Result<ExplainQuestion> {
    let asking = asking(&request.known_at, request.exclusive, "", metadata)?;
    let (key, at) = (given(request.key)?, time(request.ts.as_ref())?);
    if is_dataset {
        if !request.inputs.is_empty() {
            return Err(Error::invalid("a dataset takes no inputs").field("inputs"));
        }
        return Ok(ExplainQuestion::Row(LookupQuestion { dataset: request.name, key, at, asking }));
    }
    Ok(ExplainQuestion::Features(Question {
        featureset: request.name,
        keys: vec![key],
        inputs: vec![given(request.inputs)?],
        features: wanted(request.features),
        at: at.map_or(At::Now, At::Time),
        asking,
        kind: RunKind::Online,
    }))
}
