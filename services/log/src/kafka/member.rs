//! The group of nodes that would own the work: members of a consumer group over a topic with one empty partition. Who has the
//! partition is the owner. Static membership: a node that is back within the session timeout keeps it.

use super::Connection;
use super::topics::ASK;
use crate::membership::{Member, Node};
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use thyme_core::{Error, Result};
use tokio::sync::watch;

/// The topic whose only partition stands for the work, and the group. No dataset's topic has a name without a version.
const WORK: &str = "owner";
/// After the group cannot be taken part in, wait this long.
const PAUSE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(100);

pub struct KafkaMember {
    connection: Arc<Connection>,
    owns: Arc<watch::Sender<bool>>,
    leaving: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaMember {
    pub fn join(connection: Arc<Connection>, node: Node) -> Result<KafkaMember> {
        connection.topics.create(WORK, 1)?;
        let owns = Arc::new(watch::Sender::new(false));
        let leaving = Arc::new(AtomicBool::new(false));
        let taking_part = Part { connection: connection.clone(), node, owns: owns.clone(), leaving: leaving.clone() };
        let thread = std::thread::Builder::new()
            .name("thyme-member".to_string())
            .spawn(move || taking_part.run())
            .map_err(|error| Error::internal(format!("starting the thread of the group: {error}")))?;
        Ok(KafkaMember { connection, owns, leaving, thread: Some(thread) })
    }
}

impl Member for KafkaMember {
    fn owns(&self) -> watch::Receiver<bool> {
        self.owns.subscribe()
    }

    /// Members are called by their address; the one whose assignment names a topic is the owner.
    fn owner(&self) -> Result<Option<String>> {
        let group = self.connection.settings.full_name(WORK);
        let client = self.connection.topics.client();
        let groups = client
            .fetch_group_list(Some(&group), ASK)
            .map_err(|error| self.connection.failed("asking who owns the work", &error))?;
        let members = groups.groups().iter().flat_map(|group| group.members());
        let mut owner = members.filter(|member| names_a_topic(member.assignment())).map(|member| member.client_id());
        Ok(owner.next().map(str::to_string))
    }
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        self.leaving.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the group panicked");
        }
    }
}

/// An assignment in the consumer protocol begins with its version (16 bits) and the number of topics (32 bits).
fn names_a_topic(assignment: Option<&[u8]>) -> bool {
    let count = assignment.and_then(|bytes| bytes.get(2..6)).and_then(|bytes| bytes.try_into().ok());
    count.is_some_and(|bytes| i32::from_be_bytes(bytes) > 0)
}

/// What the thread works with.
struct Part {
    connection: Arc<Connection>,
    node: Node,
    owns: Arc<watch::Sender<bool>>,
    leaving: Arc<AtomicBool>,
}

impl Part {
    fn run(&self) {
        while !self.leaving.load(Ordering::Acquire) {
            if let Err(error) = self.take_part() {
                tracing::warn!(%error, "this node cannot take part in the group of engines, and tries again");
                self.own(false);
                std::thread::sleep(PAUSE);
            }
        }
        self.own(false);
    }

    /// Polls until this node leaves, or its client cannot be used any more (another node has its id).
    fn take_part(&self) -> Result<()> {
        let failed = |error: &KafkaError| self.connection.failed("joining the group of engines", error);
        let settings = &self.connection.settings;
        let config = settings.member(&settings.full_name(WORK), &self.node.id, &self.node.url);
        let context = Seat { inner: self.connection.context(), owns: self.owns.clone() };
        let client: BaseConsumer<Seat> = config.create_with_context(context).map_err(|error| failed(&error))?;
        client.subscribe(&[&settings.full_name(WORK)]).map_err(|error| failed(&error))?;
        while !self.leaving.load(Ordering::Acquire) {
            // Nobody writes to the topic; polling serves the group.
            if let Some(Err(error)) = client.poll(POLL)
                && client.client().fatal_error().is_some()
            {
                return Err(failed(&error));
            }
            if let Some((code, reason)) = client.client().fatal_error() {
                return Err(failed(&KafkaError::Global(code)).context(reason));
            }
        }
        Ok(())
    }

    fn own(&self, owns: bool) {
        tell(&self.owns, owns);
    }
}

fn tell(sender: &watch::Sender<bool>, owns: bool) {
    sender.send_if_modified(|now| std::mem::replace(now, owns) != owns);
}

/// Hears of what the group decided.
struct Seat {
    inner: super::context::Context,
    owns: Arc<watch::Sender<bool>>,
}

impl ClientContext for Seat {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        self.inner.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.inner.error(error, reason);
    }
}

impl ConsumerContext for Seat {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(gone) = rebalance
            && gone.count() > 0
        {
            tell(&self.owns, false);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(given) = rebalance
            && given.count() > 0
        {
            tell(&self.owns, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::names_a_topic;

    #[test]
    fn an_assignment_tells_whether_it_has_a_topic() {
        assert!(!names_a_topic(None));
        assert!(!names_a_topic(Some(&[0, 3])));
        assert!(!names_a_topic(Some(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0])));
        assert!(names_a_topic(Some(&[0, 3, 0, 0, 0, 1, 0, 5])));
    }
}
