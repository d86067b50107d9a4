//! What reads a log partition: the table of raw rows, pipelines, and routers that fill repartition logs.

use crate::accept::Accepted;
use crate::emit::Emitter;
use crate::erased::LeftOut;
use crate::spec::RouteJob;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use thyme_core::definition::CompiledPipeline;
use thyme_core::expr::Warnings;
use thyme_core::key::{partition_of_vnode, vnode};
use thyme_core::position::Position;
use thyme_core::record::{Record, decode_row};
use thyme_core::schema::DataType;
use thyme_core::{Result, Value};
use thyme_log::{Batch, NewRecord};
use thyme_state::{CounterScope, Event, Table, Tick};

/// An accepted event as consumers see it, decoded as far as they need.
pub struct Row {
    pub key: Bytes,
    pub time: i64,
    pub origin: Position,
    pub sequence: u64,
    pub append_time: i64,
    pub values: Vec<Value>,
    /// The row's bytes, for routers to pass on.
    pub encoded: Bytes,
}

impl Row {
    /// Decodes an event of a dataset's own log.
    pub fn direct(event: &Accepted, partition: u16, types: &[DataType], wanted: &[bool]) -> Result<Row> {
        Ok(Row {
            key: event.key.clone(),
            time: event.event_time,
            origin: Position { partition, offset: event.offset },
            sequence: event.offset,
            append_time: event.append_time,
            values: decode_row(event.row(), types, Some(wanted))?,
            encoded: event.value.slice(event.row_start..),
        })
    }
}

/// One reader of one log partition.
pub struct Member {
    /// Under which its progress is kept.
    pub consumer: u32,
    /// Next offset to read.
    pub next: u64,
    pub kind: MemberKind,
}

#[derive(Clone)]
pub enum MemberKind {
    /// Keeps rows as they came.
    Raw {
        table: Table,
    },
    Pipeline {
        table: Table,
        pipeline: Arc<CompiledPipeline>,
        left_out: LeftOut,
    },
    /// Sends accepted events to a repartition log.
    Router {
        job: Arc<RouteJob>,
        partitions: u16,
        group: String,
        committed: u64,
    },
    /// Sends a pipeline's rows to a topic. Never in lockstep: it follows its pipeline. It has nothing in the state but its place, and that
    /// is where its outputs end in the log.
    Emitter {
        emitter: Arc<Emitter>,
        group: String,
    },
}

/// Progress of routers is kept under the repartition log's id with this bit set: the id itself is that log's own reader.
pub const ROUTER_BIT: u32 = 1 << 31;

/// Whether progress is a router's.
pub fn is_router(consumer: u32) -> bool {
    consumer & ROUTER_BIT != 0
}

impl Member {
    pub fn table(&self) -> Option<&Table> {
        match &self.kind {
            MemberKind::Raw { table } | MemberKind::Pipeline { table, .. } => Some(table),
            MemberKind::Router { .. } | MemberKind::Emitter { .. } => None,
        }
    }

    /// Sets the flags of the columns it reads.
    pub fn mark_wanted(&self, wanted: &mut [bool]) {
        let columns = match &self.kind {
            MemberKind::Raw { .. } => {
                wanted.fill(true);
                return;
            }
            MemberKind::Pipeline { pipeline, left_out, .. } => {
                if let LeftOut::Erased(erased) = left_out {
                    erased.key_columns().iter().for_each(|column| wanted[*column] = true);
                }
                pipeline.program.wanted_columns()
            }
            MemberKind::Router { job, .. } => job.route.key_program.wanted_columns(),
            MemberKind::Emitter { emitter, .. } => emitter.pipeline().program.wanted_columns(),
        };
        for (flag, column) in wanted.iter_mut().zip(columns) {
            *flag |= *column;
        }
    }

    pub fn is_emitter(&self) -> bool {
        matches!(self.kind, MemberKind::Emitter { .. })
    }

    /// Whether it reads as soon as there is something: in lockstep, or by itself while it is being built.
    pub fn is_in_step(&self) -> bool {
        !self.is_emitter() && !self.waits()
    }

    /// Waits until what its table leaves out is known.
    pub fn waits(&self) -> bool {
        matches!(self.kind, MemberKind::Pipeline { left_out: LeftOut::Unknown, .. })
    }

    /// Whether its outputs of offsets below this were committed to the log already (a router after a crash between the log's
    /// commit and the state's): up to there it only moves on.
    pub fn committed(&self) -> u64 {
        match &self.kind {
            MemberKind::Router { committed, .. } => *committed,
            _ => 0,
        }
    }
}

/// Puts rows into a table: grouped by key, keys in the order of the state's rows.
pub fn apply_events(tick: &mut Tick, table: &Table, events: HashMap<Bytes, Vec<Event>>) -> Result<()> {
    let mut keys: Vec<(u8, Bytes)> = events.keys().map(|key| (vnode(key), key.clone())).collect();
    keys.sort_unstable();
    let mut events = events;
    for (_, key) in keys {
        if let Some(list) = events.remove(&key) {
            tick.apply(table, &key, list)?;
        }
    }
    Ok(())
}

fn event_of(row: &Row, values: Vec<Value>, predicates: u64) -> Event {
    Event {
        time: row.time,
        origin: row.origin,
        sequence: row.sequence,
        append_time: row.append_time,
        values,
        predicates,
    }
}

/// Raw rows into their table.
pub fn keep_raw(tick: &mut Tick, table: &Table, rows: &[Row]) -> Result<()> {
    let mut events: HashMap<Bytes, Vec<Event>> = HashMap::with_capacity(rows.len());
    for row in rows {
        events.entry(row.key.clone()).or_default().push(event_of(row, row.values.clone(), 0));
    }
    apply_events(tick, table, events)
}

/// The shard's watermark, by which tables with a `history=` let events go: what a table has been pruned by, and now.
#[derive(Clone, Copy, Default)]
pub struct Watermarks {
    pub pruned: Option<i64>,
    pub now: Option<i64>,
}

/// Lets go of what lies below the history of a table.
fn prune(
    tick: &mut Tick,
    snapshot: &thyme_state::Snapshot,
    (partition, partitions): (u16, u16),
    table: &Table,
    key_parts: usize,
    watermarks: Watermarks,
) -> Result<()> {
    if table.layout.kept.is_none() || watermarks.pruned == watermarks.now {
        return Ok(());
    }
    for vnode in (0..=u8::MAX).filter(|vnode| partition_of_vnode(*vnode, partitions) == partition) {
        let before = table.kept_from(vnode, watermarks.now);
        if before > table.kept_from(vnode, watermarks.pruned)
            && let Some(before) = before
        {
            tick.prune(snapshot, table, key_parts, vnode, before)?;
        }
    }
    Ok(())
}

/// Rows through a pipeline's steps into its table.
#[expect(clippy::too_many_arguments, reason = "one call site, each argument a different thing")]
pub fn run_pipeline(
    tick: &mut Tick,
    snapshot: &thyme_state::Snapshot,
    (partition, partitions): (u16, u16),
    table: &Table,
    pipeline: &CompiledPipeline,
    rows: &[Row],
    left_out: &LeftOut,
    watermarks: Watermarks,
) -> Result<()> {
    let mut warnings = Warnings::default();
    let (mut filtered, mut erased) = (0, 0);
    let mut events: HashMap<Bytes, Vec<Event>> = HashMap::with_capacity(rows.len());
    for row in rows {
        if left_out.covers(row) {
            erased += 1;
            continue;
        }
        match pipeline.program.run(&row.values, &mut warnings) {
            Some(evaluated) => {
                let event = event_of(row, evaluated.values, evaluated.predicates);
                events.entry(row.key.clone()).or_default().push(event);
            }
            None => filtered += 1,
        }
    }
    if table.layout.kept.is_some() {
        // A long tick brings events that lie below its own end.
        events.retain(|key, list| {
            if let Some(from) = table.kept_from(vnode(key), watermarks.now) {
                list.retain(|event| event.time >= from);
            }
            !list.is_empty()
        });
    }
    apply_events(tick, table, events)?;
    prune(tick, snapshot, (partition, partitions), table, pipeline.group_columns.len(), watermarks)?;
    let mut counters = snapshot.counters(CounterScope::Consumer(table.id), partition)?;
    counters.accepted += rows.len() as u64 - filtered - erased;
    counters.filtered += filtered;
    counters.erased += erased;
    counters.warnings += warnings.total();
    tick.put_counters(CounterScope::Consumer(table.id), partition, &counters)
}

/// What a router sends for one tick: the rows by partition of the repartition log, and to every partition that it fills how far the
/// source partition has come.
pub struct Routed {
    pub batches: Vec<Batch>,
    pub null_keys: u64,
    pub warnings: u64,
}

/// How far a source partition has come at the end of a router's tick.
pub struct SourceEnd {
    pub partition: u16,
    pub next_offset: u64,
    pub greatest_event_time: Option<i64>,
    pub append_time: i64,
    /// See [`Record::Progress`].
    pub covered: Vec<(u16, u64)>,
}

pub fn route(job: &RouteJob, partitions: u16, rows: &[Row], end: &SourceEnd) -> Routed {
    let mut warnings = Warnings::default();
    let mut null_keys = 0;
    let mut by_partition: BTreeMap<u16, Vec<NewRecord>> = BTreeMap::new();
    for row in rows {
        let Some(key) = job.route.key_program.run(&row.values, &mut warnings) else {
            null_keys += 1;
            continue;
        };
        let record = Record::Routed {
            append_time: row.append_time,
            event_time: row.time,
            origin: row.origin,
            row: &row.encoded,
        };
        let partition = thyme_core::key::partition(&key, partitions);
        let new = NewRecord::new(key, record.encode());
        by_partition.entry(partition).or_default().push(new);
    }
    let progress = Record::Progress {
        append_time: end.append_time,
        partition: end.partition,
        next_offset: end.next_offset,
        max_event_time: end.greatest_event_time.unwrap_or(i64::MIN),
        covered: end.covered.clone(),
    };
    let progress: Bytes = progress.encode().into();
    let mut batches = Vec::with_capacity(usize::from(partitions));
    let filled = if job.route.is_aligned { end.partition..end.partition + 1 } else { 0..partitions };
    for partition in filled {
        let mut records = by_partition.remove(&partition).unwrap_or_default();
        records.push(NewRecord::new(Bytes::new(), progress.clone()));
        batches.push(Batch { topic: job.route.topic.clone(), partition, records });
    }
    Routed { batches, null_keys, warnings: warnings.total() }
}
