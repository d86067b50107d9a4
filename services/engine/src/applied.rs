//! How far the engines of a node are: each tells how its shards stood at its last committed tick, and what is asked is answered by
//! all of them together, since a log that is filled from another one is in all slices.

use crate::consume::{MemberKind, ROUTER_BIT};
use crate::emit::Emitter;
use crate::handle::BuildProgress;
use crate::shard::Shard;
use crate::spec::JobSpec;
use parking_lot::RwLockReadGuard;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use thyme_core::position::PositionSet;
use thyme_core::slice::Slice;

/// How far every shard of one engine was at its last committed tick.
#[derive(Default, Clone)]
pub struct Applied {
    /// (log id, partition) -> next offset.
    pub logs: BTreeMap<(u32, u16), u64>,
    /// Dataset's log id -> each partition of each log that is filled from it.
    pub routed: HashMap<u32, Vec<FilledPlace>>,
    pub members: HashMap<u32, Vec<MemberPlace>>,
    /// Of a dataset's own log: (log id, partition) -> place after the newest erase.
    pub erased: BTreeMap<(u32, u16), u64>,
    pub shards: Vec<ShardPlace>,
    /// Each emitter's partition, and how far it is behind its pipeline.
    pub emitters: Vec<(Arc<Emitter>, u16, u64)>,
    /// By its topic, each log of rows that pipelines read.
    feeds: BTreeMap<String, FeedPlace>,
    /// Where each dataset's own shards stood when the work was last changed: what a build must have reached.
    pub targets: PositionSet,
    work: Arc<Work>,
}

/// What the engine works on.
#[derive(Default)]
pub struct Work {
    slice: Option<Slice>,
    /// Log id -> how many partitions it has, those of other slices too.
    partitions: BTreeMap<u32, u16>,
    /// That are filled in some slice.
    tables: BTreeSet<u32>,
}

impl Work {
    pub fn new(slice: Slice, spec: &JobSpec) -> Work {
        let (mut partitions, mut tables) = (BTreeMap::new(), BTreeSet::new());
        for job in &spec.datasets {
            tables.extend(job.raw_table.iter().map(|table| table.id));
            tables.extend(job.all_pipelines().map(|pipeline| pipeline.table.id));
            partitions.insert(job.log_id, job.dataset.partitions);
            partitions.extend(job.derived().iter().map(|derived| (derived.route.log_id, job.dataset.partitions)));
        }
        Work { slice: Some(slice), partitions, tables }
    }

    /// Whether the log is known, and the partition is one of its, and another slice's.
    fn is_of_another(&self, log: u32, partition: u16) -> bool {
        let known = self.slice.zip(self.partitions.get(&log));
        known.is_some_and(|(slice, partitions)| partition < *partitions && !slice.holds(partition, *partitions))
    }
}

/// One partition of a log that is filled from another one.
#[derive(Clone)]
pub struct FilledPlace {
    log: u32,
    /// How far each partition of the dataset's own log is in it (see `Shard::covered`).
    covered: Vec<Option<u64>>,
}

/// Where one consumer stands in one partition.
#[derive(Clone, Copy)]
pub struct MemberPlace {
    pub next: u64,
    /// Where its shard stands; for an emitter, which is a round behind its pipeline, where it stood a round ago.
    shard_next: u64,
    /// It has not begun: see `LeftOut::Unknown`.
    waits: bool,
    /// It reads this repartition log, of the dataset with this own log.
    repartition: Option<(u32, u32)>,
}

/// How far the tables behind a log of rows are.
#[derive(Clone)]
pub struct FeedPlace {
    pub dataset: String,
    pub own_log: u32,
    /// For each partition of the raw dataset's log, how far the slowest of its shards is (see `Shard::covered`).
    pub covered: Vec<Option<u64>>,
}

impl FeedPlace {
    fn slow_down(&mut self, covered: &[Option<u64>]) {
        for (slowest, covered) in self.covered.iter_mut().zip(covered) {
            *slowest = [*slowest, *covered].into_iter().flatten().min();
        }
    }
}

/// One shard, for status.
#[derive(Clone, Debug)]
pub struct ShardPlace {
    pub dataset: String,
    pub log_id: u32,
    pub topic: String,
    pub partition: u16,
    pub next: u64,
    pub is_repartition: bool,
    pub greatest_event_time: Option<i64>,
    pub max_lateness: Option<i64>,
}

impl Applied {
    pub fn new(targets: PositionSet, work: Arc<Work>) -> Applied {
        Applied { targets, work, ..Applied::default() }
    }

    pub fn add_shard(&mut self, shard: &Shard) {
        self.logs.insert((shard.log_id, shard.partition), shard.next);
        if !shard.is_repartition {
            self.erased.insert((shard.log_id, shard.partition), shard.erased_below);
        }
        self.shards.push(ShardPlace {
            dataset: shard.root.clone(),
            log_id: shard.log_id,
            topic: shard.topic.clone(),
            partition: shard.partition,
            next: shard.next,
            is_repartition: shard.is_repartition,
            greatest_event_time: shard.acceptance.greatest_event_time,
            max_lateness: shard.dataset.max_lateness,
        });
        for member in &shard.members {
            let repartition = shard.is_repartition.then_some((shard.log_id, shard.own_log));
            let waits = member.waits();
            let shard_next = if member.is_emitter() { shard.before } else { shard.next };
            let place = MemberPlace { next: member.next, shard_next, waits, repartition };
            self.members.entry(member.consumer).or_default().push(place);
            if let MemberKind::Emitter { emitter, .. } = &member.kind {
                let lag = shard.reached_by_pipeline_of(emitter).saturating_sub(member.next);
                self.emitters.push((emitter.clone(), shard.partition, lag));
            }
        }
        if shard.is_repartition {
            let covered: Vec<_> = (0..shard.dataset.partitions).map(|partition| shard.covered(partition)).collect();
            if shard.filling.is_feed {
                let place = self.feeds.entry(shard.topic.clone()).or_insert_with(|| FeedPlace {
                    dataset: shard.dataset.name.clone(),
                    own_log: shard.own_log,
                    covered: vec![None; covered.len()],
                });
                place.slow_down(&covered);
            }
            self.routed.entry(shard.own_log).or_default().push(FilledPlace { log: shard.log_id, covered });
        }
    }
}

/// All engines of a node, each at its last tick. Of one there is nothing to allocate: questions with `at_least` take this.
pub struct Together<'a> {
    first: Option<RwLockReadGuard<'a, Applied>>,
    others: Vec<RwLockReadGuard<'a, Applied>>,
}

impl<'a> Together<'a> {
    pub fn new(mut engines: impl Iterator<Item = RwLockReadGuard<'a, Applied>>) -> Together<'a> {
        Together { first: engines.next(), others: engines.collect() }
    }

    fn all(&self) -> impl Iterator<Item = &Applied> {
        self.first.iter().chain(&self.others).map(|applied| &**applied)
    }

    /// Whether everything below a position is in state, through those logs that are filled from others and `is_needed`.
    pub fn covers(&self, position: &PositionSet, is_needed: impl Fn(u32) -> bool) -> bool {
        position.0.iter().all(|((log, partition), next)| {
            self.has_read(*log, *partition, *next) && self.has_routed(*log, *partition, *next, &is_needed)
        })
    }

    /// The same for engines of some slices: what is in partitions of others is asked of them only as far as it comes here through logs
    /// that are filled from it.
    pub fn covers_own(&self, position: &PositionSet, is_needed: impl Fn(u32) -> bool) -> bool {
        position.0.iter().all(|((log, partition), next)| {
            let is_elsewhere = self.all().all(|engine| engine.work.is_of_another(*log, *partition));
            let has_read = is_elsewhere || self.has_read(*log, *partition, *next);
            has_read && self.has_routed(*log, *partition, *next, &is_needed)
        })
    }

    /// Whether the states have come to a place of the logs with all of these tables, as far as logs and tables are still worked on.
    pub fn have_come_to(&self, position: &PositionSet, ids: &BTreeSet<u32>) -> bool {
        let is_known = |log: u32| self.all().any(|engine| engine.work.partitions.contains_key(&log));
        let known = position.0.iter().filter(|((log, _), _)| is_known(*log));
        let position = PositionSet(known.map(|(place, next)| (*place, *next)).collect());
        let mut tables = ids.iter().filter(|id| self.all().any(|engine| engine.work.tables.contains(id)));
        self.covers_own(&position, |log| ids.contains(&log)) && tables.all(|id| self.build_progress(*id).caught_up)
    }

    fn has_read(&self, log: u32, partition: u16, next: u64) -> bool {
        self.all().filter_map(|engine| engine.logs.get(&(log, partition))).any(|applied| *applied >= next)
    }

    /// Whether every log that is filled from a dataset, and needed, has worked off everything below `next` of a partition of its own log.
    fn has_routed(&self, own_log: u32, partition: u16, next: u64, is_needed: impl Fn(u32) -> bool) -> bool {
        let filled = self.all().filter_map(|engine| engine.routed.get(&own_log)).flatten();
        let mut shards = filled.filter(|place| is_needed(place.log)).map(|place| &place.covered);
        let reached = |covered: &Option<u64>| covered.is_none_or(|covered| covered >= next);
        shards.all(|covered| covered.get(usize::from(partition)).is_none_or(reached))
    }

    pub fn build_progress(&self, consumer: u32) -> BuildProgress {
        let places: Vec<&MemberPlace> =
            self.all().filter_map(|engine| engine.members.get(&consumer)).flatten().collect();
        let Some(first) = places.first() else {
            // None of its partitions is here.
            let caught_up = self.all().all(|engine| engine.work.tables.contains(&consumer));
            return BuildProgress { caught_up, ..BuildProgress::default() };
        };
        let repartition = first.repartition;
        let mut progress = BuildProgress { caught_up: true, ..BuildProgress::default() };
        for place in places {
            progress.done += place.next;
            progress.total += place.shard_next;
            progress.caught_up &= place.next >= place.shard_next && !place.waits;
        }
        if let Some((repartition_log, own_log)) = repartition {
            // A follower has no router and no emitter: others fill the log.
            let router = repartition_log | ROUTER_BIT;
            if self.all().any(|engine| engine.members.contains_key(&router)) {
                let router = self.build_progress(router);
                progress.done += router.done;
                progress.total += router.total;
                progress.caught_up &= router.caught_up;
            }
            let targets = self.all().flat_map(|engine| &engine.targets.0).filter(|((log, _), _)| *log == own_log);
            // Other logs of the dataset may be read by an older version only, and filled by nobody since its owner has the newer one.
            for ((_, partition), next) in targets {
                progress.caught_up &= self.has_routed(own_log, *partition, *next, |log| log == repartition_log);
            }
        }
        progress
    }

    pub fn shards(&self) -> Vec<ShardPlace> {
        self.all().flat_map(|engine| &engine.shards).cloned().collect()
    }

    pub fn emitters(&self) -> Vec<(Arc<Emitter>, u16, u64)> {
        self.all().flat_map(|engine| &engine.emitters).cloned().collect()
    }

    /// By its topic, how far the tables behind each log of rows are.
    pub fn feeds(&self) -> BTreeMap<String, FeedPlace> {
        let mut all: BTreeMap<String, FeedPlace> = BTreeMap::new();
        for (topic, place) in self.all().flat_map(|engine| &engine.feeds) {
            all.entry(topic.clone()).or_insert_with(|| place.clone()).slow_down(&place.covered);
        }
        all
    }

    /// How far every log has been applied.
    pub fn position(&self) -> PositionSet {
        PositionSet(self.all().flat_map(|engine| &engine.logs).map(|(place, next)| (*place, *next)).collect())
    }

    /// The place after the newest erase in a partition of a dataset's own log.
    pub fn erased_below(&self, log_id: u32, partition: u16) -> u64 {
        self.all().find_map(|engine| engine.erased.get(&(log_id, partition)).copied()).unwrap_or_default()
    }
}
