//! The group of nodes that would own the work.

use super::*;
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;
use thyme_log::{Answering, Member, Node, Presence};
use tokio::sync::mpsc;

pub fn node(name: &str) -> Node {
    Node { id: name.to_string(), url: format!("http://{name}:8080") }
}

pub fn owned(member: &dyn Member) -> BTreeSet<u16> {
    member.owns().borrow().clone()
}

/// What a member owns after each change from now on.
fn changes_of(member: &dyn Member) -> mpsc::UnboundedReceiver<BTreeSet<u16>> {
    let mut owns = member.owns();
    owns.mark_unchanged();
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while owns.changed().await.is_ok() && tell.send(owns.borrow_and_update().clone()).is_ok() {}
    });
    heard
}

/// Whoever gives up a part of its slices never lets go of the rest, not even for a moment: the work on them goes on.
async fn check_kept(mut changes: mpsc::UnboundedReceiver<BTreeSet<u16>>, kept: &BTreeSet<u16>) {
    let mut owned = None;
    while owned.as_ref() != Some(kept) {
        owned = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await.unwrap();
        assert!(owned.as_ref().is_some_and(|owned| owned.is_superset(kept)), "{kept:?} became {owned:?} meanwhile");
    }
}

pub async fn until_it_owns(member: &dyn Member, slices: usize) -> BTreeSet<u16> {
    let mut owns = member.owns();
    let waited = tokio::time::timeout(Duration::from_secs(60), owns.wait_for(|owned| owned.len() == slices));
    assert!(waited.await.is_ok_and(|changed| changed.is_ok()), "it never owns {slices}: {:?}", owned(member));
    owned(member)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_owns_the_work_and_another_takes_over() {
    let settings = settings(&BROKER, &own_prefix(), &[("session.timeout.ms", "6000")]);
    let log = KafkaLog::open(settings.clone()).unwrap();
    assert_eq!(log.slices().unwrap(), 1);
    let other_log = KafkaLog::open(settings).unwrap();
    let first = log.join(node("first")).unwrap();
    until_it_owns(first.as_ref(), 1).await;
    let second = other_log.join(node("second")).unwrap();
    // A node that is back soon keeps what it had.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(owned(first.as_ref()).contains(&0) && owned(second.as_ref()).is_empty());
    assert_eq!(second.owner(0).unwrap().as_deref(), Some("http://first:8080"));
    drop(first);
    let first = log.join(node("first")).unwrap();
    until_it_owns(first.as_ref(), 1).await;
    assert!(owned(second.as_ref()).is_empty());
    // One that stays away does not.
    drop(first);
    until_it_owns(second.as_ref(), 1).await;
    assert_eq!(second.owner(0).unwrap().as_deref(), Some("http://second:8080"));
    let first = log.join(node("first")).unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(owned(second.as_ref()).contains(&0) && owned(first.as_ref()).is_empty(), "who takes over keeps it");
}

/// What is there belongs to one engine, so nobody else's state would fit.
#[test]
fn a_log_of_before_there_was_a_group_has_one_slice() {
    let log = KafkaLog::open(settings(&BROKER, &own_prefix(), &[])).unwrap();
    log.create_topic("Order.v1", 2).unwrap();
    assert_eq!(log.slices().unwrap(), 1);
    assert_eq!(log.topics().unwrap(), [("Order.v1".to_string(), 2)], "the group's topic is none of them");
    log.create_topic("Click.v1", 2).unwrap();
    assert_eq!(log.slices().unwrap(), 1);
}

fn sliced(prefix: &str, slices: Option<u16>) -> KafkaLog {
    let settings = settings(&BROKER, prefix, &[("session.timeout.ms", "6000")]);
    KafkaLog::open(KafkaSettings { slices, ..settings }).unwrap()
}

#[test]
fn who_only_reads_begins_no_log() {
    let prefix = own_prefix();
    let reader = sliced(&prefix, None);
    assert_eq!(reader.begun_slices().unwrap(), None);
    assert_eq!(sliced(&prefix, Some(4)).slices().unwrap(), 4, "the reader has not said one");
    assert_eq!(reader.begun_slices().unwrap(), Some(4));
    let of_before = sliced(&own_prefix(), None);
    of_before.create_topic("Order.v1", 2).unwrap();
    assert_eq!(of_before.begun_slices().unwrap(), Some(1));
}

#[test]
fn the_number_of_slices_belongs_to_the_log() {
    let (whole, shared) = (own_prefix(), own_prefix());
    assert_eq!(sliced(&whole, None).slices().unwrap(), 1);
    assert_eq!(sliced(&whole, Some(1)).slices().unwrap(), 1);
    assert_eq!(sliced(&shared, Some(4)).slices().unwrap(), 4);
    assert_eq!(sliced(&shared, None).slices().unwrap(), 4);
    for (prefix, other, slices) in [(&whole, 4, 1), (&shared, 2, 4), (&shared, 1, 4)] {
        let error = sliced(prefix, Some(other)).slices().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let text = error.to_string();
        assert!(text.contains(&format!("log.slices is {other}, and the work on this log has {slices}")), "{text}");
        assert!(text.contains(&format!("set it to {slices}")) && text.contains(&format!("{prefix}.owner")), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_the_slices() {
    let prefix = own_prefix();
    let (log, other_log) = (sliced(&prefix, Some(4)), sliced(&prefix, None));
    assert_eq!((log.slices().unwrap(), other_log.slices().unwrap()), (4, 4));
    let first = log.join(node("first")).unwrap();
    until_it_owns(first.as_ref(), 4).await;
    // Another takes over its share, and the first keeps the rest.
    let changes = changes_of(first.as_ref());
    let second = other_log.join(node("second")).unwrap();
    let of_second = until_it_owns(second.as_ref(), 2).await;
    let of_first = until_it_owns(first.as_ref(), 2).await;
    check_kept(changes, &of_first).await;
    assert_eq!(of_first.union(&of_second).count(), 4, "{of_first:?} {of_second:?}");
    for slice in 0..4 {
        let owner = if of_first.contains(&slice) { "http://first:8080" } else { "http://second:8080" };
        assert_eq!(first.owner(slice).unwrap().as_deref(), Some(owner));
    }
    // One that stays away leaves its slices to the other.
    drop(first);
    until_it_owns(second.as_ref(), 4).await;
    let changes = changes_of(second.as_ref());
    let first = log.join(node("first")).unwrap();
    until_it_owns(first.as_ref(), 2).await;
    check_kept(changes, &until_it_owns(second.as_ref(), 2).await).await;
}

/// Stands still when it is told to give slices away.
struct Stuck {
    told: mpsc::UnboundedSender<()>,
    until: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl ClientContext for Stuck {}

impl ConsumerContext for Stuck {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Revoke(_)) {
            self.told.send(()).unwrap();
            // It goes on when the other end is gone.
            let _ = self.until.lock().unwrap().recv();
        }
    }
}

/// A node that is killed between two steps of the group, when it is to give slices away, is back with what it was to keep. The group takes
/// itself for settled then, and nobody has the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slices_that_a_killed_node_was_to_give_away_find_an_owner() {
    let prefix = own_prefix();
    let (log, other_log) = (sliced(&prefix, Some(4)), sliced(&prefix, None));
    assert_eq!(log.slices().unwrap(), 4);
    let (told, mut heard) = mpsc::unbounded_channel();
    let (go_on, until) = std::sync::mpsc::channel();
    let config = [
        ("bootstrap.servers", BROKER.address.clone()),
        ("group.id", format!("{prefix}.owner")),
        ("group.instance.id", "first".to_string()),
        ("client.id", node("first").url),
        ("partition.assignment.strategy", "cooperative-sticky".to_string()),
    ];
    let config: ClientConfig = config.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    let killed: BaseConsumer<Stuck> = config.create_with_context(Stuck { told, until: Mutex::new(until) }).unwrap();
    killed.subscribe(&[&format!("{prefix}.owner")]).unwrap();
    let (has_all, mut all) = mpsc::unbounded_channel();
    let polls = std::thread::spawn(move || {
        while !has_all.is_closed() {
            let _ = killed.poll(Duration::from_millis(100));
            if killed.assignment().unwrap().count() == 4 {
                let _ = has_all.send(());
            }
        }
    });
    all.recv().await.unwrap();
    let second = other_log.join(node("second")).unwrap();
    heard.recv().await.unwrap();
    let first = log.join(node("first")).unwrap();
    let of_first = until_it_owns(first.as_ref(), 2).await;
    let of_second = until_it_owns(second.as_ref(), 2).await;
    assert_eq!(until_it_owns(first.as_ref(), 2).await.union(&of_second).count(), 4, "{of_first:?} {of_second:?}");
    drop((go_on, all));
    polls.join().unwrap();
}

pub fn answers(name: &str) -> Node {
    Node { id: name.to_string(), url: format!("http://{name}:8081") }
}

pub async fn until_answering(presence: &dyn Presence, wanted: &[&str]) {
    let wanted: Vec<Answering> = wanted.iter().map(|text| Answering::parse(text).unwrap()).collect();
    let mut seen = Vec::new();
    for _ in 0..300 {
        seen = presence.answering().unwrap();
        seen.sort_by(|one, other| one.url.cmp(&other.url));
        if seen == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{seen:?} instead of {wanted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_say_which_slices_they_answer_for() {
    let prefix = own_prefix();
    let (log, other_log) = (sliced(&prefix, Some(4)), sliced(&prefix, None));
    assert_eq!((log.slices().unwrap(), other_log.slices().unwrap()), (4, 4));
    let first = log.presence(answers("first")).unwrap();
    let second = other_log.presence(answers("second")).unwrap();
    until_answering(first.as_ref(), &[]).await;
    first.announce(&BTreeSet::from([0, 1, 3]), &BTreeSet::from([3]));
    second.announce(&BTreeSet::from([0, 1, 2, 3]), &BTreeSet::new());
    until_answering(first.as_ref(), &["first http://first:8081 0-1,3 3", "second http://second:8081 0-3 -"]).await;
    until_answering(second.as_ref(), &["first http://first:8081 0-1,3 3", "second http://second:8081 0-3 -"]).await;
    first.announce(&BTreeSet::from([2]), &BTreeSet::from([2]));
    until_answering(second.as_ref(), &["first http://first:8081 2 2", "second http://second:8081 0-3 -"]).await;
    second.announce(&BTreeSet::new(), &BTreeSet::new());
    until_answering(first.as_ref(), &["first http://first:8081 2 2"]).await;
    drop(first);
    until_answering(second.as_ref(), &[]).await;
}
