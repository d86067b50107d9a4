"""Spines of any form: every Arrow type as a passenger comes back as it was sent; rows twice, no rows, many columns."""

from __future__ import annotations

import datetime
import decimal

import pyarrow as pa
import pytest

from surfaces import exchange

TIME = pa.timestamp("us", tz="UTC")
AT = datetime.datetime(2025, 6, 20, tzinfo=datetime.timezone.utc)
DAY = datetime.date(2025, 6, 20)
SHORT = datetime.timedelta(milliseconds=1500)

# A type, two values; the third row has none.
PASSENGERS = {
    "bool": (pa.bool_(), [True, False]),
    "int8": (pa.int8(), [-128, 127]),
    "int16": (pa.int16(), [-1, 1]),
    "int32": (pa.int32(), [-1, 1]),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1]),
    "uint8": (pa.uint8(), [0, 255]),
    "uint16": (pa.uint16(), [0, 2**16 - 1]),
    "uint32": (pa.uint32(), [0, 2**32 - 1]),
    "uint64": (pa.uint64(), [0, 2**64 - 1]),
    "float32": (pa.float32(), [0.5, float("inf")]),
    "float64": (pa.float64(), [-0.0, 5e-324]),
    "string": (pa.string(), ["", "naïve"]),
    "large_string": (pa.large_string(), ["a", "b" * 100]),
    "string_view": (pa.string_view(), ["short", "longer than what is held in place"]),
    "binary": (pa.binary(), [b"", b"\x00\xff"]),
    "large_binary": (pa.large_binary(), [b"a", b"b"]),
    "binary_view": (pa.binary_view(), [b"short", b"longer than what is held in place"]),
    "fixed_binary": (pa.binary(3), [b"abc", b"\x00\x01\x02"]),
    "decimal128": (pa.decimal128(38, 10), [decimal.Decimal("1.5"), decimal.Decimal("-9999999999999999999999999999.5")]),
    "decimal256": (pa.decimal256(76, 2), [decimal.Decimal("0.01"), decimal.Decimal(10) ** 70]),
    "date32": (pa.date32(), [DAY, datetime.date(1969, 1, 1)]),
    "date64": (pa.date64(), [DAY, datetime.date(1969, 1, 1)]),
    "time32": (pa.time32("ms"), [datetime.time(1, 2, 3), datetime.time(23, 59)]),
    "time64": (pa.time64("us"), [datetime.time(1, 2, 3, 4), datetime.time(0)]),
    "timestamp_s": (pa.timestamp("s"), [AT.replace(tzinfo=None)] * 2),
    "timestamp_ns": (pa.timestamp("ns", tz="Europe/Oslo"), [1, -1]),
    "duration": (pa.duration("us"), [SHORT, -SHORT]),
    "interval": (pa.month_day_nano_interval(), [(1, 2, 3), (0, -1, 0)]),
    "list": (pa.list_(pa.string()), [["a", None], []]),
    "large_list": (pa.large_list(pa.int64()), [[1], [2, 3]]),
    "fixed_list": (pa.list_(pa.float32(), 2), [[1.0, 2.0], [3.0, 4.0]]),
    "struct": (pa.struct({"x": pa.int64(), "y": pa.list_(pa.string())}), [{"x": 1, "y": ["a"]}, {"x": None, "y": []}]),
    "map": (pa.map_(pa.string(), pa.int64()), [[("a", 1), ("b", 2)], []]),
    "dictionary": (pa.dictionary(pa.int16(), pa.string()), ["red", "blue"]),
    "nothing": (pa.null(), [None, None]),
}


def spine_with(name: str, passenger: pa.Array, metadata: dict[str, str] | None = None) -> pa.Table:
    fields = [pa.field("user", pa.string()), pa.field("timestamp", TIME), pa.field(name, passenger.type)]
    fields[-1] = fields[-1].with_metadata(metadata)
    users = pa.array(["user_1", "nobody", "user_2"])
    times = pa.array([AT, AT, AT], TIME)
    return pa.table([users, times, passenger], schema=pa.schema(fields))


@pytest.mark.parametrize("name", PASSENGERS)
def test_a_passenger_comes_back_as_it_was_sent(shop, name):
    kind, values = PASSENGERS[name]
    spine = spine_with(name, pa.array([*values, None], kind), {"unit": "of the user's own"})
    found = exchange(shop, spine, featureset="UserFeatures", features=["n_all"])
    assert found.schema.field(name).equals(spine.schema.field(name), check_metadata=True)
    column = found.column(name)
    column.validate(full=True)
    assert column.equals(spine.column(name)) and len(found) == 3


def test_an_extension_type_keeps_its_name(shop):
    metadata = {"ARROW:extension:name": "company.money", "ARROW:extension:metadata": "EUR"}
    spine = spine_with("price", pa.array([1, 2, None]), metadata)
    found = exchange(shop, spine, featureset="UserFeatures", features=["n_all"])
    assert found.schema.field("price").metadata == {key.encode(): value.encode() for key, value in metadata.items()}


def test_rows_twice_are_answered_twice(shop):
    once = pa.table({"user": ["user_1", "nobody", "user_1"], "timestamp": pa.array([AT, AT, None], TIME)})
    spine = pa.concat_tables([once] * 50).combine_chunks()
    found = exchange(shop, spine, featureset="UserFeatures", statuses=True)
    first = exchange(shop, once, featureset="UserFeatures", statuses=True)
    assert found.num_rows == 150 and found.equals(pa.concat_tables([first] * 50).combine_chunks())


def test_a_spine_of_key_and_time_only(shop):
    spine = pa.table({"user": ["user_1"], "timestamp": pa.array([AT], TIME)})
    found = exchange(shop, spine, featureset="UserFeatures", features=["n_all"])
    assert found.column_names == ["user", "timestamp", "n_all"] and found["n_all"][0].as_py() == shop.counted["user_1"]


@pytest.mark.parametrize("batches", [0, 1, 20])
def test_no_rows_in_any_number_of_batches(shop, batches):
    schema = pa.schema({"user": pa.string(), "timestamp": TIME, "label": pa.string()})
    empty = pa.record_batch([pa.array([], field.type) for field in schema], schema=schema)
    found = exchange(shop, pa.Table.from_batches([empty] * batches, schema), featureset="UserFeatures")
    assert found.num_rows == 0 and found.column_names[:4] == ["user", "timestamp", "label", "n_all"]


def test_many_columns(shop):
    extra = {f"column_{number}": pa.array([number, None]) for number in range(10_000)}
    spine = pa.table({"user": ["user_1", "nobody"], "timestamp": pa.array([AT, AT], TIME), **extra})
    found = exchange(shop, spine, featureset="UserFeatures", features=["n_all"])
    assert found.column_names == [*spine.column_names, "n_all"]
    assert found.drop_columns(["n_all"]).replace_schema_metadata(None).equals(spine)
