//! ControlService over gRPC: the same views as the HTTP calls, as messages.

use crate::checkpoints::CheckpointStatus;
use crate::commit::{CommitRequest, state_name};
use crate::controller::Controller;
use crate::model::*;
use crate::rebuild::{RebuildOutcome, TableDigests};
use futures::stream::{BoxStream, Stream, StreamExt as _};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_core::Error;
use thyme_core::definition::{Metadata, Plan, PlanItem, StateItem};
use thyme_proto::convert::time_to_wire;
use thyme_proto::status::{to_status, to_status_of_all};
use thyme_proto::v1;
use thyme_proto::v1::control_service_server::{ControlService, ControlServiceServer};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

/// How often a rebuild says how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// The largest message that is read: definitions travel with their modules.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

pub struct ControlGrpc {
    controller: Arc<Controller>,
}

pub fn service(controller: Arc<Controller>) -> ControlServiceServer<ControlGrpc> {
    ControlServiceServer::new(ControlGrpc { controller })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

type Answer<T> = Result<Response<T>, Status>;

fn refuse(error: Error) -> Status {
    to_status(&error)
}

#[tonic::async_trait]
impl ControlService for ControlGrpc {
    async fn commit(&self, request: Request<v1::CommitRequest>) -> Answer<v1::CommitResponse> {
        let request = request.into_inner();
        let commit = CommitRequest {
            definitions: request.definitions_json.to_vec(),
            message: request.message,
            remove: request.remove,
            dry_run: request.dry_run,
            supersede: request.supersede,
        };
        let result = run_to_end(self.controller.clone(), commit).await?;
        let commit = result.commit.map(|commit| commit_info(self.controller.view_of(commit)));
        Ok(Response::new(v1::CommitResponse { commit, plan: Some(plan_info(&result.plan)) }))
    }

    async fn get_commit(&self, request: Request<v1::GetCommitRequest>) -> Answer<v1::GetCommitResponse> {
        let view = self.controller.commit_view(&request.into_inner().id).await.map_err(refuse)?;
        Ok(Response::new(v1::GetCommitResponse { commit: Some(commit_info(view)) }))
    }

    async fn plan(&self, request: Request<v1::PlanRequest>) -> Answer<v1::PlanResponse> {
        let v1::PlanRequest { definitions_json, remove } = request.into_inner();
        let definitions = definitions_json.to_vec();
        let dry_run = CommitRequest { definitions, remove, dry_run: true, ..CommitRequest::default() };
        let result = run_to_end(self.controller.clone(), dry_run).await?;
        Ok(Response::new(v1::PlanResponse { plan: Some(plan_info(&result.plan)) }))
    }

    async fn list_commits(&self, request: Request<v1::ListCommitsRequest>) -> Answer<v1::ListCommitsResponse> {
        let v1::ListCommitsRequest { limit, cursor } = request.into_inner();
        let (commits, next_cursor) = self.controller.commits(limit, &cursor).await.map_err(refuse)?;
        let commits = commits.into_iter().map(commit_info).collect();
        Ok(Response::new(v1::ListCommitsResponse { commits, next_cursor: next_cursor.unwrap_or_default() }))
    }

    async fn list_datasets(&self, _: Request<v1::ListDatasetsRequest>) -> Answer<v1::ListDatasetsResponse> {
        let datasets = self.controller.datasets().map_err(refuse)?.into_iter().map(dataset_info).collect();
        Ok(Response::new(v1::ListDatasetsResponse { datasets }))
    }

    async fn list_pipelines(&self, _: Request<v1::ListPipelinesRequest>) -> Answer<v1::ListPipelinesResponse> {
        let pipelines = self.controller.pipelines().map_err(refuse)?.into_iter().map(pipeline_info).collect();
        Ok(Response::new(v1::ListPipelinesResponse { pipelines }))
    }

    async fn list_featuresets(&self, _: Request<v1::ListFeaturesetsRequest>) -> Answer<v1::ListFeaturesetsResponse> {
        let featuresets = self.controller.featuresets().into_iter().map(featureset_info).collect();
        Ok(Response::new(v1::ListFeaturesetsResponse { featuresets }))
    }

    async fn list_sources(&self, _: Request<v1::ListSourcesRequest>) -> Answer<v1::ListSourcesResponse> {
        let sources = self.controller.sources().into_iter().map(source_info).collect();
        Ok(Response::new(v1::ListSourcesResponse { sources }))
    }

    async fn test_source(&self, request: Request<v1::TestSourceRequest>) -> Answer<v1::TestSourceResponse> {
        let v1::TestSourceRequest { dataset, limit } = request.into_inner();
        let view = self.controller.test_source(&dataset, limit).await.map_err(refuse)?;
        Ok(Response::new(test_info(view)))
    }

    async fn pause_source(&self, request: Request<v1::PauseSourceRequest>) -> Answer<v1::PauseSourceResponse> {
        let view = self.controller.pause_source(&request.into_inner().dataset).await.map_err(refuse)?;
        Ok(Response::new(v1::PauseSourceResponse { source: Some(source_info(view)) }))
    }

    async fn resume_source(&self, request: Request<v1::ResumeSourceRequest>) -> Answer<v1::ResumeSourceResponse> {
        let view = self.controller.resume_source(&request.into_inner().dataset).await.map_err(refuse)?;
        Ok(Response::new(v1::ResumeSourceResponse { source: Some(source_info(view)) }))
    }

    async fn reset_source(&self, request: Request<v1::ResetSourceRequest>) -> Answer<v1::ResetSourceResponse> {
        let view = self.controller.reset_source(&request.into_inner().dataset).await.map_err(refuse)?;
        Ok(Response::new(v1::ResetSourceResponse { source: Some(source_info(view)) }))
    }

    async fn list_rejected(&self, request: Request<v1::ListRejectedRequest>) -> Answer<v1::ListRejectedResponse> {
        let v1::ListRejectedRequest { dataset, limit } = request.into_inner();
        let rows = self.controller.rejected(&dataset, limit).map_err(refuse)?;
        Ok(Response::new(v1::ListRejectedResponse { rows: rows.into_iter().map(rejected_info).collect() }))
    }

    async fn list_jobs(&self, _: Request<v1::ListJobsRequest>) -> Answer<v1::ListJobsResponse> {
        let jobs = self.controller.jobs().map_err(refuse)?.into_iter().map(job_info).collect();
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn list_events(&self, request: Request<v1::ListEventsRequest>) -> Answer<v1::ListEventsResponse> {
        let v1::ListEventsRequest { limit, cursor, severity } = request.into_inner();
        let (events, next_cursor) = self.controller.events(limit, &cursor, &severity).await.map_err(refuse)?;
        let events = events.into_iter().map(event_info).collect();
        Ok(Response::new(v1::ListEventsResponse { events, next_cursor: next_cursor.unwrap_or_default() }))
    }

    type RebuildStream = BoxStream<'static, Result<v1::RebuildResponse, Status>>;

    async fn rebuild(&self, _: Request<v1::RebuildRequest>) -> Answer<Self::RebuildStream> {
        Ok(Response::new(rebuild_stream(self.controller.clone()).boxed()))
    }

    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Answer<v1::GetStatusResponse> {
        Ok(Response::new(status_info(self.controller.status().map_err(refuse)?)))
    }
}

/// A commit goes on to its end even if the client hangs up: half a commit helps nobody.
/// Progress now and then, at last the outcome. When the caller is gone the channel is closed, which ends the rebuild.
fn rebuild_stream(controller: Arc<Controller>) -> impl Stream<Item = Result<v1::RebuildResponse, Status>> {
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        let (progress, mut told) = (sender.clone(), None::<Instant>);
        let tell = move |done_records, total_records| {
            if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                let response = v1::RebuildResponse { done_records, total_records, outcome: None };
                // A caller that reads slowly misses some.
                let _full = progress.try_send(Ok(response));
            }
            !progress.is_closed()
        };
        let last = match controller.rebuild(tell).await {
            Ok(outcome) => Ok(v1::RebuildResponse { outcome: Some(rebuild_info(outcome)), ..Default::default() }),
            Err(error) => Err(to_status(&error)),
        };
        // The caller may have gone away.
        let _gone = sender.send(last).await;
    });
    futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

fn rebuild_info(outcome: RebuildOutcome) -> v1::RebuildOutcome {
    let table = |digests: TableDigests| v1::TableDigests {
        equal: digests.state == digests.rebuilt,
        table: digests.table,
        state_digest: digests.state,
        rebuilt_digest: digests.rebuilt,
    };
    v1::RebuildOutcome {
        equal: outcome.equal,
        state_digest: outcome.state,
        rebuilt_digest: outcome.rebuilt,
        tables: outcome.tables.into_iter().map(table).collect(),
        position: outcome.position,
    }
}

async fn run_to_end(controller: Arc<Controller>, request: CommitRequest) -> Result<crate::CommitResult, Status> {
    controller.commit_to_end(request).await.map_err(|errors| to_status_of_all(&errors))
}

fn time(time: Time) -> prost_types::Timestamp {
    time_to_wire(time.0)
}

fn commit_info(view: CommitView) -> v1::CommitInfo {
    let state = match view.state {
        "building" => v1::CommitState::Building,
        "active" => v1::CommitState::Active,
        "replaced" => v1::CommitState::Replaced,
        "superseded" => v1::CommitState::Superseded,
        _ => v1::CommitState::Failed,
    };
    v1::CommitInfo {
        id: view.id,
        state: state.into(),
        message: view.message,
        created_at: Some(time(view.created_at)),
        activated_at: view.activated_at.map(time),
        builds: view.builds.into_iter().map(build_info).collect(),
        error: view.error.unwrap_or_default(),
        content_hash: view.content_hash,
        warnings: view.warnings,
    }
}

fn build_info(view: BuildView) -> v1::BuildProgress {
    v1::BuildProgress { pipeline: view.pipeline, done_records: view.done_records, total_records: view.total_records }
}

fn plan_info(plan: &Plan) -> v1::PlanInfo {
    let change = |kind: v1::ChangeKind, item: &PlanItem| v1::PlanChange {
        kind: kind.into(),
        object: item.kind.clone(),
        name: item.name.clone(),
        detail: item.details.join("; "),
    };
    let mut changes: Vec<v1::PlanChange> = Vec::new();
    changes.extend(plan.added.iter().map(|item| change(v1::ChangeKind::Added, item)));
    changes.extend(plan.changed.iter().map(|item| change(v1::ChangeKind::Changed, item)));
    changes.extend(plan.renamed.iter().map(|renamed| v1::PlanChange {
        kind: v1::ChangeKind::Renamed.into(),
        object: "feature".to_string(),
        name: format!("{}.{}", renamed.featureset, renamed.to),
        detail: format!("was {}, id {}", renamed.from, renamed.id),
    }));
    changes.extend(plan.removed.iter().map(|item| change(v1::ChangeKind::Removed, item)));
    let state = |action: v1::StateAction, item: &StateItem| v1::PlanState {
        action: action.into(),
        name: state_name(item),
        replayed_records: item.replay_records.unwrap_or_default(),
        detail: item.replaces.as_ref().map(|old| format!("takes over from {old}")).unwrap_or_default(),
    };
    let mut states: Vec<v1::PlanState> = Vec::new();
    states.extend(plan.kept.iter().map(|item| state(v1::StateAction::Kept, item)));
    states.extend(plan.built.iter().chain(&plan.rebuilt).map(|item| state(v1::StateAction::Built, item)));
    states.extend(plan.dropped.iter().map(|item| state(v1::StateAction::Dropped, item)));
    v1::PlanInfo {
        unchanged: plan.is_empty(),
        changes,
        states,
        warnings: plan.warnings.clone(),
        plan_json: serde_json::to_vec(plan).unwrap_or_default().into(),
    }
}

fn metadata_info(metadata: Metadata) -> v1::Metadata {
    v1::Metadata {
        description: metadata.description,
        owner: metadata.owner,
        tags: metadata.tags,
        project: metadata.project,
        deprecated: metadata.deprecated,
        replacement: metadata.replacement.unwrap_or_default(),
    }
}

fn counts_info(counts: Counts) -> v1::DatasetCounts {
    v1::DatasetCounts {
        accepted: counts.accepted,
        late_dropped: counts.late_dropped,
        duplicates: counts.duplicates,
        dead_letters: counts.dead_letters,
        erased_keys: counts.erased_keys,
    }
}

fn dataset_info(view: DatasetView) -> v1::DatasetInfo {
    let field = |field: FieldView| v1::FieldInfo {
        name: field.name,
        r#type: field.data_type,
        nullable: field.nullable,
        key: field.key,
        timestamp: field.timestamp,
        description: field.description,
    };
    v1::DatasetInfo {
        name: view.name,
        version: view.version,
        index: view.index,
        fields: view.fields.into_iter().map(field).collect(),
        max_lateness: view.max_lateness.unwrap_or_default(),
        history: view.history.unwrap_or_default(),
        partitions: view.partitions.into(),
        pipelines: view.pipelines,
        source: view.source.unwrap_or_default(),
        metadata: Some(metadata_info(view.metadata)),
        counts: Some(counts_info(view.counts)),
        watermark: view.watermark.map(time),
    }
}

fn pipeline_info(view: PipelineView) -> v1::PipelineInfo {
    let aggregate = |view: AggregateView| v1::AggregateInfo {
        name: view.name,
        definition: view.definition,
        r#type: view.data_type,
    };
    v1::PipelineInfo {
        name: view.name,
        version: view.version,
        dataset: view.dataset,
        input: view.input,
        group_by: view.group_by,
        aggregates: view.aggregates.into_iter().map(aggregate).collect(),
        lag: view.lag,
        counts: Some(v1::PipelineCounts {
            accepted: view.counts.accepted,
            filtered: view.counts.filtered,
            null_key: view.counts.null_key,
            warnings: view.counts.warnings,
        }),
    }
}

fn featureset_info(view: FeaturesetView) -> v1::FeaturesetInfo {
    let feature = |view: FeatureView| v1::FeatureInfo {
        name: view.name,
        r#type: view.data_type,
        nullable: view.nullable,
        id: view.id.unwrap_or_default(),
        kind: view.kind.to_string(),
        origin: view.origin,
        description: view.description,
        deprecated: view.deprecated,
        native: view.native,
    };
    v1::FeaturesetInfo {
        name: view.name,
        keys: view.keys,
        features: view.features.into_iter().map(feature).collect(),
        metadata: Some(metadata_info(view.metadata)),
        available: view.available,
    }
}

fn source_info(view: SourceView) -> v1::SourceInfo {
    v1::SourceInfo {
        dataset: view.dataset,
        kind: view.kind,
        state: view.state,
        cursor: view.cursor,
        rows: view.rows,
        rejected: view.rejected,
        error: view.error.unwrap_or_default(),
        last_poll: view.last_poll.map(time),
        metadata: Some(metadata_info(view.metadata)),
        settings_json: serde_json::to_string(&view.settings).unwrap_or_default(),
    }
}

fn test_info(view: SourceTestView) -> v1::TestSourceResponse {
    let unfit = |row: UnfitRowView| v1::UnfitRowInfo { place: row.place, reason: row.reason, sample: row.sample };
    v1::TestSourceResponse {
        rows_json: view.rows.iter().map(ToString::to_string).collect(),
        rejected: view.rejected.into_iter().map(unfit).collect(),
        pending: view.pending.unwrap_or_default(),
        has_more: view.has_more,
    }
}

fn rejected_info(view: RejectedView) -> v1::RejectedRowInfo {
    v1::RejectedRowInfo {
        kind: view.kind.to_string(),
        reason: view.reason,
        partition: view.partition.map(u32::from),
        offset: view.offset,
        arrived: Some(time(view.arrived)),
        row_json: view.row.to_string(),
    }
}

fn job_info(view: JobView) -> v1::JobInfo {
    v1::JobInfo {
        id: view.id,
        kind: view.kind.to_string(),
        name: view.name,
        state: view.state,
        done_records: view.done_records,
        total_records: view.total_records,
        error: view.error.unwrap_or_default(),
    }
}

fn event_info(view: EventView) -> v1::EventInfo {
    v1::EventInfo {
        id: view.id.to_string(),
        event_type: view.event_type,
        severity: view.severity.to_string(),
        source: view.source,
        subject: view.subject,
        message: view.message,
        detail: view.detail.to_string(),
        created_at: Some(time(view.created_at)),
    }
}

fn status_info(view: StatusView) -> v1::GetStatusResponse {
    let dataset = |view: DatasetStatus| v1::DatasetStatus {
        name: view.name,
        counts: Some(counts_info(view.counts)),
        watermark: view.watermark.map(time),
        lag: view.lag,
    };
    let emission = |view: EmissionView| v1::EmissionStatus { dataset: view.dataset, topic: view.topic, lag: view.lag };
    let feed = |view: FeedView| v1::FeedStatus {
        dataset: view.dataset,
        topic: view.topic,
        emit_lag: view.emit_lag,
        lag: view.lag,
    };
    v1::GetStatusResponse {
        version: view.version.to_string(),
        state: view.state.to_string(),
        commit_id: view.commit_id,
        clock: view.clock.to_string(),
        now: Some(time(view.now)),
        started_at: Some(time(view.started_at)),
        datasets: view.datasets.into_iter().map(dataset).collect(),
        builds: view.builds.into_iter().map(build_info).collect(),
        position: view.position,
        lag: view.lag,
        data_dir: view.data_dir,
        roles: view.roles.into_iter().map(str::to_string).collect(),
        checkpoints: view.checkpoints.map(checkpoint_info),
        emissions: view.emissions.into_iter().map(emission).collect(),
        feeds: view.feeds.into_iter().map(feed).collect(),
        trouble: view.trouble,
        slices: view.slices.into(),
        owned_slices: view.owned_slices.into_iter().map(u32::from).collect(),
        held_slices: view.held_slices.into_iter().map(u32::from).collect(),
    }
}

fn checkpoint_info(view: CheckpointStatus) -> v1::CheckpointStatus {
    v1::CheckpointStatus {
        url: view.url,
        number: view.number,
        taken_at: view.taken_at.map(time),
        age_seconds: view.age_seconds,
        size_bytes: view.size_bytes,
        uploaded_bytes: view.uploaded_bytes,
        duration_seconds: view.duration_seconds,
        failures: view.failures,
        trouble: view.trouble,
        restored: view.restored,
        unusable: view.unusable,
        diverged: view.diverged,
        compared: view.compared,
    }
}
