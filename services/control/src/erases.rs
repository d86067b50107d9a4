//! Erases and tables that group a dataset by another key than its own. What is erased lies scattered in them, so they are built anew
//! without it, beside those that serve, and take over: by a commit of the definitions that are there, with the places in the
//! datasets' logs below which the tables know the erases. It goes the way of every commit (build, one catalog write, followers,
//! restarts). See `docs/decisions/0018-erase-under-another-key.md`.

use crate::commit::CommitRequest;
use crate::controller::Controller;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_catalog::new_id;
use thyme_core::definition::{Compiled, CompiledDataset, Definitions};
use thyme_core::{Error, Result};

/// Dataset (`Order@1`) -> places, see [`Definitions::erased`].
type Places = BTreeMap<String, Vec<u64>>;

impl Controller {
    /// Where the erases end that are known by now, of each dataset with a table that is built anew for them. Never before what
    /// the live definitions say: a state that was restored may have read less of the log.
    pub(crate) async fn erased_so_far(&self, compiled: &Compiled) -> Result<Places> {
        let serving = self.serving();
        let mut found = Places::new();
        for dataset in regrouped(compiled) {
            let log = serving.versions().into_iter().find_map(|version| version.ids.get(&dataset.log_identity()));
            let mut places = vec![0; usize::from(dataset.partitions)];
            if let Some(log) = log {
                places = self.parts.engine.erased_below(*log, dataset.partitions);
                if !self.parts.engine.has_all() {
                    let noted = self.parts.engine.noted_erases(&dataset.topic(), dataset.partitions).await?;
                    places.iter_mut().zip(noted).for_each(|(place, noted)| *place = noted.max(*place));
                }
            }
            let live = serving.live.as_ref().and_then(|live| live.compiled.definitions.erased.get(&dataset.identity()));
            for (place, known) in places.iter_mut().zip(live.into_iter().flatten()) {
                *place = (*place).max(*known);
            }
            if places.iter().any(|place| *place > 0) {
                found.insert(dataset.identity(), places);
            }
        }
        Ok(found)
    }

    /// Begins to build anew what still holds erased events, if there is any and nothing else is being built: after that build
    /// comes its turn. Called again and again by the node that owns the work, so that nothing depends on who took the erase or
    /// whether it was there to the end.
    pub async fn work_off_erases(self: &Arc<Self>) -> Result<()> {
        // A commit that is being checked takes the erases along.
        let Ok(_changing) = self.changing.try_lock() else { return Ok(()) };
        let serving = self.serving();
        let (Some(live), None, true) = (&serving.live, &serving.building, self.leads()) else { return Ok(()) };
        let before = &live.compiled.definitions.erased;
        let now = self.erased_so_far(&live.compiled).await?;
        if now == *before {
            return Ok(());
        }
        let names: Vec<&str> = now
            .iter()
            .filter(|(identity, places)| before.get(*identity) != Some(*places))
            .filter_map(|(identity, _)| identity.split_once('@').map(|(name, _)| name))
            .collect();
        let nothing = Definitions { format: live.compiled.definitions.format, ..Definitions::default() };
        let request = CommitRequest {
            definitions: serde_json::to_vec(&nothing).map_err(|error| Error::internal(error.to_string()))?,
            message: format!("keys erased from {} leave what is grouped by another key", names.join(", ")),
            ..CommitRequest::default()
        };
        let first =
            |errors: Vec<Error>| errors.into_iter().next().unwrap_or_else(|| Error::internal("no reason given"));
        let candidate = self.check(&request).await.map_err(first)?;
        if !self.make_way(&candidate.compiled).await? {
            return Ok(());
        }
        // A module that cannot be loaded here keeps nothing from being erased.
        let commit_id: Arc<str> = new_id(self.now()).into();
        self.load_for_serving(&commit_id, &candidate.compiled).await;
        self.build(commit_id, &request, candidate).await
    }
}

/// Raw datasets with tables that an erase does not take a key's rows out of: a pipeline groups by another key, or reads rows.
fn regrouped(compiled: &Compiled) -> impl Iterator<Item = &Arc<CompiledDataset>> {
    compiled.datasets.values().filter(|dataset| {
        compiled.pipelines.values().any(|pipeline| pipeline.root == dataset.name && pipeline.route.is_some())
    })
}
