//! This node among several on one log: which slices of the work it owns and which it follows, as the log's own group decides.

use crate::fences::Fences;
use crate::freshness::Freshness;
use crate::holders::GroupHolders;
use crate::slices::Slices;
use crate::sources::Sources;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_control::Controller;
use thyme_core::{Error, ErrorKind, Result};
use thyme_engine::EngineHandle;
use thyme_log::{EventLog, Member};
use thyme_query::Holders as _;
use thyme_state::States;
use tokio::sync::watch;

/// How often a follower looks at the catalog.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same while something comes to it: a slice that opens, or that is here and not owned yet.
const LOOK_SOON: Duration = Duration::from_millis(100);
/// How long a start waits for its part in the work.
const DECIDE: Duration = Duration::from_secs(20);
/// How long a build that could not be begun waits for its next turn.
const ERASES_AGAIN: Duration = Duration::from_secs(30);
/// How often a node that leads asks others which erases they have read.
const ERASES_ELSEWHERE: Duration = Duration::from_secs(5);

/// What changes hands with the work.
pub struct NodeParts {
    pub engine: EngineHandle,
    pub controller: Arc<Controller>,
    pub log: Arc<dyn EventLog>,
    pub member: Arc<dyn Member>,
    pub freshness: Arc<Freshness>,
    /// Of the slices that this node answers for.
    pub states: States,
    pub slices: Slices,
    /// Who else answers.
    pub holders: Arc<GroupHolders>,
    /// It holds all slices, whoever owns them.
    pub holds_all: bool,
}

/// A node with its part in the work.
pub struct Node {
    parts: NodeParts,
    owns: watch::Receiver<BTreeSet<u16>>,
    fences: Fences,
    /// When it is tried again to build anew what holds erased events.
    erases_from: Option<Instant>,
}

impl Node {
    /// Leads, owns or follows, as the group has decided. An owner that cannot bring back its definitions is an error.
    pub async fn start(parts: NodeParts) -> Result<Node> {
        let owns = parts.member.owns();
        let until = Instant::now() + DECIDE;
        let fences = Fences::watch(owns.clone(), parts.log.clone(), parts.engine.clone());
        let mut node = Node { parts, owns, fences, erases_from: None };
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

    /// Goes with what the group decides until the server stops; the slices that are here then.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>, mut sources: Sources) -> Slices {
        let mut pause = self.pause();
        loop {
            tokio::select! {
                changed = self.owns.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stop| *stop) => break,
            }
            pause = match self.look().await {
                Ok(()) => self.pause(),
                Err(error) => {
                    tracing::warn!(%error, "this node does not go on as owner or follower, and tries again");
                    LOOK_EVERY
                }
            };
        }
        sources.stop().await;
        self.parts.slices.rest().await;
        self.parts.slices
    }

    fn pause(&self) -> Duration {
        let is_coming = self.can_own(&self.owns.borrow()) != *self.parts.controller.owned().borrow();
        if is_coming || self.parts.slices.is_opening() { LOOK_SOON } else { LOOK_EVERY }
    }

    /// Of these slices those that are here, as others come first; and those that there should not be, which are refused.
    fn can_own(&self, assigned: &BTreeSet<u16>) -> BTreeSet<u16> {
        let (held, slices) = (self.parts.engine.held(), self.parts.engine.slices());
        assigned.iter().filter(|slice| held.contains(slice) || **slice >= slices).copied().collect()
    }

    async fn look(&mut self) -> Result<()> {
        let assigned = self.owns.borrow_and_update().clone();
        let owns = self.can_own(&assigned);
        let NodeParts { controller, engine, freshness, states, .. } = &self.parts;
        let slices = engine.slices();
        let owned = controller.owned().borrow().clone();
        let mut outcome = Ok(());
        if owned != owns || controller.leads() != owns.contains(&0) {
            tracing::info!(slices = ?owns, of = engine.slices(), "this node owns these slices of the work");
            self.fences.settle(&owns).await;
            // What cannot be gained yet is tried again, and holds up nothing else.
            outcome = controller.own(&owns).await;
        }
        freshness.look(engine, states, &owns, self.parts.holds_all);
        if !self.parts.holds_all {
            // As it is by now: to own and to give back may have taken a while.
            let wanted = self.owns.borrow().iter().filter(|slice| **slice < slices).copied().collect();
            self.parts.slices.keep(&wanted, &self.parts.holders.map()).await;
        }
        let controller = &self.parts.controller;
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
        let pause = match (&begun, self.parts.engine.has_all()) {
            (Err(_), _) => Some(ERASES_AGAIN),
            (Ok(()), false) => Some(ERASES_ELSEWHERE),
            (Ok(()), true) => None,
        };
        self.erases_from = pause.map(|pause| Instant::now() + pause);
        if let Err(error) = begun {
            tracing::error!(%error, "what holds erased events could not be built anew, and is tried again");
        }
    }
}

/// Which slices a node is to have when it starts: waits until the group has given it some, or all to others, or is known to keep it out.
pub async fn first_share(member: &Arc<dyn Member>, log: &Arc<dyn EventLog>, slices: u16) -> BTreeSet<u16> {
    let mut owns = member.owns();
    let until = Instant::now() + DECIDE;
    while owns.borrow_and_update().is_empty()
        && Instant::now() < until
        && log.trouble().is_none()
        && !all_have_owners(member, slices).await
    {
        if tokio::time::timeout(LOOK_EVERY, owns.changed()).await.is_ok_and(|changed| changed.is_err()) {
            break;
        }
    }
    owns.borrow().clone()
}

async fn all_have_owners(member: &Arc<dyn Member>, slices: u16) -> bool {
    let member = member.clone();
    let asked = tokio::task::spawn_blocking(move || {
        (0..slices).all(|slice| member.owner(slice).is_ok_and(|owner| owner.is_some()))
    });
    asked.await.unwrap_or(false)
}
