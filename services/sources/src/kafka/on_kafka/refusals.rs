//! What cannot be read: no such topic, no broker, no rights, no password.

use super::{BROKER, Topic, ids};
use crate::conformance::{Refused, rows};
use crate::kafka::open;
use serde_json::{Value as Json, json};
use std::sync::LazyLock;
use thyme_broker::Broker;
use thyme_core::definition::SourceDef;
use thyme_core::{Error, ErrorKind};

/// What Cargo gives every test in this variable serves as a password.
const PASSWORD_FROM: &str = "CARGO_PKG_NAME";
const OTHER_PASSWORD_FROM: &str = "CARGO_PKG_VERSION";

fn definition(settings: &Json) -> SourceDef {
    serde_json::from_value(json!({"kind": "kafka", "settings": settings, "cdc": "append"})).unwrap()
}

fn error(settings: &Json) -> Error {
    open(&definition(settings), &crate::conformance::fields()).unwrap().poll(None, 10).unwrap_err()
}

#[track_caller]
fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "no '{part}' in {error}");
    }
}

#[test]
fn an_unknown_topic_is_told_and_not_made() {
    let settings = json!({"topic": "nowhere", "bootstrap_servers": BROKER.address});
    for _ in 0..2 {
        says(&error(&settings), ErrorKind::NotFound, &["topic 'nowhere'", "check the name of the topic"]);
    }
}

#[test]
fn no_broker_is_told_with_its_address() {
    let settings = json!({"topic": "t", "bootstrap_servers": "127.0.0.1:1"});
    says(&error(&settings), ErrorKind::Unavailable, &["127.0.0.1:1", "bootstrap_servers"]);
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let settings = json!({"topic": "t", "bootstrap_servers": "a:1", "password": {"env": "NO_SUCH_VARIABLE"}});
    says(&error(&settings), ErrorKind::FailedPrecondition, &["NO_SUCH_VARIABLE", "'password'"]);
}

static GUARDED: LazyLock<Broker> = LazyLock::new(|| guarded(&std::env::var(PASSWORD_FROM).unwrap()));

/// A broker with an authorizer; a JAAS line per listener is all that PLAIN needs.
fn guarded(password: &str) -> Broker {
    let jaas = format!(
        "listener.name.plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"admin\" password=\"root\" user_admin=\"root\" user_ann=\"{password}\" user_bob=\"{password}\";"
    );
    Broker::start_with(&[
        "listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms=PLAIN",
        "sasl.mechanism.inter.broker.protocol=PLAIN",
        &jaas,
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:admin;User:bob;User:ANONYMOUS",
    ])
    .unwrap()
}

fn settings(topic: &str, user: &str, variable: &str) -> Json {
    json!({
        "topic": topic, "bootstrap_servers": GUARDED.address, "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN", "username": user, "password": {"env": variable},
    })
}

/// With a wrong password.
pub fn refused(topic: &str) -> Refused {
    let source =
        open(&definition(&settings(topic, "ann", OTHER_PASSWORD_FROM)), &crate::conformance::fields()).unwrap();
    let secrets = [PASSWORD_FROM, OTHER_PASSWORD_FROM].map(|variable| std::env::var(variable).unwrap());
    Refused { source, says: "password=Secret(env=…)", secrets: secrets.into() }
}

#[test]
fn missing_rights_are_told_and_no_secret_with_them() {
    let admin = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "admin"),
        ("sasl.password", "root"),
    ];
    let topic = Topic::on(&GUARDED.address, 1, &admin);
    topic.send_rows(0, &rows(0, 3));
    let missing = error(&settings(&topic.name, "ann", PASSWORD_FROM));
    says(&missing, ErrorKind::FailedPrecondition, &["grant the user READ and DESCRIBE on the topic"]);
    assert!(!missing.to_string().contains(&std::env::var(PASSWORD_FROM).unwrap()), "{missing}");
    let mut source = open(&definition(&settings(&topic.name, "bob", PASSWORD_FROM)), &topic.fields).unwrap();
    assert_eq!(ids(&source.poll(None, 10).unwrap()), [0, 1, 2]);
}
