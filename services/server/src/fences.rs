//! Slices that come to this node without being here yet. What their owner before has left open in the log is ended as soon as the group gives
//! them to this node, and not only when their states have come: until then no engine reads beyond it, here or elsewhere, and engines that
//! wait for the log hold up the node itself.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thyme_core::slice::Slice;
use thyme_engine::{EngineHandle, end_open};
use thyme_log::EventLog;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// By slice, what is being ended.
type UnderWay = Arc<Mutex<BTreeMap<u16, JoinHandle<()>>>>;

pub struct Fences {
    under_way: UnderWay,
    watching: JoinHandle<()>,
}

impl Fences {
    /// Goes with what the group gives to this node from now on.
    pub fn watch(owns: watch::Receiver<BTreeSet<u16>>, log: Arc<dyn EventLog>, engine: EngineHandle) -> Fences {
        let under_way = UnderWay::default();
        let watching = tokio::spawn(watch(owns, log, engine, under_way.clone()));
        Fences { under_way, watching }
    }

    /// Waits for these slices: an engine that fences at the same time would be fenced itself.
    pub async fn settle(&self, slices: &BTreeSet<u16>) {
        for slice in slices {
            let under_way = self.under_way.lock().remove(slice);
            if let Some(under_way) = under_way
                && let Err(error) = under_way.await
            {
                tracing::warn!(%error, slice, "what an owner before had left open was not ended early");
            }
        }
    }
}

impl Drop for Fences {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn watch(
    mut owns: watch::Receiver<BTreeSet<u16>>,
    log: Arc<dyn EventLog>,
    engine: EngineHandle,
    under_way: UnderWay,
) {
    let mut before = owns.borrow_and_update().clone();
    while owns.changed().await.is_ok() {
        let now = owns.borrow_and_update().clone();
        let (held, of) = (engine.held(), engine.slices());
        for &index in now.difference(&before).filter(|slice| !held.contains(slice) && **slice < of) {
            let log = log.clone();
            let fence = tokio::task::spawn_blocking(move || {
                // The engine fences in any case, and says what is wrong.
                if let Err(error) = end_open(log.as_ref(), Slice { index, of }) {
                    tracing::debug!(%error, slice = index, "what an owner before left open is not ended yet");
                }
            });
            under_way.lock().insert(index, fence);
        }
        before = now;
    }
}
