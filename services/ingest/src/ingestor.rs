//! [`Ingestor`]: validates, stamps and appends.

use crate::rows::{EncodedRows, Ids, RejectedRow, RowEncoder};
use crate::target::{Target, Targets};
use arrow_array::RecordBatch;
use parking_lot::RwLock;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::position::PositionSet;
use thyme_core::record::Record;
use thyme_core::time::Clock;
use thyme_core::{Error, Result, Value, key};
use thyme_log::{Batch, EventLog, NewRecord};
use tokio::sync::Semaphore;

/// Encoded bytes that may wait for the log at once; further callers wait their turn.
const MAX_WAITING_KIB: u32 = 256 << 10;

/// Rows in any of the forms they arrive in.
#[derive(Debug)]
pub enum Rows {
    /// By field name; a row that could not be read is its error.
    Named(Vec<Result<BTreeMap<String, Value>>>),
    /// Objects in the public JSON form.
    Json(Vec<Json>),
    /// Columns of equal length; a value that could not be read is its error.
    Columns(Vec<(String, Vec<Result<Value>>)>),
    Arrow(Vec<RecordBatch>),
}

/// How rows are told apart when they are sent again; see [`Ids`].
#[derive(Debug, Clone, Default)]
pub struct RowIds {
    /// The call, and the number of the first row within it.
    pub call: Option<(u128, u32)>,
    /// One per row, or none at all.
    pub event_ids: Vec<String>,
    /// The column of Arrow rows that holds them.
    pub event_id_column: Option<String>,
}

impl RowIds {
    pub fn ids(&self) -> Ids {
        self.call.map_or(Ids::None, |(call, first_row)| Ids::Call { call, first_row })
    }
}

/// What became of a call's rows.
#[derive(Debug, Default)]
pub struct IngestReceipt {
    /// Appended.
    pub accepted: u64,
    pub rejected: Vec<RejectedRow>,
    /// Where they lie: an answer at least at it has seen them.
    pub position: PositionSet,
}

/// A key to erase.
#[derive(Debug, Clone)]
pub enum GivenKey {
    /// By key field.
    Named(BTreeMap<String, Value>),
    /// An object by key field or, where there is one key field, its bare value.
    Json(Json),
}

#[derive(Debug)]
pub struct EraseReceipt {
    pub erased: u64,
    pub position: PositionSet,
    /// Tables that group the dataset by another key still hold erased events: they are built anew and then take over.
    pub pending: bool,
}

/// Told of every erased key once its record is in the log: what is kept of it elsewhere goes too.
#[tonic::async_trait]
pub trait EraseListener: Send + Sync {
    /// The components of the keys, in key order. An error fails the erase; it is safe to repeat.
    async fn erased(&self, keys: &[Vec<Value>]) -> Result<()>;
}

/// Knows how far the erases of a dataset's log have been read.
#[tonic::async_trait]
pub trait EraseWatch: Send + Sync {
    /// For each partition the place after its newest erase, once everything that is in the log now has been read; `None` if that takes
    /// too long.
    async fn erased_below(&self, target: &Target) -> Result<Option<Vec<u64>>>;
}

/// Appends rows to dataset logs.
pub struct Ingestor {
    erase_listener: Option<Arc<dyn EraseListener>>,
    erase_watch: Option<Arc<dyn EraseWatch>>,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    targets: RwLock<Arc<Targets>>,
    waiting: Semaphore,
}

impl Ingestor {
    pub fn new(log: Arc<dyn EventLog>, clock: Arc<dyn Clock>) -> Ingestor {
        let waiting = Semaphore::new(MAX_WAITING_KIB as usize);
        Ingestor { erase_listener: None, erase_watch: None, log, clock, targets: RwLock::default(), waiting }
    }

    pub fn with_erase_listener(mut self, listener: Arc<dyn EraseListener>) -> Ingestor {
        self.erase_listener = Some(listener);
        self
    }

    pub fn with_erase_watch(mut self, watch: Arc<dyn EraseWatch>) -> Ingestor {
        self.erase_watch = Some(watch);
        self
    }

    /// Takes over the datasets of a deployment. Their topics exist already.
    pub fn deploy(&self, targets: Targets) {
        *self.targets.write() = Arc::new(targets);
    }

    /// The dataset to write to; an error names the nearest one.
    pub fn target(&self, dataset: &str) -> Result<Arc<Target>> {
        self.targets.read().get(dataset)
    }

    /// An encoder of rows of this dataset, stamped with the time of now.
    pub fn encoder<'t>(&self, target: &'t Target, ids: Ids) -> RowEncoder<'t> {
        RowEncoder::new(&target.schema, self.clock.now(), ids)
    }

    /// Validates and appends. Bad rows are in the receipt; an error means that nothing was taken, or that the log failed and
    /// sending the same ids again is safe.
    pub async fn ingest(&self, dataset: &str, rows: Rows, ids: &RowIds) -> Result<IngestReceipt> {
        let target = self.target(dataset)?;
        let mut encoder = self.encoder(&target, ids.ids());
        encode(&mut encoder, rows, ids)?;
        self.append(&target, encoder.finish()).await
    }

    /// Appends encoded rows; durable when it returns.
    pub async fn append(&self, target: &Target, rows: EncodedRows) -> Result<IngestReceipt> {
        let dataset = &target.schema.dataset;
        let rejected = rows.rejected.len() as u64;
        let position = self.append_records(target, rows.partitions).await?;
        metrics::counter!("thyme_ingest_appended_rows_total", "dataset" => dataset.clone()).increment(rows.accepted);
        metrics::counter!("thyme_ingest_rejected_rows_total", "dataset" => dataset.clone()).increment(rejected);
        Ok(IngestReceipt { accepted: rows.accepted, rejected: rows.rejected, position })
    }

    async fn append_records(&self, target: &Target, partitions: Vec<Vec<NewRecord>>) -> Result<PositionSet> {
        let mut batches = Vec::new();
        for (partition, records) in partitions.into_iter().enumerate() {
            if !records.is_empty() {
                batches.push(Batch { topic: target.topic.clone(), partition: partition as u16, records });
            }
        }
        let mut position = PositionSet::default();
        if batches.is_empty() {
            return Ok(position);
        }
        let records = batches.iter().flat_map(|batch| &batch.records);
        let bytes: usize = records.map(|record| record.key.len() + record.value.len()).sum();
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(MAX_WAITING_KIB);
        let _permit = self.waiting.acquire_many(kib).await.map_err(|_| Error::unavailable("the server is stopping"))?;
        let partitions: Vec<u16> = batches.iter().map(|batch| batch.partition).collect();
        let appended = self.log.append(batches).await.map_err(|error| target.not_listed(error))?;
        for (partition, place) in partitions.into_iter().zip(appended) {
            position.set(target.log, partition, place.end);
        }
        Ok(position)
    }

    /// Appends an erase of each key: on any replay, their events below it are not accepted. Without keys nothing is written, and the
    /// receipt says whether an earlier erase is pending.
    pub async fn erase(&self, dataset: &str, keys: Vec<GivenKey>) -> Result<EraseReceipt> {
        let target = self.target(dataset)?;
        if keys.is_empty() {
            let pending = self.is_pending(&target).await?;
            return Ok(EraseReceipt { erased: 0, position: PositionSet::default(), pending });
        }
        let erased = keys.len() as u64;
        let value = bytes::Bytes::from(Record::Erase { append_time: self.clock.now() }.encode());
        let mut partitions: Vec<Vec<NewRecord>> = Vec::new();
        partitions.resize_with(usize::from(target.schema.partitions), Vec::new);
        let mut components = Vec::with_capacity(keys.len());
        for (index, given) in keys.into_iter().enumerate() {
            let encoded = erased_key(&target, given).map_err(|error| error.context(format_args!("key {index}")))?;
            components.push(key::decode_key(&encoded)?);
            let partition = key::partition(&encoded, target.schema.partitions);
            partitions[usize::from(partition)].push(NewRecord::new(encoded, value.clone()));
        }
        let position = self.append_records(&target, partitions).await?;
        if let Some(listener) = &self.erase_listener {
            listener.erased(&components).await?;
        }
        // What was appended just now is in no table yet.
        Ok(EraseReceipt { erased, position, pending: !target.regrouped.is_empty() })
    }

    async fn is_pending(&self, target: &Target) -> Result<bool> {
        let Some(watch) = self.erase_watch.as_ref().filter(|_| !target.regrouped.is_empty()) else { return Ok(false) };
        let read = watch.erased_below(target).await.map_err(|error| target.not_listed(error))?;
        Ok(read.is_none_or(|places| target.has_not_left_out(&places)))
    }
}

fn encode(encoder: &mut RowEncoder<'_>, rows: Rows, ids: &RowIds) -> Result<()> {
    let event_id = |index: usize| ids.event_ids.get(index).map(String::as_bytes);
    if ids.event_id_column.is_some() && !matches!(rows, Rows::Arrow(_)) {
        return Err(Error::invalid("an event_id_column goes with Arrow rows").field("event_id_column"));
    }
    match rows {
        Rows::Named(rows) => {
            crate::rows::check_event_ids(&ids.event_ids, rows.len())?;
            rows.into_iter().enumerate().for_each(|(index, row)| encoder.named(row, event_id(index)));
        }
        Rows::Json(rows) => {
            crate::rows::check_event_ids(&ids.event_ids, rows.len())?;
            rows.iter().enumerate().for_each(|(index, row)| encoder.json(row, event_id(index)));
        }
        Rows::Columns(columns) => encoder.columns(columns, &ids.event_ids)?,
        Rows::Arrow(batches) => {
            let count = batches.iter().map(RecordBatch::num_rows).sum();
            crate::rows::check_event_ids(&ids.event_ids, count)?;
            let mut rest = ids.event_ids.as_slice();
            for batch in &batches {
                let (here, after) = rest.split_at(batch.num_rows().min(rest.len()));
                rest = after;
                encoder.arrow(batch, ids.event_id_column.as_deref(), here)?;
            }
        }
    }
    Ok(())
}

fn erased_key(target: &Target, given: GivenKey) -> Result<Vec<u8>> {
    let schema = &target.schema;
    let mut named = match given {
        GivenKey::Named(named) => named,
        GivenKey::Json(Json::Object(entries)) => {
            let mut named = BTreeMap::new();
            for (name, json) in entries {
                let column = schema.key_column(&name)?;
                let value = Value::from_json(&json, &schema.fields[column].data_type);
                named.insert(name.clone(), value.map_err(|error| error.field(name))?);
            }
            named
        }
        GivenKey::Json(json) => {
            let &[column] = schema.key_columns.as_slice() else {
                return Err(Error::invalid("a key of several fields is an object with each of them"));
            };
            let field = &schema.fields[column];
            let value = Value::from_json(&json, &field.data_type).map_err(|error| error.field(&*field.name))?;
            BTreeMap::from([(field.name.clone(), value)])
        }
    };
    let mut components = Vec::with_capacity(schema.key_columns.len());
    for &column in &schema.key_columns {
        components.push(schema.key_component(column, named.remove(&schema.fields[column].name))?);
    }
    if let Some(name) = named.keys().next() {
        schema.key_column(name)?;
    }
    key::encode_key(&components).ok_or_else(|| Error::invalid("a key component is null"))
}

/// A call id: a UUID in any of its spellings; empty means none.
pub fn parse_call_id(text: &str) -> Result<Option<u128>> {
    if text.is_empty() {
        return Ok(None);
    }
    let id = uuid::Uuid::parse_str(text).map_err(|_| {
        Error::invalid(format!("not a call id: '{text}'"))
            .field("call_id")
            .hint("a call_id is a UUID, made once per call")
    })?;
    Ok(Some(id.as_u128()))
}
