//! Parts as they travel.

use crate::answers::status;
use std::collections::BTreeSet;
use std::time::Duration;
use thyme_core::position::{KnownAt, PositionSet};
use thyme_core::schema::DataType;
use thyme_core::time::format_time;
use thyme_core::{Error, Result, Value};
use thyme_proto::columns::{column_to_wire, whole_column_from_wire};
use thyme_proto::convert::{time_from_wire, time_to_wire, value_from_wire, value_to_wire};
use thyme_proto::internal::v1;
use thyme_proto::v1 as public;
use thyme_query::{
    Asking, ErasedLog, FeatureValue, LookupPart, LookupPartAnswer, Part, PartAnswer, PartAsking, PartColumn,
    PartStanding, Status,
};

/// Values of one type, mostly: whoever reads them has the same plan, and knows it.
fn column(values: &[Value]) -> public::Column {
    let data_type = values.iter().find_map(Value::scalar_type);
    column_to_wire("", &data_type.unwrap_or(DataType::Str), values)
}

fn missing(what: &str) -> Error {
    Error::internal(format!("a part between nodes has no {what}"))
}

pub(super) fn asking_to_wire(place: PartAsking) -> v1::PartAsking {
    let PartAsking { commit_id, slices, asking } = place;
    let known_at = asking.known_at.map(|known_at| match known_at {
        KnownAt::AppendTime(time) => format_time(time),
        KnownAt::Position(position) => position.encode(),
    });
    let deadline = asking.deadline.unwrap_or(Duration::MAX).as_micros();
    v1::PartAsking {
        commit_id: commit_id.to_string(),
        slices: slices.into_iter().map(u32::from).collect(),
        known_at: known_at.unwrap_or_default(),
        exclusive: asking.exclusive,
        at_least: asking.at_least.map(|position| position.encode()).unwrap_or_default(),
        deadline_micros: u64::try_from(deadline).unwrap_or(u64::MAX),
    }
}

pub(super) fn asking_from_wire(asking: Option<v1::PartAsking>) -> Result<PartAsking> {
    let asking = asking.ok_or_else(|| missing("asking"))?;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_string());
    let slices: Result<BTreeSet<u16>, _> = asking.slices.into_iter().map(u16::try_from).collect();
    Ok(PartAsking {
        commit_id: asking.commit_id.as_str().into(),
        slices: slices.map_err(|_| missing("slice with such a number"))?,
        asking: Asking {
            known_at: text(&asking.known_at).map(|text| KnownAt::parse(&text)).transpose()?,
            exclusive: asking.exclusive,
            at_least: text(&asking.at_least).map(|text| PositionSet::decode(&text)).transpose()?,
            deadline: Some(Duration::from_micros(asking.deadline_micros)),
            api_key_fingerprint: None,
        },
    })
}

pub(super) fn erased_log_from_wire(request: &v1::ErasedBelowRequest) -> Result<ErasedLog> {
    let partitions = u16::try_from(request.partitions).map_err(|_| missing("log with so many partitions"))?;
    Ok(ErasedLog { log: request.log, partitions })
}

pub(super) fn part_to_wire(part: Part) -> v1::ReadPartRequest {
    let times: Vec<Value> = part.times.iter().map(|time| time.map_or(Value::Null, Value::Time)).collect();
    v1::ReadPartRequest {
        given: part.given.iter().map(|values| column(values)).collect(),
        times: Some(column(&times)),
        asking: Some(asking_to_wire(part.place)),
        featureset: part.featureset,
        features: part.features.unwrap_or_default(),
        spine: part.is_spine,
        whole: part.is_whole,
    }
}

pub(super) fn part_from_wire(request: v1::ReadPartRequest) -> Result<Part> {
    let times = whole_column_from_wire(request.times.ok_or_else(|| missing("times"))?)?;
    let time = |value: Value| match value {
        Value::Time(time) => Ok(Some(time)),
        Value::Null => Ok(None),
        other => Err(Error::internal(format!("a part between nodes has a {} as time", other.type_name()))),
    };
    let given: Result<Vec<Vec<Value>>> = request.given.into_iter().map(whole_column_from_wire).collect();
    let times: Result<Vec<Option<i64>>> = times.into_iter().map(time).collect();
    Ok(Part {
        place: asking_from_wire(request.asking)?,
        featureset: request.featureset,
        features: (!request.features.is_empty()).then_some(request.features),
        given: given?,
        times: times?,
        is_spine: request.spine,
        is_whole: request.whole,
    })
}

fn standing_to_wire(standing: &PartStanding) -> v1::PartStanding {
    v1::PartStanding {
        read: standing.watermark.is_some(),
        position: standing.position.encode(),
        watermark: standing.watermark.flatten().map(time_to_wire),
    }
}

fn standing_from_wire(standing: Option<v1::PartStanding>) -> Result<PartStanding> {
    let standing = standing.ok_or_else(|| missing("standing"))?;
    let watermark = standing.watermark.as_ref().map(time_from_wire).transpose()?;
    Ok(PartStanding {
        position: PositionSet::decode(&standing.position)?,
        watermark: standing.read.then_some(watermark),
    })
}

pub(super) fn answer_to_wire(answer: PartAnswer) -> v1::ReadPartResponse {
    v1::ReadPartResponse {
        columns: answer.columns.into_iter().map(column_of_slot).collect(),
        known_rows: answer.known_rows,
        standing: Some(standing_to_wire(&answer.standing)),
    }
}

fn column_of_slot(made: PartColumn) -> v1::PartColumn {
    let statuses: Vec<i32> = made.values.iter().map(|value| status(&value.status).into()).collect();
    let all_ok = made.values.iter().all(|value| value.status == Status::Ok);
    let errors = (0..).zip(&made.values);
    let errors = errors.filter_map(|(row, value)| Some((row, value.status.reason()?.to_string()))).collect();
    let values: Vec<Value> = made.values.into_iter().map(|value| value.value).collect();
    v1::PartColumn {
        slot: made.slot as u32,
        values: Some(public::FeatureColumn {
            column: Some(column(&values)),
            statuses: if all_ok { Vec::new() } else { statuses },
            errors,
        }),
    }
}

pub(super) fn answer_from_wire(response: v1::ReadPartResponse) -> Result<PartAnswer> {
    let columns: Result<Vec<PartColumn>> = response.columns.into_iter().map(slot_of_column).collect();
    Ok(PartAnswer {
        columns: columns?,
        known_rows: response.known_rows,
        standing: standing_from_wire(response.standing)?,
    })
}

fn slot_of_column(column: v1::PartColumn) -> Result<PartColumn> {
    let public::FeatureColumn { column: values, statuses, mut errors } =
        column.values.ok_or_else(|| missing("values"))?;
    let values = whole_column_from_wire(values.ok_or_else(|| missing("column"))?)?;
    if !statuses.is_empty() && statuses.len() != values.len() {
        return Err(missing("status for each row"));
    }
    let value = |(row, value): (usize, Value)| {
        let status = statuses.get(row).copied().unwrap_or(public::ValueStatus::Ok.into());
        let status = status_from_wire(status, errors.remove(&(row as u32)).unwrap_or_default())?;
        Ok(FeatureValue { value, status })
    };
    let values: Result<Vec<FeatureValue>> = values.into_iter().enumerate().map(value).collect();
    Ok(PartColumn { slot: column.slot as usize, values: values? })
}

fn status_from_wire(status: i32, reason: String) -> Result<Status> {
    match public::ValueStatus::try_from(status) {
        Ok(public::ValueStatus::Ok) => Ok(Status::Ok),
        Ok(public::ValueStatus::Default) => Ok(Status::Default),
        Ok(public::ValueStatus::Error) => Ok(Status::Error(reason.into())),
        Ok(public::ValueStatus::Unspecified) | Err(_) => Err(missing("status that is known")),
    }
}

pub(super) fn lookup_to_wire(part: LookupPart) -> v1::LookUpPartRequest {
    v1::LookUpPartRequest {
        asking: Some(asking_to_wire(part.place)),
        dataset: part.dataset,
        key: part.key.iter().map(value_to_wire).collect(),
        ts: Some(time_to_wire(part.at)),
    }
}

pub(super) fn lookup_from_wire(request: v1::LookUpPartRequest) -> Result<LookupPart> {
    let key: Result<Vec<Value>> = request.key.into_iter().map(value_from_wire).collect();
    Ok(LookupPart {
        place: asking_from_wire(request.asking)?,
        dataset: request.dataset,
        key: key?,
        at: time_from_wire(request.ts.as_ref().ok_or_else(|| missing("time"))?)?,
    })
}

pub(super) fn row_to_wire(answer: &LookupPartAnswer) -> v1::LookUpPartResponse {
    let fields = answer.values.iter().flatten();
    v1::LookUpPartResponse {
        found: answer.values.is_some(),
        fields: fields.map(|value| crate::answers::feature_value("", value)).collect(),
        known: answer.is_known,
        standing: Some(standing_to_wire(&answer.standing)),
    }
}

pub(super) fn row_from_wire(response: v1::LookUpPartResponse) -> Result<LookupPartAnswer> {
    let field = |field: public::FeatureValue| {
        let value = value_from_wire(field.value.ok_or_else(|| missing("value"))?)?;
        Ok(FeatureValue { value, status: status_from_wire(field.status, field.error)? })
    };
    let fields: Result<Vec<FeatureValue>> = response.fields.into_iter().map(field).collect();
    Ok(LookupPartAnswer {
        values: response.found.then_some(fields?),
        is_known: response.known,
        standing: standing_from_wire(response.standing)?,
    })
}
