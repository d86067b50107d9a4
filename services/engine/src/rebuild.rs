//! The state once more, from the start of the log, to be compared with the one that answers: both must have the same digests. And a
//! state of before, worked off up to the place of another one.
//!
//! The log is only read. Nothing is created, sent or fenced, so that this runs beside the engine; and nothing is read beyond the
//! place of the state that is compared.

use crate::consume::is_router;
use crate::engine::Engine;
use crate::foreign::reader_of;
use crate::spec::{EngineOptions, JobSpec, Role};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use thyme_core::position::PositionSet;
use thyme_core::slice::Slice;
use thyme_core::{Error, Result};
use thyme_log::{Appended, Batch, CommitOutcome, EventLog, Kept, LogRecord, Producer};
use thyme_state::{Snapshot, Snapshots, StateDigest, StateStore, States};
use tokio::sync::watch;

/// The digests of all tables of a job: of the state that was given, and of the one that was built anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    pub state: StateDigest,
    pub rebuilt: StateDigest,
    /// Where in the log both are.
    pub position: PositionSet,
}

impl Comparison {
    pub fn is_equal(&self) -> bool {
        self.state == self.rebuilt
    }
}

/// One partition of a log that is read, up to where the state has read it.
struct Stretch {
    log_id: u32,
    topic: String,
    partition: u16,
    end: u64,
}

/// Fills `fresh`, which must be empty, from the start of the log up to the place of `states`, which must stand still, slice by slice as far
/// as they are here, and compares the tables of `spec`. `progress` is told how many records were read of how many, and says whether to go on.
pub fn rebuild(
    states: &Snapshots,
    fresh: &States,
    log: &Arc<dyn EventLog>,
    spec: &JobSpec,
    options: &EngineOptions,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Comparison> {
    let of = states.slices();
    let mut stretches = BTreeMap::new();
    for (index, state) in states.by_slice() {
        let read = |log_id, partition| state.progress(log_id, partition);
        stretches.insert(index, stretches_of(Slice { index, of }, spec, read)?);
    }
    let total: u64 = stretches.values().flatten().map(|stretch| stretch.end).sum();
    let mut done_before = 0;
    let fresh_states = fresh.all();
    for (&index, stretches) in &stretches {
        let fresh = fresh_states.get(&index).ok_or_else(|| Error::internal("a slice has nowhere to be rebuilt"))?;
        let options = EngineOptions { durable: false, slice: Slice { index, of }, ..options.clone() };
        let mut engine = Engine::open(fresh.clone(), up_to(log, stretches), options)?;
        engine.deploy(spec)?;
        loop {
            let records = engine.step()?;
            let done = done_of(&fresh.snapshot(), stretches)?;
            if !progress(done_before + done, total) {
                return Err(Error::unavailable("the rebuild was given up on"));
            }
            if records == 0 {
                done_before += done;
                break;
            }
        }
    }
    compare(states, &fresh.snapshot(), spec, &stretches)
}

/// Works `state`, which is nobody else's, off up to places of the logs of `spec`, as a follower does: (log id, partition) -> next offset.
/// `goes_on` is asked after each round.
pub fn catch_up(
    state: &Arc<StateStore>,
    log: &Arc<dyn EventLog>,
    spec: &JobSpec,
    places: &HashMap<(u32, u16), u64>,
    options: &EngineOptions,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<()> {
    // Erases of other slices are read as far as the tables need them.
    let end = |reader: u32, partition: u16| match is_router(reader) {
        true => Ok(Some(u64::MAX)),
        false => Ok(places.get(&(reader, partition)).copied()),
    };
    let stretches = stretches_of(options.slice, spec, end)?;
    let options = EngineOptions { durable: false, role: Role::Follower, ..options.clone() };
    let mut engine = Engine::open(state.clone(), up_to(log, &stretches), options)?;
    engine.deploy(spec)?;
    while engine.step()? > 0 {
        if !goes_on() {
            return Err(Error::unavailable("the work on a copy of the state was given up on"));
        }
    }
    Ok(())
}

fn up_to(log: &Arc<dyn EventLog>, stretches: &[Stretch]) -> Arc<dyn EventLog> {
    let ends = stretches.iter().map(|stretch| ((stretch.topic.clone(), stretch.partition), stretch.end)).collect();
    Arc::new(UpTo { log: log.clone(), ends })
}

/// All that a slice reads of the logs of `spec`, up to `end`, by log id and partition.
fn stretches_of(slice: Slice, spec: &JobSpec, end: impl Fn(u32, u16) -> Result<Option<u64>>) -> Result<Vec<Stretch>> {
    let mut found = Vec::new();
    let mut add = |log_id: u32, topic: &str, partition: u16| {
        let end = end(log_id, partition)?.unwrap_or_default();
        found.push(Stretch { log_id, topic: topic.to_string(), partition, end });
        Ok::<(), Error>(())
    };
    for job in &spec.datasets {
        let partitions = job.dataset.partitions;
        let own = std::iter::once((job.log_id, job.dataset.topic()));
        let derived = job.derived().into_iter().map(|log| (log.route.log_id, log.route.route.topic.clone()));
        for (log_id, topic) in own.chain(derived) {
            for partition in slice.partitions(partitions) {
                add(log_id, &topic, partition)?;
            }
        }
        // Other slices' partitions, of which it knows the erases.
        for partition in (0..partitions).filter(|partition| !slice.holds(*partition, partitions)) {
            add(reader_of(job.log_id), &job.dataset.topic(), partition)?;
        }
    }
    Ok(found)
}

fn done_of(fresh: &Snapshot, stretches: &[Stretch]) -> Result<u64> {
    let mut done = 0;
    for stretch in stretches {
        done += fresh.progress(stretch.log_id, stretch.partition)?.unwrap_or_default();
    }
    Ok(done)
}

fn compare(
    state: &Snapshots,
    rebuilt: &Snapshots,
    spec: &JobSpec,
    stretches: &BTreeMap<u16, Vec<Stretch>>,
) -> Result<Comparison> {
    let mut position = PositionSet::default();
    for stretch in stretches.values().flatten().filter(|stretch| !is_router(stretch.log_id)) {
        position.set(stretch.log_id, stretch.partition, stretch.end);
    }
    let tables = tables_of(spec);
    for (table, partitions) in &tables {
        for partition in 0..*partitions {
            let (Ok(state), Ok(rebuilt)) = (state.of(partition, *partitions), rebuilt.of(partition, *partitions))
            else {
                continue;
            };
            let place = |of: &Snapshot| of.progress(*table, partition).map(Option::unwrap_or_default);
            let (is, should) = (place(state)?, place(rebuilt)?);
            if is != should {
                return Err(Error::unavailable(format!(
                    "a table is not as far as its log: table={table} partition={partition} table_at={is} log_at={should}"
                ))
                .hint("it is being built; try again when thyme status shows no build"));
            }
        }
    }
    let only_those = |digest: StateDigest| StateDigest {
        tables: digest.tables.into_iter().filter(|(table, _)| tables.contains_key(table)).collect(),
    };
    Ok(Comparison { state: only_those(state.digest()?), rebuilt: only_those(rebuilt.digest()?), position })
}

/// Every table with the number of partitions of the log it is filled from.
fn tables_of(spec: &JobSpec) -> BTreeMap<u32, u16> {
    let mut tables = BTreeMap::new();
    for job in &spec.datasets {
        let ids =
            job.all_pipelines().map(|pipeline| pipeline.table.id).chain(job.raw_table.as_ref().map(|table| table.id));
        tables.extend(ids.map(|id| (id, job.dataset.partitions)));
    }
    tables
}

/// A log that can only be read, and only up to a place.
struct UpTo {
    log: Arc<dyn EventLog>,
    ends: HashMap<(String, u16), u64>,
}

fn only_read(what: &str) -> Error {
    Error::internal(format!("a rebuild only reads the log: {what}"))
}

#[async_trait]
impl EventLog for UpTo {
    fn identity(&self) -> &str {
        self.log.identity()
    }

    /// Those that the state was made from are there.
    fn create_topic(&self, _topic: &str, _partitions: u16) -> Result<()> {
        Ok(())
    }

    fn delete_topic(&self, topic: &str) -> Result<()> {
        Err(only_read(&format!("deleting {topic}")))
    }

    fn topics(&self) -> Result<Vec<(String, u16)>> {
        self.log.topics()
    }

    async fn append(&self, _batches: Vec<Batch>) -> Result<Vec<Appended>> {
        Err(only_read("appending"))
    }

    fn read(
        &self,
        topic: &str,
        partition: u16,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>> {
        let end = self.ends.get(&(topic.to_string(), partition)).copied().unwrap_or_default();
        if from >= end {
            return Ok(Vec::new());
        }
        let mut records = self.log.read(topic, partition, from, max_records, max_bytes)?;
        let keep = records.partition_point(|record| record.offset < end);
        records.truncate(keep);
        Ok(records)
    }

    fn end_offset(&self, topic: &str, partition: u16) -> Result<u64> {
        self.log.end_offset(topic, partition)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.log.changes()
    }

    fn producer(&self, _transactional_id: &str) -> Result<Box<dyn Producer>> {
        Ok(Box::new(Silent { log: self.log.clone() }))
    }
}

/// A producer for which everything has been sent.
struct Silent {
    log: Arc<dyn EventLog>,
}

impl Producer for Silent {
    fn kept(&mut self, _group: &str, topic: &str, partition: u16) -> Result<Option<Kept>> {
        Ok(Some(Kept { next: self.log.end_offset(topic, partition)?, is_ours: true }))
    }

    fn begin(&mut self) -> Result<()> {
        Err(only_read("a transaction"))
    }

    fn send(&mut self, batch: Batch) -> Result<()> {
        Err(only_read(&format!("sending to {}", batch.topic)))
    }

    fn send_offset(&mut self, group: &str, _topic: &str, _partition: u16, _next: u64) -> Result<()> {
        Err(only_read(&format!("an offset of {group}")))
    }

    fn commit(&mut self) -> CommitOutcome {
        CommitOutcome::NotCommitted(only_read("a commit"))
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}
