//! Featuresets that are refused, with every message.

use super::check_refused;

const SECOND: &str = r#"{"name": "B", "features": [
    {"name": "user", "type": "str"}, {"name": "big", "type": "bool"}],
    "extractors": [{"name": "e", "version": 1, "inputs": [{"featureset": "UserFeatures", "feature": "spend_7d"}], "outputs": ["big"],
    "style": "dict", "module": "m", "qualname": "B.e", "source_hash": "", "location": {"file": "b.py", "line": 9}}]}"#;

#[test]
fn features() {
    check_refused(&[
        (
            &[
                ("UserFeatures/name", "\"Order\""),
                ("UserFeatures/extractors", "[]"),
                ("UserFeatures/features", r#"[{"name": "uid", "type": "str"}]"#),
            ],
            &[
                "features.py:43: featureset 'Order': the name is taken by a dataset (hint: the other is at features.py:4)",
            ],
        ),
        (
            &[("UserFeatures/features/5/id", "2")],
            &[
                "features.py:43: featureset 'UserFeatures': features 'orders_1h' and 'category_orders' have the same id 2 (hint: ids are unique within a featureset and never used again)",
            ],
        ),
        (
            &[("UserFeatures/features/-", r#"{"name": "uid", "type": "str", "request": true}"#)],
            &["features.py:43: featureset 'UserFeatures': feature 'uid' occurs twice"],
        ),
        (
            &[("UserFeatures/features/-", r#"{"name": "uid__status", "type": "str", "request": true}"#)],
            &[
                "features.py:43: featureset 'UserFeatures': feature 'uid__status': names that end in __status are those of statuses",
            ],
        ),
        (
            &[("UserFeatures/features/-", r#"{"name": "x", "type": "float"}"#)],
            &[
                "features.py:43: feature 'UserFeatures.x': nothing produces it, so it is a key, but a key cannot be float (hint: give it a ref=, an extractor, or request=True)",
            ],
        ),
        (
            &[("UserFeatures/features/-", r#"{"name": "x", "type": "str", "nullable": true}"#)],
            &[
                "features.py:43: feature 'UserFeatures.x': nothing produces it, so it is a key, but a key cannot be Optional (hint: give it a ref=, an extractor, or request=True)",
            ],
        ),
        (
            &[("UserFeatures/features/-", r#"{"name": "ts", "type": "str"}"#)],
            &["features.py:43: feature 'UserFeatures.ts': a key cannot be named 'ts', which is a parameter of queries"],
        ),
        (
            &[
                ("UserFeatures/features/1/request", "true"),
                ("UserFeatures/features/1/location", r#"{"file": "f.py", "line": 45}"#),
            ],
            &["f.py:45: feature 'UserFeatures.orders_1h': ref and request=True exclude each other"],
        ),
        (
            &[("UserFeatures/features/2/request", "true")],
            &[
                "features.py:43: feature 'UserFeatures.spend_7d': it has request=True, and an extractor gives it too (hint: a feature comes from one place)",
            ],
        ),
        (
            &[
                ("UserFeatures/features/2/on", r#"{"a": "uid"}"#),
                ("UserFeatures/features/2/default", r#"{"float": 0.0}"#),
            ],
            &[
                "features.py:43: feature 'UserFeatures.spend_7d': on= needs ref=",
                "features.py:43: feature 'UserFeatures.spend_7d': default= needs ref= (hint: it replaces the value of an empty window; an extractor returns its own default)",
            ],
        ),
        (
            &[("UserFeatures/features/1/default", r#"{"float": 0.5}"#)],
            &["features.py:43: feature 'UserFeatures.orders_1h': the default 0.5 is not int"],
        ),
        (
            &[("UserFeatures/features/1/type", "\"float\""), ("UserFeatures/features/1/default", "null")],
            &[
                "features.py:43: feature 'UserFeatures.orders_1h': it is float, but 'UserStats.orders_1h' is int (hint: declare orders_1h: int)",
            ],
        ),
        (
            &[("UserFeatures/features/1/ref/dataset", "\"UserStat\"")],
            &[
                "features.py:43: feature 'UserFeatures.orders_1h': ref names the unknown dataset 'UserStat' (hint: did you mean 'UserStats'?)",
            ],
        ),
        (
            &[("UserFeatures/features/1/ref/field", "\"orders\"")],
            &[
                "features.py:43: feature 'UserFeatures.orders_1h': ref names the unknown field 'UserStats.orders' (hint: did you mean 'orders_1h'?)",
            ],
        ),
        (
            &[("UserFeatures/features/1/ref/field", "\"user_id\"")],
            &[
                "features.py:43: feature 'UserFeatures.orders_1h': ref names the key of 'UserStats', which no aggregate fills",
            ],
        ),
        (
            &[("CategoryStats/index", "false")],
            &[
                "features.py:43: feature 'UserFeatures.category_orders': ref names 'CategoryStats', which cannot be looked up (hint: declare it with @dataset(index=True): class CategoryStats)",
            ],
        ),
    ]);
}

#[test]
fn keys_are_bound() {
    check_refused(&[
        (
            &[
                ("UserFeatures/features/5/on", r#"{"categry": "basket_category"}"#),
                ("UserFeatures/features/-", r#"{"name": "second", "type": "int"}"#),
                ("UserFeatures/features/1", r#"{"name": "orders_1h", "type": "int", "request": true}"#),
            ],
            &[
                "features.py:43: feature 'UserFeatures.category_orders': on= names 'categry', which is no key of 'CategoryStats' (hint: did you mean 'category'?)",
                "features.py:43: feature 'UserFeatures.category_orders': nothing binds the key 'CategoryStats.category' (hint: say which feature holds it: feature(ref=..., on={\"category\": \"...\"}); keys: uid, second)",
            ],
        ),
        (
            &[("UserFeatures/features/5/on", r#"{"category": "basket"}"#)],
            &[
                "features.py:43: feature 'UserFeatures.category_orders': on= names the unknown feature 'basket' (hint: did you mean 'basket_category'?)",
            ],
        ),
        (
            &[("UserFeatures/features/5/on", r#"{"category": "spend_7d"}"#)],
            &[
                "features.py:43: feature 'UserFeatures.category_orders': on= names 'spend_7d', which is computed (hint: name a key or a feature with request=True; others are not in this release)",
            ],
        ),
        (
            &[("UserFeatures/features/4/type", "\"int\"")],
            &[
                "features.py:43: feature 'UserFeatures.category_orders': the key 'CategoryStats.category' is str, but 'basket_category', which holds it, is int",
            ],
        ),
        (
            &[("featuresets/-", SECOND), ("featuresets/1/features/-", r#"{"name": "other", "type": "str"}"#)],
            &[
                "b.py:9: extractor 'B.e': the input 'UserFeatures.spend_7d' needs the key 'uid', which nothing here supplies (hint: add 'uid' to 'B' as a key or as a feature with request=True)",
            ],
        ),
        (
            &[("featuresets/-", SECOND), ("featuresets/1/features/0/type", "\"int\"")],
            &["b.py:9: extractor 'B.e': the input 'UserFeatures.spend_7d' needs 'uid' as str, but 'B.user' is int"],
        ),
        (
            &[("featuresets/-", SECOND), ("featuresets/1/extractors/0/inputs/0/feature", "\"category_orders\"")],
            &[
                "b.py:9: extractor 'B.e': the input 'UserFeatures.category_orders' needs the request feature 'basket_category', which nothing here supplies (hint: add 'basket_category' to 'B' as a key or as a feature with request=True)",
            ],
        ),
    ]);
}

#[test]
fn extractors() {
    check_refused(&[
        (
            &[("UserFeatures/extractors/0/version", "0")],
            &["features.py:52: extractor 'UserFeatures.from_stats': versions begin at 1"],
        ),
        (
            &[("UserFeatures/extractors/0/name", "\"judge\"")],
            &["features.py:43: featureset 'UserFeatures': extractor 'judge' is defined twice"],
        ),
        (
            &[
                ("UserFeatures/extractors/0/outputs", "[\"suspicious\"]"),
                ("UserFeatures/features/2", r#"{"name": "spend_7d", "type": "float", "request": true}"#),
            ],
            &[
                "features.py:58: extractor 'UserFeatures.judge': 'suspicious' is given by 'from_stats' too (hint: a feature comes from one place)",
            ],
        ),
        (
            &[("UserFeatures/extractors/0/outputs/-", "\"spend_8d\"")],
            &[
                "features.py:52: extractor 'UserFeatures.from_stats': outputs name the unknown feature 'UserFeatures.spend_8d' (hint: did you mean 'spend_7d'?)",
            ],
        ),
        (
            &[("UserFeatures/extractors/1/inputs/0/feature", "\"order_1h\"")],
            &[
                "features.py:58: extractor 'UserFeatures.judge': inputs name the unknown feature 'UserFeatures.order_1h' (hint: did you mean 'orders_1h'?)",
            ],
        ),
        (
            &[("UserFeatures/extractors/1/inputs/0/featureset", "\"UserFeature\"")],
            &[
                "features.py:58: extractor 'UserFeatures.judge': inputs name the unknown featureset 'UserFeature' (hint: did you mean 'UserFeatures'?)",
            ],
        ),
        (
            &[("UserFeatures/extractors/1/inputs/0/feature", "\"spend_7d\"")],
            &["features.py:58: extractor 'UserFeatures.judge': two inputs are called 'spend_7d'"],
        ),
        (
            &[("UserFeatures/extractors/0/deps", "[\"Oder\"]")],
            &[
                "features.py:52: extractor 'UserFeatures.from_stats': deps names the unknown dataset 'Oder' (hint: did you mean 'Order'?)",
            ],
        ),
        (
            &[("Order/index", "false"), ("UserFeatures/extractors/0/deps", "[\"Order\"]")],
            &[
                "features.py:52: extractor 'UserFeatures.from_stats': deps names 'Order', which cannot be looked up (hint: declare it with @dataset(index=True): class Order)",
            ],
        ),
        (
            &[("UserFeatures/extractors/0/inputs", r#"[{"featureset": "UserFeatures", "feature": "suspicious"}]"#)],
            &[
                "features.py:52: featureset 'UserFeatures': extractors need each other: spend_7d -> suspicious -> spend_7d (hint: a feature cannot be computed from itself)",
            ],
        ),
        (
            &[("UserFeatures/extractors/0/inputs", r#"[{"featureset": "UserFeatures", "feature": "spend_7d"}]"#)],
            &[
                "features.py:52: featureset 'UserFeatures': extractors need each other: spend_7d -> spend_7d (hint: a feature cannot be computed from itself)",
            ],
        ),
        (
            &[
                ("featuresets/-", SECOND),
                ("UserFeatures/extractors/0/inputs", r#"[{"featureset": "B", "feature": "big"}]"#),
            ],
            &[
                "b.py:9: featureset 'B': extractors need each other: B.big -> UserFeatures.spend_7d -> B.big (hint: a feature cannot be computed from itself)",
            ],
        ),
        (
            &[("modules/0/path", "\"../x.py\"")],
            &["module 'features': the path '../x.py' is not below the commit's directory"],
        ),
        (
            &[("modules/-", r#"{"name": "features", "path": "a.py", "source": ""}"#)],
            &["module 'features' occurs twice"],
        ),
    ]);
}
