//! Checkpoints that are damaged in the store.

use crate::cases::{names, save, written};
use crate::common::{LOG, contents, files_only, fill};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use std::sync::Arc;
use thyme_checkpoint::{Checkpoints, FileEntry, Saved};
use thyme_core::{Error, ErrorKind};

async fn bytes_of(store: &dyn ObjectStore, place: &ObjectPath) -> Vec<u8> {
    store.get(place).await.unwrap().bytes().await.unwrap().to_vec()
}

async fn change(store: &dyn ObjectStore, place: &ObjectPath, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = bytes_of(store, place).await;
    change(&mut bytes);
    store.put(place, bytes.into()).await.unwrap();
}

/// Ways to damage the newest checkpoint: its manifest, or a file that the older ones do not have. And what is said then.
const DAMAGES: [(&str, &str); 7] = [
    ("cut the manifest", "the manifest of checkpoint 2 is damaged"),
    ("empty the manifest", "the manifest of checkpoint 2 is damaged"),
    ("change the manifest", "the manifest of checkpoint 2 is damaged"),
    ("not text", "it is not text"),
    ("cut a file", "bytes, not 3001"),
    ("change a file", "is not what was written"),
    ("delete a file", "is missing"),
];

/// Whatever the damage is: what became of it, and where to look.
fn assert_names_the_fix(reason: &Error) {
    let hint = reason.hint_text().unwrap_or_default();
    assert!(hint.contains("nothing is lost") && hint.contains("under checkpoints.url"), "{reason}");
}

async fn damage(store: &dyn ObjectStore, how: &str, number: u64, file: &FileEntry) {
    let manifest = ObjectPath::from(format!("manifests/{number:020}.json"));
    match how {
        "cut the manifest" => change(store, &manifest, |bytes| bytes.truncate(bytes.len() / 2)).await,
        "empty the manifest" => change(store, &manifest, Vec::clear).await,
        "change the manifest" => change(store, &manifest, |bytes| bytes[40] ^= 1).await,
        "not text" => change(store, &manifest, |bytes| bytes[7] = 0xff).await,
        "cut a file" => change(store, &file.path(), |bytes| bytes.truncate(1_000)).await,
        "change a file" => change(store, &file.path(), |bytes| bytes[2_000] ^= 0x40).await,
        "delete a file" => store.delete(&file.path()).await.unwrap(),
        other => panic!("unknown damage: {other}"),
    }
}

pub async fn a_damaged_checkpoint_gives_way_to_the_one_before(store: Arc<dyn ObjectStore>) {
    for (index, (how, said)) in DAMAGES.into_iter().enumerate() {
        let store: Arc<dyn ObjectStore> =
            Arc::new(object_store::prefix::PrefixStore::new(store.clone(), format!("damage-{index}")));
        let checkpoints = Checkpoints::new(store.clone());
        let (older, _) = written(save(&checkpoints, 1).await);
        let (newer, _) = written(save(&checkpoints, 2).await);
        let file = newer.files.iter().find(|file| file.name == "000011.sst").unwrap();
        damage(store.as_ref(), how, 2, file).await;

        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let restored = checkpoints.restore(LOG, target.path(), files_only()).await.unwrap();
        assert_eq!(restored.manifest.as_ref(), Some(&older), "{how}");
        assert_eq!(restored.unusable.len(), 1, "{how}");
        let unusable = &restored.unusable[0];
        assert_eq!((unusable.number, unusable.reason.kind()), (2, ErrorKind::DataLoss), "{how}");
        assert!(unusable.reason.message().contains(said), "{how}: {}", unusable.reason);
        assert_names_the_fix(&unusable.reason);
        fill(source.path(), 1);
        assert_eq!(contents(target.path()), contents(source.path()), "{how}");

        // The same state is saved once more, and whole: what is damaged does not count as there.
        let saved = save(&checkpoints, 2).await;
        assert_eq!(written(saved).0.number, 3, "{how}");
        let restored = Checkpoints::new(store.clone()).restore(LOG, target.path(), files_only()).await.unwrap();
        assert!(restored.unusable.is_empty(), "{how}: {:?}", restored.unusable);
        assert_eq!(restored.manifest.unwrap().number, 3, "{how}");
    }
}

pub async fn what_cannot_be_used_at_all_restores_nothing(store: Arc<dyn ObjectStore>) {
    let checkpoints = Checkpoints::new(store.clone());
    written(save(&checkpoints, 1).await);
    written(save(&checkpoints, 2).await);
    for place in names(store.as_ref(), "files").await {
        store.delete(&ObjectPath::from(place)).await.unwrap();
    }
    let target = tempfile::tempdir().unwrap();
    let restored = checkpoints.restore(LOG, target.path(), files_only()).await.unwrap();
    assert!(restored.manifest.is_none());
    let numbers: Vec<u64> = restored.unusable.iter().map(|unusable| unusable.number).collect();
    assert_eq!(numbers, [2, 1]);
    assert!(contents(target.path()).is_empty());
}

pub async fn a_failed_check_counts_as_damage(store: Arc<dyn ObjectStore>) {
    let checkpoints = Checkpoints::new(store);
    written(save(&checkpoints, 1).await);
    written(save(&checkpoints, 2).await);
    let target = tempfile::tempdir().unwrap();
    let check: thyme_checkpoint::Check = Arc::new(|directory, manifest| {
        assert!(directory.join("CURRENT").exists());
        if manifest.number == 2 { Err(Error::data_loss("another digest")) } else { Ok(()) }
    });
    let restored = checkpoints.restore(LOG, target.path(), check).await.unwrap();
    assert_eq!(restored.manifest.unwrap().number, 1);
    assert_eq!(restored.unusable[0].reason.message(), "another digest");
    assert_names_the_fix(&restored.unusable[0].reason);
    // An error of another kind, such as a full disk, is not the checkpoint's fault.
    let check: thyme_checkpoint::Check =
        Arc::new(|_, _| Err(Error::new(ErrorKind::ResourceExhausted, "the disk is full")));
    let error = checkpoints.restore(LOG, target.path(), check).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(matches!(save(&checkpoints, 2).await, Saved::Written(..)), "checkpoint 2 does not count any more");
}
