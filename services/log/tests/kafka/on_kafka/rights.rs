//! On a broker that guards its topics, groups and transactional ids: a right that is missing is named, and all goes on by itself once it is
//! granted. Each test has a user and a prefix of its own.

use super::members::{answers, node, owned, until_answering, until_it_owns};
use super::*;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use thyme_broker::Right::{Create, Delete, Describe, Read, Write};
use thyme_broker::{Guarded, On};
use thyme_log::{CommitOutcome, Member, Producer};

static GUARDED: LazyLock<Guarded> = LazyLock::new(|| Guarded::start().unwrap());

fn settings_of(user: &str, password: &str, prefix: &str) -> KafkaSettings {
    let login = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", user),
        ("sasl.password", password),
        ("session.timeout.ms", "6000"),
        // How soon a client sees that a topic is not its to see any more.
        ("topic.metadata.refresh.interval.ms", "1000"),
    ];
    settings(&GUARDED.broker, prefix, &login)
}

fn log_of(user: &str) -> KafkaLog {
    KafkaLog::open(settings_of(user, "hunter2", user)).unwrap()
}

/// The administrator's, on the prefix of a user.
fn admin_of(user: &str) -> KafkaLog {
    KafkaLog::open(settings_of("admin", "root", user)).unwrap()
}

/// Everything that a server needs but the rights on groups.
fn grant_all_but_groups(user: &str) {
    let prefix = format!("{user}.");
    GUARDED.grant(user, On::Topics(&prefix), &[Read, Write, Create, Delete, Describe]).unwrap();
    GUARDED.grant(user, On::TransactionalIds(&prefix), &[Write, Describe]).unwrap();
}

#[test]
fn a_principal_without_rights_is_told_which_and_a_wrong_password_is_told_as_such() {
    let error = KafkaLog::open(settings_of("ann", "hunter3", "ann")).err().unwrap();
    says(&error, ErrorKind::Unauthenticated, &["sasl.password"]);
    assert!(!error.to_string().contains("hunter3"), "{error}");

    let ann = log_of("ann");
    let error = ann.create_topic("mine", 1).unwrap_err();
    says(&error, ErrorKind::PermissionDenied, &["ann.mine", "CREATE", "on topics with the prefix 'ann.'"]);
    let error = ann.producer("engine").err().unwrap();
    says(&error, ErrorKind::PermissionDenied, &["ann.engine", "WRITE and DESCRIBE on transactional ids", "'ann.'"]);
    GUARDED.grant("ann", On::TransactionalIds("ann."), &[Write, Describe]).unwrap();
    assert!(ann.producer("engine").is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_read_and_written_with_the_rights_to() {
    let admin = admin_of("bob");
    admin.create_topic("t", 1).unwrap();
    admin.append(vec![batch("t", 0, &["a"])]).await.unwrap();
    let bob = log_of("bob");
    let error = bob.read("t", 0, 0, 10, 1000).unwrap_err();
    says(&error, ErrorKind::NotFound, &["no topic 't'", "may not read topics with the prefix 'bob.'"]);

    GUARDED.grant("bob", On::Topics("bob."), &[Describe]).unwrap();
    let error = bob.read("t", 0, 0, 10, 1000).unwrap_err();
    says(&error, ErrorKind::PermissionDenied, &["bob.t", "READ", "on topics with the prefix 'bob.'"]);
    // Who may write nothing at all is refused when the client begins, which never asks again.
    let error = bob.append(vec![batch("t", 0, &["b"])]).await.unwrap_err();
    says(&error, ErrorKind::PermissionDenied, &["topic 't'", "WRITE on topics with the prefix 'bob.'"]);
    GUARDED.grant("bob", On::Topics("bob.other"), &[Write]).unwrap();
    let error = bob.append(vec![batch("t", 0, &["c"])]).await.unwrap_err();
    says(&error, ErrorKind::PermissionDenied, &["topic 't'", "WRITE", "on topics with the prefix 'bob.'"]);

    GUARDED.grant("bob", On::Topics("bob."), &[Read, Write]).unwrap();
    // A client asks again a moment later about a topic that it was refused.
    let until = Instant::now() + Duration::from_secs(60);
    while let Err(error) = bob.append(vec![batch("t", 0, &["d"])]).await {
        assert!(error.kind() == ErrorKind::PermissionDenied && Instant::now() < until, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(values(&bob, "t", 0), ["a", "d"], "what was refused is not there");
}

/// Until what keeps the log's process out has all of these parts.
fn until_kept_out(log: &KafkaLog, parts: &[&str]) -> Error {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let trouble = log.trouble();
        if let Some(error) = trouble.as_ref().filter(|error| parts.iter().all(|part| error.to_string().contains(part)))
        {
            return error.clone();
        }
        assert!(Instant::now() < until, "{parts:?}: {trouble:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

async fn until_let_in(log: &KafkaLog) {
    let until = Instant::now() + Duration::from_secs(60);
    while let Some(error) = log.trouble() {
        assert!(Instant::now() < until, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_it_owns_nothing(member: &dyn Member) {
    let mut owns = member.owns();
    let waited = tokio::time::timeout(Duration::from_secs(60), owns.wait_for(BTreeSet::is_empty));
    assert!(waited.await.is_ok(), "{:?}", owned(member));
}

const GROUPS: &str = "grant the principal of [log.kafka] READ on groups with the prefix 'cyd.'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_join_the_groups_is_told_so_and_joins_when_it_may() {
    grant_all_but_groups("cyd");
    let (log, other_log) = (log_of("cyd"), log_of("cyd"));
    assert_eq!(log.slices().unwrap(), 1);
    let member = log.join(node("first")).unwrap();
    let error = until_kept_out(&log, &["cyd.owner", GROUPS]);
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(owned(member.as_ref()).is_empty());
    assert_eq!(member.owner(0).unwrap(), None, "it is not told who is there either");

    GUARDED.grant("cyd", On::Groups("cyd."), &[Read]).unwrap();
    until_it_owns(member.as_ref(), 1).await;
    assert!(log.trouble().is_none());

    // Who owns is out when the broker has not heard of it for as long as a session lasts. Another is not let in meanwhile.
    GUARDED.take("cyd", On::Groups("cyd."), &[Read]).unwrap();
    let other = other_log.join(node("second")).unwrap();
    until_kept_out(&other_log, &["cyd.owner", GROUPS]);
    until_kept_out(&log, &["cyd.owner", GROUPS]);
    until_it_owns_nothing(member.as_ref()).await;
    let presence = other_log.presence(answers("second")).unwrap();
    presence.announce(&BTreeSet::from([0]), &BTreeSet::new());
    until_kept_out(&other_log, &["cyd.answers", GROUPS]);

    // One of them is given nothing, and is in the group all the same.
    GUARDED.grant("cyd", On::Groups("cyd."), &[Read]).unwrap();
    until_let_in(&log).await;
    until_let_in(&other_log).await;
    until_answering(presence.as_ref(), &["second http://second:8081 0 -"]).await;
    let (first, second) = (owned(member.as_ref()), owned(other.as_ref()));
    assert_eq!((first.len() + second.len(), first.union(&second).count()), (1, 1), "{first:?} {second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_and_the_topic_of_the_group_need_their_rights() {
    grant_all_but_groups("dan");
    let dan = log_of("dan");
    dan.create_topic("in", 1).unwrap();
    dan.append(vec![batch("in", 0, &["a"])]).await.unwrap();
    let groups = "READ on groups with the prefix 'dan.'";
    let transaction = |producer: &mut Box<dyn Producer>| {
        producer.begin().unwrap();
        producer.send(batch("in", 0, &["b"])).unwrap();
        producer.send_offset("g", "in", 0, 1).unwrap();
        producer.commit()
    };
    // On a thread of its own, as all that blocks.
    let (dan, outcome) = tokio::task::spawn_blocking(move || {
        let mut producer = dan.producer("p").unwrap();
        let outcome = transaction(&mut producer);
        let error = producer.committed("g", "in", 0).unwrap_err();
        says(&error, ErrorKind::PermissionDenied, &["dan.g", groups]);
        GUARDED.grant("dan", On::Groups("dan."), &[Read]).unwrap();
        let mut producer = dan.producer("p").unwrap();
        assert_eq!(producer.committed("g", "in", 0).unwrap(), None);
        assert!(matches!(transaction(&mut producer), CommitOutcome::Committed));
        assert_eq!(producer.committed("g", "in", 0).unwrap(), Some(1));
        (dan, outcome)
    })
    .await
    .unwrap();
    match outcome {
        CommitOutcome::NotCommitted(error) => says(&error, ErrorKind::PermissionDenied, &[groups]),
        other => panic!("{other:?}"),
    }
    assert_eq!(values(&dan, "in", 0), ["a", "b"], "once");

    // The topic is not seen any more by whom it is hidden from, who then cannot be given a part of it.
    let member = dan.join(node("dan")).unwrap();
    until_it_owns(member.as_ref(), 1).await;
    GUARDED.take("dan", On::Topics("dan."), &[Read, Write, Create, Delete, Describe]).unwrap();
    let error = until_kept_out(&dan, &["dan.owner", "READ, WRITE", "on topics with the prefix 'dan.'"]);
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    until_it_owns_nothing(member.as_ref()).await;
    grant_all_but_groups("dan");
    until_it_owns(member.as_ref(), 1).await;
    assert!(dan.trouble().is_none());
}
