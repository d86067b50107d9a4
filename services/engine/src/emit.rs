//! Emitters: an aggregated dataset's rows, one per accepted event of its pipeline, for other consumers or for the pipelines that read
//! the dataset. An emitter follows its pipeline: it reads the same log up to where the pipeline stands in the committed state, and
//! asks that state for each row as of the event's own position. So no row depends on how the log was cut into ticks, on restarts, or
//! on when it was written.

use crate::consume::{MemberKind, ROUTER_BIT, Row, SourceEnd, route};
use crate::erased::LeftOut;
use crate::shard::{Advance, READ_BYTES, Shard};
use crate::spec::{EngineOptions, PipelineJob, RouteJob};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::definition::{CompiledPipeline, Emission};
use thyme_core::expr::Warnings;
use thyme_core::failpoint::{Point, pass};
use thyme_core::{Result, Value};
use thyme_log::{Batch, EventLog, LogRecord, NewRecord};
use thyme_state::{CounterScope, Snapshot, Table, Tick, Visible};

/// The topic of the log that the pipeline reads, and the event's place there: what a consumer knows a record by.
pub const LOG_HEADER: &str = "thyme-log";
pub const PARTITION_HEADER: &str = "thyme-partition";
pub const OFFSET_HEADER: &str = "thyme-offset";
/// Names of fields that have no value there, separated by commas; left out if there are none.
pub const ERRORS_HEADER: &str = "thyme-errors";

/// What one emitter writes, and where to.
#[derive(Clone)]
pub struct Emitter {
    pub emission: Arc<Emission>,
    /// The pipeline's.
    pub table: Table,
    /// Under which its progress is kept.
    pub consumer: u32,
    pub output: Output,
}

#[derive(Clone)]
pub enum Output {
    /// The dataset's topic, for other consumers.
    Topic,
    /// The log that pipelines on the dataset read.
    Feed(Arc<RouteJob>),
}

/// An event's row, as of its own position.
struct Made<'a> {
    of: &'a Row,
    values: Vec<Value>,
    failed: Vec<String>,
}

impl Emitter {
    /// All that write the rows of one pipeline.
    pub fn all_of(job: &PipelineJob) -> Vec<Emitter> {
        let table = || job.table.clone();
        let topic = job.emit.iter().map(|emit| Emitter {
            emission: emit.emission.clone(),
            table: table(),
            consumer: emit.id,
            output: Output::Topic,
        });
        let feeds = job.feeds.iter().map(|feed| Emitter {
            emission: feed.emission.clone(),
            table: table(),
            consumer: feed.route.log_id | ROUTER_BIT,
            output: Output::Feed(Arc::new(feed.route.clone())),
        });
        topic.chain(feeds).collect()
    }

    pub fn pipeline(&self) -> &CompiledPipeline {
        &self.emission.pipeline
    }

    /// The topic that it fills.
    pub fn topic(&self) -> String {
        match &self.output {
            Output::Topic => self.emission.topic(),
            Output::Feed(job) => job.route.topic.clone(),
        }
    }

    /// Its consumer group. By id, not by name: a topic that was dropped and is written again starts anew.
    pub fn group(&self) -> String {
        match &self.output {
            Output::Topic => format!("thyme-emitter-{}", self.consumer),
            Output::Feed(job) => format!("thyme-router-{}", job.log_id),
        }
    }

    /// The rows of some events, which are of one partition, in log order, and in `snapshot` unless they are left out.
    fn rows<'a>(&self, snapshot: &Snapshot, events: &'a [Row], left_out: &LeftOut) -> Result<Vec<Made<'a>>> {
        // Counted where the pipeline takes the event in.
        let mut warnings = Warnings::default();
        let mut made = Vec::with_capacity(events.len());
        for event in events.iter().filter(|event| !left_out.covers(event)) {
            if self.pipeline().program.run(&event.values, &mut warnings).is_none() {
                continue;
            }
            let visible = Visible { sequence_below: Some(event.sequence + 1), appended_by: None };
            let data = snapshot.read(&self.table, &event.key, event.time, &self.emission.plan.windows, &visible)?;
            let (values, failed) = self.emission.values(&event.key, event.time, &data)?;
            made.push(Made { of: event, values, failed });
        }
        Ok(made)
    }

    /// The records of rows for other consumers.
    fn records(&self, source: &str, partition: u16, rows: &[Made<'_>]) -> Batch {
        let mut records = Vec::with_capacity(rows.len());
        for made in rows {
            let record = self.emission.record(&made.values);
            let mut headers = vec![
                (LOG_HEADER.to_string(), Bytes::copy_from_slice(source.as_bytes())),
                (PARTITION_HEADER.to_string(), partition.to_string().into()),
                (OFFSET_HEADER.to_string(), made.of.sequence.to_string().into()),
            ];
            if !made.failed.is_empty() {
                headers.push((ERRORS_HEADER.to_string(), made.failed.join(",").into()));
            }
            records.push(NewRecord { key: made.of.key.clone(), value: record.into(), headers });
        }
        Batch { topic: self.emission.topic(), partition, records }
    }

    /// The same rows as pipelines read them: with time, place and append time of the event.
    fn routed(&self, rows: &[Made<'_>]) -> Vec<Row> {
        let row = |made: &Made<'_>| {
            let (values, encoded) = self.emission.routed(&made.values);
            Row {
                key: made.of.key.clone(),
                time: made.of.time,
                origin: made.of.origin,
                sequence: made.of.sequence,
                append_time: made.of.append_time,
                values,
                encoded: encoded.into(),
            }
        };
        rows.iter().map(row).collect()
    }
}

/// The offset after the event that a record was written for.
pub fn next_offset_of(record: &LogRecord) -> Option<u64> {
    let (_, offset) = record.headers.iter().find(|(name, _)| name == OFFSET_HEADER)?;
    std::str::from_utf8(offset).ok()?.parse::<u64>().ok()?.checked_add(1)
}

impl Shard {
    /// How far the pipeline has come that an emitter follows.
    pub fn reached_by_pipeline_of(&self, emitter: &Emitter) -> u64 {
        self.pipeline_of(emitter).map_or(0, |pipeline| self.members[pipeline].next)
    }

    fn pipeline_of(&self, emitter: &Emitter) -> Option<usize> {
        self.members.iter().position(|other| other.table().is_some_and(|table| table.id == emitter.table.id))
    }

    /// The next rows of all emitters. Those of one pipeline that stand at one place share the rows.
    pub fn emit_pass(
        &self,
        snapshot: &Snapshot,
        tick: &mut Tick,
        log: &dyn EventLog,
        options: &EngineOptions,
        advance: &mut Advance,
    ) -> Result<()> {
        let mut groups: BTreeMap<(usize, u64), Vec<usize>> = BTreeMap::new();
        for (index, member) in self.members.iter().enumerate() {
            let MemberKind::Emitter { emitter, .. } = &member.kind else { continue };
            // The outputs of a state that was lost, or is older, may be ahead of it.
            if let Some(pipeline) = self.pipeline_of(emitter)
                && member.next < self.reached_by_pipeline_of(emitter)
            {
                groups.entry((pipeline, member.next)).or_default().push(index);
            }
        }
        for ((pipeline, from), group) in groups {
            self.emit(snapshot, tick, log, options, (pipeline, from), &group, advance)?;
        }
        Ok(())
    }

    /// The rows from one place on that the pipeline has taken in.
    #[expect(clippy::too_many_arguments, reason = "one call site, each argument a different thing")]
    fn emit(
        &self,
        snapshot: &Snapshot,
        tick: &mut Tick,
        log: &dyn EventLog,
        options: &EngineOptions,
        (pipeline, from): (usize, u64),
        group: &[usize],
        advance: &mut Advance,
    ) -> Result<()> {
        let MemberKind::Pipeline { left_out, .. } = &self.members[pipeline].kind else { return Ok(()) };
        let Some(MemberKind::Emitter { emitter: first, .. }) = group.first().map(|index| &self.members[*index].kind)
        else {
            return Ok(());
        };
        let below = self.reached_by_pipeline_of(first);
        let mut records = log.read(&self.topic, self.partition, from, options.tick_records, READ_BYTES)?;
        records.truncate(records.partition_point(|record| record.offset < below));
        let next = self.end_of(&records, from, below)?;
        advance.records += records.len();
        let events = self.rows_again(snapshot, &records, &[group, &[pipeline][..]].concat())?;
        let rows = first.rows(snapshot, &events, left_out)?;
        for index in group {
            let member = &self.members[*index];
            let MemberKind::Emitter { emitter, group } = &member.kind else { continue };
            match &emitter.output {
                Output::Topic if rows.is_empty() => {}
                Output::Topic => advance.outputs.push(emitter.records(&self.topic, self.partition, &rows)),
                Output::Feed(job) => {
                    let end = self.emitted_up_to(next, events.last().map_or(0, |event| event.append_time));
                    let routed = route(job, self.dataset.partitions, &emitter.routed(&rows), &end);
                    advance.outputs.extend(routed.batches);
                    let mut counters = snapshot.counters(CounterScope::Consumer(member.consumer), self.partition)?;
                    counters.accepted += rows.len() as u64 - routed.null_keys;
                    counters.null_key += routed.null_keys;
                    counters.warnings += routed.warnings;
                    tick.put_counters(CounterScope::Consumer(member.consumer), self.partition, &counters)?;
                }
            }
            pass(Point::Emitted)?;
            advance.offsets.push((group.clone(), self.topic.clone(), self.partition, next));
            tick.put_progress(member.consumer, self.partition, next)?;
            advance.members.push((*index, next));
        }
        Ok(())
    }

    /// What rows of the events below `next` say of their source. Of event time, and of raw datasets behind another log than its own,
    /// this shard knows no more than how it stands at its own place.
    fn emitted_up_to(&self, next: u64, append_time: i64) -> SourceEnd {
        let is_at_end = next == self.next;
        let covered = match (is_at_end, self.is_repartition) {
            (_, false) => vec![(self.partition, next)],
            (true, true) => {
                let partitions = 0..self.dataset.partitions;
                partitions.filter_map(|partition| Some((partition, self.covered(partition)?))).collect()
            }
            (false, true) => Vec::new(),
        };
        SourceEnd {
            partition: self.partition,
            next_offset: next,
            greatest_event_time: if is_at_end { self.greatest_event_time() } else { None },
            append_time,
            covered,
        }
    }
}
