//! Named input, read strictly: from a URL's query or a JSON body. What nobody took at the end is an error that names the nearest
//! valid name: a dropped `ts` would leak the future into training data.

use crate::problem::{Answered, Problem};
use axum::body::{Body, HttpBody as _};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use thyme_core::position::{KnownAt, PositionSet};
use thyme_core::time::{Micros, parse_time};
use thyme_core::{Error, Result, suggest};
use thyme_query::Given;

/// The names that are left to take, and those that were asked for.
pub struct Fields {
    left: BTreeMap<String, Given>,
    known: Vec<String>,
    /// `parameter` or `field`, for messages.
    what: &'static str,
}

impl Fields {
    /// The query of a URL.
    pub fn of_query(pairs: Vec<(String, String)>) -> Result<Fields> {
        let mut left = BTreeMap::new();
        for (name, text) in pairs {
            if left.insert(name.clone(), Given::Text(text)).is_some() {
                return Err(Error::invalid(format!("parameter '{name}' is given twice")).field(name));
            }
        }
        Ok(Fields { left, known: Vec::new(), what: "parameter" })
    }

    pub fn of_object(object: Map<String, Json>) -> Fields {
        let left = object.into_iter().map(|(name, json)| (name, Given::Json(json))).collect();
        Fields { left, known: Vec::new(), what: "field" }
    }

    /// A JSON body of at most `limit` bytes, which must be an object.
    pub async fn of_body(body: Body, limit: usize) -> Answered<Fields> {
        if body.size_hint().lower() > limit as u64 {
            // Said before it is sent: the caller need not send it.
            return Err(Problem::too_large(limit));
        }
        let bytes = axum::body::to_bytes(body, limit.saturating_add(1)).await;
        let bytes = match bytes {
            Ok(bytes) if bytes.len() <= limit => bytes,
            Ok(_) => return Err(Problem::too_large(limit)),
            Err(error) if is_length_limit(&error) => return Err(Problem::too_large(limit)),
            Err(error) => return Err(Error::invalid(format!("the body ended early: {error}")).into()),
        };
        match serde_json::from_slice(&bytes) {
            Ok(Json::Object(object)) => Ok(Fields::of_object(object)),
            Ok(_) => Err(Error::invalid("the body is not a JSON object").into()),
            Err(error) => Err(Error::invalid(format!("the body is not valid JSON: {error}")).into()),
        }
    }

    pub fn take(&mut self, name: &str) -> Option<Given> {
        self.known.push(name.to_string());
        let given = self.left.remove(name)?;
        (given != Given::Json(Json::Null)).then_some(given)
    }

    /// Either spelling, but not both.
    pub fn take_either(&mut self, name: &str, other: &str) -> Result<Option<Given>> {
        match (self.take(name), self.take(other)) {
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("'{name}' and '{other}' are the same: give one")).field(name))
            }
            (given, None) | (None, given) => Ok(given),
        }
    }

    pub fn text(&mut self, name: &str) -> Result<Option<String>> {
        self.take(name).map(|given| text_of(name, given)).transpose()
    }

    pub fn required_text(&mut self, name: &str) -> Result<String> {
        let what = self.what;
        self.text(name)?.ok_or_else(|| Error::invalid(format!("{what} '{name}' is missing")).field(name))
    }

    /// `true` or `false`; false if left out.
    pub fn flag(&mut self, name: &str) -> Result<bool> {
        match self.take(name) {
            None => Ok(false),
            Some(Given::Json(Json::Bool(flag))) => Ok(flag),
            Some(Given::Text(text)) if text == "true" || text == "1" => Ok(true),
            Some(Given::Text(text)) if text == "false" || text == "0" => Ok(false),
            Some(other) => Err(Error::invalid(format!("expected true or false, got {}", shown(&other))).field(name)),
        }
    }

    pub fn number(&mut self, name: &str) -> Result<Option<u32>> {
        let Some(given) = self.take(name) else { return Ok(None) };
        let number = match &given {
            Given::Text(text) => text.parse().ok(),
            Given::Json(json) => json.as_u64().and_then(|number| u32::try_from(number).ok()),
            Given::Value(_) => None,
        };
        let wrong = || Error::invalid(format!("expected a whole number, got {}", shown(&given))).field(name);
        number.map(Some).ok_or_else(wrong)
    }

    /// Names: an array in JSON, separated by commas in a URL.
    pub fn names(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Given::Text(text)) => Ok(Some(text.split(',').map(|part| part.trim().to_string()).collect())),
            Some(Given::Json(Json::Array(items))) => {
                let names: Result<Vec<String>> =
                    items.into_iter().map(|item| text_of(name, Given::Json(item))).collect();
                names.map(Some)
            }
            Some(other) => Err(Error::invalid(format!("expected a list of names, got {}", shown(&other))).field(name)),
        }
    }

    pub fn array(&mut self, name: &str) -> Result<Vec<Json>> {
        match self.take(name) {
            Some(Given::Json(Json::Array(items))) => Ok(items),
            Some(other) => Err(Error::invalid(format!("expected an array, got {}", shown(&other))).field(name)),
            None => Err(Error::invalid(format!("field '{name}' is missing")).field(name)),
        }
    }

    /// `ts` or `timestamp`.
    pub fn time(&mut self) -> Result<Option<Micros>> {
        let Some(given) = self.take_either("ts", "timestamp")? else { return Ok(None) };
        parse_time(&text_of("ts", given)?).map(Some).map_err(|error| error.field("ts"))
    }

    pub fn known_at(&mut self) -> Result<Option<KnownAt>> {
        self.text("known_at")?.map(|text| KnownAt::parse(&text)).transpose()
    }

    pub fn at_least(&mut self) -> Result<Option<PositionSet>> {
        let text = self.text("at_least")?;
        text.map(|text| PositionSet::decode(&text).map_err(|error| error.field("at_least"))).transpose()
    }

    /// Those of these names that are there.
    pub fn take_all<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Given> {
        let mut taken = BTreeMap::new();
        for name in names {
            self.known.push(name.to_string());
            if let Some(given) = self.left.remove(name) {
                taken.insert(name.to_string(), given);
            }
        }
        taken
    }

    /// Whatever is left.
    pub fn rest(self) -> BTreeMap<String, Given> {
        self.left
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<()> {
        let Some(name) = self.left.keys().next() else { return Ok(()) };
        Err(Error::invalid(format!("unknown {} '{name}'", self.what))
            .field(name.as_str())
            .hint(suggest::hint(name, self.known.iter().map(String::as_str))))
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = source {
        if inner.to_string().contains("length limit exceeded") {
            return true;
        }
        source = inner.source();
    }
    false
}

fn text_of(name: &str, given: Given) -> Result<String> {
    match given {
        Given::Text(text) | Given::Json(Json::String(text)) => Ok(text),
        other => Err(Error::invalid(format!("expected text, got {}", shown(&other))).field(name)),
    }
}

fn shown(given: &Given) -> String {
    match given {
        Given::Text(text) => format!("'{text}'"),
        Given::Json(json) => json.to_string(),
        Given::Value(value) => value.to_json().to_string(),
    }
}
