//! What librdkafka tells its client: log lines and errors. Neither shows a secret.

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::sync::Arc;

/// Why the broker cannot be used, as far as it is known.
pub type Trouble = Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>;

/// The values of secrets, to be kept out of every text.
#[derive(Clone, Default)]
pub struct Secrets(pub Vec<String>);

impl Secrets {
    pub fn hide(&self, text: &str) -> String {
        let values = self.0.iter().filter(|value| !value.is_empty());
        values.fold(text.to_string(), |text, value| text.replace(value.as_str(), "***"))
    }
}

pub struct Context {
    pub secrets: Secrets,
    pub trouble: Trouble,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let message = self.secrets.hide(message);
        match level {
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::trace!(facility, "kafka source: {message}"),
            _ => tracing::debug!(facility, "kafka source: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let is_news = !matches!(
            code,
            // The end of a partition is told as an error, and is none. The group is only a name.
            RDKafkaErrorCode::PartitionEOF
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::GroupAuthorizationFailed
        );
        if is_news {
            *self.trouble.lock() = Some((code, self.secrets.hide(reason)));
        }
    }
}

impl ConsumerContext for Context {}
