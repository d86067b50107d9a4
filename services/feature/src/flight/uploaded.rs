//! Exports of spines that were put before: GetFlightInfo tells where the parts are joined, DoGet joins one of them. Nothing is kept of a
//! flight: a ticket has all that DoGet is to do, under the pin that GetFlightInfo has made, so it is answered the same each time.

use super::command::{Form, form};
use super::encoding::encoded;
use super::ending::{Told, with_ending};
use super::exchange::export_question;
use super::limits::{Limits, until_idle};
use super::spines::{PartReader, Spines};
use super::ticket::Asked;
use super::work::{Sender, Work};
use crate::task::blocking;
use arrow_array::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo};
use futures::stream::{BoxStream, Stream};
use std::sync::Arc;
use std::time::Duration;
use thyme_core::{Error, Result};
use thyme_proto::convert::time_to_wire;
use thyme_proto::v1;
use thyme_query::{Export, ExportSummary, QueryEngine};
use tokio::sync::{Semaphore, oneshot};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Rows of the first chunk of a part. The second one is begun when these are taken: of a reader that is only opened, no more is in memory.
const FIRST_ROWS: usize = 8192;

/// Checks everything, makes the pin, and tells a ticket for each part. Returns the run's id as well.
pub(crate) async fn flight_info(
    engine: Arc<QueryEngine>,
    spines: &Spines,
    metadata: &MetadataMap,
    descriptor: FlightDescriptor,
    command: v1::ExportCommand,
) -> Result<(FlightInfo, Arc<str>)> {
    if command.spine.is_empty() {
        let error = Error::invalid("no spine is named").field("spine");
        return Err(error.hint(
            "put one first (DoPut with {\"spine\": \"new\"}) and name it {\"spine\": \"its id\"}, or send the spine through DoExchange",
        ));
    }
    let form = form(&descriptor)?;
    let spine = spines.get(&command.spine)?;
    let export = engine.export(export_question(command.clone(), metadata)?, spine.schema.clone()).await?;
    let (schema, run_id) = (export.schema(), export.query_run_id());
    export.finish();
    let pin = schema.metadata().get("thyme.pin").cloned().unwrap_or_default();
    let command = v1::ExportCommand { pin, known_at: String::new(), at_least: String::new(), ..command };
    let expires = time_to_wire(spines.renew(&command.spine)?);
    let endpoint = |part: u32| -> Result<FlightEndpoint> {
        let ticket = Asked::Part { command: command.clone(), part, form }.ticket()?;
        Ok(FlightEndpoint::new().with_ticket(ticket).with_expiration_time(expires))
    };
    let endpoints: Result<Vec<FlightEndpoint>> = (0..spine.parts).map(endpoint).collect();
    let info = FlightInfo::new()
        .try_with_schema(&schema)
        .map_err(|error| Error::internal(format!("writing a schema failed: {error}")))?;
    let rows = i64::try_from(spine.rows).unwrap_or(i64::MAX);
    let info = info.with_descriptor(descriptor).with_endpoints(endpoints?).with_ordered(true);
    Ok((info.with_total_records(rows).with_total_bytes(-1), run_id))
}

/// Joins a part. Returns the run's id as well.
pub(crate) async fn get(
    engine: Arc<QueryEngine>,
    spines: &Spines,
    metadata: &MetadataMap,
    (command, part, form): (v1::ExportCommand, u32, Form),
    limits: Limits,
) -> Result<(BoxStream<'static, Result<FlightData, Status>>, Arc<str>)> {
    let spine = spines.get(&command.spine)?;
    let question = export_question(command, metadata)?;
    let deadline = question.asking.deadline;
    let part = blocking(move || spine.part(part)).await?;
    let export = engine.export(question, part.schema()).await?;
    let (schema, run_id) = (export.schema(), export.query_run_id());
    let idle = limits.idle;
    let (told, summary) = oneshot::channel();
    let joined = encoded(schema.clone(), join(part, export, deadline, limits, told));
    Ok((until_idle(with_ending(joined, schema, summary, Told::WithoutPlan(form)), idle), run_id))
}

/// The joined batches.
fn join(
    part: PartReader,
    export: Export,
    deadline: Option<Duration>,
    limits: Limits,
    told: oneshot::Sender<ExportSummary>,
) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send {
    let wanted = Arc::new(Semaphore::new(0));
    let work = Work::begin(deadline, told, |sender| join_all(part, export, limits, wanted.clone(), sender));
    futures::stream::try_unfold(Taking { work, wanted, times: 0 }, Taking::next)
}

/// The end where the client takes.
struct Taking {
    work: Work<RecordBatch>,
    /// How many chunks may be begun.
    wanted: Arc<Semaphore>,
    times: u32,
}

impl Taking {
    /// The first chunk is made when it is asked for, and so is the second: a client that opens many readers and reads one after the other
    /// costs little. From then on one is made while the one before is taken.
    async fn next(mut self) -> Result<Option<(RecordBatch, Taking)>, FlightError> {
        self.wanted.add_permits(if self.times == 1 { 2 } else { 1 });
        self.times = self.times.saturating_add(1);
        let joined = self.work.next().await?;
        Ok(joined.map(|batch| (batch, self)))
    }
}

async fn join_all(
    mut part: PartReader,
    mut export: Export,
    limits: Limits,
    wanted: Arc<Semaphore>,
    sender: Sender<RecordBatch>,
) -> Result<Option<ExportSummary>> {
    // Half of what DoExchange joins at once: one chunk is worked on while another one is taken. The same cuts each time.
    let rows_at_once = (export.rows_at_once() / 2).max(1);
    let mut most_rows = rows_at_once.min(FIRST_ROWS);
    let mut has_begun = false;
    loop {
        wanted.acquire().await.map_err(|_| Error::internal("the export's queue is closed"))?.forget();
        let place = limits.place(has_begun).await?;
        let read = blocking(move || {
            let chunk = part.next_chunk(most_rows)?;
            Ok((part, chunk))
        });
        let (read, chunk) = read.await?;
        let Some(chunk) = chunk else { break };
        let joined = export.join(chunk).await?;
        drop(place);
        if sender.send(Ok(Some(joined))).is_err() {
            return Ok(None);
        }
        (part, most_rows, has_begun) = (read, rows_at_once, true);
    }
    let summary = export.summary();
    export.finish();
    Ok(Some(summary))
}
