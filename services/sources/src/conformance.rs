//! What every source must do, as tests: `source_conformance!(origin)` makes a test of each case.

mod outside;

pub use outside::*;

use crate::{Poll, Source};
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::record::EventId;
use thyme_core::schema::{DataType, Field};
use thyme_core::{Decimal, Error, ErrorKind, Result, Value};

/// Something outside that holds rows of [`fields`], and a source over it. What an origin has no form of it does not do, and says so
/// with `false`: nothing is asked of its source then.
pub trait Origin {
    /// A new source, as after a restart.
    fn open(&self) -> Result<Box<dyn Source>>;
    /// Adds rows at the end. `false` if this kind of origin never grows; then it took none.
    fn add(&mut self, rows: &[Vec<Value>]) -> bool;
    /// Adds a row with this number and, as it is written, this time, which has an offset; the rest of it is null.
    fn add_at(&mut self, number: i64, time: &str) -> bool;
    /// From now on rows have another form, and a row with this number has it.
    fn change(&mut self, form: Form, number: i64) -> bool;
    /// Writes rows that cannot be seen before [`Origin::release`], in a transaction that stays open.
    fn hold(&mut self, rows: &[Vec<Value>]) -> bool;
    fn release(&mut self);
    /// A source with credentials that are refused; `None` where none are asked for.
    fn refused(&self) -> Option<Refused>;
}

/// What rows look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As [`fields`] says; no row is added.
    Fields,
    /// With something that is no field.
    Wider,
    /// The key is a text, no number.
    KeyIsText,
    KeyIsGone,
}

/// A source that may not read.
pub struct Refused {
    pub source: Box<dyn Source>,
    /// Part of what whoever runs the server is told.
    pub says: &'static str,
    /// None of this is in it.
    pub secrets: Vec<String>,
}

/// The fields of the rows: a key, a time, and Optional columns of each plain type.
pub fn fields() -> Vec<Field> {
    let field = |name: &str, data_type, nullable| Field {
        name: name.to_string(),
        data_type,
        nullable,
        key: name == "id",
        timestamp: name == "ts",
        description: String::new(),
    };
    vec![
        field("id", DataType::Int, false),
        field("ts", DataType::Time, false),
        field("amount", DataType::Float, true),
        field("note", DataType::Str, true),
        field("flag", DataType::Bool, true),
        field("price", DataType::Decimal, true),
    ]
}

/// Rows numbered from `first`, a microsecond apart; every third has nulls.
pub fn rows(first: i64, count: i64) -> Vec<Vec<Value>> {
    let row = |number: i64| {
        let rest = if number % 3 == 0 {
            [Value::Null, Value::Null, Value::Null, Value::Null]
        } else {
            let note = format!("note {number}, with \"quotes\" and a comma");
            // All the digits that there may be, and few.
            let units = if number % 3 == 1 { 1 - 10_i128.pow(38) } else { i128::from(number) * 10_i128.pow(16) };
            let price = Decimal::from_units(units).map_or(Value::Null, Value::Decimal);
            [Value::Float(number as f64 / 8.0), Value::str(note), Value::Bool(number % 2 == 0), price]
        };
        [Value::Int(number), Value::Time(1_700_000_000_000_000 + number)].into_iter().chain(rest).collect()
    };
    (first..first + count).map(row).collect()
}

/// One test per case, each with an origin that `$origin(rows)` makes.
#[macro_export]
macro_rules! source_conformance {
    ($origin:expr) => {
        $crate::source_conformance!(@cases $origin;
            every_row_comes_once_in_order,
            limits_are_kept,
            empty_polls_change_nothing,
            a_crash_before_the_cursor_is_saved_repeats_the_ids,
            a_source_goes_on_after_a_pause,
            rows_added_later_are_found,
            rows_that_share_a_time_come_once,
            a_time_with_an_offset_is_the_same_moment,
            what_is_committed_late_with_an_older_time_is_found,
            a_form_that_changes_is_told_or_does_not_matter,
            refused_credentials_are_told_without_the_secret,
            a_foreign_cursor_is_refused
        );
    };
    (@cases $origin:expr; $($case:ident),*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::$case(&|rows| Box::new($origin(rows))).unwrap();
            }
        )*
    };
}

type Make<'a> = &'a dyn Fn(&[Vec<Value>]) -> Box<dyn Origin>;

/// The dataset's log as far as it matters here: the first row of an id wins.
#[derive(Default)]
struct Published {
    rows: Vec<Vec<Value>>,
    by_id: BTreeMap<Arc<[u8]>, Vec<Value>>,
}

impl Published {
    /// The rows' numbers.
    fn numbers(&self) -> Vec<i64> {
        self.rows.iter().filter_map(|row| row[0].as_int()).collect()
    }

    fn publish(&mut self, poll: &Poll) -> Result<()> {
        assert_eq!(poll.rejected, []);
        for row in &poll.rows {
            let EventId::Given(id) = &row.id else { return Err(Error::internal("a row without an id")) };
            match self.by_id.insert(id.clone(), row.values.clone()) {
                None => self.rows.push(row.values.clone()),
                Some(earlier) => assert_eq!(earlier, row.values, "an id belongs to one row"),
            }
        }
        Ok(())
    }

    /// Polls until nothing comes any more.
    fn drain(&mut self, source: &mut dyn Source, mut cursor: Option<Vec<u8>>, max_rows: usize) -> Result<Vec<u8>> {
        loop {
            let poll = source.poll(cursor.as_deref(), max_rows)?;
            self.publish(&poll)?;
            if !poll.has_more {
                return Ok(poll.cursor);
            }
            cursor = Some(poll.cursor);
        }
    }
}

pub fn every_row_comes_once_in_order(make: Make<'_>) -> Result<()> {
    for (count, max_rows) in [(0, 10), (1, 1), (40, 1), (40, 7), (40, 40), (40, 1000)] {
        let rows = rows(0, count);
        let origin = make(&rows);
        let mut published = Published::default();
        published.drain(&mut *origin.open()?, None, max_rows)?;
        assert_eq!(published.rows, rows, "{count} rows, {max_rows} at a time");
        assert_eq!(published.by_id.len(), rows.len());
    }
    Ok(())
}

pub fn limits_are_kept(make: Make<'_>) -> Result<()> {
    let origin = make(&rows(0, 20));
    let mut source = origin.open()?;
    let first = source.poll(None, 6)?;
    assert!((1..=6).contains(&first.rows.len()) && first.has_more);
    assert!(source.poll(None, 0)?.rows.len() <= 1);
    Ok(())
}

pub fn empty_polls_change_nothing(make: Make<'_>) -> Result<()> {
    let origin = make(&rows(0, 5));
    let mut source = origin.open()?;
    let mut published = Published::default();
    let end = published.drain(&mut *source, None, 100)?;
    let mut cursor = end.clone();
    for _ in 0..3 {
        let poll = source.poll(Some(&cursor), 100)?;
        assert!(poll.rows.is_empty() && poll.rejected.is_empty() && !poll.has_more);
        cursor = poll.cursor;
        assert_eq!(cursor, end);
    }
    Ok(())
}

/// Rows are published, then the cursor is saved: a crash in between, at every poll.
pub fn a_crash_before_the_cursor_is_saved_repeats_the_ids(make: Make<'_>) -> Result<()> {
    let rows = rows(0, 25);
    let origin = make(&rows);
    let mut published = Published::default();
    let mut cursor: Option<Vec<u8>> = None;
    loop {
        // The rows reach the log; the process dies; the next one polls from the old cursor, with another limit.
        published.publish(&origin.open()?.poll(cursor.as_deref(), 4)?)?;
        let again = origin.open()?.poll(cursor.as_deref(), 3)?;
        published.publish(&again)?;
        if !again.has_more {
            break;
        }
        cursor = Some(again.cursor);
    }
    assert_eq!(published.rows, rows);
    Ok(())
}

pub fn a_source_goes_on_after_a_pause(make: Make<'_>) -> Result<()> {
    let rows = rows(0, 30);
    let origin = make(&rows);
    let mut published = Published::default();
    let first = origin.open()?.poll(None, 11)?;
    published.publish(&first)?;
    // Paused, perhaps for ever so long and over a restart.
    published.drain(&mut *origin.open()?, Some(first.cursor), 11)?;
    assert_eq!(published.rows, rows);
    assert_eq!(published.by_id.len(), rows.len());
    Ok(())
}

pub fn rows_added_later_are_found(make: Make<'_>) -> Result<()> {
    let mut origin = make(&rows(0, 3));
    let mut source = origin.open()?;
    let mut published = Published::default();
    let mut cursor = published.drain(&mut *source, None, 2)?;
    let mut expected = rows(0, 3);
    for first in [3, 9, 15] {
        let more = rows(first, 6);
        if !origin.add(&more) {
            return Ok(());
        }
        expected.extend(more);
        cursor = published.drain(&mut *source, Some(cursor), 2)?;
        assert_eq!(published.rows, expected);
    }
    assert_eq!(published.by_id.len(), expected.len());
    Ok(())
}

/// Among them the page that is full.
pub fn rows_that_share_a_time_come_once(make: Make<'_>) -> Result<()> {
    let at_one_time = |first, count| {
        let mut rows = rows(first, count);
        rows.iter_mut().for_each(|row| row[1] = Value::Time(1_700_000_000_000_000));
        rows
    };
    let mut expected = at_one_time(0, 30);
    let mut origin = make(&expected);
    for max_rows in [1, 7, 10, 30] {
        let mut published = Published::default();
        published.drain(&mut *origin.open()?, None, max_rows)?;
        assert_eq!(published.rows, expected, "{max_rows} at a time");
        assert_eq!(published.by_id.len(), expected.len());
    }
    // And those that come when others of this time were read.
    let mut published = Published::default();
    let cursor = published.drain(&mut *origin.open()?, None, 10)?;
    let more = at_one_time(30, 5);
    if origin.add(&more) {
        expected.extend(more);
        published.drain(&mut *origin.open()?, Some(cursor), 2)?;
        assert_eq!(published.rows, expected);
    }
    Ok(())
}

pub fn a_foreign_cursor_is_refused(make: Make<'_>) -> Result<()> {
    let origin = make(&rows(0, 3));
    let mut source = origin.open()?;
    for noise in [&b""[..], b"{}", b"{\"version\":77}", b"\xff\x00"] {
        let error = source.poll(Some(noise), 10).err();
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::FailedPrecondition));
    }
    Ok(())
}
