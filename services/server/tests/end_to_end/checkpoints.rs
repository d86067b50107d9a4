//! Checkpoints of a running server in a folder: taken while it runs, restored when the state is lost, refused when they are wrong.

use crate::support::*;
use serde_json::{Value as Json, json};
use sha2::Digest as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thyme_core::ErrorKind;
use thyme_proto::v1;
use thyme_query::NoExtractors;
use thyme_server::config::CheckpointConfig;
use thyme_server::{Config, Server};

/// A data directory and a folder for its checkpoints.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { root: tempfile::tempdir().unwrap() }
    }
    fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }
    fn store(&self) -> PathBuf {
        self.root.path().join("store")
    }
    fn manifests(&self) -> Vec<PathBuf> {
        let Ok(listed) = std::fs::read_dir(self.store().join("manifests")) else { return Vec::new() };
        let mut found: Vec<PathBuf> = listed.map(|item| item.unwrap().path()).collect();
        found.sort();
        found
    }
    fn config(&self, interval: Duration) -> Config {
        let mut config = Config::ephemeral(&self.data()).unwrap();
        let url = format!("file://{}", self.store().display());
        config.checkpoints = Some(CheckpointConfig { url, s3_endpoint: None, interval, keep: 2 });
        config
    }
    async fn open(&self) -> thyme_core::Result<Server> {
        Server::start(self.config(Duration::from_millis(100)), Arc::new(NoExtractors)).await
    }
    async fn start(&self) -> TestServer {
        TestServer { server: self.open().await.unwrap() }
    }
    fn lose(&self, what: &str) {
        let path = self.data().join(what);
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
    fn lose_catalog(&self) {
        for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
            let _gone = std::fs::remove_file(self.data().join(file));
        }
        assert!(!self.data().join("catalog.db").exists());
    }
}

async fn checkpoints(server: &TestServer) -> Json {
    server.get("/api/v1/status").await.ok()["checkpoints"].clone()
}

/// Waits for the status of checkpoints to be so.
async fn wait_for(server: &TestServer, what: &str, is_so: impl Fn(&Json) -> bool) -> Json {
    for _ in 0..600 {
        let found = checkpoints(server).await;
        if is_so(&found) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} never came: {}", checkpoints(server).await)
}

/// Waits until the newest checkpoint holds the state as it is.
async fn wait_saved(server: &TestServer) -> Json {
    let before = checkpoints(server).await["number"].as_u64();
    // Two attempts later whatever was there is in.
    wait_for(server, "a checkpoint", |found| found["number"].as_u64().is_some()).await;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let found =
        wait_for(server, "a checkpoint", |found| found["age_seconds"].as_f64().is_some_and(|age| age < 1.0)).await;
    assert!(found["number"].as_u64() >= before, "{found}");
    assert_eq!(found["trouble"], Json::Null, "{found}");
    found
}

async fn answer(server: &TestServer, user: &str) -> Json {
    let reply =
        server.get(&format!("/features?featureset=UserFeatures&entity_id={user}&ts=2024-01-16T00:00:00Z")).await.ok();
    reply["features"].clone()
}

async fn answers(server: &TestServer) -> Vec<Json> {
    vec![answer(server, "u0").await, answer(server, "u1").await]
}

async fn log_and_wait(server: &TestServer, events: Json) {
    let position = server.log("Order", events).await;
    let path = format!("/features?featureset=UserFeatures&entity_id=u0&at_least={position}");
    server.get(&path).await.ok();
}

/// Orders from `first` on.
fn orders_from(first: usize, count: usize) -> Json {
    some_orders(first + count).as_array().unwrap()[first..].to_vec().into()
}

async fn events_of(server: &TestServer, event_type: &str) -> Vec<String> {
    let events = server.get("/api/v1/events").await.ok();
    let list = events["events"].as_array().or(events.as_array()).unwrap().clone();
    let of_type = list.into_iter().filter(|event| event["event_type"] == event_type);
    of_type.map(|event| event["message"].as_str().unwrap().to_string()).collect()
}

/// Waits for the one event of this type: it is written just after what it tells of shows elsewhere.
async fn wait_event(server: &TestServer, event_type: &str) {
    let mut found = events_of(server, event_type).await;
    for _ in 0..600 {
        if !found.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = events_of(server, event_type).await;
    }
    assert_eq!(found.len(), 1, "{event_type}: {found:?}");
}

/// A server with 40 orders in a checkpoint and 20 more in the log only, stopped; its answers.
async fn behind(place: &Place) -> Vec<Json> {
    let server = place.start().await;
    server.commit(&user_definitions()).await;
    log_and_wait(&server, some_orders(40)).await;
    wait_saved(&server).await;
    server.server.stop().await.unwrap();
    // No checkpoint of what follows.
    let config = place.config(Duration::from_secs(3600));
    let server = TestServer { server: Server::start(config, Arc::new(NoExtractors)).await.unwrap() };
    log_and_wait(&server, orders_from(40, 20)).await;
    let expected = answers(&server).await;
    assert_eq!(expected[0]["spend_7d"], json!(45.0));
    server.server.stop().await.unwrap();
    expected
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_state_is_restored_and_the_rest_replayed() {
    let place = Place::new();
    let expected = behind(&place).await;
    place.lose("state");
    let server = place.start().await;
    // At once: nothing is answered before the log has been worked off.
    assert_eq!(answers(&server).await, expected);
    let found = checkpoints(&server).await;
    assert!(found["restored"].as_u64().is_some(), "{found}");
    assert_eq!(found["unusable"], json!([]));
    assert_eq!(events_of(&server, "checkpoint.restored").await.len(), 1);
    assert!(!place.data().join("restoring").exists());
    // It goes on, and so do the checkpoints.
    log_and_wait(&server, orders_from(60, 10)).await;
    wait_saved(&server).await;
    let metrics = server.get("/metrics").await.text();
    assert!(metrics.contains("thyme_checkpoint_age_seconds") && metrics.contains("thyme_checkpoint_size_bytes"));
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_catalog_comes_back_with_the_state() {
    let place = Place::new();
    let expected = behind(&place).await;
    place.lose("state");
    place.lose_catalog();
    let server = place.start().await;
    assert_eq!(answers(&server).await, expected);
    assert_eq!(server.get("/api/v1/commits").await.ok()["commits"].as_array().unwrap().len(), 1);
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_of_a_commit_that_the_catalog_does_not_know_is_refused() {
    let place = Place::new();
    behind(&place).await;
    place.lose("state");
    place.lose_catalog();
    let other = tempfile::tempdir().unwrap();
    TestServer::start(other.path()).await.server.stop().await.unwrap();
    std::fs::copy(other.path().join("catalog.db"), place.data().join("catalog.db")).unwrap();
    let error = place.open().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("which the catalog does not know"), "{error}");
    assert!(error.hint_text().unwrap().contains("restore the catalog"), "{error}");
    assert!(!place.data().join("state").join("CURRENT").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_checkpoints_are_passed_over_and_told() {
    let place = Place::new();
    let server = place.start().await;
    server.commit(&user_definitions()).await;
    log_and_wait(&server, some_orders(20)).await;
    wait_saved(&server).await;
    let older = place.manifests().last().unwrap().clone();
    log_and_wait(&server, orders_from(20, 20)).await;
    wait_saved(&server).await;
    let expected = answers(&server).await;
    server.server.stop().await.unwrap();
    let newest = place.manifests().last().unwrap().clone();
    assert_ne!(newest, older);

    // A file that only the newest names loses its end.
    let files = |manifest: &Path| -> Vec<String> {
        let text = std::fs::read_to_string(manifest).unwrap();
        let body = text.trim_end().rsplit_once('\n').unwrap().0;
        let manifest: Json = serde_json::from_str(body).unwrap();
        let name = |file: &Json| format!("{}-{}", file["sha256"].as_str().unwrap(), file["size"]);
        manifest["files"].as_array().unwrap().iter().map(name).collect()
    };
    let only_newest = files(&newest).into_iter().find(|file| !files(&older).contains(file)).unwrap();
    let file = place.store().join("files").join(only_newest);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    place.lose("state");
    let server = place.start().await;
    assert_eq!(answers(&server).await, expected);
    let found = checkpoints(&server).await;
    let (number, unusable) = (found["restored"].as_u64().unwrap(), found["unusable"].as_array().unwrap());
    assert!(newest.to_string_lossy().contains(&format!("{:020}", number + unusable.len() as u64)), "{found}");
    assert!(!unusable.is_empty(), "{found}");
    assert_eq!(events_of(&server, "checkpoint.unusable").await.len(), unusable.len());
    wait_saved(&server).await;
    server.server.stop().await.unwrap();

    // No manifest can be read: the state is built from the log.
    for manifest in place.manifests() {
        std::fs::write(manifest, b"{}").unwrap();
    }
    place.lose("state");
    let server = place.start().await;
    assert_eq!(answers(&server).await, expected);
    assert_eq!(checkpoints(&server).await["restored"], Json::Null);
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoints_of_another_log_and_of_a_later_format_are_refused() {
    let place = Place::new();
    behind(&place).await;
    place.lose("state");
    place.lose("log");
    let error = place.open().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("checkpoints of another log"), "{error}");
    assert!(error.hint_text().unwrap().contains("a folder or prefix of its own"), "{error}");

    let place = Place::new();
    behind(&place).await;
    place.lose("state");
    let newest = place.manifests().pop().unwrap();
    rewrite(&newest, |manifest| manifest["format"] = json!(7));
    let error = place.open().await.err().unwrap();
    assert!(error.message().contains("has format 7, this build reads 1"), "{error}");
    assert!(error.hint_text().unwrap().contains("run the version of thyme that wrote it"), "{error}");
}

/// Changes a manifest and gives it the sum that it should have.
fn rewrite(path: &Path, change: impl FnOnce(&mut Json)) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut manifest: Json = serde_json::from_str(text.trim_end().rsplit_once('\n').unwrap().0).unwrap();
    change(&mut manifest);
    let body = serde_json::to_string_pretty(&manifest).unwrap();
    let sum: String = sha2::Sha256::digest(body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(path, format!("{body}\n{sum}\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_stops_nothing_and_is_seen() {
    let place = Place::new();
    let server = place.start().await;
    server.commit(&user_definitions()).await;
    log_and_wait(&server, some_orders(10)).await;
    wait_saved(&server).await;
    // A file stands where the folder was.
    std::fs::rename(place.store(), place.root.path().join("away")).unwrap();
    std::fs::write(place.store(), b"").unwrap();
    log_and_wait(&server, orders_from(10, 10)).await;
    let found = wait_for(&server, "a failure", |found| found["trouble"].is_string()).await;
    assert!(found["failures"].as_u64().unwrap() >= 1, "{found}");
    wait_for(&server, "age", |found| found["age_seconds"].as_f64().unwrap() > 1.0).await;
    assert_eq!(answer(&server, "u0").await["spend_7d"], json!(15.0));
    wait_event(&server, "checkpoint.failed").await;
    assert_eq!(server.get("/readyz").await.status, 200);

    // A server that needs it does not start without it, and says what to do.
    std::fs::remove_file(place.store()).unwrap();
    std::fs::rename(place.root.path().join("away"), place.store()).unwrap();
    wait_for(&server, "recovery", |found| found["trouble"].is_null()).await;
    wait_event(&server, "checkpoint.recovered").await;
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_differs_from_a_checkpoint_of_its_place_is_reported() {
    let place = Place::new();
    let server = place.start().await;
    server.commit(&user_definitions()).await;
    log_and_wait(&server, some_orders(10)).await;
    wait_saved(&server).await;
    let newest = place.manifests().pop().unwrap();
    rewrite(&newest, |manifest| manifest["digest"] = json!("0".repeat(32)));
    let found = wait_for(&server, "the divergence", |found| found["diverged"].is_string()).await;
    assert!(found["diverged"].as_str().unwrap().contains("one of them is wrong"), "{found}");
    wait_event(&server, "checkpoint.diverged").await;
    assert!(server.get("/metrics").await.text().contains("thyme_checkpoint_divergences_total"));
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_has_the_digest_of_the_state() {
    let place = Place::new();
    let server = place.start().await;
    server.commit(&user_definitions()).await;
    server.commit(&category_definitions()).await;
    log_and_wait(&server, some_orders(50)).await;
    let url = format!("http://{}", server.server.control_addr.unwrap());
    let channel = tonic::transport::Endpoint::new(url).unwrap().connect().await.unwrap();
    let mut control = v1::control_service_client::ControlServiceClient::new(channel);
    let mut stream = control.rebuild(v1::RebuildRequest {}).await.unwrap().into_inner();
    let mut last = None;
    while let Some(response) = stream.message().await.unwrap() {
        assert!(response.done_records <= response.total_records);
        last = Some(response);
    }
    let outcome = last.unwrap().outcome.unwrap();
    assert!(outcome.equal, "{outcome:?}");
    assert_eq!(outcome.state_digest, outcome.rebuilt_digest);
    let name = |table: &v1::TableDigests| table.table.split('+').next().unwrap().to_string();
    let tables: Vec<String> = outcome.tables.iter().map(name).collect();
    assert_eq!(tables, ["pipeline:CategoryStats.by_category@1", "pipeline:UserStats.compute@1", "raw:Order@1"]);
    wait_event(&server, "rebuild.equal").await;
    assert!(!place.data().join("rebuild").exists());
    // The engine goes on as before.
    log_and_wait(&server, orders_from(50, 10)).await;
    server.server.stop().await.unwrap();
}
