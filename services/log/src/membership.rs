//! Who of several nodes on one log owns its work. The log's own group protocol decides; an engine's outputs are safe without it,
//! because whoever makes a producer fences the one before.

use thyme_core::Result;
use tokio::sync::watch;

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
    /// Whether this node owns the work, as far as it knows.
    fn owns(&self) -> watch::Receiver<bool>;

    /// Where the owner's control service can be asked; `None` while nobody owns the work.
    fn owner(&self) -> Result<Option<String>>;
}

/// A node that never owns the work, whoever does.
#[derive(Default)]
pub struct Onlooker(watch::Sender<bool>);

impl Member for Onlooker {
    fn owns(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    fn owner(&self) -> Result<Option<String>> {
        Ok(None)
    }
}

/// The only node of a log that one process holds.
pub struct Alone {
    owns: watch::Sender<bool>,
    url: String,
}

impl Alone {
    pub fn new(node: Node) -> Alone {
        Alone { owns: watch::Sender::new(true), url: node.url }
    }
}

impl Member for Alone {
    fn owns(&self) -> watch::Receiver<bool> {
        self.owns.subscribe()
    }

    fn owner(&self) -> Result<Option<String>> {
        Ok(Some(self.url.clone()))
    }
}
