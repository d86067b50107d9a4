//! Who of several nodes on one log owns which slices of its work. The log's own group protocol decides; an engine's outputs are safe
//! without it, because whoever makes a producer fences the one before.

use std::collections::BTreeSet;
use thyme_core::Result;
use tokio::sync::watch;

/// The topic with an empty partition for each slice, and the group that shares them. No dataset's topic has a name without a version.
pub const WORK: &str = "owner";

/// A node as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Stays the same over restarts: a node that is back within the session timeout keeps what it owned.
    pub id: String,
    /// Where its control service can be asked.
    pub url: String,
}

/// A node's place in the group; dropping it stops taking part.
pub trait Member: Send + Sync {
    /// The slices whose work this node owns, as far as it knows.
    fn owns(&self) -> watch::Receiver<BTreeSet<u16>>;

    /// Where the control service of a slice's owner can be asked; `None` while nobody owns it.
    fn owner(&self, slice: u16) -> Result<Option<String>>;
}

/// A node that never owns anything, whoever does.
#[derive(Default)]
pub struct Onlooker(watch::Sender<BTreeSet<u16>>);

impl Member for Onlooker {
    fn owns(&self) -> watch::Receiver<BTreeSet<u16>> {
        self.0.subscribe()
    }

    fn owner(&self, _slice: u16) -> Result<Option<String>> {
        Ok(None)
    }
}

/// The only node of a log that one process holds.
pub struct Alone {
    owns: watch::Sender<BTreeSet<u16>>,
    url: String,
}

impl Alone {
    pub fn new(node: Node) -> Alone {
        Alone { owns: watch::Sender::new(BTreeSet::from([0])), url: node.url }
    }
}

impl Member for Alone {
    fn owns(&self) -> watch::Receiver<BTreeSet<u16>> {
        self.owns.subscribe()
    }

    fn owner(&self, _slice: u16) -> Result<Option<String>> {
        Ok(Some(self.url.clone()))
    }
}
