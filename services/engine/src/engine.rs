//! The engine: shards, rounds, and the order of commits. One round reads every shard once, sends what routers and emitters made in
//! one transaction of the log, and only then writes one atomic tick of the state: log first, state second. A crash between the
//! two leaves the state behind the log's committed offsets; the gap is worked off again without sending.

use crate::applied::{Applied, Work};
use crate::foreign::{Foreign, ReadElsewhere, foreign_of};
use crate::handle::{EngineHandle, Shared};
use crate::offsets::check_identity;
use crate::shard::{Advance, Shard};
use crate::spec::{EngineOptions, JobSpec, Role};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use thyme_core::failpoint::{Point, pass};
use thyme_core::position::PositionSet;
use thyme_core::slice::Slice;
use thyme_core::{Error, Result};
use thyme_log::{CommitOutcome, EventLog, Producer, WORK};
use thyme_state::{Durability, Snapshot, StateStore, Tick};

/// (group, topic, partition, next offset)
type Offset = (String, String, u16, u64);

pub struct Engine {
    state: Arc<StateStore>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) options: EngineOptions,
    pub(crate) role: Role,
    pub(crate) producer: Option<Box<dyn Producer>>,
    /// What was deployed last.
    spec: JobSpec,
    /// Of what is deployed, or is being; and what this engine has noted of it (see `notes.rs`).
    pub(crate) number: u64,
    pub(crate) noted: u64,
    /// (log id, partition) of datasets' own logs -> the place after the newest erase, as this engine has noted it.
    pub(crate) noted_erases: HashMap<(u32, u16), u64>,
    pub(crate) shards: Vec<Shard>,
    /// Partitions of other slices whose erases are needed.
    foreign: Vec<Foreign>,
    targets: PositionSet,
    work: Arc<Work>,
    greatest_event_time: Option<i64>,
    shared: Arc<Shared>,
}

/// Ends what an owner of a slice that is gone has left open in the log, where there is no engine for it yet: until then nobody reads beyond it.
pub fn end_open(log: &dyn EventLog, slice: Slice) -> Result<()> {
    let options = EngineOptions { slice, ..EngineOptions::default() };
    log.producer(&options.transactional_id()).map(drop)
}

impl Engine {
    /// An engine without work; [`Engine::deploy`] gives it some. An owner fences every earlier one on the same log and slice first.
    /// Refuses a state that was made from another log, or is another slice's.
    pub fn open(state: Arc<StateStore>, log: Arc<dyn EventLog>, options: EngineOptions) -> Result<Engine> {
        check_identity(&state, log.as_ref(), options.slice)?;
        let role = options.role;
        let producer = match role {
            Role::Owner => Some(log.producer(&options.transactional_id())?),
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
            number: 0,
            noted: 0,
            noted_erases: HashMap::new(),
            shards: Vec::new(),
            foreign: Vec::new(),
            targets: PositionSet::default(),
            work: Arc::default(),
            greatest_event_time,
            shared,
        })
    }

    /// What other threads ask and tell the engine.
    pub fn handle(&self) -> EngineHandle {
        EngineHandle::new(self.options.slice, self.shared.clone())
    }

    /// Nothing is fetched ahead for it any more. Engines of other slices, which may read other partitions of the same topics, fetch anew.
    pub(crate) fn leave_logs(&self) {
        if self.options.slice.is_whole() {
            return;
        }
        let own = self.shards.iter().map(|shard| shard.topic.clone());
        let read_for_erases = self.spec.datasets.iter().map(|job| job.dataset.topic());
        let topics: BTreeSet<String> = own.chain(read_for_erases).collect();
        topics.iter().for_each(|topic| self.log.forget(topic));
    }

    /// Makes the running work equal to `spec`: topics are created, members that are new begin at the start of their log (or where
    /// the state says they had come), members that are gone stop. Their state stays until [`Engine::drop_state`].
    pub fn deploy(&mut self, spec: &JobSpec) -> Result<()> {
        let before = std::mem::replace(&mut self.number, spec.number);
        let deployed = self.run_from_now_on(spec);
        if deployed.is_err() {
            self.number = before;
        }
        deployed
    }

    fn run_from_now_on(&mut self, spec: &JobSpec) -> Result<()> {
        let snapshot = self.state.snapshot();
        let mut shards = Vec::new();
        let makes_topics = self.makes_topics();
        if makes_topics && !self.options.slice.is_whole() {
            self.log.create_topic(WORK, self.options.slice.of)?;
        }
        for job in &spec.datasets {
            if makes_topics {
                self.create_topics(job)?;
            }
            for partition in self.options.slice.partitions(job.dataset.partitions) {
                shards.push(self.own_shard(&snapshot, job, partition)?);
                for derived in job.derived() {
                    shards.push(self.derived_shard(&snapshot, job, derived, partition)?);
                }
            }
        }
        pass(Point::Deploying)?;
        // One that was deleted and made again under its name has another id.
        let is_read = |old: &Shard| shards.iter().any(|shard| shard.topic == old.topic && shard.log_id == old.log_id);
        self.shards.iter().filter(|old| !is_read(old)).for_each(|old| self.log.forget(&old.topic));
        for shard in &shards {
            self.log.expect_reads(&shard.topic, shard.partition, shard.next);
        }
        self.targets = PositionSet::default();
        for shard in shards.iter().filter(|shard: &&Shard| !shard.is_repartition) {
            self.targets.set(shard.log_id, shard.partition, shard.next);
        }
        self.foreign = foreign_of(&snapshot, spec, self.options.slice)?;
        self.shards = shards;
        self.work = Arc::new(Work::new(self.options.slice, spec));
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
        let own = own.map(|shard| ((shard.log_id, shard.partition), shard.next));
        let foreign = self.foreign.iter().map(|foreign| ((foreign.log_id, foreign.partition), foreign.next));
        let read: HashMap<(u32, u16), u64> = own.chain(foreign).collect();
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

    /// Fences every earlier owner of the slice: a follower does so before it becomes the owner.
    pub fn fence(&mut self) -> Result<()> {
        self.producer = None;
        self.producer = Some(self.log.producer(&self.options.transactional_id())?);
        self.noted = 0;
        self.noted_erases.clear();
        Ok(())
    }

    fn lead(&mut self) -> Result<()> {
        if self.producer.is_none() {
            self.fence()?;
        }
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

    /// The producer; a new one if the last must not be used any more. A new one first fences the old, then every router and
    /// emitter learns what the log has of its outputs: whatever became of the last transaction, nothing is sent twice.
    pub(crate) fn producer(&mut self) -> Result<&mut Box<dyn Producer>> {
        if self.producer.as_ref().is_none_or(|producer| producer.is_spent()) {
            self.producer = None;
            let mut producer = self.log.producer(&self.options.transactional_id())?;
            pass(Point::Fenced)?;
            self.check_note(producer.as_mut())?;
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
        self.note()?;
        if self.learn_erased()? {
            self.publish();
        }
        let snapshot = self.state.snapshot();
        let mut tick = self.state.tick();
        let mut advances = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            advances.push(shard.work(&snapshot, &mut tick, self.log.as_ref(), &self.options)?);
        }
        let read_elsewhere = self.read_elsewhere(&snapshot, &mut tick)?;
        let own: usize = advances.iter().map(|advance| advance.records).sum();
        let records = own + read_elsewhere.as_ref().map_or(0, |(_, read)| read.records);
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
        if let Some((index, read)) = read_elsewhere {
            self.foreign[index].next = read.next;
        }
        self.publish();
        pass(Point::Published)?;
        Ok(records)
    }

    /// Erases of partitions of other slices, from one of these: of one partition only a few places can be read at once.
    fn read_elsewhere(&self, snapshot: &Snapshot, tick: &mut Tick) -> Result<Option<(usize, ReadElsewhere)>> {
        for (index, foreign) in self.foreign.iter().enumerate().filter(|(_, foreign)| foreign.is_behind()) {
            let read = foreign.read(snapshot, tick, self.log.as_ref(), &self.options)?;
            if read.records > 0 {
                return Ok(Some((index, read)));
            }
        }
        Ok(None)
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
                return Err(Error::precondition(format!("the table is still being filled: id={id}"))
                    .hint("it goes when nothing fills it any more; if that does not come, start this server again"));
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
        let mut applied = Applied::new(self.targets.clone(), self.work.clone());
        for shard in &self.shards {
            applied.add_shard(shard);
        }
        self.shared.publish(applied);
    }
}
