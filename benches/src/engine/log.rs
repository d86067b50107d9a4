//! Fills a log with a workload, as the ingest service would: calls of 10,000 rows with call ids.

use crate::definitions;
use crate::failure::Outcome;
use crate::workload::{Event, Shape, Workload};
use std::path::Path;
use thyme_core::Value;
use thyme_core::definition::CompiledDataset;
use thyme_core::key::{encode_key, partition};
use thyme_core::record::{EventId, Record, encode_row};
use thyme_log::{Batch, EmbeddedLog, EventLog, NewRecord};

const CALL_ROWS: usize = 10_000;

/// An embedded log.
pub fn fill(directory: &Path, shape: &Shape) -> Outcome<()> {
    let compiled = definitions::compiled(&["1h"])?;
    let dataset = compiled.datasets.get(definitions::DATASET).ok_or("the dataset is not there")?;
    let log = EmbeddedLog::open(directory)?;
    fill_log(&log, dataset, shape, |_, event| (event.key, vec![Value::Int(event.key)]))?;
    log.close();
    Ok(())
}

/// Any log, with the dataset whose rows have keys of their own.
pub fn fill_regrouped(log: &dyn EventLog, shape: &Shape) -> Outcome<()> {
    let compiled = definitions::regrouped(&["1h"])?;
    let dataset = compiled.datasets.get(definitions::DATASET).ok_or("the dataset is not there")?;
    fill_log(log, dataset, shape, |number, event| (number, vec![Value::Int(number), Value::Int(event.key)]))
}

/// `keyed` makes the key and the first fields of an event's row from its number and the event.
fn fill_log(
    log: &dyn EventLog,
    dataset: &CompiledDataset,
    shape: &Shape,
    keyed: impl Fn(i64, &Event) -> (i64, Vec<Value>),
) -> Outcome<()> {
    let workload = Workload::generate(shape);
    log.create_topic(&dataset.topic(), dataset.partitions)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    for (number, events) in workload.events.chunks(CALL_ROWS).enumerate() {
        runtime.block_on(log.append(batches(dataset, number, events, &keyed)?))?;
    }
    Ok(())
}

fn batches(
    dataset: &CompiledDataset,
    number: usize,
    events: &[Event],
    keyed: impl Fn(i64, &Event) -> (i64, Vec<Value>),
) -> Outcome<Vec<Batch>> {
    let mut batches: Vec<Batch> = (0..dataset.partitions)
        .map(|partition| Batch { topic: dataset.topic(), partition, records: Vec::new() })
        .collect();
    // Any 16 bytes will do, but like a UUID's they are spread.
    let call = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let mut row = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let (key, mut fields) = keyed((number * CALL_ROWS + index) as i64, event);
        let key = encode_key(&[Value::Int(key)]).ok_or("a key is null")?;
        fields.extend([Value::Time(event.time), Value::Float(event.amount())]);
        row.clear();
        encode_row(&fields, &mut row);
        let id = EventId::Call { call, row: index as u32 };
        let record = Record::Event { append_time: event.arrival, event_time: event.time, id, row: &row };
        let partition = partition(&key, dataset.partitions);
        batches[usize::from(partition)].records.push(NewRecord::new(key, record.encode()));
    }
    batches.retain(|batch| !batch.records.is_empty());
    Ok(batches)
}
