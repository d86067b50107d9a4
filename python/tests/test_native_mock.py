"""`MockContext`: the real engine under definitions that were only imported."""

from __future__ import annotations

import importlib
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from thyme import (
    Count,
    Last,
    Max,
    Sum,
    col,
    dataset,
    errors,
    extractor,
    extractor_inputs,
    extractor_outputs,
    feature,
    featureset,
    field,
    inputs,
    pipeline,
    registry,
)
from thyme.definitions import definitions_json

native = importlib.import_module("thyme._native")
from thyme.testing import MockContext  # noqa: E402

NOON = datetime(2024, 1, 15, 12, tzinfo=timezone.utc)
MICRO = timedelta(microseconds=1)


def at(**delta):
    return NOON + timedelta(**delta)


def define():
    @dataset(index=True)
    class Order:
        user_id: str = field(key=True)
        ts: datetime = field(timestamp=True)
        amount: float
        item_count: int
        coupon: str | None

    @dataset(index=True)
    class UserStats:
        user_id: str = field(key=True)
        ts: datetime = field(timestamp=True)
        orders_1h: int
        spend_7d: float
        biggest_7d: float
        coupon: str | None

        @pipeline
        @inputs(Order)
        def compute(cls, orders):
            return (
                orders.filter(col("amount") > 0)
                .assign(net=col("amount") * 0.5)
                .groupby("user_id")
                .aggregate(
                    orders_1h=Count(window="1h"),
                    spend_7d=Sum(of="net", window="7d"),
                    biggest_7d=Max(of="amount", window="7d", where=col("item_count") > 1),
                    coupon=Last(of="coupon", window="7d"),
                )
            )

    @featureset
    class UserFeatures:
        uid: str
        orders_1h: int = feature(ref=UserStats.orders_1h, default=0)
        spend_7d: float
        ratio: float
        basket: float = feature(request=True)
        over: bool

        @extractor(deps=[UserStats])
        @extractor_inputs("uid")
        @extractor_outputs("spend_7d")
        def from_stats(cls, ts, inputs):
            return UserStats.lookup(ts, user_id=inputs["uid"])["spend_7d"]

        @extractor
        @extractor_inputs("orders_1h", "spend_7d")
        @extractor_outputs("ratio")
        def divide(cls, ts, orders_1h, spend_7d):
            return spend_7d / orders_1h

        @extractor
        @extractor_inputs("spend_7d", "basket")
        @extractor_outputs("over")
        def compare(cls, ts, spend_7d, basket):
            return {"over": basket > spend_7d}

    return Order, UserStats, UserFeatures


def order(user, ts, amount, item_count=1, coupon=None):
    return {"user_id": user, "ts": ts, "amount": amount, "item_count": item_count, "coupon": coupon}


ROWS = [
    order("u1", at(minutes=-90), 10.0, coupon="A"),
    order("u1", at(minutes=-60), 20.0, 2),
    order("u1", at(), 30.0),
    order("u2", at(), -5.0),
]


@pytest.fixture
def shop():
    order_class, stats, features = define()
    with MockContext() as mock:
        mock.add_events(order_class, ROWS)
        yield mock, order_class, stats, features


def test_windows_have_both_ends(shop):
    mock, _, stats, _ = shop
    assert mock.get_aggregates(stats, "u1", at())["orders_1h"] == 2
    assert mock.get_aggregates(stats, "u1", at() + MICRO)["orders_1h"] == 1
    assert mock.get_aggregates(stats, "u1", at() - MICRO)["orders_1h"] == 1
    assert mock.get_aggregates(stats, "u1", at(), exclusive=True)["orders_1h"] == 1
    assert mock.get_aggregates(stats, "u1", at(hours=1) + MICRO)["orders_1h"] == 0


def test_aggregates_and_their_empty_values(shop):
    mock, _, stats, _ = shop
    row = mock.get_aggregates(stats, "u1")
    assert {name: row[name] for name in ("orders_1h", "spend_7d", "biggest_7d", "coupon")} == {
        "orders_1h": 2,
        "spend_7d": 30.0,
        "biggest_7d": 20.0,
        "coupon": None,
    }
    unknown = mock.get_aggregates(stats, "u2")
    assert (unknown["orders_1h"], unknown["spend_7d"], unknown["biggest_7d"]) == (0, 0.0, None)
    assert unknown.statuses["orders_1h"] == "DEFAULT"


def test_a_raw_dataset_gives_the_newest_row_or_none(shop):
    mock, order_class, _, _ = shop
    assert mock.lookup(order_class, "u1", at() - MICRO)["amount"] == 20.0
    assert mock.lookup(order_class, "u1")["ts"] == at()
    assert mock.lookup(order_class, "nobody") is None


def test_a_query_runs_the_extractors(shop):
    mock, _, _, features = shop
    answer = mock.query(features, "u1", inputs={"basket": 31.0})
    assert {name: answer[name] for name in ("orders_1h", "spend_7d", "ratio", "over")} == {
        "orders_1h": 2,
        "spend_7d": 30.0,
        "ratio": 15.0,
        "over": True,
    }
    assert answer.errors == {}
    assert answer.ts == at()


def test_an_extractor_that_raises_fails_its_own_outputs(shop):
    mock, _, _, features = shop
    answer = mock.query("UserFeatures", {"uid": "nobody"}, inputs={"basket": 1.0})
    assert answer["ratio"] is None
    assert answer.statuses["ratio"] == "ERROR"
    assert "ZeroDivisionError" in answer.errors["ratio"]
    assert answer["over"] is True


def test_only_some_features(shop):
    mock, _, _, features = shop
    assert mock.query(features, "u1", features=[features.orders_1h])["orders_1h"] == 2


def test_offline_keeps_rows_order_and_columns(shop):
    mock, _, _, features = shop
    spine = [
        {"who": "u1", "when": at(hours=-1), "label": 1},
        {"who": "nobody", "when": at(), "label": 2},
        {"who": "u1", "when": at(), "label": 3},
    ]
    for rows in (spine, pd.DataFrame(spine), pl.DataFrame(spine), pa.Table.from_pylist(spine)):
        result = mock.query_offline(
            features, rows, entity_column="who", timestamp_column="when", features=["orders_1h", "spend_7d"]
        )
        assert result["label"] == [1, 2, 3]
        assert result["orders_1h"] == [2, 0, 2]
        assert result["spend_7d"] == [15.0, 0.0, 30.0]


def test_offline_equals_query(shop):
    mock, _, _, features = shop
    times = [at(minutes=minute) for minute in range(-120, 60, 7)]
    spine = [{"uid": "u1", "timestamp": time} for time in times]
    table = mock.query_offline(features, spine, features=["orders_1h", "spend_7d"])
    single = [mock.query(features, "u1", time, features=["orders_1h", "spend_7d"]) for time in times]
    assert table["orders_1h"] == [answer["orders_1h"] for answer in single]
    assert table["spend_7d"] == [answer["spend_7d"] for answer in single]


def test_known_at_a_position_gives_what_was_served(shop):
    mock, order_class, _, features = shop
    before = mock.query(features, "u1", at(), features=["spend_7d"])
    mock.add_events(order_class, [order("u1", at(minutes=-5), 100.0)])
    assert mock.query(features, "u1", at(), features=["spend_7d"])["spend_7d"] == 80.0
    again = mock.query(features, "u1", at(), features=["spend_7d"], known_at=before.position)
    assert again["spend_7d"] == before["spend_7d"] == 30.0


def test_the_clock_is_the_events_until_it_is_set(shop):
    mock, order_class, stats, _ = shop
    assert mock.now == at()
    mock.set_now(at(hours=2))
    assert mock.get_aggregates(stats, "u1")["orders_1h"] == 0
    mock.set_now("2024-01-15T12:00:00Z")
    assert mock.get_aggregates(stats, "u1")["orders_1h"] == 2
    mock.set_now(None)
    assert mock.now == at()


def test_bad_rows_come_back_with_their_reasons(shop):
    mock, order_class, _, _ = shop
    rows = [order("u1", at(), 1.0), order(None, at(), 1.0), order("u1", at(), float("nan")), order("u1", at(), "much")]
    result = mock.add_events(order_class, rows)
    assert result.accepted == 1
    assert [row.index for row in result.rejected] == [1, 2, 3]
    assert all(row.reason for row in result.rejected)


def test_event_ids_count_once(shop):
    mock, order_class, stats, _ = shop
    for _ in range(2):
        mock.add_events(order_class, [order("u3", at(), 1.0)], event_ids=["e1"])
    assert mock.get_aggregates(stats, "u3")["orders_1h"] == 1


def test_erased_keys_are_unknown(shop):
    mock, order_class, stats, _ = shop
    assert mock.erase(order_class, ["u1"]) == 1
    assert mock.get_aggregates(stats, "u1")["orders_1h"] == 0


def test_erased_keys_leave_what_is_grouped_by_another_key():
    @dataset
    class Sale:
        user_id: str = field(key=True)
        ts: datetime = field(timestamp=True)
        shop: str

    @dataset(index=True)
    class ShopStats:
        shop: str = field(key=True)
        ts: datetime = field(timestamp=True)
        sales: int

        @pipeline
        @inputs(Sale)
        def compute(cls, sales):
            return sales.groupby("shop").aggregate(sales=Count(window="1d"))

    def sold(*users):
        return [{"user_id": user, "ts": at(), "shop": "s"} for user in users]

    with MockContext() as mock:
        mock.add_events(Sale, sold("u1", "u1", "u2", "u3"))
        assert mock.get_aggregates(ShopStats, "s")["sales"] == 4
        assert mock.erase(Sale, ["u1", "nobody"]) == 2
        assert mock.get_aggregates(ShopStats, "s")["sales"] == 2
        mock.add_events(Sale, sold("u1"))
        assert mock.get_aggregates(ShopStats, "s")["sales"] == 3
        mock.erase(Sale, ["u1", "u3"])
        assert mock.get_aggregates(ShopStats, "s")["sales"] == 1


def test_a_pin_gives_the_same_rows_again(shop):
    mock, order_class, _, features = shop
    spine = [{"uid": user, "timestamp": at(hours=hour)} for user in ("u1", "u2", "new") for hour in (0, 1)]
    asked = {"features": ["orders_1h", "spend_7d", "ratio"], "statuses": True}
    first = mock.query_offline(features, spine, **asked)
    mock.add_events(order_class, [order("u1", at(minutes=-1), 64.0), order("new", at(), 1.0)])
    assert mock.query_offline(features, spine, **asked).to_dicts() != first.to_dicts()
    again = mock.query_offline(features, spine, pin=first.pin, **asked)
    assert (again.to_dicts(), again.pin, again.position) == (first.to_dicts(), first.pin, first.position)
    assert (again.query_run_id, again.watermark) == (None, None)
    with pytest.raises(errors.InvalidArgumentError, match="known_at is given beside a pin"):
        mock.query_offline(features, spine, pin=first.pin, known_at=first.position, **asked)
    with pytest.raises(errors.InvalidArgumentError, match="not a pin"):
        mock.query_offline(features, spine, pin=first.position, **asked)
    mock.erase(order_class, ["u2"])
    with pytest.raises(errors.FailedPreconditionError, match="keys of 'Order' were erased since the pin was made"):
        mock.query_offline(features, spine, pin=first.pin, **asked)


def test_a_pin_is_of_tables_that_are_not_built_anew():
    @dataset
    class Sale:
        user_id: str = field(key=True)
        ts: datetime = field(timestamp=True)
        shop: str

    @dataset(index=True)
    class ShopStats:
        shop: str = field(key=True)
        ts: datetime = field(timestamp=True)
        sales: int

        @pipeline
        @inputs(Sale)
        def compute(cls, sales):
            return sales.groupby("shop").aggregate(sales=Count(window="1d"))

    @featureset
    class Shop:
        shop: str
        sales: int = feature(ref=ShopStats.sales)

    spine = [{"shop": "s", "timestamp": at()}]
    with MockContext() as mock:
        mock.add_events(Sale, [{"user_id": user, "ts": at(), "shop": "s"} for user in ("u1", "u2", "u3")])
        for user, left in (("u1", 2), ("u2", 1)):
            before = mock.query_offline(Shop, spine)
            mock.erase(Sale, [user])
            after = mock.query_offline(Shop, spine)
            assert (before["sales"], after["sales"]) == ([left + 1], [left])
            with pytest.raises(errors.FailedPreconditionError, match="does not have the table of 'ShopStats.compute'"):
                mock.query_offline(Shop, spine, pin=before.pin)
            assert mock.query_offline(Shop, spine, pin=after.pin)["sales"] == [left]


def test_dataframes(shop):
    mock, order_class, stats, _ = shop
    frame = pd.DataFrame([order("u4", at(), 1.0), order("u4", at(), 2.0, None)])
    result = mock.add_events(order_class, frame)
    assert (result.accepted, [row.index for row in result.rejected]) == (1, [1])
    assert mock.get_aggregates(stats, "u4")["spend_7d"] == 0.5


def test_the_fixture_is_a_context(thyme_mock):
    order_class, stats, _ = define()
    thyme_mock.add_events(order_class, ROWS)
    assert thyme_mock.get_aggregates(stats, "u1")["orders_1h"] == 2


def test_mistakes_name_the_nearest(shop):
    mock, _, _, features = shop
    with pytest.raises(errors.NotFoundError, match="did you mean 'UserFeatures'"):
        mock.query("UserFeature", "u1")
    with pytest.raises(errors.ThymeError, match="did you mean 'spend_7d'"):
        mock.query(features, "u1", features=["spend_7"])
    mock.close()
    with pytest.raises(errors.FailedPreconditionError, match="closed"):
        mock.query(features, "u1")


def test_everything_that_definitions_can_say_is_valid(load):
    load("orders")
    found = json.loads(native.validate(definitions_json(root=Path(__file__).parent / "modules")))
    assert found["errors"] == []


def test_definitions_that_do_not_hold_together_are_refused():
    @dataset
    class Raw:
        user_id: str = field(key=True)
        ts: datetime = field(timestamp=True)
        text: str

    @dataset
    class Stats:
        user_id: str = field(key=True)
        ts: datetime = field(timestamp=True)
        total: float

        @pipeline
        @inputs(Raw)
        def compute(cls, rows):
            return rows.groupby("user_id").aggregate(total=Sum(of="text", window="1h"))

    assert list(registry.current().datasets) == ["Raw", "Stats"]
    with pytest.raises(errors.ThymeDefinitionError, match="text") as caught:
        MockContext()
    name, _, line = str(caught.value.location).rpartition(":")
    assert name.endswith("test_native_mock.py")
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert lines[int(line) - 1].strip() == "@pipeline"


def test_times_and_windows_are_read_as_natively():
    from thyme.duration import micros

    for text in ("90s", "1d12h", "2w", "1h"):
        assert native.parse_window(text) == micros(text)
    for text in ("1month", "1ms", "7", "-1d", "0s", "", "h", "1.5h", "1 d", "99999999999999w"):
        assert micros(text) is None
        with pytest.raises(errors.InvalidArgumentError):
            native.parse_window(text)


def test_a_pipeline_reads_the_rows_of_another():
    @dataset(max_lateness="1h")
    class Payment:
        card: str = field(key=True)
        ts: datetime = field(timestamp=True)
        shop: str
        amount: float

    @dataset(index=True)
    class CardHour:
        card: str = field(key=True)
        ts: datetime = field(timestamp=True)
        n: int
        spent: float

        @pipeline
        @inputs(Payment)
        def compute(cls, payments):
            return payments.groupby("card").aggregate(n=Count(window="1h"), spent=Sum(of="amount", window="1h"))

    @dataset(index=True)
    class Busy:
        n: int = field(key=True)
        ts: datetime = field(timestamp=True)
        rows: int
        most: float

        @pipeline
        @inputs(CardHour)
        def compute(cls, hours):
            return (
                hours.filter(col("spent") > 1).groupby("n").aggregate(rows=Count(), most=Max(of="spent", window="1d"))
            )

    @featureset
    class Counts:
        n: int
        rows: int = feature(ref=Busy.rows)

    def payment(card, minute, amount):
        return {"card": card, "ts": at(minutes=minute), "shop": "s", "amount": amount}

    with MockContext() as mock:
        mock.add_events(Payment, [payment("a", 0, 5.0), payment("a", 10, 7.0), payment("b", 20, 2.0)])
        assert mock.query(Counts, 1)["rows"] == 2
        assert mock.get_aggregates(Busy, 2)["most"] == 12.0
        # Late: a row of its own, as of then and of all that had come; those before it stay.
        mock.add_events(Payment, [payment("a", 5, 1.0)])
        assert mock.query(Counts, 2)["rows"] == 2
        assert mock.get_aggregates(Busy, 2, at(minutes=5))["most"] == 6.0
        assert mock.get_aggregates(Busy, 2, at(minutes=4))["rows"] == 0
        mock.erase(Payment, ["a"])
        assert mock.query(Counts, 2)["rows"] == 0
        assert mock.query(Counts, 1)["rows"] == 1
