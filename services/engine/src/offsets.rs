//! How far the outputs of a router or an emitter are in the log: its group's committed offset or, where the broker no longer has
//! that, what the output itself says.

use crate::emit::{Output, next_offset_of};
use std::sync::Arc;
use thyme_core::record::Record;
use thyme_core::slice::{BESIDE, Slice};
use thyme_core::{Error, Result};
use thyme_log::{EventLog, Kept, Producer};
use thyme_state::{Durability, StateStore};

/// How many records are looked at first, from the end backwards.
const TAIL: u64 = 1024;
const READ_BYTES: usize = 8 << 20;

/// Who fills the output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Filler {
    Router,
    /// Of rows for other consumers.
    Emitter,
    /// Of rows for pipelines: with progress records, as a router's.
    Feeder,
}

impl Filler {
    pub fn of(output: &Output) -> Filler {
        match output {
            Output::Topic => Filler::Emitter,
            Output::Feed(_) => Filler::Feeder,
        }
    }
}

/// One router or emitter on one partition of the log that it reads.
pub struct OutputPlace<'a> {
    pub filler: Filler,
    pub group: &'a str,
    /// The log that it reads.
    pub topic: &'a str,
    pub partition: u16,
    /// The topic that it fills.
    pub output: &'a str,
    /// How far it has come in state.
    pub next: u64,
}

impl OutputPlace<'_> {
    /// The next offset whose outputs are not in the log. Offsets that cannot be this log's, or this state's, are refused.
    pub fn committed(&self, log: &dyn EventLog, producer: &mut dyn Producer) -> Result<u64> {
        let OutputPlace { group, topic, partition, next, .. } = self;
        let kept = producer.kept(group, topic, *partition)?;
        let committed = match (kept, self.filler) {
            (Some(kept), _) => kept.next,
            (None, Filler::Router | Filler::Feeder) => self.found(log)?.unwrap_or_default(),
            // Not every event has a record: what the state has gone past since the last one had none.
            (None, Filler::Emitter) => self.found(log)?.unwrap_or_default().max(*next),
        };
        let end = log.end_offset(topic, *partition)?;
        if committed > end {
            return Err(Error::data_loss(format!(
                "the committed offset is past the end of the log: group={group} topic={topic} partition={partition} \
                 committed={committed} end={end} log={}",
                log.identity()
            ))
            .hint(
                "the offsets are of another log, or the topic was made anew: choose another prefix in log.url, or delete the consumer \
                 group and the state to rebuild it",
            ));
        }
        if let Some(kept) = kept.filter(|kept| !kept.is_ours) {
            self.check_moved(log, kept)?;
        }
        if *next > committed {
            return Err(Error::data_loss(format!(
                "the state is ahead of the log: group={group} topic={topic} partition={partition} state={next} \
                 committed={committed} log={}",
                log.identity()
            ))
            .hint(
                "state and log do not belong together; restore both from one backup, or delete the state to rebuild it",
            ));
        }
        Ok(committed)
    }

    /// An offset that somebody else committed, or a version of ours that left no mark: outputs before it may never have been sent, or those
    /// behind it have been. It is believed where the state or the output says the same. One of ours is not compared with the output:
    /// events need not have records, and another slice's open transaction may hide the last ones for a moment.
    fn check_moved(&self, log: &dyn EventLog, kept: Kept) -> Result<()> {
        let (OutputPlace { group, topic, partition, output, next, .. }, committed) = (self, kept.next);
        if committed == *next {
            return Ok(());
        }
        let found = self.found(log)?;
        if found == Some(committed) {
            return Ok(());
        }
        let sent = found.map_or("nothing".to_string(), |found| found.to_string());
        Err(Error::data_loss(format!(
            "the committed offset was moved by another program: group={group} topic={topic} partition={partition} \
             committed={committed} state={next} found_in_output={sent} output={output} log={}",
            log.identity()
        ))
        .hint(format!(
            "stop the servers and delete the consumer group '{group}' (its name begins with the prefix in log.url): how far the outputs \
             are is then found in them"
        )))
    }

    /// How far the outputs are, by themselves.
    fn found(&self, log: &dyn EventLog) -> Result<Option<u64>> {
        match self.filler {
            Filler::Router => self.found_in_output(log, 0),
            Filler::Feeder => self.found_in_output(log, self.partition),
            Filler::Emitter => self.found_in_records(log),
        }
    }

    /// Brokers forget the offsets of a group that is silent for long. Each tick of the router has left its next offset in every
    /// partition of its output, in the same transaction: the last one is at the end of any of them. Rows with the key of what they
    /// are made from leave it in the partition of the same number.
    fn found_in_output(&self, log: &dyn EventLog, at: u16) -> Result<Option<u64>> {
        log.forget(self.output);
        let mut below = log.end_offset(self.output, at)?;
        let mut length = TAIL;
        while below > 0 {
            let from = below.saturating_sub(length);
            let found = self.greatest_progress(log, at, from, below)?;
            if found.is_some() {
                return Ok(found);
            }
            below = from;
            length *= 4;
        }
        Ok(None)
    }

    /// An emitter's records of one partition go to the same partition of its topic, in log order: the last one tells.
    fn found_in_records(&self, log: &dyn EventLog) -> Result<Option<u64>> {
        log.forget(self.output);
        let mut below = log.end_offset(self.output, self.partition)?;
        let mut length = TAIL;
        while below > 0 {
            let first = below.saturating_sub(length);
            let mut from = first;
            let mut found = None;
            while from < below {
                let records = log.read(self.output, self.partition, from, TAIL as usize, READ_BYTES)?;
                let Some(last) = records.last() else { break };
                from = last.offset + 1;
                found = found.max(records.iter().filter_map(next_offset_of).max());
            }
            if found.is_some() {
                return Ok(found);
            }
            below = first;
            length *= 4;
        }
        Ok(None)
    }

    fn greatest_progress(&self, log: &dyn EventLog, at: u16, mut from: u64, below: u64) -> Result<Option<u64>> {
        let mut greatest = None;
        while from < below {
            let records = log.read(self.output, at, from, TAIL as usize, READ_BYTES)?;
            let Some(last) = records.last() else { break };
            from = last.offset + 1;
            for record in records.iter().filter(|record| record.offset < below) {
                // Whatever else a foreign producer may have written there is none of ours.
                if let Ok(Record::Progress { partition, next_offset, .. }) = Record::decode(&record.value)
                    && partition == self.partition
                {
                    greatest = greatest.max(Some(next_offset));
                }
            }
        }
        Ok(greatest)
    }
}

/// What a state that notes this has of a log; `None` if it is of another one.
fn share_of<'a>(noted: &'a str, log: &str) -> Option<&'a str> {
    match noted.strip_prefix(log)? {
        "" => Some("all of it"),
        share => share.strip_prefix(" (")?.strip_suffix(')'),
    }
}

fn refused(made_from: &str, identity: &str, log: &str) -> Error {
    if let (Some(share), Some(wanted)) = (share_of(made_from, log), share_of(identity, log)) {
        return Error::precondition(format!(
            "the state has another share of the log: state={share} wanted={wanted} log={log}"
        ))
        .hint("the state was moved, or the log had other slices when it was made: delete it, and it is built anew");
    }
    Error::precondition(format!("the state was made from another log: state={made_from} log={identity}"))
        .hint("set log.url to the log it was made from, or choose another data directory to build it anew")
}

/// Refuses a state that was made from another log or is of another slice; notes both in a new one.
pub fn check_identity(state: &Arc<StateStore>, log: &dyn EventLog, slice: Slice) -> Result<()> {
    let identity = slice.note_of(log.identity());
    let snapshot = state.snapshot();
    let noted = snapshot.log_identity()?;
    let is_new = noted.is_none() && snapshot.all_progress()?.is_empty();
    let made_from = noted.as_deref().unwrap_or(BESIDE);
    if made_from == identity {
        return Ok(());
    }
    let is_beside = identity.strip_prefix(BESIDE).is_some_and(|id| id.starts_with(':'));
    let has_an_id_now = made_from == BESIDE && is_beside && slice.is_whole();
    if !is_new && !has_an_id_now {
        return Err(refused(made_from, &identity, log.identity()));
    }
    let mut tick = state.tick();
    tick.put_log_identity(&identity)?;
    tick.commit(Durability::Synced)
}
