//! What a node reads for another one, and what it does without one. Nodes that ask each other: `services/feature/tests/forwarding/`.

use crate::world::{HOUR, World, question, wait};
use std::collections::BTreeSet;
use std::sync::Arc;
use thyme_core::ErrorKind;
use thyme_core::value::Value;
use thyme_query::{
    AlwaysApplied, Asking, At, NoExtractors, NoRuns, Part, PartAnswer, PartAsking, PartStanding, QueryEngine,
    QueryOptions, QueryParts, RangeOf, RangeQuestion,
};
use thyme_state::States;

const USERS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn world() -> World {
    let world = World::new(None);
    world.orders(&USERS.map(|user| (user, HOUR, 1, Some(0.5), 2)));
    world
}

/// A node of this world that holds these slices and knows of no other.
fn node(world: &World, held: &[u16]) -> QueryEngine {
    let states = States::of_none(world.states.slices());
    held.iter().for_each(|slice| states.add(*slice, &world.states.all()[slice]));
    let query = QueryEngine::new(QueryParts {
        states,
        extractors: Arc::new(NoExtractors),
        clock: world.clock.clone(),
        runs: Arc::new(NoRuns),
        applied: Arc::new(AlwaysApplied),
        options: QueryOptions::default(),
    });
    query.deploy(world.deployment.clone());
    query
}

fn part(slices: &[u16]) -> Part {
    let slices = slices.iter().copied().collect();
    Part {
        place: PartAsking { commit_id: "c1".into(), slices, asking: Asking::default() },
        featureset: "F".to_string(),
        features: Some(vec!["orders".to_string()]),
        given: vec![USERS.map(Value::str).to_vec()],
        times: vec![Some(HOUR); USERS.len()],
        is_spine: false,
        is_whole: false,
    }
}

#[test]
fn every_row_is_read_in_one_slice() {
    let world = world();
    let node = node(&world, &[0, 1, 2]);
    let read = |slices: &[u16]| -> PartAnswer { wait(node.read_part(part(slices))).unwrap() };
    let all = read(&[0, 1, 2]);
    assert_eq!(all.known_rows, [0, 1, 2, 3, 4]);
    let mut rows = BTreeSet::new();
    let mut together = PartStanding::default();
    for slice in 0..3 {
        let one = read(&[slice]);
        assert!(one.known_rows.iter().all(|row| rows.insert(*row)), "no row is in two");
        together.take_in(&one.standing);
        for column in &one.columns {
            assert!(one.known_rows.iter().all(|row| column.values[*row as usize].value == Value::Int(1)));
        }
    }
    assert_eq!((rows.len(), together), (USERS.len(), all.standing));
}

#[test]
fn a_part_is_read_here_or_not_at_all() {
    let world = world();
    let node = node(&world, &[0, 2]);
    assert!(wait(node.read_part(part(&[0, 2]))).is_ok());
    let other_commit = PartAsking { commit_id: "c0".into(), ..part(&[0]).place };
    for refused in [part(&[0, 1]), part(&[3]), Part { place: other_commit, ..part(&[0]) }] {
        assert_eq!(wait(node.read_part(refused)).unwrap_err().kind(), ErrorKind::Unavailable);
    }
    for malformed in [Part { given: vec![], ..part(&[0]) }, Part { times: vec![None], ..part(&[0]) }] {
        assert_eq!(wait(node.read_part(malformed)).unwrap_err().kind(), ErrorKind::Internal);
    }
}

#[test]
fn without_other_nodes_what_is_here_is_answered() {
    let world = world();
    let node = node(&world, &[0, 2]);
    let ask = |user: &str, at: At| wait(node.answer(question(user, &["orders"], at)));
    let mut answered = 0;
    for user in USERS {
        match ask(user, At::Time(HOUR)) {
            Ok(answer) => {
                assert_eq!(answer.columns, world.ask(question(user, &["orders"], At::Time(HOUR))).unwrap().columns);
                answered += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(error.message().contains("no node answers for slice 1 of 3 now"), "{error}");
            }
        }
        // What now is on the event clock all slices know together.
        assert_eq!(ask(user, At::Now).unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!((1..USERS.len()).contains(&answered), "{answered}");
}

#[test]
fn ranges_are_of_all_slices_or_not_at_all() {
    let world = world();
    let of = RangeOf::Rows { dataset: "Order".to_string() };
    let question = RangeQuestion { of, since: None, until: None, pin: None, asking: Asking::default() };
    let settled = wait(node(&world, &[0, 1, 2]).range_info(question.clone())).unwrap().question;
    let node = Arc::new(node(&world, &[0, 2]));
    let of_all = 0..=u8::MAX;
    for error in [wait(node.range_info(question)).err(), wait(node.range(&settled, of_all)).err()] {
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.message().contains("slice 1 of 3 is not here"), "{error}");
    }
}
