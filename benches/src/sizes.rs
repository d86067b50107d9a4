//! Bytes on disk.

use crate::failure::Outcome;
use crate::workload::Event;
use std::path::Path;

/// Bytes of the table files of a state directory.
pub fn table_files(directory: &Path) -> Outcome<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "sst") {
            total += entry.metadata()?.len();
        }
    }
    Ok(total)
}

/// How many events' ids the dedup index still holds: those of the newest two windows of arrival.
pub fn remembered(events: &[Event], window: i64) -> usize {
    let newest = events.iter().map(|event| event.arrival / window).max().unwrap_or_default();
    events.iter().filter(|event| event.arrival / window + 1 >= newest).count()
}
