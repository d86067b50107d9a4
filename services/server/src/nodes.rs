//! This node among several on one log: which slices of the work it owns and which it follows, as the log's own group decides.

use crate::sources::Sources;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_control::Controller;
use thyme_core::{Error, ErrorKind, Result};
use thyme_engine::EngineHandle;
use thyme_log::Member;
use tokio::sync::watch;

/// How often a follower looks at the catalog.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a start waits for the group to have an owner.
const DECIDE: Duration = Duration::from_secs(20);
/// How long a build that could not be begun waits for its next turn.
const ERASES_AGAIN: Duration = Duration::from_secs(30);
/// A follower that has not been at the end of the log for so long is not ready.
const STALE: Duration = Duration::from_secs(10);

/// What changes hands with the work.
pub struct NodeParts {
    pub engine: EngineHandle,
    pub controller: Arc<Controller>,
    pub member: Arc<dyn Member>,
    pub freshness: Arc<Freshness>,
}

/// A node with its part in the work.
pub struct Node {
    parts: NodeParts,
    owns: watch::Receiver<BTreeSet<u16>>,
    /// When it is tried again to build anew what holds erased events.
    erases_from: Option<Instant>,
}

impl Node {
    /// Waits until somebody owns the work, then leads or follows. An owner that cannot bring back its definitions is an error.
    pub async fn start(parts: NodeParts, may_own: bool) -> Result<Node> {
        let mut owns = parts.member.owns();
        let until = Instant::now() + DECIDE;
        if may_own {
            while owns.borrow_and_update().is_empty() && Instant::now() < until && !has_owner(&parts.member).await {
                if tokio::time::timeout(LOOK_EVERY, owns.changed()).await.is_ok_and(|changed| changed.is_err()) {
                    break;
                }
            }
        }
        let mut node = Node { parts, owns, erases_from: None };
        while let Err(error) = node.look().await {
            if !node.may_pass(&error) || Instant::now() > until {
                return Err(error);
            }
            tracing::warn!(%error, "this node has not come to its part in the work yet, and tries again");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(node)
    }

    /// While others start or stop, slices change hands, and whoever leads has not made all logs yet.
    fn may_pass(&self, error: &Error) -> bool {
        use ErrorKind::{FailedPrecondition, NotFound, Unavailable};
        self.parts.engine.slices() > 1 && matches!(error.kind(), Unavailable | NotFound | FailedPrecondition)
    }

    /// Goes with what the group decides until the server stops.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>, mut sources: Sources) {
        loop {
            tokio::select! {
                changed = self.owns.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stopping.wait_for(|stop| *stop) => break,
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "this node does not go on as owner or follower, and tries again");
            }
        }
        sources.stop().await;
    }

    async fn look(&mut self) -> Result<()> {
        let owns = self.owns.borrow_and_update().clone();
        let NodeParts { controller, engine, freshness, .. } = &self.parts;
        let owned = controller.owned().borrow().clone();
        let mut outcome = Ok(());
        if owned != owns || controller.leads() != owns.contains(&0) {
            tracing::info!(slices = ?owns, of = engine.slices(), "this node owns these slices of the work");
            // What cannot be gained yet is tried again, and holds up nothing else.
            outcome = controller.own(&owns).await;
        }
        freshness.look(engine, &owns);
        if !controller.leads() {
            return outcome.and(controller.follow().await);
        }
        controller.keep_up().await?;
        self.work_off_erases().await;
        outcome
    }

    /// A build that could not be begun leaves a failed commit behind: not twice a second.
    async fn work_off_erases(&mut self) {
        if self.erases_from.is_some_and(|from| Instant::now() < from) {
            return;
        }
        let begun = self.parts.controller.work_off_erases().await;
        self.erases_from = begun.is_err().then(|| Instant::now() + ERASES_AGAIN);
        if let Err(error) = begun {
            tracing::error!(%error, "what holds erased events could not be built anew, and is tried again");
        }
    }
}

async fn has_owner(member: &Arc<dyn Member>) -> bool {
    let member = member.clone();
    let asked = tokio::task::spawn_blocking(move || member.owner(0)).await;
    matches!(asked, Ok(Ok(Some(_))))
}

/// How far this node is behind the log in the slices that it follows. An owner's own lag is a matter of its load, not of its place.
#[derive(Default)]
pub struct Freshness(Mutex<Option<Seen>>);

/// When a follower was last seen at the end of the log, and how far it was from it when it was last asked.
#[derive(Clone, Copy)]
struct Seen {
    /// When it began to follow, until it comes to the end for the first time.
    fresh_at: Instant,
    was_fresh: bool,
    /// `None` while the log cannot be asked.
    lag: Option<u64>,
}

impl Freshness {
    fn look(&self, engine: &EngineHandle, owned: &BTreeSet<u16>) {
        let followed: Vec<u16> = (0..engine.slices()).filter(|slice| !owned.contains(slice)).collect();
        if followed.is_empty() {
            *self.0.lock() = None;
            return;
        }
        let lag = EngineHandle::of_all(followed.into_iter().map(|slice| engine.slice(slice))).lag();
        let mut seen = self.0.lock();
        let before = seen.unwrap_or(Seen { fresh_at: Instant::now(), was_fresh: false, lag: None });
        *seen = Some(match lag {
            Some(0) => Seen { fresh_at: Instant::now(), was_fresh: true, lag },
            _ => Seen { lag, ..before },
        });
    }

    /// How long ago this follower was last seen at the end of the log; `None` for the owner of all.
    pub fn behind(&self) -> Option<Duration> {
        self.0.lock().map(|seen| seen.fresh_at.elapsed().saturating_sub(LOOK_EVERY))
    }

    /// Why this follower should not be asked.
    pub fn stale(&self) -> Option<String> {
        let seen = (*self.0.lock())?;
        let behind = seen.fresh_at.elapsed();
        if seen.was_fresh && behind <= STALE {
            return None;
        }
        let lag = match seen.lag {
            Some(lag) => format!("{lag} records of the log are to be read"),
            None => "the log cannot be asked".to_string(),
        };
        Some(match seen.was_fresh {
            true => format!("this node follows and was last at the end of the log {} s ago: {lag}", behind.as_secs()),
            false => format!("this node follows and has not come to the end of the log yet: {lag}"),
        })
    }
}
