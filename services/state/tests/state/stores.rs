//! The data directory: reopening, erasing, dropping, and the errors of a directory that cannot be used.

use crate::workload::{Random, apply, events, table};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thyme_core::ErrorKind;
use thyme_state::{Durability, Options, Snapshot, StateStore, Visible};

#[test]
fn a_reopened_store_has_the_same_rows() {
    let directory = tempfile::tempdir().unwrap();
    let table = table(9, false);
    let mut random = Random(1);
    let mut events = events(&mut random, &table, 3_000);
    for (index, event) in events.iter_mut().enumerate() {
        event.time = index as i64 * 86_400_000_000;
    }
    let store = StateStore::open(directory.path(), Options::default()).unwrap();
    apply(&mut random, &store, &table, b"key", &events);
    let digest = store.digest(&table).unwrap();
    drop(store);
    let store = StateStore::open(directory.path(), Options::default()).unwrap();
    assert_eq!(store.digest(&table).unwrap(), digest);
    let found = store.snapshot().events(&table, b"key", i64::MIN, i64::MAX, &Visible::ALL, None).unwrap();
    assert_eq!(found, events);
    store.compact().unwrap();
    assert_eq!(store.digest(&table).unwrap(), digest);
    assert!(store.trie_file_bytes().unwrap() > 0);
}

#[test]
fn a_tick_is_all_or_nothing_and_snapshots_stand_still() {
    let store = StateStore::in_memory().unwrap();
    let table = table(1, false);
    let events = events(&mut Random(2), &table, 10);
    let empty = store.snapshot();
    let mut dropped = store.tick();
    dropped.apply(&table, b"key", events.clone()).unwrap();
    dropped.put_progress(1, 0, 10).unwrap();
    drop(dropped);
    assert_eq!(store.snapshot().progress(1, 0).unwrap(), None);
    let mut tick = store.tick();
    tick.apply(&table, b"key", events).unwrap();
    tick.put_progress(1, 0, 10).unwrap();
    assert_eq!(tick.events(), 10);
    tick.commit(Durability::Synced).unwrap();
    assert!(!empty.known(&table, b"key", i64::MAX, &Visible::ALL).unwrap());
    assert_eq!(empty.progress(1, 0).unwrap(), None);
    let now = store.snapshot();
    drop(store);
    assert!(now.known(&table, b"key", i64::MAX, &Visible::ALL).unwrap());
    assert_eq!(now.progress(1, 0).unwrap(), Some(10));
}

#[test]
fn an_erased_key_starts_afresh() {
    let store = StateStore::in_memory().unwrap();
    let table = table(1, false);
    let mut random = Random(4);
    let events = events(&mut random, &table, 500);
    apply(&mut random, &store, &table, b"erased", &events[..400]);
    apply(&mut random, &store, &table, b"kept", &events[..400]);
    let mut tick = store.tick();
    tick.apply(&table, b"erased", events[400..450].to_vec()).unwrap();
    tick.erase_key(&table, b"erased").unwrap();
    tick.apply(&table, b"erased", events[450..].to_vec()).unwrap();
    tick.commit(Durability::Synced).unwrap();
    let all = |key: &[u8]| store.snapshot().events(&table, key, i64::MIN, i64::MAX, &Visible::ALL, None).unwrap();
    assert_eq!(all(b"kept").len(), 400);
    assert_eq!(all(b"erased").len(), events.len() - 450);
    let fresh = StateStore::in_memory().unwrap();
    apply(&mut random, &fresh, &table, b"erased", &events[450..]);
    apply(&mut random, &fresh, &table, b"kept", &events[..400]);
    assert_eq!(store.digest(&table).unwrap(), fresh.digest(&table).unwrap());
}

#[test]
fn a_dropped_table_leaves_nothing() {
    let store = StateStore::in_memory().unwrap();
    let (gone, kept) = (table(1, false), table(2, false));
    let mut random = Random(6);
    let events = events(&mut random, &gone, 300);
    for key in [b"a", b"b", b"c"] {
        apply(&mut random, &store, &gone, key, &events);
        apply(&mut random, &store, &kept, key, &events);
    }
    let before = store.digest(&kept).unwrap();
    store.drop_table(gone.id).unwrap();
    assert_eq!(store.digest(&gone).unwrap(), StateStore::in_memory().unwrap().digest(&gone).unwrap());
    assert_eq!(store.digest(&kept).unwrap(), before);
    assert!(!store.snapshot().known(&gone, b"a", i64::MAX, &Visible::ALL).unwrap());
}

#[test]
fn a_second_opener_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let _first = StateStore::open(directory.path(), Options::default()).unwrap();
    let error = StateStore::open(directory.path(), Options::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains("another process has the state directory open"), "{error}");
}

#[test]
fn it_is_known_when_a_directory_is_free_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = StateStore::open(directory.path(), Options::default()).unwrap();
    let (closing, snapshot) = (store.closing(), store.snapshot());
    drop(store);
    assert!(!closing.wait(Duration::ZERO));
    let reader = std::thread::spawn(move || drop(snapshot));
    assert!(closing.wait(Duration::from_secs(60)));
    StateStore::open(directory.path(), Options::default()).unwrap();
    reader.join().unwrap();
}

#[test]
fn a_path_that_cannot_be_a_directory_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = StateStore::open(file.path().join("state"), Options::default()).err().unwrap();
    assert!(error.message().contains("cannot create the state directory"), "{error}");
}

#[test]
fn another_format_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(StateStore::open(directory.path(), Options::default()).unwrap());
    {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(false);
        let db = rocksdb::DB::open_cf(&options, directory.path(), ["default", "trie", "meta", "dedup"]).unwrap();
        db.put_cf(db.cf_handle("meta").unwrap(), [1], 77u32.to_be_bytes()).unwrap();
    }
    let error = StateStore::open(directory.path(), Options::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert_eq!(error.message(), "the state directory has format version 77, this build reads 1");
    // What the error says is what to do.
    let (path, away) = (directory.path().display().to_string(), directory.path().with_extension("old"));
    assert!(error.hint_text().unwrap().contains(&format!("(mv {path} {})", away.display())), "{error}");
    std::fs::rename(directory.path(), &away).unwrap();
    StateStore::open(directory.path(), Options::default()).unwrap();
    std::fs::remove_dir_all(away).unwrap();
}

#[test]
fn an_unknown_column_family_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(StateStore::open(directory.path(), Options::default()).unwrap());
    {
        let mut options = rocksdb::Options::default();
        options.create_missing_column_families(true);
        drop(rocksdb::DB::open_cf(&options, directory.path(), ["trie", "meta", "dedup", "future"]).unwrap());
    }
    let error = StateStore::open(directory.path(), Options::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert!(error.message().contains("unknown format"), "{error}");
}

/// Every tick adds an event to each key, and now and then erases them all: whatever a snapshot is taken beside, and however late it
/// is read, it finds the same number of events for each key, and the same rows the second time.
#[test]
fn snapshots_beside_ticks_see_whole_ticks() {
    const KEYS: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
    let store = StateStore::in_memory().unwrap();
    let table = table(3, false);
    let events = events(&mut Random(12), &table, 2_000);
    let done = AtomicBool::new(false);
    let counts = |snapshot: &Snapshot| {
        KEYS.map(|key| snapshot.events(&table, key, i64::MIN, i64::MAX, &Visible::ALL, None).unwrap().len())
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut kept: Option<(Snapshot, usize)> = None;
                    let mut seen = 0;
                    while !done.load(Ordering::Acquire) {
                        let snapshot = store.snapshot();
                        let now = counts(&snapshot);
                        assert_eq!(now, [now[0]; 5]);
                        if let Some((snapshot, count)) = kept.replace((snapshot, now[0])) {
                            assert_eq!(counts(&snapshot), [count; 5]);
                        }
                        seen += 1;
                    }
                    seen
                })
            })
            .collect();
        for (index, event) in events.iter().enumerate() {
            let mut tick = store.tick();
            for key in KEYS {
                if index % 50 == 49 {
                    tick.erase_key(&table, key).unwrap();
                }
                tick.apply(&table, key, vec![event.clone()]).unwrap();
            }
            tick.commit(Durability::Buffered).unwrap();
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}
