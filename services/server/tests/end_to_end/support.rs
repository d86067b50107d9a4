//! A server of its own per test, asked over its real ports.

use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use thyme_query::NoExtractors;
use thyme_server::{Config, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
    /// The JSON of a success.
    #[track_caller]
    pub fn ok(&self) -> Json {
        assert!(self.status < 300, "{}: {}", self.status, self.text());
        self.json()
    }
    /// The JSON of a problem with this status and code.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Json {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        assert!(body["error"].is_string() && body["detail"].is_string(), "{body}");
        body
    }
}

/// One HTTP/1.1 request on a connection of its own.
pub async fn http(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_string()))
        .collect();
    let mut body = bytes[end + 4..].to_vec();
    if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
        body = unchunk(&body);
    }
    Reply { status, headers, body }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
}

pub struct TestServer {
    pub server: Server,
}

impl TestServer {
    pub async fn start(data_dir: &Path) -> TestServer {
        let server = Server::start(Config::ephemeral(data_dir).unwrap(), Arc::new(NoExtractors)).await.unwrap();
        TestServer { server }
    }
    pub async fn get(&self, path: &str) -> Reply {
        http(self.address(path), "GET", path, &[], b"").await
    }
    pub async fn post(&self, path: &str, body: &Json) -> Reply {
        self.post_bytes(path, body.to_string().as_bytes()).await
    }
    pub async fn post_bytes(&self, path: &str, body: &[u8]) -> Reply {
        http(self.address(path), "POST", path, &[("content-type", "application/json")], body).await
    }
    pub fn address(&self, path: &str) -> SocketAddr {
        if path.starts_with("/api/") { self.server.control_addr.unwrap() } else { self.server.query_addr }
    }
    /// Commits and waits until it is live.
    pub async fn commit(&self, definitions: &Json) -> Json {
        let reply = self.post("/api/v1/commit", &json!({"definitions": definitions})).await.ok();
        let id = reply["commit"]["id"].as_str().unwrap().to_string();
        self.wait_live(&id).await;
        reply
    }
    pub async fn wait_live(&self, id: &str) {
        loop {
            let commit = self.get(&format!("/api/v1/commits/{id}")).await.ok();
            match commit["state"].as_str().unwrap() {
                "active" => return,
                "building" => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                other => panic!("commit {id} is {other}: {commit}"),
            }
        }
    }
    /// Sends events and returns their position.
    pub async fn log(&self, dataset: &str, events: Json) -> String {
        let reply = self.post("/api/v1/log", &json!({"dataset": dataset, "events": events})).await.ok();
        assert_eq!(reply["rejected"], json!([]), "{reply}");
        reply["position"].as_str().unwrap().to_string()
    }
}

fn field(name: &str, data_type: &str) -> Json {
    json!({"name": name, "type": data_type, "key": name == "user_id", "timestamp": name == "ts"})
}

/// A raw dataset of orders, looked up by user.
pub fn orders() -> Json {
    let fields = [field("user_id", "str"), field("ts", "datetime"), field("amount", "float"), field("category", "str")];
    json!({"name": "Order", "version": 1, "index": true, "fields": fields})
}

/// What one user ordered, and a featureset over it.
pub fn user_definitions() -> Json {
    let stats_fields =
        [field("user_id", "str"), field("ts", "datetime"), field("orders_1h", "int"), field("spend_7d", "float")];
    json!({
        "format": 1,
        "datasets": [orders(), {"name": "UserStats", "version": 1, "index": true, "fields": stats_fields}],
        "pipelines": [{
            "name": "compute", "version": 1, "dataset": "UserStats", "input": "Order", "group_by": ["user_id"],
            "aggregates": [
                {"name": "orders_1h", "op": {"kind": "count"}, "window": "1h"},
                {"name": "spend_7d", "op": {"kind": "sum"}, "of": "amount", "window": "7d"},
            ],
        }],
        "featuresets": [{
            "name": "UserFeatures",
            "features": [
                {"name": "uid", "type": "str", "id": 1},
                {"name": "orders_1h", "type": "int", "id": 2, "ref": {"dataset": "UserStats", "field": "orders_1h"}},
                {"name": "spend_7d", "type": "float", "id": 3, "ref": {"dataset": "UserStats", "field": "spend_7d"}},
            ],
        }],
    })
}

/// Orders by category: another group key, so a repartition log.
pub fn category_definitions() -> Json {
    let mut category = field("category", "str");
    category["key"] = json!(true);
    json!({
        "format": 1,
        "datasets": [
            orders(),
            {"name": "CategoryStats", "version": 1, "index": true,
             "fields": [category, field("ts", "datetime"), field("orders_30d", "int")]},
        ],
        "pipelines": [{
            "name": "by_category", "version": 1, "dataset": "CategoryStats", "input": "Order", "group_by": ["category"],
            "aggregates": [{"name": "orders_30d", "op": {"kind": "count"}, "window": "30d"}],
        }],
        "featuresets": [{
            "name": "CategoryFeatures",
            "features": [
                {"name": "category", "type": "str"},
                {"name": "orders_30d", "type": "int", "ref": {"dataset": "CategoryStats", "field": "orders_30d"}},
            ],
        }],
    })
}

/// `count` orders of two users and two categories, a minute apart from 2024-01-15T12:00:00Z on.
pub fn some_orders(count: usize) -> Json {
    let start = thyme_core::time::parse_time("2024-01-15T12:00:00Z").unwrap();
    let order = |number: usize| {
        json!({
            "user_id": format!("u{}", number % 2),
            "ts": thyme_core::time::format_time(start + number as i64 * 60_000_000),
            "amount": 1.5,
            "category": if number.is_multiple_of(3) { "books" } else { "toys" },
        })
    };
    (0..count).map(order).collect()
}
