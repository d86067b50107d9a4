//! A shard: one partition of one log, with everything that reads it. Members in lockstep share one pass over the records;
//! a member that is being built reads on its own until it has caught up.

use crate::accept::{Judge, judged_before};
use crate::consume::{Member, MemberKind, Row, SourceEnd, Watermarks, keep_raw, route, run_pipeline};
use crate::emit::Emitter;
use crate::offsets::{Filler, OutputPlace};
use crate::poison::{event_fault, routed_fault};
use crate::spec::EngineOptions;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use thyme_core::Result;
use thyme_core::definition::CompiledDataset;
use thyme_core::failpoint::{Point, pass};
use thyme_core::record::{Record, decode_row};
use thyme_log::{Batch, EventLog, LogRecord, Producer};
use thyme_state::{Acceptance, CounterScope, Counters, Rejected, Snapshot, SourceProgress, Tick};

/// Most bytes that one read of the log brings.
const READ_BYTES: usize = 8 << 20;

pub struct Shard {
    pub dataset: Arc<CompiledDataset>,
    /// The log it reads: the dataset's own, or a repartition log.
    pub log_id: u32,
    pub topic: String,
    pub partition: u16,
    pub is_repartition: bool,
    /// Id of the dataset's own log.
    pub own_log: u32,
    /// Next offset of the log; members that stand here are in lockstep.
    pub next: u64,
    pub counters: Counters,
    /// Own log only: lateness and dedup clock, erased keys.
    pub acceptance: Acceptance,
    pub erased: HashMap<Vec<u8>, u64>,
    /// The place after the newest erase; 0 if there is none.
    pub erased_below: u64,
    /// Repartition log only: how far each source partition has come.
    pub sources: BTreeMap<u16, SourceProgress>,
    pub members: Vec<Member>,
}

/// What one round changed about one shard; takes effect when the tick is committed.
#[derive(Default)]
pub struct Advance {
    pub records: usize,
    pub next: Option<u64>,
    acceptance: Option<Acceptance>,
    counters: Option<Counters>,
    erased: BTreeMap<Bytes, Vec<u64>>,
    sources: Vec<(u16, SourceProgress)>,
    /// Of a repartition log.
    dead_letters: Vec<Rejected>,
    /// (index of the member, next offset, greatest event time routed)
    members: Vec<(usize, u64)>,
    /// To send in one transaction.
    pub outputs: Vec<Batch>,
    /// (group, topic, partition, next offset) to commit with the outputs.
    pub offsets: Vec<(String, String, u16, u64)>,
}

impl Advance {
    pub fn greatest_event_time(&self) -> Option<i64> {
        self.acceptance.and_then(|acceptance| acceptance.greatest_event_time)
    }
}

impl Shard {
    /// Reads and works off at most one batch for the lockstep group, and one for each place where a member being built stands.
    pub fn work(
        &self,
        snapshot: &Snapshot,
        tick: &mut Tick,
        log: &dyn EventLog,
        options: &EngineOptions,
    ) -> Result<Advance> {
        let mut advance = Advance::default();
        let places: BTreeSet<u64> = self
            .members
            .iter()
            .filter(|member| member.is_in_step())
            .map(|member| member.next)
            .filter(|next| *next < self.next)
            .collect();
        for place in places {
            self.build_pass(snapshot, tick, log, options, place, &mut advance)?;
        }
        // A member that has just caught up joins in the next round; going on without it would leave it behind for ever.
        let has_caught_up = advance.members.iter().any(|(_, next)| *next == self.next);
        if !has_caught_up {
            self.lockstep_pass(snapshot, tick, log, options, &mut advance)?;
        }
        for index in 0..self.members.len() {
            self.emit_pass(snapshot, tick, log, options, index, &mut advance)?;
        }
        Ok(advance)
    }

    /// Takes over what a committed tick changed.
    pub fn settle(&mut self, advance: Advance) {
        if let Some(next) = advance.next {
            self.next = next;
        }
        if let Some(acceptance) = advance.acceptance {
            self.acceptance = acceptance;
        }
        if let Some(counters) = advance.counters {
            self.counters = counters;
        }
        for (key, offsets) in advance.erased {
            let Some(offset) = offsets.last() else { continue };
            self.erased_below = self.erased_below.max(offset + 1);
            self.erased.insert(key.to_vec(), *offset);
        }
        self.sources.extend(advance.sources);
        for (index, next) in advance.members {
            // An emitter may know better by now: what others have sent meanwhile.
            let member = &mut self.members[index];
            member.next = member.next.max(next);
        }
    }

    /// The outputs of routers and emitters up to here are in the log: should the state's write fail now, they must not be sent again.
    /// After an outcome that had to be asked for, more than that may be there: another engine may have gone on meanwhile.
    pub fn outputs_committed(&mut self, offsets: &[(String, String, u16, u64)]) {
        for member in &mut self.members {
            let (group, place) = match &mut member.kind {
                MemberKind::Router { group, committed, .. } => (group, committed),
                MemberKind::Emitter { group, .. } => (group, &mut member.next),
                MemberKind::Raw { .. } | MemberKind::Pipeline { .. } => continue,
            };
            let found = offsets.iter().find(|(name, _, partition, _)| name == group && *partition == self.partition);
            if let Some((_, _, _, next)) = found {
                *place = (*place).max(*next);
            }
        }
    }

    /// Whether it has outputs.
    pub fn sends(&self) -> bool {
        self.members.iter().any(|member| matches!(member.kind, MemberKind::Router { .. } | MemberKind::Emitter { .. }))
    }

    /// Routers and emitters learn what the log has of their outputs.
    pub fn learn_committed(&mut self, log: &dyn EventLog, producer: &mut dyn Producer) -> Result<()> {
        for member in &mut self.members {
            let next = member.next;
            let (filler, output, group, place) = match &mut member.kind {
                MemberKind::Router { job, group, committed, .. } => {
                    (Filler::Router, job.route.topic.clone(), group, committed)
                }
                MemberKind::Emitter { emitter, group } => {
                    (Filler::Emitter, emitter.job.emission.topic(), group, &mut member.next)
                }
                MemberKind::Raw { .. } | MemberKind::Pipeline { .. } => continue,
            };
            let (topic, partition, output) = (&self.topic, self.partition, &output);
            *place = OutputPlace { filler, group, topic, partition, output, next }.committed(log, producer)?;
        }
        Ok(())
    }

    fn standing_at(&self, place: u64) -> Vec<usize> {
        (0..self.members.len())
            .filter(|index| self.members[*index].next == place && self.members[*index].is_in_step())
            .collect()
    }

    /// Records from `from` on; never past an offset at which a router of the group begins to send again.
    fn read(
        &self,
        log: &dyn EventLog,
        options: &EngineOptions,
        from: u64,
        below: u64,
        group: &[usize],
    ) -> Result<Vec<LogRecord>> {
        let committed =
            group.iter().map(|index| self.members[*index].committed()).filter(|offset| *offset > from).min();
        let limit = committed.unwrap_or(u64::MAX).min(below);
        let mut records = log.read(&self.topic, self.partition, from, options.tick_records, READ_BYTES)?;
        pass(Point::AfterPoll)?;
        let keep = records.partition_point(|record| record.offset < limit);
        records.truncate(keep);
        Ok(records)
    }

    fn lockstep_pass(
        &self,
        snapshot: &Snapshot,
        tick: &mut Tick,
        log: &dyn EventLog,
        options: &EngineOptions,
        advance: &mut Advance,
    ) -> Result<()> {
        let group = self.standing_at(self.next);
        let records = self.read(log, options, self.next, u64::MAX, &group)?;
        let Some(last) = records.last() else { return Ok(()) };
        let next = last.offset + 1;
        advance.records += records.len();
        advance.next = Some(next);
        if self.is_repartition {
            let rows = self.repartition_rows(&records, &group, Some(advance))?;
            self.put_dead_letters(tick, advance)?;
            for (source, progress) in &advance.sources {
                tick.put_routed_source(self.log_id, self.partition, *source, progress)?;
            }
            let watermarks =
                Watermarks { pruned: self.routed_watermark(&[]), now: self.routed_watermark(&advance.sources) };
            self.feed(snapshot, tick, &group, &rows, next, None, watermarks, advance)?;
        } else {
            let judge =
                Judge { dataset: &self.dataset, log_id: self.log_id, partition: self.partition, clock: options.clock };
            let verdict = judge.run(snapshot, tick, self.acceptance, self.counters, &records)?;
            pass(Point::Accepted)?;
            // Of members being built too: what they have taken in so far lies below the erase.
            for table in self.members.iter().filter_map(Member::table) {
                for key in verdict.erased.keys() {
                    tick.erase_key(table, key)?;
                    pass(Point::Erased)?;
                }
            }
            let wanted = self.wanted(&group);
            let rows: Result<Vec<Row>> = verdict
                .accepted
                .iter()
                .map(|event| Row::direct(event, self.partition, &self.dataset.types, &wanted))
                .collect();
            let end = self.source_end(next, &verdict.acceptance);
            let watermarks = Watermarks {
                pruned: self.own_watermark(&self.acceptance),
                now: self.own_watermark(&verdict.acceptance),
            };
            self.feed(snapshot, tick, &group, &rows?, next, Some(end), watermarks, advance)?;
            advance.acceptance = Some(verdict.acceptance);
            advance.counters = Some(verdict.counters);
            advance.erased = verdict.erased;
        }
        tick.put_progress(self.log_id, self.partition, next)
    }

    /// Members that stand behind: reads what was judged before.
    fn build_pass(
        &self,
        snapshot: &Snapshot,
        tick: &mut Tick,
        log: &dyn EventLog,
        options: &EngineOptions,
        place: u64,
        advance: &mut Advance,
    ) -> Result<()> {
        let group = self.standing_at(place);
        pass(Point::BuildPass)?;
        let records = self.read(log, options, place, self.next, &group)?;
        // Offsets may have gaps; where nothing is left below the shard's own place, the group stands there.
        let next = records.last().map_or(self.next, |last| last.offset + 1);
        advance.records += records.len().max(1);
        if next == self.next {
            pass(Point::BuildTakeover)?;
        }
        let now = if self.is_repartition { self.routed_watermark(&[]) } else { self.own_watermark(&self.acceptance) };
        // When it has caught up, it lets go of all that the watermark has left behind meanwhile.
        let watermarks = Watermarks { pruned: if next == self.next { None } else { now }, now };
        let rows = self.rows_again(snapshot, &records, &group)?;
        if self.is_repartition {
            return self.feed(snapshot, tick, &group, &rows, next, None, watermarks, advance);
        }
        // What a repartition log may say of event time before it has caught up: nothing beyond what it holds.
        let reached = if next == self.next { self.acceptance } else { Acceptance::default() };
        let end = self.source_end(next, &reached);
        self.feed(snapshot, tick, &group, &rows, next, Some(end), watermarks, advance)
    }

    fn own_watermark(&self, acceptance: &Acceptance) -> Option<i64> {
        let (greatest, lateness) = acceptance.greatest_event_time.zip(self.dataset.max_lateness)?;
        Some(greatest.saturating_sub(lateness))
    }

    /// Of a repartition log, after `changed`: that of the source partition that is furthest behind. `None` until all have said theirs.
    fn routed_watermark(&self, changed: &[(u16, SourceProgress)]) -> Option<i64> {
        let mut sources = self.sources.clone();
        sources.extend(changed.iter().copied());
        if sources.len() < usize::from(self.dataset.partitions) {
            return None;
        }
        let greatest = sources.values().map(|progress| progress.greatest_event_time).min().flatten()?;
        Some(greatest.saturating_sub(self.dataset.max_lateness?))
    }

    /// How far the pipeline has come that an emitter follows.
    pub fn reached_by_pipeline_of(&self, emitter: &Emitter) -> u64 {
        self.pipeline_of(emitter).map_or(0, |pipeline| self.members[pipeline].next)
    }

    fn pipeline_of(&self, emitter: &Emitter) -> Option<usize> {
        self.members.iter().position(|other| other.table().is_some_and(|table| table.id == emitter.table.id))
    }

    /// The next rows of an emitter that its pipeline has taken in.
    fn emit_pass(
        &self,
        snapshot: &Snapshot,
        tick: &mut Tick,
        log: &dyn EventLog,
        options: &EngineOptions,
        index: usize,
        advance: &mut Advance,
    ) -> Result<()> {
        let member = &self.members[index];
        let MemberKind::Emitter { emitter, group } = &member.kind else { return Ok(()) };
        let Some(pipeline) = self.pipeline_of(emitter) else { return Ok(()) };
        let MemberKind::Pipeline { left_out, .. } = &self.members[pipeline].kind else { return Ok(()) };
        let below = self.reached_by_pipeline_of(emitter);
        // The outputs of a state that was lost, or is older, may be ahead of it.
        if member.next >= below {
            return Ok(());
        }
        let mut records = log.read(&self.topic, self.partition, member.next, options.tick_records, READ_BYTES)?;
        records.truncate(records.partition_point(|record| record.offset < below));
        let next = records.last().map_or(below, |last| last.offset + 1);
        advance.records += records.len().max(1);
        let rows = self.rows_again(snapshot, &records, &[index, pipeline])?;
        let batch = emitter.records(snapshot, &self.topic, self.partition, &rows, left_out)?;
        pass(Point::Emitted)?;
        if !batch.records.is_empty() {
            advance.outputs.push(batch);
        }
        advance.offsets.push((group.clone(), self.topic.clone(), self.partition, next));
        tick.put_progress(member.consumer, self.partition, next)?;
        advance.members.push((index, next));
        Ok(())
    }

    /// Rows of records that were judged before.
    fn rows_again(&self, snapshot: &Snapshot, records: &[LogRecord], group: &[usize]) -> Result<Vec<Row>> {
        if self.is_repartition {
            return self.repartition_rows(records, group, None);
        }
        let accepted = judged_before(snapshot, self.log_id, self.partition, records, &self.erased)?;
        let wanted = self.wanted(group);
        accepted.iter().map(|event| Row::direct(event, self.partition, &self.dataset.types, &wanted)).collect()
    }

    fn source_end(&self, next_offset: u64, acceptance: &Acceptance) -> SourceEnd {
        SourceEnd {
            partition: self.partition,
            next_offset,
            greatest_event_time: acceptance.greatest_event_time,
            append_time: acceptance.greatest_append_time.unwrap_or_default(),
        }
    }

    fn wanted(&self, group: &[usize]) -> Vec<bool> {
        let mut wanted = vec![false; self.dataset.types.len()];
        for index in group {
            self.members[*index].mark_wanted(&mut wanted);
        }
        wanted
    }

    /// Rows of a repartition log. Of records read for the first time, what they say of their sources goes into `advance`, and so
    /// do those that none of our routers can have written.
    fn repartition_rows(
        &self,
        records: &[LogRecord],
        group: &[usize],
        mut advance: Option<&mut Advance>,
    ) -> Result<Vec<Row>> {
        let wanted = self.wanted(group);
        let mut rows = Vec::with_capacity(records.len());
        for log_record in records {
            match self.routed(log_record) {
                Ok(Record::Routed { append_time, event_time, origin, row }) => rows.push(Row {
                    key: log_record.key.clone(),
                    time: event_time,
                    origin,
                    sequence: log_record.offset,
                    append_time,
                    values: decode_row(row, &self.dataset.types, Some(&wanted))?,
                    encoded: Bytes::new(),
                }),
                Ok(Record::Progress { partition, next_offset, max_event_time, .. }) => {
                    let Some(advance) = advance.as_deref_mut() else { continue };
                    let greatest_event_time = (max_event_time != i64::MIN).then_some(max_event_time);
                    advance.sources.retain(|(source, _)| *source != partition);
                    advance.sources.push((partition, SourceProgress { next_offset, greatest_event_time }));
                }
                Ok(Record::Event { .. } | Record::Erase { .. } | Record::Unreadable { .. }) => {}
                Err(reason) => {
                    if let Some(advance) = advance.as_deref_mut() {
                        advance.dead_letters.push(self.dead_letter(log_record, &reason));
                    }
                }
            }
        }
        Ok(rows)
    }

    /// A record that a router of ours may have written, or why it cannot be.
    fn routed<'a>(&self, log_record: &'a LogRecord) -> Result<Record<'a>, String> {
        let record = Record::decode(&log_record.value).map_err(|error| error.to_string())?;
        let fault = match &record {
            Record::Routed { event_time, origin, row, .. } => {
                routed_fault(&self.dataset, self.partition, &log_record.key, *origin)
                    .or_else(|| event_fault(*event_time, row, &self.dataset.types))
            }
            Record::Progress { partition, .. } if *partition < self.dataset.partitions => None,
            Record::Progress { partition, .. } => Some(format!("the dataset's log has no partition {partition}")),
            Record::Event { .. } | Record::Erase { .. } | Record::Unreadable { .. } => {
                Some("an unrouted record stands in a repartition log".to_string())
            }
        };
        fault.map_or(Ok(record), Err)
    }

    fn dead_letter(&self, log_record: &LogRecord, reason: &str) -> Rejected {
        Rejected {
            partition: self.partition,
            offset: log_record.offset,
            append_time: 0,
            reason: format!("{}: {reason}", self.topic),
            key: log_record.key.to_vec(),
            record: log_record.value.to_vec(),
        }
    }

    /// Notes what could not be worked off in a repartition log.
    fn put_dead_letters(&self, tick: &mut Tick, advance: &mut Advance) -> Result<()> {
        let dead = advance.dead_letters.len() as u64;
        if dead == 0 {
            return Ok(());
        }
        let (topic, partition) = (&self.topic, self.partition);
        tracing::warn!(topic, partition, dead, "records that no router wrote were put to the dead letters");
        for row in advance.dead_letters.drain(..) {
            tick.put_dead_letter(self.log_id, &row)?;
        }
        let counters = Counters { dead: self.counters.dead + dead, ..self.counters };
        tick.put_counters(CounterScope::Log(self.log_id), self.partition, &counters)?;
        advance.counters = Some(counters);
        Ok(())
    }

    /// Hands rows to every member of a group and moves them to `next`.
    #[expect(clippy::too_many_arguments, reason = "one call site per pass, each argument a different thing")]
    fn feed(
        &self,
        snapshot: &Snapshot,
        tick: &mut Tick,
        group: &[usize],
        rows: &[Row],
        next: u64,
        end: Option<SourceEnd>,
        watermarks: Watermarks,
        advance: &mut Advance,
    ) -> Result<()> {
        let place = (self.partition, self.dataset.partitions);
        for index in group {
            let member = &self.members[*index];
            match &member.kind {
                MemberKind::Raw { table } => keep_raw(tick, table, rows)?,
                MemberKind::Pipeline { table, pipeline, left_out } => {
                    run_pipeline(tick, snapshot, place, table, pipeline, rows, left_out, watermarks)?;
                }
                // Not in any group: see `emit_pass`.
                MemberKind::Emitter { .. } => continue,
                MemberKind::Router { job, partitions, group, committed } => {
                    let Some(end) = end else { continue };
                    let routed = route(job, *partitions, rows, end);
                    if next > *committed {
                        advance.outputs.extend(routed.batches);
                        advance.offsets.push((group.clone(), self.topic.clone(), self.partition, next));
                    } else {
                        pass(Point::GapReplay)?;
                    }
                    let mut counters = snapshot.counters(CounterScope::Consumer(member.consumer), self.partition)?;
                    counters.accepted += rows.len() as u64 - routed.null_keys;
                    counters.null_key += routed.null_keys;
                    counters.warnings += routed.warnings;
                    tick.put_counters(CounterScope::Consumer(member.consumer), self.partition, &counters)?;
                }
            }
            tick.put_progress(member.consumer, self.partition, next)?;
            advance.members.push((*index, next));
        }
        Ok(())
    }
}
