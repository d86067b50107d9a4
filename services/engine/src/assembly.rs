//! What a deployment runs: the shards of the engine's slice with their members, and where each of these begins.

use crate::consume::{Member, MemberKind, ROUTER_BIT};
use crate::derived::Filling;
use crate::emit::Emitter;
use crate::engine::Engine;
use crate::erased::LeftOut;
use crate::offsets::{Filler, OutputPlace};
use crate::shard::Shard;
use crate::spec::{DatasetJob, Derived, PipelineJob, Role, RouteJob};
use std::collections::HashMap;
use std::sync::Arc;
use thyme_core::Result;
use thyme_core::failpoint::{Point, pass};
use thyme_state::{CounterScope, Snapshot};

impl Engine {
    /// One of the owners makes what all fill.
    pub fn makes_topics(&self) -> bool {
        self.role == Role::Owner && self.options.slice.index == 0
    }

    pub fn create_topics(&self, job: &DatasetJob) -> Result<()> {
        self.log.create_topic(&job.dataset.topic(), job.dataset.partitions)?;
        for derived in job.derived() {
            self.log.create_topic(&derived.route.route.topic, job.dataset.partitions)?;
        }
        for emit in job.emits() {
            self.log.create_topic(&emit.emission.topic(), job.dataset.partitions)?;
        }
        Ok(())
    }

    pub fn own_shard(&mut self, snapshot: &Snapshot, job: &DatasetJob, partition: u16) -> Result<Shard> {
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
            follows: !self.makes_topics(),
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
    pub fn derived_shard(
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
            follows: !self.makes_topics(),
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
