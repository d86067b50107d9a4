//! Who answers for which slices: what this node says of itself, and its map of the others (`docs/decisions/0025-forwarding.md`).

use arc_swap::ArcSwapOption;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::{Error, Result};
use thyme_gateway::Health;
use thyme_log::{Answering, Presence};
use thyme_query::{HolderMap, Holders, OtherNode};
use tokio::sync::{Notify, watch};

/// How often it is looked who answers.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The group is not asked more often than that, however many questions find nobody.
const AT_LEAST: Duration = Duration::from_millis(100);

/// The map that questions take. None where all is here.
#[derive(Default)]
pub struct GroupHolders {
    map: ArcSwapOption<HolderMap>,
    doubted: Notify,
}

impl Holders for GroupHolders {
    fn map(&self) -> Option<Arc<HolderMap>> {
        self.map.load_full()
    }

    fn doubt(&self, _url: &str) {
        self.doubted.notify_one();
    }
}

/// A node among those that answer.
pub struct Answers {
    pub presence: Arc<dyn Presence>,
    pub holders: Arc<GroupHolders>,
    pub health: Arc<dyn Health>,
    /// Of this node's query service.
    pub url: String,
    /// The slices that are here.
    pub held: BTreeSet<u16>,
    /// How many there are.
    pub slices: u16,
}

impl Answers {
    /// Says what this node answers for, while it is ready to, and looks who else does, until the server stops.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let nothing = BTreeSet::new();
        loop {
            let is_ready = self.health.not_ready().is_none();
            self.presence.announce(if is_ready { &self.held } else { &nothing });
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
        if self.held.len() == usize::from(self.slices) {
            return Ok(());
        }
        let presence = self.presence.clone();
        let asked = tokio::task::spawn_blocking(move || presence.answering()).await;
        let answering = asked.map_err(|error| Error::internal(format!("asking who answers stopped: {error}")))??;
        self.holders.map.store(Some(Arc::new(map_of(&self.url, &self.held, answering))));
        Ok(())
    }
}

/// The map of a node with this address and these slices.
fn map_of(url: &str, held: &BTreeSet<u16>, answering: Vec<Answering>) -> HolderMap {
    let others = answering.into_iter().filter(|node| node.url != url);
    let others = others.map(|node| OtherNode { url: node.url.into(), slices: node.slices });
    HolderMap::new(held.clone(), others.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use thyme_query::Holder;

    /// What all nodes of a group said last.
    #[derive(Default)]
    struct Board(Mutex<Vec<Answering>>);

    /// A node at the board.
    struct At(Arc<Board>, String);

    impl Presence for At {
        fn announce(&self, slices: &BTreeSet<u16>) {
            let mut all = self.0.0.lock();
            all.retain(|node| node.url != self.1);
            if !slices.is_empty() {
                all.push(Answering { url: self.1.clone(), slices: slices.clone() });
            }
        }
        fn answering(&self) -> Result<Vec<Answering>> {
            Ok(self.0.0.lock().clone())
        }
    }

    #[derive(Default)]
    struct Ready(Mutex<Option<String>>);

    impl Health for Ready {
        fn not_ready(&self) -> Option<String> {
            self.0.lock().clone()
        }
        fn metrics(&self) -> String {
            String::new()
        }
        fn version(&self) -> String {
            String::new()
        }
    }

    struct Seat {
        holders: Arc<GroupHolders>,
        health: Arc<Ready>,
    }

    fn seat(board: &Arc<Board>, url: &str, held: &[u16], stopping: &watch::Sender<bool>) -> Seat {
        let (holders, health) = (Arc::new(GroupHolders::default()), Arc::new(Ready::default()));
        let answers = Answers {
            presence: Arc::new(At(board.clone(), url.to_string())),
            holders: holders.clone(),
            health: health.clone(),
            url: url.to_string(),
            held: held.iter().copied().collect(),
            slices: 3,
        };
        tokio::spawn(answers.run(stopping.subscribe()));
        Seat { holders, health }
    }

    async fn until(seat: &Seat, slice: u16, holder: Holder) {
        while seat.holders.map().map(|map| map.holder(slice)) != Some(holder.clone()) {
            seat.holders.doubt("who was asked");
            tokio::time::sleep(AT_LEAST / 4).await;
        }
    }

    #[tokio::test]
    async fn a_node_sees_who_is_ready_to_answer_for_what_it_lacks() {
        let (board, stopping) = (Arc::new(Board::default()), watch::Sender::new(false));
        let first = seat(&board, "http://a", &[0], &stopping);
        until(&first, 1, Holder::Nobody).await;
        let second = seat(&board, "http://b", &[1, 2], &stopping);
        until(&first, 1, Holder::At("http://b".into())).await;
        until(&first, 0, Holder::Here).await;
        until(&second, 0, Holder::At("http://a".into())).await;
        *second.health.0.lock() = Some("it is behind".to_string());
        until(&first, 1, Holder::Nobody).await;
        let all = seat(&board, "http://c", &[0, 1, 2], &stopping);
        until(&first, 1, Holder::At("http://c".into())).await;
        assert!(all.holders.map().is_none(), "it lacks nothing");
    }
}
