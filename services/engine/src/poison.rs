//! Records that cannot be worked off: foreign producers may write anything to a topic. They go to the dead letters and the shard goes
//! on; what is decided depends on the record, the definition and the partition alone, so a replay decides the same.

use thyme_core::Result;
use thyme_core::definition::CompiledDataset;
use thyme_core::key::{check_key, decode_key, partition as partition_of};
use thyme_core::position::Position;
use thyme_core::record::check_row;
use thyme_core::schema::DataType;
use thyme_core::time::TIMES;

/// Offsets beyond this do not fit into a row's place.
const OFFSETS: u64 = 1 << 48;

/// Why a key cannot be one of the dataset's in this partition: rows of a key are kept as of one partition, and an erase deletes all
/// that begins with the key.
pub fn key_fault(dataset: &CompiledDataset, partition: u16, key: &[u8]) -> Option<String> {
    let types = dataset.key_columns.iter().filter_map(|column| dataset.types.get(*column));
    if let Err(error) = check_key(key, types) {
        return Some(error.to_string());
    }
    misplaced(key, dataset.partitions, partition)
}

/// Why an event with a key that is right cannot be kept.
pub fn event_fault(time: i64, row: &[u8], types: &[DataType]) -> Option<String> {
    if !TIMES.contains(&time) {
        return Some(format!("the event time is out of range: {time}"));
    }
    check_row(row, types).err().map(|error| error.to_string())
}

/// Why a routed record cannot be kept.
pub fn routed_fault(dataset: &CompiledDataset, partition: u16, key: &[u8], origin: Position) -> Option<String> {
    if origin.partition >= dataset.partitions || origin.offset >= OFFSETS {
        return Some(format!(
            "no such place in the dataset's log: partition={} offset={}",
            origin.partition, origin.offset
        ));
    }
    let read: Result<_> = decode_key(key);
    match read {
        Err(error) => Some(error.to_string()),
        Ok(components) if components.is_empty() => Some("the record has no key".to_string()),
        Ok(_) => misplaced(key, dataset.partitions, partition),
    }
}

/// Whether a key is one of the dataset's and belongs to another partition.
pub fn is_misplaced(dataset: &CompiledDataset, partition: u16, key: &[u8]) -> bool {
    let types = dataset.key_columns.iter().filter_map(|column| dataset.types.get(*column));
    check_key(key, types).is_ok() && misplaced(key, dataset.partitions, partition).is_some()
}

fn misplaced(key: &[u8], partitions: u16, partition: u16) -> Option<String> {
    let right = partition_of(key, partitions);
    (right != partition).then(|| format!("the key belongs to partition {right}"))
}
