//! StreamFeatures: questions up, answers down, in the order of the questions.
//!
//! Each question is what it would be as a unary call, in a task of its own: with its own snapshot, deadline and run. Its error is its answer.
//! At most [`IN_FLIGHT`] of a stream are under way or wait for the client; then no more are read until it takes an answer.

use crate::answers;
use crate::asking::question;
use crate::task::AbortOnDrop;
use futures::stream::{BoxStream, Stream, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use thyme_core::{Error, ErrorKind, Result};
use thyme_proto::deadline::deadline;
use thyme_proto::status::{to_message, to_status};
use thyme_proto::v1;
use thyme_proto::v1::stream_features_response::Outcome;
use thyme_query::QueryEngine;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataMap;

pub(crate) const IN_FLIGHT: usize = 64;

/// Answers until the requests end, or one cannot be read, or the deadline of the stream passes, or the server stops. The work ends when
/// the stream is dropped: the client has gone.
pub(crate) fn answers(
    engine: Arc<QueryEngine>,
    metadata: MetadataMap,
    requests: impl Stream<Item = Result<v1::StreamFeaturesRequest, Status>> + Send + 'static,
    stopping: watch::Receiver<bool>,
) -> BoxStream<'static, Result<v1::StreamFeaturesResponse, Status>> {
    let until = deadline(&metadata).map(|limit| Instant::now() + limit);
    let asker = Arc::new(Asker { engine, metadata, until });
    let answers = until_its_end(requests.boxed(), until, stopping).map(move |request| {
        let begun = request.map(|request| {
            let sequence = request.sequence;
            (sequence, AbortOnDrop(tokio::spawn(asker.clone().answer(request))))
        });
        async move {
            let (sequence, mut task) = begun?;
            let answer = (&mut task.0).await;
            let broken = |error| Err(Error::internal(format!("answering failed: {error}")));
            Ok::<_, Status>(response(sequence, answer.unwrap_or_else(broken)))
        }
    });
    answers.buffered(IN_FLIGHT).boxed()
}

/// What holds for all questions of a stream.
struct Asker {
    engine: Arc<QueryEngine>,
    metadata: MetadataMap,
    /// The deadline of the stream.
    until: Option<Instant>,
}

impl Asker {
    async fn answer(self: Arc<Self>, request: v1::StreamFeaturesRequest) -> Result<v1::GetFeaturesResponse> {
        let v1::StreamFeaturesRequest { sequence, request, timeout } = request;
        let missing = || Error::invalid(format!("message {sequence} has no request")).field("request");
        let mut question = question(request.ok_or_else(missing)?, &self.metadata)?;
        question.asking.deadline = Some(self.limit(timeout)?);
        answers::one(&self.engine.answer(question).await?)
    }

    /// How long a question may take.
    fn limit(&self, timeout: Option<prost_types::Duration>) -> Result<Duration> {
        let wrong = |error| Error::invalid(format!("not a timeout: {error}")).field("timeout");
        let limit = timeout.map(Duration::try_from).transpose().map_err(wrong)?;
        let limit = limit.unwrap_or(self.engine.options().deadline);
        Ok(self.until.map_or(limit, |until| limit.min(until.saturating_duration_since(Instant::now()))))
    }
}

fn response(sequence: u64, answer: Result<v1::GetFeaturesResponse>) -> v1::StreamFeaturesResponse {
    let outcome = answer.map_or_else(|error| Outcome::Error(to_message(&error)), Outcome::Response);
    v1::StreamFeaturesResponse { sequence, outcome: Some(outcome) }
}

/// The requests; where they do not end by themselves, one last item tells why.
fn until_its_end<T: Send + 'static>(
    requests: BoxStream<'static, Result<T, Status>>,
    until: Option<Instant>,
    stopping: watch::Receiver<bool>,
) -> impl Stream<Item = Result<T, Status>> + Send {
    futures::stream::try_unfold((requests, stopping), move |(mut requests, mut stopping)| async move {
        let next = tokio::select! {
            biased;
            () = stop(&mut stopping) => Err(to_status(&stopped())),
            () = pass(until) => Err(to_status(&too_late())),
            next = requests.next() => next.transpose(),
        };
        next.map(|next| next.map(|request| (request, (requests, stopping))))
    })
}

async fn stop(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server itself is gone.
    let _gone = stopping.wait_for(|stop| *stop).await;
}

async fn pass(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn stopped() -> Error {
    Error::unavailable("the server is stopping").hint("ask what was not answered once more")
}

fn too_late() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "the deadline of the stream passed")
        .hint("give each question a timeout, and the stream none")
}
