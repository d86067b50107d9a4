"""Every mistake in a definition raises with file, line, the name and the nearest valid one."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal

import pytest

import thyme
from thyme import (
    Avg,
    Count,
    ExpDecaySum,
    FileSource,
    KafkaSource,
    LastK,
    Max,
    PostgresSource,
    Secret,
    Sum,
    TopK,
    TopKEntry,
    col,
    dataset,
    extractor,
    extractor_inputs,
    extractor_outputs,
    feature,
    featureset,
    field,
    inputs,
    pipeline,
    source,
)
from thyme.definitions import build_definitions
from thyme.errors import NotInThisReleaseError, ThymeDefinitionError


def make_order():
    @dataset(index=True)
    class Order:
        user_id: str = field(key=True)
        ts: datetime = field(timestamp=True)
        amount: float

    return Order


def make_stats(body, keys=("user_id",), **arguments):
    order = make_order()
    namespace = {
        "__annotations__": {"user_id": str, "ts": datetime, "n": int},
        "__module__": __name__,
        "user_id": field(key=True),
        "ts": field(timestamp=True),
        "compute": pipeline(version=1)(inputs(order)(body)),
    }
    return dataset(type("Stats", (), namespace), **arguments)


def good(cls, rows):
    return rows.groupby("user_id").aggregate(n=Count(window="1h"))


def dataset_with(**members):
    annotations = {"user_id": str, "ts": datetime, **members.pop("annotations", {})}
    namespace = {"user_id": field(key=True), "ts": field(timestamp=True), "__module__": __name__, **members}
    return dataset(type("Order", (), {**namespace, "__annotations__": annotations}))


def featureset_with(annotations=None, **members):
    annotations = {"uid": str, "score": float} if annotations is None else annotations
    return featureset(type("Scores", (), {"__annotations__": annotations, "__module__": __name__, **members}))


def extract(function, given=("uid",), outputs=("score",)):
    return extractor(extractor_inputs(*given)(extractor_outputs(*outputs)(function)))


DATASETS = [
    (lambda: dataset(indx=True), "@dataset has no argument 'indx' (hint: did you mean 'index'?)"),
    (lambda: dataset(5), "@dataset decorates a class, got 5"),
    (lambda: dataset_with(annotations={"price": "decimal"}), "cannot read the type 'decimal'"),
    (lambda: dataset_with(annotations={"price": "decimal"}), "did you mean 'Decimal'?"),
    (lambda: dataset_with(annotations={"price": complex}), "Order.price: unsupported type complex"),
    (
        lambda: dataset_with(annotations={"tags": list}),
        "Order.tags: unsupported type list (hint: say of what: list[int])",
    ),
    (lambda: dataset_with(annotations={"m": dict[int, str]}), "a dict has str keys"),
    (
        lambda: dataset_with(annotations={"top": list[TopKEntry]}),
        "Order.top: unsupported type list[thyme.entries.TopKEntry] (hint: say of what: list[TopKEntry[str]])",
    ),
    (lambda: dataset_with(annotations={"price": "flaot"}), "cannot read the type 'flaot'"),
    (lambda: dataset_with(annotations={"price": "flaot"}), "did you mean 'float'?"),
    (lambda: dataset_with(annotations={"price": int | str}), "Order.price: unsupported type int | str"),
    (lambda: dataset_with(price=field()), "Order.price has no type (hint: write price: int = field(...))"),
    (
        lambda: dataset_with(annotations={"price": float}, price=1.0),
        "Order.price: a dataset field takes no value, got 1.0",
    ),
    (lambda: dataset_with(annotations={"lookup": float}), "the name 'lookup' is reserved"),
    (lambda: dataset_with(annotations={"user_id": str | None}), "Order.user_id: a key field cannot be Optional"),
    (lambda: dataset_with(annotations={"ts": int}), "Order.ts: the timestamp field is a datetime, not int"),
    (lambda: dataset_with(ts=field()), "dataset Order has no timestamp field"),
    (
        lambda: dataset_with(annotations={"at": datetime}, at=field(timestamp=True)),
        "dataset Order has several timestamp fields: ts, at",
    ),
    (lambda: dataset_with(user_id=field()), "dataset Order has no key field"),
    (lambda: field(kye=True), "field has no argument 'kye' (hint: did you mean 'key'?)"),
    (lambda: field(key=1), "field: key must be True or False, got 1"),
    (lambda: field(key=True, timestamp=True), "a field cannot be both key and timestamp"),
    (lambda: make_stats(good, version=0), "dataset Stats: version must be an integer from 1 on, got 0"),
    (lambda: make_stats(good, max_lateness="1month"), "not a length of time for max_lateness: '1month'"),
    (lambda: make_stats(good, history="1month"), "not a length of time for history: '1month'"),
    (lambda: make_stats(good, emit=1), "dataset Stats: emit must be True or False, got 1"),
    (lambda: make_stats(good, partitions=0), "partitions must be an integer from 1 to 256, got 0"),
    (lambda: make_stats(good, tags="shop"), "dataset Stats: tags must be a list of str, got 'shop'"),
    (lambda: make_stats(good, owner=3), "dataset Stats: owner must be str, got 3"),
]

PIPELINES = [
    (lambda: pipeline(versoin=1), "@pipeline has no argument 'versoin' (hint: did you mean 'version'?)"),
    (lambda: pipeline(version="1"), "@pipeline: version must be an integer from 1 on, got '1'"),
    (lambda: inputs(5), "@inputs takes dataset classes, got 5"),
    (lambda: inputs(), "@inputs names no dataset"),
    (lambda: inputs(make_order(), make_order()), "@inputs with several datasets is not available in this release"),
    (
        lambda: dataset_with(compute=inputs(make_order())(lambda cls, rows: rows)),
        "Order.compute has @inputs but no @pipeline",
    ),
    (lambda: dataset_with(compute=pipeline(lambda cls, rows: rows)), "pipeline Order.compute has no @inputs"),
    (lambda: make_stats(lambda cls: 1), "pipeline Stats.compute takes 1 parameters, needs 2"),
    (lambda: make_stats(lambda cls, rows: None), "pipeline Stats.compute returned nothing"),
    (lambda: make_stats(lambda cls, rows: rows), "pipeline Stats.compute returned a Frame"),
    (lambda: make_stats(lambda cls, rows: 1 / 0), "pipeline Stats.compute raised ZeroDivisionError: division by zero"),
    (
        lambda: make_stats(lambda cls, rows: rows.fliter(col("amount") > 0)),
        "rows have no method 'fliter' (hint: did you mean 'filter'?)",
    ),
    (lambda: make_stats(lambda cls, rows: rows.join(rows)), "join() is not available in this release"),
    (lambda: make_stats(lambda cls, rows: rows.transform(len)), "transform() is not available in this release"),
    (
        lambda: make_stats(lambda cls, rows: rows.filter(col("amuont") > 0)),
        "Stats.compute: unknown column 'amuont' of Order in filter (hint: did you mean 'amount'?)",
    ),
    (
        lambda: make_stats(lambda cls, rows: rows.assign(net=col("amount") * 2).filter(col("nett") > 0)),
        "unknown column 'nett' of Order in filter (hint: did you mean 'net'?)",
    ),
    (lambda: make_stats(lambda cls, rows: rows.filter(lambda row: row)), "filter takes an expression"),
    (lambda: make_stats(lambda cls, rows: rows.filter()), "filter has no predicate"),
    (lambda: make_stats(lambda cls, rows: rows.assign()), "assign has no column"),
    (lambda: make_stats(lambda cls, rows: rows.groupby()), "groupby names no column"),
    (
        lambda: make_stats(lambda cls, rows: rows.groupby("userid")),
        "unknown column 'userid' of Order in groupby (hint: did you mean 'user_id'?)",
    ),
    (lambda: make_stats(lambda cls, rows: rows.groupby(col("amount") * 2)), "groupby takes column names"),
    (lambda: make_stats(lambda cls, rows: rows.groupby("user_id").sum()), "grouped rows have no method 'sum'"),
    (lambda: make_stats(lambda cls, rows: rows.groupby("user_id").aggregate()), "aggregate has no aggregates"),
    (lambda: make_stats(lambda cls, rows: rows.groupby("user_id").aggregate(n=Count)), "n is not an aggregate"),
    (
        lambda: make_stats(lambda cls, rows: rows.groupby("user_id").aggregate(n=Sum(of="amuont"))),
        "unknown column 'amuont' of Order in n=Sum(of='amuont', window='forever') (hint: did you mean 'amount'?)",
    ),
    (
        lambda: make_stats(lambda cls, rows: rows.groupby("user_id").aggregate(m=Count())),
        "Stats has no field 'm' to fill",
    ),
    (
        lambda: make_stats(lambda cls, rows: rows.groupby("amount").aggregate(n=Count())),
        "pipeline Stats.compute groups by amount, but the keys of Stats are user_id",
    ),
    (lambda: make_stats(lambda cls, rows: [] if rows else rows), "rows of a pipeline are symbolic"),
]

AGGREGATES = [
    (lambda: Sum(off="amount"), "Sum has no parameter 'off' (hint: did you mean 'of'?)"),
    (lambda: Sum(window="1h"), "Sum: missing a required argument: 'of'"),
    (lambda: Sum(of=3), "Sum: of takes a column name, got 3"),
    (lambda: Sum(of=col("a") * 2), "compute the column with .assign(name=...) before groupby"),
    (lambda: Count(window="1month"), "not a window: '1month'"),
    (lambda: Count(window="1ms"), "not a window: '1ms'"),
    (lambda: Count(window="7"), "not a window: '7'"),
    (lambda: Count(window=7), "not a window: 7"),
    (lambda: Count(window="-1d"), "not a window: '-1d'"),
    (lambda: Count(window="0s"), "units s m h d w, such as 90s, 1d12h or 2w, or forever"),
    (lambda: Count(where="amount > 0"), "Count: where takes an expression, got 'amount > 0'"),
    (lambda: LastK(of="a", k=0), "LastK: k must be an integer from 1 on, got 0"),
    (lambda: LastK(of="a", dedup="yes"), "LastK: dedup must be True or False, got 'yes'"),
    (lambda: TopK(of="a", window="1d"), "TopK: k is missing"),
    (lambda: ExpDecaySum(of="a"), "ExpDecaySum: half_life is missing"),
    (lambda: ExpDecaySum(of="a", half_life="forever"), "not a length of time for half_life: 'forever'"),
    (lambda: thyme.ApproxPercentile(of="a", pct=101), "pct must be a number from 0 to 100, got 101"),
    (lambda: Avg(of="a", default=datetime(2024, 1, 1)), "a datetime without a time zone"),
    (lambda: Avg(of="a", default=Decimal("sNaN")), "sNaN is not a value"),
    (lambda: Avg(of="a", default=Decimal("1e20")), "1E+20 has too many digits for a Decimal (hint: at most 20 before"),
    (lambda: Avg(of="a", default=Decimal("-1e-19")), "-1E-19 has too many digits for a Decimal"),
]

SOURCES = [
    (lambda: FileSource("a.xls"), "cannot tell the format of 'a.xls' from its ending"),
    (lambda: FileSource("a", format="jsnl"), "unknown file format 'jsnl' (hint: did you mean 'jsonl'?)"),
    (lambda: FileSource("a.csv", sep=";"), "FileSource has no argument 'sep'"),
    (lambda: source("orders.jsonl"), "@source takes a connector, got 'orders.jsonl'"),
    (lambda: source(FileSource("a.csv"), evry="5s"), "@source has no argument 'evry' (hint: did you mean 'every'?)"),
    (lambda: source(FileSource("a.csv"), every="5"), "not a length of time for every: '5'"),
    (lambda: source(FileSource("a.csv"), cdc="upsert"), 'cdc="upsert" is not available in this release'),
    (lambda: source(FileSource("a.csv"), cdc="debezium"), 'cdc="debezium" is not available in this release'),
    (lambda: source(FileSource("a.csv"), cdc="apend"), "unknown cdc 'apend'"),
    (lambda: source(FileSource("a.csv"))(int), "@source decorates a dataset"),
    (
        lambda: source(FileSource("a.csv"))(make_stats(good)),
        "dataset Stats is filled by a pipeline and takes no source",
    ),
    (lambda: source(FileSource("a.csv"), cursor="tz")(make_order()), "dataset Order has no field 'tz' for cursor"),
    (lambda: PostgresSource(""), "PostgresSource: table must be a text, got ''"),
    (lambda: PostgresSource("orders", hots="db"), "PostgresSource has no argument 'hots' (hint: did you mean 'host'?)"),
    (lambda: PostgresSource("orders", port="5432"), "PostgresSource: port must be from 1 to 65535, got '5432'"),
    (lambda: PostgresSource("orders", password="x"), "PostgresSource: a password is not written into a definition"),
    (
        lambda: PostgresSource("orders", sslmode="required"),
        "PostgresSource: unknown sslmode 'required' (hint: did you mean 'require'?)",
    ),
    (lambda: KafkaSource(""), "KafkaSource: topic must be a text, got ''"),
    (lambda: KafkaSource("orders", topics="db"), "KafkaSource has no argument 'topics' (hint: did you mean 'topic'?)"),
    (lambda: KafkaSource("orders", format="jsn"), "KafkaSource: unknown format 'jsn' (hint: did you mean 'json'?)"),
    (lambda: KafkaSource("orders", password="x"), "KafkaSource: a password is not written into a definition"),
    (
        lambda: KafkaSource("orders", security_protocol="SASL_SLL"),
        "KafkaSource: unknown security_protocol 'SASL_SLL' (hint: did you mean 'sasl_ssl'?)",
    ),
    (lambda: KafkaSource("orders", properties="x"), "KafkaSource: properties must be a dict, got 'x'"),
    (
        lambda: KafkaSource("orders", properties={"ssl.ca.location": 1}),
        "KafkaSource: property 'ssl.ca.location' must be a text or a Secret, got int",
    ),
    (
        lambda: KafkaSource("orders", schema_registry="http://a"),
        'KafkaSource: format="json" takes no schema registry',
    ),
    (
        lambda: KafkaSource("orders", format="avro", schema_registry_password="x"),
        "KafkaSource: a password is not written into a definition",
    ),
    (lambda: source(KafkaSource("orders"), every="1s"), "@source: a KafkaSource takes no every"),
    (lambda: source(KafkaSource("orders"), cursor="ts"), "@source: a KafkaSource takes no cursor"),
    (lambda: Secret(env=""), "Secret names an environment variable"),
]

FEATURESETS = [
    (lambda: feature(refs=1), "feature has no argument 'refs' (hint: did you mean 'ref'?)"),
    (lambda: feature(id=0), "feature: id must be an integer from 1 on, got 0"),
    (lambda: feature(ref="Stats.n"), "feature: ref takes a field of a dataset, got 'Stats.n'"),
    (lambda: feature(ref=make_order()), "(hint: write ref=Order.some_field)"),
    (lambda: feature(ref=make_order().amount, request=True), "feature: ref and request=True exclude each other"),
    (lambda: feature(on={"a": "b"}), "feature: on= needs ref="),
    (lambda: feature(default=1), "feature: default= needs ref="),
    (lambda: featureset(ownr="x"), "@featureset has no argument 'ownr'"),
    (lambda: featureset_with(ownr=1, annotations={}), "featureset Scores has no features"),
    (lambda: featureset_with(score=1.0), "Scores.score: a feature takes no value, got 1.0"),
    (lambda: featureset_with(other=feature()), "Scores.other has no type"),
    (
        lambda: featureset_with(uid=feature(id=1), score=feature(id=1)),
        "Scores: features uid and score have the same id 1",
    ),
    (
        lambda: featureset_with(score=feature(ref=make_order().amount, default="x")),
        "Scores.score: the default 'x' is not of type float",
    ),
    (
        lambda: featureset_with(score=feature(ref=make_order().amount, on={"user_id": "user"})),
        "Scores.score: on= names the unknown feature 'user'",
    ),
]

EXTRACTORS = [
    (lambda: extractor(dep=[]), "@extractor has no argument 'dep' (hint: did you mean 'deps'?)"),
    (lambda: extractor(deps=[5]), "@extractor: deps takes datasets, got 5"),
    (lambda: extractor(deadline="soon"), "@extractor: deadline takes a length of time, got 'soon'"),
    (lambda: extractor_inputs(good), '@extractor_inputs needs feature names (hint: write @extractor_inputs("uid"))'),
    (lambda: extractor_outputs(), "@extractor_outputs names no feature"),
    (lambda: featureset_with(f=extractor(lambda cls, ts: 1)), "extractor Scores.f has no @extractor_outputs"),
    (lambda: featureset_with(f=extractor_inputs("uid")(lambda cls, ts: 1)), "has @extractor_inputs but no @extractor"),
    (
        lambda: featureset_with(f=extract(lambda cls, ts, uid: 1, outputs=("scor",))),
        "extractor Scores.f: unknown feature 'scor' in @extractor_outputs (hint: did you mean 'score'?)",
    ),
    (
        lambda: featureset_with(f=extract(lambda cls, ts, uid: 1, given=("uuid",))),
        "extractor Scores.f: unknown feature 'uuid' in @extractor_inputs (hint: did you mean 'uid'?)",
    ),
    (
        lambda: featureset_with(f=extract(lambda cls, ts, a, b: 1)),
        "extractor Scores.f takes 2 inputs, but @extractor_inputs names 1",
    ),
    (lambda: featureset_with(f=extract(lambda uid: 1)), "extractor Scores.f takes (uid)"),
    (
        lambda: featureset_with({"a": int, "b": int, "score": int}, f=extract(lambda cls, ts, b, a: 1, ("a", "b"))),
        "extractor Scores.f has its parameters in another order than @extractor_inputs",
    ),
    (
        lambda: featureset_with(f=extract(lambda cls, ts, uid: 1), g=extract(lambda cls, ts, uid: 2)),
        "Scores.score is given by two extractors: f and g",
    ),
    (
        lambda: featureset_with(score=feature(request=True), f=extract(lambda cls, ts, uid: 1)),
        "Scores.score has request=True and the extractor f gives it too",
    ),
    (lambda: extractor(staticmethod(good)), "leave out @classmethod and @staticmethod"),
]


@pytest.mark.parametrize(("mistake", "message"), DATASETS + PIPELINES + AGGREGATES + SOURCES + FEATURESETS + EXTRACTORS)
def test_mistakes_are_explained(mistake, message):
    with pytest.raises(ThymeDefinitionError, match=re.escape(message)) as caught:
        mistake()
    assert caught.value.code == "invalid_definition"
    assert caught.value.location.file == __file__
    assert caught.value.location.line > 1


def test_the_line_is_that_of_the_field():
    with pytest.raises(ThymeDefinitionError) as caught:

        @dataset
        class Order:
            user_id: str = field(key=True)
            ts: datetime = field(timestamp=True)
            price: complex

    line = caught.value.location.line
    with open(__file__, encoding="utf-8") as source_file:
        assert source_file.readlines()[line - 1].strip() == "price: complex"


def test_the_line_is_that_of_the_raising_statement():
    def helper():
        return [][1]

    def body(cls, rows):
        return helper()

    with pytest.raises(ThymeDefinitionError, match="raised IndexError") as caught:
        make_stats(body)
    assert caught.value.location.line == helper.__code__.co_firstlineno + 1


def test_two_classes_of_one_name(load):
    load("orders")
    with pytest.raises(ThymeDefinitionError, match=r"the name 'Order' is taken: first defined at .*orders.py:\d+"):
        make_order()


def test_every_field_is_filled():
    order = make_order()
    with pytest.raises(ThymeDefinitionError, match="no pipeline fills Stats.m"):

        @dataset
        class Stats:
            user_id: str = field(key=True)
            ts: datetime = field(timestamp=True)
            n: int
            m: int

            @pipeline
            @inputs(order)
            def compute(cls, rows):
                return rows.groupby("user_id").aggregate(n=Count())


def test_a_pipeline_on_an_aggregated_dataset_sees_what_that_has():
    stats = make_stats(good)

    def peaks(of):
        @dataset
        class Peaks:
            user_id: str = field(key=True)
            ts: datetime = field(timestamp=True)
            most: int

            @pipeline
            @inputs(stats)
            def compute(cls, rows):
                return rows.groupby("user_id").aggregate(most=Max(of=of))

    with pytest.raises(ThymeDefinitionError, match="amount"):
        peaks("amount")
    peaks("n")


def test_sources_of_later_releases_say_so():
    for name in ("KinesisSource", "IcebergSource", "S3Source", "BigQuerySource", "SnowflakeSource"):
        with pytest.raises(NotInThisReleaseError, match=f"{name} is not available in this release"):
            getattr(thyme, name)
    with pytest.raises(ImportError, match="FileSource, KafkaSource and PostgresSource are"):
        from thyme import KinesisSource  # noqa: F401
    with pytest.raises(AttributeError):
        thyme.NoSuchThing  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute .Cont. .hint: did you mean .Count"):
        thyme.Cont  # noqa: B018


def test_an_unknown_feature_of_another_featureset_is_named():
    other = featureset_with()

    @featureset
    class Second:
        uid: str
        twice: float

        @extractor
        @extractor_inputs(type(other.score)("Scores", "scor"))
        @extractor_outputs("twice")
        def double(cls, ts, score):
            return score * 2

    with pytest.raises(ThymeDefinitionError, match="Scores has no feature 'scor' .hint: did you mean 'score'"):
        build_definitions()
