//! Three-valued logic against a naive oracle: false, null and true are 0, 1 and 2; `and` is the minimum, `or` the maximum.

use crate::expr::{ColumnType, Expr, Literal, Op, Scope, Warnings, bind};
use crate::schema::DataType;
use crate::value::Value;
use proptest::prelude::*;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn formula() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        (0usize..3).prop_map(|index| Expr::Col(NAMES[index].to_string())),
        any::<bool>().prop_map(|flag| Expr::Lit(Literal::Bool(flag))),
    ];
    leaf.prop_recursive(4, 32, 3, |inner| {
        let call = |op: Op| move |args: Vec<Expr>| Expr::Call { op, args };
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(call(Op::And)),
            prop::collection::vec(inner.clone(), 1..4).prop_map(call(Op::Or)),
            prop::collection::vec(inner.clone(), 1).prop_map(call(Op::Not)),
            prop::collection::vec(inner.clone(), 1).prop_map(call(Op::IsNull)),
            prop::collection::vec(inner.clone(), 2..4).prop_map(call(Op::FillNull)),
            prop::collection::vec(inner.clone(), 2).prop_map(call(Op::Eq)),
            prop::collection::vec(inner.clone(), 1..4).prop_map(call(Op::IsIn)),
            (inner.clone(), inner.clone(), inner).prop_map(|(condition, value, otherwise)| Expr::When {
                branches: vec![(condition, value)],
                otherwise: Box::new(otherwise),
            }),
        ]
    })
}

fn naive(expr: &Expr, row: &[u8; 3]) -> u8 {
    let all = |args: &[Expr]| args.iter().map(|arg| naive(arg, row)).collect::<Vec<u8>>();
    let truth = |flag: bool| if flag { 2 } else { 0 };
    let equal = |a: u8, b: u8| if a == 1 || b == 1 { 1 } else { truth(a == b) };
    match expr {
        Expr::Col(name) => row[NAMES.iter().position(|known| known == name).unwrap()],
        Expr::Lit(Literal::Bool(flag)) => truth(*flag),
        Expr::Lit(_) => 1,
        Expr::When { branches, otherwise } => {
            if naive(&branches[0].0, row) == 2 {
                naive(&branches[0].1, row)
            } else {
                naive(otherwise, row)
            }
        }
        Expr::Call { op, args } => {
            let values = all(args);
            match op {
                Op::And => values.into_iter().min().unwrap(),
                Op::Or => values.into_iter().max().unwrap(),
                Op::Not => 2 - values[0],
                Op::IsNull => truth(values[0] == 1),
                Op::FillNull => values.into_iter().find(|value| *value != 1).unwrap_or(1),
                Op::Eq => equal(values[0], values[1]),
                Op::IsIn => values[1..].iter().map(|item| equal(values[0], *item)).max().unwrap_or(0),
                _ => unreachable!(),
            }
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_the_oracle(expr in formula(), row in prop::array::uniform3(0u8..3)) {
        let mut scope = Scope::default();
        for (index, name) in NAMES.iter().enumerate() {
            scope.add_row_column(name, index, ColumnType { data_type: DataType::Bool, nullable: true });
        }
        let (bound, column_type) = bind(&expr, &scope).unwrap();
        prop_assert_eq!(column_type.data_type, DataType::Bool);
        let values: Vec<Value> = row
            .iter()
            .map(|code| match code {
                0 => Value::Bool(false),
                1 => Value::Null,
                _ => Value::Bool(true),
            })
            .collect();
        let found = match *bound.eval(&values, &[], &mut Warnings::default()) {
            Value::Bool(false) => 0,
            Value::Bool(true) => 2,
            _ => 1,
        };
        prop_assert_eq!(found, naive(&expr, &row));
        prop_assert!(column_type.nullable || found != 1);
        prop_assert_eq!(bound.is_true(&values, &[], &mut Warnings::default()), found == 2);
    }
}
