//! The ingestor and its gRPC service over a real log.

use crate::grpc::service;
use crate::{EraseWatch, GivenKey, Ingestor, RowIds, Rows, Target, Targets, parse_call_id};
use futures::StreamExt as _;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use thyme_core::definition::{Definitions, compile};
use thyme_core::position::PositionSet;
use thyme_core::record::{EventId, Record};
use thyme_core::time::{Clock, Micros};
use thyme_core::{ErrorKind, Value, key};
use thyme_log::{EmbeddedLog, EventLog};
use thyme_proto::convert::value_to_wire;
use thyme_proto::v1;

struct Steps(AtomicI64);

impl Clock for Steps {
    fn now(&self) -> Micros {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// `Order` by user, `Visit` by (user, shop) and regrouped by shop, and what they are aggregated into.
fn definitions() -> Definitions {
    let field = |name: &str, data_type: &str, kind: &str| json!({"name": name, "type": data_type, "key": kind == "key", "timestamp": kind == "time", "nullable": kind == "optional"});
    let stats = |name: &str, group: &str, input: &str| {
        let dataset = json!({"name": name, "version": 1, "index": true,
            "fields": [field(group, "str", "key"), field("ts", "datetime", "time"), field("n", "int", "")]});
        let pipeline = json!({"name": "compute", "version": 1, "dataset": name, "input": input, "group_by": [group],
            "aggregates": [{"name": "n", "op": {"kind": "count"}, "window": "1h"}]});
        (dataset, pipeline)
    };
    let (by_user, count_users) = stats("UserStats", "user_id", "Order");
    let (by_shop, count_shops) = stats("ShopStats", "shop", "Visit");
    let order = json!({"name": "Order", "version": 1, "index": false, "fields": [
        field("user_id", "str", "key"), field("ts", "datetime", "time"), field("amount", "float", "optional")]});
    let visit = json!({"name": "Visit", "version": 2, "index": false, "fields": [
        field("user_id", "str", "key"), field("shop", "str", "key"), field("ts", "datetime", "time")]});
    let all =
        json!({"format": 1, "datasets": [order, visit, by_user, by_shop], "pipelines": [count_users, count_shops]});
    serde_json::from_value(all).unwrap()
}

fn ingestor() -> (Arc<Ingestor>, Arc<EmbeddedLog>) {
    let compiled = compile(&definitions()).unwrap();
    let log = Arc::new(EmbeddedLog::in_memory().unwrap());
    for dataset in compiled.datasets.values().filter(|dataset| dataset.is_raw()) {
        log.create_topic(&dataset.topic(), dataset.partitions).unwrap();
    }
    let ingestor = Ingestor::new(log.clone(), Arc::new(Steps(AtomicI64::new(1_000_000))));
    let log_id = |identity: &str| Ok(if identity == "log:Order@1" { 3 } else { 4 });
    ingestor.deploy(Targets::new(&compiled, log_id).unwrap());
    (Arc::new(ingestor), log)
}

fn orders(users: &[&str]) -> Rows {
    Rows::Json(users.iter().map(|user| json!({"user_id": user, "ts": "2024-01-15T12:00:00Z", "amount": 1})).collect())
}

/// All records of a topic: partition, key, value.
fn records(log: &EmbeddedLog, topic: &str) -> Vec<(u16, Vec<Value>, Vec<u8>)> {
    let mut all = Vec::new();
    for partition in 0..4 {
        for record in log.read(topic, partition, 0, 1000, 1 << 20).unwrap() {
            all.push((partition, key::decode_key(&record.key).unwrap(), record.value.to_vec()));
        }
    }
    all
}

#[tokio::test]
async fn rows_land_in_the_partition_of_their_key_and_the_position_covers_them() {
    let (ingestor, log) = ingestor();
    let call = parse_call_id("00000000-0000-0000-0000-000000000007").unwrap();
    let ids = RowIds { call: call.map(|call| (call, 0)), ..RowIds::default() };
    let users = ["a", "b", "c", "d", "e", "f"];
    let receipt = ingestor.ingest("Order", orders(&users), &ids).await.unwrap();
    assert_eq!((receipt.accepted, receipt.rejected.len()), (6, 0));
    let sent = records(&log, "Order.v1");
    assert_eq!(sent.len(), 6);
    for (partition, key, value) in &sent {
        assert_eq!(*partition, key::partition(&key::encode_key(key).unwrap(), 4));
        let Record::Event { append_time, id, .. } = Record::decode(value).unwrap() else { panic!() };
        assert_eq!(append_time, 1_000_000, "one stamp for the call");
        let row = users.iter().position(|user| key[0] == Value::str(*user)).unwrap() as u32;
        assert_eq!(id, EventId::Call { call: 7, row });
    }
    for partition in 0..4 {
        let end = log.end_offset("Order.v1", partition).unwrap();
        assert_eq!(receipt.position.get(3, partition), Some(end).filter(|end| *end > 0));
    }
    let next = ingestor.ingest("Order", orders(&["a"]), &ids).await.unwrap();
    assert_eq!(next.position.0.len(), 1, "only the partitions that were written");
}

#[tokio::test]
async fn a_wrong_call_is_refused_and_writes_nothing() {
    let (ingestor, log) = ingestor();
    let refused = [
        ("Ordr", RowIds::default(), ErrorKind::NotFound, "unknown dataset 'Ordr'"),
        (
            "UserStats",
            RowIds::default(),
            ErrorKind::FailedPrecondition,
            "dataset 'UserStats' is filled by its pipelines and takes no rows of its own",
        ),
        (
            "Order",
            RowIds { event_ids: vec!["x".into()], ..RowIds::default() },
            ErrorKind::InvalidArgument,
            "1 event_ids for 2 rows",
        ),
    ];
    for (dataset, ids, kind, message) in refused {
        let error = ingestor.ingest(dataset, orders(&["a", "b"]), &ids).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (kind, message));
        assert!(error.hint_text().is_some(), "{error}");
    }
    assert_eq!(parse_call_id("7").unwrap_err().field_name(), Some("call_id"));
    assert_eq!(parse_call_id("").unwrap(), None);
    assert!(records(&log, "Order.v1").is_empty());
    let receipt = ingestor.ingest("Order", Rows::Json(vec![json!({}), json!(3)]), &RowIds::default()).await.unwrap();
    assert_eq!((receipt.accepted, receipt.rejected.len(), receipt.position.0.len()), (0, 2, 0));
}

#[tokio::test]
async fn erase_writes_one_record_per_key_and_says_what_is_pending() {
    let (ingestor, log) = ingestor();
    let keys = vec![GivenKey::Json(json!("a")), GivenKey::Named(BTreeMap::from([("user_id".into(), Value::str("b"))]))];
    let receipt = ingestor.erase("Order", keys).await.unwrap();
    assert_eq!((receipt.erased, receipt.pending), (2, false));
    let mut erased: Vec<Value> = Vec::new();
    for (partition, key, value) in records(&log, "Order.v1") {
        assert!(matches!(Record::decode(&value).unwrap(), Record::Erase { append_time: 1_000_000 }));
        assert_eq!(partition, key::partition(&key::encode_key(&key).unwrap(), 4));
        erased.extend(key);
    }
    erased.sort();
    assert_eq!(erased, [Value::str("a"), Value::str("b")]);
    let wrong = [
        (json!(1), "key 0: expected str, got 1"),
        (json!({"user": "a"}), "key 0: 'user' is no key field of dataset 'Order'"),
        (json!({}), "key 0: the key field 'user_id' is missing or null"),
        (json!(null), "key 0: the key field 'user_id' is missing or null"),
    ];
    for (key, message) in wrong {
        let error = ingestor.erase("Order", vec![GivenKey::Json(key)]).await.unwrap_err();
        assert_eq!(error.message(), message);
    }
}

/// As an engine that has read so far says it.
struct Read(Option<Vec<u64>>);

#[tonic::async_trait]
impl EraseWatch for Read {
    async fn erased_below(&self, target: &Target) -> thyme_core::Result<Option<Vec<u64>>> {
        assert_eq!((target.topic.as_str(), target.log), ("Visit.v2", 4));
        Ok(self.0.clone())
    }
}

/// `Visit` is regrouped by shop, into a table that knows the erases below these places.
async fn is_pending(known: &[u64], read: Option<&[u64]>) -> bool {
    let mut definitions = definitions();
    definitions.erased.insert("Visit@2".to_string(), known.to_vec());
    let compiled = compile(&definitions).unwrap();
    let log = Arc::new(EmbeddedLog::in_memory().unwrap());
    let watch = Arc::new(Read(read.map(<[u64]>::to_vec)));
    let ingestor = Ingestor::new(log.clone(), Arc::new(Steps(AtomicI64::new(1)))).with_erase_watch(watch);
    ingestor.deploy(Targets::new(&compiled, |_| Ok(4)).unwrap());
    let asked = ingestor.erase("Visit", Vec::new()).await.unwrap();
    assert_eq!((asked.erased, asked.position.0.len(), log.topics().unwrap().len()), (0, 0, 0), "nothing is written");
    assert!(!ingestor.erase("Order", Vec::new()).await.unwrap().pending, "a dataset that nothing regroups");
    log.create_topic("Visit.v2", 4).unwrap();
    let key = GivenKey::Json(json!({"user_id": "a", "shop": "s"}));
    assert!(ingestor.erase("Visit", vec![key]).await.unwrap().pending, "it is in no table yet");
    asked.pending
}

#[tokio::test]
async fn an_erase_is_pending_until_every_table_knows_it() {
    assert!(!is_pending(&[], Some(&[0, 0, 0, 0])).await);
    assert!(is_pending(&[], Some(&[0, 7, 0, 0])).await);
    assert!(is_pending(&[9, 6, 0, 0], Some(&[9, 7, 0, 0])).await);
    assert!(!is_pending(&[9, 7, 0, 0], Some(&[9, 7, 0, 0])).await);
    assert!(!is_pending(&[9, 7, 0, 0], Some(&[3, 7, 0, 0])).await, "a state that was restored");
    assert!(is_pending(&[9, 7, 0, 0], None).await, "what the engine has not read is not known");
}

/// The service behind a real listener on a free port of the loopback, and a client.
async fn client(ingestor: Arc<Ingestor>) -> v1::ingest_service_client::IngestServiceClient<tonic::transport::Channel> {
    let listener = tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let router = tonic::transport::Server::builder().add_service(service(ingestor));
    tokio::spawn(router.serve_with_incoming(listener));
    v1::ingest_service_client::IngestServiceClient::connect(format!("http://{address}")).await.unwrap()
}

fn wire_row(user: &str, amount: v1::Value) -> v1::Row {
    let fields = [
        ("user_id", value_to_wire(&Value::str(user))),
        ("ts", value_to_wire(&Value::Time(1_705_320_000_000_000))),
        ("amount", amount),
    ];
    v1::Row { fields: fields.map(|(name, value)| (name.to_string(), value)).into() }
}

fn request(rows: Vec<v1::Row>) -> v1::IngestRequest {
    let payload = Some(v1::ingest_request::Payload::Rows(v1::RowList { rows }));
    v1::IngestRequest { dataset: "Order".into(), payload, event_ids: vec![], call_id: String::new(), first_row: 0 }
}

#[tokio::test]
async fn grpc_keeps_good_rows_and_tells_what_is_wrong_with_the_others() {
    let (ingestor, log) = ingestor();
    let mut client = client(ingestor).await;
    let nan = v1::Value { kind: Some(v1::value::Kind::DoubleValue(f64::NAN)) };
    let rows = vec![
        wire_row("a", value_to_wire(&Value::Int(2))),
        wire_row("b", nan),
        wire_row("c", value_to_wire(&Value::Null)),
    ];
    let answer = client.ingest(request(rows)).await.unwrap().into_inner();
    assert_eq!(answer.accepted, 2);
    assert_eq!((answer.rejected[0].index, answer.rejected[0].field.as_str()), (1, "amount"));
    assert!(answer.rejected[0].reason.contains("'amount': NaN is not a value"));
    assert!(answer.position.starts_with('p'));
    assert_eq!(records(&log, "Order.v1").len(), 2);

    let unknown = v1::IngestRequest { dataset: "Ordre".into(), ..request(vec![]) };
    let error = thyme_proto::status::from_status(&client.ingest(unknown).await.unwrap_err());
    assert_eq!((error.kind(), error.field_name()), (ErrorKind::NotFound, Some("dataset")));
    assert_eq!(error.hint_text(), Some("did you mean 'Order'?"));

    let huge = wire_row(&"x".repeat(crate::grpc::MAX_MESSAGE_BYTES + 1), value_to_wire(&Value::Null));
    let status = client.ingest(request(vec![huge])).await.unwrap_err();
    assert!(status.message().contains("message length too large"), "{status:?}");
    assert_eq!(records(&log, "Order.v1").len(), 2);
}

/// As on a broker that has just come up: the dataset is committed, and the log does not list its topic for a moment.
#[tokio::test]
async fn rows_of_a_dataset_whose_topic_is_not_listed_are_to_be_sent_again() {
    let compiled = compile(&definitions()).unwrap();
    let log = Arc::new(EmbeddedLog::in_memory().unwrap());
    let ingestor = Ingestor::new(log.clone(), Arc::new(Steps(AtomicI64::new(1))));
    ingestor.deploy(Targets::new(&compiled, |_| Ok(3)).unwrap());
    let ingestor = Arc::new(ingestor);
    let mut client = client(ingestor.clone()).await;
    let rows = || request(vec![wire_row("ann", value_to_wire(&Value::Null))]);

    let error = thyme_proto::status::from_status(&client.ingest(rows()).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().starts_with("the log of dataset 'Order' is not there yet: no topic"), "{error}");
    assert!(error.hint_text().unwrap().starts_with("try again: a broker that has just come up"), "{error}");
    let error = ingestor.erase("Order", vec![GivenKey::Json(json!("ann"))]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let unknown = v1::IngestRequest { dataset: "Ordre".into(), ..rows() };
    assert_eq!(client.ingest(unknown).await.unwrap_err().code(), tonic::Code::NotFound);

    log.create_topic("Order.v1", 4).unwrap();
    assert_eq!(client.ingest(rows()).await.unwrap().into_inner().accepted, 1);
}

#[tokio::test]
async fn a_stream_is_answered_in_order_until_its_first_error() {
    let (ingestor, log) = ingestor();
    let mut client = client(ingestor).await;
    let message = |sequence: u64, dataset: &str| {
        let rows = vec![wire_row(&format!("u{sequence}"), value_to_wire(&Value::Null))];
        let request = v1::IngestRequest { dataset: dataset.into(), ..request(rows) };
        v1::IngestStreamRequest { sequence, request: Some(request) }
    };
    let sent = vec![message(5, "Order"), message(6, "Order"), message(7, "None"), message(8, "Order")];
    let mut answers = client.ingest_stream(futures::stream::iter(sent)).await.unwrap().into_inner();
    for sequence in [5, 6] {
        let answer = answers.message().await.unwrap().unwrap();
        let response = answer.response.unwrap();
        assert_eq!((answer.sequence, response.accepted), (sequence, 1));
        let user = [Value::str(format!("u{sequence}"))];
        let partition = key::partition(&key::encode_key(&user).unwrap(), 4);
        let written = log.read("Order.v1", partition, 0, 1000, 1 << 20).unwrap();
        let record = written.iter().find(|record| key::decode_key(&record.key).unwrap() == user).unwrap();
        let position = PositionSet::decode(&response.position).unwrap();
        assert_eq!(
            position.0,
            BTreeMap::from([((3, partition), record.offset + 1)]),
            "what this message wrote, and no more"
        );
    }
    assert_eq!(answers.message().await.unwrap_err().code(), tonic::Code::NotFound);
    assert_eq!(records(&log, "Order.v1").len(), 2);
}

#[tokio::test]
async fn a_stream_ends_at_the_callers_deadline_and_says_so() {
    let (ingestor, log) = ingestor();
    let mut client = client(ingestor).await;
    let request =
        v1::IngestRequest { dataset: "Order".into(), ..request(vec![wire_row("ann", value_to_wire(&Value::Null))]) };
    let first = futures::stream::iter([v1::IngestStreamRequest { sequence: 1, request: Some(request) }]);
    let mut call = tonic::Request::new(first.chain(futures::stream::pending()));
    call.set_timeout(std::time::Duration::from_millis(300));
    let mut answers = client.ingest_stream(call).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().sequence, 1);
    let ended = answers.message().await.unwrap_err();
    assert_eq!(ended.code(), tonic::Code::DeadlineExceeded);
    assert!(ended.message().contains("the deadline passed before the rows were durable"), "{}", ended.message());
    assert_eq!(records(&log, "Order.v1").len(), 1);
}
