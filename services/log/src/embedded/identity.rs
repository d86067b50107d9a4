//! The id of a journal in a directory: made once, kept beside the segments, so that a state or a checkpoint can tell whose it is.
//! A journal of before there were ids gets one when it is opened.

use super::{damaged, io_error};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use thyme_core::Result;

const FILE: &str = "identity";
/// An id that was not finished when the process ended.
const UNFINISHED: &str = "identity.new";
/// What every id begins with; a journal in memory is called this alone.
pub const KIND: &str = "embedded";

/// The directory's id; makes one if it has none. The directory must be locked.
pub fn of_directory(directory: &Path) -> Result<String> {
    let path = directory.join(FILE);
    let failed = |error: io::Error| io_error(&format!("cannot use {}", path.display()), &error);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return make(directory).map_err(failed),
        found => found.map_err(failed)?,
    };
    let id = text.trim_end();
    let is_whole = id.strip_prefix(KIND).and_then(|rest| rest.strip_prefix(':')).is_some_and(|rest| !rest.is_empty());
    if !is_whole || !text.ends_with('\n') {
        return Err(damaged(&path.display().to_string(), 0, "it holds no id of a log"));
    }
    Ok(id.to_string())
}

fn make(directory: &Path) -> io::Result<String> {
    let id = format!("{KIND}:{}", uuid::Uuid::now_v7().simple());
    let unfinished = directory.join(UNFINISHED);
    let mut file = File::create(&unfinished)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(FILE))?;
    File::open(directory)?.sync_all()?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EmbeddedLog, EventLog as _};
    use thyme_core::ErrorKind;

    #[test]
    fn a_directory_keeps_its_id_and_no_two_have_the_same() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = EmbeddedLog::open(one.path()).unwrap().identity().to_string();
        assert!(first.starts_with("embedded:"), "{first}");
        assert_eq!(EmbeddedLog::open(one.path()).unwrap().identity(), first);
        assert_ne!(EmbeddedLog::open(other.path()).unwrap().identity(), first);
        assert_eq!(EmbeddedLog::in_memory().unwrap().identity(), KIND);
    }

    #[test]
    fn an_id_that_was_cut_short_is_made_anew_and_one_that_is_damaged_is_told() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(UNFINISHED), "embed").unwrap();
        let id = of_directory(directory.path()).unwrap();
        assert_eq!(of_directory(directory.path()).unwrap(), id);
        for text in ["", "embedded:\n", "kafka:x\n", "embedded:0123"] {
            fs::write(directory.path().join(FILE), text).unwrap();
            let error = of_directory(directory.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DataLoss, "{text:?}: {error}");
        }
    }
}
