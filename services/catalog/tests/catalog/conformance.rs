//! What every catalog must do, run on each backend.

use thyme_catalog::*;
use thyme_core::time::Micros;

pub(crate) const T0: Micros = 1_700_000_000_000_000;

pub(crate) fn commit_of(id: &str, hash: &str) -> NewCommit {
    NewCommit {
        id: id.to_string(),
        message: format!("commit {id}"),
        created_at: T0,
        content_hash: hash.to_string(),
        definitions: format!("{{\"of\":\"{id}\"}}"),
        plan: "{}".to_string(),
        new_identities: vec![format!("pipeline:{id}@1")],
    }
}

/// The suite. `catalog` is empty.
pub(crate) async fn check_all(catalog: &dyn Catalog) {
    check_commits(catalog).await;
    check_text(catalog).await;
    check_ids(catalog).await;
    check_cursors(catalog).await;
    check_events(catalog).await;
    check_runs(catalog).await;
}

async fn check_commits(catalog: &dyn Catalog) {
    assert_eq!(catalog.live_commit().await.unwrap(), None);
    assert_eq!(catalog.building_commit().await.unwrap(), None);
    catalog.begin_commit(commit_of("a", "h1"), false).await.unwrap();
    let building = catalog.building_commit().await.unwrap().unwrap();
    assert_eq!((building.id.as_str(), building.status), ("a", CommitStatus::Building));
    assert_eq!(building.new_identities, vec!["pipeline:a@1".to_string()]);
    assert_eq!(building.finished_at, None);

    let refused = catalog.begin_commit(commit_of("b", "h2"), false).await.unwrap_err();
    assert_eq!(refused.kind(), thyme_core::ErrorKind::Conflict);
    assert!(refused.message().contains("commit a"), "{refused}");
    catalog.begin_commit(commit_of("b", "h2"), true).await.unwrap();
    let superseded = catalog.commit("a").await.unwrap().unwrap();
    assert_eq!((superseded.status, superseded.activated_at), (CommitStatus::Superseded, None));

    let gone = catalog.activate_commit("a", T0, &[]).await.unwrap_err();
    assert_eq!(gone.kind(), thyme_core::ErrorKind::FailedPrecondition);
    assert_eq!(catalog.activate_commit("zzz", T0, &[]).await.unwrap_err().kind(), thyme_core::ErrorKind::NotFound);

    let published = |name: &str| PublishedFeature { featureset: "F".to_string(), id: 1, name: name.to_string() };
    catalog.activate_commit("b", T0 + 1, &[published("old")]).await.unwrap();
    let live = catalog.live_commit().await.unwrap().unwrap();
    assert_eq!((live.id.as_str(), live.finished_at, live.content_hash.as_str()), ("b", Some(T0 + 1), "h2"));
    assert_eq!(catalog.building_commit().await.unwrap(), None);

    // The answer may have been lost.
    catalog.activate_commit("b", T0 + 5, &[published("other")]).await.unwrap();
    assert_eq!(catalog.live_commit().await.unwrap().unwrap(), live);
    assert_eq!(catalog.published_features().await.unwrap(), vec![published("old")]);

    catalog.begin_commit(commit_of("c", "h3"), false).await.unwrap();
    catalog.fail_commit("c", T0 + 2, "no such package").await.unwrap();
    let failed = catalog.commit("c").await.unwrap().unwrap();
    assert_eq!((failed.status, failed.error.as_deref()), (CommitStatus::Failed, Some("no such package")));
    assert_eq!(catalog.live_commit().await.unwrap().unwrap().id, "b");

    catalog.begin_commit(commit_of("d", "h4"), false).await.unwrap();
    catalog.activate_commit("d", T0 + 3, &[published("new")]).await.unwrap();
    let replaced = catalog.commit("b").await.unwrap().unwrap();
    assert_eq!((replaced.status, replaced.activated_at), (CommitStatus::Superseded, Some(T0 + 1)));
    assert_eq!(catalog.published_features().await.unwrap(), vec![published("new")]);

    assert_eq!(catalog.definitions("d").await.unwrap(), "{\"of\":\"d\"}");
    assert_eq!(catalog.definitions("zzz").await.unwrap_err().kind(), thyme_core::ErrorKind::NotFound);
    let newest = catalog.commits(2, None).await.unwrap();
    assert_eq!(newest.iter().map(|commit| commit.id.as_str()).collect::<Vec<_>>(), ["d", "c"]);
    let rest = catalog.commits(10, Some(newest[1].sequence)).await.unwrap();
    assert_eq!(rest.iter().map(|commit| commit.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
}

/// Text that no other character set, and not every database, keeps.
async fn check_text(catalog: &dyn Catalog) {
    let message = "naïve \u{1f9ea} 'quoted' \\ $1 ? \n";
    let mut commit = commit_of("text", "h5");
    commit.message = message.to_string();
    commit.definitions = message.repeat(100_000);
    catalog.begin_commit(commit.clone(), false).await.unwrap();
    assert_eq!(catalog.commit("text").await.unwrap().unwrap().message, message);
    assert_eq!(catalog.definitions("text").await.unwrap(), commit.definitions);
    catalog.fail_commit("text", T0, "it said \0 and ended").await.unwrap();
    let error = catalog.commit("text").await.unwrap().unwrap().error.unwrap();
    assert!(error.starts_with("it said ") && error.ends_with(" and ended"), "{error:?}");
}

async fn check_ids(catalog: &dyn Catalog) {
    let names: Vec<String> = ["log:Order@1", "raw:Order@1"].map(String::from).to_vec();
    assert!(catalog.find_ids(&names).await.unwrap().is_empty());
    let first = catalog.allocate_ids(&names).await.unwrap();
    assert_eq!(first.len(), 2);
    assert_ne!(first["log:Order@1"], first["raw:Order@1"]);
    assert_eq!(catalog.allocate_ids(&names).await.unwrap(), first);
    let next = catalog.allocate_ids(&["log:Next@1".to_string()]).await.unwrap()["log:Next@1"];
    assert_eq!(next, first["raw:Order@1"] + 1, "asking again uses no ids up");
    assert_eq!(catalog.find_ids(&names).await.unwrap(), first);
    catalog.retire_ids(&names[1..]).await.unwrap();
    assert_eq!(catalog.find_ids(&names).await.unwrap().len(), 1);
    let again = catalog.allocate_ids(&names).await.unwrap();
    assert_eq!(again["log:Order@1"], first["log:Order@1"]);
    assert!(!first.values().any(|id| *id == again["raw:Order@1"]), "an id was reused: {first:?} {again:?}");
}

async fn check_cursors(catalog: &dyn Catalog) {
    assert_eq!(catalog.cursor("Order@1").await.unwrap(), None);
    catalog.save_cursor("Order@1", "{\"offset\":7}", T0).await.unwrap();
    catalog.save_cursor("Order@1", "{\"offset\":9}", T0 + 1).await.unwrap();
    assert_eq!(catalog.cursor("Order@1").await.unwrap().as_deref(), Some("{\"offset\":9}"));
    check_pauses(catalog).await;
    catalog.remove_cursor("Order@1").await.unwrap();
    assert_eq!(catalog.cursor("Order@1").await.unwrap(), None);
}

/// `Order@1` has a cursor, `Item@1` has none.
async fn check_pauses(catalog: &dyn Catalog) {
    catalog.resume("Order@1").await.unwrap();
    catalog.pause("Order@1", T0).await.unwrap();
    catalog.pause("Order@1", T0 + 1).await.unwrap();
    catalog.pause("Item@1", T0).await.unwrap();
    assert!(catalog.is_paused("Order@1").await.unwrap());
    assert_eq!(catalog.cursor("Order@1").await.unwrap().as_deref(), Some("{\"offset\":9}"));
    assert_eq!(catalog.cursor("Item@1").await.unwrap(), None);
    catalog.resume("Order@1").await.unwrap();
    assert!(!catalog.is_paused("Order@1").await.unwrap());
    assert!(catalog.is_paused("Item@1").await.unwrap());
}

async fn check_events(catalog: &dyn Catalog) {
    for number in 0..3 {
        let event = NewActivityEvent {
            event_type: "commit.live".to_string(),
            severity: Severity::Warning,
            source: "control".to_string(),
            subject: format!("commit-{number}"),
            message: "took over".to_string(),
            detail: serde_json::json!({"number": number}),
            created_at: T0 + number,
        };
        catalog.add_event(event).await.unwrap();
    }
    let newest = catalog.events(2, None).await.unwrap();
    assert_eq!(newest.len(), 2);
    assert_eq!(newest[0].event.subject, "commit-2");
    assert_eq!(newest[0].event.detail, serde_json::json!({"number": 2}));
    assert_eq!(newest[0].event.severity, Severity::Warning);
    let rest = catalog.events(10, Some(newest[1].id)).await.unwrap();
    assert_eq!(rest.iter().map(|event| event.event.subject.as_str()).collect::<Vec<_>>(), ["commit-0"]);
}

pub(crate) fn run_of(number: u64, featureset: &str, kind: &str) -> QueryRun {
    QueryRun {
        id: format!("run-{number}"),
        featureset: featureset.to_string(),
        entity_ids: vec![serde_json::json!("u1"), serde_json::json!({"tailnum": "N1", "leg": number})],
        requested_timestamp: Some(T0),
        kind: kind.to_string(),
        row_count: 2,
        hit_count: 1,
        latency_us: 1234,
        api_key_fingerprint: None,
        commit_id: "d".to_string(),
        watermark: None,
        error: Some("late".to_string()),
        created_at: T0 + number as i64,
    }
}

async fn check_runs(catalog: &dyn Catalog) {
    let runs: Vec<QueryRun> = (0..10)
        .map(|number| {
            run_of(number, if number % 2 == 0 { "A" } else { "B" }, if number < 5 { "online" } else { "batch" })
        })
        .collect();
    catalog.add_runs(&RunPages::of(&runs).unwrap(), 100).await.unwrap();
    assert_eq!(catalog.run("run-3").await.unwrap(), Some(runs[3].clone()));
    assert_eq!(catalog.run("nothing").await.unwrap(), None);

    let filter = RunFilter { limit: 2, featureset: Some("A".to_string()), ..RunFilter::default() };
    let mut seen = Vec::new();
    let mut page = catalog.runs(&filter).await.unwrap();
    loop {
        seen.extend(page.runs.iter().map(|run| run.id.clone()));
        let Some(cursor) = page.next_cursor else { break };
        page = catalog.runs(&RunFilter { cursor: Some(cursor), ..filter.clone() }).await.unwrap();
    }
    assert_eq!(seen, ["run-8", "run-6", "run-4", "run-2", "run-0"]);
    let batch = RunFilter { kind: Some("batch".to_string()), ..RunFilter::default() };
    assert_eq!(catalog.runs(&batch).await.unwrap().runs.len(), 5);
    let wrong = RunFilter { cursor: Some("x".to_string()), ..RunFilter::default() };
    assert_eq!(catalog.runs(&wrong).await.unwrap_err().field_name(), Some("cursor"));

    assert_eq!(catalog.forget_entity(&[serde_json::json!("N1"), serde_json::json!(4)]).await.unwrap(), 1);
    let scrubbed = catalog.run("run-4").await.unwrap().unwrap();
    assert_eq!(scrubbed.entity_ids, vec![serde_json::json!("u1"), serde_json::Value::Null]);
    assert_eq!(catalog.forget_entity(&[serde_json::json!("u")]).await.unwrap(), 0);

    catalog.add_runs(&RunPages::of(&[run_of(10, "A", "online")]).unwrap(), 3).await.unwrap();
    let kept = catalog.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(kept.runs.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["run-10", "run-9", "run-8"]);
    assert_eq!(kept.next_cursor, None);

    let pages = RunPages::of(&[run_of(11, "A", "online")]).unwrap();
    for _ in 0..2 {
        catalog.add_runs_again(&pages, 100).await.unwrap();
    }
    assert_eq!(catalog.runs(&RunFilter { limit: 2, ..RunFilter::default() }).await.unwrap().runs[1].id, "run-10");

    let many: Vec<QueryRun> = (100..7_000).map(|number| run_of(number, "A", "online")).collect();
    catalog.add_runs(&RunPages::of(&many).unwrap(), 6_000).await.unwrap();
    let mut seen = Vec::new();
    let mut filter = RunFilter { limit: 1_000, ..RunFilter::default() };
    loop {
        let page = catalog.runs(&filter).await.unwrap();
        seen.extend(page.runs);
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            break;
        }
    }
    assert!(seen.iter().rev().eq(&many[900..]), "{}", seen.len());
}
