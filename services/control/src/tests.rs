//! Commits over the real engine, log, state and catalog, all in memory. The log has a gate: while it is shut reading fails, so
//! a build stays where it is for as long as a test looks at it.

mod chains;
mod erases;
mod moving;
mod nodes;
mod rebuild;
mod shared;
mod sources;
mod takeover;

use crate::*;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thyme_catalog::{Catalog, SqlCatalog};
use thyme_core::definition::Compiled;
use thyme_core::record::{EventId, Record, encode_row};
use thyme_core::slice::Slice;
use thyme_core::time::{Clock, ClockMode, Micros};
use thyme_core::{ErrorKind, Result, Value, key};
use thyme_engine::{Engine, EngineHandle, EngineOptions, Role, RunningEngine};
use thyme_log::{Alone, Appended, Batch, EmbeddedLog, EventLog, LogRecord, Member, NewRecord, Onlooker, Producer};
use thyme_query::{AlwaysApplied, Given, NoExtractors, NoRuns, QueryEngine, QueryOptions, QueryParts, Question};
use thyme_state::{StateStore, States};
use tokio::sync::watch;

const T0: Micros = 1_705_320_000_000_000;
const MINUTE: Micros = 60_000_000;

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Micros {
        T0
    }
}

struct GatedLog {
    log: EmbeddedLog,
    shut: AtomicBool,
    /// Transactional ids of which no producer can be had.
    refused: Mutex<BTreeSet<String>>,
    /// Of topics whose names begin so only the records below this place can be read.
    half_shut: Mutex<Option<(&'static str, u64)>>,
    /// What keeps this node out.
    trouble: Mutex<Option<thyme_core::Error>>,
}

#[async_trait]
impl EventLog for GatedLog {
    fn identity(&self) -> &str {
        self.log.identity()
    }
    fn create_topic(&self, topic: &str, partitions: u16) -> Result<()> {
        self.log.create_topic(topic, partitions)
    }
    fn delete_topic(&self, topic: &str) -> Result<()> {
        self.log.delete_topic(topic)
    }
    fn topics(&self) -> Result<Vec<(String, u16)>> {
        self.log.topics()
    }
    async fn append(&self, batches: Vec<Batch>) -> Result<Vec<Appended>> {
        self.log.append(batches).await
    }
    fn read(&self, topic: &str, part: u16, from: u64, max_records: usize, max_bytes: usize) -> Result<Vec<LogRecord>> {
        if self.shut.load(Ordering::SeqCst) {
            return Err(thyme_core::Error::unavailable("the gate is shut"));
        }
        let mut records = self.log.read(topic, part, from, max_records, max_bytes)?;
        if let Some((prefix, end)) = *self.half_shut.lock()
            && topic.starts_with(prefix)
        {
            if from >= end && !records.is_empty() {
                return Err(thyme_core::Error::unavailable("the gate is half shut"));
            }
            records.truncate(records.partition_point(|record| record.offset < end));
        }
        Ok(records)
    }
    fn end_offset(&self, topic: &str, partition: u16) -> Result<u64> {
        self.log.end_offset(topic, partition)
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.log.changes()
    }
    fn trouble(&self) -> Option<thyme_core::Error> {
        self.trouble.lock().clone()
    }
    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        if self.refused.lock().contains(transactional_id) {
            return Err(thyme_core::Error::unavailable("the broker refuses the producer"));
        }
        self.log.producer(transactional_id)
    }
}

/// What ingest was told last: dataset -> log id.
#[derive(Default)]
struct ToldIngest(Mutex<BTreeMap<String, u32>>);

impl IngestTarget for ToldIngest {
    fn deploy(&self, compiled: &Compiled, ids: &BTreeMap<String, u32>) -> Result<()> {
        let raw = compiled.datasets.values().filter(|dataset| dataset.is_raw());
        *self.0.lock() = raw.map(|dataset| (dataset.name.clone(), ids[&dataset.log_identity()])).collect();
        Ok(())
    }
}

/// What outlives a restart.
struct Disk {
    catalog: Arc<SqlCatalog>,
    log: Arc<GatedLog>,
    states: States,
    data_dir: String,
    /// Tells who owns slices.
    member: Arc<dyn Member>,
}

struct Node {
    controller: Arc<Controller>,
    query: Arc<QueryEngine>,
    ingest: Arc<ToldIngest>,
    engine: EngineHandle,
    running: Vec<RunningEngine>,
}

/// How many engines share the work.
const SLICES: [u16; 2] = [1, 3];

/// Empty ones.
fn states_of(slices: u16) -> States {
    States::new((0..slices).map(|_| StateStore::in_memory().unwrap()).collect())
}

impl Disk {
    async fn new() -> Disk {
        Disk::sliced(1).await
    }

    /// With so many states, of an engine each.
    async fn sliced(slices: u16) -> Disk {
        let log = GatedLog {
            log: EmbeddedLog::in_memory().unwrap(),
            shut: AtomicBool::new(false),
            half_shut: Mutex::default(),
            refused: Mutex::default(),
            trouble: Mutex::default(),
        };
        let catalog = Arc::new(SqlCatalog::in_memory().await.unwrap());
        let member = Alone::new(thyme_log::Node { id: "test".to_string(), url: "memory".to_string() });
        let (states, data_dir) = (states_of(slices), "memory".to_string());
        Disk { catalog, log: Arc::new(log), states, data_dir, member: Arc::new(member) }
    }

    /// As many, but empty.
    fn no_states(&self) -> States {
        states_of(self.states.slices())
    }

    fn shut(&self, shut: bool) {
        self.log.shut.store(shut, Ordering::SeqCst);
    }

    /// Who reads such topics from their beginning stays at a place, for as long as a test looks at it.
    fn half_shut(&self, topics_and_end: Option<(&'static str, u64)>) {
        *self.log.half_shut.lock() = topics_and_end;
    }

    async fn start(&self) -> Node {
        let node = self.open(self.states.clone(), Role::Owner);
        node.lead().await.unwrap();
        node
    }

    fn engine_of(&self, index: u16, state: &Arc<StateStore>, role: Role) -> Engine {
        let slice = Slice { index, of: self.states.slices() };
        let options = EngineOptions { durable: false, role, slice, ..EngineOptions::default() };
        Engine::open(state.clone(), self.log.clone(), options).unwrap()
    }

    /// A node that neither leads nor follows yet.
    fn open(&self, states: States, role: Role) -> Node {
        let all = states.all();
        let running: Vec<RunningEngine> =
            all.iter().map(|(slice, state)| self.engine_of(*slice, state, role).spawn().unwrap()).collect();
        let engine = EngineHandle::of_none(states.slices());
        running.iter().for_each(|running| engine.add(&running.handle));
        let query = Arc::new(QueryEngine::new(QueryParts {
            states: states.clone(),
            extractors: Arc::new(NoExtractors),
            clock: Arc::new(FixedClock),
            runs: Arc::new(NoRuns),
            applied: Arc::new(AlwaysApplied),
            options: QueryOptions::default(),
        }));
        let ingest = Arc::new(ToldIngest::default());
        let controller = Controller::new(ControlParts {
            catalog: self.catalog.clone(),
            log: self.log.clone(),
            states,
            engine: engine.clone(),
            query: query.clone(),
            ingest: ingest.clone(),
            sources: Arc::default(),
            checkpoints: Arc::default(),
            clock: Arc::new(FixedClock),
            clock_mode: ClockMode::Wall,
            data_dir: self.data_dir.clone(),
            state_is_new: false,
            member: self.member.clone(),
        });
        Node { controller, query, ingest, engine, running }
    }

    /// One event of `user` per minute before T0.
    async fn append_orders(&self, user: &str, count: i64) {
        let key = key::encode_key(&[Value::str(user)]).unwrap();
        let partition = key::partition(&key, key::DEFAULT_PARTITIONS);
        let record = |number: i64| {
            let event_time = T0 - number * MINUTE;
            let mut row = Vec::new();
            encode_row(&[Value::str(user), Value::Time(event_time), Value::Float(1.0)], &mut row);
            let record = Record::Event { append_time: T0, event_time, id: EventId::None, row: &row };
            NewRecord::new(key.clone(), record.encode())
        };
        let records = (0..count).map(record).collect();
        self.log.append(vec![Batch { topic: "Order.v1".to_string(), partition, records }]).await.unwrap();
    }
}

async fn until(mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..4000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never comes");
}

impl Node {
    async fn commit(
        &self,
        definitions: &Json,
        change: impl FnOnce(&mut CommitRequest),
    ) -> Result<CommitResult, String> {
        let definitions = definitions.to_string().into_bytes();
        let mut request = CommitRequest { definitions, ..CommitRequest::default() };
        change(&mut request);
        let refused = |errors: Vec<thyme_core::Error>| format!("{errors:?}");
        self.controller.commit_to_end(request).await.map_err(refused)
    }

    async fn wait_live(&self, id: &str) {
        until(async || self.controller.commit_view(id).await.unwrap().state == "active").await;
    }

    async fn ask(&self, featureset: &str, feature: &str) -> Result<Value> {
        let key = [("user_id".to_string(), Given::from(Value::str("u1")))].into();
        let mut question = Question::online(featureset, key);
        question.features = Some(vec![feature.to_string()]);
        let answer = self.query.answer(question).await?;
        Ok(answer.columns[0].values[0].value.clone())
    }

    /// Whether its owners are told to say that they have built a commit.
    async fn has_built(&self, id: &str) -> bool {
        let sequence = self.controller.parts.catalog.commit(id).await.unwrap().unwrap().sequence;
        self.controller.number.load(Ordering::SeqCst) == thyme_engine::number::built(sequence)
    }

    /// Owns these slices, and no others, from now on.
    async fn own(&self, slices: &[u16]) -> Result<()> {
        self.controller.own(&slices.iter().copied().collect()).await
    }

    /// Owns all of them.
    async fn lead(&self) -> Result<()> {
        self.controller.own(&(0..self.engine.slices()).collect()).await
    }

    /// Of all slices.
    fn all_progress(&self) -> Vec<(u32, u16, u64)> {
        let snapshots = self.controller.parts.states.snapshot();
        snapshots.iter().flat_map(|state| state.all_progress().unwrap()).collect()
    }

    fn stop(self) {
        self.running.into_iter().for_each(RunningEngine::stop);
    }
}

fn field(name: &str, data_type: &str) -> Json {
    json!({"name": name, "type": data_type, "key": name == "user_id", "timestamp": name == "ts"})
}

/// Dataset `Order`, a pipeline that counts over `window` into `stats`, and the featureset `features` with it as feature `n`.
fn counting(stats: &str, features: &str, window: &str) -> Json {
    json!({
        "format": 1,
        "datasets": [
            {"name": "Order", "version": 1, "index": false,
             "fields": [field("user_id", "str"), field("ts", "datetime"), field("amount", "float")]},
            {"name": stats, "version": 1, "index": true,
             "fields": [field("user_id", "str"), field("ts", "datetime"), field("n", "int")]},
        ],
        "pipelines": [{"name": "count", "version": 1, "dataset": stats, "input": "Order", "group_by": ["user_id"],
            "aggregates": [{"name": "n", "op": {"kind": "count"}, "window": window}]}],
        "featuresets": [{"name": features, "features": [
            {"name": "user_id", "type": "str"},
            {"name": "n", "type": "int", "id": 7, "ref": {"dataset": stats, "field": "n"}},
        ]}],
    })
}

/// A node that serves `Old` over 100 events, and is building `New` behind a shut gate.
async fn while_building(disk: &Disk) -> (Node, String) {
    let node = disk.start().await;
    node.commit(&counting("OldStats", "Old", "1h"), |_| ()).await.unwrap();
    disk.append_orders("u1", 100).await;
    while node.controller.status().unwrap().lag > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    disk.shut(true);
    let mut new = counting("NewStats", "New", "90m");
    let mut visits = field("user_id", "str");
    visits["key"] = json!(true);
    new["datasets"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "Visit", "version": 1, "index": false, "fields": [visits, field("ts", "datetime")]}));
    let result = node.commit(&new, |_| ()).await.unwrap();
    let built = result.plan.built.iter().find(|item| item.identity == "pipeline:NewStats.count@1").unwrap();
    assert_eq!(built.replay_records, Some(100));
    (node, result.commit.unwrap().id)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_serves_until_the_new_has_caught_up() {
    let disk = Disk::new().await;
    let (node, id) = while_building(&disk).await;
    assert_eq!(node.controller.commit_view("").await.unwrap().state, "building");
    assert_ne!(node.controller.status().unwrap().state, "ready");
    assert_eq!(node.ask("Old", "n").await.unwrap(), Value::Int(61));
    let refused = node.ask("New", "n").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.message().contains("of 100 records"), "{refused}");
    assert!(node.ingest.0.lock().contains_key("Visit"), "a new dataset takes events at once");
    let builds = node.controller.commit_view(&id).await.unwrap().builds;
    assert_eq!((builds[0].pipeline.as_str(), builds[0].total_records), ("NewStats.count@1", 100));

    disk.shut(false);
    node.wait_live(&id).await;
    assert_eq!(node.ask("New", "n").await.unwrap(), Value::Int(91));
    assert_eq!(node.ask("Old", "n").await.unwrap(), Value::Int(61));
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_commit_waits_or_supersedes() {
    let disk = Disk::new().await;
    let (node, id) = while_building(&disk).await;
    let other = counting("NewStats", "New", "30m");
    let refused = node.commit(&other, |_| ()).await.unwrap_err();
    assert!(refused.contains(&id) && refused.contains("--supersede"), "{refused}");
    let planned = node.commit(&other, |request| request.dry_run = true).await.unwrap();
    assert!(planned.commit.is_none());
    let first_log = node.ingest.0.lock()["Visit"];

    let next = node.commit(&other, |request| request.supersede = true).await.unwrap().commit.unwrap();
    assert_eq!(node.controller.commit_view(&id).await.unwrap().state, "superseded");
    assert_eq!(node.ask("Old", "n").await.unwrap(), Value::Int(61));
    assert!(!node.ingest.0.lock().contains_key("Visit"));
    disk.shut(false);
    node.wait_live(&next.id).await;
    // Not one event of the half-built first attempt, which had the same name and version and another window.
    assert_eq!(node.ask("New", "n").await.unwrap(), Value::Int(31));
    let ids = disk.catalog.find_ids(&["log:Visit@1".to_string()]).await.unwrap();
    assert!(ids.is_empty(), "the log {first_log} of a dataset that nobody has is dropped");
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_commit_again_is_the_one_being_built() {
    let disk = Disk::new().await;
    let (node, id) = while_building(&disk).await;
    let text = disk.catalog.definitions(&id).await.unwrap();
    let again = node.commit(&serde_json::from_str(&text).unwrap(), |_| ()).await.unwrap();
    assert_eq!(again.commit.unwrap().id, id);
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_with_the_build() {
    let disk = Disk::new().await;
    let (node, id) = while_building(&disk).await;
    node.stop();
    let node = disk.start().await;
    assert_eq!(node.controller.commit_view(&id).await.unwrap().state, "building");
    assert_eq!(node.ask("Old", "n").await.unwrap(), Value::Int(61));
    assert_eq!(node.ask("New", "n").await.unwrap_err().kind(), ErrorKind::Unavailable);
    disk.shut(false);
    node.wait_live(&id).await;
    assert_eq!(node.ask("New", "n").await.unwrap(), Value::Int(91));
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_feature_id_is_never_given_to_another_feature() {
    let disk = Disk::new().await;
    let node = disk.start().await;
    let definitions = counting("Stats", "Features", "1h");
    node.commit(&definitions, |_| ()).await.unwrap();
    node.commit(&json!({"format": 1}), |request| request.remove = vec!["Features".to_string()]).await.unwrap();
    let mut reused = definitions.clone();
    reused["featuresets"][0]["features"][1]["name"] = json!("other");
    let refused = node.commit(&reused, |_| ()).await.unwrap_err();
    assert!(refused.contains("7"), "{refused}");
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_feature_answers_under_both_names() {
    let disk = Disk::new().await;
    let node = disk.start().await;
    let definitions = counting("Stats", "Features", "1h");
    node.commit(&definitions, |_| ()).await.unwrap();
    let mut renamed = definitions.clone();
    renamed["featuresets"][0]["features"][1]["name"] = json!("orders");
    let plan = node.commit(&renamed, |_| ()).await.unwrap().plan;
    assert_eq!((plan.renamed[0].from.as_str(), plan.renamed[0].to.as_str()), ("n", "orders"));
    assert_eq!(node.ask("Features", "n").await.unwrap(), Value::Int(0));
    assert_eq!(node.ask("Features", "orders").await.unwrap(), Value::Int(0));
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_has_a_topic_while_it_emits() {
    let disk = Disk::new().await;
    let node = disk.start().await;
    let silent = counting("Stats", "Features", "1h");
    node.commit(&silent, |_| ()).await.unwrap();
    disk.append_orders("u1", 3).await;
    let mut emitting = silent.clone();
    emitting["datasets"][1]["emit"] = json!(true);
    let result = node.commit(&emitting, |_| ()).await.unwrap();
    let built: Vec<&str> = result.plan.built.iter().map(|item| item.identity.as_str()).collect();
    assert_eq!(built, ["emit:Stats@1:count@1"]);
    let details: Vec<&str> = result.plan.changed.iter().flat_map(|item| &item.details).map(String::as_str).collect();
    assert_eq!(details, ["emit false -> true"]);

    let partition = key::partition(&key::encode_key(&[Value::str("u1")]).unwrap(), key::DEFAULT_PARTITIONS);
    let records = || disk.log.log.read("Stats.v1.count.v1", partition, 0, 10, 1 << 20).unwrap_or_default();
    while records().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rows: Vec<Json> = records().iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect();
    // The newest came first: each sees what came before it and is not later.
    let row = |ts: &str| json!({"user_id": "u1", "ts": ts, "n": 1});
    assert_eq!(rows, ["2024-01-15T12:00:00Z", "2024-01-15T11:59:00Z", "2024-01-15T11:58:00Z"].map(row));

    let shown = |node: &Node| -> Vec<String> {
        let emissions = node.controller.status().unwrap().emissions.into_iter();
        emissions.map(|emission| format!("{} {} {}", emission.dataset, emission.topic, emission.lag)).collect()
    };
    while shown(&node) != ["Stats Stats.v1.count.v1 0"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let result = node.commit(&silent, |_| ()).await.unwrap();
    assert!(shown(&node).is_empty());
    let dropped: Vec<&str> = result.plan.dropped.iter().map(|item| item.identity.as_str()).collect();
    assert_eq!(dropped, ["emit:Stats@1:count@1"]);
    while disk.log.topics().unwrap().iter().any(|(topic, _)| topic == "Stats.v1.count.v1") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.stop();
}
