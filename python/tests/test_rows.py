"""Rows of every kind become the same columns."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timezone
from decimal import Decimal

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from thyme.calls import input_rows
from thyme.entries import TopKEntry
from thyme.errors import InvalidArgumentError
from thyme.result import ResultColumn, ThymeResult, with_metadata
from thyme.rows import as_dicts, as_table, is_columnar, typed_table
from thyme.texts import from_csv, typed
from thyme.times import as_micros, parse_micros
from thyme.values import from_column, from_value, to_column, to_value
from thyme.writers import write_table

NOON = datetime(2024, 1, 15, 12, tzinfo=timezone.utc)
ROWS = [{"uid": "u1", "n": 1, "x": 0.5}, {"uid": "u2", "n": None, "x": None}]


def test_kinds_of_rows():
    for rows in (
        ROWS,
        pd.DataFrame(ROWS),
        pl.DataFrame(ROWS),
        pa.Table.from_pylist(ROWS),
        pa.RecordBatch.from_pylist(ROWS),
    ):
        assert as_table(rows, ["n"]).to_pylist() == ROWS, type(rows)


def test_anything_with_an_arrow_stream():
    class Stream:
        def __arrow_c_stream__(self, requested_schema=None):
            return pa.Table.from_pylist(ROWS).__arrow_c_stream__(requested_schema)

    assert is_columnar(Stream())
    assert as_table(Stream()).to_pylist() == ROWS


def test_nan_of_a_dataframe_is_null():
    assert as_table(pd.DataFrame({"x": [1.5, float("nan")]}))["x"].to_pylist() == [1.5, None]
    assert as_table(pl.DataFrame({"x": [1.5, float("nan")]}))["x"].to_pylist() == [1.5, None]


def test_integers_that_pandas_made_floats_are_integers_again():
    frame = pd.DataFrame({"n": [1, None], "m": [1.5, 2.0]})
    table = as_table(frame, ["n", "m"])
    assert [str(data_type) for data_type in table.schema.types] == ["int64", "double"]


def test_text_of_polars_is_plain():
    assert as_table(pl.DataFrame({"s": ["a"]})).schema.field("s").type == pa.string()


def test_mistakes():
    with pytest.raises(InvalidArgumentError, match="rows takes a list of dicts.*got int"):
        as_table(5)
    with pytest.raises(InvalidArgumentError, match="row 1 is no dict: 3"):
        as_dicts([{}, 3])
    with pytest.raises(InvalidArgumentError, match="row 0, ts: a datetime without a time zone"):
        as_table([{"ts": datetime(2024, 1, 15)}])
    with pytest.raises(InvalidArgumentError, match="a column holds values of one type"):
        as_table([{"x": 1}, {"x": "a"}])


TIMES = [
    "2024-01-15T12:00:00Z",
    "2024-01-15 12:00:00",
    "2024-01-15T12:00:00",
    "2024-01-15T12:00",
    "2024-01-15T14:00:00+02:00",
    "2024-01-15T14:00:00 02:00",
    "2024-01-15T10:30:00-01:30",
    "2024-01-15T12:00:00.000000Z",
    "2024-01-15 12:00:00.000000999",
]


@pytest.mark.parametrize("text", TIMES)
def test_times_as_the_server_reads_them(text):
    assert parse_micros(text) == 1_705_320_000_000_000


def test_more_times():
    assert parse_micros("2024-01-15") == 1_705_276_800_000_000
    assert parse_micros("1969-12-31T23:59:59.9999999Z") == -1
    assert as_micros(pd.Timestamp("2024-01-15T12:00:00Z")) == 1_705_320_000_000_000
    for text in ("yesterday", "", "2024-13-01", "2024-01-15T25:00"):
        with pytest.raises(InvalidArgumentError, match="not a time"):
            parse_micros(text)
    with pytest.raises(InvalidArgumentError, match="ts takes a datetime"):
        as_micros(5)


def result() -> ThymeResult:
    columns = [
        ResultColumn("uid", "str", ["u1", "u2"]),
        ResultColumn("n", "int", [1, None]),
        ResultColumn("at", "datetime", [NOON, None]),
        ResultColumn("top", "list[str]", [["a"], []]),
        ResultColumn("by", "dict[str, int]", [{"a": 1}, {}]),
    ]
    return ThymeResult(columns=columns, query_run_id="run-1", ts=NOON, position="pAA", final=True)


def test_results_in_every_form():
    found = result()
    assert found.to_arrow().schema.field("by").type == pa.map_(pa.string(), pa.int64())
    assert found.to_polars()["n"].to_list() == [1, None]
    assert list(found.to_pandas()["uid"]) == ["u1", "u2"]
    assert pa.table(found).num_rows == 2
    assert found.to_dicts()[0] == {"uid": "u1", "n": 1, "at": NOON, "top": ["a"], "by": {"a": 1}}


def test_dicts_and_entries_in_arrow():
    nested = ThymeResult(columns=[ResultColumn("m", "list[dict[str, int]]", [[{"a": 1}], None])])
    assert nested.to_arrow().schema.field("m").type == pa.list_(pa.map_(pa.string(), pa.int64()))
    entries = [[TopKEntry(value="x", count=2)], [], None]
    top = ThymeResult(columns=[ResultColumn("t", "list[TopKEntry[str]]", entries)]).to_arrow()
    assert top.to_pylist() == [{"t": [{"value": "x", "count": 2}]}, {"t": []}, {"t": None}]
    assert top.schema.field("t").type == pa.list_(pa.struct([("value", pa.string()), ("count", pa.int64())]))


def test_lists_and_dicts_are_json_in_csv(tmp_path):
    table = pa.table(
        {
            "n": [1, 2],
            "l": [["a", None], None],
            "m": pa.array([[("k", NOON)], []], pa.map_(pa.string(), pa.timestamp("us", tz="UTC"))),
        }
    )
    write_table(table, str(tmp_path / "t.csv"), None)
    with open(tmp_path / "t.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["n"] for row in rows] == ["1", "2"]
    assert [row["l"] for row in rows] == ['["a", null]', ""]
    assert [row["m"] for row in rows] == ['{"k": "2024-01-15T12:00:00Z"}', "{}"]


def test_decimals_keep_their_digits(tmp_path):
    given = [Decimal("12.50"), Decimal("1E+3"), None, Decimal("-0.000000000000000001"), Decimal("9" * 20)]
    shown = ["12.5", "1000", None, "-0.000000000000000001", "9" * 20]
    result = ThymeResult(columns=[ResultColumn("d", "Decimal", given), ResultColumn("l", "list[Decimal]", [given] * 5)])
    table = result.to_arrow()
    assert table.schema.types == [pa.decimal128(38, 18), pa.list_(pa.decimal128(38, 18))]
    back = with_metadata(table)
    assert back.to_dicts() == result.to_dicts()
    assert [value and str(value) for value in back["d"]] == [text and str(Decimal(text)) for text in shown]
    assert "000000000" not in repr(with_metadata(table.slice(0, 1).select(["d"])))
    assert list(back.to_pandas()["d"]) == given and back.to_polars()["d"].to_list() == given
    write_table(table, str(tmp_path / "d.csv"), None)
    with open(tmp_path / "d.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["d"] or None for row in rows] == shown
    assert json.loads(rows[0]["l"]) == shown
    # A column of the user's own may have more digits than a Decimal of ours.
    wide = with_metadata(pa.table({"w": pa.array([Decimal("1." + "1" * 30)], pa.decimal256(60, 40))}))
    assert wide.to_dicts() == [{"w": Decimal("1." + "1" * 30)}]


def test_decimals_travel_as_text():
    for value in [Decimal("12.50"), Decimal("1E+3"), Decimal("NaN"), Decimal("9" * 50)]:
        assert to_value(value).decimal_value == str(value)
    assert from_value(to_value(Decimal("12.50"))) == Decimal("12.5")
    values = [Decimal("0.1"), None, Decimal(2)]
    column = to_column("d", values)
    assert list(column.decimals.values) == ["0.1", "", "2"] and from_column(column) == values
    assert from_column(to_column("m", [Decimal(1), 1.5])) == [Decimal(1), 1.5]


def test_dicts_with_decimals_become_columns_where_nothing_is_lost():
    types = {"d": "Decimal", "n": "int"}
    table = typed_table([{"d": Decimal("0.10"), "n": 1}, {"d": 2, "n": None}, {"d": None, "n": 3}], types)
    assert table.column("d").to_pylist() == [Decimal("0.1"), Decimal(2), None]
    for value in [0.1, "0.1", True, Decimal("NaN"), Decimal("1e-19"), Decimal("1e20")]:
        assert typed_table([{"d": value, "n": 1}], types) is None, value


def test_text_is_read_as_a_decimal():
    assert typed("10.100", "Decimal", "key") == Decimal("10.1")
    with pytest.raises(InvalidArgumentError, match="key: expected Decimal, got '1,5'"):
        typed("1,5", "Decimal", "key")
    assert from_csv("0.10", "Decimal") == Decimal("0.1") and from_csv("", "Decimal") is None
    assert from_csv("much", "Decimal") == "much", "the server names the row"


def test_what_holds_as_a_whole_survives_arrow():
    back = with_metadata(result().to_arrow())
    assert (back.query_run_id, back.ts, back.position, back.final) == ("run-1", NOON, "pAA", True)


def test_rows_that_came_as_arrow_are_those_that_came_as_values():
    """A dict is one, at any depth, though Arrow hands a map over as pairs."""
    values = [{"a": Decimal("1.50")}, {}, None]
    nested = [[{"z": 1, "a": None}], [], [None, {}]]
    made = ThymeResult(
        [ResultColumn("by", "dict[str, Decimal]", values), ResultColumn("each", "list[dict[str, int]]", nested)]
    )
    came = with_metadata(made.to_arrow())
    assert came.to_dicts() == made.to_dicts()
    assert str(came["by"][0]["a"]) == "1.5"
    assert came["each"] == nested


def test_a_map_among_request_features_is_a_dict():
    given = pa.table({"marks": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64()))})
    assert input_rows(given) == [{"marks": {"a": 1}}, {"marks": None}]


def test_how_a_result_prints():
    assert repr(result()) == (
        "uid  n     at                    top    by\n"
        "u1   1     2024-01-15T12:00:00Z  ['a']  {'a': 1}\n"
        "u2   null  null                  []     {}\n"
        "(2 rows, at 2024-01-15T12:00:00Z, final, run run-1)"
    )
    assert "<td>u1</td>" in result()._repr_html_()
    with pytest.raises(KeyError, match="did you mean 'uid'"):
        result()["uidd"]
