//! The small tables give back what a tick put.

use thyme_state::*;

#[test]
fn progress_and_clock() {
    let store = StateStore::in_memory().unwrap();
    assert_eq!(store.snapshot().greatest_event_time().unwrap(), None);
    let mut tick = store.tick();
    tick.put_progress(7, 2, 100).unwrap();
    tick.put_progress(7, 3, 5).unwrap();
    tick.put_progress(8, 0, u64::MAX).unwrap();
    tick.put_greatest_event_time(-5).unwrap();
    tick.commit(Durability::Synced).unwrap();
    let snapshot = store.snapshot();
    assert_eq!(snapshot.progress(7, 2).unwrap(), Some(100));
    assert_eq!(snapshot.all_progress().unwrap(), vec![(7, 2, 100), (7, 3, 5), (8, 0, u64::MAX)]);
    assert_eq!(snapshot.greatest_event_time().unwrap(), Some(-5));
    let mut tick = store.tick();
    tick.delete_progress(7).unwrap();
    tick.commit(Durability::Synced).unwrap();
    assert_eq!(store.snapshot().all_progress().unwrap(), vec![(8, 0, u64::MAX)]);
}

#[test]
fn shards() {
    let store = StateStore::in_memory().unwrap();
    let acceptance = Acceptance { greatest_event_time: Some(i64::MIN), greatest_append_time: None };
    let near = SourceProgress { next_offset: 9, greatest_event_time: Some(4), covered: vec![(0, 7), (2, 300)] };
    let far = SourceProgress::default();
    let mut tick = store.tick();
    tick.put_acceptance(1, 0, &acceptance).unwrap();
    tick.put_routed_source(2, 1, 3, &near).unwrap();
    tick.put_routed_source(2, 1, 0, &far).unwrap();
    tick.put_routed_source(2, 2, 0, &near).unwrap();
    tick.commit(Durability::Synced).unwrap();
    let snapshot = store.snapshot();
    assert_eq!(snapshot.acceptance(1, 0).unwrap(), Some(acceptance));
    assert_eq!(snapshot.acceptance(1, 1).unwrap(), None);
    assert_eq!(snapshot.routed_sources(2, 1).unwrap(), vec![(0, far), (3, near)]);
}

#[test]
fn dedup_rows_and_expiry() {
    let store = StateStore::in_memory().unwrap();
    let call = |bucket| DedupKey { log: 1, partition: 0, bucket, id: DedupId::Call { call: 77, chunk: 0 } };
    let given = DedupKey { log: 1, partition: 0, bucket: 2, id: DedupId::Given([9; 16]) };
    let mut rows = Bitmap::default();
    rows.set(5);
    let mut tick = store.tick();
    tick.put_dedup(&call(1), &rows).unwrap();
    tick.put_dedup(&call(2), &rows).unwrap();
    tick.put_dedup(&given, &Bitmap::default()).unwrap();
    tick.commit(Durability::Synced).unwrap();
    assert_eq!(store.snapshot().dedup(&call(1)).unwrap(), Some(rows.clone()));
    assert_eq!(store.snapshot().dedup(&given).unwrap(), Some(Bitmap::default()));
    let mut tick = store.tick();
    tick.expire_dedup(1, 0, 2).unwrap();
    tick.commit(Durability::Synced).unwrap();
    assert_eq!(store.snapshot().dedup(&call(1)).unwrap(), None);
    assert_eq!(store.snapshot().dedup(&call(2)).unwrap(), Some(rows));
    let mut tick = store.tick();
    tick.delete_dedup(1).unwrap();
    tick.commit(Durability::Synced).unwrap();
    assert_eq!(store.snapshot().dedup(&given).unwrap(), None);
}

#[test]
fn verdicts_and_erases() {
    let store = StateStore::in_memory().unwrap();
    let mut bitmap = Bitmap::default();
    bitmap.set(4096 * 3 + 7);
    let mut tick = store.tick();
    tick.put_verdicts(1, 2, 4096 * 3 + 7, &bitmap).unwrap();
    tick.put_erased(1, 2, b"key", &[7, 40]).unwrap();
    tick.put_erased(1, 2, b"kez", &[41]).unwrap();
    tick.commit(Durability::Synced).unwrap();
    let snapshot = store.snapshot();
    assert!(snapshot.verdicts(1, 2, 4096 * 3).unwrap().contains(7));
    assert!(snapshot.verdicts(1, 2, 4096 * 4).unwrap().is_empty());
    assert_eq!(snapshot.erased(1, 2, b"key").unwrap(), [7, 40]);
    assert_eq!(snapshot.erased(1, 3, b"key").unwrap(), [0; 0]);
    assert_eq!(snapshot.all_erased(1, 2).unwrap(), vec![(b"key".to_vec(), vec![7, 40]), (b"kez".to_vec(), vec![41])]);
}

#[test]
fn rejected_rows() {
    let store = StateStore::in_memory().unwrap();
    let row = |offset, key: &[u8]| Rejected {
        partition: 1,
        offset,
        append_time: 5,
        reason: "the amount is not a number".to_string(),
        key: key.to_vec(),
        record: vec![1, 2, 3],
    };
    let mut tick = store.tick();
    for (offset, key) in [(3, b"a"), (4, b"b"), (5, b"a")] {
        tick.put_dead_letter(1, &row(offset, key)).unwrap();
        tick.put_late_sample(1, &row(offset + 100, key)).unwrap();
    }
    tick.commit(Durability::Synced).unwrap();
    let snapshot = store.snapshot();
    assert_eq!(snapshot.dead_letters(1, None, 2).unwrap(), vec![row(3, b"a"), row(4, b"b")]);
    assert_eq!(snapshot.dead_letters(1, Some(b"a"), 9).unwrap(), vec![row(3, b"a"), row(5, b"a")]);
    assert_eq!(snapshot.late_samples(1, Some(b"b"), 9).unwrap(), vec![row(104, b"b")]);
    let mut tick = store.tick();
    tick.delete_dead_letter(1, 1, 3).unwrap();
    tick.delete_late_sample(1, 1, 104).unwrap();
    tick.commit(Durability::Synced).unwrap();
    assert_eq!(store.snapshot().dead_letters(1, None, 9).unwrap().len(), 2);
    assert_eq!(store.snapshot().late_samples(1, None, 9).unwrap().len(), 2);
}

#[test]
fn counters_add_up() {
    let store = StateStore::in_memory().unwrap();
    let counters = Counters { accepted: 10, late: 2, warnings: 300, ..Counters::default() };
    let mut tick = store.tick();
    tick.put_counters(CounterScope::Log(1), 0, &counters).unwrap();
    tick.put_counters(CounterScope::Log(1), 1, &counters).unwrap();
    tick.put_counters(CounterScope::Consumer(1), 0, &Counters::default()).unwrap();
    tick.commit(Durability::Synced).unwrap();
    let snapshot = store.snapshot();
    assert_eq!(snapshot.counters(CounterScope::Log(1), 1).unwrap(), counters);
    assert_eq!(snapshot.counters(CounterScope::Log(2), 1).unwrap(), Counters::default());
    let total = snapshot.total_counters(CounterScope::Log(1)).unwrap();
    assert_eq!((total.accepted, total.late, total.warnings), (20, 4, 600));
}
