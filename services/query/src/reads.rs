//! Native reads: the windows and newest rows of a question, each key's rows read once, whatever the number of times asked.

use crate::answer::FeatureValue;
use crate::plan::{Planned, ReadTable, ReadWhat};
use crate::rows::Rows;
use crate::view::{Touched, View};
use std::sync::Arc;
use thyme_core::aggregate::{Outcome, WindowData};
use thyme_core::error::Result;
use thyme_core::key;
use thyme_core::schema::DataType;
use thyme_core::time::Micros;
use thyme_core::value::Value;
use thyme_state::Visible;

const NULL_TIMESTAMP: &str = "the timestamp is null";

/// The rows of one table key, in order of time.
struct Group {
    key: Vec<u8>,
    partition: u16,
    /// (T, row).
    rows: Vec<(Micros, usize)>,
}

/// What becomes of a T that a dataset's `history=` does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooEarly {
    /// The whole question has one T: it is refused.
    Refuse,
    /// Every row has its own: what the row would read is ERROR.
    Mark,
}

/// Does all native reads. Marks in `hits` the rows whose key is known to a table at their T.
pub(crate) fn read_all(
    view: &View,
    planned: &Planned,
    rows: &mut Rows,
    touched: &mut Touched,
    hits: &mut [bool],
    too_early: TooEarly,
) -> Result<()> {
    let mut grouped: Vec<(&[usize], u16, Vec<Group>)> = Vec::new();
    for read in &planned.reads {
        let partitions = read.source.partitions;
        let known = grouped.iter().position(|(key, count, _)| *key == read.key && *count == partitions);
        let at = known.unwrap_or_else(|| {
            grouped.push((&read.key, partitions, group_rows(rows, &read.key, partitions)));
            grouped.len() - 1
        });
        let groups = &grouped[at].2;
        fill_unread(planned, read, rows);
        for group in groups {
            touched.partition(&read.source, group.partition);
            let kept = within_history(view, read, group, rows, too_early)?;
            read_group(view, planned, read, group, kept, rows, hits)?;
        }
    }
    for source in &planned.looked_up {
        touched.all(source);
    }
    Ok(())
}

/// A row with its key, in the order of the table's rows and of time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Keyed {
    vnode: u8,
    pub key: Vec<u8>,
    time: Micros,
    pub row: u32,
}

/// The rows by their encoded key. Rows with a null key or no time are left out.
pub(crate) fn keyed_rows(rows: &Rows, key: &[usize]) -> Vec<Keyed> {
    let encode = |row: usize| {
        let components: Vec<Value> = key.iter().map(|&slot| rows.slots[slot][row].value.clone()).collect();
        key::encode_key(&components)
    };
    let mut keyed = Vec::with_capacity(rows.len());
    for (row, time) in rows.times.iter().enumerate() {
        if let (Some(time), Some(key)) = (time, encode(row)) {
            keyed.push(Keyed { vnode: key::vnode(&key), key, time: *time, row: row as u32 });
        }
    }
    keyed.sort_unstable();
    keyed
}

fn group_rows(rows: &Rows, key: &[usize], partitions: u16) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for Keyed { vnode, key, time, row } in keyed_rows(rows, key) {
        match groups.last_mut() {
            Some(group) if group.key == key => group.rows.push((time, row as usize)),
            _ => groups.push(Group {
                key,
                partition: key::partition_of_vnode(vnode, partitions),
                rows: vec![(time, row as usize)],
            }),
        }
    }
    groups
}

/// Values of rows that are not read: a null key is an unknown key, a null time an error. Overwritten where rows are read.
fn fill_unread(planned: &Planned, read: &ReadTable, rows: &mut Rows) {
    let fill = |slot: usize, unknown: FeatureValue, rows: &mut Rows| {
        rows.fill(slot, &unknown);
        if rows.times.iter().any(Option::is_none) {
            let reason: Arc<str> = NULL_TIMESTAMP.into();
            for (value, _) in rows.slots[slot].iter_mut().zip(&rows.times).filter(|(_, time)| time.is_none()) {
                *value = FeatureValue::error(reason.clone());
            }
        }
    };
    match &read.what {
        ReadWhat::Windows { pipeline, plan, slots } => {
            for (output, &slot) in plan.outputs.iter().zip(slots) {
                let output = &pipeline.plan.outputs[output.output];
                let slot_plan = &planned.slots[slot];
                let empty = empty_value(slot_plan.default.as_ref(), output.default.as_ref(), &output.empty);
                fill(slot, as_default(empty, &slot_plan.data_type), rows);
            }
        }
        ReadWhat::Newest { columns, .. } => {
            for &(_, slot) in columns {
                let default = planned.slots[slot].default.clone().unwrap_or(Value::Null);
                fill(slot, FeatureValue::default_of(default), rows);
            }
        }
    }
}

/// The rows of a group that are not before the horizon; those that are get their ERROR.
fn within_history<'a>(
    view: &View,
    read: &ReadTable,
    group: &'a Group,
    rows: &mut Rows,
    too_early: TooEarly,
) -> Result<&'a [(Micros, usize)]> {
    let Some(horizon) = view.horizon(&read.source, group.partition)? else { return Ok(&group.rows) };
    let (early, kept) = group.rows.split_at(group.rows.partition_point(|(at, _)| *at < horizon.earliest));
    if let (Some((at, _)), TooEarly::Refuse) = (early.first(), too_early) {
        horizon.check(*at)?;
    }
    for &(at, row) in early {
        let error = FeatureValue::error(horizon.reason(at));
        match &read.what {
            ReadWhat::Windows { slots, .. } => slots.iter().for_each(|&slot| rows.slots[slot][row] = error.clone()),
            ReadWhat::Newest { columns, .. } => {
                columns.iter().for_each(|&(_, slot)| rows.slots[slot][row] = error.clone());
            }
        }
    }
    Ok(kept)
}

fn read_group(
    view: &View,
    planned: &Planned,
    read: &ReadTable,
    group: &Group,
    kept: &[(Micros, usize)],
    rows: &mut Rows,
    hits: &mut [bool],
) -> Result<()> {
    let visible = view.visible(&read.source, group.partition)?;
    match &read.what {
        ReadWhat::Windows { .. } => read_windows(view, planned, read, group, kept, &visible, rows, hits),
        ReadWhat::Newest { columns, .. } => {
            let mut done: Option<(Micros, Option<Vec<Value>>)> = None;
            for &(at, row) in kept {
                let newest = match &done {
                    Some((time, newest)) if *time == at => newest.clone(),
                    _ => newest_row(view, read, group, at, &visible)?,
                };
                if let Some(values) = &newest {
                    hits[row] = true;
                    for &(column, slot) in columns {
                        let value = values.get(column).cloned().unwrap_or_default();
                        rows.slots[slot][row] = FeatureValue::ok(value.widened(&planned.slots[slot].data_type));
                    }
                }
                done = Some((at, newest));
            }
            Ok(())
        }
    }
}

fn newest_row(
    view: &View,
    read: &ReadTable,
    group: &Group,
    at: Micros,
    visible: &Visible,
) -> Result<Option<Vec<Value>>> {
    let Some(until) = view.read_time(at) else { return Ok(None) };
    let newest = view.snapshot.newest(&read.source.served.table, &group.key, until, visible)?;
    Ok(newest.map(|event| event.values))
}

#[expect(clippy::too_many_arguments, reason = "one call site, each argument a different thing")]
fn read_windows(
    view: &View,
    planned: &Planned,
    read: &ReadTable,
    group: &Group,
    kept: &[(Micros, usize)],
    visible: &Visible,
    rows: &mut Rows,
    hits: &mut [bool],
) -> Result<()> {
    let ReadWhat::Windows { pipeline, plan, slots } = &read.what else { return Ok(()) };
    let table = &read.source.served.table;
    let mut empty_rows: Vec<(Micros, usize)> = Vec::new();
    let mut settle = |at: Micros, same_time: &[(Micros, usize)], data: &[WindowData]| {
        let outcomes = plan.finish(&pipeline.plan, at, data);
        let any_value = outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Empty(_)));
        for (outcome, (&slot, read)) in outcomes.into_iter().zip(slots.iter().zip(&plan.outputs)) {
            let default = pipeline.plan.outputs[read.output].default.as_ref();
            let slot_plan = &planned.slots[slot];
            let value = settle_outcome(outcome, slot_plan.default.as_ref(), default, &slot_plan.data_type);
            for &(_, row) in same_time {
                rows.slots[slot][row] = value.clone();
            }
        }
        if any_value {
            same_time.iter().for_each(|&(_, row)| hits[row] = true);
        } else {
            empty_rows.extend(same_time);
        }
    };
    let windows = view.windows(&plan.windows);
    let mut spans: Vec<&[(Micros, usize)]> = kept.chunk_by(|a, b| a.0 == b.0).collect();
    // At the first instant of all there is nothing before it to read.
    spans.retain(|span| view.read_time(span[0].0).is_some());
    match spans.as_slice() {
        [] => {}
        [only] => {
            let at = only[0].0;
            let until = view.read_time(at).unwrap_or(at);
            let data = view.snapshot.read(table, &group.key, until, &windows, visible)?;
            settle(at, only, &data);
        }
        many => {
            let times: Vec<Micros> = many.iter().filter_map(|span| view.read_time(span[0].0)).collect();
            view.snapshot.sweep(table, &group.key, &times, &windows, visible, &mut |index, data| {
                settle(many[index][0].0, many[index], data);
                Ok(())
            })?;
        }
    }
    if !empty_rows.is_empty() {
        let oldest = view.snapshot.oldest_time(table, &group.key, visible)?;
        for (at, row) in empty_rows {
            let until = view.read_time(at);
            if oldest.zip(until).is_some_and(|(oldest, until)| oldest <= until) {
                hits[row] = true;
            }
        }
    }
    Ok(())
}

/// A default replaces the value of an empty window only: the feature's before the aggregate's.
pub(crate) fn settle_outcome(
    outcome: Outcome,
    feature_default: Option<&Value>,
    aggregate_default: Option<&Value>,
    data_type: &DataType,
) -> FeatureValue {
    match outcome {
        Outcome::Value(value) => FeatureValue::ok(value.widened(data_type)),
        Outcome::Empty(empty) => as_default(empty_value(feature_default, aggregate_default, &empty), data_type),
        Outcome::Error(reason) => FeatureValue::error(reason),
    }
}

fn empty_value(feature_default: Option<&Value>, aggregate_default: Option<&Value>, empty: &Value) -> Value {
    feature_default.or(aggregate_default).unwrap_or(empty).clone()
}

fn as_default(value: Value, data_type: &DataType) -> FeatureValue {
    FeatureValue::default_of(value.widened(data_type))
}
