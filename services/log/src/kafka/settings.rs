//! Where the broker is and how to talk to it: the address, and any property of librdkafka that is the user's to choose.

use rdkafka::ClientConfig;
use std::collections::BTreeMap;
use std::fmt;
use thyme_core::{Error, Result};

/// Longest transaction; the broker aborts one that takes longer.
pub const TRANSACTION_TIMEOUT_MS: u64 = 10_000;

/// How to reach the broker. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// Begins the name of every topic, consumer group and transactional id.
    pub prefix: String,
    /// Copies of each topic; `None` leaves it to the broker.
    pub replication: Option<u16>,
    /// How many slices the work on the log has; `None`: as many as it was begun with, and one where it is new.
    pub slices: Option<u16>,
    /// Properties of librdkafka, as the user gave them.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("prefix", &self.prefix)
            .field("replication", &self.replication)
            .field("slices", &self.slices)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// Properties that carry the protocol, and why they are not the user's. A name that ends in a dot stands for all below it.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "the address is part of log.url"),
    ("metadata.broker.list", "the address is part of log.url"),
    ("group.id", "consumer groups are named by Thyme, after the prefix in log.url"),
    ("group.instance.id", "members of a group are named by Thyme"),
    ("group.protocol", "partitions are assigned by Thyme"),
    ("partition.assignment.strategy", "partitions are assigned by Thyme"),
    ("client.id", "clients are named by Thyme"),
    ("transactional.id", "transactional ids are named by Thyme, after the prefix in log.url"),
    ("transaction.timeout.ms", "a commit that takes longer is resolved by Thyme"),
    ("enable.idempotence", "a record must be appended once however often it is sent"),
    ("enable.gapless.guarantee", "a record that failed must not stop those after it"),
    ("acks", "what is acknowledged must be durable"),
    ("request.required.acks", "what is acknowledged must be durable"),
    ("isolation.level", "only committed records may be read"),
    ("auto.offset.reset", "records that are gone must be an error, not skipped"),
    ("enable.auto.commit", "progress is committed with its outputs, in one transaction"),
    ("auto.commit.enable", "progress is committed with its outputs, in one transaction"),
    ("enable.auto.offset.store", "progress is committed with its outputs, in one transaction"),
    ("enable.partition.eof", "the end of a partition must be known"),
    ("allow.auto.create.topics", "topics are created at commit"),
    ("partitioner", "the key hash belongs to the definition"),
    ("plugin.library.paths", "no code is loaded into the server"),
];

/// Properties whose values never reach a log line or an error text.
const SECRET_PARTS: &[&str] = &["password", "secret", "key.pem", "oauthbearer.config", "assertion", "token"];

impl KafkaSettings {
    /// Reads `kafka://host:port[,host:port][/PREFIX]`.
    pub fn parse(url: &str, replication: Option<u16>, properties: BTreeMap<String, String>) -> Result<KafkaSettings> {
        let wrong = |what: &str| {
            Error::invalid(format!("log.url: {what}"))
                .field("log.url")
                .hint("write kafka://host:port[,host:port]/PREFIX, such as kafka://127.0.0.1:9092/thyme")
        };
        let rest = url.strip_prefix("kafka://").ok_or_else(|| wrong("no kafka:// address"))?;
        let (brokers, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = if prefix.is_empty() { "thyme" } else { prefix };
        if brokers.contains('@') {
            return Err(wrong("user and password do not belong into the address").hint(
                "give them as [log.kafka] \"sasl.username\" and \"sasl.password\" (or THYME_LOG__KAFKA__SASL_PASSWORD)",
            ));
        }
        for broker in brokers.split(',') {
            let port =
                broker.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
            if port.is_none_or(|port| port == 0) {
                return Err(wrong(&format!("'{broker}' is not host:port")));
            }
        }
        let is_legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        if prefix.len() > 100 || !prefix.chars().all(is_legal) {
            return Err(wrong(&format!(
                "the prefix '{prefix}' is not made of letters, digits, '.', '_' and '-' (100 at most)"
            )));
        }
        for name in properties.keys() {
            if let Some((_, reason)) = OURS.iter().find(|(ours, _)| ours == name) {
                return Err(Error::invalid(format!("[log.kafka] \"{name}\" cannot be set: {reason}"))
                    .field(format!("log.kafka.{name}"))
                    .hint("leave it out"));
            }
        }
        let (brokers, prefix) = (brokers.to_string(), prefix.to_string());
        Ok(KafkaSettings { brokers, prefix, replication, slices: None, properties })
    }

    /// A name as the broker knows it.
    pub fn full_name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Whether the brokers are to know the client by a certificate, if by anything, and it has none.
    pub fn lacks_certificate(&self) -> bool {
        let given = |name: &str| self.properties.get(name);
        let speaks_tls = given("security.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("ssl"));
        let places = ["ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"];
        speaks_tls && places.iter().all(|name| given(name).is_none())
    }

    /// A text with every secret value blotted out.
    pub fn hide_secrets(&self, text: &str) -> String {
        let mut hidden = text.to_string();
        for (name, value) in &self.properties {
            if !value.is_empty() && SECRET_PARTS.iter().any(|part| name.contains(part)) {
                hidden = hidden.replace(value.as_str(), "***");
            }
        }
        hidden
    }

    /// What every client has: our defaults, the user's properties, what carries the protocol.
    fn client(&self, role: &str, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("reconnect.backoff.max.ms", "1000").set("socket.keepalive.enable", "true");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers).set("client.id", format!("{}-{role}", self.prefix));
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        config
    }

    pub fn admin(&self) -> ClientConfig {
        self.client("admin", &[], &[])
    }

    /// Reads partitions; the group is only a name, nobody joins it.
    pub fn reader(&self) -> ClientConfig {
        let defaults = [
            // How long a marker at the end can hold up who waits for the end.
            ("fetch.wait.max.ms", "100"),
            // Per partition.
            ("queued.max.messages.kbytes", "8192"),
            ("fetch.queue.backoff.ms", "10"),
        ];
        let mut config = self.consumer("reader", &self.full_name("reader"), &defaults);
        config.set("enable.partition.eof", "true");
        config
    }

    /// Knows the offsets of a group.
    pub fn group(&self, group: &str) -> ClientConfig {
        self.consumer("offsets", group, &[])
    }

    /// Takes part in the group of nodes; called by its address, so that the others can tell where it is.
    pub fn member(&self, group: &str, id: &str, url: &str) -> ClientConfig {
        let mut config = self.present(group, url);
        config.set("group.instance.id", id);
        config
    }

    /// Is a member of a group that is called so, until it leaves.
    pub fn present(&self, group: &str, name: &str) -> ClientConfig {
        let fixed = [
            ("client.id", name),
            ("group.id", group),
            ("partition.assignment.strategy", "cooperative-sticky"),
            // The topic is empty and stays so.
            ("auto.offset.reset", "latest"),
            ("enable.auto.commit", "false"),
            ("allow.auto.create.topics", "false"),
        ];
        self.client("member", &[("session.timeout.ms", "10000")], &fixed)
    }

    fn consumer(&self, role: &str, group: &str, defaults: &[(&str, &str)]) -> ClientConfig {
        let fixed = [
            ("group.id", group),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("allow.auto.create.topics", "false"),
        ];
        self.client(role, defaults, &fixed)
    }

    /// Appends outside transactions.
    pub fn appender(&self) -> ClientConfig {
        let defaults =
            [("linger.ms", "2"), ("message.timeout.ms", "10000"), ("queue.buffering.max.messages", "500000")];
        self.client("appender", &defaults, &[("enable.idempotence", "true"), ("acks", "all")])
    }

    pub fn transactional(&self, id: &str) -> ClientConfig {
        let timeout = TRANSACTION_TIMEOUT_MS.to_string();
        let fixed = [
            ("transactional.id", id),
            ("transaction.timeout.ms", timeout.as_str()),
            ("message.timeout.ms", timeout.as_str()),
            ("enable.idempotence", "true"),
            ("acks", "all"),
        ];
        self.client("transactions", &[("queue.buffering.max.messages", "500000")], &fixed)
    }
}
