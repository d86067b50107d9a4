//! A topic of Kafka as a source: every committed record is read once, partition by partition in the order of its offsets.
//!
//! - **Where it stands** is the source's own cursor, an offset per partition. Nobody joins a consumer group and no offset is
//!   committed to the broker, so nothing there expires or moves, and a reset is Thyme's own.
//! - **Rounds.** A poll asks for the bounds of every partition and reads from the cursor up to the ends that it was told; one
//!   poll may end within a round, and the next goes on. Records of open and aborted transactions are never seen.
//! - **No silent gap.** Records that retention deleted before they were read, a topic that was made anew, one of another
//!   cluster: each is an error that says so. The last record that was read is looked at again when a connection is new.
//! - A partition that is added later is read from its first record.
//! - A record without a value, or one that is none of the dataset, goes to the dead letters with partition and offset.
//! - A record's event id is its partition, its offset and a hash of topic and content: a topic that was made anew has other ids.

mod avro;
mod client;
mod context;
mod cursor;
mod datum;
mod decimal;
mod decode;
mod errors;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod on_kafka;
mod protobuf;
mod registry;
mod round;
mod schemas;
mod settings;
#[cfg(test)]
mod tests;

use crate::saved::Saved as _;
use crate::{Connector, Place, Poll, RejectedRow, Source, SourceRow};
use client::Client;
use cursor::Cursor;
use decode::Decoder;
use round::{Record, Round};
use settings::Settings;
use std::time::Duration;
use thyme_core::Result;
use thyme_core::definition::SourceDef;
use thyme_core::record::EventId;
use thyme_core::schema::Field;

/// A topic is followed, so it is looked at often.
pub const CONNECTOR: Connector =
    Connector { kind: "kafka", settings: settings::NAMES, every: Duration::from_millis(200), open };

fn open(source: &SourceDef, fields: &[Field]) -> Result<Box<dyn Source>> {
    let settings = Settings::of(source)?;
    let decoder = Decoder::new(&settings, fields);
    Ok(Box::new(KafkaSource { settings, decoder, client: None, round: None }))
}

struct KafkaSource {
    settings: Settings,
    decoder: Decoder,
    client: Option<Client>,
    /// What the last poll left unread of what it knew to be there.
    round: Option<Round>,
}

impl Source for KafkaSource {
    fn poll(&mut self, cursor: Option<&[u8]>, max_rows: usize) -> Result<Poll> {
        let saved = cursor.map(Cursor::decode).transpose()?;
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.settings)?,
        };
        let going_on = self.round.take().filter(|round| Some(&round.cursor) == saved.as_ref());
        let mut round = match going_on {
            Some(round) => round,
            None => Round::begin(&mut client, saved)?,
        };
        let records = round.read(&mut client, max_rows.max(1))?;
        let has_more = !round.is_over();
        let mut poll = Poll { rows: vec![], rejected: vec![], cursor: round.cursor.encode()?, has_more, pending: None };
        // Whatever failed above, the next poll has a new connection and reads the same again.
        self.client = Some(client);
        // A schema registry that does not answer is no fault of the brokers: the same is read again, by the same connection.
        for record in &records {
            self.take(record, &mut poll)?;
        }
        self.round = has_more.then_some(round);
        Ok(poll)
    }
}

impl KafkaSource {
    fn take(&mut self, record: &Record, poll: &mut Poll) -> Result<()> {
        let Record { partition, offset, hash, value } = record;
        let id = EventId::Given(format!("kafka:{partition}:{offset}:{hash:016x}").into_bytes().into());
        match self.decoder.read(value.as_deref())? {
            Ok(values) => poll.rows.push(SourceRow { values, id }),
            Err(unfit) => poll.rejected.push(RejectedRow {
                place: Place::Record { partition: *partition, offset: *offset },
                reason: unfit.reason,
                sample: unfit.sample,
                values: unfit.values,
                id,
            }),
        }
        Ok(())
    }
}
