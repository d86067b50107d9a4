//! Checkpoints of a directory, and digests of whole states.

use crate::workload::{Random, apply, events, table};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thyme_core::ErrorKind;
use thyme_state::{Digest, Durability, Options, StateStore, Visible};

fn opened(directory: &Path) -> Arc<StateStore> {
    StateStore::open(directory, Options::default()).unwrap()
}

#[test]
fn a_checkpoint_stands_still_and_opens_as_a_state() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory.path().join("state"));
    let table = table(3, false);
    let mut random = Random(11);
    let events = events(&mut random, &table, 800);
    apply(&mut random, &store, &table, b"key", &events[..500]);
    let digest = store.snapshot().digest().unwrap();
    let copy = directory.path().join("copy");
    store.checkpoint(&copy).unwrap();
    apply(&mut random, &store, &table, b"key", &events[500..]);
    store.compact().unwrap();
    assert_ne!(store.snapshot().digest().unwrap(), digest);

    let read_only = StateStore::open_read_only(&copy, Options::default()).unwrap();
    assert_eq!(read_only.snapshot().digest().unwrap(), digest);
    assert!(read_only.drop_table(table.id).is_err());
    drop(read_only);
    let reopened = opened(&copy);
    assert_eq!(reopened.snapshot().digest().unwrap(), digest);
    apply(&mut random, &reopened, &table, b"key", &events[500..]);
    assert_eq!(reopened.snapshot().digest().unwrap(), store.snapshot().digest().unwrap());
}

#[test]
fn a_checkpoint_ends_between_two_ticks() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory.path().join("state"));
    let table = table(1, false);
    let mut all = events(&mut Random(5), &table, 4_000);
    for (index, event) in all.iter_mut().enumerate() {
        event.time = index as i64;
    }
    let (first, rest) = all.split_at(40);
    let commit = |part: &[thyme_state::Event], next: u64| {
        let mut tick = store.tick();
        tick.apply(&table, b"key", part.to_vec()).unwrap();
        tick.put_progress(1, 0, next).unwrap();
        tick.commit(Durability::Buffered).unwrap();
    };
    commit(first, 40);
    let done = AtomicBool::new(false);
    let mut places = Vec::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for (index, part) in rest.chunks(3).enumerate() {
                commit(part, 40 + index as u64 * 3 + part.len() as u64);
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let copy = directory.path().join(places.len().to_string());
            store.checkpoint(&copy).unwrap();
            let taken = StateStore::open_read_only(&copy, Options::default()).unwrap().snapshot();
            let next = taken.progress(1, 0).unwrap().unwrap();
            let found = taken.events(&table, b"key", i64::MIN, i64::MAX, &Visible::ALL, None).unwrap();
            assert_eq!(found.len() as u64, next, "events and progress are of one tick");
            assert_eq!(found, all[..next as usize]);
            places.push(next);
        }
    });
    assert!(!places.is_empty());
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn a_state_in_memory_has_no_files_to_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let error = StateStore::in_memory().unwrap().checkpoint(&directory.path().join("copy")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
}

#[test]
fn a_checkpoint_is_not_written_over_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory.path().join("state"));
    let error = store.checkpoint(directory.path()).unwrap_err();
    assert!(error.message().contains("taking a checkpoint in"), "{error}");
}

#[test]
fn digests_tell_tables_and_rows_apart() {
    let store = StateStore::in_memory().unwrap();
    let (one, two) = (table(1, false), table(2, false));
    let mut random = Random(8);
    let events = events(&mut random, &one, 200);
    for key in [b"a", b"b", b"c"] {
        apply(&mut random, &store, &one, key, &events);
        apply(&mut random, &store, &two, key, &events);
    }
    let digest = store.snapshot().digest().unwrap();
    assert_eq!(digest.tables.keys().copied().collect::<Vec<u32>>(), [1, 2]);
    assert_eq!(digest.table(1), digest.table(2), "the id of a table is not part of its digest");
    assert_eq!(digest.table(1), store.digest(&one).unwrap());
    assert_eq!(digest.table(9), Digest::default());
    assert_eq!(digest.table(1).to_string().len(), 32);

    apply(&mut random, &store, &one, b"d", &events[..1]);
    let more = store.snapshot().digest().unwrap();
    assert_ne!(more.table(1), digest.table(1));
    assert_eq!(more.table(2), digest.table(2));
    assert_ne!(more.total(), digest.total());
    // Progress and the other small tables do not count.
    let mut tick = store.tick();
    tick.put_progress(1, 0, 77).unwrap();
    tick.commit(Durability::Synced).unwrap();
    assert_eq!(store.snapshot().digest().unwrap(), more);
}
