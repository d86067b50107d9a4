//! One broker for all tests of this binary; each test has a prefix of its own.

mod moved;

use crate::common::chained::{Chained, PIPELINES, check_logs, check_others, check_tables};
use crate::common::emitted::check_emitted;
use crate::common::*;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use thyme_broker::Broker;
use thyme_core::Value;
use thyme_core::key::encode_key;
use thyme_core::record::{EventId, Record};
use thyme_engine::{Engine, EngineOptions};
use thyme_log::model::FaultyLog;
use thyme_log::{CommitOutcome, EmbeddedLog, EventLog, KafkaLog, KafkaSettings};
use thyme_state::StateStore;

static BROKER: LazyLock<Broker> = LazyLock::new(|| Broker::start().unwrap());

fn log(prefix: &str) -> Arc<dyn EventLog> {
    let url = format!("kafka://{}/{prefix}", BROKER.address);
    Arc::new(KafkaLog::open(KafkaSettings::parse(&url, None, BTreeMap::new()).unwrap()).unwrap())
}

/// Events in no particular order of time, some with ids that repeat, some late, some too far ahead.
fn events(count: u64) -> Vec<Sent> {
    let event = |number: u64| {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        Sent {
            user: format!("u{}", mixed % 5),
            time: 1_700_000_000_000_000 + (mixed % 30) as i64 * HOUR / 2,
            amount: (mixed % 400) as f64 / 100.0,
            city: (!mixed.is_multiple_of(9)).then(|| format!("c{}", mixed % 3)),
            id: if mixed.is_multiple_of(4) { EventId::Given(vec![(mixed % 11) as u8].into()) } else { EventId::None },
            append_time: 1_700_000_000_000_000,
        }
    };
    (0..count).map(event).collect()
}

fn check(world: &World, state: &Arc<StateStore>, sent: &[Sent]) {
    let kept = accepted(sent);
    assert!(kept.len() > sent.len() / 10 && kept.len() < sent.len(), "some are refused, some are not");
    for number in 0..5 {
        let user = format!("u{number}");
        let key = encode_key(&[Value::str(user.as_str())]).unwrap();
        let raw = essence(&stored(state, &world.raw, &key), 2);
        assert_eq!(raw, expected(&kept, |event| event.user == user));
    }
    for number in 0..3 {
        let city = format!("c{number}");
        let key = encode_key(&[Value::str(city.as_str())]).unwrap();
        let routed = essence(&stored(state, &world.routed, &key), 0);
        assert_eq!(routed, expected(&kept, |event| event.city.as_ref() == Some(&city)));
    }
}

/// The original places of all records of the repartition log, sorted: what a consumer of committed records sees.
fn routed_places(world: &World, log: &Arc<dyn EventLog>) -> Vec<(u16, u64)> {
    let topic = &world.compiled.pipelines["CityStats.compute"].route.as_ref().unwrap().topic;
    let mut places = Vec::new();
    for partition in 0..PARTITIONS {
        let mut from = 0;
        while let Some(records) =
            Some(log.read(topic, partition, from, 1000, 1 << 20).unwrap()).filter(|records| !records.is_empty())
        {
            from = records.last().unwrap().offset + 1;
            for record in records {
                if let Ok(Record::Routed { origin, .. }) = Record::decode(&record.value) {
                    places.push((origin.partition, origin.offset));
                }
            }
        }
    }
    places.sort_unstable();
    places
}

fn expected_places(sent: &[Sent]) -> Vec<(u16, u64)> {
    let kept = accepted(sent).into_iter().filter(|(_, event)| event.city.is_some());
    let mut places: Vec<(u16, u64)> = kept.map(|(position, _)| (position.partition, position.offset)).collect();
    places.sort_unstable();
    places
}

#[test]
fn rows_are_those_of_the_embedded_log_through_restarts_and_lost_transactions() {
    let world = World::emitting();
    let sent = events(240);
    let calm = StateStore::in_memory().unwrap();
    let embedded: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    append(&embedded, sent.iter().map(Sent::batch).collect());
    world.engine(&calm, &embedded, 1_000).run_to_end().unwrap();

    let inner = log("restarts");
    let faulty = Arc::new(FaultyLog::seeded_commits(inner.clone(), 5, 3));
    let broken: Arc<dyn EventLog> = faulty.clone();
    let stormy = StateStore::in_memory().unwrap();
    for (part, size) in sent.chunks(80).zip([3, 11, 50]) {
        append(&inner, part.iter().map(Sent::batch).collect());
        // A new engine on the same state each time: the old one simply vanished.
        let mut engine = world.engine(&stormy, &broken, size);
        for _ in 0..4 {
            let _ = engine.step();
        }
    }
    assert!(!faulty.injected().is_empty());
    faulty.heal();
    world.engine(&stormy, &broken, 7).run_to_end().unwrap();

    check(&world, &stormy, &sent);
    assert_eq!(calm.digest(&world.raw).unwrap(), stormy.digest(&world.raw).unwrap());
    assert_eq!(calm.digest(&world.direct).unwrap(), stormy.digest(&world.direct).unwrap());
    assert_eq!(routed_places(&world, &inner), expected_places(&sent));
    check_emitted(&inner, &world, &accepted(&sent));

    let again = StateStore::in_memory().unwrap();
    world.engine(&again, &inner, 11).run_to_end().unwrap();
    assert_eq!(again.digest(&world.routed).unwrap(), stormy.digest(&world.routed).unwrap());
    assert_eq!(routed_places(&world, &inner), expected_places(&sent));
    check_emitted(&inner, &world, &accepted(&sent));
}

#[test]
fn offsets_that_the_broker_has_forgotten_are_found_in_the_outputs() {
    let world = World::emitting();
    let sent = events(120);
    let log = log("forgotten");
    append(&log, sent[..60].iter().map(Sent::batch).collect());
    let state = StateStore::in_memory().unwrap();
    world.engine(&state, &log, 10).run_to_end().unwrap();

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &BROKER.address).create().unwrap();
    let router = format!("forgotten.thyme-router-{ROUTE}");
    let emitters = [EMIT_DIRECT, EMIT_ROUTED].map(|id| format!("forgotten.thyme-emitter-{id}"));
    let groups = [router.as_str(), emitters[0].as_str(), emitters[1].as_str()];
    let forget = || {
        let results = futures_block(admin.delete_groups(&groups, &AdminOptions::new())).unwrap();
        assert_eq!(results.len(), groups.len());
        results.into_iter().for_each(|result| assert!(groups.contains(&result.unwrap().as_str())));
        let kept = log.producer("other").unwrap().committed(&format!("thyme-router-{ROUTE}"), "Order.v1", 0).unwrap();
        assert_eq!(kept, None);
    };
    forget();
    append(&log, sent[60..].iter().map(Sent::batch).collect());
    world.engine(&state, &log, 10).run_to_end().unwrap();
    check(&world, &state, &sent);
    assert_eq!(routed_places(&world, &log), expected_places(&sent));
    check_emitted(&log, &world, &accepted(&sent));

    // The state is lost as well: nothing is sent twice.
    forget();
    let again = StateStore::in_memory().unwrap();
    world.engine(&again, &log, 10).run_to_end().unwrap();
    check(&world, &again, &sent);
    assert_eq!(routed_places(&world, &log), expected_places(&sent));
    assert_eq!(again.digest(&world.routed).unwrap(), state.digest(&world.routed).unwrap());
    check_emitted(&log, &world, &accepted(&sent));
}

/// Pipelines on the rows of others, through restarts, lost transactions, and a broker that forgets where the rows were.
#[test]
fn rows_of_rows_are_there_once_also_when_offsets_were_forgotten() {
    let world = Chained::new();
    // Quarters, so that a sum is the same in any order.
    let quarters = |event: Sent| Sent { amount: (event.amount * 4.0).floor() / 4.0, ..event };
    let sent: Vec<Sent> = events(240).into_iter().map(quarters).collect();
    let inner = log("chains");
    let faulty = Arc::new(FaultyLog::seeded_commits(inner.clone(), 9, 3));
    let broken: Arc<dyn EventLog> = faulty.clone();
    let state = StateStore::in_memory().unwrap();
    for (part, size) in sent[..180].chunks(60).zip([3, 11, 50]) {
        append(&inner, part.iter().map(Sent::batch).collect());
        let mut engine = world.engine(&state, &broken, size);
        for _ in 0..5 {
            let _ = engine.step();
        }
    }
    faulty.heal();
    world.engine(&state, &broken, 7).run_to_end().unwrap();
    let kept = accepted(&sent[..180]);
    check_logs(&inner, &world, &kept);
    check_tables(&state, &inner, &world, &kept);

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &BROKER.address).create().unwrap();
    let logs = PIPELINES.iter().filter_map(|name| world.log_id(name));
    let groups: Vec<String> = logs.map(|id| format!("chains.thyme-router-{id}")).collect();
    assert_eq!(groups.len(), 5);
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    for result in futures_block(admin.delete_groups(&groups, &AdminOptions::new())).unwrap() {
        result.unwrap();
    }
    append(&inner, sent[180..].iter().map(Sent::batch).collect());
    world.engine(&state, &inner, 10).run_to_end().unwrap();
    let kept = accepted(&sent);
    check_logs(&inner, &world, &kept);
    check_tables(&state, &inner, &world, &kept);
    check_others(&inner, &state, &world);
}

#[test]
fn offsets_of_another_log_are_refused() {
    let world = World::new();
    let log = log("foreign");
    append(&log, events(10).iter().map(Sent::batch).collect());
    let mut producer = log.producer("somebody").unwrap();
    producer.begin().unwrap();
    producer.send_offset(&format!("thyme-router-{ROUTE}"), "Order.v1", 1, 999).unwrap();
    assert!(matches!(producer.commit(), CommitOutcome::Committed));
    let state = StateStore::in_memory().unwrap();
    let mut engine = Engine::open(state, log, EngineOptions::default()).unwrap();
    let error = engine.deploy(&world.spec(true)).unwrap_err().to_string();
    for part in ["group=thyme-router-4", "topic=Order.v1", "partition=1", "committed=999", "end=", "another prefix"] {
        assert!(error.contains(part), "'{part}' is missing in: {error}");
    }
}

#[test]
fn a_state_knows_its_log() {
    let world = World::new();
    let first = log("first");
    append(&first, events(10).iter().map(Sent::batch).collect());
    let state = StateStore::in_memory().unwrap();
    world.engine(&state, &first, 10).run_to_end().unwrap();
    world.engine(&state, &first, 10).run_to_end().unwrap();
    let embedded: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    for (other, name) in [(log("second"), "/second"), (embedded.clone(), "log=embedded")] {
        let error = Engine::open(state.clone(), other, EngineOptions::default()).err().unwrap().to_string();
        assert!(error.contains("made from another log") && error.contains("/first"), "{error}");
        assert!(error.contains(name) && error.contains("log.url"), "{error}");
    }
    let of_embedded = StateStore::in_memory().unwrap();
    append(&embedded, events(10).iter().map(Sent::batch).collect());
    world.engine(&of_embedded, &embedded, 10).run_to_end().unwrap();
    let error = Engine::open(of_embedded, first, EngineOptions::default()).err().unwrap().to_string();
    assert!(error.contains("state=embedded"), "{error}");
}

/// Writes what is no record of ours, as any other program may: null key, null value, headers.
fn foreign(topic: &str, partition: i32) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &BROKER.address).create().unwrap();
    let text = b"{\"user\": \"ann\"}".as_slice();
    let header = OwnedHeaders::new().insert(Header { key: "from", value: Some("elsewhere") });
    for (key, value) in [(None, Some(text)), (Some(b"ann".as_slice()), Some(text)), (None, None), (Some(text), None)] {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).headers(header.clone());
        record.key = key;
        record.payload = value;
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

#[test]
fn records_of_foreign_producers_are_dead_letters_and_every_shard_goes_on() {
    let world = World::new();
    let route = world.compiled.pipelines["CityStats.compute"].route.as_ref().unwrap().topic.clone();
    let sent = events(120);
    let log = log("poison");
    append(&log, sent[..60].iter().map(Sent::batch).collect());
    let state = StateStore::in_memory().unwrap();
    world.engine(&state, &log, 10).run_to_end().unwrap();
    for partition in 0..PARTITIONS {
        foreign("poison.Order.v1", i32::from(partition));
        foreign(&format!("poison.{route}"), i32::from(partition));
    }
    append(&log, sent[60..].iter().map(Sent::batch).collect());
    world.engine(&state, &log, 10).run_to_end().unwrap();

    // The same events without the foreign records between them: offsets differ, rows do not.
    let calm = StateStore::in_memory().unwrap();
    let embedded: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    append(&embedded, sent.iter().map(Sent::batch).collect());
    world.engine(&calm, &embedded, 1_000).run_to_end().unwrap();
    let rows = |state: &Arc<StateStore>, table, name: &str, amount| -> Vec<(i64, Value)> {
        let key = encode_key(&[Value::str(name)]).unwrap();
        essence(&stored(state, table, &key), amount).into_iter().map(|(time, _, value)| (time, value)).collect()
    };
    for user in (0..5).map(|user| format!("u{user}")) {
        assert_eq!(rows(&state, &world.raw, &user, 2), rows(&calm, &world.raw, &user, 2));
    }
    for city in (0..3).map(|city| format!("c{city}")) {
        let mut found = (rows(&state, &world.routed, &city, 0), rows(&calm, &world.routed, &city, 0));
        // Ties go by place, which the foreign records have moved.
        found.0.sort_by_key(|(time, value)| (*time, format!("{value:?}")));
        found.1.sort_by_key(|(time, value)| (*time, format!("{value:?}")));
        assert_eq!(found.0, found.1);
    }
    for log_id in [LOG, ROUTE] {
        let dead = state.snapshot().dead_letters(log_id, None, 100).unwrap();
        assert_eq!(dead.len(), 4 * usize::from(PARTITIONS), "{dead:?}");
    }
    assert!(!routed_places(&world, &log).is_empty());
}
