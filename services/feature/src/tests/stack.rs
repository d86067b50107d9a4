//! A whole server in memory, but for uploaded spines: `Order` by user with its rows looked up, `UserStats` counting and summing them, `UserFeatures`.

use crate::flight::limits::Limits;
use crate::flight::room::Bounds;
use crate::flight::service_within;
use crate::flight::spines::Spines;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use thyme_catalog::{Catalog, SqlCatalog};
use thyme_core::Result;
use thyme_core::aggregate::TableLayout;
use thyme_core::definition::{Compiled, Definitions, compile};
use thyme_core::position::PositionSet;
use thyme_core::time::{Clock, ClockMode, Micros};
use thyme_engine::{DatasetJob, Engine, EngineOptions, JobSpec, PipelineJob};
use thyme_ingest::{Ingestor, RowIds, Rows, Targets};
use thyme_log::{EmbeddedLog, EventLog};
use thyme_query::{
    AppliedWatch, Deployment, NoExtractors, QueryEngine, QueryOptions, QueryParts, RunRecord, RunSink, ServedTable,
    not_applied,
};
use thyme_state::{StateStore, Table};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint, Server};

/// 2024-01-15T12:00:00Z.
pub const NOON: Micros = 1_705_320_000_000_000;
pub const MINUTE: Micros = 60_000_000;
const LOG: u32 = 1;
/// Rows of a part of an uploaded spine: several chunks.
pub const PART: usize = 20_000;
/// All of the disk.
pub const EVERYTHING: Bounds = Bounds { bytes: u64::MAX, free_bytes: 0, free_hundredths: 0 };

struct Fixed(Micros);

impl Clock for Fixed {
    fn now(&self) -> Micros {
        self.0
    }
}

/// A clock that a test sets.
pub struct Hand(pub AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Micros {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Default)]
pub struct Kept(pub Mutex<Vec<RunRecord>>);

impl RunSink for Kept {
    fn record(&self, run: &RunRecord) {
        self.0.lock().push(run.clone());
    }
}

/// Where questions with `at_least` wait: not at all, as all is applied before anybody asks, unless it is closed.
pub struct Gate {
    is_open: watch::Sender<bool>,
    /// How many wait, and the most that did at once.
    pub waiting: watch::Sender<(usize, usize)>,
}

impl Gate {
    fn opened() -> Gate {
        Gate { is_open: watch::Sender::new(true), waiting: watch::Sender::new((0, 0)) }
    }

    pub fn open(&self) {
        self.is_open.send_replace(true);
    }

    pub fn close(&self) {
        self.is_open.send_replace(false);
    }

    /// Returns when so many wait.
    pub async fn until_waiting(&self, count: usize) {
        let mut waiting = self.waiting.subscribe();
        let comes = waiting.wait_for(|(now, _)| *now == count);
        tokio::time::timeout(Duration::from_secs(60), comes).await.expect("they should come or go").unwrap();
    }
}

struct Waiting<'a>(&'a Gate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|(now, _)| *now -= 1);
    }
}

#[async_trait]
impl AppliedWatch for Gate {
    async fn wait_applied(&self, _: &PositionSet, _: &BTreeSet<u16>, deadline: Duration) -> Result<()> {
        self.waiting.send_modify(|(now, most)| {
            *now += 1;
            *most = (*most).max(*now);
        });
        let _waiting = Waiting(self);
        let mut is_open = self.is_open.subscribe();
        let opened = async move { is_open.wait_for(|is_open| *is_open).await.is_ok() };
        tokio::time::timeout(deadline, opened).await.map(drop).map_err(|_| not_applied(deadline))
    }

    fn erased_below(&self, _: u32, partitions: u16) -> Vec<u64> {
        vec![0; usize::from(partitions)]
    }
}

pub struct Stack {
    /// `http://host:port`.
    pub url: String,
    pub channel: Channel,
    pub query: Arc<QueryEngine>,
    pub gate: Arc<Gate>,
    /// Says true when the server stops.
    pub stopping: watch::Sender<bool>,
    pub ingestor: Arc<Ingestor>,
    pub catalog: Arc<dyn Catalog>,
    pub runs: Arc<Kept>,
    /// Where spines are put, in parts of [`PART`] rows, and by which clock they expire.
    pub spines: tempfile::TempDir,
    pub spine_clock: Arc<Hand>,
    pub limits: Limits,
    engine: Mutex<Engine>,
}

pub fn definitions() -> Definitions {
    let field = |name: &str, data_type: &str, kind: &str| json!({"name": name, "type": data_type, "key": kind == "key", "timestamp": kind == "time", "nullable": kind == "optional"});
    let feature = |name: &str, data_type: &str, reference: Option<&str>| {
        let reference = reference.map(|field| json!({"dataset": "UserStats", "field": field}));
        json!({"name": name, "type": data_type, "ref": reference})
    };
    let all = json!({
        "format": 1,
        "datasets": [
            {"name": "Order", "version": 1, "index": true, "max_lateness": "1h", "fields": [
                field("user_id", "str", "key"), field("ts", "datetime", "time"),
                field("amount", "float", ""), field("items", "int", "optional")]},
            {"name": "UserStats", "version": 1, "index": true, "fields": [
                field("user_id", "str", "key"), field("ts", "datetime", "time"),
                field("orders", "int", ""), field("spend", "float", "")]}],
        "pipelines": [{"name": "compute", "version": 1, "dataset": "UserStats", "input": "Order", "group_by": ["user_id"],
            "aggregates": [
                {"name": "orders", "op": {"kind": "count"}, "window": "1h"},
                {"name": "spend", "op": {"kind": "sum"}, "of": "amount", "window": "1d"}]}],
        "featuresets": [{"name": "UserFeatures", "features": [
            feature("uid", "str", None), feature("orders", "int", Some("orders")), feature("spend", "float", Some("spend"))]}]
    });
    serde_json::from_value(all).unwrap()
}

fn tables(compiled: &Compiled) -> (Table, Table) {
    let raw = TableLayout::raw(compiled.datasets["Order"].types.clone());
    let stats = compiled.pipelines["UserStats.compute"].plan.layout.clone();
    (Table { id: 11, layout: Arc::new(raw), routed: false }, Table { id: 12, layout: Arc::new(stats), routed: false })
}

fn deployment(commit_id: &str, compiled: Arc<Compiled>) -> Deployment {
    let (raw, stats) = tables(&compiled);
    let served = |table: Table| ServedTable { consumer: table.id, log: LOG, table };
    Deployment {
        commit_id: commit_id.into(),
        tables: BTreeMap::from([
            (compiled.datasets["Order"].table_identity(), served(raw)),
            (compiled.pipelines["UserStats.compute"].table_identity(), served(stats)),
        ]),
        compiled,
        clock: ClockMode::Wall,
        unavailable: BTreeMap::new(),
    }
}

impl Stack {
    pub async fn start() -> Stack {
        Stack::start_within(EVERYTHING, Limits::of_a_server()).await
    }

    pub async fn start_within(bounds: Bounds, limits: Limits) -> Stack {
        let compiled = Arc::new(compile(&definitions()).unwrap());
        let (raw, stats) = tables(&compiled);
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
        let state = StateStore::in_memory().unwrap();
        let mut engine =
            Engine::open(state.clone(), log.clone(), EngineOptions { durable: false, ..EngineOptions::default() })
                .unwrap();
        let pipeline = PipelineJob {
            pipeline: compiled.pipelines["UserStats.compute"].clone(),
            table: stats,
            emit: None,
            feeds: Vec::new(),
        };
        let job = DatasetJob {
            dataset: compiled.datasets["Order"].clone(),
            log_id: LOG,
            raw_table: Some(raw),
            pipelines: vec![pipeline],
            routes: Vec::new(),
        };
        engine.deploy(&JobSpec { datasets: vec![job], ..JobSpec::default() }).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Fixed(NOON));
        let ingestor = Arc::new(Ingestor::new(log, clock.clone()));
        ingestor.deploy(Targets::new(&compiled, |_| Ok(LOG)).unwrap());
        let runs = Arc::new(Kept::default());
        let gate = Arc::new(Gate::opened());
        let stopping = watch::Sender::new(false);
        let query = Arc::new(QueryEngine::new(QueryParts {
            states: state.into(),
            extractors: Arc::new(NoExtractors),
            clock,
            runs: runs.clone(),
            applied: gate.clone(),
            options: QueryOptions::default(),
        }));
        query.deploy(deployment("commit-1", compiled));
        let catalog: Arc<dyn Catalog> = Arc::new(SqlCatalog::in_memory().await.unwrap());
        let spines = tempfile::tempdir().unwrap();
        let spine_clock = Arc::new(Hand(AtomicI64::new(NOON)));
        let uploaded = Spines::open_within(&spines.path().join("spines"), spine_clock.clone(), bounds, PART).unwrap();
        let flight = service_within(query.clone(), Some(ingestor.clone()), uploaded, limits.clone());
        let listener = tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Server::builder()
            .add_service(crate::grpc::service(query.clone(), Arc::new(catalog.clone()), stopping.subscribe()))
            .add_service(flight);
        tokio::spawn(router.serve_with_incoming(listener));
        let url = format!("http://{address}");
        let channel = Endpoint::from_shared(url.clone()).unwrap().connect().await.unwrap();
        let engine = Mutex::new(engine);
        Stack { url, channel, query, gate, stopping, ingestor, catalog, runs, spines, spine_clock, limits, engine }
    }

    /// How many spines are on disk, whole or not.
    pub fn spines_on_disk(&self) -> usize {
        std::fs::read_dir(self.spines.path().join("spines")).unwrap().count()
    }

    /// Other definitions serve from now on, over the same tables.
    pub fn commit(&self, commit_id: &str, definitions: &Definitions) {
        self.query.deploy(deployment(commit_id, Arc::new(compile(definitions).unwrap())));
    }

    /// Everything that was appended is in state when it returns.
    pub fn apply(&self) {
        self.engine.lock().run_to_end().unwrap();
    }

    /// Orders of (user, minutes before noon, amount).
    pub async fn order(&self, orders: &[(&str, i64, f64)]) {
        let rows = orders.iter().map(|(user, minutes, amount)| {
            let ts = thyme_core::time::format_time(NOON - minutes * MINUTE);
            json!({"user_id": user, "ts": ts, "amount": amount, "items": 1})
        });
        let receipt = self.ingestor.ingest("Order", Rows::Json(rows.collect()), &RowIds::default()).await.unwrap();
        assert_eq!(receipt.rejected, []);
        self.apply();
    }
}

/// `count` orders of `users` users, one second apart, in no order of users.
pub fn orders_batch(from: usize, count: usize, users: usize) -> RecordBatch {
    let rows = from..from + count;
    let user = rows.clone().map(|row| format!("u{}", (row * 7919) % users)).collect::<Vec<_>>();
    let ts = rows.clone().map(|row| NOON - 60 * MINUTE + row as i64 * 1_000).collect::<Vec<_>>();
    let amount = rows.clone().map(|row| (row % 100) as f64 / 8.0).collect::<Vec<_>>();
    let items = rows.map(|row| (row % 5 != 0).then_some(row as i64)).collect::<Vec<_>>();
    let columns: [(&str, ArrayRef); 4] = [
        ("user_id", Arc::new(StringArray::from(user))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(ts).with_timezone("UTC"))),
        ("amount", Arc::new(Float64Array::from(amount))),
        ("items", Arc::new(Int64Array::from(items))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}
