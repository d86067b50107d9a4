//! Disks that are full, read-only or broken while the log runs.

use super::super::store::Store;
use super::*;
use parking_lot::Condvar;
use std::io;

/// Memory whose writes can be made to fail or wait.
#[derive(Clone, Default)]
struct BadStore {
    inner: MemoryStore,
    control: Arc<Control>,
}

#[derive(Default)]
struct Control {
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Default)]
struct Plan {
    /// Bytes that still fit.
    room: Option<usize>,
    fail_sync: bool,
    fail_truncate: bool,
    fail_create: bool,
    hold_sync: bool,
    syncs: usize,
}

impl BadStore {
    fn set(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.control.plan.lock());
        self.control.changed.notify_all();
    }

    fn log(&self) -> EmbeddedLog {
        EmbeddedLog::start(Box::new(self.clone()), Options::default()).unwrap()
    }
}

impl Store for BadStore {
    fn segments(&self) -> io::Result<Vec<u32>> {
        self.inner.segments()
    }
    fn length(&self, segment: u32) -> io::Result<u64> {
        self.inner.length(segment)
    }
    fn create(&self, segment: u32, header: &[u8]) -> io::Result<()> {
        if self.control.plan.lock().fail_create {
            self.inner.create(segment, &header[..5])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.create(segment, header)
    }
    fn append(&self, segment: u32, position: u64, bytes: &Bytes) -> io::Result<()> {
        let mut plan = self.control.plan.lock();
        if let Some(room) = &mut plan.room {
            let fits = bytes.len().min(*room);
            *room -= fits;
            if fits < bytes.len() {
                self.inner.append(segment, position, &bytes.slice(..fits))?;
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        self.inner.append(segment, position, bytes)
    }
    fn sync(&self, _segment: u32) -> io::Result<()> {
        let mut plan = self.control.plan.lock();
        plan.syncs += 1;
        self.control.changed.notify_all();
        while plan.hold_sync {
            self.control.changed.wait(&mut plan);
        }
        if plan.fail_sync { Err(io::Error::other("no answer from the disk")) } else { Ok(()) }
    }
    fn truncate(&self, segment: u32, length: u64) -> io::Result<()> {
        if self.control.plan.lock().fail_truncate {
            return Err(io::Error::other("no answer from the disk"));
        }
        self.inner.truncate(segment, length)
    }
    fn read(&self, segment: u32, position: u64, length: usize) -> io::Result<Bytes> {
        self.inner.read(segment, position, length)
    }
    fn name(&self, segment: u32) -> String {
        self.inner.name(segment)
    }
    fn unlock(&self) {}
}

#[tokio::test]
async fn a_full_disk_refuses_loses_nothing_and_goes_on_when_there_is_room() {
    let store = BadStore::default();
    let log = store.log();
    log.create_topic("t", 1).unwrap();
    log.append(vec![batch("t", 0, &["before"])]).await.unwrap();
    for room in 0..60 {
        store.set(|plan| plan.room = Some(room));
        let error = log.append(vec![batch("t", 0, &["does not fit"])]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.message().starts_with("cannot write segment 0 in memory: "), "{error}");
        let mut producer = log.producer("p").err();
        assert_eq!(producer.take().unwrap().kind(), ErrorKind::ResourceExhausted);
        assert_eq!(values(&log, "t", 0).unwrap(), ["before"]);
        // What is on the disk opens, too.
        assert_eq!(values(&store.log(), "t", 0).unwrap(), ["before"]);
    }
    store.set(|plan| plan.room = None);
    assert_eq!(log.append(vec![batch("t", 0, &["after"])]).await.unwrap()[0].first, 1);
    drop(log);
    assert_eq!(values(&store.log(), "t", 0).unwrap(), ["before", "after"]);
}

#[tokio::test]
async fn a_commit_that_cannot_be_written_was_not_committed() {
    let store = BadStore::default();
    let log = store.log();
    log.create_topic("t", 1).unwrap();
    let mut producer = log.producer("p").unwrap();
    store.set(|plan| plan.fail_sync = true);
    producer.begin().unwrap();
    producer.send(batch("t", 0, &["x"])).unwrap();
    assert!(matches!(producer.commit(), crate::CommitOutcome::NotCommitted(_)));
    store.set(|plan| plan.fail_sync = false);
    producer.begin().unwrap();
    producer.send(batch("t", 0, &["y"])).unwrap();
    assert!(matches!(producer.commit(), crate::CommitOutcome::Committed));
    drop(log);
    assert_eq!(values(&store.log(), "t", 0).unwrap(), ["y"]);
}

#[tokio::test]
async fn a_frame_that_cannot_be_removed_stops_the_log_with_an_unknown_outcome() {
    let store = BadStore::default();
    let log = store.log();
    log.create_topic("t", 1).unwrap();
    let mut producer = log.producer("p").unwrap();
    producer.begin().unwrap();
    producer.send(batch("t", 0, &["x"])).unwrap();
    store.set(|plan| (plan.fail_sync, plan.fail_truncate) = (true, true));
    assert!(matches!(producer.commit(), crate::CommitOutcome::Unknown(_)));
    store.set(|plan| (plan.fail_sync, plan.fail_truncate) = (false, false));
    let error = log.append(vec![batch("t", 0, &["y"])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().starts_with("the log stopped after a failed write"), "{error}");
    assert!(values(&log, "t", 0).unwrap().is_empty(), "reading goes on");
    drop(log);
    assert_eq!(values(&store.log(), "t", 0).unwrap(), ["x"], "this time it had reached the disk");
}

#[tokio::test]
async fn a_segment_that_cannot_be_made_is_tried_again() {
    let store = BadStore::default();
    let log = EmbeddedLog::start(Box::new(store.clone()), SMALL).unwrap();
    log.create_topic("t", 1).unwrap();
    store.set(|plan| plan.fail_create = true);
    let mut sent = 0;
    let error = loop {
        match log.append(vec![batch("t", 0, &["some value"])]).await {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert_eq!(EmbeddedLog::start(Box::new(store.inner.clone()), SMALL).unwrap().end_offset("t", 0).unwrap(), sent);
    store.set(|plan| plan.fail_create = false);
    assert_eq!(log.append(vec![batch("t", 0, &["some value"])]).await.unwrap()[0].first, sent);
}

#[tokio::test]
async fn appends_that_wait_together_share_one_sync() {
    let store = BadStore::default();
    let log = Arc::new(store.log());
    log.create_topic("t", 1).unwrap();
    let syncs_before = store.control.plan.lock().syncs;
    store.set(|plan| plan.hold_sync = true);
    let append = |value: usize| {
        let log = log.clone();
        tokio::spawn(async move { log.append(vec![batch("t", 0, &[&value.to_string()])]).await })
    };
    let mut waiting = vec![append(0)];
    while store.control.plan.lock().syncs == syncs_before {
        tokio::task::yield_now().await;
    }
    waiting.extend((1..50).map(append));
    while log.shared.queue.len() < 49 {
        tokio::task::yield_now().await;
    }
    assert!(values(&*log, "t", 0).unwrap().is_empty(), "nothing is visible before it is durable");
    store.set(|plan| plan.hold_sync = false);
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.control.plan.lock().syncs - syncs_before, 2);
    assert_eq!(log.end_offset("t", 0).unwrap(), 50);
}
