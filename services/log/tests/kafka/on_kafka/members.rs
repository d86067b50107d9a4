//! The group of nodes that would own the work.

use super::*;
use std::time::Duration;
use thyme_log::{Member, Node};

fn node(name: &str) -> Node {
    Node { id: name.to_string(), url: format!("http://{name}:8080") }
}

async fn until_it_owns(member: &dyn Member) {
    let mut owns = member.owns();
    let waited = tokio::time::timeout(Duration::from_secs(60), owns.wait_for(|owns| *owns));
    assert!(waited.await.is_ok_and(|changed| changed.is_ok()), "it never becomes the owner");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_owns_the_work_and_another_takes_over() {
    let settings = settings(&BROKER, &own_prefix(), &[("session.timeout.ms", "6000")]);
    let log = KafkaLog::open(settings.clone()).unwrap();
    let other_log = KafkaLog::open(settings).unwrap();
    let first = log.join(node("first")).unwrap();
    until_it_owns(first.as_ref()).await;
    let second = other_log.join(node("second")).unwrap();
    // A node that is back soon keeps what it had.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(*first.owns().borrow() && !*second.owns().borrow());
    assert_eq!(second.owner().unwrap().as_deref(), Some("http://first:8080"));
    drop(first);
    let first = log.join(node("first")).unwrap();
    until_it_owns(first.as_ref()).await;
    assert!(!*second.owns().borrow());
    // One that stays away does not.
    drop(first);
    until_it_owns(second.as_ref()).await;
    assert_eq!(second.owner().unwrap().as_deref(), Some("http://second:8080"));
    let first = log.join(node("first")).unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(*second.owns().borrow() && !*first.owns().borrow(), "who takes over keeps it");
}
