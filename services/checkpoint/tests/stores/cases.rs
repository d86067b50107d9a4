//! Saving, restoring, refusing, pruning.

use crate::common::{LOG, contents, facts, files_only, fill};
use futures::TryStreamExt as _;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use std::sync::Arc;
use std::time::Duration;
use thyme_checkpoint::{Checkpoints, Manifest, Pruned, Saved, Upload};
use thyme_core::ErrorKind;

/// Saves the state after `ticks` ticks.
pub async fn save(checkpoints: &Checkpoints, ticks: u64) -> Saved {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), ticks);
    checkpoints.save(directory.path(), facts(ticks)).await.unwrap()
}

#[track_caller]
pub fn written(saved: Saved) -> (Manifest, Upload) {
    match saved {
        Saved::Written(manifest, upload) => (manifest, upload),
        other => panic!("not written: {other:?}"),
    }
}

pub async fn names(store: &dyn ObjectStore, folder: &str) -> Vec<String> {
    let listed: Vec<_> = store.list(Some(&ObjectPath::from(folder))).try_collect().await.unwrap();
    let mut names: Vec<String> = listed.into_iter().map(|object| object.location.to_string()).collect();
    names.sort();
    names
}

pub async fn what_is_saved_is_restored(store: Arc<dyn ObjectStore>) {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(source.path(), 3);
    let (manifest, upload) = written(Checkpoints::new(store.clone()).save(source.path(), facts(3)).await.unwrap());
    assert_eq!((manifest.number, manifest.files.len()), (1, 6));
    assert_eq!((upload.files, upload.bytes), (6, manifest.size()));
    std::fs::write(target.path().join("leftover"), b"of a restore that was cut short").unwrap();
    let restored = Checkpoints::new(store).restore(LOG, target.path(), files_only()).await.unwrap();
    assert_eq!(restored.manifest.unwrap(), manifest);
    assert!(restored.unusable.is_empty());
    assert_eq!(contents(target.path()), contents(source.path()));
}

pub async fn only_what_is_new_is_sent(store: Arc<dyn ObjectStore>) {
    let checkpoints = Checkpoints::new(store.clone());
    let (first, _) = written(save(&checkpoints, 2).await);
    let (second, upload) = written(save(&checkpoints, 3).await);
    // One table more, and the file that lists them.
    assert_eq!((second.number, upload.files), (2, 2));
    assert_eq!(upload.bytes, 3_002 + 200);
    assert!(second.size() > first.size());
    // Also by a process that has not seen the files before.
    let (_, upload) = written(save(&Checkpoints::new(store.clone()), 4).await);
    assert_eq!(upload.files, 2);
    let Saved::Current(newest) = save(&checkpoints, 4).await else { panic!("the same state was written again") };
    assert_eq!(newest.number, 3);
    assert_eq!(names(store.as_ref(), "manifests").await.len(), 3);
}

pub async fn an_empty_store_restores_nothing(store: Arc<dyn ObjectStore>) {
    let target = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(store);
    assert!(checkpoints.newest().await.unwrap().is_none());
    let restored = checkpoints.restore(LOG, target.path(), files_only()).await.unwrap();
    assert!(restored.manifest.is_none() && restored.unusable.is_empty());
    assert!(contents(target.path()).is_empty());
}

pub async fn another_log_is_refused(store: Arc<dyn ObjectStore>) {
    let checkpoints = Checkpoints::new(store.clone());
    written(save(&checkpoints, 1).await);
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 2);
    let mut other = facts(2);
    other.log = "another log".to_string();
    let of_save = checkpoints.save(directory.path(), other).await.unwrap_err();
    let of_restore = checkpoints.restore("another log", directory.path(), files_only()).await.unwrap_err();
    for error in [of_save, of_restore] {
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.message().contains(LOG) && error.message().contains("this_log=another log"), "{error}");
        assert!(error.hint_text().unwrap().contains("a folder or prefix of its own"), "{error}");
    }
    assert_eq!(names(store.as_ref(), "manifests").await.len(), 1);
}

pub async fn a_later_format_is_refused(store: Arc<dyn ObjectStore>) {
    let checkpoints = Checkpoints::new(store.clone());
    let (mut manifest, _) = written(save(&checkpoints, 1).await);
    manifest.format = 7;
    manifest.number = 2;
    let place = ObjectPath::from("manifests/00000000000000000002.json");
    store.put(&place, manifest.encode().unwrap().into()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 2);
    let of_save = checkpoints.save(directory.path(), facts(2)).await.unwrap_err();
    let of_restore = checkpoints.restore(LOG, directory.path(), files_only()).await.unwrap_err();
    let of_prune = checkpoints.prune(1, Duration::ZERO, i64::MAX).await.unwrap_err();
    for error in [of_save, of_restore, of_prune] {
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.message().contains("checkpoint 2 has format 7, this build reads 1"), "{error}");
    }
    assert_eq!(names(store.as_ref(), "manifests").await.len(), 2);
}

pub async fn old_checkpoints_and_their_files_go(store: Arc<dyn ObjectStore>) {
    let checkpoints = Checkpoints::new(store.clone());
    for ticks in 1..=4 {
        written(save(&checkpoints, ticks).await);
    }
    let abandoned = ObjectPath::from("files/of-an-upload-that-was-cut-short");
    store.put(&abandoned, "bytes".into()).await.unwrap();
    let before = names(store.as_ref(), "files").await;
    // All of it is young.
    let now = store.head(&abandoned).await.unwrap().last_modified.timestamp_micros();
    let none = checkpoints.prune(2, Duration::from_secs(3600), now).await.unwrap();
    assert_eq!(none, Pruned::default());
    assert_eq!(names(store.as_ref(), "files").await, before);

    let later = now + 3_700_000_000;
    let pruned = checkpoints.prune(2, Duration::from_secs(3600), later).await.unwrap();
    // The lists of tables of two checkpoints, and what nobody names; tables are shared by all.
    assert_eq!(pruned, Pruned { checkpoints: 2, files: 3 });
    let left = names(store.as_ref(), "manifests").await;
    assert_eq!(left, ["manifests/00000000000000000003.json", "manifests/00000000000000000004.json"]);
    let target = tempfile::tempdir().unwrap();
    for number in [4, 3] {
        let restored = checkpoints.restore(LOG, target.path(), files_only()).await.unwrap().manifest.unwrap();
        assert_eq!(restored.number, number);
        store.delete(&ObjectPath::from(format!("manifests/{number:020}.json"))).await.unwrap();
    }
    // Without any checkpoint nothing says which files are wanted.
    let files = names(store.as_ref(), "files").await.len();
    assert_eq!(checkpoints.prune(2, Duration::ZERO, i64::MAX).await.unwrap(), Pruned::default());
    assert_eq!(names(store.as_ref(), "files").await.len(), files);
}
