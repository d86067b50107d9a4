"""The grid of row groups and the digest of a spine: of the rows, not of the batches and buffers they come in."""

from __future__ import annotations

import random
from datetime import date, datetime, timezone
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thyme import grid
from thyme.layers import layers, logical_size
from thyme.parts.spine import Cut, SpineHash
from thyme.writers import writing

ROWS = 20_000
NOON = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)
OF_TYPES = [
    (pa.bool_(), [True, False, None]),
    (pa.int8(), [1, None, -3]),
    (pa.uint64(), [2**64 - 1, None, 0]),
    (pa.float16(), [1.5, None]),
    (pa.float64(), [0.0, -0.0, float("nan"), None]),
    (pa.decimal128(38, 18), [Decimal("1.5"), None]),
    (pa.decimal256(50, 2), [Decimal("1.5"), None]),
    (pa.date32(), [date(2026, 1, 15), None]),
    (pa.timestamp("ns", "Europe/Oslo"), [NOON, None]),
    (pa.duration("us"), [7, None]),
    (pa.time64("us"), [7, None]),
    (pa.month_day_nano_interval(), [(1, 2, 3), None]),
    (pa.binary(3), [b"abc", None]),
    (pa.null(), [None]),
    (pa.string(), ["", "x", None, "long enough that a view has it elsewhere"]),
    (pa.large_string(), ["", "x", None]),
    (pa.string_view(), ["", "x", None, "long enough that a view has it elsewhere"]),
    (pa.binary(), [b"", b"x", None]),
    (pa.binary_view(), [b"x", None]),
    (pa.dictionary(pa.int8(), pa.string()), ["a", "b", None]),
    (pa.list_(pa.string()), [[], ["a", None], None]),
    (pa.large_list(pa.int32()), [[], [1, None], None]),
    (pa.list_(pa.int32(), 2), [[1, 2], None, [3, None]]),
    (pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]), [{"a": 1, "b": ["x"]}, None, {"a": None}]),
    (pa.map_(pa.string(), pa.int64()), [[("a", 1)], None, [("b", 2), ("c", None)]]),
    (pa.uuid(), [b"0123456789abcdef", None]),
]


def arrays(kind, values, rows, seed):
    chance = random.Random(seed)
    made = pa.array([chance.choice(values) for _ in range(rows)], getattr(kind, "storage_type", kind))
    return pa.ExtensionArray.from_storage(kind, made) if isinstance(kind, pa.BaseExtensionType) else made


def pieces(batch, seed):
    """Cut anywhere, with pieces that hold what they do not show."""
    chance = random.Random(seed)
    first = 0
    while first < batch.num_rows:
        rows = chance.choice([0, 1, 7, 100, 5_000, 9_000])
        piece = batch.slice(first, rows)
        yield piece if chance.random() < 0.5 else copied(piece)
        first += rows


def copied(batch):
    """The same values in buffers of their own."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return pa.ipc.open_stream(sink.getvalue()).read_next_batch()


def digest(batches, schema):
    found = SpineHash(schema)
    for batch in batches:
        found.add(batch)
    return found.hexdigest()


@pytest.mark.parametrize(("kind", "values"), OF_TYPES, ids=[str(kind) for kind, _ in OF_TYPES])
def test_a_digest_is_of_values(kind, values):
    batch = pa.record_batch({"number": range(300), "value": arrays(kind, values, 300, 1)})
    wanted = digest([batch], batch.schema)
    for seed in range(5):
        assert digest(pieces(batch, seed), batch.schema) == wanted
    without_first = batch.slice(1)
    assert digest([without_first], batch.schema) == digest(pieces(without_first, 9), batch.schema) != wanted
    if len(values) > 1 and kind != pa.uuid():
        for number in range(3):  # each value is counted in
            listed = batch.column("value").to_pylist()
            listed[number] = values[0] if listed[number] is None else None
            other = pa.record_batch({"number": range(300), "value": pa.array(listed, kind)})
            assert digest([other], batch.schema) != wanted, number


def test_a_digest_tells_rows_columns_and_what_lies_below_nulls_apart():
    def of(**columns):
        batch = pa.record_batch({name: pa.array(values) for name, values in columns.items()})
        return digest([batch], batch.schema)

    assert len({of(a=["x", ""]), of(a=["", "x"]), of(a=["x", None]), of(b=["x", ""]), of(a=["x"]), of(a=[1, 0])}) == 6
    assert of(a=[["x"], ["y", "z"]]) != of(a=[["x", "y"], ["z"]])
    hidden = pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.array([1, 99]).buffers()[1]])
    assert hidden.to_pylist() == [1, None]
    assert dict(layers(hidden)) == dict(layers(pa.array([1, None], pa.int64())))
    nothing = pa.schema([("a", pa.int64())])
    assert digest([], nothing) == digest([pa.record_batch({"a": pa.array([], pa.int64())})], nothing)


def test_parts_of_a_spine_do_not_depend_on_its_batches():
    batch = pa.record_batch({"number": range(25_000)})

    def parts(batches, most):
        cut = Cut(pa.RecordBatchReader.from_batches(batch.schema, batches))
        found = []
        while cut.has_more():
            reader, counted = cut.part(most)
            rows = reader.read_all()["number"].to_pylist()
            found.append((rows, counted.rows, counted.hexdigest()))
        return found

    for most in (8_192, 10_000, 25_000, 30_000):
        wanted = parts([batch], most)
        assert [row for rows, _, _ in wanted for row in rows] == list(range(25_000))
        assert all(count == most for _, count, _ in wanted[:-1]) and 0 < wanted[-1][1] <= most
        for seed in range(3):
            assert parts(pieces(batch, seed), most) == wanted
    assert parts([batch.slice(0, 0)] * 3, 5) == []


def test_a_size_is_of_values():
    assert logical_size(pa.array([1, None, 3])) == 24
    assert logical_size(pa.array([True] * 9)) == 2
    assert logical_size(pa.array(["abc", None, "d"])) == 12 + 4
    assert logical_size(pa.array([[1, 2], None])) == 8 + 16
    assert logical_size(pa.array([{"a": 1, "b": "xy"}])) == 8 + 4 + 2
    for kind, values in OF_TYPES:
        array = arrays(kind, values, 999, 2)
        batch = pa.record_batch({"value": array})
        assert logical_size(array.slice(100, 50)) == logical_size(copied(batch.slice(100, 50)).column(0)), kind


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(grid, "ROW_GROUP_ROWS", 2 * grid.BLOCK_ROWS)


def test_a_file_is_the_same_whatever_batches_come(small, tmp_path):
    """Dictionaries of batches have other values in another order each."""
    columns = {str(kind): arrays(kind, values, ROWS, 3) for kind, values in OF_TYPES if is_stored(kind)}
    batch = pa.record_batch(columns)
    words = [f"word {number % 300}" for number in range(ROWS)]

    def with_words(piece, first):
        rows = pa.array(words[first : first + piece.num_rows]).dictionary_encode()
        return pa.record_batch([*piece.columns, rows], names=[*piece.schema.names, "words"])

    schema = with_words(batch, 0).schema
    files = []
    for seed in range(4):
        path = tmp_path / f"{seed}.parquet"
        first = 0
        with writing(str(path), None, schema) as write:
            for piece in pieces(batch, seed):
                write(with_words(piece, first))
                first += piece.num_rows
        files.append(path.read_bytes())
    assert len(set(files)) == 1
    file = pq.ParquetFile(tmp_path / "0.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(2)] == [16_384, ROWS - 16_384]
    read = file.read()
    assert read["words"].to_pylist() == words
    assert pa.types.is_dictionary(read.schema.field("words").type)
    for name in columns:
        if name != "double":  # NaN
            assert read[name].to_pylist() == batch.column(name).to_pylist(), name


def is_stored(kind):
    """Whether Parquet has such values."""
    left_out = (pa.types.is_interval, pa.types.is_null, pa.types.is_float16, pa.types.is_duration)
    if any(is_kind(kind) for is_kind in left_out) or kind == pa.uuid():
        return False
    return "view" not in str(kind)


def test_row_groups_end_at_a_size_too(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "ROW_GROUP_BYTES", 1 << 20)
    text = pa.record_batch({"text": ["x" * 100] * 30_000})
    path = tmp_path / "rows.parquet"
    with writing(str(path), None, text.schema) as write:
        for piece in pieces(text, 4):
            write(piece)
    metadata = pq.ParquetFile(path).metadata
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert groups == [16_384, 30_000 - 16_384]
