//! FeatureService over gRPC.

use crate::asking::{ExplainQuestion, batch_question, explain_question, lookup_question, plan_question, question};
use crate::{answers, explain, runs, stream};
use futures::stream::BoxStream;
use std::sync::Arc;
use thyme_catalog::RunHistory;
use thyme_core::{Error, Result};
use thyme_proto::status::to_status;
use thyme_proto::v1;
use thyme_proto::v1::feature_service_server::{FeatureService, FeatureServiceServer};
use thyme_query::{At, QueryEngine};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

/// The largest message that is read or written.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Response metadata: the id under which the question was recorded.
pub const RUN_ID_HEADER: &str = "x-query-run-id";

pub struct FeatureGrpc {
    engine: Arc<QueryEngine>,
    runs: Arc<dyn RunHistory>,
    stopping: watch::Receiver<bool>,
}

/// The service, with its limits. Streams end when `stopping` says true.
pub fn service(
    engine: Arc<QueryEngine>,
    runs: Arc<dyn RunHistory>,
    stopping: watch::Receiver<bool>,
) -> FeatureServiceServer<FeatureGrpc> {
    FeatureServiceServer::new(FeatureGrpc { engine, runs, stopping })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl FeatureGrpc {
    async fn get(&self, request: Request<v1::GetFeaturesRequest>) -> Result<v1::GetFeaturesResponse> {
        let (metadata, _, message) = request.into_parts();
        let answer = self.engine.answer(question(message, &metadata)?).await?;
        answers::one(&answer)
    }

    async fn batch(&self, request: Request<v1::BatchGetFeaturesRequest>) -> Result<v1::BatchGetFeaturesResponse> {
        let (metadata, _, message) = request.into_parts();
        let encoding = v1::BatchEncoding::try_from(message.encoding).map_err(|_| {
            Error::invalid(format!("unknown encoding {}", message.encoding))
                .field("encoding")
                .hint("allowed: BATCH_ENCODING_COLUMNS, BATCH_ENCODING_ARROW_IPC")
        })?;
        let question = batch_question(message, &metadata)?;
        let one_time = !matches!(question.at, At::Each(_));
        let answer = self.engine.answer(question).await?;
        answers::many(&answer, encoding == v1::BatchEncoding::ArrowIpc, one_time)
    }

    async fn look_up(&self, request: Request<v1::LookupRequest>) -> Result<v1::LookupResponse> {
        let (metadata, _, message) = request.into_parts();
        let answer = self.engine.lookup(lookup_question(message, &metadata)?).await?;
        Ok(answers::lookup(&answer))
    }

    async fn explain_value(&self, request: Request<v1::ExplainRequest>) -> Result<v1::ExplainResponse> {
        let (metadata, _, message) = request.into_parts();
        let (name, max_events, names) = (message.name.clone(), message.max_events, message.features.clone());
        let compiled = self.engine.compiled();
        let is_dataset = compiled.is_some_and(|all| all.datasets.contains_key(&name));
        if message.plan {
            return self.plan(message, is_dataset);
        }
        match explain_question(message, is_dataset, &metadata)? {
            ExplainQuestion::Features(question) => {
                let explained = self.engine.explain(question).await?;
                Ok(explain::features(name, &explained, max_events))
            }
            ExplainQuestion::Row(question) => {
                let explained = self.engine.explain_lookup(question).await?;
                check_fields(&name, &names, explained.features.iter().map(|field| field.name.as_ref()))?;
                Ok(explain::row(name, &explained, &explain::Shown::new(max_events, names)))
            }
        }
    }

    fn plan(&self, message: v1::ExplainRequest, is_dataset: bool) -> Result<v1::ExplainResponse> {
        let (name, features) = plan_question(message)?;
        if is_dataset {
            return Err(Error::invalid(format!("a plan is of a featureset, and '{name}' is a dataset"))
                .field("name")
                .hint("ask for that of a featureset that refers to it, or give a key to see how a row comes about"));
        }
        let plan = self.engine.export_plan(&name, features.as_deref())?;
        Ok(explain::plan(name, &plan))
    }

    async fn list_runs(&self, request: v1::ListQueryRunsRequest) -> Result<v1::ListQueryRunsResponse> {
        let page = self.runs.list(&runs::filter(request)).await?;
        Ok(v1::ListQueryRunsResponse {
            runs: page.runs.into_iter().map(runs::run).collect(),
            next_cursor: page.next_cursor.unwrap_or_default(),
        })
    }

    async fn get_run(&self, id: &str) -> Result<v1::GetQueryRunResponse> {
        let found = self.runs.get(id).await?;
        let run = found.ok_or_else(|| Error::not_found(format!("unknown query run '{id}'")).field("id"))?;
        Ok(v1::GetQueryRunResponse { run: Some(runs::run(run)) })
    }
}

fn check_fields<'a>(dataset: &str, asked: &[String], known: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
    for name in asked {
        if !known.clone().any(|field| field == name) {
            return Err(Error::invalid(format!("unknown field '{name}' of dataset '{dataset}'"))
                .field("features")
                .hint(thyme_core::suggest::hint(name, known)));
        }
    }
    Ok(())
}

/// Puts the run's id into the response metadata.
fn respond<T>(message: Result<T>, info: impl Fn(&T) -> Option<&v1::AnswerInfo>) -> Result<Response<T>, Status> {
    let message = message.map_err(|error| to_status(&error))?;
    let run_id = info(&message).and_then(|info| info.query_run_id.parse().ok());
    let mut response = Response::new(message);
    if let Some(run_id) = run_id {
        response.metadata_mut().insert(RUN_ID_HEADER, run_id);
    }
    Ok(response)
}

#[tonic::async_trait]
impl FeatureService for FeatureGrpc {
    async fn get_features(
        &self,
        request: Request<v1::GetFeaturesRequest>,
    ) -> Result<Response<v1::GetFeaturesResponse>, Status> {
        respond(self.get(request).await, |message| message.info.as_ref())
    }

    type StreamFeaturesStream = BoxStream<'static, Result<v1::StreamFeaturesResponse, Status>>;

    async fn stream_features(
        &self,
        request: Request<Streaming<v1::StreamFeaturesRequest>>,
    ) -> Result<Response<Self::StreamFeaturesStream>, Status> {
        let (metadata, _, requests) = request.into_parts();
        Ok(Response::new(stream::answers(self.engine.clone(), metadata, requests, self.stopping.clone())))
    }

    async fn batch_get_features(
        &self,
        request: Request<v1::BatchGetFeaturesRequest>,
    ) -> Result<Response<v1::BatchGetFeaturesResponse>, Status> {
        respond(self.batch(request).await, |message| message.info.as_ref())
    }

    async fn lookup(&self, request: Request<v1::LookupRequest>) -> Result<Response<v1::LookupResponse>, Status> {
        respond(self.look_up(request).await, |message| message.info.as_ref())
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainResponse>, Status> {
        respond(self.explain_value(request).await, |message| message.info.as_ref())
    }

    async fn list_query_runs(
        &self,
        request: Request<v1::ListQueryRunsRequest>,
    ) -> Result<Response<v1::ListQueryRunsResponse>, Status> {
        respond(self.list_runs(request.into_inner()).await, |_| None)
    }

    async fn get_query_run(
        &self,
        request: Request<v1::GetQueryRunRequest>,
    ) -> Result<Response<v1::GetQueryRunResponse>, Status> {
        respond(self.get_run(&request.into_inner().id).await, |_| None)
    }
}
