//! What a dataset must have for its source.

use super::*;

fn visits(source: Json, dedup_window: Json) -> Json {
    let mut key = field("user_id", "str");
    key["key"] = json!(true);
    json!({"format": 1, "datasets": [{
        "name": "Visit", "version": 1, "index": false, "fields": [key, field("ts", "datetime")],
        "source": source, "dedup_window": dedup_window, "location": {"file": "visits.py", "line": 7},
    }]})
}

#[tokio::test(flavor = "multi_thread")]
async fn its_ids_are_remembered_for_a_day_at_least() {
    let disk = Disk::new().await;
    let node = disk.start().await;
    let file = json!({"kind": "file", "settings": {"path": "visits.jsonl"}, "cdc": "append"});
    let topic =
        json!({"kind": "kafka", "settings": {"topic": "visits", "bootstrap_servers": "localhost:9"}, "cdc": "append"});
    for source in [&file, &topic] {
        for window in ["1m", "23h59m59s"] {
            let refused = node.commit(&visits(source.clone(), json!(window)), |_| ()).await.unwrap_err();
            let is_shorter = format!("dedup_window {window} is shorter than 1d");
            for part in [&is_shorter, "visits.py:7", "source of dataset 'Visit'", "set dedup_window= to at least 1d"] {
                assert!(refused.contains(part), "'{part}' is missing in: {refused}");
            }
        }
        for window in [json!("1d"), json!(null)] {
            node.commit(&visits(source.clone(), window), |request| request.dry_run = true).await.unwrap();
        }
    }
    // Without a source whoever sends the rows decides for how long they may send them again.
    node.commit(&visits(json!(null), json!("1m")), |request| request.dry_run = true).await.unwrap();
    node.stop();
}
