//! What other threads see of the engine and tell it: how far it is, whether a position has been applied, what is being built.

use crate::consume::{MemberKind, ROUTER_BIT};
use crate::emit::{Emitter, Output};
use crate::runner::Command;
use crate::shard::Shard;
use crate::spec::{JobSpec, Role};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thyme_core::position::PositionSet;
use thyme_core::{Error, ErrorKind, Result};
use thyme_log::EventLog;
use thyme_state::{CounterScope, Counters, StateStore};
use tokio::sync::{Notify, watch};

/// How far every shard was at the last committed tick.
#[derive(Default, Clone)]
pub struct Applied {
    /// (log id, partition) -> next offset.
    logs: BTreeMap<(u32, u16), u64>,
    /// Dataset's log id -> for each partition of each log that is filled from it, how far each partition of the dataset's own log is
    /// in it (see `Shard::covered`).
    routed: HashMap<u32, Vec<Vec<Option<u64>>>>,
    members: HashMap<u32, Vec<MemberPlace>>,
    /// Of a dataset's own log: (log id, partition) -> place after the newest erase.
    erased: BTreeMap<(u32, u16), u64>,
    shards: Vec<ShardPlace>,
    /// Each emitter's partition, and how far it is behind its pipeline.
    emitters: Vec<(Arc<Emitter>, u16, u64)>,
    /// By its topic, each log of rows that pipelines read.
    feeds: BTreeMap<String, FeedPlace>,
    /// Where each dataset's own shards stood when the work was last changed: what a build must have reached.
    targets: PositionSet,
}

/// Where one consumer stands in one partition.
#[derive(Clone, Copy)]
struct MemberPlace {
    next: u64,
    /// Where its shard stands; for an emitter, which is a round behind its pipeline, where it stood a round ago.
    shard_next: u64,
    /// It has not begun: see `LeftOut::Unknown`.
    waits: bool,
    /// It reads this repartition log, of the dataset with this own log.
    repartition: Option<(u32, u32)>,
}

/// How far the tables behind a log of rows are.
#[derive(Clone)]
struct FeedPlace {
    dataset: String,
    own_log: u32,
    /// For each partition of the raw dataset's log, how far the slowest of its shards is (see `Shard::covered`).
    covered: Vec<Option<u64>>,
}

/// One shard, for status.
#[derive(Clone, Debug)]
struct ShardPlace {
    dataset: String,
    log_id: u32,
    topic: String,
    partition: u16,
    next: u64,
    is_repartition: bool,
    greatest_event_time: Option<i64>,
    max_lateness: Option<i64>,
}

impl Applied {
    pub(crate) fn new(targets: PositionSet) -> Applied {
        Applied { targets, ..Applied::default() }
    }

    pub(crate) fn add_shard(&mut self, shard: &Shard) {
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
                self.add_feed(shard, &covered);
            }
            self.routed.entry(shard.own_log).or_default().push(covered);
        }
    }

    fn add_feed(&mut self, shard: &Shard, covered: &[Option<u64>]) {
        let place = self.feeds.entry(shard.topic.clone()).or_insert_with(|| FeedPlace {
            dataset: shard.dataset.name.clone(),
            own_log: shard.own_log,
            covered: vec![None; covered.len()],
        });
        for (slowest, covered) in place.covered.iter_mut().zip(covered) {
            *slowest = [*slowest, *covered].into_iter().flatten().min();
        }
    }

    fn covers(&self, position: &PositionSet) -> bool {
        position.0.iter().all(|((log, partition), next)| {
            let own = self.logs.get(&(*log, *partition)).is_some_and(|applied| applied >= next);
            own && self.has_routed(*log, *partition, *next)
        })
    }

    /// Whether every log that is filled from a dataset has worked off everything below `next` of a partition of its own log.
    fn has_routed(&self, own_log: u32, partition: u16, next: u64) -> bool {
        let Some(shards) = self.routed.get(&own_log) else { return true };
        let reached = |covered: &Option<u64>| covered.is_none_or(|covered| covered >= next);
        shards.iter().all(|covered| covered.get(usize::from(partition)).is_none_or(reached))
    }

    fn build_progress(&self, consumer: u32) -> BuildProgress {
        let mut progress = BuildProgress { caught_up: true, ..BuildProgress::default() };
        let Some(places) = self.members.get(&consumer) else { return BuildProgress::default() };
        for place in places {
            progress.done += place.next;
            progress.total += place.shard_next;
            progress.caught_up &= place.next >= place.shard_next && !place.waits;
        }
        if let Some((repartition_log, own_log)) = places.first().and_then(|place| place.repartition) {
            // A follower has no router and no emitter: others fill the log.
            if self.members.contains_key(&(repartition_log | ROUTER_BIT)) {
                let router = self.build_progress(repartition_log | ROUTER_BIT);
                progress.done += router.done;
                progress.total += router.total;
                progress.caught_up &= router.caught_up;
            }
            let targets = self.targets.0.iter().filter(|((log, _), _)| *log == own_log);
            for ((_, partition), next) in targets {
                progress.caught_up &= self.has_routed(own_log, *partition, *next);
            }
        }
        progress
    }
}

pub(crate) struct Shared {
    state: Arc<StateStore>,
    log: Arc<dyn EventLog>,
    applied: RwLock<Applied>,
    version: watch::Sender<u64>,
    pub(crate) commands: Mutex<VecDeque<Command>>,
    pub(crate) wake: Notify,
    pub(crate) stopping: AtomicBool,
    pub(crate) trouble: RwLock<Option<Error>>,
    /// Ends of logs as they were heard last: (log id, partition) -> end.
    ends: Mutex<HashMap<(u32, u16), u64>>,
}

impl Shared {
    pub(crate) fn new(state: Arc<StateStore>, log: Arc<dyn EventLog>) -> Shared {
        Shared {
            state,
            log,
            applied: RwLock::default(),
            version: watch::Sender::new(0),
            commands: Mutex::default(),
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
            trouble: RwLock::new(None),
            ends: Mutex::default(),
        }
    }

    pub(crate) fn publish(&self, applied: Applied) {
        *self.applied.write() = applied;
        self.version.send_modify(|version| *version += 1);
    }
}

/// Cheap to clone; lives as long as anyone holds it.
#[derive(Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
}

/// How far a table that is being built has come, in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BuildProgress {
    pub done: u64,
    pub total: u64,
    pub caught_up: bool,
}

/// One log partition, for status pages and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardStatus {
    /// The raw dataset whose events are in it.
    pub dataset: String,
    pub topic: String,
    pub partition: u16,
    pub is_repartition: bool,
    /// Next offset the engine reads.
    pub applied: u64,
    /// End of the log.
    pub end: u64,
    /// Greatest event time less `max_lateness`, microseconds; of a dataset's own log.
    pub watermark: Option<i64>,
    /// Totals of a dataset's own log since its beginning.
    pub counters: Counters,
}

/// One partition of the topic of an aggregated dataset, or of a log that pipelines on it read. Only the owner of the work has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmissionStatus {
    pub dataset: String,
    pub topic: String,
    /// Of the log that the pipeline reads.
    pub partition: u16,
    /// It is a log that pipelines read.
    pub is_feed: bool,
    /// Log records that the pipeline has taken in and whose rows are not written yet.
    pub lag: u64,
}

/// One partition of a raw dataset's log, as seen from a log of rows that are made from its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedStatus {
    /// Whose rows they are.
    pub dataset: String,
    pub topic: String,
    pub partition: u16,
    /// Records of the raw dataset's log in state that are not in the tables behind the log of rows yet, through all stages.
    pub lag: u64,
}

impl EngineHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        EngineHandle { shared }
    }

    /// Whether everything below `position` is in state, through repartition logs too.
    pub fn is_applied(&self, position: &PositionSet) -> bool {
        self.shared.applied.read().covers(position)
    }

    /// Waits until `position` is in state.
    pub async fn wait_applied(&self, position: &PositionSet, deadline: Duration) -> Result<()> {
        let mut version = self.shared.version.subscribe();
        let reached = async {
            while !self.is_applied(position) {
                if version.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(deadline, reached).await.map_err(|_| {
            Error::new(ErrorKind::DeadlineExceeded, "the events asked for with at_least were not applied in time")
                .field("at_least")
                .hint("ask again with a longer deadline, or look at the engine's lag with thyme status")
        })
    }

    /// Progress of a consumer (a table id) over all its partitions. Unknown ids have caught up with nothing.
    pub fn build_progress(&self, consumer: u32) -> BuildProgress {
        self.shared.applied.read().build_progress(consumer)
    }

    /// Every log partition with its totals. While the log cannot be asked, ends are those heard last.
    pub fn status(&self) -> Result<Vec<ShardStatus>> {
        let places = self.shared.applied.read().shards.clone();
        let snapshot = self.shared.state.snapshot();
        let mut found = Vec::with_capacity(places.len());
        let mut is_away = false;
        for place in places {
            let heard = if is_away { None } else { self.shared.log.end_offset(&place.topic, place.partition).ok() };
            is_away |= heard.is_none();
            let mut ends = self.shared.ends.lock();
            let last = ends.entry((place.log_id, place.partition)).or_default();
            let end = heard.unwrap_or_else(|| (*last).max(place.next));
            *last = end;
            drop(ends);
            let watermark = place.greatest_event_time.zip(place.max_lateness);
            found.push(ShardStatus {
                end,
                counters: snapshot.counters(CounterScope::Log(place.log_id), place.partition)?,
                dataset: place.dataset,
                topic: place.topic,
                partition: place.partition,
                is_repartition: place.is_repartition,
                applied: place.next,
                watermark: watermark.map(|(greatest, lateness)| greatest.saturating_sub(lateness)),
            });
        }
        Ok(found)
    }

    /// How far the topics of aggregated datasets, and the logs of rows that pipelines read, are behind the pipelines that make the rows.
    pub fn emissions(&self) -> Vec<EmissionStatus> {
        let emitters = self.shared.applied.read().emitters.clone();
        let status = |(emitter, partition, lag): (Arc<Emitter>, u16, u64)| EmissionStatus {
            dataset: emitter.emission.dataset.name.clone(),
            topic: emitter.topic(),
            partition,
            is_feed: matches!(emitter.output, Output::Feed(_)),
            lag,
        };
        emitters.into_iter().map(status).collect()
    }

    /// How far the tables behind logs of rows are behind the raw datasets' own logs.
    pub fn feeds(&self) -> Vec<FeedStatus> {
        let applied = self.shared.applied.read();
        let mut found = Vec::new();
        for (topic, FeedPlace { dataset, own_log, covered }) in &applied.feeds {
            for (partition, covered) in (0..).zip(covered) {
                let next = applied.logs.get(&(*own_log, partition)).copied().unwrap_or_default();
                let lag = next - covered.unwrap_or(next).min(next);
                found.push(FeedStatus { dataset: dataset.clone(), topic: topic.clone(), partition, lag });
            }
        }
        found
    }

    /// Records of the datasets' logs that wait to be applied, those that are on their way through a repartition log too; `None`
    /// while the log cannot be asked. At the end of a repartition log may be a broker's markers, which nobody works off.
    pub fn lag(&self) -> Option<u64> {
        let places = self.shared.applied.read().shards.clone();
        let (mut lag, mut ends) = (0, PositionSet::default());
        for place in places.iter().filter(|place| !place.is_repartition) {
            let end = self.shared.log.end_offset(&place.topic, place.partition).ok()?;
            lag += end.saturating_sub(place.next);
            if end > 0 {
                ends.set(place.log_id, place.partition, end);
            }
        }
        let is_on_its_way = lag == 0 && !self.is_applied(&ends);
        Some(if is_on_its_way { 1 } else { lag })
    }

    /// How far every log has been applied: what a position of everything is.
    pub fn applied(&self) -> PositionSet {
        PositionSet(self.shared.applied.read().logs.clone())
    }

    /// For each partition of a dataset's own log, the place after the newest erase that has been applied.
    pub fn erased_below(&self, log_id: u32, partitions: u16) -> Vec<u64> {
        let applied = self.shared.applied.read();
        let place = |partition| applied.erased.get(&(log_id, partition)).copied().unwrap_or_default();
        (0..partitions).map(place).collect()
    }

    /// What keeps the engine from going on, while it does.
    pub fn trouble(&self) -> Option<Error> {
        self.shared.trouble.read().clone()
    }

    /// Changes the running work (see `Engine::deploy`), on the engine's thread; done when it returns.
    pub async fn deploy(&self, spec: JobSpec) -> Result<()> {
        self.command(|done| Command::Deploy(spec, done)).await
    }

    /// Deletes the state of consumers that run no more.
    pub async fn drop_state(&self, consumers: Vec<u32>) -> Result<()> {
        self.command(|done| Command::DropState(consumers, done)).await
    }

    /// Makes a follower the owner, or an owner a follower (see `Engine::set_role`).
    pub async fn set_role(&self, role: Role) -> Result<()> {
        self.command(|done| Command::SetRole(role, done)).await
    }

    async fn command(&self, make: impl FnOnce(tokio::sync::oneshot::Sender<Result<()>>) -> Command) -> Result<()> {
        let (done, answer) = tokio::sync::oneshot::channel();
        self.shared.commands.lock().push_back(make(done));
        self.shared.wake.notify_one();
        answer.await.map_err(|_| Error::unavailable("the engine has stopped"))?
    }

    /// Asks the engine's thread to end after its round.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}
