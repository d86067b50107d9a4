//! Asking other nodes, over one connection to each.

use super::{MAX_MESSAGE_BYTES, wire};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use thyme_core::time::Micros;
use thyme_core::{Error, Result};
use thyme_proto::convert::time_from_wire;
use thyme_proto::internal::v1;
use thyme_proto::internal::v1::part_service_client::PartServiceClient;
use thyme_proto::status::{from_status, is_of_thyme};
use thyme_query::{ErasedLog, LookupPart, LookupPartAnswer, Part, PartAnswer, PartAsking, Peers};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// A node that cannot be reached so fast is not asked.
const CONNECT: Duration = Duration::from_secs(1);
/// A connection on which nothing was heard for so long is asked for a sign of life, and given up on after as long again.
const ALIVE: Duration = Duration::from_secs(1);

/// The other nodes by the addresses of their query services. A channel connects when it is first used, again when it has broken, and
/// carries many calls at once.
#[derive(Default)]
pub struct GrpcPeers {
    channels: Mutex<HashMap<String, Channel>>,
}

impl GrpcPeers {
    fn client(&self, url: &str) -> Result<PartServiceClient<Channel>> {
        let mut channels = self.channels.lock();
        let channel = match channels.get(url) {
            Some(channel) => channel.clone(),
            None => {
                let wrong = |_| Error::unavailable(format!("'{url}' is no address of a node"));
                let endpoint = Endpoint::from_shared(url.to_string()).map_err(wrong)?;
                let channel = endpoint
                    .connect_timeout(CONNECT)
                    .http2_keep_alive_interval(ALIVE)
                    .keep_alive_timeout(ALIVE)
                    .tcp_nodelay(true)
                    .connect_lazy();
                channels.insert(url.to_string(), channel.clone());
                channel
            }
        };
        Ok(PartServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }
}

/// What does not come from the other node's engine is the connection's fault: another node may be asked.
fn failed(status: &Status) -> Error {
    if is_of_thyme(status) {
        return from_status(status);
    }
    Error::unavailable(format!("the connection failed: {}", status.message()))
}

#[tonic::async_trait]
impl Peers for GrpcPeers {
    async fn read(&self, url: &str, part: Part) -> Result<PartAnswer> {
        let answer = self.client(url)?.read_part(wire::part_to_wire(part)).await;
        wire::answer_from_wire(answer.map_err(|status| failed(&status))?.into_inner())
    }

    async fn look_up(&self, url: &str, part: LookupPart) -> Result<LookupPartAnswer> {
        let answer = self.client(url)?.look_up_part(wire::lookup_to_wire(part)).await;
        wire::row_from_wire(answer.map_err(|status| failed(&status))?.into_inner())
    }

    async fn greatest_event_time(&self, url: &str, place: PartAsking) -> Result<Option<Micros>> {
        let request = v1::GreatestEventTimeRequest { asking: Some(wire::asking_to_wire(place)) };
        let answer = self.client(url)?.greatest_event_time(request).await;
        let answer = answer.map_err(|status| failed(&status))?.into_inner();
        answer.event_time.as_ref().map(time_from_wire).transpose()
    }

    async fn erased_below(&self, url: &str, place: PartAsking, of: ErasedLog) -> Result<Vec<u64>> {
        let asking = Some(wire::asking_to_wire(place));
        let request = v1::ErasedBelowRequest { asking, log: of.log, partitions: of.partitions.into() };
        let answer = self.client(url)?.erased_below(request).await;
        Ok(answer.map_err(|status| failed(&status))?.into_inner().places)
    }
}
