//! Emitters: an aggregated dataset's rows for other consumers, one record per accepted event of its pipeline. An emitter follows
//! its pipeline: it reads the same log up to where the pipeline stands in the committed state, and asks that state for each row
//! as of the event's own position. So no row depends on how the log was cut into ticks, on restarts, or on when it was written.

use crate::consume::Row;
use crate::erased::LeftOut;
use crate::spec::EmitJob;
use bytes::Bytes;
use thyme_core::Result;
use thyme_core::definition::CompiledPipeline;
use thyme_core::expr::Warnings;
use thyme_log::{Batch, LogRecord, NewRecord};
use thyme_state::{Snapshot, Table, Visible};

/// The topic of the log that the pipeline reads, and the event's place there: what a consumer knows a record by.
pub const LOG_HEADER: &str = "thyme-log";
pub const PARTITION_HEADER: &str = "thyme-partition";
pub const OFFSET_HEADER: &str = "thyme-offset";
/// Names of fields that have no value there, separated by commas; left out if there are none.
pub const ERRORS_HEADER: &str = "thyme-errors";

/// What one emitter writes.
#[derive(Clone)]
pub struct Emitter {
    pub job: EmitJob,
    /// The pipeline's.
    pub table: Table,
}

impl Emitter {
    pub fn pipeline(&self) -> &CompiledPipeline {
        &self.job.emission.pipeline
    }

    /// The records of some rows, which are of one partition, in log order, and in `snapshot` unless they are left out.
    pub fn records(
        &self,
        snapshot: &Snapshot,
        source: &str,
        partition: u16,
        rows: &[Row],
        left_out: &LeftOut,
    ) -> Result<Batch> {
        let emission = &self.job.emission;
        // Counted where the pipeline takes the event in.
        let mut warnings = Warnings::default();
        let mut records = Vec::with_capacity(rows.len());
        for row in rows.iter().filter(|row| !left_out.covers(row)) {
            if self.pipeline().program.run(&row.values, &mut warnings).is_none() {
                continue;
            }
            let visible = Visible { sequence_below: Some(row.sequence + 1), appended_by: None };
            let data = snapshot.read(&self.table, &row.key, row.time, &emission.plan.windows, &visible)?;
            let made = emission.row(&row.key, row.time, &data)?;
            let mut headers = vec![
                (LOG_HEADER.to_string(), Bytes::copy_from_slice(source.as_bytes())),
                (PARTITION_HEADER.to_string(), partition.to_string().into()),
                (OFFSET_HEADER.to_string(), row.sequence.to_string().into()),
            ];
            if !made.failed.is_empty() {
                headers.push((ERRORS_HEADER.to_string(), made.failed.join(",").into()));
            }
            records.push(NewRecord { key: row.key.clone(), value: made.json.into(), headers });
        }
        Ok(Batch { topic: emission.topic(), partition, records })
    }
}

/// The offset after the event that a record was written for.
pub fn next_offset_of(record: &LogRecord) -> Option<u64> {
    let (_, offset) = record.headers.iter().find(|(name, _)| name == OFFSET_HEADER)?;
    std::str::from_utf8(offset).ok()?.parse::<u64>().ok()?.checked_add(1)
}
