"""What exports in parts are made of, by itself: folders of values, the manifest as it is written down, places."""

from __future__ import annotations

from datetime import date, datetime, timezone

import pyarrow as pa
import pytest

from thyme import errors
from thyme.parts import Manifest, is_folder
from thyme.parts.files import Split
from thyme.stores import place_of

NOON = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)


def split(by, **columns):
    table = pa.table(columns)
    found = Split(table.schema, by, "at")
    return {folder: rows.to_pydict() for batch in table.to_batches() for folder, rows in found.folders(batch)}


def test_values_as_folders():
    day = date(2026, 1, 15)
    n = [0, 1, 2]
    assert list(split(["a"], a=["x", None, "ä/=%"], n=n)) == [
        "a=x",
        "a=__HIVE_DEFAULT_PARTITION__",
        "a=%C3%A4%2F%3D%25",
    ]
    assert split(["a", "b"], a=[True, False, True], b=[-1, 2, -1], n=n) == {
        "a=true/b=-1": {"n": [0, 2]},
        "a=false/b=2": {"n": [1]},
    }
    assert list(split(["a"], a=[day, None, day], n=n)) == ["a=2026-01-15", "a=__HIVE_DEFAULT_PARTITION__"]
    texts = ["2026-01-15T23:59:59.999999Z", "2026-01-16T01:00:00+02:00", "soon"]
    assert split(["at"], at=texts) == {
        "date=2026-01-15": {"at": texts[:2]},
        "date=__HIVE_DEFAULT_PARTITION__": {"at": texts[2:]},
    }
    for unit in ("s", "ms", "us", "ns"):
        late = datetime(1969, 12, 31, 23, 30, tzinfo=timezone.utc)
        assert list(split(["t"], t=pa.array([late], pa.timestamp(unit, "Asia/Tokyo")))) == ["date=1969-12-31"]
        assert list(split(["t"], t=pa.array([late], pa.timestamp(unit)))) == ["date=1969-12-31"]


@pytest.mark.parametrize(
    ("by", "columns", "message"),
    [
        (["b"], {"a": [1]}, "no column 'b' to partition by"),
        (["a"], {"a": [1.5], "n": [1]}, "'a' is of type double, which names no folders"),
        (["a"], {"a": [[1]], "n": [1]}, "'a' is of type list"),
        (["a"], {"a": ["x"]}, "no column is left for the files"),
        (["a", "a"], {"a": ["x"], "n": [1]}, "can partition once"),
        (["a/b"], {"a/b": ["x"], "n": [1]}, "'a/b' cannot name folders"),
        (["_a"], {"_a": ["x"], "n": [1]}, "'_a' cannot name folders: readers pass over names that begin so"),
        ([".a"], {".a": ["x"], "n": [1]}, "'.a' cannot name folders: readers pass over names that begin so"),
        (["at"], {"at": [NOON], "date": ["x"]}, "there is a column 'date'"),
        (["at", "t"], {"at": [NOON], "t": [NOON]}, "two cannot both be named so"),
        (["a"], {"a": ["__HIVE_DEFAULT_PARTITION__"], "n": [1]}, "which says that there is none"),
    ],
)
def test_columns_that_make_no_folders(by, columns, message):
    with pytest.raises(errors.InvalidArgumentError, match=message):
        split(by, **columns)


GOLDEN = """{
  "thyme": "0.1.0",
  "pyarrow": "26.0.1",
  "state": "whole",
  "command": {
    "featureset": "Größe",
    "features": [
      "a"
    ]
  },
  "definition": "d1",
  "position": "pAA",
  "known_at": null,
  "pin": "xAA",
  "watermark": "2026-01-15T11:00:00Z",
  "rows": 5,
  "features": {
    "a": {
      "nulls": 1,
      "defaults": 0,
      "errors": 0
    }
  },
  "parts": [
    {
      "files": [
        {
          "path": "part-00000.parquet",
          "rows": 5,
          "bytes": 321,
          "sha256": "ab"
        }
      ],
      "rows": 5,
      "spine_sha256": "cd",
      "features": {
        "a": {
          "nulls": 1,
          "defaults": 0,
          "errors": 0
        }
      }
    }
  ],
  "asked": {
    "created": "2026-01-15T12:00:00Z",
    "ts": "2026-01-15T12:00:01Z",
    "runs": [
      "r1"
    ],
    "writer": "w1"
  }
}
"""


def test_the_manifest_is_as_it_is_written_down():
    files = [{"path": "part-00000.parquet", "rows": 5, "bytes": 321, "sha256": "ab"}]
    counts = {"a": {"nulls": 1, "defaults": 0, "errors": 0}}
    manifest = Manifest(
        command={"featureset": "Größe", "features": ["a"]},
        definition="d1",
        position="pAA",
        known_at=None,
        pin="xAA",
        watermark="2026-01-15T11:00:00Z",
        asked={"created": "2026-01-15T12:00:00Z", "ts": "2026-01-15T12:00:01Z", "runs": ["r1"], "writer": "w1"},
        state="whole",
        thyme="0.1.0",
        pyarrow="26.0.1",
        parts=[{"files": files, "rows": 5, "spine_sha256": "cd", "features": counts}],
    )
    assert manifest.to_json().decode("utf-8") == GOLDEN
    assert Manifest.of_json(GOLDEN.encode("utf-8"), "it") == manifest


def test_what_is_a_folder():
    for name in ("out", "out/", "out.parquet/", "s3://bucket/prefix", "s3://bucket/a.b/c", ".", "..", "file:///a b"):
        assert is_folder(name), name
    for name in ("-", "out.parquet", "out.csv", "s3://bucket/prefix/rows.jsonl", "out.v1", "./a.arrow"):
        assert not is_folder(name), name


def test_places(tmp_path):
    place = place_of(f"file://{tmp_path}/a%20b")
    place.child("c d/e").put(b"1")
    assert (tmp_path / "a b" / "c d" / "e").read_bytes() == b"1"
    assert place.sizes() == {"c d/e": 1}
    assert (place.child("c d/e").read(), place.child("f").read()) == (b"1", None)
    with pytest.raises(ValueError), place.child("g").writing() as sink:
        sink.write(b"half")
        raise ValueError
    assert place.sizes() == {"c d/e": 1}
    for bad in ("http://a/b", "s3://", "hdfs://a/b"):
        with pytest.raises(errors.InvalidArgumentError, match="not a place to write to"):
            place_of(bad)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.FailedPreconditionError, match="file/x: "):
        place_of(str(tmp_path / "file" / "x")).put(b"1")
