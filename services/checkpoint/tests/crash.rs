//! Crashes in the middle: a child process is killed at a named point of taking, pruning or restoring a checkpoint; what it leaves
//! is whole, and the next one goes on from it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Call, Hook, LOG, Watched, contents, facts, files_only, fill};
use futures::FutureExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thyme_checkpoint::{Checkpoints, S3Options, Saved, open_store};

const POINT: &str = "THYME_CRASH_POINT";
const ROOT: &str = "THYME_CRASH_ROOT";

/// Where the child dies: before the n-th call of a kind whose path begins so. And the newest checkpoint after that.
const POINTS: [(&str, Call, &str, usize, u64); 8] = [
    ("before the first file", Call::Put, "files/", 0, 1),
    ("between two files", Call::Put, "files/", 1, 1),
    ("before a large file", Call::PutParts, "files/", 0, 1),
    ("before the manifest", Call::Put, "manifests/", 0, 1),
    ("after the manifest", Call::List, "files", 2, 2),
    ("before an old checkpoint is deleted", Call::Delete, "manifests/", 0, 2),
    ("between old checkpoint and its files", Call::Delete, "files/", 0, 2),
    ("while restoring", Call::Get, "files/", 3, 2),
];

fn main() {
    match std::env::var(POINT) {
        Ok(point) => child(&point),
        Err(_) => parent(),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn parent() {
    for point in POINTS {
        let root = tempfile::tempdir().unwrap();
        runtime().block_on(survives(root.path(), point));
        println!("crash {:?} ... ok", point.0);
    }
}

async fn survives(root: &Path, (point, _, _, _, newest): (&str, Call, &str, usize, u64)) {
    let store = open_store(&format!("file://{}", root.join("store").display()), &S3Options::default()).unwrap();
    let checkpoints = Checkpoints::new(store);
    let (first, second) = (root.join("first"), root.join("second"));
    fill(&first, 1);
    // Something that the first checkpoint does not have is large, too.
    fill(&second, 2);
    std::fs::write(second.join("000099.sst"), vec![7; 9 << 20]).unwrap();
    assert!(matches!(checkpoints.save(&first, facts(1)).await.unwrap(), Saved::Written(..)));

    let status = run_child(root, point);
    assert!(!status.success() && status.code().is_none(), "{point}: it was not killed: {status}");

    let target = root.join("target");
    let restored = checkpoints.restore(LOG, &target, files_only()).await.unwrap();
    assert!(restored.unusable.is_empty(), "{point}");
    assert_eq!(restored.manifest.unwrap().number, newest, "{point}");
    assert_eq!(contents(&target), contents(if newest == 1 { &first } else { &second }), "{point}");

    // The next process goes on: the same checkpoint once more, and what was left lying about is cleared away.
    let saved = Checkpoints::new(checkpoints_store(root)).save(&second, facts(2)).await.unwrap();
    match saved {
        Saved::Written(manifest, _) => assert_eq!((manifest.number, newest), (2, 1), "{point}"),
        Saved::Current(manifest) => assert_eq!((manifest.number, newest), (2, 2), "{point}"),
        other @ (Saved::Superseded(_) | Saved::Diverged(_)) => panic!("{point}: {other:?}"),
    }
    checkpoints.prune(1, Duration::ZERO, i64::MAX).await.unwrap();
    let restored = checkpoints.restore(LOG, &target, files_only()).await.unwrap();
    assert_eq!(restored.manifest.unwrap().number, 2, "{point}");
    assert_eq!(contents(&target), contents(&second), "{point}");
    // A folder keeps an upload that was cut short under a name of its own (`NAME#1`), which no listing shows.
    let is_whole = |name: &std::ffi::OsStr| !name.to_string_lossy().contains('#');
    let listed = std::fs::read_dir(root.join("store/files")).unwrap();
    let files = listed.filter(|item| is_whole(&item.as_ref().unwrap().file_name())).count();
    assert_eq!(files, contents(&second).len(), "{point}: files that no checkpoint names are left");
}

fn checkpoints_store(root: &Path) -> Arc<dyn object_store::ObjectStore> {
    open_store(&format!("file://{}", root.join("store").display()), &S3Options::default()).unwrap()
}

fn run_child(root: &Path, point: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap()).env(POINT, point).env(ROOT, root).status().unwrap()
}

/// Takes the second checkpoint, prunes and restores, and dies on the way.
fn child(point: &str) {
    let (_, call, prefix, nth, _) = POINTS.into_iter().find(|known| known.0 == point).unwrap();
    let root = std::path::PathBuf::from(std::env::var(ROOT).unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    let before: Hook = Arc::new(move |now, place| {
        if now == call && place.as_ref().starts_with(prefix) && seen.fetch_add(1, Ordering::SeqCst) == nth {
            let killed = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
            panic!("still alive after {killed:?}");
        }
        async { Ok(()) }.boxed()
    });
    let checkpoints = Checkpoints::new(Arc::new(Watched { inner: checkpoints_store(&root), before }));
    runtime().block_on(async {
        checkpoints.save(&root.join("second"), facts(2)).await.unwrap();
        checkpoints.prune(1, Duration::ZERO, i64::MAX).await.unwrap();
        checkpoints.restore(LOG, &root.join("target"), files_only()).await.unwrap();
    });
}
