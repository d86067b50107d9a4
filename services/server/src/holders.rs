//! Who answers for which slices: what this node says of itself, and its map of the others (`docs/decisions/0025-forwarding.md`).

use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::{Error, Result};
use thyme_log::{Answering, Presence};
use thyme_query::{HolderMap, Holders, OtherNode};
use thyme_state::States;
use tokio::sync::{Notify, watch};

/// How often it is looked who answers.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The group is not asked more often than that, however many questions find nobody.
const AT_LEAST: Duration = Duration::from_millis(100);

/// Who else answers, as it was seen last.
#[derive(Default)]
pub struct GroupHolders {
    map: ArcSwap<HolderMap>,
    doubted: Notify,
}

impl Holders for GroupHolders {
    fn map(&self) -> Arc<HolderMap> {
        self.map.load_full()
    }

    fn doubt(&self, _url: &str) {
        self.doubted.notify_one();
    }
}

/// Whether this node may answer now.
pub trait Ready: Send + Sync {
    fn may_answer(&self) -> bool;
}

/// A node among those that answer.
pub struct Answers {
    pub presence: Arc<dyn Presence>,
    pub holders: Arc<GroupHolders>,
    pub ready: Arc<dyn Ready>,
    /// This node's.
    pub id: String,
    /// Of the slices that this node answers for.
    pub states: States,
    /// Those that are its own.
    pub owned: watch::Receiver<BTreeSet<u16>>,
    /// It never lacks any, and asks nobody.
    pub holds_all: bool,
}

impl Answers {
    /// Says what this node answers for, while it is ready to, and looks who else does, until the server stops.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        loop {
            let held = if self.ready.may_answer() { self.states.held() } else { BTreeSet::new() };
            let owned = self.owned.borrow().intersection(&held).copied().collect();
            self.presence.announce(&held, &owned);
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "who answers for slices that are not here could not be asked, and is asked again");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = async { tokio::time::sleep(AT_LEAST).await; self.holders.doubted.notified().await } => {}
                _ = stopping.wait_for(|stop| *stop) => break,
            }
        }
        let left = tokio::task::spawn_blocking(move || drop(self)).await;
        if let Err(error) = left {
            tracing::error!(%error, "leaving the group of nodes that answer ended badly");
        }
    }

    async fn look(&self) -> Result<()> {
        if self.holds_all {
            return Ok(());
        }
        let presence = self.presence.clone();
        let asked = tokio::task::spawn_blocking(move || presence.answering()).await;
        let answering = asked.map_err(|error| Error::internal(format!("asking who answers stopped: {error}")))??;
        self.holders.map.store(Arc::new(map_of(&self.id, answering)));
        Ok(())
    }
}

/// The map of a node of this name.
fn map_of(id: &str, answering: Vec<Answering>) -> HolderMap {
    let others = answering.into_iter().filter(|node| node.id != id);
    let others = others.map(|node| OtherNode { url: node.url.into(), slices: node.slices, owned: node.owned });
    HolderMap::new(others.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use thyme_state::StateStore;

    /// What all nodes of a group said last.
    #[derive(Default)]
    struct Board(Mutex<Vec<Answering>>);

    /// A node at the board.
    struct At(Arc<Board>, String);

    impl Presence for At {
        fn announce(&self, slices: &BTreeSet<u16>, owned: &BTreeSet<u16>) {
            let mut all = self.0.0.lock();
            all.retain(|node| node.id != self.1);
            if !slices.is_empty() {
                let url = "http://0.0.0.0:8081".to_string();
                all.push(Answering { id: self.1.clone(), url, slices: slices.clone(), owned: owned.clone() });
            }
        }
        fn answering(&self) -> Result<Vec<Answering>> {
            Ok(self.0.0.lock().clone())
        }
    }

    #[derive(Default)]
    struct Behind(AtomicBool);

    impl Ready for Behind {
        fn may_answer(&self) -> bool {
            !self.0.load(Ordering::SeqCst)
        }
    }

    struct Seat {
        holders: Arc<GroupHolders>,
        behind: Arc<Behind>,
        states: States,
    }

    fn seat(board: &Arc<Board>, id: &str, held: &[u16], stopping: &watch::Sender<bool>) -> Seat {
        let (holders, behind) = (Arc::new(GroupHolders::default()), Arc::new(Behind::default()));
        let states = States::of_none(3);
        held.iter().for_each(|slice| states.add(*slice, &StateStore::in_memory().unwrap()));
        let answers = Answers {
            presence: Arc::new(At(board.clone(), id.to_string())),
            holders: holders.clone(),
            ready: behind.clone(),
            id: id.to_string(),
            states: states.clone(),
            owned: watch::Sender::new(BTreeSet::from([0])).subscribe(),
            holds_all: false,
        };
        tokio::spawn(answers.run(stopping.subscribe()));
        Seat { holders, behind, states }
    }

    /// Until others have these slices, and no more.
    async fn until(seat: &Seat, slices: &[u16]) {
        while (0..3).any(|slice| seat.holders.map().has(slice) != slices.contains(&slice)) {
            seat.holders.doubt("who was asked");
            tokio::time::sleep(AT_LEAST / 4).await;
        }
    }

    #[tokio::test]
    async fn a_node_sees_who_is_ready_to_answer_for_what_it_lacks() {
        let (board, stopping) = (Arc::new(Board::default()), watch::Sender::new(false));
        let first = seat(&board, "a", &[0], &stopping);
        until(&first, &[]).await;
        let second = seat(&board, "b", &[1, 2], &stopping);
        until(&first, &[1, 2]).await;
        until(&second, &[0]).await;
        first.states.add(1, &StateStore::in_memory().unwrap());
        second.states.remove(1);
        until(&first, &[2]).await;
        until(&second, &[0, 1]).await;
        assert!(second.holders.map().has_owner(0) && !second.holders.map().has_owner(1), "the first only keeps it");
        second.behind.0.store(true, Ordering::SeqCst);
        until(&first, &[]).await;
    }
}
