//! Holders that go away, maps that are not true any more, deadlines.

use crate::nodes::Node;
use crate::world::{HOUR, NATIVE, World, definitions, functions, question};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::ErrorKind;
use thyme_core::position::PositionSet;
use thyme_core::time::ClockMode;
use thyme_core::value::Value;
use thyme_query::{
    Answer, Asking, At, Deployment, Given, GivenMap, HolderMap, LookupQuestion, OtherNode, QueryEngine, Question,
};

const USERS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn world() -> World {
    let world = World::sliced(definitions(None), functions(), ClockMode::Wall, 2);
    let orders: Vec<_> = USERS.iter().map(|user| (*user, HOUR, 1, Some(2.5), 1)).collect();
    world.orders(&orders);
    world
}

/// All users, so that both slices are asked.
fn all() -> Question {
    let keys = USERS.iter().flat_map(|user| question(user, NATIVE, At::Now).keys).collect();
    Question { keys, ..question("a", NATIVE, At::Time(HOUR)) }
}

fn ask(node: &Node) -> thyme_core::Result<Answer> {
    node.ask(all())
}

#[test]
fn when_a_holder_goes_away_another_is_asked() {
    let world = world();
    let first = Node::start(&world, &[0]);
    let mut second = Node::start(&world, &[1]);
    let third = Node::start(&world, &[1]);
    let whole = world.ask(all()).unwrap();
    first.knows(&[&second, &third]);
    // They are asked in turn.
    for _ in 0..2 {
        assert_eq!(ask(&first).unwrap().columns, whole.columns);
    }
    assert!(first.believed.doubted.lock().is_empty());
    second.stop();
    for _ in 0..2 {
        assert_eq!(ask(&first).unwrap().columns, whole.columns);
    }
    assert_eq!(*first.believed.doubted.lock(), [second.url.to_string()]);

    drop(third);
    let error = ask(&first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.contains("no node answers for slice 1 of 2 now") && text.contains("ask again"), "{text}");
    // A node that is back is asked again, over a connection that is made again.
    let back = Node::start(&world, &[1]);
    first.knows(&[&back]);
    assert_eq!(ask(&first).unwrap().columns, whole.columns);
    // What is here needs nobody.
    first.knows(&[]);
    let here = |user: &&&str| first.ask(question(user, &["orders"], At::Time(HOUR))).is_ok();
    assert!((1..USERS.len()).contains(&USERS.iter().filter(here).count()));
}

/// A node whose slices have changed joins anew, and is not seen meanwhile.
#[test]
fn who_answers_is_waited_for_a_moment() {
    let world = world();
    let (first, second) = (Node::start(&world, &[0]), Node::start(&world, &[1]));
    let whole = world.ask(all()).unwrap();
    first.knows(&[]);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&first).unwrap());
        std::thread::sleep(Duration::from_millis(100));
        first.knows(&[&second]);
        assert_eq!(asked.join().unwrap().columns, whole.columns);
    });
}

/// A node that was started again has its slices a moment later than its map of the others.
#[test]
fn what_comes_here_while_it_is_waited_for_is_read_here() {
    let world = world();
    let first = Node::start(&world, &[0]);
    first.knows(&[]);
    let whole = world.ask(all()).unwrap();
    let lookup = |user| LookupQuestion {
        dataset: "Order".to_string(),
        key: GivenMap::from([("user".to_string(), Given::Value(Value::str(user)))]),
        at: Some(HOUR),
        asking: Asking::default(),
    };
    let rows = |query: &QueryEngine| USERS.map(|user| first.wait(query.lookup(lookup(user))).unwrap().row);
    let all_rows = rows(&world.query);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&first));
        let looked_up = scope.spawn(|| rows(&first.query));
        std::thread::sleep(Duration::from_millis(100));
        first.states.add(1, &world.states.all()[&1]);
        assert_eq!(asked.join().unwrap().unwrap().columns, whole.columns);
        assert_eq!(looked_up.join().unwrap(), all_rows);
    });
}

#[test]
fn a_node_that_has_lost_the_slice_or_serves_another_commit_says_so() {
    let world = world();
    let first = Node::start(&world, &[0]);
    let second = Node::start(&world, &[1]);
    let third = Node::start(&world, &[1]);
    let whole = world.ask(all()).unwrap();
    first.knows(&[&second]);
    assert_eq!(ask(&first).unwrap().columns, whole.columns);
    // The second has let its slice go, and knows that the third has it. The first does not, and the second asks nobody for it.
    second.states.remove(1);
    let now = OtherNode { url: third.url.clone(), slices: BTreeSet::from([1]), owned: BTreeSet::new() };
    *second.believed.map.lock() = Arc::new(HolderMap::new(vec![now]));
    let error = ask(&first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("slice 1 of 2 is not there any more"), "{error}");
    first.knows(&[&second, &third]);
    for _ in 0..2 {
        assert_eq!(ask(&first).unwrap().columns, whole.columns);
    }
    third.query.deploy(Deployment { commit_id: "c2".into(), ..world.deployment.clone() });
    let error = ask(&first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.hint_text().unwrap().contains("ask again"));
    first.knows(&[&third]);
    assert!(ask(&first).unwrap_err().message().contains("commit c2 serves there, and c1 here"));
    assert!(second.runs.0.lock().is_empty() && third.runs.0.lock().is_empty());
}

#[test]
fn each_node_waits_for_what_it_reads_in_what_is_left_of_the_deadline() {
    let world = world();
    let (first, second) = (Node::start(&world, &[0]), Node::start(&world, &[1]));
    first.knows(&[&second]);
    let mut question = all();
    question.asking.at_least = Some(PositionSet::default());
    question.asking.deadline = Some(Duration::from_secs(60));
    first.ask(question.clone()).unwrap();
    let waited = |node: &Node| std::mem::take(&mut *node.waits.waited.lock());
    assert_eq!(waited(&first), [(BTreeSet::from([0]), Duration::from_secs(60))]);
    let [(slices, left)] = waited(&second).try_into().unwrap();
    assert_eq!(slices, BTreeSet::from([1]));
    assert!(left < Duration::from_secs(60));

    *second.waits.stuck.lock() = true;
    question.asking.deadline = Some(Duration::from_millis(50));
    let error = first.ask(question).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let run = first.runs.0.lock().pop().unwrap();
    assert!(run.error.is_some(), "it is recorded as failed");
    assert!(first.believed.doubted.lock().is_empty(), "the node is not to blame");
}
