//! What the owners of slices tell each other through the log, as offsets that are committed by an owner's producer, so that one that is
//! fenced notes nothing. Each notes which deployment its outputs are of: a log that a later deployment does not fill is deleted once all
//! owners have noted that one, and an owner that finds a later note than its own sends nothing until it is deployed anew. And each notes how
//! far the erases go that it has read: whoever leads has tables built anew for them, and need not read these logs itself. A broker
//! forgets offsets of a group without members after some days, so what an owner has noted it notes again at intervals.

use crate::engine::Engine;
use crate::number;
use crate::shard::Shard;
use crate::spec::Role;
use thyme_core::{Error, Result};
use thyme_log::{CommitOutcome, Producer, WORK};

/// Of the topic of the work: a slice's partition -> the number of a deployment.
const DEPLOYED: &str = "thyme-deployed";
/// Of datasets' own topics: a partition -> the place after its newest erase.
const ERASED: &str = "thyme-erased";

/// One offset to note.
struct Note {
    group: &'static str,
    log_id: u32,
    topic: String,
    partition: u16,
    next: u64,
}

impl Engine {
    fn notes(&self) -> bool {
        !self.options.slice.is_whole() && self.number > 0
    }

    /// Refuses to send by a deployment that this slice's owner before had left behind: its logs may be deleted.
    pub fn check_note(&self, producer: &mut dyn Producer) -> Result<()> {
        if !self.notes() {
            return Ok(());
        }
        let noted = producer.committed(DEPLOYED, WORK, self.options.slice.index)?.unwrap_or_default();
        if number::is_left_behind(noted, self.number) {
            let (slice, own) = (self.options.slice, self.number);
            return Err(Error::unavailable(format!(
                "a later commit is worked on by others: slice={} own={own} noted={noted}",
                slice.index
            ))
            .hint(
                "this server goes on by itself when it has seen that in the catalog, which it looks at twice a second",
            ));
        }
        Ok(())
    }

    /// Notes what is deployed now and what is erased by now, if it has not: nothing is sent any more that the deployment does not have. That
    /// may be less than the owner before noted, and then tells no more than that others wait a little longer.
    pub fn note(&mut self) -> Result<()> {
        if self.role != Role::Owner || !self.notes() {
            return Ok(());
        }
        let mut notes = self.erases_to_note();
        if self.noted != self.number {
            let (topic, partition) = (WORK.to_string(), self.options.slice.index);
            notes.push(Note { group: DEPLOYED, log_id: 0, topic, partition, next: self.number });
        }
        if notes.is_empty() {
            return Ok(());
        }
        let producer = self.producer()?;
        let filled = producer.begin().and_then(|()| {
            let mut notes = notes.iter();
            notes.try_for_each(|note| producer.send_offset(note.group, &note.topic, note.partition, note.next))
        });
        let outcome = filled.map_or_else(CommitOutcome::NotCommitted, |()| producer.commit());
        if let CommitOutcome::NotCommitted(error) | CommitOutcome::Unknown(error) = outcome {
            self.producer = None;
            return Err(error.context("noting what is deployed and what is erased"));
        }
        for note in notes {
            if note.group == DEPLOYED {
                self.noted = note.next;
            } else {
                self.noted_erases.insert((note.log_id, note.partition), note.next);
            }
        }
        Ok(())
    }

    fn erases_to_note(&self) -> Vec<Note> {
        let own = self.shards.iter().filter(|shard| !shard.is_repartition && shard.erased_below > 0);
        let is_new = |shard: &&Shard| {
            let noted = self.noted_erases.get(&(shard.log_id, shard.partition));
            noted.is_none_or(|noted| *noted < shard.erased_below)
        };
        let note = |shard: &Shard| Note {
            group: ERASED,
            log_id: shard.log_id,
            topic: shard.topic.clone(),
            partition: shard.partition,
            next: shard.erased_below,
        };
        own.filter(is_new).map(note).collect()
    }

    /// For each partition of a dataset's own log, the place after the newest erase that its owner has noted.
    pub fn noted_erases(&mut self, topic: &str, partitions: u16) -> Result<Vec<u64>> {
        if self.role != Role::Owner {
            return Err(Error::unavailable("the first slice is another node's").hint("try again in a second"));
        }
        let producer = self.producer()?;
        let noted = |partition: u16| Ok(producer.committed(ERASED, topic, partition)?.unwrap_or_default());
        (0..partitions).map(noted).collect()
    }

    /// Notes once more, with the next round, what is noted.
    pub fn note_again(&mut self) {
        self.noted = 0;
        self.noted_erases.clear();
    }

    /// The smallest number that the owners of all slices have noted.
    pub fn noted_by_all(&mut self) -> Result<u64> {
        if self.role != Role::Owner {
            return Err(Error::unavailable("this server does not own the first slice of the work any more")
                .hint("try again in a few seconds, at the server that does: it is named by the error of any other"));
        }
        let slices = self.options.slice.of;
        let producer = self.producer()?;
        let mut least = u64::MAX;
        for slice in 0..slices {
            least = least.min(producer.committed(DEPLOYED, WORK, slice)?.unwrap_or_default());
        }
        Ok(least)
    }
}
