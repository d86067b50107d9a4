//! The HTTP interface from end to end: definitions and events in, features out, and what is said about mistakes.

use crate::support::*;
use serde_json::{Value as Json, json};

/// Ten orders: u0 at :00 :02 :04 :06 :08, u1 at :01 :03 :05 :07 :09; books at :00 :03 :06 :09.
async fn with_orders(directory: &std::path::Path) -> (TestServer, String) {
    let server = TestServer::start(directory).await;
    server.commit(&user_definitions()).await;
    let position = server.log("Order", some_orders(10)).await;
    (server, position)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_entity_online_and_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let (server, position) = with_orders(directory.path()).await;
    let path = format!("/features?featureset=UserFeatures&uid=u0&ts=2024-01-15T12:04:00Z&at_least={position}");
    let reply = server.get(&path).await;
    let body = reply.ok();
    assert_eq!(body["features"]["orders_1h"], json!(3));
    assert_eq!(body["features"]["spend_7d"], json!(4.5));
    assert_eq!(body["entity_id"], "u0");
    assert_eq!(body["entity_type"], "UserFeatures");
    assert_eq!(body["mode"], "point_in_time");
    assert_eq!(body["ts"], "2024-01-15T12:04:00Z");
    assert_eq!(body["statuses"]["orders_1h"], "OK");
    assert_eq!(body["final"], false);
    assert!(body["position"].as_str().unwrap().starts_with('p'));
    let run_id = reply.header("x-query-run-id").unwrap().to_string();

    let exclusive = server.get(&format!("{path}&exclusive=true")).await.ok();
    assert_eq!(exclusive["features"]["orders_1h"], json!(2));
    let posted = json!({"featureset": "UserFeatures", "entity_id": "u0", "timestamp": "2024-01-15T12:04:00Z"});
    assert_eq!(server.post("/features", &posted).await.ok()["features"], body["features"]);
    let some = server.get(&format!("{path}&features=spend_7d")).await.ok();
    assert_eq!(some["features"], json!({"spend_7d": 4.5}));
    let unknown = server.get("/features?featureset=UserFeatures&entity_id=nobody").await.ok();
    assert_eq!(unknown["mode"], "online");
    assert_eq!(unknown["statuses"], json!({"orders_1h": "DEFAULT", "spend_7d": "DEFAULT"}));

    let run = server.get(&format!("/query-runs/{run_id}")).await.ok();
    assert_eq!((run["kind"].as_str(), run["entity_ids"][0].as_str()), (Some("online"), Some("u0")));
    assert_eq!((run["row_count"].as_u64(), run["hit_count"].as_u64()), (Some(1), Some(1)));
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_entities_as_json_and_as_arrow() {
    let directory = tempfile::tempdir().unwrap();
    let (server, position) = with_orders(directory.path()).await;
    let question = json!({"featureset": "UserFeatures", "entity_ids": ["u0", "u1", "nobody"],
        "ts": "2024-01-15T12:04:00Z", "at_least": position, "statuses": true});
    let body = server.post("/features/batch", &question).await.ok();
    assert_eq!(body["features"], json!(["entity_id", "orders_1h", "spend_7d"]));
    assert_eq!(body["values"], json!([["u0", 3, 4.5], ["u1", 2, 3.0], ["nobody", 0, 0.0]]));
    assert_eq!(body["statuses"][2], json!(["DEFAULT", "DEFAULT"]));

    let accept = [("accept", "application/vnd.apache.arrow.stream")];
    let bytes = question.to_string();
    let reply = http(server.server.query_addr, "POST", "/features/batch", &accept, bytes.as_bytes()).await;
    assert_eq!(reply.header("content-type"), Some("application/vnd.apache.arrow.stream"));
    let mut stream = arrow_ipc::reader::StreamReader::try_new(std::io::Cursor::new(reply.body), None).unwrap();
    let batch = stream.next().unwrap().unwrap();
    assert_eq!(batch.num_rows(), 3);
    assert_eq!(batch.schema().metadata()["thyme.ts"], "2024-01-15T12:04:00Z");

    let queries = json!([
        {"entity_id": "u1", "timestamp": "2024-01-15T12:09:00Z"},
        {"uid": "u0", "timestamp": "2024-01-15T12:00:00Z"},
        {"entity_id": "u0", "timestamp": null},
        {"entity_id": null, "timestamp": "2024-01-15T12:00:00Z"},
    ]);
    let offline = json!({"featureset": "UserFeatures", "queries": queries, "statuses": true});
    let body = server.post("/features/offline", &offline).await.ok();
    let results = body["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    assert_eq!(results[0]["features"], json!({"orders_1h": 5, "spend_7d": 7.5}));
    assert_eq!(results[1]["features"], json!({"orders_1h": 1, "spend_7d": 1.5}));
    assert_eq!(results[2]["statuses"]["orders_1h"], "ERROR");
    assert_eq!(results[3]["statuses"]["orders_1h"], "DEFAULT");
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_runs_listings_and_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let (server, position) = with_orders(directory.path()).await;
    let path = format!("/features?entity_type=Order&entity_id=u0&ts=2024-01-15T12:03:00Z&at_least={position}");
    let row = server.get(&path).await.ok();
    assert_eq!(row["features"]["ts"], "2024-01-15T12:02:00Z");
    let unknown = server.get("/features?entity_type=Order&user_id=nobody").await.ok();
    assert_eq!(unknown["features"], Json::Null);

    let page = server.get("/query-runs?limit=1&kind=lookup").await.ok();
    assert_eq!(page["runs"].as_array().unwrap().len(), 1);
    let cursor = page["next_cursor"].as_str().unwrap().to_string();
    let rest = server.get(&format!("/query-runs?kind=lookup&cursor={cursor}")).await.ok();
    assert_eq!((rest["runs"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Json::Null));

    let status = server.get("/api/v1/status").await.ok();
    assert_eq!((status["state"].as_str(), status["clock"].as_str()), (Some("ready"), Some("wall")));
    assert_eq!(status["datasets"][0]["counts"]["accepted"], 10);
    let datasets = server.get("/api/v1/datasets").await.ok();
    assert_eq!(datasets["datasets"][0]["name"], "Order");
    let pipelines = server.get("/api/v1/pipelines").await.ok();
    assert_eq!(pipelines["pipelines"][0]["aggregates"][1]["definition"], "Sum(of=amount, window=7d)");
    let featuresets = server.get("/api/v1/featuresets").await.ok();
    assert_eq!(featuresets["featuresets"][0]["features"][1]["origin"], "UserStats.orders_1h");
    let jobs = server.get("/api/v1/jobs").await.ok();
    assert!(jobs["jobs"].as_array().unwrap().iter().all(|job| job["state"] == "caught_up"), "{jobs}");
    let events = server.get("/api/v1/events").await.ok();
    assert_eq!(events[0]["event_type"], "commit.live");
    assert_eq!(server.get("/api/v1/sources").await.ok(), json!({"sources": []}));

    let metrics = server.get("/metrics").await.text();
    for name in
        ["thyme_events_accepted_total", "thyme_lag_records", "thyme_tick_duration_seconds", "thyme_query_duration"]
    {
        assert!(metrics.contains(name), "{name} is missing in {metrics}");
    }
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(server.get(path).await.ok()["status"], "ok");
    }
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named_and_never_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let (server, _) = with_orders(directory.path()).await;
    let refused = [
        ("/features?featureset=UserFeatures&uid=u0&tss=2024-01-15", 400, "invalid_argument", "tss", "ts"),
        ("/features?featureset=UserFeatures&uid=u0&ts=yesterday", 400, "invalid_argument", "yesterday", "ISO-8601"),
        ("/features?featureset=UserFeature&uid=u0", 404, "not_found", "UserFeature", "UserFeatures"),
        ("/features?featureset=UserFeatures", 400, "invalid_argument", "uid", "give it"),
        ("/features?featureset=UserFeatures&uid=u0&features=spend_8d", 404, "not_found", "spend_8d", "spend_7d"),
        ("/features?featureset=UserFeatures&uid=u0&uid=u1", 400, "invalid_argument", "uid", "twice"),
        (
            "/features?featureset=UserFeatures&uid=u0&ts=2024-01-15&timestamp=2024-01-15",
            400,
            "invalid_argument",
            "ts",
            "same",
        ),
        ("/features?featureset=UserFeatures&uid=u0&known_at=x", 400, "invalid_argument", "known_at", "position"),
        ("/features?entity_type=Orders&entity_id=u0", 404, "not_found", "Orders", "Order"),
        ("/features?uid=u0", 400, "invalid_argument", "featureset", "missing"),
        ("/query-runs?limt=3", 400, "invalid_argument", "limt", "limit"),
        ("/query-runs?kind=onlin", 400, "invalid_argument", "onlin", "online"),
        ("/query-runs/nothing", 404, "not_found", "nothing", "run"),
        ("/api/v1/status?x=1", 400, "invalid_argument", "x", "unknown"),
        ("/api/v1/dataset", 404, "not_found", "/api/v1/dataset", "/api/v1/datasets"),
    ];
    for (path, status, code, name, near) in refused {
        let problem = server.get(path).await.problem(status, code);
        let text = problem.to_string();
        assert!(text.contains(name) && text.contains(near), "{path}: '{name}' or '{near}' is missing in {text}");
    }
    let problem = server.post_bytes("/features", b"{\"featureset\": ").await.problem(400, "invalid_argument");
    assert!(problem["error"].as_str().unwrap().contains("JSON"));
    server
        .post("/features", &json!({"featureset": "UserFeatures", "entity_id": 7}))
        .await
        .problem(400, "invalid_argument");
    server.post("/query-runs/x/replay", &json!({})).await.problem(501, "unimplemented");
    let reply = http(server.server.query_addr, "DELETE", "/features", &[], b"").await;
    assert_eq!(reply.status, 405);

    let rows = json!([{"user_id": "u0", "ts": "2024-01-15T13:00:00Z", "amount": 1, "category": "toys"},
        {"user_id": null, "ts": "2024-01-15T13:00:00Z", "amount": 1, "category": "toys"},
        {"user_id": "u0", "amount": 1, "category": "toys"}]);
    let body = server.post("/api/v1/log", &json!({"dataset": "Order", "events": rows})).await.ok();
    assert_eq!(body["accepted"], 1);
    let indices: Vec<u64> =
        body["rejected"].as_array().unwrap().iter().map(|row| row["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [1, 2]);
    let unknown = server.post("/api/v1/log", &json!({"dataset": "Ordr", "events": []})).await.problem(404, "not_found");
    assert!(unknown["hint"].as_str().unwrap().contains("Order"), "{unknown}");
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_body_is_413() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = thyme_server::Config::ephemeral(directory.path()).unwrap();
    config.ingest.max_bytes = 1000;
    let extractors = std::sync::Arc::new(thyme_query::NoExtractors);
    let server = TestServer { server: thyme_server::Server::start(config, extractors).await.unwrap() };
    let problem = server.post_bytes("/api/v1/log", &[b' '; 2000]).await.problem(413, "resource_exhausted");
    assert!(problem["error"].as_str().unwrap().contains("1000 bytes"), "{problem}");
    server.server.stop().await.unwrap();
}

/// Whether erased events of orders are still somewhere.
async fn is_pending(server: &TestServer) -> bool {
    let asked = server.post("/api/v1/erase", &json!({"dataset": "Order", "entity_ids": []})).await.ok();
    assert_eq!(asked["erased"], 0);
    asked["pending"].as_bool().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_key_leaves_what_is_grouped_by_another_too() {
    let directory = tempfile::tempdir().unwrap();
    let (server, position) = with_orders(directory.path()).await;
    server.commit(&category_definitions()).await;
    let books = "/features?featureset=CategoryFeatures&category=books&ts=2024-02-01T00:00:00Z";
    let body = server.get(&format!("{books}&at_least={position}")).await.ok();
    assert_eq!(body["features"]["orders_30d"], json!(4));
    let known = body["position"].as_str().unwrap();
    assert!(!is_pending(&server).await);
    let keys = json!({"dataset": "Order", "entity_ids": ["u0"]});
    assert_eq!(server.post("/api/v1/erase", &keys).await.ok()["pending"], true);
    // Nobody who asked for it is there any more, and again it is asked for.
    server.server.stop().await.unwrap();
    let server = TestServer::start(directory.path()).await;
    assert_eq!(server.post("/api/v1/erase", &keys).await.ok()["pending"], true);
    while is_pending(&server).await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for path in [books.to_string(), format!("{books}&known_at={known}")] {
        assert_eq!(server.get(&path).await.ok()["features"]["orders_30d"], json!(2), "{path}");
    }
    let events = server.get("/api/v1/commits").await.ok();
    assert!(events.to_string().contains("keys erased from Order"), "{events}");
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_key_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (server, _) = with_orders(directory.path()).await;
    let path = "/features?featureset=UserFeatures&uid=u0&ts=2024-01-15T12:30:00Z";
    let reply = server.get(path).await;
    let run_id = reply.header("x-query-run-id").unwrap().to_string();
    let erased = server.post("/api/v1/erase", &json!({"dataset": "Order", "entity_ids": ["u0"]})).await.ok();
    assert_eq!(erased["erased"], 1);
    let position = erased["position"].as_str().unwrap();
    let body = server.get(&format!("{path}&at_least={position}")).await.ok();
    assert_eq!(body["features"]["orders_1h"], json!(0));
    assert_eq!(server.get(&format!("/query-runs/{run_id}")).await.ok()["entity_ids"], json!([null]));
    let other = server.get("/features?featureset=UserFeatures&uid=u1&ts=2024-01-15T12:30:00Z").await.ok();
    assert_eq!(other["features"]["orders_1h"], json!(5));
    server.server.stop().await.unwrap();
}
