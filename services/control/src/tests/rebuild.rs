//! States on disk, compared with what the log makes while commits take over.

use super::*;
use thyme_core::failpoint::{Point, install};
use thyme_state::Options;

/// Each version has a table of its own, and takes that of the one before away.
fn version(number: i64) -> Json {
    let mut definitions = counting("Stats", "Features", &format!("{number}h"));
    definitions["pipelines"][0]["version"] = json!(number);
    definitions
}

/// What takes over drops the tables of the commit before, while a copy of the state is made or is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_beside_takeovers_never_finds_a_divergence() {
    // There is time for a copy while a table is half dropped. Other tests of this process only wait there.
    install(Box::new(|point| {
        if point == Point::DropHalf {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }));
    let directory = tempfile::tempdir().unwrap();
    let mut disk = Disk::sliced(3).await;
    let store = |slice| StateStore::open(directory.path().join(format!("state-{slice}")), Options::default()).unwrap();
    disk.states = States::new((0..3).map(store).collect());
    disk.data_dir = directory.path().to_string_lossy().into_owned();
    let node = disk.start().await;
    node.commit(&version(1), |_| ()).await.unwrap();
    for user in 0..30 {
        disk.append_orders(&format!("u{user}"), 20).await;
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let rebuilds = {
        let (controller, is_over) = (node.controller.clone(), is_over.clone());
        tokio::spawn(async move {
            let mut equal = 0;
            while !is_over.load(Ordering::SeqCst) {
                match controller.rebuild(|_, _| true).await {
                    Ok(outcome) if outcome.equal => equal += 1,
                    Ok(outcome) => panic!("{outcome:?}"),
                    // A table that is still being filled, or is not any more.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                }
            }
            equal
        })
    };
    for number in 2..=20 {
        let id = node.commit(&version(number), |_| ()).await.unwrap().commit.unwrap().id;
        node.wait_live(&id).await;
    }
    is_over.store(true, Ordering::SeqCst);
    assert!(rebuilds.await.unwrap() > 0);
    node.stop();
}
