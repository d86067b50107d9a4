//! A log that misbehaves on purpose, to test what is built on logs: any log, with failures injected by a script or a seed.
//!
//! Outcomes that a real broker leaves open stay open here too: a commit that ended as `Unknown` was made, was not made, or is
//! made only when the next producer of that id fences this one. A producer whose commit ended as `Unknown` refuses all
//! further use, so that an engine that goes on with it fails its tests.

use crate::chance::Chance;
use crate::{Appended, Batch, CommitOutcome, EventLog, Kept, LogRecord, Producer};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use thyme_core::{Error, Result};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    None,
    /// Refused: nothing is visible.
    NotCommitted,
    /// `Unknown`, and it was committed.
    UnknownCommitted,
    /// `Unknown`, and it was not.
    UnknownNotCommitted,
    /// `Unknown`, and it is committed when the next producer of this id is made.
    UnknownCommittedLater,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFault {
    None,
    /// Fails without having written.
    Before,
    /// Writes the first batch only, then fails.
    Halfway,
    /// Writes, then fails.
    After,
}

#[derive(Debug)]
enum Plan {
    /// Used up in order; then no more faults.
    Script { commits: VecDeque<CommitFault>, appends: VecDeque<AppendFault> },
    /// One call in `one_in` has a fault.
    Seeded { chance: Chance, one_in: usize, spare_appends: bool },
}

const COMMIT_FAULTS: [CommitFault; 4] = [
    CommitFault::NotCommitted,
    CommitFault::UnknownCommitted,
    CommitFault::UnknownNotCommitted,
    CommitFault::UnknownCommittedLater,
];
const APPEND_FAULTS: [AppendFault; 3] = [AppendFault::Before, AppendFault::Halfway, AppendFault::After];

impl Default for Plan {
    fn default() -> Plan {
        Plan::Script { commits: VecDeque::new(), appends: VecDeque::new() }
    }
}

impl Plan {
    fn next_commit(&mut self) -> CommitFault {
        match self {
            Plan::Script { commits, .. } => commits.pop_front().unwrap_or(CommitFault::None),
            Plan::Seeded { chance, one_in, .. } => pick(chance, *one_in, &COMMIT_FAULTS).unwrap_or(CommitFault::None),
        }
    }

    fn next_append(&mut self) -> AppendFault {
        match self {
            Plan::Script { appends, .. } => appends.pop_front().unwrap_or(AppendFault::None),
            Plan::Seeded { spare_appends: true, .. } => AppendFault::None,
            Plan::Seeded { chance, one_in, .. } => pick(chance, *one_in, &APPEND_FAULTS).unwrap_or(AppendFault::None),
        }
    }
}

fn pick<T: Copy>(chance: &mut Chance, one_in: usize, faults: &[T]) -> Option<T> {
    (chance.below(one_in) == 0).then(|| faults[chance.below(faults.len())])
}

/// Any log, with injected failures.
pub struct FaultyLog {
    inner: Arc<dyn EventLog>,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    plan: Mutex<Plan>,
    /// By transactional id: transactions whose fate the next producer seals.
    pending: Mutex<HashMap<String, Box<dyn Producer>>>,
    injected: Mutex<Vec<String>>,
    /// One read in so many is late.
    late: Mutex<Option<(Chance, usize)>>,
}

impl FaultyLog {
    /// Faults in the order given, one per call, `None` for a call that is left alone; none after that.
    pub fn scripted(
        inner: Arc<dyn EventLog>,
        commits: impl IntoIterator<Item = CommitFault>,
        appends: impl IntoIterator<Item = AppendFault>,
    ) -> FaultyLog {
        let plan = Plan::Script { commits: commits.into_iter().collect(), appends: appends.into_iter().collect() };
        Self::with_plan(inner, plan)
    }

    /// About one in `one_in` commits and appends fails, in ways that the seed decides.
    pub fn seeded(inner: Arc<dyn EventLog>, seed: u64, one_in: usize) -> FaultyLog {
        Self::with_plan(inner, Plan::Seeded { chance: Chance::new(seed), one_in, spare_appends: false })
    }

    /// The same for commits alone.
    pub fn seeded_commits(inner: Arc<dyn EventLog>, seed: u64, one_in: usize) -> FaultyLog {
        Self::with_plan(inner, Plan::Seeded { chance: Chance::new(seed), one_in, spare_appends: true })
    }

    fn with_plan(inner: Arc<dyn EventLog>, plan: Plan) -> FaultyLog {
        let faults = Faults { plan: Mutex::new(plan), ..Faults::default() };
        FaultyLog { inner, faults: Arc::new(faults) }
    }

    /// About one read in `one_in` brings nothing, as if the records had not arrived yet. No log may do that to who knows of them
    /// (see [`EventLog::read`]): whoever takes it for the end of the records loses some.
    pub fn with_late_reads(self, seed: u64, one_in: usize) -> FaultyLog {
        *self.faults.late.lock() = Some((Chance::new(seed), one_in));
        self
    }

    /// No more faults from here on. Open fates are still sealed by the next producer.
    pub fn heal(&self) {
        *self.faults.plan.lock() = Plan::default();
        *self.faults.late.lock() = None;
    }

    /// The faults that were injected so far, by name, in order.
    pub fn injected(&self) -> Vec<String> {
        self.faults.injected.lock().clone()
    }
}

impl Faults {
    fn note(&self, fault: &dyn std::fmt::Debug) {
        self.injected.lock().push(format!("{fault:?}"));
    }
}

fn injected_error() -> Error {
    Error::unavailable("injected failure")
}

#[async_trait]
impl EventLog for FaultyLog {
    fn identity(&self) -> &str {
        self.inner.identity()
    }

    fn create_topic(&self, topic: &str, partitions: u16) -> Result<()> {
        self.inner.create_topic(topic, partitions)
    }

    fn delete_topic(&self, topic: &str) -> Result<()> {
        self.inner.delete_topic(topic)
    }

    fn topics(&self) -> Result<Vec<(String, u16)>> {
        self.inner.topics()
    }

    async fn append(&self, mut batches: Vec<Batch>) -> Result<Vec<Appended>> {
        let fault = self.faults.plan.lock().next_append();
        match fault {
            AppendFault::None => return self.inner.append(batches).await,
            AppendFault::Before => {}
            AppendFault::Halfway => {
                batches.truncate(1);
                self.inner.append(batches).await?;
            }
            AppendFault::After => {
                self.inner.append(batches).await?;
            }
        }
        self.faults.note(&fault);
        Err(injected_error())
    }

    fn read(
        &self,
        topic: &str,
        partition: u16,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>> {
        if let Some((chance, one_in)) = self.faults.late.lock().as_mut()
            && chance.below(*one_in) == 0
        {
            return Ok(Vec::new());
        }
        self.inner.read(topic, partition, from, max_records, max_bytes)
    }

    fn expect_reads(&self, topic: &str, partition: u16, from: u64) {
        self.inner.expect_reads(topic, partition, from);
    }

    fn forget(&self, topic: &str) {
        self.inner.forget(topic);
    }

    fn end_offset(&self, topic: &str, partition: u16) -> Result<u64> {
        self.inner.end_offset(topic, partition)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        // What the last producer left open is sealed before it is fenced.
        let open = self.faults.pending.lock().remove(transactional_id);
        if let Some(mut open) = open {
            match open.commit() {
                CommitOutcome::Committed => {}
                CommitOutcome::NotCommitted(error) | CommitOutcome::Unknown(error) => return Err(error),
            }
        }
        let inner = self.inner.producer(transactional_id)?;
        Ok(Box::new(FaultyProducer {
            inner: Some(inner),
            id: transactional_id.to_string(),
            faults: self.faults.clone(),
        }))
    }
}

struct FaultyProducer {
    /// `None` after an unknown outcome.
    inner: Option<Box<dyn Producer>>,
    id: String,
    faults: Arc<Faults>,
}

impl FaultyProducer {
    fn usable(&mut self) -> Result<&mut Box<dyn Producer>> {
        self.inner.as_mut().ok_or_else(must_not_be_used)
    }
}

fn must_not_be_used() -> Error {
    Error::internal("a producer was used after a commit of unknown outcome")
}

impl Producer for FaultyProducer {
    fn kept(&mut self, group: &str, topic: &str, partition: u16) -> Result<Option<Kept>> {
        self.usable()?.kept(group, topic, partition)
    }

    fn begin(&mut self) -> Result<()> {
        self.usable()?.begin()
    }

    fn send(&mut self, batch: Batch) -> Result<()> {
        self.usable()?.send(batch)
    }

    fn send_offset(&mut self, group: &str, topic: &str, partition: u16, next: u64) -> Result<()> {
        self.usable()?.send_offset(group, topic, partition, next)
    }

    fn commit(&mut self) -> CommitOutcome {
        let Some(mut inner) = self.inner.take() else {
            return CommitOutcome::NotCommitted(must_not_be_used());
        };
        let fault = self.faults.plan.lock().next_commit();
        if fault != CommitFault::None {
            self.faults.note(&fault);
        }
        match fault {
            CommitFault::None => {
                let outcome = inner.commit();
                if !matches!(outcome, CommitOutcome::Unknown(_)) {
                    self.inner = Some(inner);
                }
                outcome
            }
            CommitFault::NotCommitted => {
                let aborted = inner.abort();
                self.inner = Some(inner);
                CommitOutcome::NotCommitted(aborted.err().unwrap_or_else(injected_error))
            }
            CommitFault::UnknownCommitted => match inner.commit() {
                CommitOutcome::NotCommitted(error) => CommitOutcome::NotCommitted(error),
                CommitOutcome::Committed | CommitOutcome::Unknown(_) => CommitOutcome::Unknown(injected_error()),
            },
            CommitFault::UnknownNotCommitted => CommitOutcome::Unknown(injected_error()),
            CommitFault::UnknownCommittedLater => {
                self.faults.pending.lock().insert(self.id.clone(), inner);
                CommitOutcome::Unknown(injected_error())
            }
        }
    }

    fn abort(&mut self) -> Result<()> {
        self.usable()?.abort()
    }

    fn is_spent(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.is_spent())
    }
}

#[cfg(test)]
mod tests;
