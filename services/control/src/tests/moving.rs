//! Nodes that hold the slices that they own, and no others: what one of them has not built yet, the other waits for; and slices that move.

use super::chains::{all, chain, other_rows, user, users};
use super::shared::{Looking, THREE, logs_of, order_of_each, topics};
use super::*;

impl Disk {
    /// A node without slices.
    fn bare(&self) -> Node {
        self.open(States::of_none(THREE), Role::Follower)
    }
}

impl Node {
    /// A slice with this state comes to this node, which owns it with those that it has.
    async fn gain(&mut self, disk: &Disk, slice: u16, state: &Arc<StateStore>) {
        let running = disk.engine_of(slice, state, Role::Follower).spawn().unwrap();
        let goal = self.controller.add_slice(&running.handle).await.unwrap();
        let mut owned = self.controller.owned().borrow().clone();
        owned.insert(slice);
        until(async || self.controller.own(&owned).await.is_ok()).await;
        until(async || goal.is_reached(&running.handle)).await;
        self.controller.parts.states.add(slice, state);
        self.running.push(running);
    }

    /// A slice is not this node's any more, and goes from here.
    async fn lose(&mut self, slice: u16) {
        let mut owned = self.controller.owned().borrow().clone();
        owned.remove(&slice);
        self.controller.own(&owned).await.unwrap();
        self.controller.remove_slice(slice).await.unwrap();
        let at = self.running.iter().position(|running| running.handle.held().contains(&slice)).unwrap();
        self.running.remove(at).stop();
    }

    fn live(&self) -> Option<String> {
        self.controller.serving().live.as_ref().map(|version| version.commit_id.to_string())
    }
}

/// The first has two slices and leads, the second has the third; both have begun with the chain.
async fn sharing(disk: &Disk) -> (Node, Node) {
    let (mut first, mut second) = (disk.bare(), disk.bare());
    for slice in [0, 1] {
        first.gain(disk, slice, &disk.states.all()[&slice]).await;
    }
    second.gain(disk, 2, &disk.states.all()[&2]).await;
    (first, second)
}

/// Who of these holds the slice of a user, in the order of the slices.
fn holder<'a>(nodes: &[&'a Node], slice: usize) -> &'a Node {
    let slice = slice as u16;
    nodes.iter().find(|node| node.controller.parts.states.held().contains(&slice)).unwrap()
}

/// What the holders of their slices come to answer of the users: their orders in the last ten minutes. A version is live a moment before it
/// answers.
async fn check_users(nodes: &[&Node], wanted: i64) {
    for (slice, name) in users().iter().enumerate() {
        let (node, (key, name)) = (holder(nodes, slice), user(name));
        let question = Question::online("Users", [(key.to_string(), Given::from(name))].into());
        let answered = async || {
            let answer = node.query.answer(question.clone()).await;
            answer.is_ok_and(|answer| answer.columns[0].values[0].value == Value::Int(wanted))
        };
        until(answered).await;
    }
}

/// The answer of whoever has it.
async fn anywhere(nodes: &[&Node], featureset: &str, key: (&str, Value)) -> Value {
    let mut answers = Vec::new();
    for node in nodes {
        let mut question = Question::online(featureset, [(key.0.to_string(), Given::from(key.1.clone()))].into());
        question.features = None;
        match node.query.answer(question).await {
            Ok(answer) => answers.push(answer.columns[0].values[0].value.clone()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
    }
    assert_eq!(answers.len(), 1, "a key is in one slice, and a slice on one node");
    answers.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_takes_over_once_every_owner_has_built_it() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    let id = first.commit(&chain(), |_| ()).await.unwrap().commit.unwrap().id;
    let looking = Looking::at(&[&first, &second]);
    first.wait_live(&id).await;
    until(async || second.live().as_deref() == Some(id.as_str())).await;
    order_of_each(&disk, 9).await;
    order_of_each(&disk, 2).await;
    check_users(&[&first, &second], 2).await;
    looking.end().await;

    let next = first.commit(&other_rows(2, "5m"), |_| ()).await.unwrap().commit.unwrap().id;
    // All that is read in the first's slices comes from routers of all; the second has none of this commit yet.
    for _ in 0..40 {
        first.controller.keep_up().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(first.controller.commit_view(&next).await.unwrap().state, "building");
    assert!(!first.has_built(&next).await, "its logs are filled by the second, too");
    assert_eq!(anywhere(&[&first, &second], "All", all()).await, Value::Int(6), "the commit before answers");
    let _looking = Looking::at(&[&first, &second]);
    first.wait_live(&next).await;
    until(async || second.live().as_deref() == Some(next.as_str())).await;
    check_users(&[&first, &second], 1).await;
    assert_eq!(
        anywhere(&[&first, &second], "Counts", ("n", Value::Int(1))).await,
        Value::Int(6),
        "the first and the last"
    );
    until(async || topics(&disk) == logs_of(2)).await;
    first.stop();
    second.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_moves_with_its_state_or_without() {
    let disk = Disk::sliced(THREE).await;
    let (mut first, mut second) = sharing(&disk).await;
    let id = first.commit(&chain(), |_| ()).await.unwrap().commit.unwrap().id;
    let looking = Looking::at(&[&first, &second]);
    first.wait_live(&id).await;
    until(async || second.live().as_deref() == Some(id.as_str())).await;
    order_of_each(&disk, 9).await;
    check_users(&[&first, &second], 1).await;

    // The state comes along; what was written meanwhile is in the log.
    first.lose(1).await;
    order_of_each(&disk, 8).await;
    second.gain(&disk, 1, &disk.states.all()[&1]).await;
    check_users(&[&first, &second], 2).await;
    assert_eq!(anywhere(&[&first, &second], "All", all()).await, Value::Int(6));

    // Without: it is built from the log, and nobody is answered before it is.
    second.lose(2).await;
    order_of_each(&disk, 7).await;
    let gone =
        Question::online("Users", [("user_id".to_string(), Given::from(Value::str(users()[2].as_str())))].into());
    for node in [&first, &second] {
        let error = node.query.answer(gone.clone()).await.unwrap_err();
        assert!(error.to_string().contains("no node answers for slice 2 of 3"), "{error}");
    }
    first.gain(&disk, 2, &StateStore::in_memory().unwrap()).await;
    assert_eq!(first.now("Users", user(&users()[2])).await, Value::Int(3), "what was in the log when it came");
    check_users(&[&first, &second], 3).await;

    // Whoever leads goes: another leads, and what it commits is built by both.
    first.lose(0).await;
    second.gain(&disk, 0, &disk.states.all()[&0]).await;
    assert!(second.controller.leads() && !first.controller.leads());
    let next = second.commit(&other_rows(2, "5m"), |_| ()).await.unwrap().commit.unwrap().id;
    second.wait_live(&next).await;
    until(async || first.live().as_deref() == Some(next.as_str())).await;
    order_of_each(&disk, 1).await;
    let nodes = [&first, &second];
    // In the five minutes before: the first and the last of each.
    until(async || anywhere(&nodes, "Counts", ("n", Value::Int(1))).await == Value::Int(6)).await;
    looking.end().await;
    first.stop();
    second.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn erases_are_noted_by_who_has_read_them() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    let id = first.commit(&chain(), |_| ()).await.unwrap().commit.unwrap().id;
    let _looking = Looking::at(&[&first, &second]);
    first.wait_live(&id).await;
    order_of_each(&disk, 9).await;
    until(async || second.live().as_deref() == Some(id.as_str())).await;
    check_users(&[&first, &second], 1).await;
    let gone = &users()[2];
    disk.write(gone, Record::Erase { append_time: T0 }.encode()).await;
    let nodes = [&first, &second];
    until(async || first.live().is_some_and(|live| live != id) && first.live() == second.live()).await;
    until(async || anywhere(&nodes, "Counts", ("n", Value::Int(1))).await == Value::Int(2)).await;
    assert_eq!(second.now("Users", user(gone)).await, Value::Null);
    first.stop();
    second.stop();
}

/// The state has read the whole log, but not for what is new since.
#[tokio::test(flavor = "multi_thread")]
async fn a_slice_of_before_a_commit_is_whole_when_it_has_what_that_brought() {
    let disk = Disk::sliced(THREE).await;
    let (mut first, mut second) = sharing(&disk).await;
    let id = first.commit(&chain(), |_| ()).await.unwrap().commit.unwrap().id;
    let looking = Looking::at(&[&first, &second]);
    first.wait_live(&id).await;
    until(async || second.live().as_deref() == Some(id.as_str())).await;
    order_of_each(&disk, 9).await;
    check_users(&[&first, &second], 1).await;
    second.lose(2).await;
    first.gain(&disk, 2, &StateStore::in_memory().unwrap()).await;
    let next = first.commit(&other_rows(2, "20m"), |_| ()).await.unwrap().commit.unwrap().id;
    first.wait_live(&next).await;
    until(async || second.live().as_deref() == Some(next.as_str())).await;
    first.lose(2).await;

    disk.shut(true);
    let old = &disk.states.all()[&2];
    let running = disk.engine_of(2, old, Role::Follower).spawn().unwrap();
    let goal = second.controller.add_slice(&running.handle).await.unwrap();
    assert!(!goal.is_reached(&running.handle), "its tables are those of the commit before");
    disk.shut(false);
    until(async || second.own(&[2]).await.is_ok()).await;
    until(async || goal.is_reached(&running.handle)).await;
    second.controller.parts.states.add(2, old);
    second.running.push(running);
    assert_eq!(second.now("Users", user(&users()[2])).await, Value::Int(1));
    looking.end().await;
    first.stop();
    second.stop();
}

/// A node that has not built what is live yet gets one more slice, and rows that came meanwhile are missing there.
#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_comes_while_the_live_commit_is_built_is_whole_when_it_is_answered_for() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    let id = first.commit(&chain(), |_| ()).await.unwrap().commit.unwrap().id;
    let looking = Looking::at(&[&first, &second]);
    first.wait_live(&id).await;
    order_of_each(&disk, 9).await;
    check_users(&[&first, &second], 1).await;

    disk.shut(true);
    let new = disk.bare();
    let mut states = Vec::new();
    let mut add = async |slice: u16| {
        let state = StateStore::in_memory().unwrap();
        let running = disk.engine_of(slice, &state, Role::Follower).spawn().unwrap();
        let goal = new.controller.add_slice(&running.handle).await.unwrap();
        states.push(state);
        (running, goal)
    };
    let (of_2, _) = add(2).await;
    new.controller.follow().await.unwrap();
    assert!(new.live().is_none() && new.controller.being_built().is_some());
    order_of_each(&disk, 8).await;
    let (of_1, goal) = add(1).await;
    assert!(!goal.is_reached(&of_1.handle));
    disk.shut(false);
    until(async || goal.is_reached(&of_1.handle)).await;
    looking.end().await;
    of_1.stop();
    of_2.stop();
    first.stop();
    second.stop();
}

/// Of some slices there are no tables at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_takes_over_where_there_are_fewer_partitions_than_slices() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    let mut definitions = chain();
    definitions["datasets"][0]["partitions"] = json!(1);
    let id = first.commit(&definitions, |_| ()).await.unwrap().commit.unwrap().id;
    let looking = Looking::at(&[&first, &second]);
    first.wait_live(&id).await;
    until(async || second.live().as_deref() == Some(id.as_str())).await;
    looking.end().await;
    second.stop();
    // Anew, and without any slice.
    let bare = disk.bare();
    let _looking = Looking::at(&[&first, &bare]);
    until(async || bare.live().as_deref() == Some(id.as_str())).await;
    first.stop();
    bare.stop();
}
