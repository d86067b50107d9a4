//! Datasets and pipelines that are refused, with every message.

use super::{check_refused, compile, example, set};

#[test]
fn datasets() {
    check_refused(&[
        (
            &[("Order/name", "\"my order\"")],
            &[
                "features.py:4: dataset 'my order': not a name for a dataset: 'my order' (hint: a name is a letter or underscore, then letters, digits and underscores)",
                "features.py:22: pipeline 'UserStats.compute': reads the unknown dataset 'Order' (hint: did you mean 'my order'?)",
                "features.py:37: pipeline 'CategoryStats.by_category': reads the unknown dataset 'Order' (hint: did you mean 'my order'?)",
            ],
        ),
        (&[("Order/version", "0")], &["features.py:4: dataset 'Order': versions begin at 1"]),
        (&[("Order/fields/2/name", "\"ts\"")], &["features.py:4: dataset 'Order': field 'ts' occurs twice"]),
        (
            &[("Order/fields/0/key", "false")],
            &["features.py:4: dataset 'Order': no key field (hint: mark at least one field with field(key=True))"],
        ),
        (
            &[("Order/fields/0/type", "\"float\"")],
            &[
                "features.py:4: dataset 'Order': key field 'user_id' is float (hint: a key is bool, int, str, bytes or datetime)",
            ],
        ),
        (
            &[("Order/fields/0/nullable", "true")],
            &["features.py:4: dataset 'Order': key field 'user_id' cannot be Optional"],
        ),
        (
            &[("Order/fields/1/timestamp", "false")],
            &[
                "features.py:4: dataset 'Order': a dataset has exactly one timestamp field, found none (hint: mark one datetime field with field(timestamp=True))",
            ],
        ),
        (
            &[("Order/fields/2/timestamp", "true")],
            &[
                "features.py:4: dataset 'Order': a dataset has exactly one timestamp field, found ts, amount (hint: mark one datetime field with field(timestamp=True))",
            ],
        ),
        (
            &[("Order/fields/1/type", "\"int\"")],
            &["features.py:4: dataset 'Order': timestamp field 'ts' must be datetime, not int"],
        ),
        (
            &[("Order/fields/1/nullable", "true")],
            &["features.py:4: dataset 'Order': timestamp field 'ts' cannot be Optional"],
        ),
        (
            &[("Order/fields/1/key", "true")],
            &["features.py:4: dataset 'Order': field 'ts' cannot be both key and timestamp"],
        ),
        (
            &[("Order/history", "\"1month\"")],
            &[
                "features.py:4: dataset 'Order': history: not a length of time: '1month' (hint: write one or more <integer><unit> with units s m h d w, such as 90s or 1d12h)",
            ],
        ),
        (
            &[("Order/history", "\"59m\"")],
            &[
                "features.py:4: dataset 'Order': history 59m is shorter than max_lateness 1h (hint: history= must be at least 1h)",
            ],
        ),
        (
            &[("Order/history", "\"30d\""), ("Order/source", "null")],
            &[
                "features.py:4: dataset 'Order': history needs max_lateness: without it there is no watermark to count from (hint: set max_lateness=, or leave history= out: everything is kept)",
            ],
        ),
        (
            &[("Order/history", "\"30d\""), ("UserStats/emit", "true")],
            &[
                "features.py:22: pipeline 'UserStats.compute': emit of 'UserStats' needs all events of 'Order', which lets them go (history=30d) (hint: leave history= out of 'Order', or emit=True out of 'UserStats')",
            ],
        ),
        (
            &[("UserStats/history", "\"30d\"")],
            &[
                "features.py:14: dataset 'UserStats': history has no meaning on a dataset that pipelines fill (hint: set it on the dataset that they read)",
            ],
        ),
        (
            &[("Order/max_lateness", "\"1month\"")],
            &[
                "features.py:4: dataset 'Order': max_lateness: not a length of time: '1month' (hint: write one or more <integer><unit> with units s m h d w, such as 90s or 1d12h)",
            ],
        ),
        (
            &[("Order/max_future", "\"forever\""), ("Order/dedup_window", "\"7\"")],
            &[
                "features.py:4: dataset 'Order': max_future: not a length of time: 'forever' (hint: write one or more <integer><unit> with units s m h d w, such as 90s or 1d12h)",
                "features.py:4: dataset 'Order': dedup_window: not a length of time: '7' (hint: write one or more <integer><unit> with units s m h d w, such as 90s or 1d12h)",
            ],
        ),
        (&[("Order/partitions", "0")], &["features.py:4: dataset 'Order': partitions must be from 1 to 256, got 0"]),
        (
            &[("Order/partitions", "257")],
            &["features.py:4: dataset 'Order': partitions must be from 1 to 256, got 257"],
        ),
        (
            &[("Order/emit", "true")],
            &[
                "features.py:4: dataset 'Order': emit has no meaning on a dataset that no pipeline fills (hint: its log already is a topic with its events: leave emit out)",
            ],
        ),
        (
            &[("UserStats/max_lateness", "\"1h\""), ("UserStats/partitions", "4")],
            &[
                "features.py:14: dataset 'UserStats': max_lateness has no meaning on a dataset that pipelines fill (hint: set it on the dataset that they read)",
                "features.py:14: dataset 'UserStats': partitions has no meaning on a dataset that pipelines fill (hint: set it on the dataset that they read)",
            ],
        ),
        (
            &[(
                "datasets/-",
                r#"{"name": "Order", "version": 1, "index": false, "fields": [], "location": {"file": "b.py", "line": 1}}"#,
            )],
            &[
                "b.py:1: dataset 'Order': the name is taken by a dataset (hint: the other is at features.py:4)",
                "b.py:1: dataset 'Order': no key field (hint: mark at least one field with field(key=True))",
                "b.py:1: dataset 'Order': a dataset has exactly one timestamp field, found none (hint: mark one datetime field with field(timestamp=True))",
            ],
        ),
        (
            &[("format", "2")],
            &[
                "definitions of format 2, this server reads format 1 (hint: update the side that is older: server or SDK)",
            ],
        ),
    ]);
}

#[test]
fn sources() {
    check_refused(&[
        (
            &[("Order/source/kind", "\"kinesis\"")],
            &[
                "features.py:4: source of dataset 'Order': sources of kind 'kinesis' are not in this release (hint: use FileSource, KafkaSource or PostgresSource)",
            ],
        ),
        (
            &[
                ("Order/source/kind", "\"kafka\""),
                ("Order/source/settings", "{}"),
                ("Order/source/cursor", "\"ts\""),
                ("Order/source/every", "\"1s\""),
            ],
            &[
                "features.py:4: source of dataset 'Order': a Kafka source needs a topic",
                "features.py:4: source of dataset 'Order': a source of kind 'kafka' takes no cursor (hint: leave cursor out: a topic has an order of its own and is followed as it grows)",
                "features.py:4: source of dataset 'Order': a source of kind 'kafka' takes no every (hint: leave every out: a topic has an order of its own and is followed as it grows)",
            ],
        ),
        (
            &[("Order/source/kind", "\"postgres\""), ("Order/source/settings", "{}")],
            &["features.py:4: source of dataset 'Order': a PostgreSQL source needs a table"],
        ),
        (
            &[("Order/source/cdc", "\"upsert\"")],
            &[
                "features.py:4: source of dataset 'Order': cdc 'upsert' is not in this release (hint: use cdc=\"append\": each row is an event)",
            ],
        ),
        (
            &[("Order/source/cdc", "\"apend\"")],
            &["features.py:4: source of dataset 'Order': unknown cdc 'apend' (hint: allowed: append)"],
        ),
        (
            &[("Order/source/cursor", "\"t\"")],
            &[
                "features.py:4: source of dataset 'Order': cursor names the unknown field 't' (hint: did you mean 'ts'?)",
            ],
        ),
        (
            &[("Order/source/every", "\"5\""), ("Order/source/settings", "{}")],
            &[
                "features.py:4: source of dataset 'Order': a file source needs a path",
                "features.py:4: source of dataset 'Order': every: not a length of time: '5' (hint: write one or more <integer><unit> with units s m h d w, such as 90s or 1d12h)",
            ],
        ),
        (
            &[("Order/source/max_lateness", "\"0s\""), ("Order/source/location", r#"{"file": "s.py", "line": 3}"#)],
            &[
                "s.py:3: source of dataset 'Order': max_lateness: not a length of time: '0s' (hint: write one or more <integer><unit> with units s m h d w, such as 90s or 1d12h)",
            ],
        ),
        (
            &[("UserStats/source", r#"{"kind": "file", "settings": {"path": "x"}, "cdc": "append"}"#)],
            &["features.py:14: source of dataset 'UserStats': a dataset that pipelines fill takes no source"],
        ),
    ]);
}

#[test]
fn pipelines() {
    check_refused(&[
        (
            &[("compute/input", "\"Ordr\"")],
            &[
                "features.py:22: pipeline 'UserStats.compute': reads the unknown dataset 'Ordr' (hint: did you mean 'Order'?)",
            ],
        ),
        (&[("compute/version", "0")], &["features.py:22: pipeline 'UserStats.compute': versions begin at 1"]),
        (
            &[("compute/steps/0/expr", r#"{"col": "amuont"}"#)],
            &[
                "features.py:22: pipeline 'UserStats.compute': filter: unknown column 'amuont' (hint: did you mean 'amount'?)",
            ],
        ),
        (
            &[("compute/steps/0/expr", r#"{"col": "amount"}"#)],
            &["features.py:22: pipeline 'UserStats.compute': filter takes a bool expression, got float"],
        ),
        (
            &[("compute/steps/1/columns/0/name", "\"ts\"")],
            &[
                "features.py:22: pipeline 'UserStats.compute': assign 'ts': the timestamp cannot be replaced (hint: an event's time is that of its dataset's timestamp field; assign to another name)",
            ],
        ),
        (
            &[("compute/steps/1/columns/0/expr", r#"{"call": {"op": "lower", "args": [{"col": "items"}]}}"#)],
            &["features.py:22: pipeline 'UserStats.compute': assign 'net': 'lower' takes str, got int"],
        ),
        (
            &[("compute/group_by", "[]")],
            &[
                "features.py:22: pipeline 'UserStats.compute': groupby without a column",
                "features.py:22: pipeline 'UserStats.compute': groups by nothing, but the key of 'UserStats' is user_id (hint: group by the key fields of the dataset that the pipeline fills; rename with assign where names differ)",
            ],
        ),
        (
            &[("compute/group_by", "[\"userid\"]")],
            &[
                "features.py:22: pipeline 'UserStats.compute': groupby names the unknown column 'userid' (hint: did you mean 'user_id'?)",
                "features.py:22: pipeline 'UserStats.compute': groups by userid, but the key of 'UserStats' is user_id (hint: group by the key fields of the dataset that the pipeline fills; rename with assign where names differ)",
            ],
        ),
        (
            &[("compute/group_by", "[\"amount\"]")],
            &[
                "features.py:22: pipeline 'UserStats.compute': groupby column 'amount' is float (hint: a key is bool, int, str, bytes or datetime)",
                "features.py:22: pipeline 'UserStats.compute': groups by amount, but the key of 'UserStats' is user_id (hint: group by the key fields of the dataset that the pipeline fills; rename with assign where names differ)",
            ],
        ),
        (
            &[("UserStats/fields/0/type", "\"int\""), ("UserFeatures/features/0/type", "\"int\"")],
            &[
                "features.py:22: pipeline 'UserStats.compute': groupby column 'user_id' is str, but the key field of 'UserStats' is int",
            ],
        ),
        (&[("compute/aggregates", "[]")], &["features.py:22: pipeline 'UserStats.compute': no aggregates"]),
        (
            &[("compute/aggregates/1/of", "\"nett\"")],
            &[
                "features.py:22: pipeline 'UserStats.compute': aggregate 'spend_7d': unknown column 'nett' (hint: did you mean 'net'?)",
            ],
        ),
        (
            &[("compute/aggregates/2/where", r#"{"col": "items"}"#)],
            &[
                "features.py:22: pipeline 'UserStats.compute': aggregate 'biggest_7d': where takes a bool expression, got int",
            ],
        ),
        (
            &[("compute/aggregates/1/name", "\"spend_1d\"")],
            &[
                "features.py:22: pipeline 'UserStats.compute': aggregate 'spend_1d' fills no field of 'UserStats' (hint: did you mean 'spend_7d'?)",
            ],
        ),
        (
            &[("compute/aggregates/0/name", "\"user_id\"")],
            &["features.py:22: pipeline 'UserStats.compute': aggregate 'user_id' cannot fill a key of 'UserStats'"],
        ),
        (
            &[("UserStats/fields/2/type", "\"float\""), ("UserFeatures/features/1/type", "\"float\"")],
            &[
                "features.py:22: pipeline 'UserStats.compute': aggregate 'orders_1h' gives int, but the field 'UserStats.orders_1h' is float (hint: declare UserStats.orders_1h: int, or aggregate to_float of the column)",
            ],
        ),
        (
            &[("UserStats/fields/-", r#"{"name": "extra", "type": "int"}"#)],
            &[
                "features.py:14: dataset 'UserStats': field 'extra' is filled by no pipeline (hint: add extra=... to an aggregate(...), or remove the field)",
            ],
        ),
        (
            &[(
                "pipelines/-",
                r#"{"name": "more", "version": 1, "dataset": "UserStats", "input": "Order", "group_by": ["user_id"],
            "aggregates": [{"name": "orders_1h", "op": {"kind": "count"}, "window": "1h"}]}"#,
            )],
            &[
                "features.py:14: dataset 'UserStats': field 'orders_1h' is filled by two pipelines: 'UserStats.compute' and 'UserStats.more'",
            ],
        ),
        (
            &[
                ("by_category/name", "\"compute\""),
                ("by_category/dataset", "\"UserStats\""),
                ("by_category/group_by", "[\"user_id\"]"),
                ("by_category/aggregates/0/name", "\"orders_1h\""),
                ("UserFeatures/features/5", "null"),
            ],
            &["features.py:37: pipeline 'UserStats.compute' is defined twice"],
        ),
        (
            &[("by_category/dataset", "\"CategoryStat\""), ("UserFeatures/features/5", "null")],
            &[
                "features.py:37: pipeline 'CategoryStat.by_category': fills the unknown dataset 'CategoryStat' (hint: did you mean 'CategoryStats'?)",
            ],
        ),
    ]);
}

/// What the JSON form itself refuses, with the name at fault.
#[test]
fn unknown_names_in_the_document() {
    for (path, value, expected) in [
        ("Order/indx", "true", "unknown field `indx`"),
        ("Order/fields/2/type", "\"decimal\"", "unsupported type 'decimal'"),
        ("compute/aggregates/0/window", "\"1month\"", "not a window: '1month'"),
        ("compute/aggregates/0/op", r#"{"kind": "median"}"#, "unknown variant `median`"),
        ("compute/steps/0", r#"{"op": "join"}"#, "unknown variant `join`"),
        ("compute/steps/0/expr", r#"{"call": {"op": "plus", "args": []}}"#, "unknown variant `plus`"),
        ("UserFeatures/features/0/requested", "true", "unknown field `requested`"),
    ] {
        let mut json = example();
        set(&mut json, path, value);
        let error = serde_json::from_value::<super::Definitions>(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{path}: {error}");
    }
    assert!(compile(&super::Definitions { format: 1, ..Default::default() }).is_ok());
}
