//! The group of nodes that would own the work.

use super::*;
use std::collections::BTreeSet;
use std::time::Duration;
use thyme_log::{Member, Node, WORK};

fn node(name: &str) -> Node {
    Node { id: name.to_string(), url: format!("http://{name}:8080") }
}

fn owned(member: &dyn Member) -> BTreeSet<u16> {
    member.owns().borrow().clone()
}

async fn until_it_owns(member: &dyn Member, slices: usize) -> BTreeSet<u16> {
    let mut owns = member.owns();
    let waited = tokio::time::timeout(Duration::from_secs(60), owns.wait_for(|owned| owned.len() == slices));
    assert!(waited.await.is_ok_and(|changed| changed.is_ok()), "it never owns {slices}: {:?}", owned(member));
    owned(member)
}

/// A log of before there were slices, or one that was made so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_owns_the_work_and_another_takes_over() {
    let settings = settings(&BROKER, &own_prefix(), &[("session.timeout.ms", "6000")]);
    let log = KafkaLog::open(settings.clone()).unwrap();
    log.create_topic(WORK, 1).unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_the_slices() {
    let settings = settings(&BROKER, &own_prefix(), &[("session.timeout.ms", "6000")]);
    let log = KafkaLog::open(settings.clone()).unwrap();
    let other_log = KafkaLog::open(settings).unwrap();
    assert_eq!((log.slices().unwrap(), other_log.slices().unwrap()), (4, 4));
    let first = log.join(node("first")).unwrap();
    until_it_owns(first.as_ref(), 4).await;
    // Another takes over its share, and the first keeps the rest.
    let second = other_log.join(node("second")).unwrap();
    let of_second = until_it_owns(second.as_ref(), 2).await;
    let of_first = until_it_owns(first.as_ref(), 2).await;
    assert_eq!(of_first.union(&of_second).count(), 4, "{of_first:?} {of_second:?}");
    for slice in 0..4 {
        let owner = if of_first.contains(&slice) { "http://first:8080" } else { "http://second:8080" };
        assert_eq!(first.owner(slice).unwrap().as_deref(), Some(owner));
    }
    // One that stays away leaves its slices to the other.
    drop(first);
    until_it_owns(second.as_ref(), 4).await;
    let first = log.join(node("first")).unwrap();
    until_it_owns(first.as_ref(), 2).await;
    until_it_owns(second.as_ref(), 2).await;
}
