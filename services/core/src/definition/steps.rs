//! Binds the steps of a pipeline: which columns there are after them, and the programs that compute them.

use super::compiled::{CompiledPipeline, Route, erased_suffix};
use super::findings::{About, check_name};
use super::pipelines::is_filled;
use super::program::{KeyProgram, RowProgram, Step, Steps};
use super::{CompiledDataset, StepDef};
use crate::aggregate::TablePlan;
use crate::error::{Error, Result};
use crate::expr::{Bound, Column, ColumnType, Columns, Expr, Scope, bind};
use crate::schema::DataType;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The columns of a pipeline's rows after its steps.
pub(super) struct BoundSteps<'a> {
    input: &'a CompiledDataset,
    scope: Scope,
    steps: Vec<Step>,
    computed: usize,
    /// What each computed column is, whatever it and the columns before it are called.
    digests: BTreeMap<String, String>,
}

impl<'a> BoundSteps<'a> {
    pub fn new(input: &'a CompiledDataset) -> BoundSteps<'a> {
        let mut scope = Scope::default();
        for (index, field) in input.fields.iter().enumerate() {
            // Whatever an aggregated field is declared as, its window may be empty, or its sum too great.
            let nullable = field.nullable || (!input.is_raw() && is_filled(field));
            let column_type = ColumnType { data_type: field.data_type.clone(), nullable };
            scope.add_row_column(&field.name, index, column_type);
        }
        BoundSteps { input, scope, steps: Vec::new(), computed: 0, digests: BTreeMap::new() }
    }

    /// Binds one step; what is wrong with it is reported.
    pub fn add(&mut self, step: &StepDef, about: &mut About<'_>) {
        match step {
            StepDef::Filter { expr } => {
                if let Some(predicate) = about.keep(self.predicate("filter", expr)) {
                    self.steps.push(Step::Filter(predicate));
                }
            }
            StepDef::Assign { columns } => {
                if columns.is_empty() {
                    about.wrong("assign without a column");
                }
                for column in columns {
                    let added = self.assign(&column.name, &column.expr);
                    if let Err(error) = added {
                        about.report(error.context(format!("assign '{}'", column.name)));
                    }
                }
            }
        }
    }

    fn assign(&mut self, name: &str, expr: &Expr) -> Result<()> {
        check_name("column", name)?;
        if self.input.fields[self.input.time_column].name == name {
            return Err(Error::definition("the timestamp cannot be replaced")
                .hint("an event's time is that of its dataset's timestamp field; assign to another name"));
        }
        let (bound, column_type) = bind(expr, &self.scope)?;
        self.digests.insert(name.to_string(), self.digest(expr)?);
        self.scope.add_computed(name, self.computed, column_type);
        self.computed += 1;
        self.steps.push(Step::Compute(bound));
        Ok(())
    }

    /// Binds a predicate over the columns so far.
    pub fn predicate(&self, what: &str, expr: &Expr) -> Result<Bound> {
        let (bound, column_type) = bind(expr, &self.scope).map_err(|error| error.context(what))?;
        if column_type.data_type != DataType::Bool {
            return Err(Error::definition(format!("{what} takes a bool expression, got {}", column_type.data_type)));
        }
        Ok(bound)
    }

    pub fn column_type(&self, name: &str) -> Option<&ColumnType> {
        self.scope.column_type(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.scope.names()
    }

    /// All columns, for the aggregates.
    pub fn columns(&self) -> Columns {
        let typed = |name: &str| self.scope.column_type(name).map(|found| (name.to_string(), found.clone()));
        self.scope.names().filter_map(typed).collect()
    }

    /// The program that makes events of the plan's table.
    pub fn row_program(&self, plan: &TablePlan) -> Result<RowProgram> {
        let mut values: Vec<Bound> =
            plan.column_sources.iter().map(|name| self.bound_column(name)).collect::<Result<_>>()?;
        let mut predicates: Vec<Bound> =
            plan.predicates.iter().map(|expr| self.predicate("where", expr)).collect::<Result<_>>()?;
        let mut results: Vec<&mut Bound> = values.iter_mut().chain(predicates.iter_mut()).collect();
        let steps = self.prune(true, &mut results);
        Ok(RowProgram { steps, values, predicates })
    }

    /// The log that the group key needs, `None` if the input is raw and the key its own.
    pub fn route(&self, group: &[String], upstream: Option<&CompiledPipeline>) -> Result<Option<Route>> {
        let mut components: Vec<Bound> = group.iter().map(|name| self.bound_column(name)).collect::<Result<_>>()?;
        let key_columns = self.input.key_columns.iter();
        let is_own_key = components.len() == key_columns.len()
            && components
                .iter()
                .zip(key_columns)
                .all(|(found, key)| matches!(found, Bound::Row(column) if column == key));
        if is_own_key && upstream.is_none() {
            return Ok(None);
        }
        let mut columns = group.join("-");
        if components.iter().any(|component| matches!(component, Bound::Computed(_))) {
            let mut hash = Sha256::new();
            for name in group {
                hash.update(self.digests.get(name).unwrap_or(name));
                hash.update([0]);
            }
            columns = format!("{columns}.{}", &hex(&hash.finalize())[..8]);
        }
        let steps = self.prune(false, &mut components.iter_mut().collect::<Vec<_>>());
        let (mut id, mut topic) = (self.input.identity(), self.input.topic());
        if let Some(upstream) = upstream {
            id.push_str(&format!(":{}@{}", upstream.short_name(), upstream.version));
            topic.push_str(&format!(".{}.v{}", upstream.short_name(), upstream.version));
        }
        let erased = upstream.map(|upstream| upstream.known_erases().to_vec()).unwrap_or_default();
        Ok(Some(Route {
            id: format!("{id}:{columns}{}", erased_suffix('+', &erased)),
            topic: format!("{topic}.by.{columns}{}", erased_suffix('.', &erased)),
            columns,
            key_program: KeyProgram { steps, components },
            is_aligned: is_own_key,
            erased,
        }))
    }

    fn bound_column(&self, name: &str) -> Result<Bound> {
        bind(&Expr::Col(name.to_string()), &self.scope).map(|(bound, _)| bound)
    }

    /// The digest of an expression with its computed columns replaced by their digests.
    fn digest(&self, expr: &Expr) -> Result<String> {
        let mut resolved = expr.clone();
        rename_columns(&mut resolved, &|name| self.digests.get(name).map(|digest| format!("#{digest}")));
        let text = serde_json::to_string(&resolved).map_err(|error| Error::internal(error.to_string()))?;
        Ok(hex(&Sha256::digest(text)))
    }

    /// The steps that `results` need (and the filters, if wanted), with the computed columns renumbered.
    fn prune(&self, with_filters: bool, results: &mut [&mut Bound]) -> Steps {
        let mut wanted = vec![false; self.input.fields.len()];
        let mut needed = vec![false; self.computed];
        let mut mark = |bound: &Bound, needed: &mut Vec<bool>| {
            bound.visit_columns(&mut |column| match column {
                Column::Row(index) => wanted[index] = true,
                Column::Computed(index) => needed[index] = true,
            });
        };
        results.iter().for_each(|bound| mark(bound, &mut needed));
        let mut next_computed = self.computed;
        let mut kept = Vec::new();
        for step in self.steps.iter().rev() {
            match step {
                Step::Filter(predicate) if with_filters => {
                    mark(predicate, &mut needed);
                    kept.push(step.clone());
                }
                Step::Filter(_) => {}
                Step::Compute(expr) => {
                    next_computed -= 1;
                    if needed[next_computed] {
                        mark(expr, &mut needed);
                        kept.push(step.clone());
                    }
                }
            }
        }
        kept.reverse();
        let new_index = |old: usize| needed[..old].iter().filter(|is_needed| **is_needed).count();
        for step in &mut kept {
            match step {
                Step::Filter(bound) | Step::Compute(bound) => bound.renumber_computed(&new_index),
            }
        }
        for bound in results {
            bound.renumber_computed(&new_index);
        }
        Steps { steps: kept, computed: new_index(self.computed), wanted }
    }
}

fn rename_columns(expr: &mut Expr, rename: &dyn Fn(&str) -> Option<String>) {
    match expr {
        Expr::Col(name) => {
            if let Some(new) = rename(name) {
                *name = new;
            }
        }
        Expr::Lit(_) => {}
        Expr::Call { args, .. } => args.iter_mut().for_each(|arg| rename_columns(arg, rename)),
        Expr::When { branches, otherwise } => {
            for (condition, value) in branches {
                rename_columns(condition, rename);
                rename_columns(value, rename);
            }
            rename_columns(otherwise, rename);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
