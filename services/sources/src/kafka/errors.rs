//! What librdkafka says, as errors that tell what to do.

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

/// That the broker refuses the server is no fault of the caller's own key: never "unauthenticated".
pub fn of_code(message: String, code: Code) -> Error {
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
        _ => (
            ErrorKind::Unavailable,
            "check bootstrap_servers and security_protocol, and that the brokers can be reached from the server",
        ),
    };
    Error::new(kind, message).hint(hint)
}
