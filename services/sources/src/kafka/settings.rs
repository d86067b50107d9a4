//! Settings of the source: which topic in which format, and how to reach the brokers. What is left out comes from the server's
//! environment.

mod own;
mod registry;

use super::context::Secrets;
use super::errors;
use crate::settings::{Environment, check_variable, environment, secret, secret_name, text};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
pub use registry::{Address, RegistrySettings};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use thyme_core::definition::SourceDef;
use thyme_core::{Error, Result, suggest};

pub const NAMES: &[&str] = &[
    "topic",
    "format",
    "bootstrap_servers",
    "security_protocol",
    "sasl_mechanism",
    "username",
    "password",
    "properties",
    "schema_registry",
    "schema_registry_username",
    "schema_registry_password",
];

const FORMATS: &[(&str, Format)] = &[("json", Format::Json), ("avro", Format::Avro), ("protobuf", Format::Protobuf)];

/// Settings with a name of their own, what librdkafka calls them, and the variable that they fall back to.
const NAMED: &[(&str, &str, &str)] = &[
    ("bootstrap_servers", "bootstrap.servers", "KAFKA_BOOTSTRAP_SERVERS"),
    ("security_protocol", "security.protocol", "KAFKA_SECURITY_PROTOCOL"),
    ("sasl_mechanism", "sasl.mechanism", "KAFKA_SASL_MECHANISM"),
    ("username", "sasl.username", "KAFKA_SASL_USERNAME"),
    ("password", "sasl.password", "KAFKA_SASL_PASSWORD"),
];

/// Properties of librdkafka that a definition may set: how to connect. The rest carries what the source promises.
const PASSED: &[&str] = &[
    "ssl.",
    "sasl.",
    "enable.ssl.certificate.verification",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "client.rack",
    "client.dns.lookup",
    "socket.",
    "broker.address.",
    "connections.max.idle.ms",
    "reconnect.backoff.",
    "receive.message.max.bytes",
    "fetch.message.max.bytes",
    "max.partition.fetch.bytes",
    "fetch.max.bytes",
    "check.crcs",
];

/// No code is loaded into the server, and no command run.
const REFUSED: &[&str] = &["ssl.engine.", "ssl_engine", "ssl.providers", "sasl.kerberos.kinit.cmd"];

/// Properties whose values a definition only names.
const SECRET_PARTS: &[&str] =
    &["password", "secret", "key.pem", "keystore.pem", "oauthbearer.config", "assertion", "token"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Avro,
    Protobuf,
}

impl Format {
    pub fn name(self) -> &'static str {
        FORMATS.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }
}

#[derive(Debug)]
pub struct Settings {
    pub topic: String,
    pub format: Format,
    pub registry: RegistrySettings,
    /// By librdkafka's names.
    plain: BTreeMap<String, String>,
    /// By librdkafka's names: the setting and the variable that holds its value.
    secret: BTreeMap<String, (String, String)>,
}

impl Settings {
    pub fn of(source: &SourceDef) -> Result<Settings> {
        let owned = |name: &str| -> Result<Option<String>> {
            Ok(text(source, name)?.filter(|text| !text.is_empty()).map(str::to_string))
        };
        let topic = owned("topic")?;
        let format = owned("format")?.map_or(Ok(Format::Json), |name| format(&name))?;
        let mut settings = Settings {
            topic: topic.ok_or_else(|| Error::definition("a Kafka source needs a topic").field("topic"))?,
            format,
            registry: RegistrySettings::of(source, format)?,
            plain: BTreeMap::new(),
            secret: BTreeMap::new(),
        };
        for (name, property, _) in NAMED {
            if *name == "password" {
                if let Some(variable) = secret_name(source, name)? {
                    settings.secret.insert(property.to_string(), (name.to_string(), variable.to_string()));
                }
            } else if let Some(text) = owned(name)? {
                settings.plain.insert(property.to_string(), text);
            }
        }
        settings.take_properties(source)?;
        settings.check()?;
        Ok(settings)
    }

    fn take_properties(&mut self, source: &SourceDef) -> Result<()> {
        let properties = match source.settings.get("properties") {
            None | Some(Json::Null) => return Ok(()),
            Some(Json::Object(properties)) => properties,
            Some(_) => {
                return Err(Error::definition("setting 'properties' is an object of texts").field("properties"));
            }
        };
        for (name, given) in properties {
            check_property(name)?;
            let is_secret = SECRET_PARTS.iter().any(|part| name.contains(part));
            match given {
                Json::String(text) if !is_secret => {
                    self.plain.insert(name.clone(), text.clone());
                }
                Json::Object(members) => match members.get("env") {
                    Some(Json::String(variable)) if members.len() == 1 && !variable.is_empty() => {
                        check_variable(variable, name)?;
                        self.secret.insert(name.clone(), (name.clone(), variable.clone()));
                    }
                    _ => return Err(no_secret(name)),
                },
                _ if is_secret => return Err(no_secret(name)),
                other => {
                    let message = format!("property '{name}' is a text, got {other}");
                    return Err(Error::definition(message).field("properties"));
                }
            }
        }
        Ok(())
    }

    /// As librdkafka reads them, secrets aside.
    fn check(&self) -> Result<()> {
        let mut config = ClientConfig::new();
        for (name, value) in &self.plain {
            config.set(name, value);
        }
        match config.create_native_config() {
            Ok(_) => Ok(()),
            Err(KafkaError::ClientConfig(_, reason, name, _)) => Err(errors::of_settings(&name, &reason)),
            Err(error) => Err(errors::of_settings("", &error.to_string())),
        }
    }

    /// How a client is made, with what the environment says now, and the values to keep out of texts.
    pub fn client(&self) -> Result<(ClientConfig, Secrets)> {
        self.client_in(environment)
    }

    pub fn client_in(&self, environment: Environment) -> Result<(ClientConfig, Secrets)> {
        let mut config = ClientConfig::new();
        let mut secrets = Secrets::default();
        let defaults = [
            ("reconnect.backoff.max.ms", "1000"),
            ("socket.keepalive.enable", "true"),
            ("fetch.queue.backoff.ms", "10"),
            ("queued.max.messages.kbytes", "16384"),
        ];
        for (name, value) in defaults {
            config.set(name, value);
        }
        let given_brokers = self.plain.get("bootstrap.servers");
        let is_servers_own = given_brokers.is_none_or(|given| own::names(given, environment));
        let mut is_withheld = false;
        for (name, property, variable) in NAMED {
            let is_given = self.plain.contains_key(*property) || self.secret.contains_key(*property);
            let Some(value) = environment(variable).filter(|_| !is_given) else { continue };
            if *name == "password" {
                is_withheld = !is_servers_own;
                if is_withheld {
                    continue;
                }
                secrets.0.push(value.clone());
            }
            config.set(*property, value);
        }
        for (name, value) in &self.plain {
            config.set(name, value);
        }
        for (property, (name, variable)) in &self.secret {
            let value = secret(variable, name)?;
            secrets.0.push(value.clone());
            config.set(property, value);
        }
        if config.get("bootstrap.servers").is_none() {
            return Err(Error::precondition("the Kafka source names no broker").field("bootstrap_servers").hint(
                "write bootstrap_servers=\"host:9092\", or set KAFKA_BOOTSTRAP_SERVERS where the server is started",
            ));
        }
        if let Some(brokers) = given_brokers.filter(|_| is_withheld && own::asks_for_password(&config)) {
            return Err(own::withheld(brokers));
        }
        let fixed = [
            // A name that librdkafka wants: nobody joins it, and no offset is committed.
            ("group.id", "thyme-source"),
            ("client.id", "thyme-source"),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("allow.auto.create.topics", "false"),
            ("enable.partition.eof", "true"),
            // How long the end of a partition takes to be told.
            ("fetch.wait.max.ms", "50"),
        ];
        for (name, value) in fixed {
            config.set(name, value);
        }
        Ok((config, secrets))
    }
}

fn format(name: &str) -> Result<Format> {
    let found = FORMATS.iter().find(|(known, _)| *known == name);
    found.map(|(_, format)| *format).ok_or_else(|| {
        let known: Vec<String> = FORMATS.iter().map(|(known, _)| format!("\"{known}\"")).collect();
        let hint = match suggest::nearest(name, FORMATS.iter().map(|(known, _)| *known)) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("this release reads format={}", known.join(", ")),
        };
        Error::definition(format!("unknown format '{name}' of a Kafka source")).field("format").hint(hint)
    })
}

fn check_property(name: &str) -> Result<()> {
    let refuse = |hint: String| {
        Err(Error::definition(format!("property '{name}' cannot be set")).field("properties").hint(hint))
    };
    let aliases = |property: &str| name == property || (property == "sasl.mechanism" && name == "sasl.mechanisms");
    if let Some((setting, ..)) = NAMED.iter().find(|(_, property, _)| aliases(property)) {
        return refuse(format!("write {setting}=…"));
    }
    if REFUSED.iter().any(|refused| name.starts_with(refused)) {
        return refuse("no code is loaded into the server, and no command run".to_string());
    }
    let is_passed = |passed: &&str| name == *passed || (passed.ends_with('.') && name.starts_with(*passed));
    if !PASSED.iter().any(is_passed) {
        return refuse("properties say how to connect: \"ssl.…\", \"sasl.…\", \"socket.…\" and such".to_string());
    }
    Ok(())
}

fn no_secret(name: &str) -> Error {
    Error::definition(format!("property '{name}' is a secret, and a secret is not written into a definition"))
        .field("properties")
        .hint(format!("write properties={{\"{name}\": Secret(env=\"NAME_OF_A_VARIABLE\")}}"))
}
