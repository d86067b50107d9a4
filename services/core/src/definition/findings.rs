//! Everything that is wrong with a set of definitions, collected.

use super::Location;
use crate::error::Error;

#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<Error>,
}

impl Findings {
    /// Keeps an error, with its place in the user's source.
    pub fn report(&mut self, location: Option<&Location>, error: Error) {
        self.errors.push(match location {
            Some(place) if error.location().is_none() => error.at(format!("{}:{}", place.file, place.line)),
            _ => error,
        });
    }

    /// `value`, if nothing is wrong.
    pub fn finish<T>(self, value: T) -> Result<T, Vec<Error>> {
        if self.errors.is_empty() { Ok(value) } else { Err(self.errors) }
    }

    pub fn count(&self) -> usize {
        self.errors.len()
    }
}

/// Findings about one thing: each message begins with what it is about, such as `dataset 'Order'`.
pub(super) struct About<'a> {
    findings: &'a mut Findings,
    location: Option<&'a Location>,
    what: String,
}

impl<'a> About<'a> {
    pub fn new(findings: &'a mut Findings, location: Option<&'a Location>, what: String) -> About<'a> {
        About { findings, location, what }
    }

    pub fn report(&mut self, error: Error) {
        self.findings.report(self.location, error.context(&self.what));
    }

    /// Reports `message`.
    pub fn wrong(&mut self, message: impl Into<String>) {
        self.report(Error::definition(message));
    }

    /// Reports `message` with a hint.
    pub fn wrong_hint(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.report(Error::definition(message).hint(hint));
    }

    /// The value, or nothing with its error reported.
    pub fn keep<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.report(error);
                None
            }
        }
    }

    pub fn count(&self) -> usize {
        self.findings.count()
    }
}

/// Refuses what is not a name: a letter or underscore, then letters, digits and underscores.
pub(super) fn check_name(kind: &str, name: &str) -> Result<(), Error> {
    let mut letters = name.chars();
    let starts_well = letters.next().is_some_and(|first| first.is_alphabetic() || first == '_');
    if starts_well && letters.all(|letter| letter.is_alphanumeric() || letter == '_') {
        return Ok(());
    }
    Err(Error::definition(format!("not a name for a {kind}: '{name}'"))
        .hint("a name is a letter or underscore, then letters, digits and underscores"))
}

/// The names that occur more than once, each once.
pub(super) fn repeated<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut counts = std::collections::BTreeMap::new();
    for name in names {
        *counts.entry(name).or_insert(0usize) += 1;
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name).collect()
}
