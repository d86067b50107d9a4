//! `TopK(of, window, k)`: the k most frequent values with their counts, most frequent first, ties by value (least first).

use super::operator::{Inputs, Needs, Operator, Request, ScanShape, checked_k};
use super::plan::Outcome;
use crate::error::Result;
use crate::schema::DataType;
use crate::value::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Debug)]
struct TopK {
    k: usize,
}

pub(super) fn plan(request: &Request<'_>, k: u32) -> Result<Needs> {
    let column = request.required("TopK")?;
    Ok(Needs {
        operator: Arc::new(TopK { k: checked_k("TopK", k)? }),
        partials: Vec::new(),
        scan: Some(ScanShape::VALUES),
        result_type: DataType::top_k_entries(column.data_type.clone()),
        nullable: false,
        empty: Value::List(Arc::new([])),
    })
}

impl Operator for TopK {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        let mut counts: HashMap<&Value, i64> = HashMap::new();
        for item in inputs.items()? {
            *counts.entry(&item.value).or_default() += 1;
        }
        let mut ranked: Vec<(&Value, i64)> = counts.into_iter().collect();
        ranked.sort_unstable_by(|(value, count), (other, more)| more.cmp(count).then_with(|| value.cmp(other)));
        let entries: Arc<[Value]> = ranked.into_iter().take(self.k).map(|(value, count)| entry(value, count)).collect();
        Some(if entries.is_empty() {
            Outcome::Empty(Value::List(entries))
        } else {
            Outcome::Value(Value::List(entries))
        })
    }
}

fn entry(value: &Value, count: i64) -> Value {
    let fields = [(Arc::from("value"), value.clone()), (Arc::from("count"), Value::Int(count))];
    Value::Map(Arc::new(BTreeMap::from(fields)))
}
