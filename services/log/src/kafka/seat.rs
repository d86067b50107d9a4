//! A seat in a consumer group of the log: what it is given there, and what keeps this process out.

use super::Connection;
use super::context::Context;
use super::errors::code_of;
use crate::membership::WORK;
use parking_lot::Mutex;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use thyme_core::{Error, Result};
use tokio::sync::watch;

/// After a group could not be taken part in, wait this long.
pub const PAUSE: Duration = Duration::from_secs(1);
pub const POLL: Duration = Duration::from_millis(100);
/// How long the group is told that a seat is given back.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a member wants of its seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Stay,
    /// It goes; where it has a name in the group, what it was given stays its own until the session is over.
    Go,
    /// What it was given is others' from now on.
    GiveBack,
}

/// The groups that this process would be in and is not, by name, and why.
#[derive(Default)]
pub struct KeptOut(Mutex<BTreeMap<&'static str, Error>>);

impl KeptOut {
    pub fn first(&self) -> Option<Error> {
        self.0.lock().values().next().cloned()
    }

    /// Told in the log when it is new: it may stay so for days, and is tried again every second.
    pub fn note(&self, group: &'static str, error: Error) {
        let mut all = self.0.lock();
        if all.get(group) != Some(&error) {
            tracing::warn!(%error, "this server is kept out of a group of the log, and tries again");
            all.insert(group, error);
        }
    }

    pub fn forget(&self, group: &str) -> bool {
        self.0.lock().remove(group).is_some()
    }
}

/// A member of the group as long as it `wishes`, over the topic of the slices; what it is given goes to `given`. An error if it cannot be
/// one: librdkafka tells it once and may not ask again for minutes, so that the next try is another client's.
pub fn sit(
    connection: &Arc<Connection>,
    group: &'static str,
    config: &ClientConfig,
    given: &Arc<watch::Sender<BTreeSet<u16>>>,
    mut wish: impl FnMut() -> Wish,
) -> Result<()> {
    let what = format!("joining the group '{}'", connection.settings.full_name(group));
    let failed = |error: &KafkaError| connection.failed(&what, error);
    let is_taken = AtomicBool::new(false);
    let seat =
        Seat { inner: connection.context(), connection: connection.clone(), group, given: given.clone(), is_taken };
    let client: BaseConsumer<Seat> = config.create_with_context(seat).map_err(|error| failed(&error))?;
    client.subscribe(&[&connection.settings.full_name(WORK)]).map_err(|error| failed(&error))?;
    let mut refused = None;
    loop {
        match wish() {
            Wish::Stay => {}
            Wish::Go => return Ok(()),
            Wish::GiveBack => return give_back(&client).map_err(|error| failed(&error)),
        }
        // Nobody writes to the topic; polling serves the group.
        if let Some(Err(error)) = client.poll(POLL)
            && is_refusal(&error)
        {
            refused = Some(error);
        }
        if let Some((code, reason)) = client.client().fatal_error() {
            return Err(failed(&KafkaError::Global(code)).context(reason));
        }
        // Who has a seat may do without the right to read the topic: there is nothing in it.
        let is_of_group = |error: &&KafkaError| code_of(error) == Some(RDKafkaErrorCode::GroupAuthorizationFailed);
        let has_seat = client.context().is_taken.load(Ordering::Acquire);
        if let Some(error) = refused.as_ref().filter(|error| !has_seat || is_of_group(error)) {
            return Err(failed(error));
        }
    }
}

/// To end does not do it: a member with a name keeps its seat.
fn give_back(client: &BaseConsumer<Seat>) -> std::result::Result<(), KafkaError> {
    client.unsubscribe();
    let until = Instant::now() + FAREWELL;
    while Instant::now() < until {
        if let Some(Err(error)) = client.poll(POLL)
            && is_refusal(&error)
        {
            return Err(error);
        }
    }
    Ok(())
}

fn is_refusal(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code_of(error), Some(Code::GroupAuthorizationFailed | Code::TopicAuthorizationFailed))
}

/// Hears of what the group decided.
struct Seat {
    inner: Context,
    connection: Arc<Connection>,
    group: &'static str,
    given: Arc<watch::Sender<BTreeSet<u16>>>,
    /// The group counts it in, whether it has given it anything or not.
    is_taken: AtomicBool,
}

impl ClientContext for Seat {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.inner.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.inner.error(error, reason);
    }
}

impl ConsumerContext for Seat {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(gone) = rebalance {
            self.is_taken.store(false, Ordering::Release);
            let gone = slices_of(gone);
            self.given.send_if_modified(|given| {
                let before = given.len();
                given.retain(|slice| !gone.contains(slice));
                given.len() != before
            });
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(new) = rebalance {
            self.is_taken.store(true, Ordering::Release);
            if self.connection.kept_out.forget(self.group) {
                tracing::info!(group = self.group, "this server is in the group of the log again");
            }
            let new = slices_of(new);
            self.given.send_if_modified(|given| {
                let before = given.len();
                given.extend(new);
                given.len() != before
            });
        }
    }
}

fn slices_of(partitions: &TopicPartitionList) -> Vec<u16> {
    partitions.elements().iter().filter_map(|partition| u16::try_from(partition.partition()).ok()).collect()
}
