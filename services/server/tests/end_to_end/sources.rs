//! A file source from end to end: followed while it grows, across a restart, bad lines told apart.

use crate::support::*;
use serde_json::{Value as Json, json};
use std::io::Write as _;
use std::path::Path;
use thyme_catalog::{Catalog as _, SqlCatalog};
use thyme_core::Value;
use thyme_core::key::{DEFAULT_PARTITIONS, encode_key, partition};
use thyme_core::record::Record;
use thyme_log::{Batch, EmbeddedLog, EventLog as _, NewRecord};

fn definitions(path: &Path) -> Json {
    let mut definitions = user_definitions();
    definitions["datasets"][0]["source"] = json!({
        "kind": "file", "settings": {"path": path.display().to_string(), "format": "jsonl"}, "every": "1s", "cdc": "append",
    });
    definitions
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn lines(from: usize, to: usize) -> String {
    let all = some_orders(to);
    all.as_array().unwrap()[from..to].iter().map(|order| format!("{order}\n")).collect()
}

async fn wait_accepted(server: &TestServer, count: u64) {
    loop {
        let status = server.get("/api/v1/status").await.ok();
        let accepted = status["datasets"][0]["counts"]["accepted"].as_u64().unwrap_or_default();
        assert!(accepted <= count, "{accepted} of {count}");
        if accepted == count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Both rows, once, with place and reason, and the content of the one whose key is known.
async fn check_dead_letters(server: &TestServer) {
    let dead = server.get("/api/v1/rejected?dataset=Order").await.ok();
    let mut rows: Vec<&Json> = dead["rows"].as_array().unwrap().iter().collect();
    rows.sort_by_key(|row| row["reason"].to_string());
    let [broken, mistyped] = rows.as_slice() else { panic!("{dead}") };
    assert!(broken["reason"].as_str().unwrap().starts_with("line 101: not valid JSON"), "{broken}");
    assert_eq!((&broken["kind"], &broken["row"]), (&json!("source"), &Json::Null));
    assert!(mistyped["reason"].as_str().unwrap().starts_with("line 102: field 'amount': expected float"), "{mistyped}");
    assert!(mistyped["row"].as_str().unwrap().contains("\"much\""), "{mistyped}");
    let status = server.get("/api/v1/status").await.ok();
    assert_eq!(status["datasets"][0]["counts"]["dead_letters"], json!(2));
    assert_eq!(status["datasets"][0]["counts"]["duplicates"], json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_file_is_followed_and_every_line_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.jsonl");
    let data_dir = directory.path().join("data");
    append(&path, &lines(0, 100));
    let server = TestServer::start(&data_dir).await;
    server.commit(&definitions(&path)).await;
    wait_accepted(&server, 100).await;
    append(&path, "this is no JSON\n");
    append(&path, "{\"user_id\": \"u0\", \"ts\": \"2024-01-15T12:00:00Z\", \"amount\": \"much\"}\n");
    append(&path, &lines(100, 150));
    wait_accepted(&server, 150).await;
    let source = &server.get("/api/v1/sources").await.ok()["sources"][0];
    assert_eq!((source["dataset"].as_str(), source["kind"].as_str()), (Some("Order"), Some("file")));
    let events = server.get("/api/v1/events").await.ok();
    let rejected =
        events.as_array().unwrap().iter().find(|event| event["event_type"] == "source.row_rejected").unwrap();
    assert!(rejected["message"].as_str().unwrap().contains("line 101"), "{rejected}");
    check_dead_letters(&server).await;
    assert_eq!(server.get("/api/v1/sources").await.ok()["sources"][0]["rejected"], json!(2));
    server.server.stop().await.unwrap();

    append(&path, &lines(150, 200));
    let server = TestServer::start(&data_dir).await;
    wait_accepted(&server, 200).await;
    let body = server.get("/features?featureset=UserFeatures&uid=u0&ts=2024-01-15T12:59:00Z").await.ok();
    assert_eq!(body["features"]["orders_1h"], json!(30));
    check_dead_letters(&server).await;
    let erased = server.post("/api/v1/erase", &json!({"dataset": "Order", "entity_ids": ["u0"]})).await.ok();
    let position = erased["position"].as_str().unwrap();
    server.get(&format!("/features?featureset=UserFeatures&uid=u1&at_least={position}")).await.ok();
    let left = &server.get("/api/v1/rejected?dataset=Order").await.ok()["rows"];
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    server.server.stop().await.unwrap();
}

async fn state_of(server: &TestServer) -> String {
    server.get("/api/v1/sources").await.ok()["sources"][0]["state"].as_str().unwrap().to_string()
}

async fn accepted_and_duplicates(server: &TestServer) -> (u64, u64) {
    let counts = &server.get("/api/v1/status").await.ok()["datasets"][0]["counts"];
    (counts["accepted"].as_u64().unwrap(), counts["duplicates"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_source_rests_over_a_restart_and_a_reset_one_counts_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.jsonl");
    let data_dir = directory.path().join("data");
    append(&path, &lines(0, 20));
    let server = TestServer::start(&data_dir).await;
    server.commit(&definitions(&path)).await;
    wait_accepted(&server, 20).await;
    let paused = server.post("/api/v1/sources/Order/pause", &json!({})).await.ok();
    assert_eq!(paused["source"]["state"], json!("paused"), "{paused}");
    append(&path, &lines(20, 30));
    let tested = server.post("/api/v1/sources/Order/test?limit=3", &json!({})).await.ok();
    assert_eq!(tested["rows"].as_array().unwrap().len(), 3);
    assert_eq!((&tested["rows"][0]["user_id"], &tested["has_more"]), (&json!("u0"), &json!(true)));
    assert_eq!(tested["rejected"], json!([]));
    server.server.stop().await.unwrap();

    let server = TestServer::start(&data_dir).await;
    while state_of(&server).await != "paused" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // Longer than it polls every.
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    assert_eq!(accepted_and_duplicates(&server).await, (20, 0));
    server.post("/api/v1/sources/Order/resume", &json!({})).await.ok();
    wait_accepted(&server, 30).await;
    assert_eq!(accepted_and_duplicates(&server).await, (30, 0));

    server.post("/api/v1/sources/Order/reset", &json!({})).await.ok();
    while accepted_and_duplicates(&server).await != (30, 30) {
        assert_eq!(accepted_and_duplicates(&server).await.0, 30);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let events = server.get("/api/v1/events").await.ok();
    let seen = |name: &str| events.as_array().unwrap().iter().any(|event| event["event_type"] == name);
    assert!(seen("source.paused") && seen("source.resumed") && seen("source.reset"), "{events}");
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_to_a_source_that_cannot_be_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.jsonl");
    let server = TestServer::start(&directory.path().join("data")).await;
    server.commit(&definitions(&path)).await;
    let unknown = server.post("/api/v1/sources/Ordr/pause", &json!({})).await.problem(404, "not_found");
    assert!(unknown.to_string().contains("did you mean 'Order'?"), "{unknown}");
    let none = server.post("/api/v1/sources/UserStats/reset", &json!({})).await.problem(409, "failed_precondition");
    assert!(none.to_string().contains("dataset 'UserStats' has no source"), "{none}");
    let missing = server.post("/api/v1/sources/Order/test", &json!({})).await.problem(404, "not_found");
    assert!(missing.to_string().contains("cannot read"), "{missing}");
    append(&path, "{\"user_id\": \"u0\", \"ts\": \"never\", \"amount\": 1, \"category\": \"toys\"}\n");
    let tested = server.post("/api/v1/sources/Order/test", &json!({})).await.ok();
    assert_eq!((&tested["rows"], &tested["rejected"][0]["place"]), (&json!([]), &json!("line 1")));
    server.post("/api/v1/sources/Order/test?limit=x", &json!({})).await.problem(400, "invalid_argument");
    let mut written = definitions(&path);
    written["datasets"][0]["source"] = json!({
        "kind": "postgres", "settings": {"table": "orders", "password": "hunter2"}, "cdc": "append",
    });
    let refused = server.post("/api/v1/commit", &json!({"definitions": written})).await;
    assert!(refused.status == 422 && refused.text().contains("a secret is not written into a definition"));
    assert!(!refused.text().contains("hunter2"), "{}", refused.text());
    server.server.stop().await.unwrap();
}

/// Of a server that does not run.
async fn catalog(data_dir: &Path) -> SqlCatalog {
    SqlCatalog::sqlite(&data_dir.join("catalog.db")).await.unwrap()
}

async fn put_back(data_dir: &Path, saved: &str) {
    let catalog = catalog(data_dir).await;
    catalog.save_cursor("Order@1", saved, 0).await.unwrap();
    catalog.close().await;
}

/// Something is appended to each partition, long after all else.
async fn years_later(data_dir: &Path) {
    let log = EmbeddedLog::open(data_dir.join("log")).unwrap();
    for wanted in 0..DEFAULT_PARTITIONS {
        let mut keys = (0..1000).map(|number| encode_key(&[Value::str(format!("nobody {number}"))]).unwrap());
        let key = keys.find(|key| partition(key, DEFAULT_PARTITIONS) == wanted).unwrap();
        let erase = Record::Erase { append_time: 4_000_000_000_000_000 }.encode();
        let records = vec![NewRecord::new(key, erase)];
        log.append(vec![Batch { topic: "Order.v1".to_string(), partition: wanted, records }]).await.unwrap();
    }
    log.close();
}

/// A server that dies when rows are published and their cursor is not saved, and comes back when the engine has forgotten their ids.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_published_before_a_halt_of_any_length_count_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.jsonl");
    let data_dir = directory.path().join("data");
    append(&path, &lines(0, 50));
    let server = TestServer::start(&data_dir).await;
    server.commit(&definitions(&path)).await;
    wait_accepted(&server, 50).await;
    server.server.stop().await.unwrap();
    let of_fifty = catalog(&data_dir).await;
    let saved = of_fifty.cursor("Order@1").await.unwrap().unwrap();
    of_fifty.close().await;

    append(&path, &lines(50, 100));
    append(&path, "this is no JSON\n");
    let server = TestServer::start(&data_dir).await;
    wait_accepted(&server, 100).await;
    server.server.stop().await.unwrap();
    years_later(&data_dir).await;

    put_back(&data_dir, &saved).await;
    append(&path, &lines(100, 110));
    let server = TestServer::start(&data_dir).await;
    wait_accepted(&server, 110).await;
    let counts = server.get("/api/v1/status").await.ok()["datasets"][0]["counts"].clone();
    assert_eq!((&counts["duplicates"], &counts["dead_letters"]), (&json!(0), &json!(1)), "{counts}");
    server.server.stop().await.unwrap();

    // A version of before kept no place in the log: then it is the engine that knows the ids, those that it has not forgotten.
    let saved: Json = serde_json::from_str(&saved).unwrap();
    put_back(&data_dir, saved["cursor"].as_str().unwrap()).await;
    let server = TestServer::start(&data_dir).await;
    while accepted_and_duplicates(&server).await != (160, 10) {
        assert!(accepted_and_duplicates(&server).await.0 <= 160);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.server.stop().await.unwrap();
}
