//! Files of each format, good and bad, as they grow and as they are tampered with.

mod bad_rows;
mod kinds;

use crate::conformance::{self, Form, Origin, Refused};
use crate::{Place, Poll, Source};
use arrow_array::{ArrayRef, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value as Json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thyme_core::definition::{Metadata, SourceDef};
use thyme_core::schema::Field;
use thyme_core::{ErrorKind, Result, Value};

fn source_def(path: &Path) -> SourceDef {
    let settings = [("path".to_string(), Json::from(path.display().to_string()))].into();
    SourceDef {
        kind: "file".to_string(),
        settings,
        cursor: None,
        every: None,
        max_lateness: None,
        cdc: "append".to_string(),
        metadata: Metadata::default(),
        location: None,
    }
}

/// A file in a directory of its own.
struct Sample {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Sample {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Sample {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        Sample { _directory: directory, path }
    }

    fn append(&self, content: impl AsRef<[u8]>) {
        OpenOptions::new().append(true).open(&self.path).unwrap().write_all(content.as_ref()).unwrap();
    }

    fn source(&self) -> Box<dyn Source> {
        crate::open(&source_def(&self.path), &conformance::fields()).unwrap()
    }

    fn poll(&self, cursor: Option<&Poll>) -> Result<Poll> {
        self.source().poll(cursor.map(|poll| poll.cursor.as_slice()), 1000)
    }
}

fn ids(poll: &Poll) -> Vec<i64> {
    poll.rows.iter().map(|row| row.values[0].as_int().unwrap()).collect()
}

/// Line numbers and reasons.
fn rejects(poll: &Poll) -> Vec<(u64, &str)> {
    let number = |place: &Place| match place {
        Place::Line(number) | Place::Row(number) => *number,
        other => panic!("{other} in a file"),
    };
    poll.rejected.iter().map(|row| (number(&row.place), row.reason.message())).collect()
}

fn json_lines(rows: &[Vec<Value>]) -> String {
    let line = |row: &Vec<Value>| {
        let members = conformance::fields().into_iter().zip(row).map(|(field, value)| (field.name, value.to_json()));
        Json::Object(members.collect::<Map<_, _>>()).to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

fn csv_lines(rows: &[Vec<Value>]) -> String {
    let cell = |value: &Value| match value.to_json() {
        Json::Null => String::new(),
        Json::String(text) => format!("\"{}\"", text.replace('"', "\"\"")),
        other => other.to_string(),
    };
    rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(",") + "\r\n").collect()
}

fn csv_header() -> String {
    conformance::fields().into_iter().map(|field| field.name).collect::<Vec<_>>().join(",") + "\r\n"
}

fn columns(rows: &[Vec<Value>]) -> RecordBatch {
    use arrow_array::{
        BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };
    let column = |at: usize| rows.iter().map(move |row| &row[at]);
    let ints: Int64Array = column(0).map(Value::as_int).collect();
    let times: TimestampMicrosecondArray =
        column(1).map(|value| if let Value::Time(micros) = value { Some(*micros) } else { None }).collect();
    let floats: Float64Array =
        column(2).map(|value| if let Value::Float(number) = value { Some(*number) } else { None }).collect();
    let texts: StringArray = column(3).map(Value::as_str).collect();
    let flags: BooleanArray =
        column(4).map(|value| if let Value::Bool(flag) = value { Some(*flag) } else { None }).collect();
    let decimals: Decimal128Array =
        column(5).map(|value| if let Value::Decimal(number) = value { Some(number.units()) } else { None }).collect();
    let decimals = decimals.with_precision_and_scale(38, 18).unwrap();
    let times = times.with_timezone("UTC");
    let arrays: [ArrayRef; 6] =
        [Arc::new(ints), Arc::new(times), Arc::new(floats), Arc::new(texts), Arc::new(flags), Arc::new(decimals)];
    RecordBatch::try_from_iter(conformance::fields().into_iter().map(|field| field.name).zip(arrays)).unwrap()
}

fn parquet_bytes(batch: &RecordBatch, rows_per_group: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows_per_group)).build();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

struct JsonLines(Sample);

impl Origin for JsonLines {
    fn open(&self) -> Result<Box<dyn Source>> {
        Ok(self.0.source())
    }
    fn add(&mut self, rows: &[Vec<Value>]) -> bool {
        self.0.append(json_lines(rows));
        true
    }
    fn add_at(&mut self, number: i64, time: &str) -> bool {
        self.0.append(format!("{{\"id\": {number}, \"ts\": \"{time}\"}}\n"));
        true
    }
    fn change(&mut self, form: Form, number: i64) -> bool {
        if let Some(object) = conformance::object_in(form, number) {
            self.0.append(object + "\n");
        }
        true
    }
    fn hold(&mut self, _: &[Vec<Value>]) -> bool {
        false
    }
    fn release(&mut self) {}
    fn refused(&self) -> Option<Refused> {
        None
    }
}

struct CsvLines(Sample);

impl Origin for CsvLines {
    fn open(&self) -> Result<Box<dyn Source>> {
        Ok(self.0.source())
    }
    fn add(&mut self, rows: &[Vec<Value>]) -> bool {
        self.0.append(csv_lines(rows));
        true
    }
    fn add_at(&mut self, number: i64, time: &str) -> bool {
        self.0.append(format!("{number},{time},,,,\r\n"));
        true
    }
    /// The header says how many cells a line has.
    fn change(&mut self, form: Form, number: i64) -> bool {
        match form {
            Form::Wider => return false,
            Form::Fields => {}
            Form::KeyIsText => self.0.append(format!("number {number},2024-01-15,,,,\r\n")),
            Form::KeyIsGone => self.0.append(",2024-01-15,,,,\r\n"),
        }
        true
    }
    fn hold(&mut self, _: &[Vec<Value>]) -> bool {
        false
    }
    fn release(&mut self) {}
    fn refused(&self) -> Option<Refused> {
        None
    }
}

/// Written once.
struct Parquet(Sample);

impl Origin for Parquet {
    fn open(&self) -> Result<Box<dyn Source>> {
        Ok(self.0.source())
    }
    fn add(&mut self, _: &[Vec<Value>]) -> bool {
        false
    }
    fn add_at(&mut self, _: i64, _: &str) -> bool {
        false
    }
    fn change(&mut self, _: Form, _: i64) -> bool {
        false
    }
    fn hold(&mut self, _: &[Vec<Value>]) -> bool {
        false
    }
    fn release(&mut self) {}
    fn refused(&self) -> Option<Refused> {
        None
    }
}

mod jsonl_conforms {
    use super::*;
    fn origin(rows: &[Vec<Value>]) -> JsonLines {
        JsonLines(Sample::new("rows.jsonl", json_lines(rows)))
    }
    crate::source_conformance!(origin);
}

mod csv_conforms {
    use super::*;
    fn origin(rows: &[Vec<Value>]) -> CsvLines {
        CsvLines(Sample::new("rows.csv", csv_header() + &csv_lines(rows)))
    }
    crate::source_conformance!(origin);
}

mod parquet_conforms {
    use super::*;
    fn origin(rows: &[Vec<Value>]) -> Parquet {
        Parquet(Sample::new("rows.parquet", parquet_bytes(&columns(rows), 16)))
    }
    crate::source_conformance!(origin);
}

#[test]
fn a_growing_file_cut_at_every_byte_gives_the_same_rows_and_ids() {
    let rows = conformance::rows(0, 4);
    let contents = [("rows.jsonl", json_lines(&rows)), ("rows.csv", csv_header() + &csv_lines(&rows))];
    for (name, content) in contents {
        let sample = Sample::new(name, &content);
        let whole = sample.poll(None).unwrap();
        assert_eq!(whole.rows.len(), 4);
        for cut in 0..content.len() {
            std::fs::write(&sample.path, &content[..cut]).unwrap();
            let first = sample.poll(None).unwrap();
            assert_eq!(first.rejected, []);
            std::fs::write(&sample.path, &content).unwrap();
            let second = sample.poll(Some(&first)).unwrap();
            let mut all = first.rows;
            all.extend(second.rows);
            assert_eq!(all, whole.rows, "{name} cut at {cut}");
            assert_eq!(second.cursor, whole.cursor);
        }
    }
}

#[test]
fn an_incomplete_last_line_waits_and_says_so() {
    let sample = Sample::new("rows.jsonl", json_lines(&conformance::rows(0, 2)) + "{\"id\": 2, \"ts\"");
    let first = sample.poll(None).unwrap();
    assert_eq!((ids(&first), first.has_more), (vec![0, 1], false));
    assert_eq!(first.pending.as_deref(), Some("line 3 is incomplete: the line does not end"));
    sample.append(": \"2024-01-15\"}");
    let second = sample.poll(Some(&first)).unwrap();
    assert_eq!((ids(&second), second.pending.as_deref()), (vec![2], None), "an object needs no line end");
    sample.append("\n{\"id\": 3, \"ts\": \"2024-01-15\"}\n");
    assert_eq!(ids(&sample.poll(Some(&second)).unwrap()), [3]);

    let sample = Sample::new("rows.csv", "id,ts\n1,2024-01-15\n2,2024-01-15");
    let first = sample.poll(None).unwrap();
    assert_eq!((ids(&first), first.pending.is_some()), (vec![1], true), "2024-01-15 may become 2024-01-15T12:00");
}

#[test]
fn a_replaced_or_shrunk_file_is_an_error_that_says_what_to_do() {
    let content = json_lines(&conformance::rows(0, 20));
    let sample = Sample::new("rows.jsonl", &content);
    let read = sample.poll(None).unwrap();
    let longer = format!("{}{content}", json_lines(&conformance::rows(100, 1)));
    let rewritten = content.replace("\"id\":19", "\"id\":91");
    for (replacement, what) in
        [("", "it has 0 bytes"), (&content[..100], "it has 100 bytes"), (&longer, "changed"), (&rewritten, "changed")]
    {
        std::fs::write(&sample.path, replacement).unwrap();
        let error = sample.poll(Some(&read)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(
            error.message().contains("rows.jsonl was replaced or rewritten: ") && error.message().contains(what),
            "{error}"
        );
        assert!(error.hint_text().is_some());
    }
    std::fs::write(&sample.path, &content).unwrap();
    assert!(sample.poll(Some(&read)).unwrap().rows.is_empty(), "back as it was, it goes on");

    let sample = Sample::new("rows.parquet", parquet_bytes(&columns(&conformance::rows(0, 5)), 2));
    let read = sample.poll(None).unwrap();
    std::fs::write(&sample.path, parquet_bytes(&columns(&conformance::rows(0, 6)), 2)).unwrap();
    assert!(sample.poll(Some(&read)).unwrap_err().message().contains("was replaced"));
}

#[test]
fn times_of_a_parquet_file_may_be_text() {
    let rows = conformance::rows(0, 5);
    let typed = columns(&rows);
    let texts = rows.iter().map(|row| row[1].to_json().as_str().map(str::to_string));
    let texts: arrow_array::StringArray = texts.collect();
    let names: Vec<String> = conformance::fields().into_iter().map(|field| field.name).collect();
    let batch = |times: ArrayRef| {
        let mut arrays = typed.columns().to_vec();
        arrays[1] = times;
        RecordBatch::try_from_iter(names.iter().cloned().zip(arrays)).unwrap()
    };
    let sample = Sample::new("rows.parquet", parquet_bytes(&batch(Arc::new(texts)), 5));
    let values: Vec<Vec<Value>> = sample.poll(None).unwrap().rows.into_iter().map(|row| row.values).collect();
    assert_eq!(values, rows);

    let wrong = arrow_array::StringArray::from(vec!["soon"; 5]);
    let sample = Sample::new("rows.parquet", parquet_bytes(&batch(Arc::new(wrong)), 5));
    let poll = sample.poll(None).unwrap();
    assert!(poll.rows.is_empty() && poll.rejected.len() == 5);
    assert!(rejects(&poll)[0].1.contains("not a time: 'soon'"), "{:?}", rejects(&poll));
}

#[test]
fn a_missing_file_is_named_and_may_appear_later() {
    let sample = Sample::new("rows.jsonl", "");
    std::fs::remove_file(&sample.path).unwrap();
    let error = sample.poll(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("rows.jsonl"), "{error}");
    std::fs::write(&sample.path, json_lines(&conformance::rows(0, 1))).unwrap();
    assert_eq!(ids(&sample.poll(None).unwrap()), [0]);
}

#[test]
fn settings_are_checked() {
    let fields = conformance::fields();
    let opened = |change: &dyn Fn(&mut SourceDef)| {
        let mut source = source_def(Path::new("orders.jsonl"));
        change(&mut source);
        crate::open(&source, &fields).map(|_| ()).map_err(|error| error.to_string())
    };
    let set = |name: &'static str, value: Json| {
        move |source: &mut SourceDef| {
            source.settings.insert(name.to_string(), value.clone());
        }
    };
    assert_eq!(opened(&|_| {}), Ok(()));
    assert_eq!(opened(&set("format", "csv".into())), Ok(()));
    assert_eq!(
        opened(&|source| source.kind = "fiel".to_string()).unwrap_err(),
        "source kind 'fiel' is not offered by this version (hint: did you mean 'file'?)"
    );
    assert_eq!(
        opened(&set("pth", "x".into())).unwrap_err(),
        "unknown setting 'pth' of a file source (hint: did you mean 'path'?)"
    );
    assert_eq!(
        opened(&set("format", "xml".into())).unwrap_err(),
        "unknown format 'xml' (hint: allowed: csv, jsonl, parquet)"
    );
    assert!(opened(&set("path", 7.into())).unwrap_err().contains("setting 'path' is a text, got 7"));
    assert!(opened(&set("path", "orders.txt".into())).unwrap_err().contains("no format is known for 'orders.txt'"));
    assert!(opened(&|source| source.settings.clear()).unwrap_err().contains("needs a path"));
}
