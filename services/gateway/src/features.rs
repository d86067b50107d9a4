//! One entity: `GET /features`, `POST /features`, and the raw lookup by `entity_type`.

use crate::QueryGateway;
use crate::fields::Fields;
use crate::problem::Answered;
use crate::render;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::Response;
use serde_json::Value as Json;
use std::sync::Arc;
use thyme_core::{Error, Result};
use thyme_query::{Asking, At, FeaturesetShape, Given, GivenMap, LookupQuestion, Question, RunKind};

pub async fn get_features(
    State(gateway): State<Arc<QueryGateway>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answered {
    answer(&gateway, Fields::of_query(pairs)?).await
}

pub async fn post_features(State(gateway): State<Arc<QueryGateway>>, body: Body) -> Answered {
    answer(&gateway, Fields::of_body(body, gateway.max_bytes).await?).await
}

async fn answer(gateway: &QueryGateway, mut fields: Fields) -> Answered {
    let entity_type = fields.text("entity_type")?;
    let featureset = match (fields.text("featureset")?, entity_type) {
        (Some(name), Some(other)) if name != other => {
            return Err(Error::invalid(format!(
                "'featureset' is {name} and 'entity_type' is {other}: give one of them"
            ))
            .field("entity_type")
            .into());
        }
        (Some(name), _) => name,
        (None, Some(dataset)) => return lookup(gateway, dataset, fields).await,
        (None, None) => {
            return Err(Error::invalid("'featureset' is missing")
                .field("featureset")
                .hint("or give entity_type for the newest row of a dataset")
                .into());
        }
    };
    let shape = gateway.query.shape(&featureset)?;
    let at = fields.time()?.map_or(At::Now, At::Time);
    let features = fields.names("features")?;
    let asking = asking(&mut fields)?;
    let mut inputs = match fields.take("inputs") {
        Some(given) => object_of("inputs", given)?,
        None => GivenMap::new(),
    };
    for (name, given) in fields.take_all(shape.requests.iter().map(|(name, _)| name.as_ref())) {
        if inputs.contains_key(&name) {
            return Err(Error::invalid(format!("request feature '{name}' is given by its name and in 'inputs'"))
                .field(name)
                .hint("give it once")
                .into());
        }
        inputs.insert(name, given);
    }
    let key = take_key(&shape, &mut fields);
    fields.finish()?;
    let question = Question {
        featureset,
        keys: vec![key],
        inputs: if inputs.is_empty() { Vec::new() } else { vec![inputs] },
        features,
        at,
        asking,
        kind: RunKind::Online,
    };
    let answer = gateway.query.answer(question).await?;
    Ok(render::one(&answer, shape.keys.len()))
}

async fn lookup(gateway: &QueryGateway, dataset: String, mut fields: Fields) -> Answered {
    let at = fields.time()?;
    let asking = asking(&mut fields)?;
    // Whatever is left must be a key field; the engine names the nearest one.
    let key = fields.rest();
    let answer = gateway.query.lookup(LookupQuestion { dataset, key, at, asking }).await?;
    Ok(render::looked_up(&answer))
}

/// The parts of a question that every call has.
pub fn asking(fields: &mut Fields) -> Result<Asking> {
    Ok(Asking {
        known_at: fields.known_at()?,
        exclusive: fields.flag("exclusive")?,
        at_least: fields.at_least()?,
        ..Asking::default()
    })
}

/// `entity_id` (several keys as a JSON object), or each key by its own name.
pub fn take_key(shape: &FeaturesetShape, fields: &mut Fields) -> GivenMap {
    let names = shape.keys.iter().map(|(name, _)| name.as_ref());
    fields.take_all(names.chain(["entity_id"]))
}

/// A JSON object of named values; in a URL, as its text.
pub fn object_of(name: &str, given: Given) -> Result<GivenMap> {
    let json = match given {
        Given::Text(text) => serde_json::from_str(&text).unwrap_or(Json::String(text)),
        Given::Json(json) => json,
        Given::Value(value) => value.to_json(),
    };
    match json {
        Json::Object(entries) => Ok(entries.into_iter().map(|(key, json)| (key, Given::Json(json))).collect()),
        other => Err(Error::invalid(format!("expected a JSON object, got {other}")).field(name)),
    }
}

/// Marks a response with the id under which the question was recorded.
pub fn with_run_id(mut response: Response, run_id: &str) -> Response {
    if let Ok(value) = axum::http::HeaderValue::from_str(run_id) {
        response.headers_mut().insert("x-query-run-id", value);
    }
    response
}
