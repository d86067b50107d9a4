//! Plans: the aggregates of one pipeline compiled into a table layout ([`TablePlan`]), and a question about some of them
//! compiled into window reads ([`ReadPlan`]).

use super::AggregateDef;
use super::layout::{Scan, TableLayout, WindowData, WindowRead};
use super::operator::{Inputs, Operator};
use crate::error::{Error, Result};
use crate::exact::Overflow;
use crate::expr::Expr;
use crate::schema::DataType;
use crate::time::Micros;
use crate::value::Value;
use crate::window::Window;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Type of a column of the rows that are aggregated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnType {
    pub data_type: DataType,
    /// Whether a row may carry null here. Must be true where null is possible: for a column that cannot be null, values are
    /// counted as rows.
    pub nullable: bool,
}

/// Columns by name.
pub type Columns = BTreeMap<String, ColumnType>;

/// What an aggregate is for one key at one time.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Value(Value),
    /// No row counts for it; holds the operator's own value for that (0, null, an empty list). A default replaces it.
    Empty(Value),
    /// The value does not exist, and why: for example a sum beyond i64.
    Error(String),
}

impl Outcome {
    /// A float that was rounded from an exact number; `what` names it for the error.
    pub(super) fn rounded(number: Result<f64, Overflow>, what: &str) -> Outcome {
        match number {
            Ok(number) => Outcome::Value(Value::Float(number)),
            Err(Overflow) => Outcome::beyond_float(what),
        }
    }

    pub(super) fn beyond_float(what: &str) -> Outcome {
        Outcome::Error(format!("the {what} is beyond a 64-bit float"))
    }
}

/// An outcome that is a number, as most are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Int(i64),
    Float(f64),
}

impl From<Number> for Value {
    fn from(number: Number) -> Value {
        match number {
            Number::Int(number) => Value::Int(number),
            Number::Float(number) => Value::Float(number),
        }
    }
}

/// An outcome as it is shown.
pub enum Shown<'a> {
    Number(Number),
    Other(&'a Outcome),
}

/// One aggregate, compiled.
#[derive(Debug, Clone)]
pub struct OutputPlan {
    /// The field of the aggregated dataset.
    pub name: String,
    pub window: Window,
    /// Indices into the layout's partials, in the operator's own order.
    pub partials: Vec<u16>,
    pub scan: Option<Scan>,
    pub result_type: DataType,
    /// Whether a null may come out although the window is not empty.
    pub nullable: bool,
    /// Value of an empty window.
    pub empty: Value,
    /// Replaces the value of an empty window; of `result_type`.
    pub default: Option<Value>,
    pub(super) operator: Arc<dyn Operator>,
}

impl OutputPlan {
    /// Whether every answer reads all events of the window, so that it costs time with their number.
    pub fn reads_every_event(&self) -> bool {
        self.scan.is_some_and(|scan| scan.limit.is_none())
    }
}

/// Compiled aggregates of one pipeline version.
#[derive(Debug, Clone)]
pub struct TablePlan {
    pub layout: TableLayout,
    /// For each of `layout.columns` the name of the row's column that fills it.
    pub column_sources: Vec<String>,
    /// Distinct `where=` predicates, in the order of an event's predicate bits.
    pub predicates: Vec<Expr>,
    /// In the order of the definition.
    pub outputs: Vec<OutputPlan>,
}

/// Which windows to read for a question, and how its outputs come out of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPlan {
    pub windows: Vec<WindowRead>,
    /// One per wanted output, in `wanted` order.
    pub outputs: Vec<OutputRead>,
}

/// Where one wanted output finds its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRead {
    /// Index into [`TablePlan::outputs`].
    pub output: usize,
    /// Index into [`ReadPlan::windows`].
    pub window: usize,
    /// In the operator's own order.
    pub partials: Vec<PartialRead>,
    /// Index into that window's scans.
    pub scan: Option<u16>,
}

/// Where an output finds one of its partials: in its own window, or in a shorter one that reaches as far as rows matter to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialRead {
    /// Index into [`ReadPlan::windows`].
    pub window: usize,
    /// Index into that window's partials.
    pub place: u16,
}

impl TablePlan {
    /// The longest window, `None` if one has no bound.
    pub fn longest_window(&self) -> Option<Micros> {
        let lengths = self.outputs.iter().map(|output| match output.window {
            Window::Length(length) => Some(length),
            Window::Forever => None,
        });
        lengths.collect::<Option<Vec<Micros>>>()?.into_iter().max()
    }

    /// Checks and compiles the aggregates of one pipeline over rows with these columns. The first error of
    /// [`TablePlan::compile_all`].
    pub fn compile(aggregates: &[AggregateDef], columns: &Columns) -> Result<TablePlan> {
        TablePlan::compile_all(aggregates, columns).map_err(|errors| {
            errors.into_iter().next().unwrap_or_else(|| Error::internal("compiling aggregates failed without an error"))
        })
    }

    /// Checks and compiles the aggregates of one pipeline over rows with these columns; each error names its aggregate. That a
    /// predicate is boolean is for the expression checker.
    pub fn compile_all(aggregates: &[AggregateDef], columns: &Columns) -> std::result::Result<TablePlan, Vec<Error>> {
        super::compile::compile(aggregates, columns)
    }

    /// What to read for the outputs with these indices. Windows, partials and scans are shared.
    pub fn read_plan(&self, wanted: &[usize]) -> ReadPlan {
        let mut windows: Vec<WindowRead> = Vec::new();
        let mut outputs = Vec::with_capacity(wanted.len());
        for &output in wanted {
            let plan = &self.outputs[output];
            let window = place_window(&mut windows, plan.window);
            let partials = plan.partials.iter().map(|partial| {
                let reach = self.layout.partials[usize::from(*partial)].kind.reach();
                let shorter = reach.map_or(plan.window, |reach| plan.window.min(Window::Length(reach)));
                let window = place_window(&mut windows, shorter);
                PartialRead { window, place: place(&mut windows[window].partials, *partial) }
            });
            let partials = partials.collect();
            let scan = plan.scan.map(|scan| place_scan(&mut windows[window].scans, scan));
            outputs.push(OutputRead { output, window, partials, scan });
        }
        ReadPlan { windows, outputs }
    }
}

/// Index of the read of a window, which is put there if missing.
fn place_window(windows: &mut Vec<WindowRead>, window: Window) -> usize {
    windows.iter().position(|read| read.window == window).unwrap_or_else(|| {
        windows.push(WindowRead { window, partials: Vec::new(), scans: Vec::new() });
        windows.len() - 1
    })
}

/// Index of `wanted` in `list`, where it is put if missing.
fn place(list: &mut Vec<u16>, wanted: u16) -> u16 {
    let index = list.iter().position(|known| *known == wanted).unwrap_or_else(|| {
        list.push(wanted);
        list.len() - 1
    });
    index as u16
}

/// Index of a scan that covers `wanted`: one that differs in its limit is widened.
fn place_scan(list: &mut Vec<Scan>, wanted: Scan) -> u16 {
    let same = |known: &Scan| Scan { limit: wanted.limit, ..*known } == wanted;
    let index = match list.iter().position(same) {
        Some(index) => {
            let limits = list[index].limit.zip(wanted.limit);
            list[index].limit = limits.map(|(known, more)| known.max(more));
            index
        }
        None => {
            list.push(wanted);
            list.len() - 1
        }
    };
    index as u16
}

impl ReadPlan {
    /// Shows the outcomes, in `wanted` order, with their places there. `at` is the question's own time T, also when it is exclusive.
    /// `data` is parallel to `windows`.
    #[inline]
    pub fn finish(&self, plan: &TablePlan, at: Micros, data: &[WindowData], mut visit: impl FnMut(usize, &Outcome)) {
        self.show(plan, at, data, |place, shown| match shown {
            Shown::Number(number) => visit(place, &Outcome::Value(number.into())),
            Shown::Other(outcome) => visit(place, outcome),
        });
    }

    /// The same, numbers as such: for who takes very many of them.
    #[inline]
    pub fn show(&self, plan: &TablePlan, at: Micros, data: &[WindowData], mut visit: impl FnMut(usize, Shown<'_>)) {
        for (place, read) in self.outputs.iter().enumerate() {
            let Some(output) = plan.outputs.get(read.output).filter(|_| read.window < data.len()) else {
                let reason = format!("window {} of the question was not read", read.window);
                visit(place, Shown::Other(&Outcome::Error(reason)));
                continue;
            };
            let inputs = Inputs::new(data, read, at);
            if let Some(number) = output.operator.number(&inputs) {
                visit(place, Shown::Number(number));
                continue;
            }
            // Not moved: to copy what has just been written in smaller parts makes the processor wait.
            match &output.operator.finish(&inputs) {
                Some(outcome) => visit(place, Shown::Other(outcome)),
                None => {
                    let reason = format!("the data read for '{}' do not fit its plan", output.name);
                    visit(place, Shown::Other(&Outcome::Error(reason)));
                }
            }
        }
    }
}
