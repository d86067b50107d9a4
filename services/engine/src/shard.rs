//! A shard: one partition of one log, with everything that reads it. Members in lockstep share one pass over the records;
//! a member that is being built reads on its own until it has caught up.

use crate::accept::{Judge, judged_before};
use crate::consume::{Member, MemberKind, Row, SourceEnd, Watermarks, keep_raw, route, run_pipeline};
use crate::derived::Filling;
use crate::offsets::{Filler, OutputPlace};
use crate::spec::EngineOptions;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use thyme_core::definition::CompiledDataset;
use thyme_core::failpoint::{Point, pass};
use thyme_core::{Error, ErrorKind, Result};
use thyme_log::{Batch, EventLog, LogRecord, Producer};
use thyme_state::{Acceptance, CounterScope, Counters, Rejected, Snapshot, SourceProgress, Tick};

/// Most bytes that one read of the log brings.
pub const READ_BYTES: usize = 8 << 20;

pub struct Shard {
    pub dataset: Arc<CompiledDataset>,
    /// The log it reads: the dataset's own, or a repartition log.
    pub log_id: u32,
    pub topic: String,
    pub partition: u16,
    /// Whether the log is another node's to create and to delete.
    pub follows: bool,
    /// Whether the log is filled from another one, and how.
    pub is_repartition: bool,
    pub filling: Filling,
    /// The raw dataset behind it, and the id of its log.
    pub root: String,
    pub own_log: u32,
    /// Next offset of the log; members that stand here are in lockstep.
    pub next: u64,
    /// Where that was before the last tick: so far emitters have come that are not behind.
    pub before: u64,
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
    pub counters: Option<Counters>,
    erased: BTreeMap<Bytes, Vec<u64>>,
    pub sources: Vec<(u16, SourceProgress)>,
    /// Of a repartition log.
    pub dead_letters: Vec<Rejected>,
    /// (index of the member, next offset)
    pub members: Vec<(usize, u64)>,
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
        self.emit_pass(snapshot, tick, log, options, &mut advance)?;
        Ok(advance)
    }

    /// Takes over what a committed tick changed.
    pub fn settle(&mut self, advance: Advance) {
        self.before = self.next;
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

    /// Goes on as a replica: without outputs, on a log that is another node's.
    pub fn follow(&mut self) {
        self.members.retain(|member| !matches!(member.kind, MemberKind::Router { .. } | MemberKind::Emitter { .. }));
        self.follows = true;
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
                    (Filler::of(&emitter.output), emitter.topic(), group, &mut member.next)
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

    /// Records from `from` on; never past an offset at which a router of the group begins to send again. `None` where another node makes the
    /// logs and has not made this one yet, or has deleted it, because what took over there does not read it.
    fn read(
        &self,
        log: &dyn EventLog,
        options: &EngineOptions,
        from: u64,
        below: u64,
        group: &[usize],
    ) -> Result<Option<Vec<LogRecord>>> {
        let committed =
            group.iter().map(|index| self.members[*index].committed()).filter(|offset| *offset > from).min();
        let limit = committed.unwrap_or(u64::MAX).min(below);
        let (topic, records) = (&self.topic, options.tick_records);
        // Below a place that others have come to there is a record, which must be read.
        let read = if options.awaits_log || below < u64::MAX {
            log.read(topic, self.partition, from, records, READ_BYTES)
        } else {
            log.read_arrived(topic, self.partition, from, records, READ_BYTES)
        };
        if self.follows && read.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Ok(None);
        }
        let mut records = read?;
        pass(Point::AfterPoll)?;
        let keep = records.partition_point(|record| record.offset < limit);
        records.truncate(keep);
        Ok(Some(records))
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
        let Some(records) = self.read(log, options, self.next, u64::MAX, &group)? else { return Ok(()) };
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
            self.feed(snapshot, tick, &group, &rows?, next, Some(&end), watermarks, advance)?;
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
        let Some(records) = self.read(log, options, place, self.next, &group)? else { return Ok(()) };
        let next = self.end_of(&records, place, self.next)?;
        advance.records += records.len();
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
        self.feed(snapshot, tick, &group, &rows, next, Some(&end), watermarks, advance)
    }

    /// The place after records that were read for the second time, by a member at `from` that is behind: `below` is the place after a
    /// record that others have read, so there are some. To go on without them would lose them for good.
    pub fn end_of(&self, records: &[LogRecord], from: u64, below: u64) -> Result<u64> {
        records.last().map(|last| last.offset + 1).ok_or_else(|| {
            let (topic, partition) = (&self.topic, self.partition);
            Error::unavailable(format!(
                "the log gives no record at {from}, but others were read up to {below}: topic={topic} partition={partition}"
            ))
        })
    }

    fn own_watermark(&self, acceptance: &Acceptance) -> Option<i64> {
        let (greatest, lateness) = acceptance.greatest_event_time.zip(self.dataset.max_lateness)?;
        Some(greatest.saturating_sub(lateness))
    }

    /// Rows of records that were judged before.
    pub fn rows_again(&self, snapshot: &Snapshot, records: &[LogRecord], group: &[usize]) -> Result<Vec<Row>> {
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
            covered: Vec::new(),
        }
    }

    pub fn wanted(&self, group: &[usize]) -> Vec<bool> {
        let mut wanted = vec![false; self.dataset.types.len()];
        for index in group {
            self.members[*index].mark_wanted(&mut wanted);
        }
        wanted
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
        end: Option<&SourceEnd>,
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
                // Not in any group: see `emit.rs`.
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
