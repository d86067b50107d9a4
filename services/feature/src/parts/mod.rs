//! Parts of questions between nodes (`docs/decisions/0025-forwarding.md`): [`service`] answers them, [`GrpcPeers`] asks them.

mod client;
#[cfg(test)]
mod tests;
mod wire;

pub use client::GrpcPeers;

use std::sync::Arc;
use thyme_core::Result;
use thyme_proto::internal::v1;
use thyme_proto::internal::v1::part_service_server::{PartService, PartServiceServer};
use thyme_proto::status::to_status;
use thyme_query::QueryEngine;
use tonic::{Request, Response, Status};

/// The largest message: of a part with the most rows that a question may have.
const MAX_MESSAGE_BYTES: usize = 1 << 30;

pub struct Parts {
    engine: Arc<QueryEngine>,
}

/// The service, with its limits.
pub fn service(engine: Arc<QueryEngine>) -> PartServiceServer<Parts> {
    PartServiceServer::new(Parts { engine })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl Parts {
    async fn read(&self, request: v1::ReadPartRequest) -> Result<v1::ReadPartResponse> {
        Ok(wire::answer_to_wire(self.engine.read_part(wire::part_from_wire(request)?).await?))
    }

    async fn look_up(&self, request: v1::LookUpPartRequest) -> Result<v1::LookUpPartResponse> {
        Ok(wire::row_to_wire(&self.engine.look_up_part(wire::lookup_from_wire(request)?).await?))
    }

    async fn event_time(&self, request: v1::GreatestEventTimeRequest) -> Result<v1::GreatestEventTimeResponse> {
        let greatest = self.engine.greatest_event_time_in(wire::asking_from_wire(request.asking)?).await?;
        let event_time = greatest.map(thyme_proto::convert::time_to_wire);
        Ok(v1::GreatestEventTimeResponse { event_time })
    }

    async fn erases(&self, request: v1::ErasedBelowRequest) -> Result<v1::ErasedBelowResponse> {
        let of = wire::erased_log_from_wire(&request)?;
        let places = self.engine.erased_below_in(wire::asking_from_wire(request.asking)?, of).await?;
        Ok(v1::ErasedBelowResponse { places })
    }
}

fn respond<T>(message: Result<T>) -> Result<Response<T>, Status> {
    message.map(Response::new).map_err(|error| to_status(&error))
}

#[tonic::async_trait]
impl PartService for Parts {
    async fn read_part(&self, request: Request<v1::ReadPartRequest>) -> Result<Response<v1::ReadPartResponse>, Status> {
        respond(self.read(request.into_inner()).await)
    }

    async fn look_up_part(
        &self,
        request: Request<v1::LookUpPartRequest>,
    ) -> Result<Response<v1::LookUpPartResponse>, Status> {
        respond(self.look_up(request.into_inner()).await)
    }

    async fn greatest_event_time(
        &self,
        request: Request<v1::GreatestEventTimeRequest>,
    ) -> Result<Response<v1::GreatestEventTimeResponse>, Status> {
        respond(self.event_time(request.into_inner()).await)
    }

    async fn erased_below(
        &self,
        request: Request<v1::ErasedBelowRequest>,
    ) -> Result<Response<v1::ErasedBelowResponse>, Status> {
        respond(self.erases(request.into_inner()).await)
    }
}
