//! Settings and cursors, without a broker.

use super::cursor::{Bounds, Cursor};
use super::{open, settings::Settings};
use crate::conformance::fields;
use crate::saved::Saved as _;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use thyme_core::definition::SourceDef;

fn definition(settings: &Json) -> SourceDef {
    serde_json::from_value(json!({"kind": "kafka", "settings": settings, "cdc": "append"})).unwrap()
}

#[test]
fn wrong_settings_are_refused_at_commit_with_the_fix() {
    let cases = [
        (json!({}), "needs a topic"),
        (json!({"topic": 7}), "setting 'topic' is a text"),
        (json!({"topic": "t", "format": "jsn"}), "unknown format 'jsn' of a Kafka source (hint: did you mean 'json'?)"),
        (json!({"topic": "t", "format": "xml"}), "this release reads format=\"json\", \"avro\", \"protobuf\""),
        (json!({"topic": "t", "password": "hunter2"}), "write password=Secret(env="),
        (json!({"topic": "t", "security_protocol": "SASL"}), "property 'security.protocol'"),
        (json!({"topic": "t", "properties": "x"}), "'properties' is an object"),
        (json!({"topic": "t", "properties": {"ssl.key.password": "hunter2"}}), "Secret(env="),
        (json!({"topic": "t", "properties": {"ssl.key.password": {"env": ""}}}), "Secret(env="),
        (json!({"topic": "t", "properties": {"ssl.ca.location": 7}}), "is a text, got 7"),
        (json!({"topic": "t", "properties": {"ssl.ca.locatoin": "x"}}), "CONFIGURATION.md"),
        (json!({"topic": "t", "properties": {"sasl.mechanisms": "PLAIN"}}), "write sasl_mechanism="),
        (json!({"topic": "t", "properties": {"isolation.level": "read_uncommitted"}}), "properties say how to connect"),
        (json!({"topic": "t", "properties": {"group.id": "x"}}), "properties say how to connect"),
        (json!({"topic": "t", "properties": {"ssl.engine.location": "/tmp/x.so"}}), "no code is loaded"),
        (json!({"topic": "t", "properties": {"sasl.kerberos.kinit.cmd": "rm"}}), "no command run"),
        (json!({"topic": "t", "properties": {"plugin.library.paths": "x"}}), "properties say how to connect"),
    ];
    for (settings, part) in cases {
        let error = open(&definition(&settings), &fields()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(part), "{settings}: no '{part}' in '{error}'");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let unknown = crate::open(&definition(&json!({"topic": "t", "topics": "u"})), &fields()).err().unwrap().to_string();
    assert!(unknown.contains("unknown setting 'topics' of a kafka source (hint: did you mean 'topic'?)"), "{unknown}");
}

#[test]
fn what_the_source_promises_is_fixed_and_secrets_come_from_the_environment() {
    // What Cargo gives every test serves as a secret.
    let settings = json!({
        "topic": "t", "bootstrap_servers": "a:1,b:2", "security_protocol": "sasl_ssl", "sasl_mechanism": "SCRAM-SHA-512",
        "username": "ann", "password": {"env": "CARGO_PKG_NAME"},
        "properties": {"ssl.ca.location": "/etc/ca.pem", "ssl.key.password": {"env": "CARGO_PKG_VERSION"}},
    });
    let settings = Settings::of(&definition(&settings)).unwrap();
    let (config, secrets) = settings.client().unwrap();
    let secret = std::env::var("CARGO_PKG_NAME").unwrap();
    for (property, value) in [
        ("bootstrap.servers", "a:1,b:2"),
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "ann"),
        ("sasl.password", secret.as_str()),
        ("ssl.ca.location", "/etc/ca.pem"),
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "error"),
    ] {
        assert_eq!(config.get(property), Some(value));
    }
    assert_eq!(secrets.hide(&format!("no {secret} here")), "no *** here");
    assert!(!format!("{settings:?}").contains(&secret));
}

fn bounds(found: &[(u64, u64)]) -> BTreeMap<i32, Bounds> {
    (0..).zip(found).map(|(partition, &(first, end))| (partition, Bounds { first, end })).collect()
}

#[test]
fn a_cursor_leaves_no_gap_and_mixes_no_topics() {
    let start = |found| Cursor::start("c1".to_string(), "t", &bounds(found));
    let go_on = |cursor: Cursor, cluster: &str, topic: &str, found| {
        cursor.go_on(cluster.to_string(), topic, &bounds(found)).map_err(|error| error.to_string())
    };
    let cursor = start(&[(5, 9), (0, 0)]);
    assert!(cursor.is_behind(0, 9) && !cursor.is_behind(0, 5) && !cursor.is_behind(7, 100));
    assert_eq!(Cursor::decode(&cursor.encode().unwrap()).unwrap(), cursor);
    assert_eq!(go_on(cursor.clone(), "c1", "t", &[(5, 9), (0, 0)]).unwrap(), cursor);
    // A cluster that does not tell its id is no other cluster.
    assert_eq!(go_on(cursor.clone(), "", "t", &[(5, 9), (0, 0)]).unwrap(), cursor);
    let grown = go_on(cursor.clone(), "c1", "t", &[(5, 9), (0, 0), (0, 4)]).unwrap();
    assert!(grown.is_behind(2, 4));
    for (cluster, topic, found, part) in [
        ("c2", "t", &[(5, 9), (0, 0)][..], "of cluster 'c2'"),
        ("c1", "u", &[(5, 9), (0, 0)], "topic 'u'"),
        ("c1", "t", &[(5, 9)], "partition 1 is gone"),
        ("c1", "t", &[(6, 9), (0, 0)], "offsets 5 to 5 of partition 0"),
        ("c1", "t", &[(2, 4), (0, 0)], "ends at offset 4, and was read up to 5"),
        // What a new partition held before it was first looked at is lost, too.
        ("c1", "t", &[(5, 9), (0, 0), (2, 4)], "offsets 0 to 1 of partition 2"),
    ] {
        let error = go_on(cursor.clone(), cluster, topic, found).unwrap_err();
        assert!(error.contains(part) && error.contains("thyme sources reset"), "{error}");
    }
    for noise in [&b""[..], b"{}", b"{\"version\":1,\"cluster\":\"\",\"topic\":\"t\",\"partitions\":{},\"more\":1}"] {
        assert!(Cursor::decode(noise).is_err());
    }
    let later = cursor.encode().unwrap();
    let later = String::from_utf8(later).unwrap().replace("\"version\":1", "\"version\":2");
    assert!(Cursor::decode(later.as_bytes()).unwrap_err().to_string().contains("format version 2"));
}
