//! The engine on a Kafka broker of its own: every event is accepted, sent on to a repartition log in a transaction, read from
//! there and put into state.

use super::{ALL_WINDOWS, Task, log, spawn};
use crate::failure::Outcome;
use crate::report::{Measure, median};
use crate::settings::Settings;
use crate::workload::Shape;
use thyme_broker::Broker;
use thyme_core::definition::Compiled;
use thyme_log::{EventLog as _, KafkaLog, KafkaSettings};

pub fn measure(settings: &Settings, shape: Shape) -> Outcome<()> {
    let broker = Broker::start()?;
    let url = format!("kafka://{}/bench", broker.address);
    eprintln!("filling a Kafka log with {} events", shape.events);
    let filled = KafkaLog::open(KafkaSettings::parse(&url, None, Default::default())?)?;
    log::fill_regrouped(&filled, &shape)?;
    let compiled = crate::definitions::regrouped(&ALL_WINDOWS)?;
    let mut rates = Vec::new();
    for run in 0..settings.runs {
        let state = settings.directory()?;
        let task = Task {
            log_dir: state.path().join("no log"),
            kafka: Some(url.clone()),
            // Another id, another consumer group: the run sends everything anew.
            route_id: 100 + run as u32,
            state_dir: state.path().join("state"),
            shape,
            windows: ALL_WINDOWS.iter().map(ToString::to_string).collect(),
            checks: 1000,
            sizes: false,
            window_reads: 0,
        };
        let found = spawn(&task)?;
        let rate = shape.events as f64 / found.cpu_seconds;
        eprintln!(
            "  {} events on Kafka: {:.2} CPU s, {:.2} s, {rate:.0} events per CPU s",
            shape.events, found.cpu_seconds, found.wall_seconds
        );
        rates.push(rate);
        filled.delete_topic(&repartition_topic(&compiled)?)?;
    }
    settings.report(&Measure::new("kafka.events_per_cpu_s", median(rates), "events/CPU-s"));
    Ok(())
}

fn repartition_topic(compiled: &Compiled) -> Outcome<String> {
    let pipeline = compiled.pipelines.get(crate::definitions::PIPELINE).ok_or("the pipeline is not there")?;
    Ok(pipeline.route.as_ref().ok_or("the pipeline is not repartitioned")?.topic.clone())
}
