//! Checks datasets and binds them: fields, key, timestamp, lengths of time, source.

use super::compiled::CompiledDataset;
use super::findings::{About, Findings, check_name, repeated};
use super::{DatasetDef, SourceDef};
use crate::error::{Error, Result};
use crate::key::{DEFAULT_PARTITIONS, VNODES, is_key_type};
use crate::schema::{DataType, Field};
use crate::suggest;
use crate::window::{format_duration, parse_duration};
use std::collections::BTreeMap;

const DAY: i64 = 86_400_000_000;
/// How far ahead of its append time an event may be, unless the dataset says otherwise.
const DEFAULT_MAX_FUTURE: i64 = DAY;
/// How long event ids are remembered, unless the dataset says otherwise.
const DEFAULT_DEDUP_WINDOW: i64 = 7 * DAY;

/// Kinds of sources, what people call them, and the setting that each needs. The connectors check the rest.
const SOURCES: [(&str, &str, &str); 3] =
    [("file", "file", "path"), ("kafka", "Kafka", "topic"), ("postgres", "PostgreSQL", "table")];
/// Kinds that are followed, so that there is neither an order to choose nor an interval.
const STREAMING: [&str; 1] = ["kafka"];

/// The dataset, if nothing is wrong with it. `pipelines` are the names of those that fill it.
pub(super) fn compile_dataset(
    definition: &DatasetDef,
    pipelines: Vec<String>,
    findings: &mut Findings,
) -> Option<CompiledDataset> {
    let what = format!("dataset '{}'", definition.name);
    let mut about = About::new(findings, definition.location.as_ref(), what);
    let before = about.count();
    about.keep(check_name("dataset", &definition.name));
    if definition.version == 0 {
        about.wrong("versions begin at 1");
    }
    let key_columns = check_fields(&definition.fields, &mut about);
    let time_column = check_timestamp(&definition.fields, &mut about);
    let is_raw = pipelines.is_empty();
    if is_raw {
        refuse_structs(&definition.fields, &mut about);
    } else {
        refuse_log_settings(definition, &mut about);
    }
    check_emit(definition, pipelines.len(), &mut about);
    let mut length = |name: &str, text: &Option<String>| {
        let text = text.as_ref()?;
        about.keep(parse_length(name, text))
    };
    let own_lateness = length("max_lateness", &definition.max_lateness);
    let max_future = length("max_future", &definition.max_future).unwrap_or(DEFAULT_MAX_FUTURE);
    let dedup_window = length("dedup_window", &definition.dedup_window).unwrap_or(DEFAULT_DEDUP_WINDOW);
    let history = length("history", &definition.history);
    let partitions = definition.partitions.unwrap_or(DEFAULT_PARTITIONS);
    if !(1..=VNODES).contains(&partitions) {
        about.report(
            Error::definition(format!("partitions must be from 1 to {VNODES}, got {partitions}")).field("partitions"),
        );
    }
    let source_lateness = match &definition.source {
        Some(source) => check_source(source, definition, is_raw, findings),
        None => None,
    };
    let max_lateness = source_lateness.or(own_lateness);
    if let (Some(history), true) = (history, is_raw) {
        check_history(definition, history, max_lateness, findings);
    }
    if findings.count() > before {
        return None;
    }
    Some(CompiledDataset {
        name: definition.name.clone(),
        version: definition.version,
        index: definition.index,
        types: definition.fields.iter().map(|field| field.data_type.clone()).collect(),
        fields: definition.fields.clone(),
        key_columns,
        time_column: time_column?,
        max_lateness,
        max_future,
        dedup_window,
        partitions,
        history,
        emit: definition.emit,
        pipelines,
        outputs: BTreeMap::new(),
        source: definition.source.clone(),
        metadata: definition.metadata.clone(),
        location: definition.location.clone(),
    })
}

/// Checks the fields; the columns of the key.
fn check_fields(fields: &[Field], about: &mut About<'_>) -> Vec<usize> {
    for field in fields {
        about.keep(check_name("field", &field.name));
    }
    for name in repeated(fields.iter().map(|field| field.name.as_str())) {
        about.wrong(format!("field '{name}' occurs twice"));
    }
    let mut keys = Vec::new();
    for (column, field) in fields.iter().enumerate().filter(|(_, field)| field.key) {
        keys.push(column);
        if !is_key_type(&field.data_type) {
            about.wrong_hint(
                format!("key field '{}' is {}", field.name, field.data_type),
                "a key is bool, int, str, bytes or datetime",
            );
        }
        if field.nullable {
            about.wrong(format!("key field '{}' cannot be Optional", field.name));
        }
    }
    if keys.is_empty() {
        about.wrong_hint("no key field", "mark at least one field with field(key=True)");
    }
    keys
}

/// Events do not carry what only aggregates give.
fn refuse_structs(fields: &[Field], about: &mut About<'_>) {
    for field in fields.iter().filter(|field| field.data_type.holds_struct()) {
        about.report(
            Error::definition(format!("field '{}' is {}, which only an aggregate gives", field.name, field.data_type))
                .field(field.name.as_str())
                .hint("declare it in the dataset that the pipeline fills"),
        );
    }
}

fn check_timestamp(fields: &[Field], about: &mut About<'_>) -> Option<usize> {
    let marked: Vec<usize> = (0..fields.len()).filter(|&column| fields[column].timestamp).collect();
    let [column] = marked.as_slice() else {
        let names: Vec<&str> = marked.iter().map(|&column| fields[column].name.as_str()).collect();
        let found = if names.is_empty() { "none".to_string() } else { names.join(", ") };
        about.wrong_hint(
            format!("a dataset has exactly one timestamp field, found {found}"),
            "mark one datetime field with field(timestamp=True)",
        );
        return None;
    };
    let field = &fields[*column];
    if field.data_type != DataType::Time {
        about.wrong(format!("timestamp field '{}' must be datetime, not {}", field.name, field.data_type));
    }
    if field.nullable {
        about.wrong(format!("timestamp field '{}' cannot be Optional", field.name));
    }
    if field.key {
        about.wrong(format!("field '{}' cannot be both key and timestamp", field.name));
    }
    Some(*column)
}

/// An aggregated dataset has no log of its own.
fn refuse_log_settings(definition: &DatasetDef, about: &mut About<'_>) {
    let settings = [
        ("max_lateness", definition.max_lateness.is_some()),
        ("max_future", definition.max_future.is_some()),
        ("dedup_window", definition.dedup_window.is_some()),
        ("partitions", definition.partitions.is_some()),
        ("history", definition.history.is_some()),
    ];
    for (name, _) in settings.into_iter().filter(|(_, is_set)| *is_set) {
        about.report(
            Error::definition(format!("{name} has no meaning on a dataset that pipelines fill"))
                .field(name)
                .hint("set it on the dataset that they read"),
        );
    }
}

/// What is kept is told by the watermark, and an event that is not late must find what it is added to.
fn check_history(definition: &DatasetDef, history: i64, max_lateness: Option<i64>, findings: &mut Findings) {
    let mut about = About::new(findings, definition.location.as_ref(), format!("dataset '{}'", definition.name));
    match max_lateness {
        None => about.report(
            Error::definition("history needs max_lateness: without it there is no watermark to count from")
                .field("history")
                .hint("set max_lateness=, or leave history= out: everything is kept"),
        ),
        Some(lateness) if lateness > history => about.report(
            Error::definition(format!(
                "history {} is shorter than max_lateness {}",
                format_duration(history),
                format_duration(lateness)
            ))
            .field("history")
            .hint(format!("history= must be at least {}", format_duration(lateness))),
        ),
        Some(_) => {}
    }
}

/// One row per accepted event is a row of one pipeline.
fn check_emit(definition: &DatasetDef, pipelines: usize, about: &mut About<'_>) {
    let wrong = match (definition.emit, pipelines) {
        (false, _) | (true, 1) => return,
        (true, 0) => Error::definition("emit has no meaning on a dataset that no pipeline fills")
            .hint("its log already is a topic with its events: leave emit out"),
        (true, count) => Error::definition(format!("emit needs exactly one pipeline, the dataset has {count}"))
            .hint("make a dataset of each pipeline, and let that emit"),
    };
    about.report(wrong.field("emit"));
}

fn parse_length(name: &str, text: &str) -> Result<i64> {
    parse_duration(text).map_err(|_| {
        Error::definition(format!("{name}: not a length of time: '{text}'"))
            .field(name)
            .hint("write one or more <integer><unit> with units s m h d w, such as 90s or 1d12h")
    })
}

/// Checks a source; its max_lateness.
fn check_source(source: &SourceDef, dataset: &DatasetDef, is_raw: bool, findings: &mut Findings) -> Option<i64> {
    let location = source.location.as_ref().or(dataset.location.as_ref());
    let mut about = About::new(findings, location, format!("source of dataset '{}'", dataset.name));
    if !is_raw {
        about.wrong("a dataset that pipelines fill takes no source");
    }
    match SOURCES.iter().find(|(kind, ..)| *kind == source.kind) {
        None => about.report(
            Error::definition(format!("sources of kind '{}' are not in this release", source.kind))
                .field("kind")
                .hint("use FileSource, KafkaSource or PostgresSource"),
        ),
        Some((_, name, needed)) => {
            if source.settings.get(*needed).and_then(|given| given.as_str()).is_none_or(str::is_empty) {
                about.report(Error::definition(format!("a {name} source needs a {needed}")).field(*needed));
            }
        }
    }
    if STREAMING.contains(&source.kind.as_str()) {
        for (name, given) in [("cursor", &source.cursor), ("every", &source.every)] {
            if given.is_some() {
                about.report(
                    Error::definition(format!("a source of kind '{}' takes no {name}", source.kind))
                        .field(name)
                        .hint(format!("leave {name} out: a topic has an order of its own and is followed as it grows")),
                );
            }
        }
    }
    match source.cdc.as_str() {
        "append" => {}
        "upsert" | "debezium" | "native" => about.report(
            Error::definition(format!("cdc '{}' is not in this release", source.cdc))
                .field("cdc")
                .hint("use cdc=\"append\": each row is an event"),
        ),
        _ => about
            .report(Error::definition(format!("unknown cdc '{}'", source.cdc)).field("cdc").hint("allowed: append")),
    }
    if let Some(cursor) = &source.cursor
        && !dataset.fields.iter().any(|field| field.name == *cursor)
    {
        about.report(
            Error::definition(format!("cursor names the unknown field '{cursor}'"))
                .field("cursor")
                .hint(suggest::hint(cursor, dataset.fields.iter().map(|field| field.name.as_str()))),
        );
    }
    if let Some(every) = &source.every {
        about.keep(parse_length("every", every));
    }
    let lateness = source.max_lateness.as_ref()?;
    about.keep(parse_length("max_lateness", lateness))
}
