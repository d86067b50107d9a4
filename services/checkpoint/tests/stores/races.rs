//! Several writers, and stores that fail in between.

use crate::cases::{names, save, written};
use crate::common::{Call, Hook, LOG, Watched, facts, files_only, fill};
use futures::FutureExt as _;
use object_store::ObjectStore;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use thyme_checkpoint::{Checkpoints, Saved};
use thyme_core::ErrorKind;

fn is_manifest(call: Call, place: &object_store::path::Path) -> bool {
    call == Call::Put && place.as_ref().starts_with("manifests/")
}

pub async fn of_two_writers_one_wins(store: Arc<dyn ObjectStore>) {
    written(save(&Checkpoints::new(store.clone()), 1).await);
    // While the slow writer is about to write its manifest, the quick one writes its own.
    let (below, done) = (store.clone(), Arc::new(AtomicBool::new(false)));
    let before: Hook = Arc::new(move |call, place| {
        let (below, done) = (below.clone(), done.clone());
        async move {
            if is_manifest(call, &place) && !done.swap(true, Ordering::SeqCst) {
                let (manifest, _) = written(save(&Checkpoints::new(below), 3).await);
                assert_eq!(manifest.number, 2);
            }
            Ok(())
        }
        .boxed()
    });
    let slow = Checkpoints::new(Arc::new(Watched { inner: store.clone(), before }));
    let Saved::Superseded(winner) = save(&slow, 2).await else { panic!("both took the same number") };
    assert_eq!((winner.number, winner.facts.digest), (2, facts(3).digest));
    assert_eq!(names(store.as_ref(), "manifests").await.len(), 2);
    let target = tempfile::tempdir().unwrap();
    let restored = slow.restore(LOG, target.path(), files_only()).await.unwrap();
    assert_eq!(restored.manifest.unwrap().facts, facts(3));
    // It goes on after the winner.
    assert_eq!(written(save(&slow, 4).await).0.number, 3);
}

pub async fn nobody_goes_back(store: Arc<dyn ObjectStore>) {
    written(save(&Checkpoints::new(store.clone()), 5).await);
    let Saved::Superseded(newest) = save(&Checkpoints::new(store.clone()), 4).await else { panic!("went back") };
    assert_eq!(newest.facts, facts(5));
    assert_eq!(names(store.as_ref(), "manifests").await.len(), 1);
}

pub async fn two_states_at_one_place_must_agree(store: Arc<dyn ObjectStore>) {
    let (first, _) = written(save(&Checkpoints::new(store.clone()), 3).await);
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 3);
    let other = || Checkpoints::new(store.clone());
    let mut wrong = facts(3);
    wrong.digest = "of other rows".to_string();
    let Saved::Diverged(newest) = other().save(directory.path(), wrong.clone()).await.unwrap() else {
        panic!("two digests at one place were taken for the same")
    };
    assert_eq!(newest, first);
    assert_eq!(names(store.as_ref(), "manifests").await.len(), 1);
    // Under other definitions the rows may be others.
    wrong.commit = "another commit".to_string();
    written(other().save(directory.path(), wrong).await.unwrap());
}

pub async fn a_lost_answer_is_no_lost_race(store: Arc<dyn ObjectStore>) {
    // The manifest is written, the answer does not arrive, the client writes it again: "it is there already".
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 1);
    let (below, path) = (store.clone(), directory.path().to_path_buf());
    let before: Hook = Arc::new(move |call, place| {
        let (below, path) = (below.clone(), path.clone());
        async move {
            if is_manifest(call, &place) {
                written(Checkpoints::new(below).save(&path, facts(1)).await.unwrap());
            }
            Ok(())
        }
        .boxed()
    });
    let checkpoints = Checkpoints::new(Arc::new(Watched { inner: store.clone(), before }));
    let (manifest, _) = written(checkpoints.save(directory.path(), facts(1)).await.unwrap());
    assert_eq!(manifest.number, 1);
    assert_eq!(names(store.as_ref(), "manifests").await.len(), 1);
}

pub async fn a_store_that_fails_at_any_call_loses_nothing(store: Arc<dyn ObjectStore>) {
    written(save(&Checkpoints::new(store.clone()), 1).await);
    let (mut failed, mut ticks) = (0, 1);
    loop {
        ticks += 1;
        let (calls, at) = (Arc::new(AtomicUsize::new(0)), failed);
        let before: Hook = Arc::new(move |_, place| {
            let is_it = calls.fetch_add(1, Ordering::SeqCst) == at;
            let failure = object_store::Error::Generic { store: "test", source: format!("away: {place}").into() };
            async move { if is_it { Err(failure) } else { Ok(()) } }.boxed()
        });
        let directory = tempfile::tempdir().unwrap();
        fill(directory.path(), ticks);
        let checkpoints = Checkpoints::new(Arc::new(Watched { inner: store.clone(), before }));
        let outcome = checkpoints.save(directory.path(), facts(ticks)).await;
        // Whatever happened, the newest checkpoint is whole: the one before, or this one.
        let target = tempfile::tempdir().unwrap();
        let restored = Checkpoints::new(store.clone()).restore(LOG, target.path(), files_only()).await.unwrap();
        assert!(restored.unusable.is_empty());
        let newest = restored.manifest.unwrap();
        match outcome {
            Ok(saved) => {
                assert_eq!(written(saved).0, newest);
                break;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(error.message().contains("away"), "{error}");
                assert_eq!(newest.facts, facts(1));
            }
        }
        failed += 1;
    }
    assert!(failed >= 6, "only {failed} calls could fail");
}
