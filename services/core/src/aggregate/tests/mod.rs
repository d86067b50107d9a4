//! Aggregates as a whole: compiled, accumulated in random splits, read and finished.

mod against_oracle;
mod compile;
mod values;

use super::*;
use crate::expr::Literal;
use crate::position::Position;
use crate::schema::DataType;
use crate::time::Micros;
use crate::value::Value;
use std::collections::BTreeMap;

/// The rows that the tests aggregate: name, type, nullable.
const COLUMNS: &[(&str, DataType, bool)] = &[
    ("amount", DataType::Float, true),
    ("price", DataType::Float, false),
    ("huge", DataType::Float, true),
    ("quantity", DataType::Int, true),
    ("units", DataType::Int, false),
    ("shop", DataType::Str, true),
    ("paid_at", DataType::Time, true),
    ("express", DataType::Bool, true),
    ("fee", DataType::Decimal, true),
];

fn columns() -> Columns {
    let typed = |(name, data_type, nullable): &(&str, DataType, bool)| {
        (name.to_string(), ColumnType { data_type: data_type.clone(), nullable: *nullable })
    };
    COLUMNS.iter().map(typed).collect()
}

/// One accepted event: a value per entry of [`COLUMNS`], one flag per entry of [`predicates`].
#[derive(Debug, Clone)]
struct Row {
    time: Micros,
    origin: Position,
    values: Vec<Value>,
    flags: u8,
}

impl Row {
    fn value(&self, column: &str) -> Value {
        let index = COLUMNS.iter().position(|(name, _, _)| *name == column).unwrap();
        self.values[index].clone()
    }
    /// Whether the predicate numbered `index` in [`predicates`] is true.
    fn fulfils(&self, predicate: &Expr) -> bool {
        let index = predicates().iter().position(|known| known == predicate).unwrap();
        self.flags >> index & 1 == 1
    }
}

fn predicates() -> [Expr; 2] {
    [Expr::Col("express".to_string()), Expr::Lit(Literal::Bool(true))]
}

fn definition(name: &str, op: AggregateOp, of: Option<&str>, window: &str) -> AggregateDef {
    AggregateDef {
        name: name.to_string(),
        op,
        of: of.map(str::to_string),
        window: Window::parse(window).unwrap(),
        predicate: None,
        default: None,
    }
}

/// A table in its simplest form: all rows in a list.
struct Table<'a> {
    plan: &'a TablePlan,
    rows: Vec<Row>,
    /// Every so many rows make a partial of their own, which is encoded, decoded and merged.
    split: usize,
}

impl Table<'_> {
    fn read(&self, read: &WindowRead, from: Micros, to: Micros) -> WindowData {
        let inside: Vec<&Row> = self.rows.iter().filter(|row| from <= row.time && row.time <= to).collect();
        let partials = read.partials.iter().map(|index| self.partial(*index, &inside)).collect();
        let scans = read.scans.iter().map(|scan| self.scan(scan, &inside)).collect();
        WindowData { partials, scans }
    }

    fn counts(&self, row: &Row, predicate: Option<u16>) -> bool {
        predicate.is_none_or(|index| row.fulfils(&self.plan.predicates[usize::from(index)]))
    }

    fn value(&self, row: &Row, column: Option<u16>) -> Value {
        column.map_or(Value::Null, |index| row.value(&self.plan.column_sources[usize::from(index)]))
    }

    fn partial(&self, index: u16, rows: &[&Row]) -> Partial {
        let spec = &self.plan.layout.partials[usize::from(index)];
        let mut whole = Partial::empty(spec);
        for part in rows.chunks(self.split) {
            let mut partial = Partial::empty(spec);
            for row in part.iter().filter(|row| self.counts(row, spec.predicate)) {
                partial.add(spec, row.time, &self.value(row, spec.column));
            }
            let mut bytes = Vec::new();
            partial.encode(&mut bytes);
            let mut rest = bytes.as_slice();
            let decoded = Partial::decode(spec, &mut rest).unwrap();
            assert!(rest.is_empty());
            assert_eq!(decoded, partial);
            whole.merge(spec, &decoded);
            let times = rows.iter().map(|row| row.time);
            let stretch = times.clone().max().unwrap_or(0).abs_diff(times.min().unwrap_or(0));
            if Partial::invertible(spec, stretch) {
                // Out and in again: exact, so nothing is left behind.
                whole.subtract(spec, &partial);
                whole.merge(spec, &partial);
            }
        }
        whole
    }

    fn scan(&self, scan: &Scan, rows: &[&Row]) -> Vec<ScanItem> {
        let mut items: Vec<ScanItem> = rows
            .iter()
            .filter(|row| self.counts(row, scan.predicate))
            .map(|row| ScanItem { time: row.time, origin: row.origin, value: self.value(row, scan.column) })
            .filter(|item| !(scan.skip_null && item.value.is_null()))
            .collect();
        items.sort_by_key(|item| (item.time, item.origin));
        if scan.newest_first {
            items.reverse();
        }
        items.truncate(scan.limit.map_or(usize::MAX, |limit| limit as usize));
        items
    }
}

/// The outcomes of `definitions` over `rows` in any order.
fn outcomes(definitions: &[AggregateDef], rows: &[Row], split: usize, at: Micros, exclusive: bool) -> Vec<Outcome> {
    let plan = TablePlan::compile(definitions, &columns()).unwrap();
    let table = Table { plan: &plan, rows: rows.to_vec(), split };
    let wanted: Vec<usize> = (0..definitions.len()).rev().collect();
    let reads = plan.read_plan(&wanted);
    let to = if exclusive { at - 1 } else { at };
    let data: Vec<WindowData> = reads.windows.iter().map(|read| table.read(read, read.window.start(at), to)).collect();
    let mut outcomes = Vec::new();
    reads.finish(&plan, at, &data, |_, outcome| outcomes.push(outcome.clone()));
    outcomes.reverse();
    outcomes
}
