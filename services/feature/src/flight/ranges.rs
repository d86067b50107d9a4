//! Exports without a spine: GetFlightInfo settles what the answer stands on and shares the keys out among tickets, DoGet answers one of them.
//! Nothing is kept here: a ticket has all that DoGet is to do, so it is answered the same each time.

use super::encoding::{encoded, to_flight};
use super::limits::{Limits, until_idle};
use super::range_command::Command;
use super::ticket::Asked;
use super::work::too_late;
use crate::asking::asking;
use arrow_array::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo};
use futures::stream::{BoxStream, Stream};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::pin::Pin;
use thyme_core::time::{Micros, format_time, parse_time};
use thyme_core::{Error, Result};
use thyme_proto::convert::time_to_wire;
use thyme_proto::v1;
use thyme_query::{QueryEngine, RangeExport, RangeOf, RangeQuestion};
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Hash slices of a ticket: 16 tickets.
const SLICES_EACH: u8 = 16;
/// For how long tickets are promised to be taken. They do not expire; a client that knows no time does not ask again.
const PROMISED: Micros = 24 * 3_600_000_000;

/// Checks everything, settles what the answer stands on, and tells a ticket for each part.
pub(crate) async fn flight_info(
    engine: &QueryEngine,
    metadata: &MetadataMap,
    descriptor: FlightDescriptor,
    command: Command,
) -> Result<FlightInfo> {
    let info = engine.range_info(question(command.clone(), metadata)?).await?;
    let command = settled(command, &info.question);
    let expires = time_to_wire(info.asked.saturating_add(PROMISED));
    let endpoint = |first: u8| -> Result<FlightEndpoint> {
        let slices = first..=first + (SLICES_EACH - 1);
        let ticket = Asked::Slices { command: command.clone(), slices }.ticket()?;
        Ok(FlightEndpoint::new().with_ticket(ticket).with_expiration_time(expires))
    };
    let firsts = (0..=u8::MAX).step_by(usize::from(SLICES_EACH));
    let endpoints: Result<Vec<FlightEndpoint>> = firsts.map(endpoint).collect();
    let told = FlightInfo::new().try_with_schema(&info.schema);
    let told = told.map_err(|error| Error::internal(format!("writing a schema failed: {error}")))?;
    let told = told.with_descriptor(descriptor).with_endpoints(endpoints?).with_ordered(true);
    Ok(told.with_total_records(-1).with_total_bytes(-1))
}

/// Answers a ticket. Returns the run's id as well.
pub(crate) async fn get(
    engine: &Arc<QueryEngine>,
    metadata: &MetadataMap,
    command: Command,
    slices: RangeInclusive<u8>,
    limits: Limits,
) -> Result<(BoxStream<'static, Result<FlightData, Status>>, Arc<str>)> {
    let question = question(command, metadata)?;
    let export = engine.range(&question, slices).await?;
    let (schema, run_id) = (export.schema(), export.query_run_id());
    let idle = limits.idle;
    Ok((until_idle(encoded(schema, batches(export, question.asking.deadline, limits)), idle), run_id))
}

/// Each is made when it is asked for: a client that stops reading stops the work, and one that goes away ends it.
fn batches(
    export: RangeExport,
    deadline: Option<Duration>,
    limits: Limits,
) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static {
    let until = deadline.map(|deadline| (Instant::now() + deadline, deadline));
    futures::stream::try_unfold((export, false), move |(mut export, has_begun)| {
        let limits = limits.clone();
        async move {
            let next = async {
                let _place = limits.place(has_begun).await?;
                export.next_batch().await
            };
            let next = match until {
                None => next.await,
                Some((until, deadline)) => {
                    tokio::time::timeout_at(until, next).await.unwrap_or_else(|_| Err(too_late(deadline)))
                }
            };
            match next {
                Ok(Some(batch)) => Ok(Some((batch, (export, true)))),
                Ok(None) => {
                    export.finish();
                    Ok(None)
                }
                Err(error) => Err(to_flight(error)),
            }
        }
    })
}

/// What a command asks.
fn question(command: Command, metadata: &MetadataMap) -> Result<RangeQuestion> {
    let time = |text: &str, field: &str| -> Result<Option<Micros>> {
        let time = (!text.is_empty()).then(|| parse_time(text)).transpose();
        time.map_err(|error| error.field(field))
    };
    let pin = |text: &str| (!text.is_empty()).then(|| Pin::decode(text)).transpose();
    Ok(match command {
        Command::Changes(asked) => RangeQuestion {
            since: time(&asked.since, "since")?,
            until: time(&asked.until, "until")?,
            pin: pin(&asked.pin)?,
            asking: asking(&asked.known_at, asked.exclusive, &asked.at_least, metadata)?,
            of: RangeOf::Changes {
                featureset: asked.featureset,
                features: (!asked.features.is_empty()).then_some(asked.features),
                statuses: asked.statuses,
            },
        },
        Command::Rows(asked) => RangeQuestion {
            since: time(&asked.since, "since")?,
            until: time(&asked.until, "until")?,
            pin: pin(&asked.pin)?,
            asking: asking(&asked.known_at, false, &asked.at_least, metadata)?,
            of: RangeOf::Rows { dataset: asked.dataset },
        },
    })
}

/// The command with what was settled in it.
fn settled(command: Command, question: &RangeQuestion) -> Command {
    let pin = question.pin.as_ref().map(Pin::encode).unwrap_or_default();
    let until = question.until.map(format_time).unwrap_or_default();
    let (known_at, at_least) = (String::new(), String::new());
    match command {
        Command::Changes(asked) => Command::Changes(v1::ChangesCommand { pin, until, known_at, at_least, ..asked }),
        Command::Rows(asked) => Command::Rows(v1::RowsCommand { pin, until, known_at, at_least, ..asked }),
    }
}
