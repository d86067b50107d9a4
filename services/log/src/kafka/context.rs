//! What librdkafka tells its clients: log lines, errors, delivery reports.

use super::append::Delivery;
use super::settings::KafkaSettings;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use std::sync::Arc;

/// The context of every client.
pub struct Context {
    settings: Arc<KafkaSettings>,
    /// The last error that told why the broker cannot be used.
    trouble: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
}

impl Context {
    pub fn new(settings: Arc<KafkaSettings>, trouble: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>) -> Context {
        Context { settings, trouble }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let message = self.settings.hide_secrets(message);
        match level {
            // One property set serves consumers and producers, so that each warns of the other's.
            _ if facility == "CONFWARN" => tracing::debug!(facility, "kafka: {message}"),
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "kafka: {message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::debug!(facility, "kafka: {message}");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::trace!(facility, "kafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        // The end of a partition is told as an error, and is none.
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        let reason = self.settings.hide_secrets(reason);
        tracing::debug!(%code, "kafka: {reason}");
        if code != RDKafkaErrorCode::AllBrokersDown {
            *self.trouble.lock() = Some((code, reason));
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Arc<Delivery>) {
        match result {
            Ok(message) => delivery.done(u64::try_from(message.offset()).unwrap_or_default()),
            Err((error, _)) => delivery.failed(1, error.clone()),
        }
    }
}
