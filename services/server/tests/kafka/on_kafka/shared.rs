//! Two servers that share the work on one log and one catalog by slices.

use super::*;
use thyme_broker::Postgres;
use thyme_catalog::PostgresSettings;
use thyme_log::Answering;
use thyme_proto::internal::v1 as internal;
use thyme_server::config::CatalogConfig;

struct System {
    broker: Broker,
    postgres: Postgres,
}

impl System {
    /// Until these servers, and no others, say that they answer, each for slices of its own, and for all together.
    async fn until_answering(&self, servers: &[&TestServer]) {
        let presence = presence(&self.broker, "shop");
        let address = |server: &&TestServer| format!("http://{}", server.server.query_addr);
        let mut wanted: Vec<String> = servers.iter().map(address).collect();
        wanted.sort();
        let mut seen: Vec<Answering> = Vec::new();
        for _ in 0..300 {
            seen = presence.answering().unwrap();
            seen.sort_by(|one, other| one.url.cmp(&other.url));
            let mut slices: Vec<u16> = seen.iter().flat_map(|node| node.slices.iter().copied()).collect();
            slices.sort_unstable();
            if seen.iter().map(|node| &node.url).eq(&wanted) && slices == [0, 1, 2, 3] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("{seen:?} instead of {wanted:?}");
    }

    async fn start(&self, data_dir: &Path) -> TestServer {
        let settings = PostgresSettings::parse(&self.postgres.url("postgres")).unwrap();
        let catalog = CatalogConfig::Postgres(Box::new(settings));
        let mut config = Config { catalog, ..config(data_dir, &self.broker, "shop") };
        if let LogConfig::Kafka(log) = &mut config.log {
            log.slices = Some(4);
        }
        TestServer { server: Server::start(config, Arc::new(NoExtractors)).await.unwrap() }
    }
}

/// What other servers would ask one, for a question of this commit that reads these slices.
async fn greatest_event_time(server: &TestServer, commit: &Json, slices: &[u32]) -> Result<(), tonic::Status> {
    let url = format!("http://{}", server.server.query_addr);
    let channel = tonic::transport::Endpoint::new(url).unwrap().connect().await.unwrap();
    let asking = internal::PartAsking {
        commit_id: commit.as_str().unwrap().to_string(),
        slices: slices.to_vec(),
        deadline_micros: 5_000_000,
        ..internal::PartAsking::default()
    };
    let request = internal::GreatestEventTimeRequest { asking: Some(asking) };
    internal::part_service_client::PartServiceClient::new(channel).greatest_event_time(request).await.map(|_| ())
}

fn has_role(status: &Json, role: &str) -> bool {
    status["roles"].as_array().unwrap().contains(&json!(role))
}

/// The slices whose state a server has.
fn held(status: &Json) -> Vec<u64> {
    status["held_slices"].as_array().unwrap().iter().filter_map(Json::as_u64).collect()
}

/// Orders of many users, so in all partitions; half of them in the category `books`.
fn orders_of_many(call: &str, rows: usize) -> Json {
    let order = |row: usize| {
        let category = if row.is_multiple_of(2) { "books" } else { "toys" };
        json!({"user_id": format!("u{}", row % 23), "ts": "2024-01-15T12:00:00Z", "amount": 1.5, "category": category})
    };
    let events: Vec<Json> = (0..rows).map(order).collect();
    let ids: Vec<String> = (0..rows).map(|row| format!("{call}-{row}")).collect();
    json!({"dataset": "Order", "events": events, "event_ids": ids})
}

/// Rows go in at one of them, and all answer that each category has so many.
async fn check(servers: &[&TestServer], call: &str, wanted: usize) {
    let position = send_until_taken(servers[0], &orders_of_many(call, 100)).await;
    for server in servers {
        for category in ["books", "toys"] {
            assert_eq!(count(server, category, &position).await, json!(wanted), "{category} after {call}");
        }
    }
}

async fn both_work(servers: [&TestServer; 2]) {
    for server in servers {
        wait_until(server, |status| has_role(status, "engine") && status["state"] == "ready").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_share_the_work_and_go_on_for_each_other() {
    let system = System { broker: Broker::start().unwrap(), postgres: Postgres::start().unwrap() };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut leader = system.start(one.path()).await;
    let mut other = system.start(two.path()).await;
    both_work([&leader, &other]).await;
    // The group moves what it likes to the new one.
    if has_role(&other.get("/api/v1/status").await.ok(), "control") {
        std::mem::swap(&mut leader, &mut other);
    }
    wait_until(&leader, |status| has_role(status, "control")).await;
    let refused = other.post("/api/v1/commit", &json!({"definitions": category_definitions()})).await;
    let problem = refused.problem(503, "unavailable").to_string();
    let address = leader.server.control_addr.unwrap().to_string();
    assert!(problem.contains("does not lead") && problem.contains(&address), "{problem}");
    let commit = leader.commit(&category_definitions()).await["commit"]["id"].clone();
    wait_until(&other, |status| status["commit_id"] == commit).await;
    check(&[&other, &leader], "first", 50).await;
    system.until_answering(&[&leader, &other]).await;
    for server in [&leader, &other] {
        let held: Vec<u32> =
            held(&server.get("/api/v1/status").await.ok()).into_iter().map(|slice| slice as u32).collect();
        greatest_event_time(server, &commit, &held).await.unwrap();
        let lacks = (0..4).find(|slice| !held.contains(slice)).unwrap();
        let refused = greatest_event_time(server, &commit, &[held[0], lacks]).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert!(refused.message().contains(&format!("slice {lacks} of 4 is not there")), "{refused:?}");
    }

    // Another version of the pipeline takes over on both: the log that only the old one read is deleted.
    let mut changed = category_definitions();
    changed["pipelines"][0]["version"] = json!(2);
    changed["pipelines"][0]["aggregates"][0]["window"] = json!("31d");
    let commit = leader.commit(&changed).await["commit"]["id"].clone();
    wait_until(&other, |status| status["commit_id"] == commit).await;
    check(&[&leader, &other], "second", 100).await;

    // One is gone, and the other has all of the work.
    let gone_from = leader.server.data_dir().to_path_buf();
    leader.server.stop().await.unwrap();
    wait_until(&other, |status| has_role(status, "control")).await;
    check(&[&other], "third", 150).await;
    system.until_answering(&[&other]).await;
    assert_eq!(held(&other.get("/api/v1/status").await.ok()), [0, 1, 2, 3]);

    // It comes back and gets a share again.
    let back = system.start(&gone_from).await;
    both_work([&back, &other]).await;
    check(&[&back, &other], "fourth", 200).await;
    system.until_answering(&[&back, &other]).await;
    check(&[&other, &back], "fifth", 250).await;
    for server in [&back, &other] {
        wait_until(server, |status| held(status).len() == 2).await;
    }
    back.server.stop().await.unwrap();
    other.server.stop().await.unwrap();
}
