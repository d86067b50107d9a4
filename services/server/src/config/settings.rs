//! The list of settings: name, default, meaning.

#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// `section.key`; the environment spells it `THYME_SECTION__KEY`, and one without a section `THYME__KEY`.
    pub key: &'static str,
    pub default: &'static str,
    pub meaning: &'static str,
}

const fn setting(key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { key, default, meaning }
}

/// Stands for every key below it; in the environment its dots are underscores.
pub const KAFKA_PROPERTIES: &str = "log.kafka.*";

pub const SETTINGS: &[Setting] = &[
    setting("data_dir", ".thyme", "where log, state and catalog are kept; deleting it is the reset"),
    setting("server.control_addr", "127.0.0.1:8080", "control and ingest: gRPC and /api/v1"),
    setting("server.query_addr", "127.0.0.1:8081", "features: gRPC, Flight and HTTP"),
    setting(
        "server.role",
        "all",
        "what this server does: all, or query (a replica that answers and takes no part in the work)",
    ),
    setting(
        "server.clock",
        "wall",
        "what now is for a query without ts: wall, or event (the greatest accepted event time)",
    ),
    setting(
        "log.url",
        "embedded:",
        "the event log: embedded: (in the data directory) or kafka://host:port[,host:port]/PREFIX",
    ),
    setting(
        "log.replication",
        "broker",
        "copies of each Kafka topic: a number, or broker for the broker's own default",
    ),
    setting(
        "log.slices",
        "log",
        "how many slices the work on a Kafka log is cut into, which servers share: a number, or log for as many as it was begun with (1)",
    ),
    setting(KAFKA_PROPERTIES, "", "any property of librdkafka, such as \"security.protocol\""),
    setting(
        "catalog.url",
        "sqlite:",
        "the catalog: sqlite: (in the data directory) or postgres://user:password@host:port/database",
    ),
    setting(
        "checkpoints.url",
        "",
        "where checkpoints of the state go: file:///folder or s3://bucket/prefix; empty: none are taken",
    ),
    setting("checkpoints.interval_s", "300", "seconds between two checkpoints"),
    setting("checkpoints.keep", "3", "how many checkpoints are kept"),
    setting("checkpoints.endpoint", "", "of an S3-compatible service that is not AWS, such as http://127.0.0.1:9000"),
    setting("ingest.max_rows", "1000000", "most rows of one ingest call"),
    setting("ingest.max_bytes", "67108864", "largest request, in bytes"),
    setting("logging.format", "text", "text or json, on stderr"),
    setting("logging.level", "info", "error, warn, info, debug, trace, or a tracing filter"),
    setting("query.run_log", "true", "whether query runs are recorded"),
    setting("query.run_log_keep", "100000", "how many query runs are kept"),
    setting("query.extractor_workers", "2", "threads that run Python extractors"),
    setting("query.extractor_deadline_ms", "2000", "longest run of an extractor that does not say otherwise"),
];
