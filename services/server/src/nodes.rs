//! This node among several on one log: the owner of the work or a follower, as the log's own group decides.

use crate::sources::Sources;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_control::Controller;
use thyme_core::Result;
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
    /// Sources are polled by the owner.
    pub start_sources: Box<dyn Fn() -> Sources + Send + Sync>,
    pub freshness: Arc<Freshness>,
}

/// A node with its part in the work.
pub struct Node {
    parts: NodeParts,
    owns: watch::Receiver<bool>,
    sources: Option<Sources>,
    /// When it is tried again to build anew what holds erased events.
    erases_from: Option<Instant>,
}

impl Node {
    /// Waits until somebody owns the work, then leads or follows. An owner that cannot bring back its definitions is an error.
    pub async fn start(parts: NodeParts, may_own: bool) -> Result<Node> {
        let mut owns = parts.member.owns();
        if may_own {
            let until = Instant::now() + DECIDE;
            while !*owns.borrow_and_update() && Instant::now() < until && !has_owner(&parts.member).await {
                if tokio::time::timeout(LOOK_EVERY, owns.changed()).await.is_ok_and(|changed| changed.is_err()) {
                    break;
                }
            }
        }
        let mut node = Node { parts, owns, sources: None, erases_from: None };
        node.look().await?;
        Ok(node)
    }

    /// Goes with what the group decides until the server stops.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
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
        self.end_sources().await;
    }

    async fn look(&mut self) -> Result<()> {
        let owns = *self.owns.borrow_and_update();
        match (owns, self.parts.controller.leads()) {
            (true, false) => {
                tracing::info!("this node owns the work");
                self.parts.freshness.clear();
                self.parts.controller.lead().await?;
                self.sources = Some((self.parts.start_sources)());
                Ok(())
            }
            (false, true) => {
                tracing::info!("this node does not own the work any more, it follows");
                self.end_sources().await;
                self.parts.controller.stand_down().await?;
                self.follow().await
            }
            (false, false) => self.follow().await,
            (true, true) => {
                self.work_off_erases().await;
                Ok(())
            }
        }
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

    async fn follow(&self) -> Result<()> {
        self.parts.freshness.look(&self.parts.engine);
        self.parts.controller.follow().await
    }

    async fn end_sources(&mut self) {
        if let Some(mut sources) = self.sources.take() {
            sources.stop().await;
        }
    }
}

async fn has_owner(member: &Arc<dyn Member>) -> bool {
    let member = member.clone();
    let asked = tokio::task::spawn_blocking(move || member.owner()).await;
    matches!(asked, Ok(Ok(Some(_))))
}

/// How far a follower is behind the log. The owner's own lag is a matter of its load, not of its place.
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
    /// It owns the work from now on.
    fn clear(&self) {
        *self.0.lock() = None;
    }

    fn look(&self, engine: &EngineHandle) {
        let lag = engine.lag();
        let mut seen = self.0.lock();
        let before = seen.unwrap_or(Seen { fresh_at: Instant::now(), was_fresh: false, lag: None });
        *seen = Some(match lag {
            Some(0) => Seen { fresh_at: Instant::now(), was_fresh: true, lag },
            _ => Seen { lag, ..before },
        });
    }

    /// How long ago this follower was last seen at the end of the log; `None` for an owner.
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
