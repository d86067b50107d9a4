//! The rows of a question: given columns read by their declared types, one T per row.

use crate::answer::FeatureValue;
use crate::plan::{GivenPlan, Planned};
use crate::question::{At, Given, GivenMap, Question};
use std::collections::BTreeMap;
use thyme_core::definition::FeatureKind;
use thyme_core::error::{Error, Result};
use thyme_core::suggest;
use thyme_core::time::Micros;
use thyme_core::value::Value;

/// Stands for the key of a featureset (or dataset) that has one.
pub(crate) const ENTITY_ID: &str = "entity_id";

/// One column of values per slot; empty until it is filled.
pub(crate) struct Rows {
    /// T of each row; `None` is a null timestamp.
    pub times: Vec<Option<Micros>>,
    pub slots: Vec<Vec<FeatureValue>>,
}

impl Rows {
    pub fn new(planned: &Planned, times: Vec<Option<Micros>>) -> Rows {
        Rows { times, slots: (0..planned.slots.len()).map(|_| Vec::new()).collect() }
    }

    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Fills the slot of a key or request feature.
    pub fn give(&mut self, slot: usize, values: impl Iterator<Item = Value>) {
        self.slots[slot] = values.map(FeatureValue::ok).collect();
    }

    /// Fills a slot with the same value in every row, to be overwritten.
    pub fn fill(&mut self, slot: usize, value: &FeatureValue) {
        let count = self.len();
        self.slots[slot] = vec![value.clone(); count];
    }
}

/// What may be given as a key: the names with their types.
pub(crate) struct KeyNames<'a> {
    /// `featureset 'F'` or `dataset 'D'`, for messages.
    pub owner: String,
    /// All key names.
    pub all: Vec<&'a str>,
}

impl KeyNames<'_> {
    /// Spreads `entity_id` and checks every name.
    pub fn resolve(&self, given: &GivenMap, needed: &[&str]) -> Result<BTreeMap<String, Given>> {
        let mut resolved = BTreeMap::new();
        for (name, value) in given {
            if self.all.contains(&name.as_str()) {
                put(&mut resolved, name, value.clone())?;
            } else if name == ENTITY_ID {
                self.spread(&mut resolved, value, needed)?;
            } else {
                return Err(self.unknown(name));
            }
        }
        Ok(resolved)
    }

    fn spread(&self, resolved: &mut BTreeMap<String, Given>, value: &Given, needed: &[&str]) -> Result<()> {
        let parsed = match value {
            Given::Text(text) if text.starts_with('{') => serde_json::from_str(text).ok(),
            Given::Json(json) => Some(json.clone()),
            Given::Text(_) | Given::Value(_) => None,
        };
        if let Some(serde_json::Value::Object(entries)) = parsed {
            for (name, entry) in entries {
                if !self.all.contains(&name.as_str()) {
                    return Err(self.unknown(&name));
                }
                put(resolved, &name, Given::Json(entry))?;
            }
            return Ok(());
        }
        let only = match (self.all.as_slice(), needed) {
            ([only], _) | (_, [only]) => only,
            _ => {
                return Err(Error::invalid(format!("{} has {} keys, not one", self.owner, self.all.len()))
                    .field(ENTITY_ID)
                    .hint(format!("give them by name: {}", self.all.join(", "))));
            }
        };
        put(resolved, only, value.clone())
    }

    fn unknown(&self, name: &str) -> Error {
        Error::invalid(format!("unknown key '{name}' of {}", self.owner))
            .field(name)
            .hint(suggest::hint(name, self.all.iter().copied()))
    }
}

fn put(resolved: &mut BTreeMap<String, Given>, name: &str, value: Given) -> Result<()> {
    if resolved.insert(name.to_string(), value).is_some() {
        return Err(Error::invalid(format!("the key '{name}' is given twice")).field(name));
    }
    Ok(())
}

/// Reads keys and inputs of a question into `rows`, strictly: nothing missing, nothing null that may not be. In a spine (a time
/// per row) a null key is an unknown key.
pub(crate) fn read_given(planned: &Planned, question: &Question, rows: &mut Rows) -> Result<()> {
    let (keys, inputs) = (&question.keys, &question.inputs);
    let is_spine = matches!(question.at, At::Each(_));
    let names = key_names(planned);
    let needed: Vec<&str> = planned.keys.iter().map(|key| key.name.as_ref()).collect();
    let in_row = |row: usize, error: Error| if keys.len() > 1 { error.context(format!("row {row}")) } else { error };
    for (row, key) in keys.iter().enumerate() {
        let mut resolved = names.resolve(key, &needed).map_err(|error| in_row(row, error))?;
        for plan in &planned.keys {
            let given = resolved.remove(plan.name.as_ref());
            let value = read_key(plan, given, is_spine).map_err(|error| in_row(row, error))?;
            rows.slots[plan.slot].push(FeatureValue::ok(value));
        }
    }
    if inputs.len() > 1 && inputs.len() != keys.len() {
        return Err(Error::invalid(format!("{} maps of inputs for {} keys", inputs.len(), keys.len()))
            .field("inputs")
            .hint("give one map for all rows, or one per key"));
    }
    for (row, input) in inputs.iter().enumerate() {
        check_input_names(planned, input).map_err(|error| in_row(row, error))?;
    }
    let nothing = GivenMap::new();
    for plan in &planned.requests {
        for row in 0..keys.len() {
            let map = inputs.get(if inputs.len() == 1 { 0 } else { row }).unwrap_or(&nothing);
            let value = read_input(plan, map.get(plan.name.as_ref())).map_err(|error| in_row(row, error))?;
            rows.slots[plan.slot].push(FeatureValue::ok(value));
        }
    }
    Ok(())
}

pub(crate) fn key_names(planned: &Planned) -> KeyNames<'_> {
    KeyNames { owner: format!("featureset '{}'", planned.featureset), all: planned.compiled.key_names().collect() }
}

fn read_key(plan: &GivenPlan, given: Option<Given>, is_spine: bool) -> Result<Value> {
    let Some(given) = given else {
        return Err(Error::invalid(format!("missing key '{}'", plan.name))
            .field(plan.name.as_ref())
            .hint("give it, or ask with features=[…] for features that do not depend on it"));
    };
    let value = given.read(&plan.data_type).map_err(|error| at_field(error, "key", &plan.name))?;
    if value.is_null() && !is_spine {
        return Err(Error::invalid(format!("the key '{}' is null", plan.name)).field(plan.name.as_ref()));
    }
    Ok(value)
}

fn read_input(plan: &GivenPlan, given: Option<&Given>) -> Result<Value> {
    let Some(given) = given else {
        return Err(Error::invalid(format!("missing input '{}'", plan.name))
            .field(plan.name.as_ref())
            .hint("a request feature is given with each query, in inputs (thyme query: -i NAME=VALUE)"));
    };
    let value = given.read(&plan.data_type).map_err(|error| at_field(error, "input", &plan.name))?;
    if value.is_null() && !plan.nullable {
        return Err(
            Error::invalid(format!("the input '{}' is null but not Optional", plan.name)).field(plan.name.as_ref())
        );
    }
    Ok(value)
}

fn at_field(error: Error, what: &str, name: &str) -> Error {
    error.context(format!("{what} '{name}'")).field(name)
}

fn check_input_names(planned: &Planned, inputs: &GivenMap) -> Result<()> {
    let features = &planned.compiled.features;
    let requests = || features.iter().filter(|feature| feature.kind == FeatureKind::Request);
    for name in inputs.keys() {
        if !requests().any(|feature| feature.name == *name) {
            let known = requests().map(|feature| feature.name.as_str());
            return Err(Error::invalid(format!("unknown input '{name}' of featureset '{}'", planned.featureset))
                .field(name.as_str())
                .hint(suggest::hint(name, known)));
        }
    }
    Ok(())
}
