//! Erases of a dataset with a pipeline that groups it by another key: the table is built anew and takes over, like a commit.

use super::*;

const TABLE: &str = "pipeline:ShopStats.count@1";

/// `Order` by user, counted by shop.
fn by_shop() -> Json {
    let key = |name: &str| json!({"name": name, "type": "str", "key": true});
    json!({
        "format": 1,
        "datasets": [
            {"name": "Order", "version": 1, "index": false,
             "fields": [key("user_id"), field("ts", "datetime"), field("shop", "str")]},
            {"name": "ShopStats", "version": 1, "index": true,
             "fields": [key("shop"), field("ts", "datetime"), field("n", "int")]},
        ],
        "pipelines": [{"name": "count", "version": 1, "dataset": "ShopStats", "input": "Order", "group_by": ["shop"],
            "aggregates": [{"name": "n", "op": {"kind": "count"}, "window": "1d"}]}],
        "featuresets": [{"name": "Shops", "features": [
            {"name": "shop", "type": "str"},
            {"name": "n", "type": "int", "ref": {"dataset": "ShopStats", "field": "n"}},
        ]}],
    })
}

/// The same with a feature more: a commit that is no erase.
fn by_shop_with(name: &str) -> Json {
    let mut definitions = by_shop();
    let feature = json!({"name": name, "type": "int", "ref": {"dataset": "ShopStats", "field": "n"}});
    definitions["featuresets"][0]["features"].as_array_mut().unwrap().push(feature);
    definitions
}

impl Disk {
    async fn append(&self, user: &str, values: impl IntoIterator<Item = Vec<u8>>) {
        let key = key::encode_key(&[Value::str(user)]).unwrap();
        let partition = key::partition(&key, key::DEFAULT_PARTITIONS);
        let records = values.into_iter().map(|value| NewRecord::new(key.clone(), value)).collect();
        self.log.append(vec![Batch { topic: "Order.v1".to_string(), partition, records }]).await.unwrap();
    }

    /// So many events of `user` at the one shop.
    async fn visits(&self, user: &str, count: i64) {
        self.visits_to("s", user, count).await;
    }

    /// An event elsewhere in every partition, so that a router knows its place in each without a look at what it has sent: behind a
    /// shut gate there is none.
    pub(super) async fn visits_everywhere(&self) {
        let users = (0..64).map(|number| format!("x{number}"));
        let partition =
            |user: &str| key::partition(&key::encode_key(&[Value::str(user)]).unwrap(), key::DEFAULT_PARTITIONS);
        let by_partition: BTreeMap<u16, String> = users.map(|user| (partition(&user), user)).collect();
        assert_eq!(by_partition.len(), usize::from(key::DEFAULT_PARTITIONS));
        for user in by_partition.values() {
            self.visits_to("t", user, 1).await;
        }
    }

    pub(super) async fn visits_to(&self, shop: &str, user: &str, count: i64) {
        let record = |number: i64| {
            let event_time = T0 - number * MINUTE;
            let mut row = Vec::new();
            encode_row(&[Value::str(user), Value::Time(event_time), Value::str(shop)], &mut row);
            Record::Event { append_time: T0, event_time, id: EventId::None, row: &row }.encode()
        };
        self.append(user, (0..count).map(record)).await;
    }

    async fn erase(&self, user: &str) {
        self.append(user, [Record::Erase { append_time: T0 }.encode()]).await;
    }

    /// The place after an erase that is the last record of the user's partition, the only one with an erase.
    fn place_after(&self, user: &str) -> u64 {
        let key = key::encode_key(&[Value::str(user)]).unwrap();
        self.log.end_offset("Order.v1", key::partition(&key, key::DEFAULT_PARTITIONS)).unwrap()
    }

    async fn commits(&self) -> usize {
        self.catalog.commits(100, None).await.unwrap().len()
    }

    /// The tables of the pipeline that the catalog has ids of, whatever they leave out.
    async fn tables(&self, sums: impl IntoIterator<Item = u64>) -> Vec<String> {
        let mut names = vec![TABLE.to_string()];
        names.extend(sums.into_iter().map(|sum| format!("{TABLE}+erased{sum}")));
        self.catalog.find_ids(&names).await.unwrap().into_keys().collect()
    }
}

impl Node {
    async fn settled(&self) {
        // Through the repartition log too.
        while self.engine.lag() != Some(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn visits(&self) -> Value {
        let mut question = Question::online("Shops", [("shop".to_string(), Given::from(Value::str("s")))].into());
        question.features = Some(vec!["n".to_string()]);
        self.query.answer(question).await.unwrap().columns[0].values[0].value.clone()
    }

    fn is_building(&self) -> bool {
        self.controller.serving().building.is_some()
    }

    /// As the server does it while this node owns the work, until nothing erased is left anywhere and the last takeover is through.
    async fn work_off(&self) {
        loop {
            self.settled().await;
            self.controller.work_off_erases().await.unwrap();
            let serving = self.controller.serving();
            if let (Some(live), None) = (&serving.live, &serving.building)
                && self.controller.erased_so_far(&live.compiled).await.unwrap() == live.compiled.definitions.erased
            {
                drop(self.controller.changing.lock().await);
                // What the last version had is deleted when its slices have noted the takeover.
                self.controller.keep_up().await.unwrap();
                if self.controller.leftovers.lock().is_empty() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A node that serves 5 events of `ann` and 7 of `bob`.
async fn serving(disk: &Disk) -> Node {
    let node = disk.start().await;
    node.commit(&by_shop(), |_| ()).await.unwrap();
    disk.visits_everywhere().await;
    disk.visits("ann", 5).await;
    disk.visits("bob", 7).await;
    node.settled().await;
    assert_eq!(node.visits().await, Value::Int(12));
    node
}

/// The same, and an erase of `ann` that has been read.
async fn erased(disk: &Disk) -> Node {
    let node = serving(disk).await;
    disk.erase("ann").await;
    node.settled().await;
    node
}

/// The same, with the build that it asks for begun and held at its start.
async fn pending(disk: &Disk) -> Node {
    let node = erased(disk).await;
    disk.shut(true);
    node.controller.work_off_erases().await.unwrap();
    assert!(node.is_building());
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_leaves_by_a_takeover() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = pending(&disk).await;
        let place = disk.place_after("ann");
        assert_eq!(node.visits().await, Value::Int(12), "until the takeover the old table serves");
        let builds = node.controller.status().unwrap().builds;
        assert_eq!(builds.len(), 1);
        assert_eq!(builds[0].pipeline, format!("ShopStats.count@1+erased{place}"));
        let shown = node.controller.commit_view("").await.unwrap();
        assert_eq!(shown.message, "keys erased from Order leave what is grouped by another key");

        let refused = node.commit(&by_shop_with("more"), |_| ()).await.unwrap_err();
        assert!(refused.contains("keys erased from Order") && refused.contains("--supersede"), "{refused}");

        disk.shut(false);
        node.work_off().await;
        assert_eq!(node.visits().await, Value::Int(7));
        assert_eq!(disk.tables([place]).await, [format!("{TABLE}+erased{place}")], "the old table is gone");
        assert_eq!(disk.commits().await, 2);
        // Nothing more to do, however often it is looked for, and the same definitions are what is live.
        node.work_off().await;
        let live = disk.catalog.live_commit().await.unwrap().unwrap().id;
        let again = node.commit(&by_shop(), |_| ()).await.unwrap();
        assert_eq!((again.commit.unwrap().id, again.plan.is_empty()), (live, true));
        assert_eq!(disk.commits().await, 2);
        // Later events of the key start afresh.
        disk.visits("ann", 2).await;
        node.settled().await;
        assert_eq!(node.visits().await, Value::Int(9));
        node.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_erase_while_the_first_is_pending_has_its_turn() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = pending(&disk).await;
        disk.erase("bob").await;
        disk.erase("ann").await;
        disk.shut(false);
        node.work_off().await;
        assert_eq!(node.visits().await, Value::Int(0));
        assert_eq!(disk.commits().await, 3);
        assert_eq!(disk.tables(0..40).await.len(), 1);
        node.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erase_waits_for_the_commit_that_is_being_built() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = serving(&disk).await;
        disk.shut(true);
        let mut changed = by_shop();
        changed["pipelines"][0]["version"] = json!(2);
        changed["pipelines"][0]["aggregates"][0]["window"] = json!("2d");
        let id = node.commit(&changed, |_| ()).await.unwrap().commit.unwrap().id;
        disk.erase("ann").await;
        node.controller.work_off_erases().await.unwrap();
        assert_eq!(disk.commits().await, 2);
        disk.shut(false);
        node.wait_live(&id).await;
        node.work_off().await;
        assert_eq!(node.visits().await, Value::Int(7));
        assert_eq!(disk.commits().await, 3);
        node.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_supersedes_takes_the_erase_along() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = pending(&disk).await;
        let id =
            node.commit(&by_shop_with("more"), |request| request.supersede = true).await.unwrap().commit.unwrap().id;
        disk.shut(false);
        node.wait_live(&id).await;
        assert_eq!(node.visits().await, Value::Int(7));
        node.work_off().await;
        assert_eq!(disk.commits().await, 3, "nothing is left to build");
        node.stop();
    }
}

/// A commit is told by what was asked for, so what was erased in between makes no other one of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_commit_once_more_is_the_same_one() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = erased(&disk).await;
        disk.shut(true);
        let begun = node.commit(&by_shop(), |_| ()).await.unwrap().commit.unwrap().id;
        assert!(node.is_building(), "it takes the erase along");
        node.controller.work_off_erases().await.unwrap();
        let again = node.commit(&by_shop(), |_| ()).await.unwrap().commit.unwrap().id;
        assert_eq!((again, disk.commits().await), (begun.clone(), 2));
        disk.shut(false);
        node.wait_live(&begun).await;
        assert_eq!(node.visits().await, Value::Int(7));
        let all = disk.catalog.commits(100, None).await.unwrap();
        let contents: Vec<&str> = all.iter().map(|commit| commit.content_hash.as_str()).collect();
        assert_eq!(contents, [contents[0]; 2]);
        node.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_with_it_or_begins_it() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        // The erase is in the log, and nobody has begun anything.
        erased(&disk).await.stop();
        let node = disk.start().await;
        disk.shut(true);
        node.controller.work_off_erases().await.unwrap();
        assert!(node.is_building());
        // In the midst of the build.
        node.stop();
        let node = disk.start().await;
        assert!(node.is_building());
        assert_eq!(node.visits().await, Value::Int(12));
        disk.shut(false);
        node.work_off().await;
        assert_eq!(node.visits().await, Value::Int(7));
        node.stop();
        // On a new disk: from the log, with the copies of the erased events in the repartition log.
        let node = disk.open(disk.no_states(), Role::Owner);
        node.lead().await.unwrap();
        while node.controller.being_built().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(node.visits().await, Value::Int(7));
        assert_eq!(disk.commits().await, 2);
        node.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_was_cut_short_leaves_nothing_behind() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = pending(&disk).await;
        let place = disk.place_after("ann");
        let building = node.controller.serving().building.as_ref().unwrap().commit_id.clone();
        node.stop();
        // The catalog was written, and then the server was gone.
        disk.catalog.activate_commit(&building, T0, &[]).await.unwrap();
        disk.shut(false);
        let node = disk.start().await;
        node.work_off().await;
        assert_eq!(node.visits().await, Value::Int(7));
        assert_eq!(disk.tables([place]).await, [format!("{TABLE}+erased{place}")]);
        node.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_builds_it_and_takes_it_over_too() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let owner = erased(&disk).await;
        let follower = disk.open(disk.no_states(), Role::Follower);
        let live = disk.catalog.live_commit().await.unwrap().unwrap().id;
        super::nodes::until_it_serves(&follower, &live).await;
        assert_eq!(follower.visits().await, Value::Int(12));
        follower.controller.work_off_erases().await.unwrap();
        assert_eq!(disk.commits().await, 1, "to begin it is the owner's");
        owner.work_off().await;
        let live = disk.catalog.live_commit().await.unwrap().unwrap().id;
        super::nodes::until_it_serves(&follower, &live).await;
        assert_eq!(follower.visits().await, Value::Int(7));
        // A replica that begins only now never had the erased events.
        let late = disk.open(disk.no_states(), Role::Follower);
        super::nodes::until_it_serves(&late, &live).await;
        assert_eq!(late.visits().await, Value::Int(7));
        [owner, follower, late].into_iter().for_each(Node::stop);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_comes_later_knows_what_was_erased() {
    for slices in SLICES {
        let disk = Disk::sliced(slices).await;
        let node = disk.start().await;
        let mut alone = by_shop();
        alone["pipelines"] = json!([]);
        alone["featuresets"] = json!([]);
        alone["datasets"].as_array_mut().unwrap().pop();
        node.commit(&alone, |_| ()).await.unwrap();
        disk.visits("ann", 5).await;
        disk.visits("bob", 7).await;
        disk.erase("ann").await;
        node.settled().await;
        node.work_off().await;
        assert_eq!(disk.commits().await, 1, "no table holds anything that is erased");
        let id = node.commit(&by_shop(), |_| ()).await.unwrap().commit.unwrap().id;
        node.wait_live(&id).await;
        assert_eq!(node.visits().await, Value::Int(7));
        node.work_off().await;
        assert_eq!(disk.commits().await, 2);

        let own = json!({"format": 1, "erased": {"Order@1": [9, 9, 9, 9]}});
        let refused = node.commit(&own, |_| ()).await.unwrap_err();
        assert!(refused.contains("kept by the server"), "{refused}");
        node.stop();
    }
}
