//! The group of nodes that would own the work: members of a consumer group over a topic with an empty partition for each slice. Who
//! has the partition owns the slice. Static membership: a node that is back within the session timeout keeps what it had.

use super::Connection;
use super::seat::{PAUSE, sit};
use super::topics::ASK;
use crate::membership::{Member, Node, WORK};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use thyme_core::{Error, Result};
use tokio::sync::watch;

pub struct KafkaMember {
    connection: Arc<Connection>,
    owns: Arc<watch::Sender<BTreeSet<u16>>>,
    leaving: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaMember {
    pub fn join(connection: Arc<Connection>, node: Node) -> Result<KafkaMember> {
        let owns = Arc::new(watch::Sender::new(BTreeSet::new()));
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
    fn owns(&self) -> watch::Receiver<BTreeSet<u16>> {
        self.owns.subscribe()
    }

    /// Members are called by their address; the one whose assignment has the slice's partition is the owner.
    fn owner(&self, slice: u16) -> Result<Option<String>> {
        let group = self.connection.settings.full_name(WORK);
        let client = self.connection.topics.client();
        let groups = client
            .fetch_group_list(Some(&group), ASK)
            .map_err(|error| self.connection.failed("asking who owns the work", &error))?;
        let members = groups.groups().iter().flat_map(|group| group.members());
        let mut owner = members
            .filter(|member| partitions_of(member.assignment()).contains(&slice))
            .map(|member| member.client_id());
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

/// The partitions of an assignment in the consumer protocol: its version (16 bits), and for each topic (their number in 32 bits) its
/// name and its partitions. There is only one topic.
fn partitions_of(assignment: Option<&[u8]>) -> Vec<u16> {
    let read = |bytes: &[u8]| {
        let (_version, rest) = bytes.split_first_chunk::<2>()?;
        let (topics, rest) = rest.split_first_chunk::<4>()?;
        if i32::from_be_bytes(*topics) < 1 {
            return None;
        }
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let rest = rest.get(usize::try_from(i16::from_be_bytes(*length)).ok()?..)?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (numbers, _) = rest.as_chunks::<4>();
        let numbers = numbers.get(..usize::try_from(i32::from_be_bytes(*count)).ok()?)?;
        numbers.iter().map(|number| u16::try_from(i32::from_be_bytes(*number)).ok()).collect()
    };
    assignment.and_then(read).unwrap_or_default()
}

/// What the thread works with.
struct Part {
    connection: Arc<Connection>,
    node: Node,
    owns: Arc<watch::Sender<BTreeSet<u16>>>,
    leaving: Arc<AtomicBool>,
}

impl Part {
    fn run(&self) {
        while !self.leaving.load(Ordering::Acquire) {
            if let Err(error) = self.take_part() {
                self.own_nothing();
                self.connection.kept_out.note(WORK, error);
                std::thread::sleep(PAUSE);
            }
        }
        self.connection.kept_out.forget(WORK);
        self.own_nothing();
    }

    /// Until this node leaves, or cannot be a member (it may not, or another node has its id).
    fn take_part(&self) -> Result<()> {
        let settings = &self.connection.settings;
        let config = settings.member(&settings.full_name(WORK), &self.node.id, &self.node.url);
        sit(&self.connection, WORK, &config, &self.owns, || !self.leaving.load(Ordering::Acquire))
    }

    fn own_nothing(&self) {
        self.owns.send_if_modified(|owned| !std::mem::take(owned).is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::partitions_of;

    #[test]
    fn an_assignment_tells_its_partitions() {
        let nothing: &[u16] = &[];
        assert_eq!(partitions_of(None), nothing);
        assert_eq!(partitions_of(Some(&[0, 3])), nothing);
        assert_eq!(partitions_of(Some(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0])), nothing);
        let two = [0, 3, 0, 0, 0, 1, 0, 2, b's', b'.', 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0];
        assert_eq!(partitions_of(Some(&two)), [1, 3]);
        assert_eq!(partitions_of(Some(&two[..20])), nothing, "cut short");
    }
}
