//! What compiling shares, and what it refuses.

use super::*;
use crate::error::{Error, ErrorKind};

fn compile(definitions: &[AggregateDef]) -> TablePlan {
    TablePlan::compile(definitions, &columns()).unwrap()
}

fn refuse(op: AggregateOp, of: Option<&str>) -> Error {
    TablePlan::compile(&[definition("a", op, of, "1h")], &columns()).unwrap_err()
}

fn spec(kind: PartialKind, column: Option<u16>, predicate: Option<u16>) -> PartialSpec {
    PartialSpec { kind, column, predicate }
}

#[test]
fn windows_and_operators_share_partials() {
    let plan = compile(&[
        definition("orders_1h", AggregateOp::Count, None, "1h"),
        definition("orders_1d", AggregateOp::Count, None, "1d"),
        definition("spend_1h", AggregateOp::Sum, Some("price"), "1h"),
        definition("mean_1d", AggregateOp::Avg, Some("price"), "1d"),
        definition("deviation", AggregateOp::Stddev { sample: false }, Some("price"), "1d"),
        definition("greatest", AggregateOp::Max, Some("price"), "1d"),
        definition("tips", AggregateOp::Avg, Some("amount"), "1d"),
    ]);
    // The price is never null, so that its values are counted as rows.
    let wanted = [
        spec(PartialKind::Count, None, None),
        spec(PartialKind::SumFloat, Some(0), None),
        spec(PartialKind::SquaresFloat, Some(0), None),
        spec(PartialKind::Max, Some(0), None),
        spec(PartialKind::Count, Some(1), None),
        spec(PartialKind::SumFloat, Some(1), None),
    ];
    assert_eq!(plan.layout.partials, wanted);
    assert_eq!(plan.column_sources, ["price", "amount"]);
    assert_eq!(plan.layout.columns, [DataType::Float, DataType::Float]);
    assert_eq!(plan.layout.form(), 1);
    let read = plan.read_plan(&[6, 0, 3, 4]);
    assert_eq!(read.windows.len(), 2);
    assert_eq!(read.windows[0].partials, [4, 5, 0, 1, 2]);
    assert_eq!(read.windows[1].partials, [0]);
    assert_eq!(read.outputs[2].partials, [PartialRead { window: 0, place: 2 }, PartialRead { window: 0, place: 3 }]);
}

#[test]
fn predicates_are_shared_and_keep_partials_apart() {
    let [first, second] = predicates();
    let filtered = |name: &str, predicate: &Expr| AggregateDef {
        predicate: Some(predicate.clone()),
        ..definition(name, AggregateOp::Count, None, "1h")
    };
    let plan = compile(&[
        filtered("a", &second),
        filtered("b", &first),
        filtered("c", &second),
        definition("d", AggregateOp::Count, None, "1h"),
    ]);
    assert_eq!(plan.predicates, [second, first]);
    assert_eq!(plan.layout.predicates, 2);
    let wanted = [Some(0), Some(1), None].map(|predicate| spec(PartialKind::Count, None, predicate));
    assert_eq!(plan.layout.partials, wanted);
    assert_eq!(plan.outputs[2].partials, [0]);
}

#[test]
fn scans_are_shared_and_only_as_long_as_needed() {
    let plan = compile(&[
        definition("a", AggregateOp::Last { dropnull: false }, Some("price"), "1h"),
        definition("b", AggregateOp::LastK { k: 5, dedup: false, dropnull: true }, Some("price"), "1h"),
        definition("c", AggregateOp::First { dropnull: false }, Some("price"), "1h"),
        definition("d", AggregateOp::CountDistinct { approx: false }, Some("price"), "1h"),
    ]);
    let scan = |newest_first, limit| Scan { column: Some(0), predicate: None, skip_null: false, newest_first, limit };
    assert_eq!(plan.read_plan(&[0, 1]).windows[0].scans, [scan(true, Some(5))]);
    assert_eq!(plan.read_plan(&[0, 2]).windows[0].scans, [scan(true, Some(1)), scan(false, Some(1))]);
    assert_eq!(plan.read_plan(&[1, 3]).windows[0].scans, [scan(true, None)]);
    assert_eq!(plan.outputs.iter().map(OutputPlan::reads_every_event).collect::<Vec<_>>(), [false, false, false, true]);
}

#[test]
fn digests_stand_behind_all_other_partials() {
    let plan = compile(&[
        definition("middle", AggregateOp::ApproxPercentile { pct: Some(50.0) }, Some("price"), "1h"),
        definition("rank", AggregateOp::ApproxPercentile { pct: None }, Some("quantity"), "1h"),
        definition("spend", AggregateOp::Sum, Some("price"), "1h"),
    ]);
    let wanted = [
        spec(PartialKind::Count, Some(1), None),
        spec(PartialKind::Count, None, None),
        spec(PartialKind::SumFloat, Some(0), None),
        spec(PartialKind::DigestFloat, Some(0), None),
        spec(PartialKind::DigestInt, Some(1), None),
    ];
    assert_eq!(plan.layout.partials, wanted);
    let partials: Vec<&[u16]> = plan.outputs.iter().map(|output| output.partials.as_slice()).collect();
    assert_eq!(partials, [[3].as_slice(), &[4, 0], &[1, 2]]);
    assert!(!plan.outputs.iter().any(OutputPlan::reads_every_event));
    assert_eq!(plan.layout.form(), 2);
}

#[test]
fn fading_sums_are_read_no_further_than_they_reach() {
    let fading = |name, window| {
        definition(name, AggregateOp::ExpDecaySum { half_life: "1s".to_string() }, Some("price"), window)
    };
    let plan = compile(&[fading("short", "5s"), fading("long", "1d"), fading("all", "forever")]);
    let read = plan.read_plan(&[0, 1, 2]);
    let windows: Vec<Window> = read.windows.iter().map(|read| read.window).collect();
    let [short, faded] = [5, 2_300].map(|seconds| Window::Length(seconds * 1_000_000));
    assert_eq!(windows, [short, Window::parse("1d").unwrap(), faded, Window::Forever]);
    let places: Vec<Vec<usize>> =
        read.outputs.iter().map(|output| output.partials.iter().map(|partial| partial.window).collect()).collect();
    assert_eq!(places, [[0, 0], [1, 2], [3, 2]]);
}

#[test]
fn unknown_and_missing_columns() {
    let error = refuse(AggregateOp::Sum, Some("amuont"));
    assert_eq!(error.kind(), ErrorKind::InvalidDefinition);
    assert_eq!(error.message(), "aggregate 'a': unknown column 'amuont'");
    assert_eq!(error.hint_text(), Some("did you mean 'amount'?"));
    assert_eq!(error.field_name(), Some("of"));
    let error = refuse(AggregateOp::Last { dropnull: true }, None);
    assert_eq!(error.message(), "aggregate 'a': Last needs of=, the column it aggregates");
}

#[test]
fn columns_of_the_wrong_type() {
    for op in [
        AggregateOp::Sum,
        AggregateOp::Avg,
        AggregateOp::Variance { sample: false },
        AggregateOp::Stddev { sample: true },
        AggregateOp::ApproxPercentile { pct: None },
        AggregateOp::ExpDecaySum { half_life: "1h".to_string() },
    ] {
        let error = refuse(op, Some("shop"));
        assert!(error.message().ends_with("takes a column of int, float or Decimal, but 'shop' is str"), "{error}");
    }
    let error = refuse(AggregateOp::Min, Some("express"));
    assert_eq!(
        error.message(),
        "aggregate 'a': Min takes a column of int, float, Decimal, datetime or str, but 'express' is bool"
    );
}

#[test]
fn parameters_out_of_range() {
    for k in [0, 10_001] {
        for op in [
            AggregateOp::LastK { k, dedup: false, dropnull: false },
            AggregateOp::FirstK { k, dedup: true, dropnull: false },
            AggregateOp::TopK { k },
        ] {
            let error = refuse(op, Some("shop"));
            assert!(error.message().ends_with(&format!("takes k from 1 to 10000, got {k}")), "{error}");
        }
    }
    let error = refuse(AggregateOp::ApproxPercentile { pct: Some(101.0) }, Some("price"));
    assert_eq!(error.message(), "aggregate 'a': pct is 101, but a percentile lies between 0 and 100");
    for half_life in ["", "1month", "0s", "forever"] {
        let error = refuse(AggregateOp::ExpDecaySum { half_life: half_life.to_string() }, Some("price"));
        assert_eq!(error.message(), format!("aggregate 'a': not a half-life: '{half_life}'"));
    }
}

#[test]
fn defaults_are_of_the_result_type() {
    let with = |op, of, default| {
        let definition = AggregateDef { default: Some(default), ..definition("a", op, of, "1h") };
        TablePlan::compile(&[definition], &columns()).map(|plan| plan.outputs[0].default.clone())
    };
    assert_eq!(with(AggregateOp::Count, None, Literal::Int(7)).unwrap(), Some(Value::Int(7)));
    assert_eq!(with(AggregateOp::Avg, Some("units"), Literal::Int(7)).unwrap(), Some(Value::Float(7.0)));
    assert_eq!(with(AggregateOp::Count, None, Literal::Null(())).unwrap(), None);
    let last_k = AggregateOp::LastK { k: 2, dedup: false, dropnull: false };
    let list = Literal::List(vec![Literal::Str("x".to_string())]);
    assert!(with(last_k.clone(), Some("shop"), list.clone()).unwrap().is_some());
    assert!(with(last_k, Some("units"), list).is_err());
    let error = with(AggregateOp::Count, None, Literal::Str("x".to_string())).unwrap_err();
    assert_eq!(error.message(), "aggregate 'a': default is str, but the aggregate's values are int");
    assert!(with(AggregateOp::Avg, Some("units"), Literal::Float(f64::NAN)).is_err());
}

#[test]
fn all_errors_are_told_at_once() {
    let definitions = [
        definition("a", AggregateOp::Sum, Some("nothing"), "1h"),
        definition("b", AggregateOp::Count, None, "1h"),
        definition("b", AggregateOp::Count, None, "1d"),
    ];
    let errors = TablePlan::compile_all(&definitions, &columns()).unwrap_err();
    let messages: Vec<&str> = errors.iter().map(Error::message).collect();
    let repeated = "aggregate 'b': this name is taken by another aggregate of the pipeline";
    assert_eq!(messages, ["aggregate 'a': unknown column 'nothing'", repeated]);
}

#[test]
fn predicate_bits_run_out() {
    let filtered = |index: usize| AggregateDef {
        predicate: Some(Expr::Lit(Literal::Int(index as i64))),
        ..definition(&format!("a{index}"), AggregateOp::Count, None, "1h")
    };
    let definitions: Vec<AggregateDef> = (0..MAX_PREDICATES + 1).map(filtered).collect();
    assert_eq!(compile(&definitions[..MAX_PREDICATES]).layout.predicates, 64);
    let error = TablePlan::compile(&definitions, &columns()).unwrap_err();
    assert_eq!(error.message(), "aggregate 'a64': more than 64 distinct where= predicates in one pipeline");
}

#[test]
fn data_that_do_not_fit_the_plan_are_an_error_value() {
    let plan = compile(&[definition("a", AggregateOp::Count, None, "1h")]);
    let read = plan.read_plan(&[0]);
    for data in [&[][..], &[WindowData::default()]] {
        let mut errors = 0;
        read.finish(&plan, 0, data, |_, outcome| errors += u32::from(matches!(outcome, Outcome::Error(_))));
        assert_eq!(errors, 1);
    }
}
