//! What librdkafka says, as errors that tell what to do.

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use thyme_core::{Error, ErrorKind};

/// Errors that waiting does not help.
pub fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::SSL
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::AutoOffsetReset
            | Code::OffsetOutOfRange
            | Code::MessageSizeTooLarge
            | Code::BadMessage
            | Code::InvalidMessage
            | Code::Fatal
    )
}

/// A property that librdkafka does not take. `reason` shows no secret.
pub fn of_settings(name: &str, reason: &str) -> Error {
    let message = if name.is_empty() { reason.to_string() } else { format!("property '{name}': {reason}") };
    Error::definition(message)
        .field("properties")
        .hint("see librdkafka's CONFIGURATION.md for the properties and their values")
}

pub fn code_of(error: &KafkaError) -> Option<Code> {
    error.rdkafka_error_code()
}

/// Whether the brokers are to know the client by a certificate, if by anything, and it has none.
pub fn lacks_certificate(config: &ClientConfig) -> bool {
    let speaks_tls = config.get("security.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("ssl"));
    let places = ["ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"];
    speaks_tls && places.iter().all(|property| config.get(property).is_none())
}

/// That the broker refuses the server is no fault of the caller's own key: never "unauthenticated".
pub fn of_code(message: String, code: Code, lacks_certificate: bool) -> Error {
    let (kind, hint) = match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => (
            ErrorKind::FailedPrecondition,
            "check security_protocol, sasl_mechanism, username, and the variable that its password=Secret(env=…) names",
        ),
        Code::SSL => (
            ErrorKind::FailedPrecondition,
            "check security_protocol and the \"ssl.…\" properties against the broker's certificate",
        ),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            (ErrorKind::FailedPrecondition, "grant the user READ and DESCRIBE on the topic")
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            (ErrorKind::NotFound, "check the name of the topic; the source does not create it")
        }
        Code::InvalidTopic => (ErrorKind::FailedPrecondition, "check the name of the topic"),
        Code::MessageSizeTooLarge => (
            ErrorKind::FailedPrecondition,
            "raise properties={\"receive.message.max.bytes\": …} above the size of the largest record",
        ),
        // The next poll looks at the bounds, and says what is gone.
        Code::AutoOffsetReset | Code::OffsetOutOfRange => {
            (ErrorKind::Unavailable, "records were deleted while they were read; it is tried again by itself")
        }
        // A broker that misses a certificate hangs up, and says nothing.
        _ if lacks_certificate => (
            ErrorKind::Unavailable,
            "check bootstrap_servers and security_protocol, that the brokers can be reached from the server, and, if they ask \
             for a certificate, properties={\"ssl.certificate.location\": …, \"ssl.key.location\": …}",
        ),
        _ => (
            ErrorKind::Unavailable,
            "check bootstrap_servers and security_protocol, and that the brokers can be reached from the server",
        ),
    };
    Error::new(kind, message).hint(hint)
}
