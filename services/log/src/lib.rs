//! The event log: the trait with Kafka's shape, the embedded log that needs no broker, the log on a Kafka broker, a model with
//! injected faults, and a simulated broker.
//!
//! A topic has a fixed number of partitions; a partition is a sequence of records at strictly increasing offsets (not
//! necessarily dense: a broker's transaction markers take offsets too). What was appended or committed is durable. A
//! transaction makes records and consumer offsets visible together or not at all; making a producer fences every earlier one
//! of the same transactional id.

pub mod chance;
pub mod conformance;
pub mod embedded;
pub mod kafka;
pub mod membership;
pub mod model;
pub mod simulated;

use async_trait::async_trait;
use bytes::Bytes;
use thyme_core::{Error, Result};
use tokio::sync::watch;

pub use embedded::EmbeddedLog;
pub use kafka::{KafkaLog, KafkaSettings};
pub use membership::{Alone, Answering, Member, Node, Onlooker, Presence, Unseen, WORK};

/// Name and value, in order; a name may repeat.
pub type Headers = Vec<(String, Bytes)>;

/// A record to append: an encoded key ([`thyme_core::key`]) and the bytes of a [`thyme_core::record::Record`], or what a topic
/// for other consumers holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    pub key: Bytes,
    pub value: Bytes,
    pub headers: Headers,
}

impl NewRecord {
    /// A record without headers.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> NewRecord {
        NewRecord { key: key.into(), value: value.into(), headers: Headers::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    pub offset: u64,
    pub key: Bytes,
    pub value: Bytes,
    pub headers: Headers,
}

/// Records for one partition, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub topic: String,
    pub partition: u16,
    pub records: Vec<NewRecord>,
}

/// Where the records of a batch lie. Those of others may lie between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub first: u64,
    /// Past the last one.
    pub end: u64,
}

/// What became of a transaction.
#[derive(Debug)]
pub enum CommitOutcome {
    Committed,
    /// Nothing of it is or will be visible. (Of a producer that was fenced while it committed nobody can tell: whoever makes a
    /// producer reads `committed()` before anything is sent again.)
    NotCommitted(Error),
    /// Nobody can tell yet: drop the producer, make a new one (which fences this one) and read `committed()`.
    Unknown(Error),
}

#[async_trait]
pub trait EventLog: Send + Sync {
    /// Names this log among all others, so that a state can tell whether it was made from it.
    fn identity(&self) -> &str;

    /// Idempotent; a topic that exists with another number of partitions is a `Conflict`.
    fn create_topic(&self, topic: &str, partitions: u16) -> Result<()>;

    /// Deletes the topic, its records and the offsets committed for it. `NotFound` if there is none.
    fn delete_topic(&self, topic: &str) -> Result<()>;

    /// Names and numbers of partitions, sorted by name.
    fn topics(&self) -> Result<Vec<(String, u16)>>;

    /// Durable when it returns. Where each batch lies (an empty one: where its first record would have been).
    /// After an error some of it may have been appended: append is at least once, event ids make it exactly once.
    async fn append(&self, batches: Vec<Batch>) -> Result<Vec<Appended>>;

    /// Committed records at `from` or later, in offset order: at most about `max_records` and `max_bytes` (keys and values), but at
    /// least one if there is one that this log has acknowledged, or has given to any reader before: whoever has read further
    /// elsewhere may conclude that nothing lies between. Waits for no record that is not there. `OutOfRange` if `from` is past the end,
    /// `DataLoss` if the records there are gone.
    fn read(
        &self,
        topic: &str,
        partition: u16,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>>;

    /// The same without waiting for what is on its way to this process: it may give nothing although there is a record, and
    /// [`changes`](EventLog::changes) wakes when it has come. For who concludes nothing from that and has other things to do meanwhile.
    fn read_arrived(
        &self,
        topic: &str,
        partition: u16,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>> {
        self.read(topic, partition, from, max_records, max_bytes)
    }

    /// Says that reads from there on are to come, so that the log can fetch ahead.
    fn expect_reads(&self, _topic: &str, _partition: u16, _from: u64) {}

    /// Forgets what was fetched ahead of a topic and what is known of its end: reads that begin now see what the log has now. For
    /// a topic that is read no more: one that is made under its name later is another.
    fn forget(&self, _topic: &str) {}

    /// Where the next record will be, or before: past the last committed record, 0 if there is none.
    fn end_offset(&self, topic: &str, partition: u16) -> Result<u64>;

    /// Changes whenever something was committed to any topic.
    fn changes(&self) -> watch::Receiver<u64>;

    /// A transactional producer. Fences every earlier one with the same id: their commits end as `NotCommitted`.
    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>>;

    /// How many slices the work on this log has: the same for all nodes, and decided here where it is new. One that only one process can
    /// hold has one.
    fn slices(&self) -> Result<u16> {
        Ok(1)
    }

    /// The same for who only reads it, and begins nothing: `None` while no server works on it.
    fn begun_slices(&self) -> Result<Option<u16>> {
        self.slices().map(Some)
    }

    /// Takes part in the group of nodes that would own the work on this log. A log that only one process can hold has one.
    fn join(&self, node: Node) -> Result<Box<dyn Member>> {
        Ok(Box::new(Alone::new(node)))
    }

    /// A node's place among those that answer questions about what is in this log; its address is that of its query service. Nobody else
    /// can be there on a log that only one process can hold.
    fn presence(&self, _node: Node) -> Result<Box<dyn Presence>> {
        Ok(Box::new(Unseen))
    }

    /// What keeps this process from its place among others on the log, which it goes on asking for; `None` while nothing does.
    fn trouble(&self) -> Option<Error> {
        None
    }

    /// Finishes what waits and lets go of what the log holds. Later calls may fail.
    fn close(&self) {}
}

/// A committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The next one to read.
    pub next: u64,
    /// Whether a producer of ours committed it. Where others reach the log too, they may have moved it.
    pub is_ours: bool,
}

/// One transaction at a time: begin, send and `send_offset` as often as needed, then commit or abort. All calls block.
pub trait Producer: Send {
    /// What `group` has committed for the partition.
    fn kept(&mut self, group: &str, topic: &str, partition: u16) -> Result<Option<Kept>>;
    /// The next offset to read of that.
    fn committed(&mut self, group: &str, topic: &str, partition: u16) -> Result<Option<u64>> {
        Ok(self.kept(group, topic, partition)?.map(|kept| kept.next))
    }
    fn begin(&mut self) -> Result<()>;
    fn send(&mut self, batch: Batch) -> Result<()>;
    /// Records within the transaction that `group` goes on at `next`.
    fn send_offset(&mut self, group: &str, topic: &str, partition: u16, next: u64) -> Result<()>;
    fn commit(&mut self) -> CommitOutcome;
    fn abort(&mut self) -> Result<()>;
    /// Whether it must not be used any more: the next transaction needs a new one.
    fn is_spent(&self) -> bool {
        false
    }
}
