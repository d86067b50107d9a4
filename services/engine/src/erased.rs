//! Erases and tables that group by another key than the dataset's: the events of an erased key lie scattered in such a table, and
//! copies of them in its repartition log. Such a table is built anew, and leaves out what the erases below a given place of the
//! dataset's log take: `CompiledPipeline::erased`. What it holds follows from the logs and that place alone, whenever it reads them.

use crate::consume::{Member, MemberKind, Row};
use crate::shard::Shard;
use std::collections::HashMap;
use std::sync::Arc;
use thyme_core::Result;
use thyme_core::definition::CompiledDataset;
use thyme_state::Snapshot;

/// What a table leaves out.
#[derive(Clone, Default)]
pub enum LeftOut {
    #[default]
    Nothing,
    /// The dataset's own log has not been read up to the places yet (a new state, a follower): until then the table waits, since
    /// it would take in events whose erase is still to come.
    Unknown,
    Erased(Arc<Erased>),
}

impl LeftOut {
    /// Of a table with these places.
    pub fn of(places: &[u64]) -> LeftOut {
        if places.is_empty() { LeftOut::Nothing } else { LeftOut::Unknown }
    }

    pub fn covers(&self, row: &Row) -> bool {
        match self {
            LeftOut::Nothing | LeftOut::Unknown => false,
            LeftOut::Erased(erased) => erased.covers(row),
        }
    }
}

/// The erases of a dataset's own log below a place of each of its partitions.
pub struct Erased {
    dataset: Arc<CompiledDataset>,
    places: Vec<u64>,
    /// For each partition, key -> its last erase below the place.
    keys: Vec<HashMap<Vec<u8>, u64>>,
}

impl Erased {
    /// From a state in which the dataset's own log has been read up to the places.
    pub fn load(snapshot: &Snapshot, dataset: &Arc<CompiledDataset>, log_id: u32, places: &[u64]) -> Result<Erased> {
        let mut keys = Vec::with_capacity(places.len());
        for (partition, place) in (0u16..).zip(places) {
            let mut last = HashMap::new();
            for (key, offsets) in snapshot.all_erased(log_id, partition)? {
                if let Some(offset) = offsets.into_iter().take_while(|offset| offset < place).last() {
                    last.insert(key, offset);
                }
            }
            keys.push(last);
        }
        Ok(Erased { dataset: dataset.clone(), places: places.to_vec(), keys })
    }

    /// Columns of the dataset by which an event's key is told.
    pub fn key_columns(&self) -> &[usize] {
        &self.dataset.key_columns
    }

    /// Whether an erase takes the event: one of its key that stands behind it in the log.
    fn covers(&self, row: &Row) -> bool {
        let partition = usize::from(row.origin.partition);
        if self.places.get(partition).is_none_or(|place| row.origin.offset >= *place) {
            return false;
        }
        let erased_at = self.dataset.key_of(&row.values).and_then(|key| self.keys.get(partition)?.get(&key).copied());
        erased_at.is_some_and(|offset| row.origin.offset < offset)
    }
}

impl Shard {
    /// Whether one of its tables waits.
    pub fn waits(&self) -> bool {
        self.members.iter().any(Member::waits)
    }

    /// Tables that wait learn what they leave out, if `read` says that the dataset's own log has been read up to there; whether there
    /// were any. `known` has what was loaded for other partitions of the same table.
    pub fn learn_erased(
        &mut self,
        snapshot: &Snapshot,
        read: &HashMap<(u32, u16), u64>,
        known: &mut HashMap<u32, Arc<Erased>>,
    ) -> Result<bool> {
        let own_log = self.own_log;
        let mut has_learnt = false;
        for member in &mut self.members {
            let MemberKind::Pipeline { table, pipeline, left_out } = &mut member.kind else { continue };
            // Where there is nothing to know nobody reads, if it is another slice's.
            let places = (0u16..).zip(&pipeline.erased).filter(|(_, place)| **place > 0);
            let mut unread =
                places.filter(|(partition, place)| read.get(&(own_log, *partition)).is_none_or(|next| next < *place));
            if !matches!(left_out, LeftOut::Unknown) || unread.next().is_some() {
                continue;
            }
            let erased = match known.get(&table.id) {
                Some(erased) => erased.clone(),
                None => Arc::new(Erased::load(snapshot, &self.dataset, own_log, &pipeline.erased)?),
            };
            known.insert(table.id, erased.clone());
            *left_out = LeftOut::Erased(erased);
            has_learnt = true;
        }
        Ok(has_learnt)
    }
}
