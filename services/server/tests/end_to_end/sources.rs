//! A file source from end to end: followed while it grows, across a restart, bad lines told apart.

use crate::support::*;
use serde_json::{Value as Json, json};
use std::io::Write as _;
use std::path::Path;

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
