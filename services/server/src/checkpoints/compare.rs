//! A follower's state beside the owner's, whatever the load: only states at one place have to agree, and those that work off a log that
//! goes on are never at one by chance. So a follower holds a copy of its own state until there is a checkpoint of a later place, works
//! the copy off from the logs to exactly there, and compares the digests.

use super::taker::{Taker, blocking, show};
use super::{look, restore};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;
use thyme_checkpoint::{Facts, Manifest, Place};
use thyme_control::Version;
use thyme_core::Result;
use thyme_engine::is_router;
use thyme_state::StateStore;

/// What a comparison took times this passes before the next one: it works off records that the engine has worked off as well.
const REST: u32 = 9;

/// What a follower knows from one look at the newest checkpoint to the next.
#[derive(Default)]
pub struct Comparing {
    /// In the directory of the taker.
    held: Option<Held>,
    rests_until: Option<Instant>,
}

/// A copy of the state.
struct Held {
    commit: String,
    /// Of logs and tables.
    places: Vec<Place>,
}

impl Comparing {
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }
}

impl Held {
    /// Whether it is nowhere further; `None` if other places are not those of all its logs and tables.
    fn is_before(&self, places: &HashMap<(u32, u16), u64>) -> Option<bool> {
        let before = |place: &Place| Some(place.next_offset <= *places.get(&(place.consumer, place.partition))?);
        let each: Option<Vec<bool>> = self.places.iter().map(before).collect();
        Some(each?.into_iter().all(|is_before| is_before))
    }
}

/// What a follower has nothing of beside logs and tables.
struct Outputs {
    /// Of topics of aggregated datasets.
    emitters: HashSet<u32>,
}

impl Outputs {
    fn of(live: &Version) -> Outputs {
        let ids = live.compiled.emissions().filter_map(|emission| live.ids.get(&emission.identity()).copied());
        Outputs { emitters: ids.collect() }
    }

    /// The places of logs and tables only. How far the erases of other slices are known is no place: they are known as far as is needed.
    fn without(&self, mut places: Vec<Place>) -> Vec<Place> {
        places.retain(|place| !is_router(place.consumer) && !self.emitters.contains(&place.consumer));
        places
    }
}

impl Taker {
    pub(super) async fn compare(&self, comparing: &mut Comparing) -> Result<()> {
        let Some(newest) = self.checkpoints.newest().await? else { return Ok(()) };
        self.board.update(self.slice.index, |status| show(status, &newest));
        self.recovered().await;
        let Some(live) = self.controller.serving().live.clone() else { return Ok(()) };
        if *live.commit_id != *newest.facts.commit {
            return Ok(());
        }
        let outputs = Outputs::of(&live);
        let wanted = outputs.without(newest.facts.places.clone());
        if outputs.without(look::places_of(&self.state.snapshot())?) == wanted {
            let now = self.clock.now();
            self.board.update(self.slice.index, |status| status.current_at = Some(now));
        }
        if comparing.held.is_none() {
            if comparing.rests_until.is_some_and(|until| Instant::now() < until) {
                return Ok(());
            }
            comparing.held = Some(self.hold(&newest, &outputs).await?);
        }
        if self.board.is_compared(self.slice.index, newest.number) {
            return Ok(());
        }
        let places = wanted.iter().map(|place| ((place.consumer, place.partition), place.next_offset)).collect();
        let Some(held) = comparing.held.take() else { return Ok(()) };
        let is_before = held.is_before(&places).filter(|_| held.commit == newest.facts.commit);
        if is_before != Some(true) {
            // That of the next checkpoint will be further. With other tables it never will.
            comparing.held = is_before.map(|_| held);
            return Ok(());
        }
        let began = Instant::now();
        let own = self.at(places, &newest).await?;
        comparing.rests_until = Some(Instant::now() + began.elapsed() * REST);
        // Else something is being built.
        if outputs.without(own.places) == wanted {
            self.compared(&own.digest, &newest).await;
        }
        Ok(())
    }

    async fn hold(&self, newest: &Manifest, outputs: &Outputs) -> Result<Held> {
        let (state, directory) = (self.state.clone(), self.directory.clone());
        let places = blocking(move || {
            restore::remove(&directory)?;
            state.checkpoint(&directory)?;
            look::places_in(&directory)
        });
        let places = outputs.without(places.await?);
        Ok(Held { commit: newest.facts.commit.clone(), places })
    }

    /// The copy at other places.
    async fn at(&self, places: HashMap<(u32, u16), u64>, newest: &Manifest) -> Result<Facts> {
        let (controller, directory, slice) = (self.controller.clone(), self.directory.clone(), self.slice);
        let (commit, created_at) = (newest.facts.commit.clone(), newest.facts.created_at);
        // Whoever is told to stop drops this call, and it ends.
        let caller = Arc::new(());
        let waits = Arc::downgrade(&caller);
        let work = blocking(move || {
            let copy = StateStore::open(&directory, look::options())?;
            controller.catch_up(&copy, slice, &places, &mut || waits.strong_count() > 0)?;
            look::facts_in(&copy.snapshot(), commit, created_at)
        });
        let own = work.await;
        drop(caller);
        own.map_err(|error| error.context("comparing this replica with a checkpoint"))
    }

    async fn compared(&self, digest: &str, newest: &Manifest) {
        metrics::counter!("thyme_checkpoint_comparisons_total").increment(1);
        if digest == newest.facts.digest {
            self.board.update(self.slice.index, |status| status.compared = Some(newest.number));
        } else {
            self.diverged(newest).await;
        }
    }
}
