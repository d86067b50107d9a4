//! A small world to ask in: orders by user and by shop, aggregated in three pipelines, with a featureset over all of them.

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use thyme_core::aggregate::TableLayout;
use thyme_core::definition::{Compiled, Definitions, ModuleDef, compile};
use thyme_core::slice::Slice;
use thyme_core::time::{Clock, ClockMode};
use thyme_core::value::Value;
use thyme_engine::{DatasetJob, Engine, EngineOptions, JobSpec, PipelineJob, Role, RouteJob};
use thyme_ingest::{GivenKey, Ingestor, RowIds, Rows, Targets};
use thyme_log::{EmbeddedLog, EventLog};
use thyme_query::{
    AlwaysApplied, Answer, Asking, At, Deployment, ExtractedRows, ExtractorCall, ExtractorRuntime, ExtractorSpec,
    Given, GivenMap, LoadReport, QueryEngine, QueryOptions, QueryParts, Question, RunKind, RunRecord, RunSink,
    ServedTable,
};
use thyme_state::{StateStore, States, Table};

pub const HOUR: i64 = 3_600_000_000;
/// Of how many states answers are, unless a test says otherwise.
const SLICES: u16 = 3;

/// The extractors of these tests, in Rust: what each does with a row.
pub type Function = Arc<dyn Fn(&ExtractorCall, usize) -> Result<Vec<thyme_query::Extracted>, Arc<str>> + Send + Sync>;

#[derive(Default)]
pub struct Functions {
    pub by_name: BTreeMap<String, Function>,
    /// Rows of each call, by extractor.
    pub calls: Mutex<Vec<(String, usize)>>,
}

impl ExtractorRuntime for Functions {
    fn load(&self, _deployment: &str, _modules: &[ModuleDef], _extractors: &[ExtractorSpec]) -> LoadReport {
        LoadReport::default()
    }
    fn unload(&self, _deployment: &str) {}
    fn is_native(&self, _deployment: &str, _featureset: &str, extractor: &str) -> bool {
        extractor == "twice"
    }
    fn call(&self, call: ExtractorCall) -> BoxFuture<'static, ExtractedRows> {
        self.calls.lock().push((call.extractor.to_string(), call.rows.len()));
        let function = self.by_name[call.extractor.as_ref()].clone();
        let rows = (0..call.rows.len()).map(|row| function(&call, row)).collect();
        Box::pin(futures::future::ready(rows))
    }
}

pub struct TestClock(pub AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Default)]
pub struct Runs(pub Mutex<Vec<RunRecord>>);

impl RunSink for Runs {
    fn record(&self, run: &RunRecord) {
        self.0.lock().push(run.clone());
    }
}

pub struct World {
    pub query: Arc<QueryEngine>,
    pub states: States,
    pub deployment: Deployment,
    pub clock: Arc<TestClock>,
    pub runs: Arc<Runs>,
    pub functions: Arc<Functions>,
    pub compiled: Arc<Compiled>,
    log: Arc<dyn EventLog>,
    ingestor: Ingestor,
    /// Of all slices.
    engines: Mutex<Vec<Engine>>,
}

/// Orders, their statistics by user and by shop, and features over both.
pub fn definitions(max_lateness: Option<&str>) -> Json {
    let field = |name: &str, kind: &str| json!({"name": name, "type": kind});
    let key = |name: &str, kind: &str| json!({"name": name, "type": kind, "key": true});
    let time = json!({"name": "ts", "type": "datetime", "timestamp": true});
    let amount = json!({"name": "amount", "type": "float", "nullable": true});
    let aggregate = |name: &str, kind: &str, of: Option<&str>, window: &str| json!({"name": name, "op": {"kind": kind}, "of": of, "window": window});
    let reference = |name: &str, kind: &str, dataset: &str, of: &str| {
        let on = if dataset == "ShopStats" { json!({}) } else { json!({"user": "uid"}) };
        json!({"name": name, "type": kind, "ref": {"dataset": dataset, "field": of}, "on": on})
    };
    let by_user = json!({"user": "uid"});
    json!({
        "format": 1,
        "datasets": [
            {"name": "Order", "version": 1, "index": true, "max_lateness": max_lateness,
             "fields": [key("user", "str"), time, field("shop", "int"), amount, field("items", "int")]},
            {"name": "UserStats", "version": 1, "index": true,
             "fields": [key("user", "str"), time, field("orders_1h", "int"), field("items_1h", "int"),
                        field("spend_2h", "float"), {"name": "mean_2h", "type": "float", "nullable": true},
                        {"name": "biggest", "type": "float", "nullable": true},
                        {"name": "last_amount", "type": "float", "nullable": true}]},
            {"name": "ShopStats", "version": 1, "index": true,
             "fields": [key("shop", "int"), time, field("orders_1h", "int"), field("large_1h", "int")]}
        ],
        "pipelines": [
            {"name": "compute", "version": 1, "dataset": "UserStats", "input": "Order", "group_by": ["user"],
             "steps": [{"op": "filter", "expr": {"call": {"op": "ge", "args": [{"col": "items"}, {"lit": {"int": 0}}]}}}],
             "aggregates": [aggregate("orders_1h", "count", None, "1h"), aggregate("items_1h", "sum", Some("items"), "1h"),
                            aggregate("spend_2h", "sum", Some("amount"), "2h"),
                            {"name": "mean_2h", "op": {"kind": "avg"}, "of": "amount", "window": "2h", "default": {"float": -1.0}},
                            aggregate("biggest", "max", Some("amount"), "forever"),
                            {"name": "last_amount", "op": {"kind": "last"}, "of": "amount", "window": "1h"}]},
            {"name": "compute", "version": 1, "dataset": "ShopStats", "input": "Order", "group_by": ["shop"],
             "aggregates": [aggregate("orders_1h", "count", None, "1h"),
                            {"name": "large_1h", "op": {"kind": "count"}, "window": "1h",
                             "where": {"call": {"op": "gt", "args": [{"col": "items"}, {"lit": {"int": 5}}]}}}]}
        ],
        "featuresets": [
            {"name": "F", "features": [
                {"name": "uid", "type": "str"},
                {"name": "shop", "type": "int"},
                {"name": "limit", "type": "int", "request": true},
                reference("orders", "int", "UserStats", "orders_1h"),
                reference("items", "int", "UserStats", "items_1h"),
                reference("spend", "float", "UserStats", "spend_2h"),
                {"name": "mean", "type": "float", "ref": {"dataset": "UserStats", "field": "mean_2h"}, "on": by_user, "default": {"float": -2.0}},
                reference("mean_plain", "float", "UserStats", "mean_2h"),
                {"name": "biggest", "type": "float", "nullable": true, "ref": {"dataset": "UserStats", "field": "biggest"}, "on": by_user},
                {"name": "last_amount", "type": "float", "nullable": true, "ref": {"dataset": "UserStats", "field": "last_amount"}, "on": by_user, "default": {"float": 7.0}},
                {"name": "newest_items", "type": "int", "nullable": true, "ref": {"dataset": "Order", "field": "items"}, "on": by_user, "default": {"int": -1}},
                reference("shop_orders", "int", "ShopStats", "orders_1h"),
                reference("shop_large", "int", "ShopStats", "large_1h"),
                {"name": "double", "type": "float"},
                {"name": "busy", "type": "bool"},
                {"name": "seen", "type": "int", "nullable": true}],
             "extractors": [
                {"name": "twice", "version": 1, "inputs": [{"featureset": "F", "feature": "spend"}], "outputs": ["double"],
                 "style": "arguments", "module": "m", "qualname": "F.twice", "source_hash": ""},
                {"name": "judge", "version": 1, "inputs": [{"featureset": "F", "feature": "double"}, {"featureset": "F", "feature": "limit"}],
                 "outputs": ["busy"], "style": "arguments", "module": "m", "qualname": "F.judge", "source_hash": ""},
                {"name": "look", "version": 1, "inputs": [{"featureset": "F", "feature": "uid"}], "outputs": ["seen"],
                 "deps": ["UserStats"], "style": "dict", "module": "m", "qualname": "F.look", "source_hash": ""}]}
        ]
    })
}

/// Features that need no Python.
pub const NATIVE: &[&str] = &[
    "orders",
    "items",
    "spend",
    "mean",
    "mean_plain",
    "biggest",
    "last_amount",
    "newest_items",
    "shop_orders",
    "shop_large",
];

pub fn functions() -> Functions {
    let mut functions = Functions::default();
    let mut add = |name: &str, function: Function| functions.by_name.insert(name.to_string(), function);
    add(
        "twice",
        Arc::new(|call, row| match &call.rows[row][0] {
            Value::Float(spend) => Ok(vec![Ok(Value::Float(spend * 2.0))]),
            other => Err(format!("spend is {other:?}").into()),
        }),
    );
    add(
        "judge",
        Arc::new(|call, row| {
            let [Value::Float(double), Value::Int(limit)] = call.rows[row].as_slice() else {
                return Err("types".into());
            };
            Ok(vec![Ok(Value::Bool(*double > *limit as f64))])
        }),
    );
    add(
        "look",
        Arc::new(|call, row| {
            let key = BTreeMap::from([("user".to_string(), call.rows[row][0].clone())]);
            let found = call.lookups.lookup("UserStats", call.times[row], call.times[row], &key);
            let found = found.map_err(|error| Arc::from(error.to_string()))?;
            Ok(vec![Ok(found.map_or(Value::Null, |row| row["orders_1h"].clone()))])
        }),
    );
    functions
}

impl World {
    pub fn new(max_lateness: Option<&str>) -> World {
        World::with(definitions(max_lateness), functions(), ClockMode::Event)
    }

    pub fn with(definitions: Json, functions: Functions, clock_mode: ClockMode) -> World {
        World::sliced(definitions, functions, clock_mode, SLICES)
    }

    /// On so many engines and states.
    pub fn sliced(definitions: Json, functions: Functions, clock_mode: ClockMode, slices: u16) -> World {
        let log = Arc::new(EmbeddedLog::in_memory().unwrap());
        World::on(log, compiled_of(definitions), Arc::new(functions), clock_mode, slices, Role::Owner)
    }

    /// Another node that has built all of it from the same log, on so many engines and states.
    pub fn follower(&self, slices: u16) -> World {
        let (compiled, clock) = (self.compiled.clone(), self.deployment.clock);
        let world = World::on(self.log.clone(), compiled, self.functions.clone(), clock, slices, Role::Follower);
        world.run_to_end();
        world
    }

    fn on(
        log: Arc<dyn EventLog>,
        compiled: Arc<Compiled>,
        functions: Arc<Functions>,
        clock_mode: ClockMode,
        slices: u16,
        role: Role,
    ) -> World {
        let (job, tables) = wire(&compiled);
        let states = States::new((0..slices).map(|_| StateStore::in_memory().unwrap()).collect());
        let engine = |(slice, state): (Slice, &Arc<StateStore>)| {
            let options = EngineOptions { clock: clock_mode, durable: false, slice, role, ..EngineOptions::default() };
            let mut engine = Engine::open(state.clone(), log.clone(), options).unwrap();
            engine.deploy(&job).unwrap();
            engine
        };
        let engines = Mutex::new(Slice::all(slices).zip(states.all().values()).map(engine).collect());
        let clock = Arc::new(TestClock(AtomicI64::new(0)));
        let runs = Arc::new(Runs::default());
        let ingestor = Ingestor::new(log.clone(), clock.clone());
        let targets = Targets::new(&compiled, |identity| Ok(ids(&compiled)[identity])).unwrap();
        ingestor.deploy(targets);
        let query = QueryEngine::new(QueryParts {
            states: states.clone(),
            extractors: functions.clone(),
            clock: clock.clone(),
            runs: runs.clone(),
            applied: Arc::new(AlwaysApplied),
            options: QueryOptions::default(),
        });
        let deployment = Deployment {
            commit_id: "c1".into(),
            compiled: compiled.clone(),
            tables,
            clock: clock_mode,
            unavailable: BTreeMap::from([("Later".to_string(), "12 of 40 records".to_string())]),
        };
        query.deploy(deployment.clone());
        let query = Arc::new(query);
        World { query, states, deployment, clock, runs, functions, compiled, log, ingestor, engines }
    }

    /// Appends orders (user, time, shop, amount, items) at the clock's time and applies them.
    pub fn orders(&self, orders: &[(&str, i64, i64, Option<f64>, i64)]) {
        wait(self.add_orders(orders));
    }

    pub async fn add_orders(&self, orders: &[(&str, i64, i64, Option<f64>, i64)]) {
        let rows = orders.iter().map(|(user, time, shop, amount, items)| {
            let amount = amount.map_or(Value::Null, Value::Float);
            Ok(BTreeMap::from([
                ("user".to_string(), Value::str(*user)),
                ("ts".to_string(), Value::Time(*time)),
                ("shop".to_string(), Value::Int(*shop)),
                ("amount".to_string(), amount),
                ("items".to_string(), Value::Int(*items)),
            ]))
        });
        let rows = Rows::Named(rows.collect());
        let receipt = self.ingestor.ingest("Order", rows, &RowIds::default()).await.unwrap();
        assert_eq!(receipt.rejected.len(), 0);
        self.run_to_end();
    }

    /// Erases a user.
    pub fn erase(&self, user: &str) {
        let key = BTreeMap::from([("user".to_string(), Value::str(user))]);
        wait(self.ingestor.erase("Order", vec![GivenKey::Named(key)])).unwrap();
        self.run_to_end();
    }

    /// Serves these definitions, which need no other tables.
    pub fn recommit(&self, definitions: Json, commit_id: &str) {
        let compiled = compiled_of(definitions);
        let (_, tables) = wire(&compiled);
        self.query.deploy(Deployment { commit_id: commit_id.into(), compiled, tables, ..self.deployment.clone() });
    }

    /// What one engine routes, others read.
    pub fn run_to_end(&self) {
        while self.engines.lock().iter_mut().map(|engine| engine.step().unwrap()).sum::<usize>() > 0 {}
    }

    pub fn ask(&self, question: Question) -> thyme_core::Result<Answer> {
        wait(self.query.answer(question))
    }
}

pub fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// A question about one user (and shop 1), for these features.
pub fn question(user: &str, features: &[&str], at: At) -> Question {
    let mut key = GivenMap::from([("uid".to_string(), Given::Text(user.to_string()))]);
    key.insert("shop".to_string(), Given::Text("1".to_string()));
    Question {
        featureset: "F".to_string(),
        keys: vec![key],
        inputs: Vec::new(),
        features: Some(features.iter().map(|name| name.to_string()).collect()),
        at,
        asking: Asking::default(),
        kind: RunKind::Online,
    }
}

fn compiled_of(definitions: Json) -> Arc<Compiled> {
    let definitions: Definitions = serde_json::from_value(definitions).unwrap();
    Arc::new(compile(&definitions).unwrap())
}

fn ids(compiled: &Compiled) -> BTreeMap<String, u32> {
    let mut names: Vec<String> = Vec::new();
    for dataset in compiled.datasets.values().filter(|dataset| dataset.is_raw()) {
        names.push(dataset.log_identity());
        names.push(dataset.table_identity());
    }
    for pipeline in compiled.pipelines.values() {
        names.push(pipeline.table_identity());
        names.extend(pipeline.route.iter().map(|route| route.log_identity()));
    }
    names.into_iter().zip(1..).collect()
}

fn wire(compiled: &Compiled) -> (JobSpec, BTreeMap<String, ServedTable>) {
    let ids = ids(compiled);
    let mut tables = BTreeMap::new();
    let mut jobs = Vec::new();
    for dataset in compiled.datasets.values().filter(|dataset| dataset.is_raw()) {
        let log = ids[&dataset.log_identity()];
        let mut serve = |identity: String, layout: TableLayout, log: u32, routed: bool| {
            let table = Table { id: ids[&identity], layout: Arc::new(layout), routed };
            tables.insert(identity, ServedTable { consumer: table.id, log, table: table.clone() });
            table
        };
        let raw_table = serve(dataset.table_identity(), TableLayout::raw(dataset.types.clone()), log, false);
        let mut job = DatasetJob {
            dataset: dataset.clone(),
            log_id: log,
            raw_table: Some(raw_table),
            pipelines: Vec::new(),
            routes: Vec::new(),
        };
        for pipeline in compiled.pipelines.values().filter(|pipeline| pipeline.input == dataset.name) {
            let log = pipeline.route.as_ref().map_or(log, |route| ids[&route.log_identity()]);
            let layout = pipeline.plan.layout.clone();
            let table = serve(pipeline.table_identity(), layout, log, pipeline.route.is_some());
            let made = PipelineJob { pipeline: pipeline.clone(), table, emit: None, feeds: Vec::new() };
            match &pipeline.route {
                None => job.pipelines.push(made),
                // One repartition log per group key, whoever reads it.
                Some(route) => match job.routes.iter_mut().find(|known| known.log_id == log) {
                    Some(known) => known.pipelines.push(made),
                    None => {
                        job.routes.push(RouteJob {
                            route: Arc::new(route.clone()),
                            log_id: log,
                            pipelines: vec![made],
                        });
                    }
                },
            }
        }
        jobs.push(job);
    }
    (JobSpec { datasets: jobs, ..JobSpec::default() }, tables)
}
