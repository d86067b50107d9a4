//! Errors of librdkafka as ours: what to do decides the kind, and the hint names it.

use super::settings::KafkaSettings;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thyme_core::{Error, ErrorKind};

/// `what` was being done when it failed.
pub fn translate(settings: &KafkaSettings, what: &str, error: &KafkaError) -> Error {
    if let KafkaError::ClientConfig(_, reason, name, _) = error {
        // The reason may repeat the value.
        let reason = settings.hide_secrets(reason);
        return Error::invalid(format!("[log.kafka] \"{name}\": {reason}"))
            .field(format!("log.kafka.{name}"))
            .hint("see librdkafka's CONFIGURATION.md for the properties and their values");
    }
    if let KafkaError::ClientCreation(reason) = error {
        return Error::invalid(format!("[log.kafka]: {}", settings.hide_secrets(reason)))
            .field("log.kafka")
            .hint("see librdkafka's CONFIGURATION.md for the properties and their values");
    }
    match code_of(error) {
        Some(code) => of_code(settings, what, code),
        None => Error::unavailable(format!("{what}: {}", settings.hide_secrets(&error.to_string()))),
    }
}

pub fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

pub fn of_code(settings: &KafkaSettings, what: &str, code: RDKafkaErrorCode) -> Error {
    use RDKafkaErrorCode as Code;
    let KafkaSettings { brokers, prefix, .. } = settings;
    let message = format!("{what}: {code}");
    match code {
        Code::TopicAuthorizationFailed => {
            missing(message, &format!("READ, WRITE, CREATE, DELETE and DESCRIBE on topics with the prefix '{prefix}.'"))
        }
        Code::GroupAuthorizationFailed => missing(message, &format!("READ on groups with the prefix '{prefix}.'")),
        Code::TransactionalIdAuthorizationFailed => {
            missing(message, &format!("WRITE and DESCRIBE on transactional ids with the prefix '{prefix}.'"))
        }
        // Since Kafka 3.0 the right to write any topic is enough.
        Code::ClusterAuthorizationFailed => missing(
            message,
            &format!("WRITE on topics with the prefix '{prefix}.', and IDEMPOTENT_WRITE on the cluster"),
        ),
        Code::SaslAuthenticationFailed | Code::Authentication | Code::UnsupportedSASLMechanism => {
            Error::new(ErrorKind::Unauthenticated, message).hint(
                "check [log.kafka] \"security.protocol\", \"sasl.mechanism\", \"sasl.username\" and \"sasl.password\"",
            )
        }
        Code::SSL => Error::precondition(message).hint(
            "check [log.kafka] \"security.protocol\" and the \"ssl.*\" properties against the broker's certificate",
        ),
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            Error::new(ErrorKind::ResourceExhausted, message).field("rows").hint(
                "send smaller rows, or raise \"message.max.bytes\" in [log.kafka] and max.message.bytes of the topic",
            )
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition => Error::not_found(message)
            .hint("the topic is gone from the broker; commit the definition again to create it (its records are lost)"),
        Code::InvalidReplicationFactor => {
            Error::precondition(message).hint("set log.replication to at most the number of brokers")
        }
        Code::PolicyViolation | Code::InvalidConfig => {
            Error::precondition(message).hint("the broker's policy forbids such a topic; ask who runs it")
        }
        Code::InvalidTopic => Error::invalid(message)
            .hint("names of topics are made of letters, digits, '.', '_' and '-', 249 at most with the prefix"),
        _ => {
            // A broker that misses a certificate only hangs up.
            let certificate = match settings.lacks_certificate() {
                true => ", \"ssl.certificate.location\" and \"ssl.key.location\" if it asks for a certificate",
                false => "",
            };
            Error::unavailable(message).hint(format!(
                "check that a Kafka broker listens at {brokers} (log.url), can be reached from here and speaks as [log.kafka] \
                 \"security.protocol\" says{certificate}; it is tried again by itself"
            ))
        }
    }
}

/// A right that the principal lacks. The guide names those that a server needs in all ("The log on Kafka").
fn missing(message: String, rights: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, message).hint(format!("grant the principal of [log.kafka] {rights}"))
}
