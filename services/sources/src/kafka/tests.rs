//! Settings and cursors, without a broker.

use super::cursor::{Bounds, Cursor};
use super::errors::{lacks_certificate, of_code};
use super::{open, settings::Settings};
use crate::conformance::fields;
use crate::saved::Saved as _;
use crate::settings::Environment;
use rdkafka::error::RDKafkaErrorCode as Code;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use thyme_core::ErrorKind;
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
        (json!({"topic": "t", "password": {"env": "KAFKA_SASL_PASSWORD"}}), "names KAFKA_SASL_PASSWORD, which holds"),
        (
            json!({"topic": "t", "properties": {"ssl.key.password": {"env": "THYME_LOG__KAFKA__SASL_PASSWORD"}}}),
            "'ssl.key.password' names THYME_LOG__KAFKA__SASL_PASSWORD, which holds a secret of the server's own",
        ),
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

#[test]
fn only_who_speaks_tls_without_a_certificate_is_told_of_one() {
    let authority = json!({"ssl.ca.location": "/etc/ca.pem"});
    let cases = [
        ("SSL", authority.clone(), true),
        ("ssl", json!({}), true),
        ("SSL", json!({"ssl.certificate.location": "/etc/client.crt"}), false),
        ("SSL", json!({"ssl.keystore.location": "/etc/client.p12"}), false),
        ("SASL_SSL", authority, false),
        ("PLAINTEXT", json!({}), false),
    ];
    for (protocol, properties, is_told) in cases {
        let settings = json!({
            "topic": "t", "bootstrap_servers": "a:1", "security_protocol": protocol, "properties": properties,
        });
        let (config, _) = Settings::of(&definition(&settings)).unwrap().client_in(|_| None).unwrap();
        let error = of_code(String::new(), Code::BrokerTransportFailure, lacks_certificate(&config)).to_string();
        assert!(error.contains("check bootstrap_servers"), "{error}");
        assert_eq!(error.contains("\"ssl.certificate.location\""), is_told, "{settings}: {error}");
    }
}

/// The server's environment of a test.
fn own(name: &str) -> Option<String> {
    let value = match name {
        "KAFKA_BOOTSTRAP_SERVERS" => "a:1, B:2",
        "KAFKA_SECURITY_PROTOCOL" => "SASL_SSL",
        "KAFKA_SASL_MECHANISM" => "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME" => "server",
        "KAFKA_SASL_PASSWORD" => "hunter2",
        _ => return None,
    };
    Some(value.to_string())
}

/// Without brokers.
fn nowhere(name: &str) -> Option<String> {
    own(name).filter(|_| name != "KAFKA_BOOTSTRAP_SERVERS")
}

#[test]
fn the_password_of_the_environment_goes_where_the_environment_says() {
    let client = |settings: Json, environment: Environment| {
        let mut settings = settings;
        settings["topic"] = json!("t");
        Settings::of(&definition(&settings)).unwrap().client_in(environment)
    };
    for settings in [json!({}), json!({"bootstrap_servers": "b:2"}), json!({"bootstrap_servers": "B:2 ,A:1,"})] {
        let (config, secrets) = client(settings, own).unwrap();
        assert_eq!((config.get("sasl.password"), config.get("sasl.username")), (Some("hunter2"), Some("server")));
        assert_eq!(secrets.hide("hunter2"), "***");
    }
    let others = ["c:3", "a:1,c:3", "a", "a:2", "a:1.c", "a:1 c:3", "SASL_SSL://a:1", "c://a:1"];
    let refused = others.map(|other| (json!({"bootstrap_servers": other}), own as Environment));
    let refused = refused.into_iter().chain([(json!({"bootstrap_servers": "a:1"}), nowhere as Environment)]);
    for (settings, environment) in refused {
        let error = client(settings.clone(), environment).err().unwrap();
        assert_eq!((error.kind(), error.field_name()), (ErrorKind::FailedPrecondition, Some("password")), "{error}");
        let text = error.to_string();
        assert!(text.contains("KAFKA_BOOTSTRAP_SERVERS does not name") && !text.contains("hunter2"), "{text}");
        // Where no password is asked for, none is sent and none is missed.
        for way in [json!({"security_protocol": "SSL"}), json!({"sasl_mechanism": "OAUTHBEARER"})] {
            let mut without = settings.clone();
            without.as_object_mut().unwrap().extend(way.as_object().unwrap().clone());
            let (config, _) = client(without, environment).unwrap();
            assert_eq!(config.get("sasl.password"), None, "{settings}");
        }
        let mut with = settings.clone();
        with["password"] = json!({"env": "CARGO_PKG_NAME"});
        assert_eq!(client(with, environment).unwrap().0.get("sasl.password"), Some("thyme-sources"));
    }
    let error = client(json!({}), nowhere).err().unwrap();
    assert!(error.to_string().contains("names no broker"), "{error}");
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
