//! What cannot work is refused with the reason and the fix.

use super::*;
use std::net::TcpListener;
use thyme_core::{Error, ErrorKind};

#[track_caller]
fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "'{part}' is missing in: {text}");
    }
}

fn refused(settings: KafkaSettings) -> Error {
    KafkaLog::open(settings).err().unwrap()
}

#[test]
fn nobody_listens_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = refused(KafkaSettings::parse(&format!("kafka://{free}"), None, BTreeMap::new()).unwrap());
    says(&error, ErrorKind::Unavailable, &[&free.to_string(), "log.url", "check that a Kafka broker listens"]);
}

#[test]
fn a_property_that_librdkafka_does_not_know() {
    let error = refused(settings(&BROKER, "x", &[("sasl.pasword", "hunter2")]));
    says(&error, ErrorKind::InvalidArgument, &["[log.kafka] \"sasl.pasword\"", "CONFIGURATION.md"]);
    assert!(!error.to_string().contains("hunter2"));
    let error = refused(settings(&BROKER, "x", &[("security.protocol", "TLS")]));
    says(&error, ErrorKind::InvalidArgument, &["[log.kafka] \"security.protocol\""]);
}

#[test]
fn another_number_of_partitions() {
    let log = KafkaLog::open(settings(&BROKER, &own_prefix(), &[])).unwrap();
    log.create_topic("t", 2).unwrap();
    let error = log.create_topic("t", 3).unwrap_err();
    says(&error, ErrorKind::Conflict, &["exists with 2 partitions, not 3", "partitions=2", "another prefix"]);
}

#[test]
fn more_copies_than_brokers() {
    let url = format!("kafka://{}/{}", BROKER.address, own_prefix());
    let log = KafkaLog::open(KafkaSettings::parse(&url, Some(3), BTreeMap::new()).unwrap()).unwrap();
    let error = log.create_topic("t", 1).unwrap_err();
    says(&error, ErrorKind::FailedPrecondition, &["log.replication"]);
}

#[tokio::test]
async fn a_record_that_is_too_large() {
    let prefix = own_prefix();
    let log = KafkaLog::open(settings(&BROKER, &prefix, &[])).unwrap();
    log.create_topic("t", 1).unwrap();
    let large = "x".repeat(3 << 20);
    let error = log.append(vec![batch("t", 0, &["small", &large])]).await.unwrap_err();
    says(&error, ErrorKind::ResourceExhausted, &["largest=3145728 bytes", "message.max.bytes"]);
    // The client lets it through, the broker does not.
    let wider = KafkaLog::open(settings(&BROKER, &prefix, &[("message.max.bytes", "8000000")]));
    let error = wider.unwrap().append(vec![batch("t", 0, &[&large])]).await.unwrap_err();
    says(&error, ErrorKind::ResourceExhausted, &["largest=3145728 bytes", "max.message.bytes of the topic"]);
    log.append(vec![batch("t", 0, &["after"])]).await.unwrap();
    assert_eq!(values(&log, "t", 0).last().unwrap(), "after");
}

#[tokio::test]
async fn retention_has_cut_records_off() {
    use rdkafka::TopicPartitionList;
    use rdkafka::admin::{AdminClient, AdminOptions};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::{ClientConfig, Offset};
    let prefix = own_prefix();
    let log = KafkaLog::open(settings(&BROKER, &prefix, &[])).unwrap();
    log.create_topic("t", 1).unwrap();
    log.append(vec![batch("t", 0, &["a", "b", "c", "d"])]).await.unwrap();
    assert_eq!(log.read("t", 0, 0, 2, 1000).unwrap().len(), 2);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &BROKER.address).create().unwrap();
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&format!("{prefix}.t"), 0, Offset::Offset(3)).unwrap();
    admin.delete_records(&before, &AdminOptions::new()).await.unwrap();
    let other = KafkaLog::open(settings(&BROKER, &prefix, &[])).unwrap();
    let error = other.read("t", 0, 2, 10, 1000).unwrap_err();
    let parts = [&format!("topic={prefix}.t"), "partition=0", "wanted=2", "first=3", "retention.ms=-1"];
    says(&error, ErrorKind::DataLoss, &parts);
    assert_eq!(other.read("t", 0, 3, 10, 1000).unwrap()[0].value, "d");
}

/// A broker with an authorizer; a JAAS line per listener is all that PLAIN needs.
fn guarded() -> Broker {
    let jaas = "listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
                username=\"admin\" password=\"root\" user_admin=\"root\" user_ann=\"hunter2\";";
    // The internal listener stays plain; the guarded one has the port.
    Broker::start_with(&[
        "listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms=PLAIN",
        "sasl.mechanism.inter.broker.protocol=PLAIN",
        &jaas.replace("sasl_plaintext", "plaintext"),
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:admin;User:ANONYMOUS",
    ])
    .unwrap()
}

#[test]
fn a_principal_without_rights_is_told_which_and_a_wrong_password_is_told_as_such() {
    let broker = guarded();
    let login = |user, password| {
        [
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", user),
            ("sasl.password", password),
        ]
    };
    let error = refused(settings(&broker, "shop", &login("ann", "hunter3")));
    says(&error, ErrorKind::Unauthenticated, &["sasl.password"]);
    assert!(!error.to_string().contains("hunter3"), "{error}");

    let admin = KafkaLog::open(settings(&broker, "shop", &login("admin", "root"))).unwrap();
    admin.create_topic("t", 1).unwrap();

    let ann = KafkaLog::open(settings(&broker, "shop", &login("ann", "hunter2"))).unwrap();
    let error = ann.create_topic("mine", 1).unwrap_err();
    says(&error, ErrorKind::PermissionDenied, &["shop.mine", "with the prefix 'shop.'"]);
    let error = ann.producer("engine").err().unwrap();
    says(&error, ErrorKind::PermissionDenied, &["shop.engine", "transactional ids"]);
}
