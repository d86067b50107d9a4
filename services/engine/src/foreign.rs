//! Erases of partitions that other slices work on. A table that leaves out what is erased (see `erased.rs`) reads events of all partitions
//! of the dataset's log, so it needs the erases of all. Those of its own slice the engine knows from its shards; the others it looks for in
//! the log itself, up to the places below which its tables know them, and keeps them in its state like its own.

use crate::consume::ROUTER_BIT;
use crate::poison::key_fault;
use crate::shard::READ_BYTES;
use crate::spec::{DatasetJob, EngineOptions, JobSpec};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::definition::CompiledDataset;
use thyme_core::record::Record;
use thyme_core::slice::Slice;
use thyme_core::{ErrorKind, Result};
use thyme_log::EventLog;
use thyme_state::{Snapshot, Tick};

/// One partition of a dataset's own log that is another slice's.
pub struct Foreign {
    dataset: Arc<CompiledDataset>,
    pub log_id: u32,
    pub partition: u16,
    /// Next offset to read.
    pub next: u64,
    /// The tables know the erases below this place.
    below: u64,
}

/// What one round brought.
pub struct ReadElsewhere {
    pub records: usize,
    pub next: u64,
}

/// Progress is kept under the dataset's log with this bit set: a router's has that of a log that is filled.
pub fn reader_of(log_id: u32) -> u32 {
    log_id | ROUTER_BIT
}

/// Those that the tables of a slice need, in the order in which they are read: first what follows the slice. So each of several
/// slices begins at a partition of its own, and few read one partition at the same time.
pub fn foreign_of(snapshot: &Snapshot, spec: &JobSpec, slice: Slice) -> Result<Vec<Foreign>> {
    let mut found = Vec::new();
    // Where the slice has no partition it has no tables.
    let is_here = |job: &&DatasetJob| !slice.partitions(job.dataset.partitions).is_empty();
    for job in spec.datasets.iter().filter(is_here) {
        for (partition, below) in (0u16..).zip(places_of(job)) {
            if below == 0 || slice.holds(partition, job.dataset.partitions) {
                continue;
            }
            let next = snapshot.progress(reader_of(job.log_id), partition)?.unwrap_or_default();
            found.push(Foreign { dataset: job.dataset.clone(), log_id: job.log_id, partition, next, below });
        }
    }
    found.sort_by_key(|foreign| foreign.partition < slice.partitions(foreign.dataset.partitions).start);
    Ok(found)
}

/// For each partition the place below which some table knows the erases.
fn places_of(job: &DatasetJob) -> Vec<u64> {
    let mut places = vec![0; usize::from(job.dataset.partitions)];
    for pipeline in job.all_pipelines() {
        for (place, known) in places.iter_mut().zip(&pipeline.pipeline.erased) {
            *place = (*place).max(*known);
        }
    }
    places
}

impl Foreign {
    /// Whether there is more to read.
    pub fn is_behind(&self) -> bool {
        self.next < self.below
    }

    /// Reads on and keeps the erases.
    pub fn read(
        &self,
        snapshot: &Snapshot,
        tick: &mut Tick,
        log: &dyn EventLog,
        options: &EngineOptions,
    ) -> Result<ReadElsewhere> {
        let (topic, partition) = (self.dataset.topic(), self.partition);
        let nothing = ReadElsewhere { records: 0, next: self.next };
        let read = log.read(&topic, partition, self.next, options.tick_records, READ_BYTES);
        // A follower may be behind a takeover that deleted the log.
        if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Ok(nothing);
        }
        let records = read?;
        let Some(last) = records.last() else { return Ok(nothing) };
        let mut erased: BTreeMap<&Bytes, Vec<u64>> = BTreeMap::new();
        for record in &records {
            let is_erase = matches!(Record::decode(&record.value), Ok(Record::Erase { .. }));
            if is_erase && key_fault(&self.dataset, partition, &record.key).is_none() {
                erased.entry(&record.key).or_default().push(record.offset);
            }
        }
        for (key, more) in erased {
            let mut offsets = snapshot.erased(self.log_id, partition, key)?;
            offsets.extend(more);
            tick.put_erased(self.log_id, partition, key, &offsets)?;
        }
        let next = last.offset + 1;
        tick.put_progress(reader_of(self.log_id), partition, next)?;
        Ok(ReadElsewhere { records: records.len(), next })
    }
}
