//! Two nodes that share the work on one log by slices: each sends what its own slices make, one leads.

use super::chains::{all, chain, other_rows, user, users};
use super::*;
use tokio::task::JoinHandle;

pub(super) const THREE: u16 = 3;

/// Both nodes as they look at the catalog and work on, as servers do, until this is dropped. A look is never cut short: the catalog is in
/// the memory of a connection.
pub(super) struct Looking {
    is_over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Looking {
    pub(super) fn at(nodes: &[&Node]) -> Looking {
        let is_over = Arc::new(AtomicBool::new(false));
        let look = |node: &&Node| {
            let (controller, is_over) = (node.controller.clone(), is_over.clone());
            tokio::spawn(async move {
                while !is_over.load(Ordering::SeqCst) {
                    // What fails is tried again.
                    let _ = match controller.leads() {
                        true => controller.keep_up().await.and(controller.work_off_erases().await),
                        false => controller.follow().await,
                    };
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        };
        let tasks = nodes.iter().map(look).collect();
        Looking { is_over, tasks }
    }

    /// They look no more when this returns.
    pub(super) async fn end(mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for task in std::mem::take(&mut self.tasks) {
            task.await.unwrap();
        }
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

/// The first has two slices and leads, the second has one; both serve the chain.
async fn sharing(disk: &Disk) -> (Node, Node) {
    let first = disk.start().await;
    let live = first.commit(&chain(), |_| ()).await.unwrap().commit.unwrap().id;
    let second = disk.open(disk.no_states(), Role::Follower);
    nodes::until_it_serves(&second, &live).await;
    first.own(&[0, 1]).await.unwrap();
    second.own(&[2]).await.unwrap();
    (first, second)
}

pub(super) fn topics(disk: &Disk) -> Vec<String> {
    let topics = disk.log.topics().unwrap().into_iter().map(|(topic, _)| topic);
    topics.filter(|topic| topic.starts_with("UserStats.")).collect()
}

/// The logs of the rows of users.
pub(super) fn logs_of(version: u32) -> [String; 2] {
    ["n", "user_id"].map(|key| format!("UserStats.v1.compute.v{version}.by.{key}"))
}

/// What both answer: an order of each user some minutes ago, all in one shop.
async fn check_counts(nodes: &[&Node], of_each: i64) {
    for node in nodes {
        node.all_applied().await;
        for name in users() {
            assert_eq!(node.now("Users", user(&name)).await, Value::Int(of_each), "{name}");
        }
        let of_all = of_each * i64::from(THREE);
        assert_eq!(node.now("All", all()).await, Value::Int(of_all));
        assert_eq!(node.now("Counts", ("n", Value::Int(of_each))).await, Value::Int(THREE.into()));
    }
}

pub(super) async fn order_of_each(disk: &Disk, ago: i64) {
    for name in users() {
        disk.order(&name, ago).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sends_what_its_slices_make_and_one_goes_on_for_another() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    let _looking = Looking::at(&[&first, &second]);
    order_of_each(&disk, 9).await;
    check_counts(&[&first, &second], 1).await;
    assert_eq!(first.controller.status().unwrap().roles, ["control", "ingest", "engine", "query"]);
    assert_eq!(second.controller.status().unwrap().roles, ["ingest", "engine", "query"]);

    // The second is gone: what its slice should send waits until the first has it.
    second.own(&[]).await.unwrap();
    order_of_each(&disk, 8).await;
    first.own(&[0, 1, 2]).await.unwrap();
    check_counts(&[&first, &second], 2).await;

    // The second leads, and has been late: it was a follower before.
    first.own(&[1]).await.unwrap();
    second.own(&[0, 2]).await.unwrap();
    order_of_each(&disk, 7).await;
    check_counts(&[&first, &second], 3).await;
    let refused = first.commit(&chain(), |_| ()).await.unwrap_err();
    assert!(refused.contains("does not lead"), "{refused}");
    let id = second.commit(&other_rows(2, "5m"), |_| ()).await.unwrap().commit.unwrap().id;
    second.wait_live(&id).await;
    until(async || first.query.commit_id().as_deref() == Some(id.as_str())).await;
    until(async || topics(&disk) == logs_of(2)).await;
    order_of_each(&disk, 1).await;
    // In the five minutes before, only that.
    for node in [&first, &second] {
        node.all_applied().await;
        assert_eq!(node.now("Counts", ("n", Value::Int(1))).await, Value::Int(6), "the first and the last of each");
    }
    first.stop();
    second.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_deleted_once_no_owner_fills_them() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    order_of_each(&disk, 9).await;
    check_counts(&[&first, &second], 1).await;
    let id = first.commit(&other_rows(2, "5m"), |_| ()).await.unwrap().commit.unwrap().id;
    // The second builds it, says so, and then looks no more.
    until(async || second.controller.follow().await.is_ok() && second.has_built(&id).await).await;
    first.wait_live(&id).await;
    for _ in 0..20 {
        first.controller.keep_up().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(topics(&disk), [logs_of(1), logs_of(2)].concat(), "the second still fills them");
    order_of_each(&disk, 8).await;
    // Which answers by the commit before. (Rows of other slices do not come to it any more.)
    until(async || second.now("Users", user(&users()[2])).await == Value::Int(2)).await;

    // Another commit waits for that.
    let looking = Looking::at(&[&first, &second]);
    let next = first.commit(&other_rows(3, "6m"), |_| ()).await.unwrap().commit.unwrap().id;
    let left = topics(&disk);
    assert!(!left.contains(&logs_of(1)[0]), "{left:?}");
    first.wait_live(&next).await;
    until(async || second.query.commit_id().as_deref() == Some(next.as_str())).await;
    until(async || topics(&disk) == logs_of(3)).await;
    looking.end().await;
    first.stop();
    second.stop();
}

/// The log of a build that is given up has the name of the next one's.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_given_up_on_all_nodes_before_the_next_begins() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    order_of_each(&disk, 9).await;
    order_of_each(&disk, 2).await;
    check_counts(&[&first, &second], 2).await;
    let looking = Looking::at(&[&first, &second]);
    disk.shut(true);
    first.commit(&other_rows(2, "30m"), |_| ()).await.unwrap();
    until(async || second.controller.serving().building.is_some()).await;
    first.commit(&other_rows(2, "20m"), |request| request.supersede = true).await.unwrap();
    looking.end().await;
    // The second has not seen this one when it is given up as well.
    let looks_again = async {
        until(async || disk.catalog.building_commit().await.unwrap().is_none()).await;
        Looking::at(&[&first, &second])
    };
    let last = other_rows(2, "5m");
    let (done, looking) = tokio::join!(first.commit(&last, |request| request.supersede = true), looks_again);
    let id = done.unwrap().commit.unwrap().id;
    disk.shut(false);
    first.wait_live(&id).await;
    until(async || second.query.commit_id().as_deref() == Some(id.as_str())).await;
    for node in [&first, &second] {
        node.all_applied().await;
        assert_eq!(node.now("Counts", ("n", Value::Int(1))).await, Value::Int(6), "five minutes, not thirty");
        assert_eq!(node.now("Counts", ("n", Value::Int(2))).await, Value::Int(0));
    }
    looking.end().await;
    first.stop();
    second.stop();
}

/// A build that failed, on whichever node, may have filled logs under the names of the next one's.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_build_has_left_is_not_taken_up() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    order_of_each(&disk, 9).await;
    order_of_each(&disk, 2).await;
    check_counts(&[&first, &second], 2).await;
    let looking = Looking::at(&[&first, &second]);
    disk.shut(true);
    let failed = first.commit(&other_rows(2, "30m"), |_| ()).await.unwrap().commit.unwrap().id;
    // It is built, but nobody lets it take over.
    let changing = first.controller.changing.lock().await;
    disk.shut(false);
    until(async || {
        let building = first.controller.serving().building.clone();
        building.is_some_and(|version| version.is_built(&first.engine))
    })
    .await;
    disk.catalog.fail_commit(&failed, T0, "in a test").await.unwrap();
    drop(changing);
    for node in [&first, &second] {
        until(async || node.controller.serving().building.is_none()).await;
    }
    assert_eq!(topics(&disk), [logs_of(1), logs_of(2)].concat(), "nobody has come to delete them yet");
    let id = first.commit(&other_rows(2, "5m"), |_| ()).await.unwrap().commit.unwrap().id;
    first.wait_live(&id).await;
    until(async || second.query.commit_id().as_deref() == Some(id.as_str())).await;
    for node in [&first, &second] {
        node.all_applied().await;
        assert_eq!(node.now("Counts", ("n", Value::Int(1))).await, Value::Int(6), "five minutes, not thirty");
        assert_eq!(node.now("Counts", ("n", Value::Int(2))).await, Value::Int(0));
    }
    looking.end().await;
    first.stop();
    second.stop();
}

/// For a while both lead, and the one that should not any more begins a build.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_takes_up_what_another_has_begun() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    order_of_each(&disk, 9).await;
    check_counts(&[&first, &second], 1).await;
    disk.shut(true);
    second.own(&[0, 1, 2]).await.unwrap();
    assert!(first.controller.leads() && second.controller.leads());
    let id = first.commit(&other_rows(2, "5m"), |_| ()).await.unwrap().commit.unwrap().id;
    let looking = Looking::at(&[&second]);
    until(async || second.controller.serving().building.is_some()).await;
    first.own(&[]).await.unwrap();
    disk.shut(false);
    second.wait_live(&id).await;
    until(async || topics(&disk) == logs_of(2)).await;
    order_of_each(&disk, 1).await;
    looking.end().await;
    let _looking = Looking::at(&[&first, &second]);
    until(async || first.query.commit_id().as_deref() == Some(id.as_str())).await;
    for node in [&first, &second] {
        node.all_applied().await;
        assert_eq!(node.now("Counts", ("n", Value::Int(1))).await, Value::Int(6), "the first and the last of each");
    }
    first.stop();
    second.stop();
}

/// What is being built is let go for the fence, and taken up again.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_gains_a_slice_goes_on_with_the_build() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    order_of_each(&disk, 9).await;
    check_counts(&[&first, &second], 1).await;
    disk.shut(true);
    let id = first.commit(&other_rows(2, "5m"), |_| ()).await.unwrap().commit.unwrap().id;
    second.own(&[]).await.unwrap();
    first.own(&[0, 1, 2]).await.unwrap();
    let _looking = Looking::at(&[&first, &second]);
    disk.shut(false);
    first.wait_live(&id).await;
    until(async || topics(&disk) == logs_of(2)).await;
    order_of_each(&disk, 1).await;
    until(async || second.query.commit_id().as_deref() == Some(id.as_str())).await;
    for node in [&first, &second] {
        node.all_applied().await;
        assert_eq!(node.now("Counts", ("n", Value::Int(1))).await, Value::Int(6), "the first and the last of each");
    }
    first.stop();
    second.stop();
}

/// Another one that led for a moment longer has let a build take over: who leads and gains a slice just then has it from the catalog.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_gains_a_slice_serves_what_has_taken_over_meanwhile() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    order_of_each(&disk, 9).await;
    check_counts(&[&first, &second], 1).await;
    second.own(&[0, 1, 2]).await.unwrap();
    let id = second.commit(&other_rows(2, "5m"), |_| ()).await.unwrap().commit.unwrap().id;
    second.wait_live(&id).await;
    second.own(&[]).await.unwrap();
    first.own(&[0, 1, 2]).await.unwrap();
    let _looking = Looking::at(&[&first, &second]);
    for node in [&first, &second] {
        until(async || node.query.commit_id().as_deref() == Some(id.as_str())).await;
        until(async || node.controller.serving().building.is_none()).await;
    }
    until(async || topics(&disk) == logs_of(2)).await;
    first.stop();
    second.stop();
}

/// Both serve the second commit, but the owner of the last slice does not know it yet: something is left behind.
async fn one_is_behind(disk: &Disk) -> (Node, Node) {
    let (first, second) = sharing(disk).await;
    order_of_each(disk, 9).await;
    check_counts(&[&first, &second], 1).await;
    let id = first.commit(&other_rows(2, "5m"), |_| ()).await.unwrap().commit.unwrap().id;
    until(async || second.controller.follow().await.is_ok() && second.has_built(&id).await).await;
    first.wait_live(&id).await;
    assert_eq!(topics(disk), [logs_of(1), logs_of(2)].concat());
    (first, second)
}

/// The owner that it waits for is gone, and its slice is given to the one that waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_waits_for_others_keeps_no_slice_from_this_node() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = one_is_behind(&disk).await;
    let takes_over = async {
        // It waits by now, in all likelihood.
        tokio::time::sleep(Duration::from_millis(200)).await;
        second.own(&[]).await.unwrap();
        first.own(&[0, 1, 2]).await.unwrap();
    };
    let third = other_rows(3, "6m");
    let (done, ()) = tokio::join!(first.commit(&third, |_| ()), takes_over);
    let id = done.unwrap().commit.unwrap().id;
    first.wait_live(&id).await;
    let _looking = Looking::at(&[&first, &second]);
    until(async || topics(&disk) == logs_of(3)).await;
    first.stop();
    second.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_waits_for_others_ends_when_this_node_leads_no_more() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = one_is_behind(&disk).await;
    let gives_back = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        first.own(&[1]).await.unwrap();
        Ok::<(), String>(())
    };
    let third = other_rows(3, "6m");
    let (done, _) = tokio::join!(first.commit(&third, |_| ()), gives_back);
    let refused = done.unwrap_err();
    assert!(refused.contains("does not lead"), "{refused}");
    first.stop();
    second.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_are_given_back_while_something_is_changed() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    let changing = first.controller.changing.lock().await;
    let gives_back = async {
        let owned = first.controller.owned();
        until(async || owned.borrow().iter().eq([&1])).await;
        drop(changing);
    };
    let (given_back, ()) = tokio::join!(first.own(&[1]), gives_back);
    given_back.unwrap();
    assert!(!first.controller.leads());
    first.stop();
    second.stop();
}

/// The node looks at other things meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_for_erases_does_not_wait_for_others() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = one_is_behind(&disk).await;
    disk.write(&users()[0], Record::Erase { append_time: T0 }.encode()).await;
    let live = first.controller.serving().live.clone().unwrap();
    until(async || first.controller.erased_so_far(&live.compiled).await.unwrap() != live.compiled.definitions.erased)
        .await;
    // More than once: the takeover may not be through with its work yet.
    for _ in 0..20 {
        first.controller.work_off_erases().await.unwrap();
        assert!(first.controller.serving().building.is_none(), "the second may still fill what is left behind");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _looking = Looking::at(&[&first, &second]);
    for node in [&first, &second] {
        until(async || node.now("Counts", ("n", Value::Int(1))).await == Value::Int(2)).await;
    }
    first.stop();
    second.stop();
}

/// Nobody has a slice at the moment who could say that it does not fill the build's logs any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_cannot_be_given_up_goes_on() {
    let mut disk = Disk::sliced(THREE).await;
    disk.member = Arc::new(Onlooker::default());
    let (first, second) = sharing(&disk).await;
    order_of_each(&disk, 9).await;
    check_counts(&[&first, &second], 1).await;
    disk.shut(true);
    let id = first.commit(&other_rows(2, "5m"), |_| ()).await.unwrap().commit.unwrap().id;
    let refused = first.commit(&other_rows(2, "20m"), |request| request.supersede = true).await.unwrap_err();
    assert!(refused.contains("no server works on slice 0"), "{refused}");
    assert_eq!(first.controller.commit_view(&id).await.unwrap().state, "building");
    let _looking = Looking::at(&[&first, &second]);
    disk.shut(false);
    first.wait_live(&id).await;
    first.stop();
    second.stop();
}

/// Partitions were added to the group's topic while this server runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_given_a_slice_it_does_not_know_owns_nothing() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = disk.start().await;
        node.commit(&chain(), |_| ()).await.unwrap();
        let error = node.own(&(0..=slices).collect::<Vec<u16>>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(
            error.message().contains(&format!("given slice {slices}")) && error.to_string().contains("delete"),
            "{error}"
        );
        assert!(node.controller.owned().borrow().is_empty() && !node.controller.leads());
        node.controller.follow().await.unwrap();
        order_of_each(&disk, 9).await;
        node.lead().await.unwrap();
        check_counts(&[&node], 1).await;
        node.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_leaves_the_tables_of_all_slices() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    let looking = Looking::at(&[&first, &second]);
    order_of_each(&disk, 9).await;
    check_counts(&[&first, &second], 1).await;
    let gone = &users()[2];
    disk.write(gone, Record::Erase { append_time: T0 }.encode()).await;
    for node in [&first, &second] {
        until(async || node.now("Counts", ("n", Value::Int(1))).await == Value::Int(2)).await;
        assert_eq!(node.now("Users", user(gone)).await, Value::Null);
    }
    looking.end().await;
    first.stop();
    second.stop();
}

/// Of one slice there is no producer yet: the others are owned, the node leads, and goes on where that one is had.
#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_cannot_be_owned_yet_holds_up_no_other() {
    let disk = Disk::sliced(THREE).await;
    let (first, second) = sharing(&disk).await;
    order_of_each(&disk, 9).await;
    check_counts(&[&first, &second], 1).await;
    first.own(&[]).await.unwrap();
    second.own(&[]).await.unwrap();
    for refused in [2, 0] {
        let id = format!("thyme-engine-{refused}-of-{THREE}");
        disk.log.refused.lock().insert(id.clone());
        let error = second.own(&[0, 1, 2]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let owned: Vec<u16> = second.controller.owned().borrow().iter().copied().collect();
        assert_eq!(owned, (0..THREE).filter(|slice| *slice != refused).collect::<Vec<_>>());
        assert_eq!(second.controller.leads(), refused != 0);
        disk.log.refused.lock().remove(&id);
        second.own(&[0, 1, 2]).await.unwrap();
        assert!(second.controller.leads());
        assert_eq!(second.controller.owned().borrow().len(), usize::from(THREE));
        second.own(&[]).await.unwrap();
    }
    second.own(&[0, 1, 2]).await.unwrap();
    let _looking = Looking::at(&[&first, &second]);
    order_of_each(&disk, 8).await;
    check_counts(&[&first, &second], 2).await;
    first.stop();
    second.stop();
}
