//! The broker killed, paused, back again.

use super::*;
use std::cell::RefCell;
use std::time::{Duration, Instant};
use thyme_core::failpoint::{Point, install};
use thyme_log::{CommitOutcome, Producer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_is_refused_while_the_broker_is_away_and_goes_on_after() {
    let broker = Broker::start().unwrap();
    let log = KafkaLog::open(settings(&broker, "t", &[("message.timeout.ms", "1500")])).unwrap();
    log.create_topic("t", 1).unwrap();
    log.append(vec![batch("t", 0, &["before"])]).await.unwrap();
    assert_eq!(values(&log, "t", 0), ["before"]);
    broker.kill().unwrap();
    let error = log.append(vec![batch("t", 0, &["away"])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(&broker.address), "{error}");
    broker.restart().unwrap();
    let mut refused = 0;
    while let Err(error) = log.append(vec![batch("t", 0, &["after"])]).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        refused += 1;
        assert!(refused < 60, "{error}");
    }
    let found = values(&log, "t", 0);
    assert_eq!((found.first().unwrap().as_str(), found.last().unwrap().as_str()), ("before", "after"));
}

/// A broker that has just come up has no leaders yet. Topics that this process knew are there all the same, and what is sent then waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_has_just_come_up_has_its_topics() {
    let broker = Arc::new(Broker::start().unwrap());
    let log = KafkaLog::open(settings(&broker, "t", &[])).unwrap();
    log.create_topic("t", 1).unwrap();
    for round in 0..3 {
        broker.kill().unwrap();
        let killed = broker.clone();
        let restarted = std::thread::spawn(move || killed.restart().unwrap());
        let until = Instant::now() + Duration::from_secs(90);
        let listed = loop {
            match log.topics() {
                // It may list none at all for a moment.
                Ok(topics) if topics.is_empty() => assert!(Instant::now() < until, "no topic is listed"),
                Ok(topics) => break topics,
                Err(error) => assert!(error.kind() == ErrorKind::Unavailable && Instant::now() < until, "{error}"),
            }
        };
        assert_eq!(listed, [("t".to_string(), 1)], "round {round}");
        while let Err(error) = log.append(vec![batch("t", 0, &["x"])]).await {
            assert!(error.kind() == ErrorKind::Unavailable && Instant::now() < until, "{error}");
        }
        restarted.join().unwrap();
    }
}

/// A copy from one topic to another; twice the broker is killed after a transaction was filled and before it is committed, and
/// started again while it is. Each record arrives once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_exact_though_the_broker_is_killed() {
    let broker = Arc::new(Broker::start().unwrap());
    let log = KafkaLog::open(settings(&broker, "t", &[])).unwrap();
    log.create_topic("in", 1).unwrap();
    log.create_topic("out", 1).unwrap();
    let sent: Vec<String> = (0..40).map(|number| format!("record {number}")).collect();
    let parts: Vec<&str> = sent.iter().map(String::as_str).collect();
    log.append(vec![batch("in", 0, &parts)]).await.unwrap();
    let copied = tokio::task::spawn_blocking(move || {
        let mut kills = vec![10, 25];
        let mut tries = 0;
        while !copy(&log, &broker, &mut kills).unwrap_or(false) {
            tries += 1;
            assert!(tries < 100, "the copy makes progress");
        }
        assert!(kills.is_empty());
        values(&log, "out", 0)
    });
    assert_eq!(copied.await.unwrap(), sent);
}

/// Copies with one producer, until all is copied (true) or the producer must not be used any more (false).
fn copy(log: &KafkaLog, broker: &Arc<Broker>, kills: &mut Vec<u64>) -> Result<bool> {
    let mut producer = log.producer("copy")?;
    let mut next = producer.committed("g", "in", 0)?.unwrap_or_default();
    while next < 40 {
        let found = log.read("in", 0, next, 5, 1 << 20)?;
        let after = found.last().unwrap().offset + 1;
        let records = found.into_iter().map(|record| NewRecord::new(record.key, record.value)).collect();
        producer.begin()?;
        producer.send(Batch { topic: "out".to_string(), partition: 0, records })?;
        producer.send_offset("g", "in", 0, after)?;
        if kills.first().is_some_and(|at| *at <= next) {
            kills.remove(0);
            broker.kill().unwrap();
            let killed = broker.clone();
            std::thread::spawn(move || killed.restart().unwrap());
        }
        match producer.commit() {
            CommitOutcome::Committed => next = after,
            CommitOutcome::NotCommitted(_) | CommitOutcome::Unknown(_) => return Ok(false),
        }
        if producer.is_spent() {
            return Ok(next >= 40);
        }
    }
    Ok(true)
}

thread_local! {
    /// What this thread's next transaction meets when all of it is sent and its end is not.
    static AT_THE_END: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

fn at_the_end(deed: impl FnOnce() + 'static) {
    static IS_HOOKED: LazyLock<bool> = LazyLock::new(|| {
        install(Box::new(|point| {
            if point == Point::BeforeEnd
                && let Some(deed) = AT_THE_END.take()
            {
                deed();
            }
            Ok(())
        }))
    });
    assert!(*IS_HOOKED);
    AT_THE_END.set(Some(Box::new(deed)));
}

/// While the broker comes to itself; at first it lists no topics.
fn again<T>(mut call: impl FnMut() -> Result<T>) -> T {
    let until = Instant::now() + Duration::from_secs(90);
    loop {
        match call() {
            Ok(found) => return found,
            Err(error) => {
                let may_pass = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::NotFound);
                assert!(may_pass && Instant::now() < until, "{error}");
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Numbers, each in a transaction of a producer made for it. The group's offset is the next one.
struct Numbers {
    broker: Arc<Broker>,
    log: KafkaLog,
}

impl Numbers {
    fn next(&self) -> (Box<dyn Producer>, u64) {
        let mut producer = again(|| self.log.producer("numbers"));
        let next = again(|| producer.committed("g", "out", 0)).unwrap_or_default();
        (producer, next)
    }

    /// What the broker is done at the end of the transaction; one that does not come to it, on a busy machine, is begun anew.
    fn send(&self, done: impl FnOnce(Arc<Broker>) + 'static) -> (Box<dyn Producer>, CommitOutcome) {
        let broker = self.broker.clone();
        at_the_end(move || done(broker));
        for _ in 0..20 {
            let (mut producer, next) = self.next();
            producer.begin().unwrap();
            producer.send(batch("out", 0, &[&next.to_string()])).unwrap();
            producer.send_offset("g", "out", 0, next + 1).unwrap();
            let outcome = producer.commit();
            if AT_THE_END.with_borrow(Option::is_none) {
                return (producer, outcome);
            }
        }
        panic!("no transaction comes to its end");
    }

    /// Whose commit was quick goes on. On a busy machine not every one is.
    fn send_quickly(&self) {
        for _ in 0..20 {
            let (mut producer, outcome) = self.send(|_| ());
            if matches!(outcome, CommitOutcome::Committed) && !producer.is_spent() {
                producer.begin().unwrap();
                return producer.abort().unwrap();
            }
        }
        panic!("no commit is quick");
    }

    /// All numbers below the group's offset, each once.
    fn check(&self) {
        let (_producer, next) = self.next();
        let log = again(|| KafkaLog::open(settings(&self.broker, "t", &[])));
        again(|| log.end_offset("out", 0));
        assert_eq!(values(&log, "out", 0), (0..next).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

fn says_it_is_spent(mut producer: Box<dyn Producer>) {
    assert!(producer.is_spent());
    says(&producer.begin().unwrap_err(), ErrorKind::FailedPrecondition, &["producer 'numbers' must be made anew"]);
}

/// The broker stands still when a commit is asked for: so long that it was near to give the transaction up, and for longer than anybody
/// waits. Only whoever makes the next producer learns what became of the second.
#[test]
fn a_producer_is_not_used_again_after_a_commit_that_was_slow_or_had_no_answer() {
    let broker = Arc::new(Broker::start().unwrap());
    let log = KafkaLog::open(settings(&broker, "t", &[])).unwrap();
    log.create_topic("out", 1).unwrap();
    let numbers = Numbers { broker: broker.clone(), log };
    numbers.send_quickly();
    numbers.check();

    // A machine that is busy may make it too slow to be answered.
    let mut slow = 0;
    for _ in 0..5 {
        let (producer, outcome) = numbers.send(|broker| {
            broker.pause().unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(5));
                broker.resume().unwrap();
            });
        });
        says_it_is_spent(producer);
        numbers.check();
        match outcome {
            CommitOutcome::Committed => slow += 1,
            CommitOutcome::Unknown(_) => continue,
            CommitOutcome::NotCommitted(error) => panic!("{error}"),
        }
        break;
    }
    assert_eq!(slow, 1);

    let (producer, outcome) = numbers.send(|broker| broker.pause().unwrap());
    assert!(matches!(outcome, CommitOutcome::Unknown(_)), "{outcome:?}");
    says_it_is_spent(producer);
    broker.resume().unwrap();
    numbers.check();
    numbers.send_quickly();
    numbers.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_places_of_one_partition_are_read_side_by_side() {
    let log = KafkaLog::open(settings(&BROKER, &own_prefix(), &[])).unwrap();
    log.create_topic("t", 1).unwrap();
    let sent: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let parts: Vec<&str> = sent.iter().map(String::as_str).collect();
    log.append(vec![batch("t", 0, &parts)]).await.unwrap();
    let mut places = [0u64, 250, 100, 400, 50];
    let mut seen: Vec<Vec<String>> = vec![Vec::new(); places.len()];
    for _ in 0..100 {
        for (place, seen) in places.iter_mut().zip(&mut seen) {
            for record in log.read("t", 0, *place, 10, 1 << 20).unwrap() {
                *place = record.offset + 1;
                seen.push(String::from_utf8(record.value.to_vec()).unwrap());
            }
        }
    }
    for (start, seen) in [0usize, 250, 100, 400, 50].into_iter().zip(seen) {
        assert_eq!(seen, sent[start..]);
    }
}

/// A client that asks while a topic is being made may be told of a part of it; that must not stay with it.
#[test]
fn others_find_a_topic_as_soon_as_it_is_made() {
    let prefix = own_prefix();
    let maker = KafkaLog::open(settings(&BROKER, &prefix, &[])).unwrap();
    let others: Vec<KafkaLog> = (0..2).map(|_| KafkaLog::open(settings(&BROKER, &prefix, &[])).unwrap()).collect();
    std::thread::scope(|scope| {
        for other in &others {
            scope.spawn(|| {
                for number in 0..15 {
                    let topic = format!("t{number}");
                    let until = Instant::now() + Duration::from_secs(60);
                    for partition in [0, 3] {
                        while let Err(error) = other.end_offset(&topic, partition) {
                            assert!(Instant::now() < until, "{topic} {partition}: {error}");
                        }
                    }
                }
            });
        }
        for number in 0..15 {
            maker.create_topic(&format!("t{number}"), 4).unwrap();
        }
    });
}
