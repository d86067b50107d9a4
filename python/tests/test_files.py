"""Files read and written batch by batch: spines, results."""

from __future__ import annotations

import io
import json
import os

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from thyme import errors, spines
from thyme.files import read_parts
from thyme.grid import ROW_GROUP_ROWS
from thyme.result import ThymeResult
from thyme.shapes import Shape
from thyme.spines import read_spine
from thyme.writers import write_table, writing

TABLE = pa.table(
    {
        "uid": [f"u{number}" for number in range(20_000)],
        "number": range(20_000),
        "share": [number / 7 if number % 3 else None for number in range(20_000)],
    }
)


def whole(path, types=None):
    reader, total = read_spine(str(path), None, types or {})
    return reader.read_all(), total


@pytest.mark.parametrize("ending", ["parquet", "csv", "arrow", "jsonl"])
def test_what_is_written_is_read_again(tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    write_table(TABLE, str(path), None)
    table, total = whole(path)
    assert table.equals(TABLE)
    assert total == (None if ending == "arrow" else 20_000)
    assert os.listdir(tmp_path) == [path.name]


def test_both_kinds_of_arrow_files(tmp_path):
    path = tmp_path / "rows.arrow"
    with pa.ipc.new_file(path, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=3_000)
    assert whole(path)[0].equals(TABLE)
    reader, _ = read_spine(str(path), None, {})
    assert reader.read_next_batch().num_rows == 3_000


def test_a_large_file_is_read_in_batches(tmp_path):
    for ending in ("parquet", "csv", "jsonl"):
        path = tmp_path / f"rows.{ending}"
        write_table(TABLE, str(path), None)
        sizes = [batch.num_rows for batch in read_spine(str(path), None, {})[0]]
        assert sum(sizes) == 20_000
        assert ending == "csv" or max(sizes) <= spines.BATCH_ROWS


LATE = ["1,,x,1", "2,,y,2", "3,,z,3.5", '4,late,"a, ""b""\nc",4', "5,,,five", "6,7,w,"]


def test_types_of_a_csv_are_those_of_all_its_lines(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    lines = [line for line in LATE for _ in range(50)]
    path.write_text("\n".join(["a,b,c,d", *lines]) + "\n", encoding="utf-8")
    expected = arrow_csv.read_csv(path, parse_options=arrow_csv.ParseOptions(newlines_in_values=True))
    monkeypatch.setattr(spines, "_BLOCK_BYTES", 200)
    table, total = whole(path)
    assert table.equals(expected)
    assert [str(found) for found in table.schema.types] == ["int64", "string", "string", "string"]
    assert total == 300


def test_keys_are_read_by_their_declared_type(tmp_path):
    (tmp_path / "rows.csv").write_text("uid,score,other\n007,1,007\n8,2,8\n", encoding="utf-8")
    table, _ = whole(tmp_path / "rows.csv", {"uid": "str", "score": "float"})
    assert table.to_pydict() == {"uid": ["007", "8"], "score": [1.0, 2.0], "other": [7, 8]}
    (tmp_path / "rows.jsonl").write_text('{"uid": "1", "score": 1}\n', encoding="utf-8")
    assert str(whole(tmp_path / "rows.jsonl", {"score": "float"})[0].schema.field("score").type) == "double"


def test_types_of_json_lines_are_those_of_all_its_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(spines, "BATCH_ROWS", 2)
    rows = [{"a": 1}, {"a": 2}, {"a": 2.5, "b": [1]}, {"a": None}, {"b": [0.5]}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    table, total = whole(tmp_path / "rows.jsonl")
    assert table.to_pylist() == [{"a": row.get("a"), "b": row.get("b")} for row in rows]
    assert [str(found) for found in table.schema.types] == ["double", "list<item: double>"]
    assert total == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", '{"a": 1}\n{"a": \n', "row 2: not JSON"),
        ("rows.jsonl", '{"a": 1}\n{"a": "x"}\n', "incompatible types"),
        ("rows.csv", "a,b\n1,2\n3\n", "rows.csv: .*Expected 2 columns, got 1"),
        ("rows.parquet", "no parquet", "rows.parquet: "),
        ("rows.arrow", "no arrow", "rows.arrow: "),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, monkeypatch, name, content, message):
    monkeypatch.setattr(spines, "BATCH_ROWS", 1)
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(errors.InvalidArgumentError, match=message):
        whole(tmp_path / name)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_spine_from_stdin(tmp_path, monkeypatch, ending):
    path = tmp_path / f"rows.{ending}"
    write_table(TABLE, str(path), None)
    with open(path, "rb") as held:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(held))
        reader, total = read_spine("-", ending, {})
        assert reader.read_all().equals(TABLE)
    assert total == 20_000


def test_parts_of_files_are_bounded(tmp_path):
    table = pa.table({"uid": [f"u{number}" for number in range(150_000)]})
    shape = Shape("Order", ["uid"], {"uid": "str"})
    for ending in ("parquet", "arrow", "csv", "jsonl"):
        path = tmp_path / f"rows.{ending}"
        write_table(table, str(path), None)
        _, parts = read_parts(str(path), None, shape)
        counts, places, users = [], [], []
        for part in parts:
            counts.append(part.count)
            places += [part.row_number(0), part.row_number(part.count - 1)]
            users += [row["uid"] for row in (part.rows if isinstance(part.rows, list) else part.rows.to_pylist())]
        assert users == table.column("uid").to_pylist()
        assert max(counts) <= 32_768
        assert (places[0], places[-1]) == (0, 149_999)


def test_a_file_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_text("the old one", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), writing(str(path), None, TABLE.schema) as write:
        write(TABLE.to_batches()[0])
        assert path.read_text(encoding="utf-8") == "the old one"
        assert len(os.listdir(tmp_path)) == 2
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["rows.parquet"]
    assert path.read_text(encoding="utf-8") == "the old one"
    write_table(TABLE, str(path), None)
    assert pq.read_table(path).equals(TABLE)


def test_small_batches_make_large_row_groups(tmp_path):
    path = tmp_path / "rows.parquet"
    batch = pa.record_batch({"number": range(1_000)})
    with writing(str(path), None, batch.schema) as write:
        for _ in range(300):
            write(batch)
    file = pq.ParquetFile(path)
    assert file.metadata.num_rows == 300_000
    groups = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    assert groups == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 300_000 - 2 * ROW_GROUP_ROWS]


def test_rows_that_are_still_coming_are_taken_once():
    def coming():
        return ThymeResult(stream=TABLE.to_reader(1_000))

    result = coming()
    assert "still coming" in repr(result)
    assert result.column_names == TABLE.column_names
    assert pa.table(result).equals(TABLE)
    with pytest.raises(errors.FailedPreconditionError, match="the rows were taken already"):
        len(result)
    kept = coming()
    assert len(kept) == 20_000
    assert kept.to_arrow().equals(TABLE)
    assert kept.to_reader().read_all().equals(TABLE)
