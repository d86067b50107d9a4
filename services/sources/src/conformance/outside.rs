//! What goes on outside while a source is read: other writers' times and transactions, forms that change, passwords that do.

use super::{Form, Make, Published, Refused, rows};
use thyme_core::time::parse_time;
use thyme_core::{Error, ErrorKind, Result, Value};

/// A row in such a form as a JSON object; none is to be added where rows are as the fields say.
pub fn object_in(form: Form, number: i64) -> Option<String> {
    let key = match form {
        Form::Fields => return None,
        Form::Wider => format!("\"id\": {number}, \"more\": {{\"x\": [1]}}, "),
        Form::KeyIsText => format!("\"id\": \"{number}\", "),
        Form::KeyIsGone => String::new(),
    };
    Some(format!("{{{key}\"ts\": \"2024-01-15T12:00:00Z\"}}"))
}

pub fn a_time_with_an_offset_is_the_same_moment(make: Make<'_>) -> Result<()> {
    let mut origin = make(&rows(0, 1));
    let mut published = Published::default();
    let cursor = published.drain(&mut *origin.open()?, None, 10)?;
    let times = [
        ("2024-07-15T14:00:00.123456+02:00", "2024-07-15T12:00:00.123456Z"),
        ("2024-07-15T06:30:00.123456-05:30", "2024-07-15T12:00:00.123456Z"),
        ("2024-07-15T00:15:00+00:30", "2024-07-14T23:45:00Z"),
        ("1970-01-01T00:30:00+01:00", "1969-12-31T23:30:00Z"),
    ];
    for (number, (written, _)) in (1..).zip(times) {
        if !origin.add_at(number, written) {
            return Ok(());
        }
    }
    published.drain(&mut *origin.open()?, Some(cursor), 2)?;
    for (number, (written, moment)) in (1..).zip(times) {
        let found: Vec<&Value> =
            published.rows.iter().filter(|row| row[0] == Value::Int(number)).map(|row| &row[1]).collect();
        assert_eq!(found, [&Value::Time(parse_time(moment)?)], "{written}");
    }
    Ok(())
}

/// Older than what was read by then.
pub fn what_is_committed_late_with_an_older_time_is_found(make: Make<'_>) -> Result<()> {
    let mut origin = make(&rows(10, 3));
    let mut source = origin.open()?;
    let mut published = Published::default();
    let mut cursor = published.drain(&mut *source, None, 2)?;
    if !origin.hold(&rows(0, 2)) {
        return Ok(());
    }
    for first in [20, 25] {
        assert!(origin.add(&rows(first, 3)), "where transactions are there is more than one");
        cursor = published.drain(&mut *source, Some(cursor), 2)?;
        assert!(published.numbers().iter().all(|number| *number >= 10), "not committed: {:?}", published.numbers());
    }
    origin.release();
    cursor = published.drain(&mut *origin.open()?, Some(cursor), 2)?;
    let mut found = published.numbers();
    found.sort_unstable();
    assert_eq!(found, [0, 1, 10, 11, 12, 20, 21, 22, 25, 26, 27]);
    published.drain(&mut *source, Some(cursor), 2)?;
    assert_eq!((published.rows.len(), published.by_id.len()), (11, 11));
    Ok(())
}

/// What no field asks for is nobody's business. Where the key is not what it was either the source stops, and goes on when it is
/// again, or the rows are dead letters; both say which field it is.
pub fn a_form_that_changes_is_told_or_does_not_matter(make: Make<'_>) -> Result<()> {
    let mut origin = make(&rows(0, 4));
    let mut source = origin.open()?;
    let mut published = Published::default();
    let mut cursor = published.drain(&mut *source, None, 10)?;
    let mut expected = vec![0, 1, 2, 3];
    if origin.change(Form::Wider, 4) {
        cursor = published.drain(&mut *source, Some(cursor), 10)?;
        expected.push(4);
        assert_eq!(published.numbers(), expected);
    }
    for (form, odd) in [(Form::KeyIsText, 10), (Form::KeyIsGone, 20)] {
        if !origin.change(form, odd) {
            continue;
        }
        match source.poll(Some(&cursor), 10) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{form:?}: {error}");
                assert!(error.to_string().contains("'id'"), "{form:?}: {error}");
                source = origin.open()?;
            }
            Ok(poll) => {
                assert!(poll.rows.is_empty() && !poll.rejected.is_empty(), "{form:?}: {poll:?}");
                let told = |reason: &Error| reason.message().contains("'id'");
                assert!(poll.rejected.iter().all(|row| told(&row.reason)), "{form:?}: {:?}", poll.rejected);
                cursor = poll.cursor;
            }
        }
        origin.change(Form::Fields, odd);
        assert!(origin.add(&rows(odd + 1, 3)), "what changes grows");
        cursor = published.drain(&mut *source, Some(cursor), 10)?;
        expected.extend(odd + 1..odd + 4);
        // The odd one comes too if it is put right where it stands.
        let found: Vec<i64> = published.numbers().into_iter().filter(|number| ![10, 20].contains(number)).collect();
        assert_eq!(found, expected, "{form:?}");
    }
    Ok(())
}

pub fn refused_credentials_are_told_without_the_secret(make: Make<'_>) -> Result<()> {
    let origin = make(&rows(0, 3));
    let mut published = Published::default();
    let cursor = published.drain(&mut *origin.open()?, None, 2)?;
    let Some(Refused { mut source, says, secrets }) = origin.refused() else { return Ok(()) };
    for cursor in [None, Some(cursor.as_slice())] {
        let Err(error) = source.poll(cursor, 10) else { return Err(Error::internal("it was let in")) };
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{text}");
        assert!(text.contains(says), "no '{says}' in {text}");
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
    }
    // Who is let in again goes on.
    let poll = origin.open()?.poll(Some(&cursor), 10)?;
    assert!(poll.rows.is_empty() && poll.rejected.is_empty());
    Ok(())
}
