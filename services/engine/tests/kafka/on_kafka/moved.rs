//! Offsets of routers and emitters that another program has moved, within the log.

use super::*;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use thyme_engine::JobSpec;

/// As any tool does it.
fn move_offset(group: &str, topic: &str, partition: u16, to: u64) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &BROKER.address).set("group.id", group);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, i32::from(partition), Offset::Offset(i64::try_from(to).unwrap())).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

fn delete_group(group: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &BROKER.address).create().unwrap();
    for result in futures_block(admin.delete_groups(&[group], &AdminOptions::new())).unwrap() {
        result.unwrap();
    }
}

fn refusal(spec: &JobSpec, state: &Arc<StateStore>, log: &Arc<dyn EventLog>) -> String {
    let mut engine = Engine::open(state.clone(), log.clone(), EngineOptions::default()).unwrap();
    engine.deploy(spec).unwrap_err().to_string()
}

/// Moves an offset of the group back and forth: each is refused, by the state that has got there and by one that begins anew. Then
/// does what the refusal advises.
fn check_refused(
    prefix: &str,
    spec: &JobSpec,
    state: &Arc<StateStore>,
    log: &Arc<dyn EventLog>,
    group: &str,
    topic: &str,
) {
    let mut producer = log.producer("other").unwrap();
    let places = (0..PARTITIONS)
        .filter_map(|partition| Some((producer.committed(group, topic, partition).unwrap()?, partition)));
    let (kept, partition) = places.max().unwrap();
    let end = log.end_offset(topic, partition).unwrap();
    assert!(kept > 2, "{kept} records are few");
    assert!(kept < end || topic != "Order.v1", "there is something to leave out");
    for to in [1, kept + 1, end].into_iter().filter(|to| *to != kept && *to <= end) {
        move_offset(&format!("{prefix}.{group}"), &format!("{prefix}.{topic}"), partition, to);
        for state in [state, &StateStore::in_memory().unwrap()] {
            let error = refusal(spec, state, log);
            let parts = [
                "moved by another program".to_string(),
                format!("group={group} topic={topic} partition={partition} committed={to} "),
                format!("delete the consumer group '{group}'"),
            ];
            for part in parts {
                assert!(error.contains(&part), "'{part}' is missing in: {error}");
            }
        }
    }
    delete_group(&format!("{prefix}.{group}"));
}

#[test]
fn a_moved_offset_is_refused_and_found_again_when_it_is_deleted() {
    let world = World::emitting();
    let sent = events(120);
    let log = log("moved");
    append(&log, sent[..60].iter().map(Sent::batch).collect());
    let state = StateStore::in_memory().unwrap();
    world.engine(&state, &log, 10).run_to_end().unwrap();
    append(&log, sent[60..].iter().map(Sent::batch).collect());
    let route = world.compiled.pipelines["CityStats.compute"].route.as_ref().unwrap().topic.clone();
    for (group, topic) in [
        (format!("thyme-router-{ROUTE}"), "Order.v1"),
        (format!("thyme-emitter-{EMIT_DIRECT}"), "Order.v1"),
        (format!("thyme-emitter-{EMIT_ROUTED}"), route.as_str()),
    ] {
        check_refused("moved", &world.spec(true), &state, &log, &group, topic);
    }
    world.engine(&state, &log, 10).run_to_end().unwrap();
    check(&world, &state, &sent);
    assert_eq!(routed_places(&world, &log), expected_places(&sent));
    check_emitted(&log, &world, &accepted(&sent));
}

#[test]
fn a_moved_offset_of_rows_that_pipelines_read_is_refused() {
    let world = Chained::new();
    // Quarters, so that a sum is the same in any order.
    let quarters = |event: Sent| Sent { amount: (event.amount * 4.0).floor() / 4.0, ..event };
    let sent: Vec<Sent> = events(120).into_iter().map(quarters).collect();
    let log = log("moved-rows");
    append(&log, sent[..60].iter().map(Sent::batch).collect());
    let state = StateStore::in_memory().unwrap();
    world.engine(&state, &log, 10).run_to_end().unwrap();
    append(&log, sent[60..].iter().map(Sent::batch).collect());
    for (reader, topic) in [("UserPeaks.compute", "Order.v1"), ("CityPeaks.compute", world.topic("CityStats.compute"))]
    {
        let group = format!("thyme-router-{}", world.log_id(reader).unwrap());
        check_refused("moved-rows", &world.spec(), &state, &log, &group, topic);
    }
    world.engine(&state, &log, 10).run_to_end().unwrap();
    let kept = accepted(&sent);
    check_logs(&log, &world, &kept);
    check_tables(&state, &log, &world, &kept);
}

/// A version of before the marks: where state or outputs say the same, nothing was moved.
#[test]
fn an_offset_without_a_mark_is_believed_where_nothing_speaks_against_it() {
    let world = World::emitting();
    let sent = events(120);
    let log = log("unmarked");
    append(&log, sent[..60].iter().map(Sent::batch).collect());
    let state = StateStore::in_memory().unwrap();
    world.engine(&state, &log, 10).run_to_end().unwrap();
    let group = format!("thyme-router-{ROUTE}");
    let mut producer = log.producer("other").unwrap();
    for partition in 0..PARTITIONS {
        if let Some(kept) = producer.kept(&group, "Order.v1", partition).unwrap() {
            assert!(kept.is_ours);
            move_offset(&format!("unmarked.{group}"), "unmarked.Order.v1", partition, kept.next);
            let unmarked = producer.kept(&group, "Order.v1", partition).unwrap().unwrap();
            assert_eq!((unmarked.next, unmarked.is_ours), (kept.next, false));
        }
    }
    drop(producer);
    append(&log, sent[60..90].iter().map(Sent::batch).collect());
    // What was sent is told by the outputs to a state that begins anew, and by its own place to the one that sent it.
    let anew = StateStore::in_memory().unwrap();
    let mut engine = Engine::open(anew, log.clone(), EngineOptions::default()).unwrap();
    engine.deploy(&world.spec(true)).unwrap();
    drop(engine);
    world.engine(&state, &log, 10).run_to_end().unwrap();
    append(&log, sent[90..].iter().map(Sent::batch).collect());
    world.engine(&state, &log, 10).run_to_end().unwrap();
    check(&world, &state, &sent);
    assert_eq!(routed_places(&world, &log), expected_places(&sent));
}
