//! The engine: shards, rounds, and the order of commits. One round reads every shard once, sends what routers and emitters made in
//! one transaction of the log, and only then writes one atomic tick of the state: log first, state second. A crash between the
//! two leaves the state behind the log's committed offsets; the gap is worked off again without sending.

use crate::consume::{Member, MemberKind, ROUTER_BIT};
use crate::derived::Filling;
use crate::emit::Emitter;
use crate::erased::LeftOut;
use crate::handle::{Applied, EngineHandle, Shared};
use crate::offsets::{Filler, OutputPlace, check_identity};
use crate::shard::{Advance, Shard};
use crate::spec::{DatasetJob, Derived, EngineOptions, JobSpec, PipelineJob, Role, RouteJob};
use std::collections::HashMap;
use std::sync::Arc;
use thyme_core::failpoint::{Point, pass};
use thyme_core::position::PositionSet;
use thyme_core::{Error, Result};
use thyme_log::{CommitOutcome, EventLog, Producer};
use thyme_state::{CounterScope, Durability, Snapshot, StateStore};

/// (group, topic, partition, next offset)
type Offset = (String, String, u16, u64);

pub struct Engine {
    state: Arc<StateStore>,
    log: Arc<dyn EventLog>,
    options: EngineOptions,
    role: Role,
    producer: Option<Box<dyn Producer>>,
    /// What was deployed last.
    spec: JobSpec,
    shards: Vec<Shard>,
    targets: PositionSet,
    greatest_event_time: Option<i64>,
    shared: Arc<Shared>,
}

impl Engine {
    /// An engine without work; [`Engine::deploy`] gives it some. An owner fences every earlier one on the same log first. Refuses
    /// a state that was made from another log.
    pub fn open(state: Arc<StateStore>, log: Arc<dyn EventLog>, options: EngineOptions) -> Result<Engine> {
        check_identity(&state, log.as_ref())?;
        let role = options.role;
        let producer = match role {
            Role::Owner => Some(log.producer(&options.producer_id)?),
            Role::Follower => None,
        };
        if producer.is_some() {
            pass(Point::Fenced)?;
        }
        let greatest_event_time = state.snapshot().greatest_event_time()?;
        let shared = Arc::new(Shared::new(state.clone(), log.clone()));
        Ok(Engine {
            state,
            log,
            options,
            role,
            producer,
            spec: JobSpec::default(),
            shards: Vec::new(),
            targets: PositionSet::default(),
            greatest_event_time,
            shared,
        })
    }

    /// What other threads ask and tell the engine.
    pub fn handle(&self) -> EngineHandle {
        EngineHandle::new(self.shared.clone())
    }

    /// Makes the running work equal to `spec`: topics are created, members that are new begin at the start of their log (or where
    /// the state says they had come), members that are gone stop. Their state stays until [`Engine::drop_state`].
    pub fn deploy(&mut self, spec: &JobSpec) -> Result<()> {
        let snapshot = self.state.snapshot();
        let mut shards = Vec::new();
        for job in &spec.datasets {
            if self.role == Role::Owner {
                self.create_topics(job)?;
            }
            for partition in 0..job.dataset.partitions {
                shards.push(self.own_shard(&snapshot, job, partition)?);
                for derived in job.derived() {
                    shards.push(self.derived_shard(&snapshot, job, derived, partition)?);
                }
            }
        }
        pass(Point::Deploying)?;
        let is_read = |topic: &str| shards.iter().any(|shard| shard.topic == topic);
        self.shards.iter().filter(|old| !is_read(&old.topic)).for_each(|old| self.log.forget(&old.topic));
        for shard in &shards {
            self.log.expect_reads(&shard.topic, shard.partition, shard.next);
        }
        self.targets = PositionSet::default();
        for shard in shards.iter().filter(|shard: &&Shard| !shard.is_repartition) {
            self.targets.set(shard.log_id, shard.partition, shard.next);
        }
        self.shards = shards;
        self.spec = spec.clone();
        self.learn_erased()?;
        self.publish();
        Ok(())
    }

    /// Tables that wait for the dataset's own log to be read up to where they know its erases: those that need not wait any more
    /// learn them. Whether there were any.
    fn learn_erased(&mut self) -> Result<bool> {
        if !self.shards.iter().any(Shard::waits) {
            return Ok(false);
        }
        let own = self.shards.iter().filter(|shard| !shard.is_repartition);
        let read: HashMap<(u32, u16), u64> = own.map(|shard| ((shard.log_id, shard.partition), shard.next)).collect();
        let snapshot = self.state.snapshot();
        let mut known = HashMap::new();
        let mut have_learnt = false;
        for shard in &mut self.shards {
            have_learnt |= shard.learn_erased(&snapshot, &read, &mut known)?;
        }
        Ok(have_learnt)
    }

    /// Makes a follower the owner, or an owner a follower. An owner fences every earlier one before it does anything else, and learns
    /// from the log what was sent; called again after an error. Whoever was owner goes on as a replica, whatever fails.
    pub fn set_role(&mut self, role: Role) -> Result<()> {
        if self.role == role {
            return Ok(());
        }
        match role {
            Role::Owner => self.lead(),
            Role::Follower => {
                self.role = role;
                self.producer = None;
                self.shards.iter_mut().for_each(Shard::follow);
                self.publish();
                pass(Point::Revoked)
            }
        }
    }

    fn lead(&mut self) -> Result<()> {
        self.producer = Some(self.log.producer(&self.options.producer_id)?);
        pass(Point::Assigned)?;
        self.role = Role::Owner;
        let spec = self.spec.clone();
        let deployed = self.deploy(&spec);
        if deployed.is_err() {
            self.role = Role::Follower;
        }
        deployed
    }

    pub fn role(&self) -> Role {
        self.role
    }

    fn create_topics(&self, job: &DatasetJob) -> Result<()> {
        self.log.create_topic(&job.dataset.topic(), job.dataset.partitions)?;
        for derived in job.derived() {
            self.log.create_topic(&derived.route.route.topic, job.dataset.partitions)?;
        }
        for emit in job.emits() {
            self.log.create_topic(&emit.emission.topic(), job.dataset.partitions)?;
        }
        Ok(())
    }

    fn own_shard(&mut self, snapshot: &Snapshot, job: &DatasetJob, partition: u16) -> Result<Shard> {
        let mut members = Vec::new();
        let erased = last_erases(snapshot, job.log_id, partition)?;
        if let Some(table) = &job.raw_table {
            let kind = MemberKind::Raw { table: table.clone() };
            members.push(Member::resume(snapshot, table.id, partition, kind)?);
        }
        for pipeline in &job.pipelines {
            members.push(pipeline_member(snapshot, pipeline, partition)?);
        }
        let next = snapshot.progress(job.log_id, partition)?.unwrap_or_default();
        // A follower has no outputs; how far they are it learns when it becomes the owner.
        if self.role == Role::Owner {
            for route in &job.routes {
                members.push(self.router(snapshot, job, route, partition, next)?);
            }
            self.add_emitters(snapshot, &job.pipelines, &job.dataset.topic(), partition, &mut members)?;
        }
        Ok(Shard {
            dataset: job.dataset.clone(),
            log_id: job.log_id,
            topic: job.dataset.topic(),
            partition,
            follows: self.role == Role::Follower,
            is_repartition: false,
            filling: Filling::default(),
            root: job.dataset.name.clone(),
            own_log: job.log_id,
            next,
            before: next,
            acceptance: snapshot.acceptance(job.log_id, partition)?.unwrap_or_default(),
            counters: snapshot.counters(CounterScope::Log(job.log_id), partition)?,
            erased_below: erased.values().max().map_or(0, |offset| offset + 1),
            erased,
            sources: Default::default(),
            members,
        })
    }

    /// A shard of a log that is filled from another one.
    fn derived_shard(
        &mut self,
        snapshot: &Snapshot,
        job: &DatasetJob,
        derived: Derived<'_>,
        partition: u16,
    ) -> Result<Shard> {
        let Derived { route, dataset, of_aligned, is_feed } = derived;
        let mut members = Vec::new();
        for pipeline in &route.pipelines {
            members.push(pipeline_member(snapshot, pipeline, partition)?);
        }
        if self.role == Role::Owner {
            self.add_emitters(snapshot, &route.pipelines, &route.route.topic, partition, &mut members)?;
        }
        let next = snapshot.progress(route.log_id, partition)?.unwrap_or_default();
        Ok(Shard {
            dataset: dataset.clone(),
            log_id: route.log_id,
            topic: route.route.topic.clone(),
            partition,
            follows: self.role == Role::Follower,
            is_repartition: true,
            filling: Filling { is_feed, is_aligned: route.route.is_aligned, of_aligned },
            root: job.dataset.name.clone(),
            own_log: job.log_id,
            next,
            before: next,
            acceptance: Default::default(),
            counters: snapshot.counters(CounterScope::Log(route.log_id), partition)?,
            erased: Default::default(),
            erased_below: 0,
            sources: snapshot.routed_sources(route.log_id, partition)?.into_iter().collect(),
            members,
        })
    }

    fn router(
        &mut self,
        snapshot: &Snapshot,
        job: &DatasetJob,
        route: &RouteJob,
        partition: u16,
        shard_next: u64,
    ) -> Result<Member> {
        let topic = job.dataset.topic();
        // By id, not by name: a route that was dropped and is added again starts anew.
        let group = format!("thyme-router-{}", route.log_id);
        let consumer = route.log_id | ROUTER_BIT;
        let next = snapshot.progress(consumer, partition)?.unwrap_or_default();
        let log = self.log.clone();
        let output = &route.route.topic;
        let place = OutputPlace { filler: Filler::Router, group: &group, topic: &topic, partition, output, next };
        let committed = place.committed(log.as_ref(), self.producer()?.as_mut())?;
        pass(Point::CommittedRead)?;
        let kind = MemberKind::Router {
            job: Arc::new(route.clone()),
            partitions: job.dataset.partitions,
            group: group.clone(),
            committed,
        };
        // A crash between the log and the state leaves a gap of a tick, which is worked off again for the counters. What is wider was
        // sent by others while this state only followed.
        let sent = committed.min(shard_next);
        let is_own_gap = sent <= next + self.options.tick_records as u64;
        Ok(Member { consumer, next: if is_own_gap { next } else { sent }, kind })
    }

    /// The emitters of pipelines that have some. Where its outputs end each begins, whatever the state says: whoever was owner
    /// meanwhile has sent them.
    fn add_emitters(
        &mut self,
        snapshot: &Snapshot,
        pipelines: &[PipelineJob],
        topic: &str,
        partition: u16,
        members: &mut Vec<Member>,
    ) -> Result<()> {
        let log = self.log.clone();
        for emitter in pipelines.iter().flat_map(Emitter::all_of) {
            let (consumer, output, group) = (emitter.consumer, emitter.topic(), emitter.group());
            let next = snapshot.progress(consumer, partition)?.unwrap_or_default();
            let filler = Filler::of(&emitter.output);
            let place = OutputPlace { filler, group: &group, topic, partition, output: &output, next };
            let committed = place.committed(log.as_ref(), self.producer()?.as_mut())?;
            pass(Point::CommittedRead)?;
            let emitter = Arc::new(emitter);
            members.push(Member { consumer, next: committed, kind: MemberKind::Emitter { emitter, group } });
        }
        Ok(())
    }

    /// The producer; a new one if the last must not be used any more. A new one first fences the old, then every router and
    /// emitter learns what the log has of its outputs: whatever became of the last transaction, nothing is sent twice.
    fn producer(&mut self) -> Result<&mut Box<dyn Producer>> {
        if self.producer.as_ref().is_none_or(|producer| producer.is_spent()) {
            self.producer = None;
            let mut producer = self.log.producer(&self.options.producer_id)?;
            pass(Point::Fenced)?;
            for shard in &mut self.shards {
                shard.learn_committed(self.log.as_ref(), producer.as_mut())?;
            }
            pass(Point::CommittedRead)?;
            self.producer = Some(producer);
        }
        self.producer.as_mut().ok_or_else(|| Error::internal("no producer"))
    }

    /// One round. The number of records it worked off; 0 means there is nothing to do. After an error nothing has changed, and
    /// the round may be tried again.
    pub fn step(&mut self) -> Result<usize> {
        // Before anything is worked out: what routers send depends on what the log has.
        if self.shards.iter().any(Shard::sends) {
            self.producer()?;
        }
        if self.learn_erased()? {
            self.publish();
        }
        let snapshot = self.state.snapshot();
        let mut tick = self.state.tick();
        let mut advances = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            advances.push(shard.work(&snapshot, &mut tick, self.log.as_ref(), &self.options)?);
        }
        let records: usize = advances.iter().map(|advance| advance.records).sum();
        if records == 0 {
            return Ok(0);
        }
        let greatest = advances.iter().filter_map(Advance::greatest_event_time).max();
        if greatest > self.greatest_event_time
            && let Some(greatest) = greatest
        {
            tick.put_greatest_event_time(greatest)?;
        }
        pass(Point::WorkedOut)?;
        self.send(&mut advances)?;
        pass(Point::BeforeTick)?;
        let durability = if self.options.durable { Durability::Synced } else { Durability::Buffered };
        tick.commit(durability)?;
        pass(Point::AfterTick)?;
        self.greatest_event_time = self.greatest_event_time.max(greatest);
        for (shard, advance) in self.shards.iter_mut().zip(advances) {
            shard.settle(advance);
        }
        self.publish();
        pass(Point::Published)?;
        Ok(records)
    }

    /// Sends the outputs of all shards and their offsets in one transaction, if there are any.
    fn send(&mut self, advances: &mut [Advance]) -> Result<()> {
        let offsets: Vec<Offset> =
            advances.iter_mut().flat_map(|advance| std::mem::take(&mut advance.offsets)).collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let outputs: Vec<_> = advances.iter_mut().flat_map(|advance| std::mem::take(&mut advance.outputs)).collect();
        let producer = self.producer.as_mut().ok_or_else(|| Error::internal("no producer"))?;
        let filled = producer.begin().and_then(|()| {
            for batch in outputs {
                producer.send(batch)?;
                pass(Point::MidSend)?;
            }
            for (group, topic, partition, next) in &offsets {
                producer.send_offset(group, topic, *partition, *next)?;
                pass(Point::AfterOffsets)?;
            }
            pass(Point::BeforeEnd)
        });
        if let Err(error) = filled {
            self.producer = None;
            return Err(error.context("sending outputs"));
        }
        match producer.commit() {
            CommitOutcome::Committed => pass(Point::AfterEnd)?,
            CommitOutcome::NotCommitted(error) => {
                self.producer = None;
                return Err(error.context("committing outputs"));
            }
            CommitOutcome::Unknown(error) => {
                self.producer = None;
                pass(Point::UnknownEnd)?;
                if !self.was_committed(&offsets)? {
                    return Err(error.context("committing outputs"));
                }
            }
        }
        for shard in &mut self.shards {
            let own: Vec<Offset> = offsets.iter().filter(|(_, topic, ..)| *topic == shard.topic).cloned().collect();
            shard.outputs_committed(&own);
        }
        Ok(())
    }

    /// Asks the log what became of a transaction: a new producer first, which fences the old one, then the committed offsets. Another
    /// engine may have taken over for a while and committed some of them or all: only if it is all, nothing of it is left to send.
    fn was_committed(&mut self, offsets: &[Offset]) -> Result<bool> {
        for (group, topic, partition, next) in offsets {
            if self.producer()?.committed(group, topic, *partition)?.unwrap_or_default() < *next {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Deletes tables that no member fills any more, with their progress and totals.
    pub fn drop_state(&mut self, consumers: &[u32]) -> Result<()> {
        for id in consumers {
            let in_use = self.shards.iter().any(|shard| shard.members.iter().any(|member| member.consumer == *id));
            if in_use {
                return Err(Error::precondition(format!("the table is still being filled: id={id}")));
            }
            self.state.drop_table(*id)?;
            pass(Point::DropHalf)?;
            let mut tick = self.state.tick();
            tick.delete_progress(*id)?;
            tick.commit(Durability::Synced)?;
        }
        Ok(())
    }

    /// Works until there is nothing left to do; for tests and the in-memory engine.
    pub fn run_to_end(&mut self) -> Result<()> {
        while self.step()? > 0 {}
        Ok(())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn log(&self) -> &Arc<dyn EventLog> {
        &self.log
    }

    fn publish(&self) {
        let mut applied = Applied::new(self.targets.clone());
        for shard in &self.shards {
            applied.add_shard(shard);
        }
        self.shared.publish(applied);
    }
}

fn pipeline_member(snapshot: &Snapshot, job: &PipelineJob, partition: u16) -> Result<Member> {
    let left_out = LeftOut::of(&job.pipeline.erased);
    let kind = MemberKind::Pipeline { table: job.table.clone(), pipeline: job.pipeline.clone(), left_out };
    Member::resume(snapshot, job.table.id, partition, kind)
}

/// Erased keys of a partition with the offset of the last erase of each.
fn last_erases(snapshot: &Snapshot, log_id: u32, partition: u16) -> Result<HashMap<Vec<u8>, u64>> {
    let all = snapshot.all_erased(log_id, partition)?.into_iter();
    Ok(all.filter_map(|(key, offsets)| offsets.last().map(|offset| (key, *offset))).collect())
}

impl Member {
    fn resume(snapshot: &Snapshot, consumer: u32, partition: u16, kind: MemberKind) -> Result<Member> {
        let next = snapshot.progress(consumer, partition)?.unwrap_or_default();
        Ok(Member { consumer, next, kind })
    }
}
