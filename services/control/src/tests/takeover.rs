//! Several pipelines of one commit are done at different times: all of it takes over at once.

use super::*;

/// Counts by user and, through a repartition log, by shop; `Both` shows them side by side.
fn both(version: u32, window: &str) -> Json {
    let key = |name: &str| json!({"name": name, "type": "str", "key": true});
    let dataset = |name: &str, by: &str| json!({"name": name, "version": 1, "index": true, "fields": [key(by), field("ts", "datetime"), field("n", "int")]});
    let pipeline = |dataset: &str, by: &str| {
        json!({"name": "count", "version": version, "dataset": dataset, "input": "Order", "group_by": [by],
               "aggregates": [{"name": "n", "op": {"kind": "count"}, "window": window}]})
    };
    let count =
        |name: &str, dataset: &str| json!({"name": name, "type": "int", "ref": {"dataset": dataset, "field": "n"}});
    json!({
        "format": 1,
        "datasets": [
            {"name": "Order", "version": 1, "index": false,
             "fields": [key("user_id"), field("ts", "datetime"), field("shop", "str")]},
            dataset("UserStats", "user_id"),
            dataset("ShopStats", "shop"),
        ],
        "pipelines": [pipeline("UserStats", "user_id"), pipeline("ShopStats", "shop")],
        "featuresets": [{"name": "Both", "features": [
            {"name": "user_id", "type": "str"}, {"name": "shop", "type": "str"},
            count("by_user", "UserStats"), count("by_shop", "ShopStats"),
        ]}],
    })
}

/// The next version, with a featureset that needs only what is built first.
fn next() -> Json {
    let mut definitions = both(2, "90m");
    let later = json!({"name": "Later", "features": [
        {"name": "user_id", "type": "str"},
        {"name": "n", "type": "int", "ref": {"dataset": "UserStats", "field": "n"}},
    ]});
    definitions["featuresets"].as_array_mut().unwrap().push(later);
    definitions
}

/// Orders by user u1 and in shop s, in one answer.
async fn counts(node: &Node) -> (Value, Value) {
    let key = [("user_id", "u1"), ("shop", "s")];
    let key = key.map(|(name, value)| (name.to_string(), Given::from(Value::str(value))));
    let answer = node.query.answer(Question::online("Both", key.into())).await.unwrap();
    let value = |name: &str| {
        let column = answer.columns.iter().find(|column| &*column.name == name).unwrap();
        column.values[0].value.clone()
    };
    (value("by_user"), value("by_shop"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_commit_serves_before_all_of_it_does() {
    let old = (Value::Int(61), Value::Int(61));
    let new = (Value::Int(91), Value::Int(91));
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = disk.start().await;
        node.commit(&both(1, "1h"), |_| ()).await.unwrap();
        disk.visits_everywhere().await;
        disk.visits_to("s", "u1", 100).await;
        while node.engine.lag() != Some(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(counts(&node).await, old);
        let read = node.controller.pipelines().unwrap().into_iter().map(|pipeline| pipeline.counts.accepted);
        assert_eq!(read.collect::<Vec<_>>(), [100 + u64::from(key::DEFAULT_PARTITIONS); 2]);

        disk.half_shut(Some(("Order.v1.by.", 1)));
        let id = node.commit(&next(), |_| ()).await.unwrap().commit.unwrap().id;
        let built = async |table: &str| {
            let builds = node.controller.commit_view(&id).await.unwrap().builds;
            let build = builds.into_iter().find(|build| build.pipeline == table).unwrap();
            (build.done_records, build.total_records)
        };
        let mut by_user = (0, 1);
        while by_user.0 < by_user.1 {
            assert_eq!(counts(&node).await, old);
            by_user = built("UserStats.count@2").await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (done, total) = built("ShopStats.count@2").await;
        assert!(done < total, "{done} of {total}");
        // It is given the chance to take over, more often than not.
        for _ in 0..20 {
            assert_eq!(counts(&node).await, old);
            assert_eq!(node.ask("Later", "n").await.unwrap_err().kind(), ErrorKind::Unavailable);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(node.controller.commit_view(&id).await.unwrap().state, "building");

        disk.half_shut(None);
        loop {
            let found = counts(&node).await;
            if found == new {
                break;
            }
            assert_eq!(found, old, "both or none");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        node.wait_live(&id).await;
        assert_eq!(node.ask("Later", "n").await.unwrap(), Value::Int(91));
        node.stop();
    }
}
