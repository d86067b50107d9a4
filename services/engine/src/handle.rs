//! What other threads see of the engine and tell it: how far it is, whether a position has been applied, what is being built.

use crate::applied::{Applied, FeedPlace, Together};
use crate::consume::ROUTER_BIT;
use crate::emit::{Emitter, Output};
use crate::runner::Command;
use crate::spec::{JobSpec, Role};
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use thyme_core::position::PositionSet;
use thyme_core::slice::Slice;
use thyme_core::{Error, ErrorKind, Result};
use thyme_log::EventLog;
use thyme_state::{CounterScope, Counters, StateStore};
use tokio::sync::{Notify, oneshot, watch};

pub(crate) struct Shared {
    state: Arc<StateStore>,
    log: Arc<dyn EventLog>,
    applied: RwLock<Applied>,
    /// Changes with every tick.
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

    /// Every partition of its slice; `is_away` once the log could not be asked.
    fn status(&self, is_away: &mut bool, found: &mut Vec<ShardStatus>) -> Result<()> {
        let places = self.applied.read().shards.clone();
        let snapshot = self.state.snapshot();
        for place in places {
            let heard = if *is_away { None } else { self.log.end_offset(&place.topic, place.partition).ok() };
            *is_away |= heard.is_none();
            let mut ends = self.ends.lock();
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
        Ok(())
    }

    /// Puts a command before the engine's next round.
    fn tell<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> oneshot::Receiver<T> {
        let (done, answer) = oneshot::channel();
        self.commands.lock().push_back(make(done));
        self.wake.notify_one();
        answer
    }

    pub(crate) fn publish(&self, applied: Applied) {
        *self.applied.write() = applied;
        self.version.send_modify(|version| *version += 1);
    }
}

/// One engine, or those of the slices that are here together. Clones see the same engines; it lives as long as anyone holds it.
#[derive(Clone)]
pub struct EngineHandle {
    /// How many slices there are, here and elsewhere.
    slices: u16,
    engines: Arc<ArcSwap<Engines>>,
}

/// By their slices.
type Engines = BTreeMap<u16, Arc<Shared>>;

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
    pub(crate) fn new(slice: Slice, shared: Arc<Shared>) -> Self {
        EngineHandle::with(slice.of, BTreeMap::from([(slice.index, shared)]))
    }

    fn with(slices: u16, engines: Engines) -> Self {
        EngineHandle { slices, engines: Arc::new(ArcSwap::from_pointee(engines)) }
    }

    /// Of no slice of so many, until engines are [added](EngineHandle::add).
    pub fn of_none(slices: u16) -> EngineHandle {
        EngineHandle::with(slices, Engines::new())
    }

    /// The engines of several slices as one.
    pub fn of_all(engines: impl IntoIterator<Item = EngineHandle>) -> EngineHandle {
        let mut all = EngineHandle::of_none(0);
        for engine in engines {
            all.slices = engine.slices;
            all.add(&engine);
        }
        all
    }

    /// From now on the engines of these slices belong to it too, for all its clones.
    pub fn add(&self, other: &EngineHandle) {
        let added = other.engines.load();
        let with = |engines: &Arc<Engines>| {
            let all = engines.iter().chain(added.iter());
            all.map(|(slice, engine)| (*slice, engine.clone())).collect::<Engines>()
        };
        self.engines.rcu(with);
    }

    /// From now on the engine of this slice does not belong to it, for all its clones.
    pub fn remove(&self, slice: u16) {
        let without = |engines: &Arc<Engines>| {
            let mut engines = Engines::clone(engines);
            engines.remove(&slice);
            engines
        };
        let before = self.engines.rcu(without);
        // Who waits for it looks again.
        if let Some(engine) = before.get(&slice) {
            engine.version.send_modify(|version| *version += 1);
        }
    }

    /// The engine of one slice, if it is here.
    pub fn slice(&self, index: u16) -> Result<EngineHandle> {
        let engine = self.engines.load().get(&index).cloned();
        let engine = engine.ok_or_else(|| {
            Error::unavailable(format!("slice {index} of {} is not here", self.slices)).hint("try again in a second")
        })?;
        Ok(EngineHandle::with(self.slices, BTreeMap::from([(index, engine)])))
    }

    /// How many slices there are, here and elsewhere.
    pub fn slices(&self) -> u16 {
        self.slices
    }

    /// The slices whose engines are here.
    pub fn held(&self) -> BTreeSet<u16> {
        self.engines.load().keys().copied().collect()
    }

    /// Whether those of all slices are here.
    pub fn has_all(&self) -> bool {
        self.engines.load().len() == usize::from(self.slices)
    }

    /// The states of the slices that are here.
    pub fn states(&self) -> BTreeMap<u16, Arc<StateStore>> {
        self.engines.load().iter().map(|(slice, engine)| (*slice, engine.state.clone())).collect()
    }

    fn together<T>(&self, ask: impl FnOnce(&Together<'_>) -> T) -> T {
        let engines = self.engines.load();
        ask(&Together::new(engines.values().map(|engine| engine.applied.read())))
    }

    /// Whether everything below `position` is in state, through repartition logs too.
    pub fn is_applied(&self, position: &PositionSet) -> bool {
        self.together(|applied| applied.covers(position, |_| true))
    }

    /// Whether what the slices that are here have of `position` is in their states, where of the logs that are filled from others only
    /// those in `logs` matter.
    pub fn is_applied_in(&self, position: &PositionSet, logs: &BTreeSet<u32>) -> bool {
        self.together(|applied| applied.covers_own(position, |log| logs.contains(&log)))
    }

    /// Whether the slices that are here have come to a place of the logs with all that has these ids, of logs and tables, as far as it is
    /// still worked on.
    pub fn has_come_to(&self, position: &PositionSet, ids: &BTreeSet<u32>) -> bool {
        self.together(|applied| applied.have_come_to(position, ids))
    }

    /// Waits until it is so, which is looked at after every tick of an engine.
    pub async fn wait_until(&self, is_so: impl Fn() -> bool) {
        loop {
            let engines = self.engines.load_full();
            let mut versions: Vec<_> = engines.values().map(|engine| engine.version.subscribe()).collect();
            drop(engines);
            if is_so() {
                return;
            }
            // One that ends is not there any more when it is looked again.
            if any_changed(&mut versions).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Waits until what these slices have of `position` is in their states. One that goes meanwhile is not waited for.
    pub async fn wait_applied(&self, slices: &BTreeSet<u16>, position: &PositionSet, deadline: Duration) -> Result<()> {
        let have_applied = |engines: &Engines| {
            let waited_for = engines.iter().filter(|(slice, _)| slices.contains(slice));
            Together::new(waited_for.map(|(_, engine)| engine.applied.read())).covers_own(position, |_| true)
        };
        let reached = self.wait_until(|| have_applied(&self.engines.load()));
        tokio::time::timeout(deadline, reached).await.map_err(|_| {
            Error::new(ErrorKind::DeadlineExceeded, "the events asked for with at_least were not applied in time")
                .field("at_least")
                .hint("ask again with a longer deadline, or look at the engine's lag with thyme status")
        })
    }

    /// Progress of a consumer (a table id) over all its partitions. Unknown ids have caught up with nothing.
    pub fn build_progress(&self, consumer: u32) -> BuildProgress {
        self.together(|applied| applied.build_progress(consumer))
    }

    /// What a pipeline made of the rows that it read: the totals of its table, and of the rows without a group key, which do not reach
    /// its repartition log, those of the router that fills it.
    pub fn pipeline_counters(&self, table: u32, repartition_log: Option<u32>) -> Result<Counters> {
        let mut total = Counters::default();
        for engine in self.engines.load().values() {
            let snapshot = engine.state.snapshot();
            total.add(&snapshot.total_counters(CounterScope::Consumer(table))?);
            if let Some(log) = repartition_log {
                let router = snapshot.total_counters(CounterScope::Consumer(log | ROUTER_BIT))?;
                total.null_key += router.null_key;
                total.warnings += router.warnings;
            }
        }
        Ok(total)
    }

    /// Every log partition with its totals. While the log cannot be asked, ends are those heard last.
    pub fn status(&self) -> Result<Vec<ShardStatus>> {
        let mut found = Vec::new();
        let mut is_away = false;
        for engine in self.engines.load().values() {
            engine.status(&mut is_away, &mut found)?;
        }
        Ok(found)
    }

    /// How far the topics of aggregated datasets, and the logs of rows that pipelines read, are behind the pipelines that make the rows.
    pub fn emissions(&self) -> Vec<EmissionStatus> {
        let emitters = self.together(|applied| applied.emitters());
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
        let (position, feeds) = self.together(|applied| (applied.position(), applied.feeds()));
        let mut found = Vec::new();
        for (topic, FeedPlace { dataset, own_log, covered }) in feeds {
            for (partition, covered) in (0..).zip(covered) {
                let next = position.0.get(&(own_log, partition)).copied().unwrap_or_default();
                let lag = next - covered.unwrap_or(next).min(next);
                found.push(FeedStatus { dataset: dataset.clone(), topic: topic.clone(), partition, lag });
            }
        }
        found
    }

    /// Records of the datasets' logs that wait to be applied, those that are on their way through a repartition log too; `None`
    /// while the log cannot be asked. At the end of a repartition log may be a broker's markers, which nobody works off.
    pub fn lag(&self) -> Option<u64> {
        let (lag, ends) = self.lag_and_ends()?;
        let is_on_its_way = lag == 0 && !self.is_applied(&ends);
        Some(if is_on_its_way { 1 } else { lag })
    }

    /// The same without those on their way: what other slices' owners should have filled.
    pub fn own_lag(&self) -> Option<u64> {
        self.lag_and_ends().map(|(lag, _)| lag)
    }

    fn lag_and_ends(&self) -> Option<(u64, PositionSet)> {
        let places = self.together(|applied| applied.shards());
        let log = self.engines.load().values().next()?.log.clone();
        let (mut lag, mut ends) = (0, PositionSet::default());
        for place in places.iter().filter(|place| !place.is_repartition) {
            let end = log.end_offset(&place.topic, place.partition).ok()?;
            lag += end.saturating_sub(place.next);
            if end > 0 {
                ends.set(place.log_id, place.partition, end);
            }
        }
        Some((lag, ends))
    }

    /// How far every log has been applied: what a position of everything is.
    pub fn applied(&self) -> PositionSet {
        self.together(|applied| applied.position())
    }

    /// For each partition of a dataset's own log, the place after the newest erase that has been applied.
    pub fn erased_below(&self, log_id: u32, partitions: u16) -> Vec<u64> {
        self.together(|applied| (0..partitions).map(|partition| applied.erased_below(log_id, partition)).collect())
    }

    /// What keeps an engine from going on, while it does.
    pub fn trouble(&self) -> Option<Error> {
        self.engines.load().values().find_map(|engine| engine.trouble.read().clone())
    }

    /// Changes the running work (see `Engine::deploy`), on the engine's thread; done when it returns. After an error some slices may
    /// have changed theirs: it is done again, or undone by another deployment.
    pub async fn deploy(&self, spec: JobSpec) -> Result<()> {
        self.command(|done| Command::Deploy(spec.clone(), done)).await
    }

    /// Gives what is deployed another number: owners note it.
    pub async fn renumber(&self, number: u64) -> Result<()> {
        self.command(|done| Command::Renumber(number, done)).await
    }

    /// Deletes the state of consumers that run no more.
    pub async fn drop_state(&self, consumers: Vec<u32>) -> Result<()> {
        self.command(|done| Command::DropState(consumers.clone(), done)).await
    }

    /// Makes a follower the owner, or an owner a follower (see `Engine::set_role`).
    pub async fn set_role(&self, role: Role) -> Result<()> {
        self.command(|done| Command::SetRole(role, done)).await
    }

    /// Fences every earlier owner (see `Engine::fence`).
    pub async fn fence(&self) -> Result<()> {
        self.command(Command::Fence).await
    }

    /// The number of a deployment that the owners of all slices have come to (see `notes.rs`). Asked by the owner of the first.
    pub async fn noted_by_all(&self) -> Result<u64> {
        let first = self.engines.load().get(&0).cloned();
        let first = first
            .ok_or_else(|| Error::unavailable("the first slice is another node's").hint("try again in a second"))?;
        first.tell(Command::Noted).await.map_err(|_| Error::unavailable("the engine has stopped"))?
    }

    /// For each partition of a dataset's own log, the place after the newest erase that its owner has noted. Asked by the owner of the first.
    pub async fn noted_erases(&self, topic: &str, partitions: u16) -> Result<Vec<u64>> {
        let first = self.engines.load().get(&0).cloned();
        let first = first
            .ok_or_else(|| Error::unavailable("the first slice is another node's").hint("try again in a second"))?;
        let topic = topic.to_string();
        let told = first.tell(|done| Command::NotedErases(topic, partitions, done)).await;
        told.map_err(|_| Error::unavailable("the engine has stopped"))?
    }

    /// First the first, which makes what the others fill; then the others at the same time. The first error, once all are through.
    async fn command(&self, make: impl Fn(oneshot::Sender<Result<()>>) -> Command) -> Result<()> {
        let stopped = |_| Error::unavailable("the engine has stopped");
        let engines: Vec<Arc<Shared>> = self.engines.load().values().cloned().collect();
        let Some((first, others)) = engines.split_first() else { return Ok(()) };
        first.tell(&make).await.map_err(stopped).flatten()?;
        let answers: Vec<_> = others.iter().map(|engine| engine.tell(&make)).collect();
        let mut outcome = Ok(());
        for answer in answers {
            outcome = outcome.and(answer.await.map_err(stopped).flatten());
        }
        outcome
    }

    /// Asks the engines' threads to end after their round.
    pub fn stop(&self) {
        for engine in self.engines.load().values() {
            engine.stopping.store(true, Ordering::Release);
            engine.wake.notify_one();
        }
    }
}

/// Waits until one of them has changed; an error if nobody can change one any more.
async fn any_changed(versions: &mut [watch::Receiver<u64>]) -> Result<(), watch::error::RecvError> {
    let mut changes: Vec<_> = versions.iter_mut().map(|version| Box::pin(version.changed())).collect();
    std::future::poll_fn(|context| {
        let ready = changes.iter_mut().find_map(|change| match change.as_mut().poll(context) {
            Poll::Ready(changed) => Some(changed),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
