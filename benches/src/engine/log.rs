//! Fills an embedded log with a workload, as the ingest service would: calls of 10,000 rows with call ids.

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

pub fn fill(directory: &Path, shape: &Shape) -> Outcome<()> {
    let compiled = definitions::compiled(&["1h"])?;
    let dataset = compiled.datasets.get(definitions::DATASET).ok_or("the dataset is not there")?;
    let workload = Workload::generate(shape);
    let log = EmbeddedLog::open(directory)?;
    log.create_topic(&dataset.topic(), dataset.partitions)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for (number, events) in workload.events.chunks(CALL_ROWS).enumerate() {
        runtime.block_on(log.append(batches(dataset, number, events)?))?;
    }
    log.close();
    Ok(())
}

fn batches(dataset: &CompiledDataset, number: usize, events: &[Event]) -> Outcome<Vec<Batch>> {
    let mut batches: Vec<Batch> = (0..dataset.partitions)
        .map(|partition| Batch { topic: dataset.topic(), partition, records: Vec::new() })
        .collect();
    // Any 16 bytes will do, but like a UUID's they are spread.
    let call = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let mut row = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let key = encode_key(&[Value::Int(event.key)]).ok_or("a key is null")?;
        row.clear();
        encode_row(&[Value::Int(event.key), Value::Time(event.time), Value::Float(event.amount())], &mut row);
        let id = EventId::Call { call, row: index as u32 };
        let record = Record::Event { append_time: event.arrival, event_time: event.time, id, row: &row };
        let partition = partition(&key, dataset.partitions);
        let new = NewRecord::new(key, record.encode());
        batches[usize::from(partition)].records.push(new);
    }
    batches.retain(|batch| !batch.records.is_empty());
    Ok(batches)
}
