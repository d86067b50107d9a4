//! Commits from end to end: plans, refusals, builds in the background, restarts.

use crate::support::*;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_commit_everything_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start(directory.path()).await;
    let problem = server.get("/features?featureset=F&uid=1").await.problem(404, "not_found");
    assert!(problem["detail"].as_str().unwrap().contains("thyme commit"), "{problem}");
    assert_eq!(server.get("/api/v1/status").await.ok()["commit_id"], "");
    assert_eq!(server.get("/api/v1/featuresets").await.ok(), json!({"featuresets": []}));
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_plans_and_changes_nothing_and_a_commit_is_idempotent() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start(directory.path()).await;
    let dry = json!({"definitions": user_definitions(), "dry_run": true});
    let planned = server.post("/api/v1/commit", &dry).await.ok();
    assert_eq!(planned["commit"], json!(null));
    assert!(!planned["plan"]["added"].as_array().unwrap().is_empty(), "{planned}");
    assert_eq!(server.get("/api/v1/commits").await.ok()["commits"], json!([]));

    let first = server.post("/api/v1/commit", &json!({"definitions": user_definitions(), "message": "one"})).await;
    assert_eq!(first.status, 200, "nothing is to be built, so it is live at once: {}", first.text());
    let first = first.ok();
    assert_eq!(first["commit"]["state"], "active");
    let again = server.post("/api/v1/commit", &json!({"definitions": user_definitions(), "message": "two"})).await.ok();
    assert_eq!(again["commit"]["id"], first["commit"]["id"]);
    assert_eq!(server.get("/api/v1/commits").await.ok()["commits"].as_array().unwrap().len(), 1);
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_and_breaking_definitions_are_refused_whole() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start(directory.path()).await;
    let mut wrong = user_definitions();
    wrong["pipelines"][0]["aggregates"][1]["of"] = json!("amuont");
    let problem =
        server.post("/api/v1/commit", &json!({"definitions": wrong})).await.problem(422, "invalid_definition");
    assert!(problem.to_string().contains("amuont") && problem.to_string().contains("amount"), "{problem}");
    let problem = server.post("/api/v1/commit", &json!({"definitions": {"formt": 1}})).await;
    problem.problem(422, "invalid_definition");
    server.post("/api/v1/commit", &json!({})).await.problem(400, "invalid_argument");

    server.commit(&user_definitions()).await;
    let mut breaking = user_definitions();
    breaking["pipelines"][0]["aggregates"][0]["window"] = json!("2h");
    let problem = server.post("/api/v1/commit", &json!({"definitions": breaking})).await;
    assert!(problem.status >= 400 && problem.text().contains("version"), "{}", problem.text());
    let body = server.get("/features?featureset=UserFeatures&uid=u0").await.ok();
    assert_eq!(body["features"]["orders_1h"], json!(0));
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn extractors_need_a_python() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start(directory.path()).await;
    let mut definitions = user_definitions();
    definitions["featuresets"][0]["features"].as_array_mut().unwrap().push(json!({"name": "twice", "type": "int"}));
    definitions["featuresets"][0]["extractors"] = json!([{
        "name": "double", "version": 1, "inputs": [{"featureset": "UserFeatures", "feature": "orders_1h"}],
        "outputs": ["twice"], "style": "arguments", "module": "features", "qualname": "UserFeatures.double",
        "source_hash": "1",
    }]);
    definitions["modules"] = json!([{"name": "features", "path": "features.py", "source": "x = 1\n"}]);
    let reply = server.post("/api/v1/commit", &json!({"definitions": definitions})).await;
    assert!(reply.status >= 400 && reply.text().contains("UserFeatures.double"), "{}", reply.text());
    assert_eq!(server.get("/api/v1/commits").await.ok()["commits"], json!([]));
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_added_later_is_built_from_the_start_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start(directory.path()).await;
    server.commit(&user_definitions()).await;
    server.log("Order", some_orders(1000)).await;
    let added = server.commit(&category_definitions()).await;
    let built = added["plan"]["built"].as_array().unwrap();
    assert!(built.iter().any(|item| item["identity"] == "pipeline:CategoryStats.by_category@1"), "{added}");
    assert!(built.iter().all(|item| item["replay_records"] == 1000 || item["replay_records"].is_null()), "{added}");
    let path = "/features?featureset=CategoryFeatures&category=books&ts=2024-02-01T00:00:00Z";
    assert_eq!(server.get(path).await.ok()["features"]["orders_30d"], json!(334));
    let old = server.get("/features?featureset=UserFeatures&uid=u0&ts=2024-01-15T12:30:00Z").await.ok();
    assert_eq!(old["features"]["orders_1h"], json!(16));

    let removed = json!({"definitions": {"format": 1}, "remove": ["CategoryFeatures", "CategoryStats"]});
    let reply = server.post("/api/v1/commit", &removed).await.ok();
    assert!(!reply["plan"]["dropped"].as_array().unwrap().is_empty(), "{reply}");
    server.get(path).await.problem(404, "not_found");
    // Built again, it counts again, from nothing.
    server.commit(&category_definitions()).await;
    assert_eq!(server.get(path).await.ok()["features"]["orders_30d"], json!(334));
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_answers_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start(directory.path()).await;
    server.commit(&user_definitions()).await;
    server.commit(&category_definitions()).await;
    let position = server.log("Order", some_orders(500)).await;
    let paths = [
        "/features?featureset=UserFeatures&uid=u1&ts=2024-01-15T13:00:00Z",
        "/features?featureset=CategoryFeatures&category=toys&ts=2024-02-01T00:00:00Z",
        "/features?entity_type=Order&entity_id=u1&ts=2024-01-15T13:00:00Z",
    ];
    let mut before = Vec::new();
    for path in paths {
        before.push(server.get(&format!("{path}&at_least={position}")).await.ok());
    }
    server.server.stop().await.unwrap();
    let server = TestServer::start(directory.path()).await;
    for (path, expected) in paths.iter().zip(before) {
        assert_eq!(server.get(path).await.ok(), expected, "{path}");
    }
    assert_eq!(server.get("/api/v1/status").await.ok()["datasets"][0]["counts"]["accepted"], 500);
    server.server.stop().await.unwrap();
}
