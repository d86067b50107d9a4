//! The password in the server's environment goes to the brokers that the environment names beside it, and to no others: where a
//! source connects to is said by whoever commits.

use crate::settings::Environment;
use rdkafka::ClientConfig;
use thyme_core::Error;

/// Whether the environment names each of these brokers, in whatever order.
pub fn names(given: &str, environment: Environment) -> bool {
    let own = environment("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_default();
    let own: Vec<String> = brokers(&own).collect();
    brokers(given).all(|broker| own.contains(&broker))
}

fn brokers(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(|broker| broker.trim().to_lowercase()).filter(|broker| !broker.is_empty())
}

pub fn asks_for_password(config: &ClientConfig) -> bool {
    let is_sasl = config.get("security.protocol").is_some_and(|protocol| protocol.to_lowercase().starts_with("sasl"));
    let mechanism = config.get("sasl.mechanism").unwrap_or_default().to_uppercase();
    is_sasl && (mechanism == "PLAIN" || mechanism.starts_with("SCRAM"))
}

pub fn withheld(brokers: &str) -> Error {
    let message = format!(
        "the password in KAFKA_SASL_PASSWORD is not sent to {brokers}, which KAFKA_BOOTSTRAP_SERVERS does not name"
    );
    Error::precondition(message).field("password").hint(
        "write password=Secret(env=…) with a variable for this source, or set KAFKA_BOOTSTRAP_SERVERS where the server is started",
    )
}
