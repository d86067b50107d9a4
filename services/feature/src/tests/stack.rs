//! A whole server in memory: `Order` by user with its rows looked up, `UserStats` counting and summing them, `UserFeatures`.

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_catalog::{Catalog, SqlCatalog};
use thyme_core::aggregate::TableLayout;
use thyme_core::definition::{Compiled, Definitions, compile};
use thyme_core::time::{Clock, ClockMode, Micros};
use thyme_engine::{DatasetJob, Engine, EngineOptions, JobSpec, PipelineJob};
use thyme_ingest::{Ingestor, RowIds, Rows, Targets};
use thyme_log::{EmbeddedLog, EventLog};
use thyme_query::{
    AlwaysApplied, Deployment, NoExtractors, QueryEngine, QueryOptions, QueryParts, RunRecord, RunSink, ServedTable,
};
use thyme_state::{StateStore, Table};
use tonic::transport::{Channel, Endpoint, Server};

/// 2024-01-15T12:00:00Z.
pub const NOON: Micros = 1_705_320_000_000_000;
pub const MINUTE: Micros = 60_000_000;
const LOG: u32 = 1;

struct Fixed(Micros);

impl Clock for Fixed {
    fn now(&self) -> Micros {
        self.0
    }
}

#[derive(Default)]
pub struct Kept(pub Mutex<Vec<RunRecord>>);

impl RunSink for Kept {
    fn record(&self, run: &RunRecord) {
        self.0.lock().push(run.clone());
    }
}

pub struct Stack {
    /// `http://host:port`.
    pub url: String,
    pub channel: Channel,
    pub ingestor: Arc<Ingestor>,
    pub catalog: Arc<dyn Catalog>,
    pub runs: Arc<Kept>,
    engine: Mutex<Engine>,
}

fn definitions() -> Definitions {
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

impl Stack {
    pub async fn start() -> Stack {
        let compiled = Arc::new(compile(&definitions()).unwrap());
        let (raw, stats) = tables(&compiled);
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
        let state = StateStore::in_memory().unwrap();
        let mut engine =
            Engine::open(state.clone(), log.clone(), EngineOptions { durable: false, ..EngineOptions::default() })
                .unwrap();
        let pipeline = PipelineJob {
            pipeline: compiled.pipelines["UserStats.compute"].clone(),
            table: stats.clone(),
            emit: None,
            feeds: Vec::new(),
        };
        let job = DatasetJob {
            dataset: compiled.datasets["Order"].clone(),
            log_id: LOG,
            raw_table: Some(raw.clone()),
            pipelines: vec![pipeline],
            routes: Vec::new(),
        };
        engine.deploy(&JobSpec { datasets: vec![job], ..JobSpec::default() }).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Fixed(NOON));
        let ingestor = Arc::new(Ingestor::new(log, clock.clone()));
        ingestor.deploy(Targets::new(&compiled, |_| Ok(LOG)).unwrap());
        let runs = Arc::new(Kept::default());
        let query = Arc::new(QueryEngine::new(QueryParts {
            states: state.into(),
            extractors: Arc::new(NoExtractors),
            clock,
            runs: runs.clone(),
            applied: Arc::new(AlwaysApplied),
            options: QueryOptions::default(),
        }));
        let served = |table: Table| ServedTable { consumer: table.id, log: LOG, table };
        query.deploy(Deployment {
            commit_id: "commit-1".into(),
            tables: BTreeMap::from([
                (compiled.datasets["Order"].table_identity(), served(raw)),
                (compiled.pipelines["UserStats.compute"].table_identity(), served(stats)),
            ]),
            compiled,
            clock: ClockMode::Wall,
            unavailable: BTreeMap::new(),
        });
        let catalog: Arc<dyn Catalog> = Arc::new(SqlCatalog::in_memory().await.unwrap());
        let listener = tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Server::builder()
            .add_service(crate::grpc::service(query.clone(), Arc::new(catalog.clone())))
            .add_service(crate::flight::service(query.clone(), Some(ingestor.clone())));
        tokio::spawn(router.serve_with_incoming(listener));
        let url = format!("http://{address}");
        let channel = Endpoint::from_shared(url.clone()).unwrap().connect().await.unwrap();
        Stack { url, channel, ingestor, catalog, runs, engine: Mutex::new(engine) }
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
