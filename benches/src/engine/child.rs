//! The child process: opens log and state, runs the engine to the end of the log, then says what it cost.

use super::{Found, Task};
use crate::definitions::{self, DATASET, PIPELINE};
use crate::failure::Outcome;
use crate::oracle::{self, Answer};
use crate::workload::random::Random;
use crate::workload::{SpineRow, Workload};
use crate::{cpu, sizes};
use std::sync::Arc;
use std::time::Instant;
use thyme_core::Value;
use thyme_core::aggregate::{Outcome as Aggregated, WindowRead};
use thyme_core::definition::CompiledPipeline;
use thyme_core::key::encode_key;
use thyme_core::time::ClockMode;
use thyme_core::window::Window;
use thyme_engine::{DatasetJob, Engine, EngineOptions, JobSpec, PipelineJob, RouteJob};
use thyme_log::{EmbeddedLog, EventLog, KafkaLog, KafkaSettings};
use thyme_state::{Options, StateStore, Table, Visible};

const LOG_ID: u32 = 1;
const TABLE_ID: u32 = 2;

/// Runs the task given as JSON and prints what was found as JSON.
pub fn run(task: &str) -> Outcome<()> {
    let task: Task = serde_json::from_str(task)?;
    let windows: Vec<&str> = task.windows.iter().map(String::as_str).collect();
    let (log, compiled): (Arc<dyn EventLog>, _) = match &task.kafka {
        None => (Arc::new(EmbeddedLog::open(&task.log_dir)?), definitions::compiled(&windows)?),
        Some(url) => {
            let settings = KafkaSettings::parse(url, None, Default::default())?;
            (Arc::new(KafkaLog::open(settings)?), definitions::regrouped(&windows)?)
        }
    };
    let dataset = compiled.datasets.get(DATASET).ok_or("the dataset is not there")?.clone();
    let pipeline = compiled.pipelines.get(PIPELINE).ok_or("the pipeline is not there")?.clone();
    let table =
        Table { id: TABLE_ID, layout: Arc::new(pipeline.plan.layout.clone()), routed: pipeline.route.is_some() };
    let pipelines =
        vec![PipelineJob { pipeline: pipeline.clone(), table: table.clone(), emit: None, feeds: Vec::new() }];
    let mut job = DatasetJob { dataset, log_id: LOG_ID, raw_table: None, pipelines: Vec::new(), routes: Vec::new() };
    match &pipeline.route {
        None => job.pipelines = pipelines,
        Some(route) => {
            job.routes.push(RouteJob { route: Arc::new(route.clone()), log_id: task.route_id, pipelines });
        }
    }

    let state = StateStore::open(&task.state_dir, Options::default())?;
    let options = EngineOptions { clock: ClockMode::Event, ..EngineOptions::default() };
    let mut engine = Engine::open(state.clone(), log, options)?;
    engine.deploy(&JobSpec { datasets: vec![job], ..JobSpec::default() })?;

    let (started, cpu_before) = (Instant::now(), cpu::seconds(None)?);
    engine.run_to_end()?;
    state.flush()?;
    let cpu_seconds = cpu::seconds(None)? - cpu_before;
    let wall_seconds = started.elapsed().as_secs_f64();

    let workload = Workload::generate(&task.shape);
    let world = World { state, table, pipeline };
    world.check(&task, &windows, &workload)?;
    let (mut bytes_per_event, mut dedup_bytes_per_event) = (0.0, 0.0);
    if task.sizes {
        world.state.compact()?;
        let events = task.shape.events as f64;
        let dedup = world.state.dedup_file_bytes()? as f64;
        bytes_per_event = (sizes::table_files(&task.state_dir)? as f64 - dedup) / events;
        dedup_bytes_per_event = dedup / sizes::remembered(&workload.events, definitions::DEDUP_WINDOW) as f64;
    }
    let worst_rows_read = world.worst_rows_read(&task, &workload)?;
    let found = Found { cpu_seconds, wall_seconds, bytes_per_event, dedup_bytes_per_event, worst_rows_read };
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

struct World {
    state: Arc<StateStore>,
    table: Table,
    pipeline: Arc<CompiledPipeline>,
}

impl World {
    /// Compares answers to a part of the spine with the brute force.
    fn check(&self, task: &Task, windows: &[&str], workload: &Workload) -> Outcome<()> {
        let mut random = Random::new(task.shape.seed + 1);
        let indices = random.sample(workload.spine.len(), task.checks);
        let questions: Vec<SpineRow> = indices.into_iter().map(|index| workload.spine[index]).collect();
        let answers: Outcome<Vec<Answer>> = questions.iter().map(|row| self.answer(*row)).collect();
        oracle::check(&workload.events, &questions, &answers?, windows)
    }

    fn answer(&self, row: SpineRow) -> Outcome<Answer> {
        let plan = &self.pipeline.plan;
        let wanted: Vec<usize> = (0..plan.outputs.len()).collect();
        let read = plan.read_plan(&wanted);
        let key = encode_key(&[Value::Int(row.key)]).ok_or("a key is null")?;
        let snapshot = self.state.snapshot();
        let data = snapshot.read(&self.table, &key, row.time, &read.windows, &Visible::ALL)?;
        let mut answer = Answer::new();
        let mut failed = None;
        read.finish(plan, row.time, &data, |place, outcome| {
            let name = &plan.outputs[place].name;
            let number = match outcome {
                Aggregated::Value(Value::Int(number)) | Aggregated::Empty(Value::Int(number)) => Some(*number as f64),
                Aggregated::Value(Value::Float(number)) | Aggregated::Empty(Value::Float(number)) => Some(*number),
                Aggregated::Empty(Value::Null) => None,
                other => {
                    failed = Some(format!("{name} is {other:?}"));
                    None
                }
            };
            answer.insert(name.clone(), number);
        });
        if let Some(failed) = failed {
            return Err(failed.into());
        }
        Ok(answer)
    }

    /// Rows read by a window of 90 days, worst of many random times.
    fn worst_rows_read(&self, task: &Task, workload: &Workload) -> Outcome<u64> {
        let partials = (0..self.pipeline.plan.layout.partials.len() as u16).collect();
        let window = WindowRead { window: Window::parse("90d")?, partials, scans: Vec::new() };
        let mut random = Random::new(task.shape.seed + 2);
        let (Some(first), Some(last)) = (workload.events.first(), workload.events.last()) else { return Ok(0) };
        let mut worst = 0;
        for _ in 0..task.window_reads {
            let time = first.time + random.below((last.time - first.time) as u64) as i64;
            let key = encode_key(&[Value::Int(first.key)]).ok_or("a key is null")?;
            let snapshot = self.state.snapshot();
            snapshot.read(&self.table, &key, time, std::slice::from_ref(&window), &Visible::ALL)?;
            worst = worst.max(snapshot.rows_read());
        }
        Ok(worst)
    }
}
