//! Two nodes on one log and one catalog, each with a state of its own.

use super::*;

/// Looks at the catalog until the follower serves the commit.
pub(super) async fn until_it_serves(follower: &Node, id: &str) {
    for _ in 0..2000 {
        follower.controller.follow().await.unwrap();
        if follower.query.commit_id().as_deref() == Some(id) && follower.controller.serving().building.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the follower never serves {id}");
}

async fn commit_of(node: &Node, definitions: &Json) -> String {
    let id = node.commit(definitions, |_| ()).await.unwrap().commit.unwrap().id;
    node.wait_live(&id).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_serves_what_is_live_once_its_state_is_whole() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let owner = disk.start().await;
        commit_of(&owner, &counting("OldStats", "Old", "1h")).await;
        disk.append_orders("u1", 100).await;
        disk.shut(true);
        let follower = disk.open(disk.no_states(), Role::Follower);
        follower.controller.follow().await.unwrap();
        let early = follower.ask("Old", "n").await.unwrap_err();
        assert_eq!(early.kind(), ErrorKind::Unavailable, "never short: {early}");
        assert!(early.message().contains("0 of 100 records"), "{early}");
        assert!(follower.controller.being_built().unwrap().contains("0 of 100 records"));
        disk.shut(false);
        let live = disk.catalog.live_commit().await.unwrap().unwrap().id;
        until_it_serves(&follower, &live).await;
        assert!(follower.controller.being_built().is_none());
        assert_eq!(follower.ask("Old", "n").await.unwrap(), Value::Int(61));

        let refused = follower.commit(&counting("NewStats", "New", "90m"), |_| ()).await.unwrap_err();
        assert!(refused.contains("does not lead") && refused.contains("memory"), "{refused}");

        // A build and its takeover, and the state of what was removed.
        let next = commit_of(&owner, &counting("NewStats", "New", "90m")).await;
        until_it_serves(&follower, &next).await;
        assert_eq!(follower.ask("New", "n").await.unwrap(), Value::Int(91));
        let gone = disk.catalog.find_ids(&["pipeline:OldStats.count@1".to_string()]).await.unwrap();
        let nothing = json!({"format": 1});
        let removed = owner.commit(&nothing, |request| {
            request.remove = ["Old", "OldStats.count", "OldStats"].map(str::to_string).to_vec();
        });
        let removed = removed.await.unwrap().commit.unwrap().id;
        until_it_serves(&follower, &removed).await;
        assert!(follower.ask("Old", "n").await.is_err());
        let id = gone.values().next().copied().unwrap();
        let left = follower.all_progress();
        assert!(left.iter().all(|(consumer, ..)| *consumer != id), "its table is dropped here too");
        follower.stop();
        owner.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_follower_goes_on_with_the_build_and_takes_commits() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let (owner, building) = while_building(&disk).await;
        let follower = disk.open(disk.no_states(), Role::Follower);
        follower.controller.follow().await.unwrap();
        owner.stop();
        // The gate is still shut: nothing of its state is there, so nothing may be answered.
        follower.lead().await.unwrap();
        assert_eq!(follower.ask("Old", "n").await.unwrap_err().kind(), ErrorKind::Unavailable);
        let refused = follower.commit(&counting("Third", "ThirdFeatures", "5m"), |_| ()).await.unwrap_err();
        assert!(refused.contains("being built from the log"), "{refused}");
        disk.shut(false);
        follower.wait_live(&building).await;
        assert_eq!(follower.ask("Old", "n").await.unwrap(), Value::Int(61));
        assert_eq!(follower.ask("New", "n").await.unwrap(), Value::Int(91));
        let third = commit_of(&follower, &counting("Third", "ThirdFeatures", "5m")).await;
        assert_eq!(disk.catalog.live_commit().await.unwrap().unwrap().id, third);
        assert_eq!(follower.ask("ThirdFeatures", "n").await.unwrap(), Value::Int(6));
        follower.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stands_down_follows() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let first = disk.start().await;
        commit_of(&first, &counting("OldStats", "Old", "1h")).await;
        let second = disk.open(disk.no_states(), Role::Owner);
        second.lead().await.unwrap();
        first.own(&[]).await.unwrap();
        let next = commit_of(&second, &counting("NewStats", "New", "90m")).await;
        disk.append_orders("u1", 10).await;
        until_it_serves(&first, &next).await;
        while first.controller.status().unwrap().lag > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(first.ask("New", "n").await.unwrap(), Value::Int(10));
        first.stop();
        second.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_promoted_follower_served_goes_on_until_the_live_commit_is_built() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let owner = disk.start().await;
        let first = commit_of(&owner, &counting("OldStats", "Old", "1h")).await;
        disk.append_orders("u1", 100).await;
        let follower = disk.open(disk.no_states(), Role::Follower);
        until_it_serves(&follower, &first).await;
        let next = commit_of(&owner, &counting("NewStats", "New", "90m")).await;
        owner.stop();
        disk.shut(true);
        follower.lead().await.unwrap();
        assert_eq!(follower.ask("Old", "n").await.unwrap(), Value::Int(61));
        assert_eq!(follower.ask("New", "n").await.unwrap_err().kind(), ErrorKind::Unavailable);
        disk.shut(false);
        while follower.query.commit_id().as_deref() != Some(next.as_str()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(follower.ask("New", "n").await.unwrap(), Value::Int(91));
        follower.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_follower_makes_no_log_of_a_build_that_was_given_up() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let follower = disk.open(disk.no_states(), Role::Follower);
        let (owner, building) = while_building(&disk).await;
        disk.shut(false);
        owner.wait_live(&building).await;
        until_it_serves(&follower, &building).await;
        disk.shut(true);
        disk.append_orders("u1", 10).await;
        let mut third = counting("ThirdStats", "Third", "5m");
        let clicks = json!({"name": "Click", "version": 1, "index": false,
        "fields": [{"name": "user_id", "type": "str", "key": true}, field("ts", "datetime")]});
        third["datasets"].as_array_mut().unwrap().push(clicks);
        owner.commit(&third, |_| ()).await.unwrap();
        follower.controller.follow().await.unwrap();
        assert!(follower.controller.serving().building.is_some());
        let other = counting("ThirdStats", "Third", "10m");
        let id = owner.commit(&other, |request| request.supersede = true).await.unwrap().commit.unwrap().id;
        owner.stop();

        let clicks = || disk.log.topics().unwrap().iter().any(|(topic, _)| topic == "Click.v1");
        assert!(!clicks());
        follower.lead().await.unwrap();
        assert!(!clicks());
        disk.shut(false);
        follower.wait_live(&id).await;
        assert_eq!(follower.ask("Third", "n").await.unwrap(), Value::Int(21));
        follower.stop();
    }
}

/// What the live commit has dropped comes back with the next one, under ids of its own: a node that begins to lead meanwhile leaves it alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_brings_back_what_was_dropped_goes_on_with_another_leader() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let first = disk.start().await;
        let mut all = counting("Stats", "Features", "1h");
        let clicks = json!({"name": "Click", "version": 1, "index": false,
            "fields": [{"name": "user_id", "type": "str", "key": true}, field("ts", "datetime")]});
        all["datasets"].as_array_mut().unwrap().push(clicks);
        commit_of(&first, &all).await;
        disk.append_orders("u1", 100).await;
        until(async || first.controller.status().unwrap().lag == 0).await;
        let nothing = json!({"format": 1});
        let removed = first.commit(&nothing, |request| {
            request.remove = ["Features", "Stats.count", "Stats", "Click"].map(str::to_string).to_vec();
        });
        let removed = removed.await.unwrap().commit.unwrap().id;
        first.wait_live(&removed).await;
        let names = ["log:Click@1", "pipeline:Stats.count@1"].map(str::to_string);
        let ids = async || disk.catalog.find_ids(&names).await.unwrap();
        until(async || {
            first.controller.keep_up().await.unwrap();
            ids().await.is_empty()
        })
        .await;
        let second = disk.open(disk.no_states(), Role::Follower);
        until_it_serves(&second, &removed).await;

        disk.shut(true);
        let id = first.commit(&all, |_| ()).await.unwrap().commit.unwrap().id;
        let begun = ids().await;
        assert_eq!(begun.len(), names.len());
        let records = vec![NewRecord::new(vec![1], vec![2])];
        disk.log.append(vec![Batch { topic: "Click.v1".to_string(), partition: 0, records }]).await.unwrap();
        second.controller.follow().await.unwrap();
        first.own(&[]).await.unwrap();
        second.lead().await.unwrap();
        disk.shut(false);
        second.wait_live(&id).await;
        assert_eq!(ids().await, begun);
        assert_eq!(disk.log.end_offset("Click.v1", 0).unwrap(), 1, "events that were taken meanwhile are there");
        assert_eq!(second.ask("Features", "n").await.unwrap(), Value::Int(61));
        first.stop();
        second.stop();
    }
}

/// Nobody can be asked who leads where the broker keeps this node out; to try again would not help.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_kept_out_says_why_until_it_is_let_in() {
    let mut disk = Disk::new().await;
    disk.member = Arc::new(Onlooker::default());
    let node = disk.open(disk.no_states(), Role::Follower);
    let stats = counting("Stats", "S", "1h");
    let refused = node.commit(&stats, |_| ()).await.unwrap_err();
    assert!(refused.contains("does not lead") && refused.contains("try again"), "{refused}");
    assert_eq!((node.controller.kept_out(), node.controller.status().unwrap().state), (None, "ready"));

    let trouble = thyme_core::Error::new(ErrorKind::PermissionDenied, "no way in").hint("grant it");
    *disk.log.trouble.lock() = Some(trouble);
    let refused = node.commit(&stats, |_| ()).await.unwrap_err();
    for part in ["PermissionDenied", "does not lead", "no way in", "grant it"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let status = node.controller.status().unwrap();
    assert_eq!(status.state, "degraded");
    assert!(status.trouble.is_some_and(|told| told.contains("no way in") && told.contains("grant it")));

    // Who is told who leads is told that, whatever else is the matter.
    disk.member = Arc::new(Alone::new(thyme_log::Node { id: "other".to_string(), url: "elsewhere".to_string() }));
    let another = disk.open(disk.no_states(), Role::Follower);
    let refused = another.commit(&stats, |_| ()).await.unwrap_err();
    assert!(refused.contains("elsewhere") && !refused.contains("no way in"), "{refused}");
    *disk.log.trouble.lock() = None;
    assert_eq!((node.controller.kept_out(), node.controller.status().unwrap().state), (None, "ready"));
    another.stop();
    node.stop();
}
