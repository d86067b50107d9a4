//! Arrow Flight: bulk export (DoExchange), bulk ingest (DoPut), listings. A stock client needs no stub: commands have a JSON
//! form, and errors say everything in their message.

mod command;
mod ending;
mod exchange;
mod listing;
mod put;
mod stream;

use crate::grpc::RUN_ID_HEADER;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{BoxStream, StreamExt as _};
use std::sync::Arc;
use thyme_core::definition::Compiled;
use thyme_core::{Error, ErrorKind, Result};
use thyme_ingest::Ingestor;
use thyme_proto::deadline::deadline;
use thyme_proto::status::to_plain_status;
use thyme_query::QueryEngine;
use tonic::{Request, Response, Status, Streaming};

/// The largest message that is read or written.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

pub struct Flight {
    engine: Arc<QueryEngine>,
    /// `None` where the process does not have the ingest role.
    ingestor: Option<Arc<Ingestor>>,
}

/// The service, with its limits.
pub fn service(engine: Arc<QueryEngine>, ingestor: Option<Arc<Ingestor>>) -> FlightServiceServer<Flight> {
    FlightServiceServer::new(Flight { engine, ingestor })
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

impl Flight {
    fn compiled(&self) -> Result<Arc<Compiled>> {
        self.engine.compiled().ok_or_else(|| {
            Error::not_found("nothing is committed yet").hint("commit definitions first: thyme commit features.py")
        })
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
        let (joined, run_id) = exchange::exchange(self.engine.clone(), metadata, messages).await.map_err(plain)?;
        let mut response = Response::new(joined);
        if let Ok(run_id) = run_id.parse() {
            response.metadata_mut().insert(RUN_ID_HEADER, run_id);
        }
        Ok(response)
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let ingestor = self.ingestor.clone().ok_or_else(|| {
            plain(Error::precondition("this process does not take rows").hint("it runs without the ingest role"))
        })?;
        let limit = deadline(request.metadata());
        put::put(ingestor, request.into_inner(), limit).await.map(Response::new).map_err(plain)
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

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(not_offered("GetFlightInfo", "send the spine through DoExchange"))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(not_offered("PollFlightInfo", "send the spine through DoExchange"))
    }

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Err(not_offered("DoGet", "send the spine through DoExchange"))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(not_offered("Handshake", "no handshake is needed"))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let name = request.into_inner().r#type;
        Err(not_offered(&format!("the action '{name}'"), "there are no actions"))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Ok(Response::new(futures::stream::empty().boxed()))
    }
}
