//! What goes as a whole to a node that holds everything, and what is refused with the address of one.

use crate::nodes::Node;
use crate::world::{HOUR, World, definitions, functions, question};
use std::sync::Arc;
use thyme_core::ErrorKind;
use thyme_core::time::ClockMode;
use thyme_query::{At, ExportQuestion};

fn world() -> World {
    let world = World::sliced(definitions(None), functions(), ClockMode::Wall, 2);
    world.orders(&[("a", HOUR, 1, Some(2.5), 1), ("b", HOUR, 2, Some(2.5), 1), ("c", HOUR, 1, None, 1)]);
    world
}

fn called(node: &Node) -> Vec<String> {
    std::mem::take(&mut *node.functions.calls.lock()).into_iter().map(|(extractor, _)| extractor).collect()
}

#[test]
fn extractors_that_look_up_run_where_everything_is() {
    let world = world();
    let (first, second) = (Node::start(&world, &[0]), Node::start(&world, &[1]));
    let all = Node::start(&world, &[0, 1]);
    let looks_up = question("a", &["seen", "orders"], At::Time(HOUR));
    first.knows(&[&second]);
    let error = first.ask(looks_up.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.hint_text().unwrap().contains("--role query"), "{error}");
    first.knows(&[&second, &all]);
    let answer = first.ask(looks_up.clone()).unwrap();
    assert_eq!(answer.columns, world.ask(looks_up).unwrap().columns);
    assert_eq!((called(&first), called(&second), called(&all)), (vec![], vec![], vec!["look".to_string()]));
    // Others run where the question was asked, wherever their inputs come from.
    first.ask(question("a", &["double"], At::Time(HOUR))).unwrap();
    second.ask(question("a", &["double"], At::Time(HOUR))).unwrap();
    assert_eq!((called(&first), called(&second), called(&all).len()), (vec!["twice".into()], vec!["twice".into()], 0));
}

#[test]
fn explanations_and_exports_name_a_node_that_makes_them() {
    let world = world();
    let (first, second) = (Node::start(&world, &[0]), Node::start(&world, &[1]));
    let all = Node::start(&world, &[0, 1]);
    let header =
        || ExportQuestion { featureset: "F".into(), timestamp_column: "ts".into(), ..ExportQuestion::default() };
    let spine = arrow_schema::Schema::new(vec![
        arrow_schema::Field::new("uid", arrow_schema::DataType::Utf8, true),
        arrow_schema::Field::new("shop", arrow_schema::DataType::Int64, true),
        arrow_schema::Field::new("limit", arrow_schema::DataType::Int64, true),
        arrow_schema::Field::new("ts", arrow_schema::DataType::Int64, true),
    ]);
    for (others, told) in [(vec![&second], "--role query"), (vec![&second, &all], all.url.as_ref())] {
        first.knows(&others);
        second.knows(&[&first, &all]);
        let error = first.wait(first.query.export(header(), Arc::new(spine.clone()))).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.hint_text().unwrap().contains(told), "{error}");
        // One of the two does not hold the key.
        let explain = |node: &Node| node.wait(node.query.explain(question("a", &["orders"], At::Time(HOUR)))).err();
        let errors: Vec<_> = [explain(&first), explain(&second)].into_iter().flatten().collect();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].kind(), ErrorKind::FailedPrecondition);
    }
    assert!(all.wait(all.query.export(header(), Arc::new(spine))).is_ok());
    // Before a spine is sent, which could not be joined where it is.
    let told = |node: &Node| node.query.check_has_all("an export").map_err(|error| error.to_string());
    assert_eq!(told(&all), Ok(()));
    assert!(told(&first).unwrap_err().contains(&*all.url), "{:?}", told(&first));
}
