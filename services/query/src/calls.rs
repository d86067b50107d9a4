//! Extractor calls, in the plan's order: each is called once for all rows whose inputs hold, and fails only its own outputs
//! and what depends on them.

use crate::answer::{FeatureValue, Status};
use crate::lookups::RequestLookups;
use crate::plan::{CallPlan, Planned, SlotPlan};
use crate::rows::Rows;
use crate::runtime::{Extracted, ExtractorCall, ExtractorRuntime};
use crate::view::View;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::schema::DataType;
use thyme_core::value::Value;

/// What the calls of one question need besides the rows.
pub(crate) struct Caller<'a> {
    pub view: &'a Arc<View>,
    pub runtime: &'a dyn ExtractorRuntime,
    /// Where an extractor declares no deadline.
    pub deadline: Duration,
}

impl Caller<'_> {
    pub async fn call_all(&self, planned: &Planned, rows: &mut Rows) {
        for call in &planned.calls {
            self.call(planned, call, rows).await;
        }
    }

    async fn call(&self, planned: &Planned, call: &CallPlan, rows: &mut Rows) {
        let mut callable: Vec<usize> = Vec::with_capacity(rows.len());
        let mut times = Vec::with_capacity(rows.len());
        for slot in call.outputs.iter().flatten() {
            rows.fill(*slot, &FeatureValue::ok(Value::Null));
        }
        for row in 0..rows.len() {
            match failed_input(planned, call, rows, row) {
                Some(reason) => fail(call, rows, row, &reason),
                None => match rows.times[row] {
                    Some(time) => {
                        callable.push(row);
                        times.push(time);
                    }
                    None => fail(call, rows, row, &"the timestamp is null".into()),
                },
            }
        }
        if callable.is_empty() {
            return;
        }
        let inputs = callable.iter().map(|&row| {
            let values = call.inputs.iter().map(|&slot| rows.slots[slot][row].value.clone());
            values.collect::<Vec<Value>>()
        });
        let extracted = self.runtime.call(ExtractorCall {
            deployment: self.view.served.deployment.commit_id.clone(),
            featureset: call.featureset.clone(),
            extractor: call.extractor.clone(),
            times,
            rows: inputs.collect(),
            lookups: Arc::new(RequestLookups::new(self.view.clone(), call.deps.clone())),
            deadline: call.deadline.unwrap_or(self.deadline),
        });
        let extracted = extracted.await;
        let label = &call.label;
        let mut answers = extracted.into_iter();
        for &row in &callable {
            match answers.next() {
                Some(Ok(outputs)) if outputs.len() == call.outputs.len() => {
                    for (output, slot) in outputs.into_iter().zip(&call.outputs) {
                        if let Some(slot) = *slot {
                            rows.slots[slot][row] = typed(label, output, &planned.slots[slot]);
                        }
                    }
                }
                Some(Ok(outputs)) => {
                    let (got, wanted) = (outputs.len(), call.outputs.len());
                    fail(
                        call,
                        rows,
                        row,
                        &format!("extractor {label} returned {got} values for {wanted} outputs").into(),
                    );
                }
                Some(Err(reason)) => fail(call, rows, row, &format!("extractor {label}: {reason}").into()),
                None => fail(call, rows, row, &format!("extractor {label} returned too few rows").into()),
            }
        }
    }
}

fn fail(call: &CallPlan, rows: &mut Rows, row: usize, reason: &Arc<str>) {
    for slot in call.outputs.iter().flatten() {
        rows.slots[*slot][row] = FeatureValue::error(reason.clone());
    }
}

/// Why a row cannot be called: an input of it is an ERROR.
fn failed_input(planned: &Planned, call: &CallPlan, rows: &Rows, row: usize) -> Option<Arc<str>> {
    call.inputs.iter().find_map(|&slot| match &rows.slots[slot][row].status {
        Status::Error(reason) => Some(format!("input '{}' failed: {reason}", planned.slots[slot].name).into()),
        Status::Ok | Status::Default => None,
    })
}

/// The output as its feature's type, or an ERROR that names extractor, feature and both types.
fn typed(label: &str, output: Extracted, slot: &SlotPlan) -> FeatureValue {
    let value = match output {
        Ok(value) => value,
        Err(reason) => return FeatureValue::error(format!("extractor {label}: feature '{}': {reason}", slot.name)),
    };
    if value.is_null() && !slot.nullable {
        return FeatureValue::error(format!(
            "extractor {label} returned None for feature '{}', which is {} and not Optional",
            slot.name, slot.data_type
        ));
    }
    let got = value.type_name();
    match coerce(value, &slot.data_type) {
        Some(value) => FeatureValue::ok(value),
        None => FeatureValue::error(format!(
            "extractor {label} returned {got} for feature '{}', which is {}",
            slot.name, slot.data_type
        )),
    }
}

/// Ints are accepted for floats and Decimals, at any depth; nothing else is converted.
pub(crate) fn coerce(value: Value, data_type: &DataType) -> Option<Value> {
    match (value, data_type) {
        (Value::List(items), DataType::List(item)) => {
            let coerced: Option<Vec<Value>> = items.iter().map(|entry| coerce(entry.clone(), item)).collect();
            Some(Value::List(coerced?.into()))
        }
        (Value::Map(entries), DataType::Map(item)) => {
            let coerced: Option<_> =
                entries.iter().map(|(name, entry)| Some((name.clone(), coerce(entry.clone(), item)?))).collect();
            Some(Value::Map(Arc::new(coerced?)))
        }
        (Value::Map(entries), DataType::Struct(fixed)) => {
            let fields = fixed.fields();
            let field =
                |(name, field): (&str, &DataType)| Some((Arc::from(name), coerce(entries.get(name)?.clone(), field)?));
            let coerced: Option<_> = fields.into_iter().map(field).collect();
            Some(Value::Map(Arc::new(coerced.filter(|_| entries.len() == fields.len())?)))
        }
        (value, data_type) => Some(value.widened(data_type)).filter(|value| value.has_type(data_type)),
    }
}
