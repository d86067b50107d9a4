//! Many entities: `POST /features/batch` (one time for all) and `POST /features/offline` (a time per row).

use crate::QueryGateway;
use crate::features::{asking, object_of, take_key};
use crate::fields::Fields;
use crate::problem::Answered;
use crate::render;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use serde_json::Value as Json;
use std::sync::Arc;
use thyme_core::Error;
use thyme_query::{At, FeaturesetShape, Given, GivenMap, Question, RunKind};

const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

pub async fn batch(State(gateway): State<Arc<QueryGateway>>, headers: HeaderMap, body: Body) -> Answered {
    let mut fields = Fields::of_body(body, gateway.max_bytes).await?;
    let featureset = fields.required_text("featureset")?;
    let shape = gateway.query.shape(&featureset)?;
    let entities = fields.array("entity_ids")?.into_iter();
    let keys = entities.map(|entity| GivenMap::from([("entity_id".to_string(), Given::Json(entity))])).collect();
    let inputs = match fields.take("inputs") {
        None => Vec::new(),
        Some(Given::Json(Json::Array(items))) => inputs_of(items)?,
        Some(given) => vec![object_of("inputs", given)?],
    };
    let at = fields.time()?.map_or(At::Now, At::Time);
    let features = fields.names("features")?;
    let statuses = fields.flag("statuses")?;
    let asking = asking(&mut fields)?;
    fields.finish()?;
    let question = Question { featureset, keys, inputs, features, at, asking, kind: RunKind::Batch };
    let answer = gateway.query.answer(question).await?;
    if wants_arrow(&headers) {
        return render::arrow(&answer, statuses);
    }
    Ok(render::batch(&answer, shape.keys.len(), statuses))
}

pub async fn offline(State(gateway): State<Arc<QueryGateway>>, headers: HeaderMap, body: Body) -> Answered {
    let mut fields = Fields::of_body(body, gateway.max_bytes).await?;
    let featureset = fields.required_text("featureset")?;
    let shape = gateway.query.shape(&featureset)?;
    let mut keys = Vec::new();
    let mut times = Vec::new();
    let mut inputs = Vec::new();
    for (index, query) in fields.array("queries")?.into_iter().enumerate() {
        let place = |error: Error| {
            let field = error.field_name().map_or(String::new(), |field| format!(".{field}"));
            error.field(format!("queries[{index}]{field}"))
        };
        let Json::Object(object) = query else {
            return Err(place(Error::invalid("expected an object with entity_id and timestamp")).into());
        };
        let (key, time, input) = spine_row(&shape, Fields::of_object(object)).map_err(place)?;
        keys.push(key);
        times.push(time);
        inputs.push(input);
    }
    if inputs.iter().all(GivenMap::is_empty) {
        inputs.clear();
    }
    let features = fields.names("features")?;
    let statuses = fields.flag("statuses")?;
    let asking = asking(&mut fields)?;
    fields.finish()?;
    let question = Question { featureset, keys, inputs, features, at: At::Each(times), asking, kind: RunKind::Offline };
    let answer = gateway.query.answer(question).await?;
    if wants_arrow(&headers) {
        return render::arrow(&answer, statuses);
    }
    Ok(render::offline(&answer, statuses))
}

/// One row of a spine. A null or missing key component is an unknown key, a null or missing time an ERROR in that row.
fn spine_row(shape: &FeaturesetShape, mut fields: Fields) -> thyme_core::Result<(GivenMap, Option<i64>, GivenMap)> {
    let time = fields.time()?;
    let inputs = match fields.take("inputs") {
        Some(given) => object_of("inputs", given)?,
        None => GivenMap::new(),
    };
    let key = take_key(shape, &mut fields);
    fields.finish()?;
    Ok((key, time, inputs))
}

fn inputs_of(items: Vec<Json>) -> thyme_core::Result<Vec<GivenMap>> {
    items.into_iter().map(|item| object_of("inputs", Given::Json(item))).collect()
}

fn wants_arrow(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|part| part.trim().split(';').next() == Some(ARROW_STREAM))
}
