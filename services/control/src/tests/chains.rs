//! Pipelines on the rows of aggregated datasets, committed, asked, erased from, given new versions and taken away again.

use super::*;
use thyme_core::position::KnownAt;
use thyme_query::{At, Standing};

const PARTITIONS: u16 = 3;

/// `Order` by user; counted per user and, from these rows, the greatest count of the hour, and how many rows there were per count; and
/// counted per shop, with the greatest of these over all shops.
pub(super) fn chain() -> Json {
    let key = |name: &str, data_type: &str| json!({"name": name, "type": data_type, "key": true});
    let dataset = |name: &str, key: Json, field_name: &str| json!({"name": name, "version": 1, "index": true, "fields": [key, field("ts", "datetime"), field(field_name, "int")]});
    let pipeline = |dataset: &str, input: &str, group_by: &str, aggregate: Json| {
        json!({"name": "compute", "version": 1, "dataset": dataset, "input": input, "group_by": [group_by],
               "aggregates": [aggregate]})
    };
    let count = |name: &str, window: &str| json!({"name": name, "op": {"kind": "count"}, "window": window});
    let most = |name: &str, of: &str| json!({"name": name, "op": {"kind": "max"}, "of": of, "window": "1h"});
    let mut everywhere = pipeline("Top", "ShopStats", "all", most("most", "n"));
    everywhere["steps"] = json!([{"op": "assign", "columns": [{"name": "all", "expr": {"lit": {"str": "all"}}}]}]);
    let feature = |name: &str, dataset: &str, field: &str| json!({"name": name, "type": "int", "ref": {"dataset": dataset, "field": field}});
    json!({
        "format": 1,
        "datasets": [
            {"name": "Order", "version": 1, "index": false, "partitions": PARTITIONS, "max_lateness": "1h",
             "fields": [key("user_id", "str"), field("ts", "datetime"), field("shop", "str")]},
            dataset("UserStats", key("user_id", "str"), "n"),
            dataset("Peaks", key("user_id", "str"), "most"),
            dataset("Levels", key("n", "int"), "rows"),
            dataset("ShopStats", key("shop", "str"), "n"),
            dataset("Top", key("all", "str"), "most"),
        ],
        "pipelines": [
            pipeline("UserStats", "Order", "user_id", count("n", "10m")),
            pipeline("Peaks", "UserStats", "user_id", most("most", "n")),
            pipeline("Levels", "UserStats", "n", count("rows", "forever")),
            pipeline("ShopStats", "Order", "shop", count("n", "10m")),
            everywhere,
        ],
        "featuresets": [
            {"name": "Users", "features": [{"name": "user_id", "type": "str"}, feature("most", "Peaks", "most")]},
            {"name": "Counts", "features": [{"name": "n", "type": "int"}, feature("rows", "Levels", "rows")]},
            {"name": "All", "features": [{"name": "all", "type": "str"}, feature("most", "Top", "most")]},
        ],
    })
}

/// A pipeline of [`chain`], by its dataset.
fn pipeline_of<'a>(definitions: &'a mut Json, dataset: &str) -> &'a mut Json {
    let pipelines = definitions["pipelines"].as_array_mut().unwrap();
    pipelines.iter_mut().find(|pipeline| pipeline["dataset"] == dataset).unwrap()
}

/// [`chain`] with other rows of users, and so other logs.
pub(super) fn other_rows(version: u32, window: &str) -> Json {
    let mut changed = chain();
    pipeline_of(&mut changed, "UserStats")["aggregates"][0]["window"] = json!(window);
    for dataset in ["UserStats", "Peaks", "Levels"] {
        pipeline_of(&mut changed, dataset)["version"] = json!(version);
    }
    changed
}

impl Disk {
    pub(super) async fn write(&self, user: &str, value: Vec<u8>) {
        let key = key::encode_key(&[Value::str(user)]).unwrap();
        let partition = key::partition(&key, PARTITIONS);
        let records = vec![NewRecord::new(key, value)];
        self.log.append(vec![Batch { topic: "Order.v1".to_string(), partition, records }]).await.unwrap();
    }

    /// An order of `user`, so many minutes before T0.
    pub(super) async fn order(&self, user: &str, ago: i64) {
        let event_time = T0 - ago * MINUTE;
        let mut row = Vec::new();
        encode_row(&[Value::str(user), Value::Time(event_time), Value::str("s")], &mut row);
        let record = Record::Event { append_time: T0 - ago * MINUTE, event_time, id: EventId::None, row: &row };
        self.write(user, record.encode()).await;
    }
}

impl Node {
    async fn standing(
        &self,
        featureset: &str,
        key: (&str, Value),
        at: At,
        known_at: Option<KnownAt>,
    ) -> (Value, Standing) {
        let mut question = Question::online(featureset, [(key.0.to_string(), Given::from(key.1))].into());
        question.at = at;
        question.asking.known_at = known_at;
        let answer = self.query.answer(question).await.unwrap();
        (answer.columns[0].values[0].value.clone(), answer.standing)
    }

    pub(super) async fn now(&self, featureset: &str, key: (&str, Value)) -> Value {
        self.standing(featureset, key, At::Now, None).await.0
    }

    pub(super) async fn all_applied(&self) {
        until(async || self.engine.lag() == Some(0)).await;
    }

    async fn erases_worked_off(&self) {
        loop {
            self.all_applied().await;
            self.controller.work_off_erases().await.unwrap();
            let serving = self.controller.serving();
            if let (Some(live), None) = (&serving.live, &serving.building)
                && self.controller.erased_so_far(&live.compiled).await.unwrap() == live.compiled.definitions.erased
            {
                let _changing = self.controller.changing.lock().await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(super) fn user(name: &str) -> (&str, Value) {
    ("user_id", Value::str(name))
}

pub(super) fn all() -> (&'static str, Value) {
    ("all", Value::str("all"))
}

/// One user for each partition of the log.
pub(super) fn users() -> Vec<String> {
    let mut found: BTreeMap<u16, String> = BTreeMap::new();
    for name in (0..32).map(|number| format!("x{number}")) {
        found
            .entry(key::partition(&key::encode_key(&[Value::str(name.as_str())]).unwrap(), PARTITIONS))
            .or_insert(name);
    }
    assert_eq!(found.len(), usize::from(PARTITIONS));
    found.into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_rows_is_what_was_known_when_its_event_came() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = disk.start().await;
        let plan = node.commit(&chain(), |_| ()).await.unwrap().plan;
        let built: Vec<&str> = plan.built.iter().map(|item| item.identity.as_str()).collect();
        for identity in [
            "route:Order@1:shop",
            "route:UserStats@1:compute@1:user_id",
            "route:UserStats@1:compute@1:n",
            "route:ShopStats@1:compute@1:all.",
        ] {
            assert!(built.iter().any(|found| found.starts_with(identity)), "{identity} in {built:?}");
        }
        // 30, 25 and 24 minutes ago; then, late but not too late, 26.
        for ago in [30, 25, 24, 26] {
            disk.order("u1", ago).await;
        }
        node.all_applied().await;
        // The row of minute 24 counted 25 and 24 and 30, the late one 30, 26.
        assert_eq!(node.now("Users", user("u1")).await, Value::Int(3));
        let (at_25, standing) = node.standing("Users", user("u1"), At::Time(T0 - 25 * MINUTE), None).await;
        assert_eq!(at_25, Value::Int(2));
        assert!(!standing.is_final);
        for (count, rows) in [(1, 1), (2, 2), (3, 1), (4, 0)] {
            assert_eq!(node.now("Counts", ("n", Value::Int(count))).await, Value::Int(rows), "{count}");
        }
        assert_eq!(node.now("All", all()).await, Value::Int(3));
        // Before the first.
        assert_eq!(node.standing("All", all(), At::Time(T0 - 31 * MINUTE), None).await.0, Value::Null);
        node.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watermark_and_known_at_are_those_of_the_events() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = disk.start().await;
        node.commit(&chain(), |_| ()).await.unwrap();
        let users = users();
        disk.order(&users[0], 120).await;
        disk.order(&users[0], 20).await;
        node.all_applied().await;
        let at = || At::Time(T0 - 100 * MINUTE);
        // Rows that keep the key come from their own partition; by count they may come from any, and two are empty.
        let (_, own) = node.standing("Users", user(&users[0]), at(), None).await;
        assert_eq!((own.watermark, own.is_final), (Some(T0 - 80 * MINUTE), true));
        let (rows, any) = node.standing("Counts", ("n", Value::Int(1)), at(), None).await;
        assert_eq!((rows, any.watermark, any.is_final), (Value::Int(1), None, false));
        for name in &users[1..] {
            disk.order(name, 30).await;
        }
        node.all_applied().await;
        for (featureset, key) in [("Counts", ("n", Value::Int(1))), ("All", all())] {
            let (_, standing) = node.standing(featureset, key, at(), None).await;
            assert_eq!((standing.watermark, standing.is_final), (Some(T0 - 90 * MINUTE), true), "{featureset}");
        }

        // As of the position that an answer carried, and as of the time when events had come.
        let ones = ("n", Value::Int(1));
        let (before, standing) = node.standing("Counts", ones.clone(), At::Time(T0), None).await;
        assert_eq!(before, Value::Int(4));
        disk.order(&users[1], 5).await;
        node.all_applied().await;
        let position = Some(KnownAt::Position(standing.position));
        assert_eq!(node.standing("Counts", ones.clone(), At::Time(T0), None).await.0, Value::Int(5));
        assert_eq!(node.standing("Counts", ones.clone(), At::Time(T0), position).await.0, Value::Int(4));
        let then = Some(KnownAt::AppendTime(T0 - 30 * MINUTE));
        assert_eq!(node.standing("Counts", ones, At::Time(T0), then).await.0, Value::Int(3));
        node.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erase_leaves_rows_of_rows_by_a_takeover() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = disk.start().await;
        node.commit(&chain(), |_| ()).await.unwrap();
        // One after the other: their order in the repartition log is what the rows of the shop depend on.
        for (name, ago) in [("u1", 30), ("u1", 29), ("u2", 28)] {
            disk.order(name, ago).await;
            node.all_applied().await;
        }
        assert_eq!(node.now("All", all()).await, Value::Int(3));
        disk.write("u1", Record::Erase { append_time: T0 }.encode()).await;
        node.erases_worked_off().await;
        // As if there had been one order: nothing of u1 is in the rows of others either.
        assert_eq!(node.now("All", all()).await, Value::Int(1));
        assert_eq!(node.now("Users", user("u1")).await, Value::Null);
        for (count, rows) in [(1, 1), (2, 0)] {
            assert_eq!(node.now("Counts", ("n", Value::Int(count))).await, Value::Int(rows), "{count}");
        }
        let logs: Vec<String> = disk.log.topics().unwrap().into_iter().map(|(topic, _)| topic).collect();
        let by_all: Vec<&String> =
            logs.iter().filter(|topic| topic.starts_with("ShopStats.v1.compute.v1.by.all")).collect();
        assert!(by_all.len() == 1 && by_all[0].contains(".erased"), "{logs:?}");

        // It goes on, also after a restart on an empty state.
        for (name, ago) in [("u1", 10), ("u2", 9)] {
            disk.order(name, ago).await;
            node.all_applied().await;
        }
        node.stop();
        let other = disk.open(disk.no_states(), Role::Owner);
        other.lead().await.unwrap();
        while other.controller.being_built().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        other.all_applied().await;
        assert_eq!(other.now("All", all()).await, Value::Int(2));
        assert_eq!(other.now("Users", user("u1")).await, Value::Int(1));
        assert_eq!(other.now("Counts", ("n", Value::Int(1))).await, Value::Int(3));
        other.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_go_along_the_chain_and_readers_come_and_go() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = disk.start().await;
        node.commit(&chain(), |_| ()).await.unwrap();
        for ago in [30, 25, 24] {
            disk.order("u1", ago).await;
        }
        node.all_applied().await;

        let mut unread = other_rows(2, "2m");
        for dataset in ["Peaks", "Levels"] {
            pipeline_of(&mut unread, dataset)["version"] = json!(1);
        }
        let refused = node.commit(&unread, |_| ()).await.unwrap_err();
        for part in
            ["Peaks.compute", "Levels.compute", "it reads UserStats@1 by compute@2 instead of UserStats@1 by compute@1"]
        {
            assert!(refused.contains(part), "{part} in {refused}");
        }
        let id = node.commit(&other_rows(2, "2m"), |_| ()).await.unwrap().commit.unwrap().id;
        node.wait_live(&id).await;
        assert_eq!(node.now("Users", user("u1")).await, Value::Int(2));
        assert_eq!(node.now("Counts", ("n", Value::Int(1))).await, Value::Int(2));
        let topics = |disk: &Disk| -> Vec<String> {
            let topics = disk.log.topics().unwrap().into_iter().map(|(topic, _)| topic);
            topics.filter(|topic| topic.starts_with("UserStats.")).collect()
        };
        while topics(&disk) != ["UserStats.v1.compute.v2.by.n", "UserStats.v1.compute.v2.by.user_id"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }

        // What is read cannot go; without its readers it keeps its table and loses the logs of its rows.
        let nothing = json!({"format": 1});
        let remove = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let refused = node.commit(&nothing, |request| request.remove = remove(&["UserStats"])).await.unwrap_err();
        assert!(refused.contains("Peaks.compute") && refused.contains("Levels.compute"), "{refused}");
        let gone = remove(&["Users", "Peaks", "Counts", "Levels"]);
        let plan = node.commit(&nothing, |request| request.remove = gone).await.unwrap().plan;
        let dropped: Vec<&str> = plan.dropped.iter().map(|item| item.identity.as_str()).collect();
        assert_eq!(
            dropped,
            [
                "pipeline:Levels.compute@2",
                "pipeline:Peaks.compute@2",
                "route:UserStats@1:compute@2:n",
                "route:UserStats@1:compute@2:user_id"
            ]
        );
        while !topics(&disk).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(node.now("All", all()).await, Value::Int(3));
        node.stop();
    }
}

/// Both serve [`chain`].
async fn owner_and_follower(disk: &Disk) -> (Node, Node) {
    let owner = disk.start().await;
    let first = owner.commit(&chain(), |_| ()).await.unwrap().commit.unwrap().id;
    let follower = disk.open(disk.no_states(), Role::Follower);
    nodes::until_it_serves(&follower, &first).await;
    (owner, follower)
}

/// The owner fills no more what only the version before it reads, and a follower that is late cannot wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_takes_over_although_rows_have_come_since() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let (owner, follower) = owner_and_follower(&disk).await;
        disk.order("u1", 30).await;
        owner.all_applied().await;
        let next = owner.commit(&other_rows(2, "2m"), |_| ()).await.unwrap().commit.unwrap().id;
        owner.wait_live(&next).await;
        disk.order("u1", 20).await;
        owner.all_applied().await;
        nodes::until_it_serves(&follower, &next).await;
        follower.all_applied().await;
        assert_eq!(follower.now("Counts", ("n", Value::Int(1))).await, Value::Int(2));
        owner.stop();
        follower.stop();
    }
}

/// A follower that does not look at the catalog while the owner builds anew what an erase reached, takes over, deletes the older logs and stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_promoted_that_serves_what_was_made_from_logs_that_are_deleted() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let (owner, follower) = owner_and_follower(&disk).await;
        for (name, ago) in [("u1", 30), ("u1", 29), ("u2", 28)] {
            disk.order(name, ago).await;
            owner.all_applied().await;
        }
        follower.all_applied().await;
        assert_eq!(follower.now("All", all()).await, Value::Int(3));
        let of_rows = "pipeline:Top.compute@1".to_string();
        let old = disk.catalog.find_ids(std::slice::from_ref(&of_rows)).await.unwrap()[&of_rows];
        disk.write("u1", Record::Erase { append_time: T0 }.encode()).await;
        owner.erases_worked_off().await;
        let topics = || -> Vec<String> { disk.log.topics().unwrap().into_iter().map(|(topic, _)| topic).collect() };
        let left = topics();
        owner.stop();

        assert_eq!(follower.now("All", all()).await, Value::Int(3), "it has not seen the takeover");
        follower.lead().await.unwrap();
        let live = disk.catalog.live_commit().await.unwrap().unwrap().id;
        for _ in 0..2000 {
            let serving = follower.controller.serving();
            if serving.building.is_none() && serving.live.as_ref().is_some_and(|version| *version.commit_id == *live) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(follower.query.commit_id().as_deref(), Some(live.as_str()), "{:?}", follower.engine.trouble());
        assert!(follower.controller.serving().building.is_none(), "{:?}", follower.engine.trouble());
        assert_eq!(topics(), left, "a log that is deleted is not made again");
        assert_eq!(follower.now("All", all()).await, Value::Int(1));
        let progress = follower.all_progress();
        assert!(progress.iter().all(|(consumer, ..)| *consumer != old), "the older table is dropped here too");
        // It owns the work.
        disk.order("u2", 27).await;
        follower.all_applied().await;
        assert_eq!(follower.now("All", all()).await, Value::Int(2));
        follower.stop();
    }
}
