//! Compiles the aggregates of a pipeline: checks each, and gives equal partials, columns and predicates one place.

use super::AggregateDef;
use super::layout::{MAX_PREDICATES, PartialKind, PartialSpec, Scan, TableLayout};
use super::operator::{Needs, Request, ScanShape};
use super::plan::Columns;
use super::plan::{OutputPlan, TablePlan};
use super::registry;
use crate::error::{Error, Result};
use crate::expr::Literal;
use crate::schema::DataType;
use crate::value::Value;

pub(super) fn compile(aggregates: &[AggregateDef], columns: &Columns) -> std::result::Result<TablePlan, Vec<Error>> {
    let mut plan = TablePlan {
        layout: TableLayout::default(),
        column_sources: Vec::new(),
        predicates: Vec::new(),
        outputs: Vec::with_capacity(aggregates.len()),
    };
    let mut errors = Vec::new();
    for aggregate in aggregates {
        let repeated = plan.outputs.iter().any(|output| output.name == aggregate.name);
        let added = if repeated {
            Err(Error::definition("this name is taken by another aggregate of the pipeline"))
        } else {
            add_output(&mut plan, aggregate, columns)
        };
        if let Err(error) = added {
            errors.push(error.context(format!("aggregate '{}'", aggregate.name)));
        }
    }
    move_digests_last(&mut plan);
    if errors.is_empty() { Ok(plan) } else { Err(errors) }
}

/// Who reads other partials need not go past digests, which are long.
fn move_digests_last(plan: &mut TablePlan) {
    let specs = &plan.layout.partials;
    let mut order: Vec<usize> = (0..specs.len()).collect();
    order.sort_by_key(|index| specs[*index].kind.is_digest());
    let places: Vec<u16> = (0..specs.len())
        .map(|index| order.iter().position(|other| *other == index).map_or(0, |place| place as u16))
        .collect();
    plan.layout.partials = order.iter().map(|index| specs[*index]).collect();
    for partial in plan.outputs.iter_mut().flat_map(|output| &mut output.partials) {
        *partial = places[usize::from(*partial)];
    }
}

fn add_output(plan: &mut TablePlan, aggregate: &AggregateDef, columns: &Columns) -> Result<()> {
    let request = Request::new(aggregate, columns)?;
    let needs = registry::plan(&request)?;
    let default = default_value(aggregate.default.as_ref(), &needs.result_type)?;
    let predicate = match &aggregate.predicate {
        Some(expr) => match plan.predicates.iter().position(|known| known == expr) {
            Some(index) => Some(index as u16),
            None if plan.predicates.len() == MAX_PREDICATES => {
                return Err(Error::definition(format!(
                    "more than {MAX_PREDICATES} distinct where= predicates in one pipeline"
                ))
                .field("where"));
            }
            None => {
                plan.predicates.push(expr.clone());
                plan.layout.predicates = plan.predicates.len() as u16;
                Some(plan.predicates.len() as u16 - 1)
            }
        },
        None => None,
    };
    let column = request.column().map(|(name, of)| place_column(plan, name, &of.data_type));
    let nullable = request.column().is_some_and(|(_, of)| of.nullable);
    let partials = needs.partials.iter().map(|kind| place_partial(plan, *kind, column, nullable, predicate)).collect();
    let Needs { operator, scan, result_type, nullable: result_nullable, empty, .. } = needs;
    let scan = scan.map(|ScanShape { skip_null, newest_first, limit }| Scan {
        column,
        predicate,
        // One spelling for the same scan, so that it is shared.
        skip_null: skip_null && nullable,
        newest_first,
        limit,
    });
    plan.outputs.push(OutputPlan {
        name: aggregate.name.clone(),
        window: aggregate.window,
        partials,
        scan,
        result_type,
        nullable: result_nullable,
        empty,
        default,
        operator,
    });
    Ok(())
}

fn place_column(plan: &mut TablePlan, name: &str, data_type: &DataType) -> u16 {
    let index = plan.column_sources.iter().position(|known| known == name).unwrap_or_else(|| {
        plan.column_sources.push(name.to_string());
        plan.layout.columns.push(data_type.clone());
        plan.column_sources.len() - 1
    });
    index as u16
}

fn place_partial(
    plan: &mut TablePlan,
    kind: PartialKind,
    column: Option<u16>,
    nullable: bool,
    predicate: Option<u16>,
) -> u16 {
    // Counting the values of a column without nulls is counting rows, which other aggregates share.
    let column = if kind == PartialKind::Count && !nullable { None } else { column };
    let spec = PartialSpec { kind, column, predicate };
    let partials = &mut plan.layout.partials;
    let index = partials.iter().position(|known| *known == spec).unwrap_or_else(|| {
        partials.push(spec);
        partials.len() - 1
    });
    index as u16
}

/// The default as a value of the result's type; an int stands for a float or Decimal too. No default and a null one are the same.
fn default_value(default: Option<&Literal>, result_type: &DataType) -> Result<Option<Value>> {
    let Some(literal) = default else { return Ok(None) };
    let wrong = |got: &str| {
        Error::definition(format!("default is {got}, but the aggregate's values are {result_type}")).field("default")
    };
    let value = literal.value().ok_or_else(|| wrong("not a value"))?.widened(result_type);
    if value.is_null() {
        return Ok(None);
    }
    if !value.has_type(result_type) {
        return Err(wrong(value.type_name()));
    }
    Ok(Some(value))
}
