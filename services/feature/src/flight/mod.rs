//! Arrow Flight: bulk export (DoExchange; GetFlightInfo and DoGet of a spine that was put, or without one), bulk ingest (DoPut), listings. A
//! stock client needs no stub: commands have a JSON form, and errors say everything in their message.

mod command;
mod encoding;
mod ending;
mod exchange;
mod json;
pub(crate) mod limits;
mod listing;
mod put;
mod put_spine;
mod range_command;
mod ranges;
pub(crate) mod room;
pub(crate) mod spines;
mod stream;
mod ticket;
mod uploaded;
mod work;

pub use spines::Spines;

use self::command::Put;
use self::limits::Limits;
use self::ticket::Asked;
use crate::grpc::RUN_ID_HEADER;
use crate::task::blocking;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{BoxStream, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use thyme_core::definition::Compiled;
use thyme_core::{Error, ErrorKind, Result};
use thyme_ingest::Ingestor;
use thyme_proto::deadline::deadline;
use thyme_proto::status::to_plain_status;
use thyme_query::QueryEngine;
use tonic::{Request, Response, Status, Streaming};

/// The largest message that is read or written.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

const DROP_SPINE: &str = "drop_spine";

pub struct Flight {
    engine: Arc<QueryEngine>,
    /// `None` where the process does not have the ingest role.
    ingestor: Option<Arc<Ingestor>>,
    spines: Arc<Spines>,
    limits: Limits,
}

/// The service, with its limits. Spines that expire are removed as long as it lives.
pub fn service(
    engine: Arc<QueryEngine>,
    ingestor: Option<Arc<Ingestor>>,
    spines: Arc<Spines>,
) -> FlightServiceServer<Flight> {
    service_within(engine, ingestor, spines, Limits::of_a_server())
}

pub(crate) fn service_within(
    engine: Arc<QueryEngine>,
    ingestor: Option<Arc<Ingestor>>,
    spines: Arc<Spines>,
    limits: Limits,
) -> FlightServiceServer<Flight> {
    tokio::spawn(Spines::sweep(Arc::downgrade(&spines)));
    FlightServiceServer::new(Flight { engine, ingestor, spines, limits })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

type Stream<T> = BoxStream<'static, Result<T, Status>>;

fn plain(error: Error) -> Status {
    to_plain_status(&error)
}

fn not_offered(what: &str, instead: &str) -> Status {
    plain(Error::new(ErrorKind::Unimplemented, format!("{what} is not offered")).hint(instead))
}

/// With the header that tells the run.
fn with_run<T>(answer: T, run_id: &str) -> Response<T> {
    let mut response = Response::new(answer);
    if let Ok(run_id) = run_id.parse() {
        response.metadata_mut().insert(RUN_ID_HEADER, run_id);
    }
    response
}

impl Flight {
    fn compiled(&self) -> Result<Arc<Compiled>> {
        self.engine.compiled().ok_or_else(|| {
            Error::not_found("nothing is committed yet").hint("commit definitions first: thyme commit features.py")
        })
    }

    async fn put(&self, messages: Streaming<FlightData>, limit: Option<Duration>) -> Result<Stream<PutResult>> {
        let (descriptor, start) = stream::open(messages, self.limits.idle).await?;
        match command::put_command(&descriptor)? {
            (Put::Rows(command), form) => {
                let ingestor = self.ingestor.clone().ok_or_else(|| {
                    Error::precondition("this process does not take rows").hint("it runs without the ingest role")
                })?;
                put::put(ingestor, command, form, start, limit).await
            }
            (Put::Spine, form) => {
                self.engine.check_has_all("an export")?;
                put_spine::put_spine(self.spines.clone(), form, start, limit).await
            }
        }
    }

    async fn drop_spine(&self, id: &[u8]) -> Result<()> {
        let id = String::from_utf8_lossy(id).into_owned();
        let spines = self.spines.clone();
        blocking(move || spines.remove(&id)).await
    }
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Stream<HandshakeResponse>;
    type ListFlightsStream = Stream<FlightInfo>;
    type DoGetStream = Stream<FlightData>;
    type DoPutStream = Stream<PutResult>;
    type DoExchangeStream = Stream<FlightData>;
    type DoActionStream = Stream<arrow_flight::Result>;
    type ListActionsStream = Stream<ActionType>;

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let (metadata, _, messages) = request.into_parts();
        let (engine, limits) = (self.engine.clone(), self.limits.clone());
        let (joined, run_id) = exchange::exchange(engine, metadata, messages, limits).await.map_err(plain)?;
        Ok(with_run(joined, &run_id))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let limit = deadline(request.metadata());
        self.put(request.into_inner(), limit).await.map(Response::new).map_err(plain)
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        if !request.into_inner().expression.is_empty() {
            return Err(plain(Error::invalid("criteria are not offered").field("expression")));
        }
        let flights = self.compiled().and_then(|compiled| listing::all(&compiled)).map_err(plain)?;
        Ok(Response::new(futures::stream::iter(flights.into_iter().map(Ok)).boxed()))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let name = command::described_name(&request.into_inner()).map_err(plain)?;
        let schema = self.compiled().and_then(|compiled| listing::schema_of(&compiled, &name)).map_err(plain)?;
        Ok(Response::new(schema))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let (metadata, _, descriptor) = request.into_parts();
        let compiled = self.compiled().map_err(plain)?;
        if let Some(command) = range_command::range_command(&descriptor, &compiled).map_err(plain)? {
            let info = ranges::flight_info(&self.engine, &metadata, descriptor, command).await;
            return info.map(Response::new).map_err(plain);
        }
        let command = command::export_command(&descriptor).map_err(plain)?;
        let info = uploaded::flight_info(self.engine.clone(), &self.spines, &metadata, descriptor, command);
        info.await.map(|(info, run_id)| with_run(info, &run_id)).map_err(plain)
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(not_offered("PollFlightInfo", "ask GetFlightInfo, or send the spine through DoExchange"))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let (metadata, _, ticket) = request.into_parts();
        let limits = self.limits.clone();
        let got = match Asked::read(&ticket).map_err(plain)? {
            Asked::Slices { command, slices } => ranges::get(&self.engine, &metadata, command, slices, limits).await,
            Asked::Part { command, part, form } => {
                uploaded::get(self.engine.clone(), &self.spines, &metadata, (command, part, form), limits).await
            }
        };
        got.map(|(rows, run_id)| with_run(rows, &run_id)).map_err(plain)
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(not_offered("Handshake", "no handshake is needed"))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let Action { r#type: name, body } = request.into_inner();
        if name != DROP_SPINE {
            return Err(not_offered(&format!("the action '{name}'"), &format!("there is {DROP_SPINE}")));
        }
        self.drop_spine(&body).await.map_err(plain)?;
        Ok(Response::new(futures::stream::empty().boxed()))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let description = "Removes the spine of this id, which DoPut has told, before it expires.".to_string();
        let action = ActionType { r#type: DROP_SPINE.to_string(), description };
        Ok(Response::new(futures::stream::iter([Ok(action)]).boxed()))
    }
}
