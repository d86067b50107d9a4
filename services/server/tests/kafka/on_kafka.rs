//! Each test has a broker of its own, since each takes it away.

mod shared;

use crate::support::*;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use thyme_broker::Broker;
use thyme_core::ErrorKind;
use thyme_log::{EventLog as _, KafkaLog, KafkaSettings, Presence};
use thyme_query::NoExtractors;
use thyme_server::config::LogConfig;
use thyme_server::{Config, Server};

fn config(data_dir: &Path, broker: &Broker, prefix: &str) -> Config {
    let impatient = BTreeMap::from([("message.timeout.ms".to_string(), "1500".to_string())]);
    let url = format!("kafka://{}/{prefix}", broker.address);
    let settings = KafkaSettings::parse(&url, None, impatient).unwrap();
    Config { log: LogConfig::Kafka(settings), ..Config::ephemeral(data_dir).unwrap() }
}

/// Sees who says that it answers for slices.
fn presence(broker: &Broker, prefix: &str) -> Box<dyn Presence> {
    let settings = KafkaSettings::parse(&format!("kafka://{}/{prefix}", broker.address), None, BTreeMap::new());
    KafkaLog::open(settings.unwrap())
        .unwrap()
        .presence(thyme_log::Node { id: "nobody".to_string(), url: "http://nobody".to_string() })
        .unwrap()
}

async fn start(data_dir: &Path, broker: &Broker, prefix: &str) -> TestServer {
    let server = Server::start(config(data_dir, broker, prefix), Arc::new(NoExtractors)).await.unwrap();
    let server = TestServer { server };
    // A server of another name before it may count as the owner for as long as the session timeout.
    wait_until(&server, |status| status["roles"].as_array().unwrap().contains(&json!("engine"))).await;
    wait_until(&server, |status| status["state"] == "ready").await;
    server
}

async fn wait_until(server: &TestServer, holds: impl Fn(&Json) -> bool) {
    for _ in 0..600 {
        if holds(&server.get("/api/v1/status").await.ok()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never comes to that");
}

/// The number of orders of a category, at a time after all of them. Asks again, as a client does, while a slice is on its way.
async fn count(server: &TestServer, category: &str, position: &str) -> Json {
    let path = format!(
        "/features?featureset=CategoryFeatures&category={category}&ts=2024-01-20T00:00:00Z&at_least={position}"
    );
    for _ in 0..200 {
        let reply = server.get(&path).await;
        if reply.status == 200 {
            return reply.json()["features"]["orders_30d"].clone();
        }
        reply.problem(503, "unavailable");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody answers");
}

/// Orders with ids of their own.
fn batch(rows: usize, call: &str) -> Json {
    let ids: Vec<String> = (0..rows).map(|row| format!("{call}-{row}")).collect();
    json!({"dataset": "Order", "events": some_orders(rows), "event_ids": ids})
}

/// Sends a batch again and again, as a client does, until it is taken. Its position.
async fn send_until_taken(server: &TestServer, body: &Json) -> String {
    for _ in 0..200 {
        let reply = server.post("/api/v1/log", body).await;
        if reply.status == 200 {
            return reply.json()["position"].as_str().unwrap().to_string();
        }
        reply.problem(503, "unavailable");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the rows are never taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_count_once_through_restarts_and_a_broker_that_is_away() {
    let broker = Arc::new(Broker::start().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &broker, "shop").await;
    server.commit(&category_definitions()).await;
    let position = send_until_taken(&server, &batch(90, "first")).await;
    assert_eq!(count(&server, "books", &position).await, json!(30));
    server.server.stop().await.unwrap();

    let server = start(directory.path(), &broker, "shop").await;
    assert_eq!(count(&server, "books", &position).await, json!(30));
    broker.kill().unwrap();
    let second = batch(60, "second");
    let refused = server.post("/api/v1/log", &second).await;
    let problem = refused.problem(503, "unavailable").to_string();
    assert!(problem.contains(&broker.address), "{problem}");
    // Questions are answered from what is in state.
    assert_eq!(count(&server, "books", &position).await, json!(30));
    server.get("/api/v1/status").await.ok();

    let restarted = broker.clone();
    let restart = tokio::task::spawn_blocking(move || restarted.restart().unwrap());
    send_until_taken(&server, &second).await;
    restart.await.unwrap();
    // Sent once more, as if the answer had been lost.
    let position = send_until_taken(&server, &second).await;
    assert_eq!(count(&server, "books", &position).await, json!(50));
    assert_eq!(count(&server, "toys", &position).await, json!(100));
    assert!(presence(&broker, "shop").answering().unwrap().is_empty(), "with one slice there is nothing to say");
    server.server.stop().await.unwrap();

    // The state is lost; the log is not.
    std::fs::remove_dir_all(directory.path().join("state")).unwrap();
    let server = start(directory.path(), &broker, "shop").await;
    assert_eq!(count(&server, "books", &position).await, json!(50));
    assert_eq!(count(&server, "toys", &position).await, json!(100));
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_prefix_and_another_number_of_partitions_are_refused() {
    let broker = Broker::start().unwrap();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = start(one.path(), &broker, "first").await;
    server.commit(&category_definitions()).await;
    let position = server.log("Order", some_orders(9)).await;
    assert_eq!(count(&server, "books", &position).await, json!(3));
    server.server.stop().await.unwrap();
    let other = Server::start(config(one.path(), &broker, "second"), Arc::new(NoExtractors)).await.err().unwrap();
    assert_eq!(other.kind(), ErrorKind::FailedPrecondition);
    let text = other.to_string();
    assert!(text.contains("made from another log") && text.contains("/first") && text.contains("/second"), "{text}");

    // Another catalog and another definition, the same topics.
    let server = start(two.path(), &broker, "first").await;
    let mut definitions = category_definitions();
    definitions["datasets"][0]["partitions"] = json!(3);
    let refused = server.post("/api/v1/commit", &json!({"definitions": definitions})).await;
    let problem = refused.problem(409, "conflict").to_string();
    assert!(problem.contains("first.Order.v1") && problem.contains("not 3"), "{problem}");
    server.server.stop().await.unwrap();
}
