//! The group of nodes that would own the work: members of a consumer group over a topic with an empty partition for each slice. Who
//! has the partition owns the slice. Static membership: a node that is back within the session timeout keeps what it had.

use super::Connection;
use super::seat::{PAUSE, Wish, sit};
use super::shares::{Leftovers, Shares};
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
    pub fn join(connection: Arc<Connection>, node: Node, slices: u16) -> Result<KafkaMember> {
        let owns = Arc::new(watch::Sender::new(BTreeSet::new()));
        let leaving = Arc::new(AtomicBool::new(false));
        let taking_part =
            Part { connection: connection.clone(), node, slices, owns: owns.clone(), leaving: leaving.clone() };
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

    fn owner(&self, slice: u16) -> Result<Option<String>> {
        let shares = Shares::of(&self.connection)?;
        Ok(shares.owner(slice).map(str::to_string))
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

/// What the thread works with.
struct Part {
    connection: Arc<Connection>,
    node: Node,
    slices: u16,
    owns: Arc<watch::Sender<BTreeSet<u16>>>,
    leaving: Arc<AtomicBool>,
}

impl Part {
    fn run(&self) {
        let mut leftovers = Leftovers::new(self.slices, &self.node.url);
        while !self.leaving.load(Ordering::Acquire) {
            if let Err(error) = self.take_part(&mut leftovers) {
                self.own_nothing();
                self.connection.kept_out.note(WORK, error);
                std::thread::sleep(PAUSE);
            }
        }
        self.connection.kept_out.forget(WORK);
        self.own_nothing();
    }

    /// Until this node leaves, or is to join anew, or cannot be a member (it may not, or another node has its id).
    fn take_part(&self, leftovers: &mut Leftovers) -> Result<()> {
        let settings = &self.connection.settings;
        let config = settings.member(&settings.full_name(WORK), &self.node.id, &self.node.url);
        let wish = || match self.leaving.load(Ordering::Acquire) {
            true => Wish::Go,
            false if leftovers.call_for_a_new_share(|| Shares::of(&self.connection)) => Wish::GiveBack,
            false => Wish::Stay,
        };
        sit(&self.connection, WORK, &config, &self.owns, wish)
    }

    fn own_nothing(&self) {
        self.owns.send_if_modified(|owned| !std::mem::take(owned).is_empty());
    }
}
