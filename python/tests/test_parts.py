"""Exports in parts against a Flight server that is ours and counts up: what is asked again, refused, left behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from thyme import errors
from thyme.client import Client
from thyme.parts import Manifest, Question, export, export_parts, files, read_manifest
from thyme.shapes import Shape
from thyme.stores import is_unfinished

NOON = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)
PART = 1_000
ROWS = 3_500


class Counting(flight.FlightServerBase):
    """Answers with `now`, and under a pin with what `now` was. `failures`: of the next calls, None for a good one."""

    def __init__(self):
        super().__init__("grpc://127.0.0.1:0")
        self.now = 0
        self.definition = "d1"
        self.failures = []
        self.pins = []
        self.meanwhile = None
        self.counts = False
        self.loses = False

    def do_exchange(self, context, descriptor, reader, writer):
        asked = json.loads(descriptor.command)
        self.pins.append(asked.get("pin"))
        pin = asked.get("pin", f"x{self.now}")
        metadata = {"thyme.pin": pin, "thyme.definition": self.definition, "thyme.position": "pAA"}
        metadata |= {"thyme.featureset": asked["featureset"], "other": str(self.now)}
        if "pin" not in asked:
            metadata |= {"thyme.query_run_id": f"run{self.now}", "thyme.ts": "2026-01-15T12:00:00Z"}
        schema = reader.schema.append(pa.field("value", pa.int64())).with_metadata(metadata)
        writer.begin(schema)
        failure = self.failures.pop(0) if self.failures else None
        rows = 0
        for chunk in reader:
            rows += chunk.data.num_rows
            values = [10 * number + int(pin[1:]) for number in chunk.data.column("number").to_pylist()]
            columns = [*chunk.data.columns, pa.array(values, pa.int64())]
            joined = pa.record_batch(columns, names=[*chunk.data.schema.names, "value"])
            if self.loses and rows == PART:
                writer.write_batch(joined.slice(1))
                return
            writer.write_batch(joined)
            if self.meanwhile is not None:
                self.meanwhile()
            if failure is not None:
                raise failure
        if self.counts:
            feature = {"name": "value", "nulls": rows, "defaults": 2, "errors": 0, "first_error": None}
            summary = {"rows": rows, "known": rows, "features": [feature], "plan": {}}
            nothing = pa.RecordBatch.from_pylist([], schema)
            writer.write_with_metadata(nothing, json.dumps(summary).encode())


NUMBERS = Shape("Numbers", ["uid"], {"uid": "str"})


@pytest.fixture
def server():
    running = Counting()
    yield running
    running.shutdown()


@pytest.fixture
def client(server, monkeypatch):
    monkeypatch.setattr(export, "PART_ROWS", PART)
    with Client(f"http://127.0.0.1:{server.port}", retry_for=0.5) as connected:
        yield connected


def spine(rows=ROWS, first=0):
    columns = {"uid": ["u", "v", None, "a b/ü%"] * (rows // 4 + 1), "number": range(first, first + rows)}
    times = [NOON + timedelta(hours=number) for number in range(rows)]
    return pa.table({"uid": columns["uid"][:rows], "number": columns["number"], "timestamp": times})


def question(again=None, **other):
    command = {
        "featuresets": ["Numbers"],
        "entity_columns": {},
        "timestamp_column": "timestamp",
        "exclusive": False,
        "features": None,
        "statuses": False,
        "partition_by": [],
    }
    return Question({**command, **other}, None, again)


def run(client, out, given=None, asked=None, retry_for=0.5, batch=700):
    given = spine() if given is None else given
    read = lambda: (given.to_reader(batch), len(given))  # noqa: E731
    return export_parts(client, [NUMBERS], asked or question(), read, str(out), retry_for)


def content(out):
    """Names and bytes; of the manifest what does not differ each time."""
    found = {str(path.relative_to(out)): path.read_bytes() for path in Path(out).rglob("*") if path.is_file()}
    manifest = json.loads(found.pop("_manifest.json"))
    del manifest["asked"]
    return found, manifest


def values(out, now=0, rows=ROWS):
    table = ds.dataset(str(out), format="parquet", partitioning="hive").to_table().sort_by("number")
    assert table["value"].to_pylist() == [10 * number + now for number in range(rows)]
    return table


def test_parts_are_of_one_pin(server, client, tmp_path):
    server.meanwhile = lambda: setattr(server, "now", server.now + 1)
    outcome = run(client, tmp_path / "out")
    assert values(tmp_path / "out").drop_columns("value").equals(spine())
    assert server.pins == [None, "x0", "x0", "x0"]
    found, manifest = content(tmp_path / "out")
    assert list(found) == [f"part-{number:05}.parquet" for number in range(4)] or len(found) == 4
    assert [part["rows"] for part in manifest["parts"]] == [1_000, 1_000, 1_000, 500]
    assert (manifest["state"], manifest["rows"], manifest["features"]) == ("whole", ROWS, None)
    assert outcome.manifest.asked["runs"] == ["run0"]
    metadata = pq.read_schema(tmp_path / "out" / "part-00001.parquet").metadata
    assert metadata == {b"thyme.featureset": b"Numbers", b"thyme.definition": b"d1", b"thyme.pin": b"x0"}
    # The same once more, in other batches, whatever `now` is.
    run(client, tmp_path / "again", asked=question(read_manifest(str(tmp_path / "out" / "_manifest.json"))), batch=64)
    assert content(tmp_path / "again") == content(tmp_path / "out")


def test_a_part_is_tried_again_and_an_export_gone_on_with(server, client, tmp_path):
    out = tmp_path / "out"
    away = flight.FlightUnavailableError("away")
    server.failures = [away, None, away, away]
    server.meanwhile = lambda: setattr(server, "now", server.now + 1)
    run(client, out)
    assert server.failures == []
    whole = content(out)
    for failure in (pa.ArrowInvalid("no"), away):
        shutil.rmtree(out)
        server.failures = [None, None, failure] + [away] * 99
        asked = question(Manifest.of_json(json.dumps({**whole[1], "asked": {}}).encode(), "it"))
        with pytest.raises((errors.InvalidArgumentError, errors.UnavailableError)):
            run(client, out, asked=asked, retry_for=0.1)
        found, manifest = content(out)
        assert (sorted(found), manifest["state"]) == (["part-00000.parquet", "part-00001.parquet"], "exporting")
        assert manifest["rows"] == 2_000
        server.failures = []
        outcome = run(client, out, asked=asked)
        assert outcome.parts_before == 2
        assert content(out) == whole
    asked_before = len(server.pins)
    assert run(client, out, asked=asked).parts_before == 4
    assert len(server.pins) == asked_before + 1, "once, what is defined now"
    assert content(out) == whole


def test_a_pipe_is_not_read_again(server, client, tmp_path):
    server.failures = [None, flight.FlightUnavailableError("away")]
    with pytest.raises(errors.UnavailableError):
        run(client, tmp_path / "out", retry_for=0)
    assert run(client, tmp_path / "out", retry_for=0).parts_before == 1
    values(tmp_path / "out")


def broken_off(server, client, out):
    """Whole is its first part."""
    server.failures = [None, pa.ArrowInvalid("no")]
    with pytest.raises(errors.InvalidArgumentError):
        run(client, out)


OTHERS = {
    "begun with features none, and is now asked with": {"asked": question(features=["value"])},
    "begun with exclusive false": {"asked": question(exclusive=True)},
    "begun with partition_by none": {"asked": question(partition_by=["uid"])},
    "begun with known_at none": {"asked": Question(question().command, "2026-01-01T00:00:00Z")},
    "another spine: this one has other rows than those that part 0 was made of": {"given": spine(ROWS, 1)},
    "another spine: this one has other rows": {"given": spine().append_column("more", pa.nulls(ROWS))},
    "another spine: this one has other": {"given": spine(500)},
}


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "begun"])
def test_what_differs_is_named_and_nothing_touched(is_whole, server, client, tmp_path):
    if is_whole:
        run(client, tmp_path)
    else:
        broken_off(server, client, tmp_path)
    server.now += 1
    before = content(tmp_path)

    def refused(message, **changes):
        with pytest.raises(errors.FailedPreconditionError, match=message) as told:
            run(client, tmp_path, **changes)
        assert f"remove {tmp_path} to begin anew" in told.value.hint
        assert content(tmp_path) == before

    for message, changes in OTHERS.items():
        refused(message, **changes)
    if is_whole:
        refused("has more rows than the 3,500 that were exported", given=spine(ROWS + 1))
    server.definition = "d2"
    refused("begun with definition d1, and is now asked with d2")


def test_other_versions_do_not_go_on(client, server, tmp_path, monkeypatch):
    broken_off(server, client, tmp_path)
    monkeypatch.setattr(pa, "__version__", "99.0")
    path = tmp_path / "_manifest.json"
    path.write_text(path.read_text().replace(f'"pyarrow": "{read_manifest(str(path)).pyarrow}"', '"pyarrow": "1.0"'))
    with pytest.raises(errors.FailedPreconditionError, match="begun with pyarrow 1.0, and is now asked with"):
        run(client, tmp_path)


def test_folders_of_others_are_left_alone(client, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(errors.FailedPreconditionError, match="not empty, and no export was begun there: it has notes"):
        run(client, tmp_path)
    with pytest.raises(errors.FailedPreconditionError, match="is a file"):
        run(client, tmp_path / "notes.txt")
    (tmp_path / "_manifest.json").write_text("{}")
    with pytest.raises(errors.InvalidArgumentError, match="_manifest.json is no manifest of an export"):
        run(client, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["_manifest.json", "notes.txt"]


PART_TOLD = {
    "files": [{"path": "part-00000.parquet", "rows": 1, "bytes": 1, "sha256": "00"}],
    "rows": 1,
    "spine_sha256": "00",
    "features": None,
}
NO_MANIFESTS = [
    {"command": ["Numbers"]},
    {"asked": "w"},
    {"pin": None},
    {"parts": {"0": PART_TOLD}},
    {"parts": ["part-00000.parquet"]},
    {"parts": [{}]},
    {"parts": [{**PART_TOLD, "rows": "1"}]},
    {"parts": [{**PART_TOLD, "files": ["part-00000.parquet"]}]},
    {"parts": [{**PART_TOLD, "files": [{"path": "part-00000.parquet"}]}]},
]


@pytest.mark.parametrize("changed", NO_MANIFESTS, ids=str)
def test_what_is_no_manifest_is_told(changed):
    told = json.loads(Manifest(question().command, "d1", "pAA", None, "x0", None, {}, parts=[PART_TOLD]).to_json())
    assert Manifest.of_json(json.dumps(told).encode(), "it").parts == [PART_TOLD]
    with pytest.raises(errors.InvalidArgumentError, match="^it is no manifest of an export$"):
        Manifest.of_json(json.dumps({**told, **changed}).encode(), "it")


def test_a_manifest_that_cannot_be_asked_again_is_told(tmp_path):
    path = tmp_path / "_manifest.json"
    path.write_bytes(Manifest(question().command, "d1", "pAA", None, "x0", None, {}).to_json())
    assert read_manifest(str(path)).command == question().command
    path.write_bytes(Manifest({"featureset": "Numbers"}, "d1", "pAA", None, "x0", None, {}).to_json())
    with pytest.raises(errors.InvalidArgumentError, match="_manifest.json is no manifest of an export"):
        read_manifest(str(path))


def test_a_part_that_is_not_what_it_was_is_made_again(client, tmp_path):
    run(client, tmp_path)
    whole = content(tmp_path)
    (tmp_path / f".part-00001.parquet.{'0' * 32}.part").write_bytes(b"left behind")
    (tmp_path / "part-00002.parquet").write_bytes(b"cut off")
    assert run(client, tmp_path).parts_before == 2
    assert content(tmp_path) == whole


def test_of_two_commands_the_first_stops(server, client, tmp_path):
    out = tmp_path / "out"
    runs = []

    def another():
        server.meanwhile = None
        runs.append(run(client, out))

    broken_off(server, client, out)
    server.meanwhile = another
    with pytest.raises(errors.FailedPreconditionError, match="another command writes to .*out, so this one stops"):
        run(client, out)
    values(out)
    assert runs[0].manifest.state == read_manifest(str(out / "_manifest.json")).state == "whole"
    assert not [name for name in os.listdir(out) if is_unfinished(name)]


def test_what_has_changed_under_the_pin_is_told(server, client, tmp_path):
    broken_off(server, client, tmp_path)

    original = Client.query_offline

    def refusing(self, *arguments, **asked):
        if asked["pin"]:
            raise errors.FailedPreconditionError("keys of 'Order' were erased since the pin was made")
        return original(self, *arguments, **asked)

    Client.query_offline = refusing
    try:
        with pytest.raises(errors.FailedPreconditionError, match="cannot be completed as it began: keys of") as told:
            run(client, tmp_path)
    finally:
        Client.query_offline = original
    assert told.value.hint == f"remove {tmp_path} to begin anew"


def test_spines_of_no_rows_and_of_whole_parts(client, tmp_path):
    for rows, parts in ((0, 1), (PART, 1), (2 * PART, 2)):
        out = tmp_path / str(rows)
        assert len(run(client, out, spine(rows)).manifest.parts) == parts
        assert values(out, rows=rows).column_names == ["uid", "number", "timestamp", "value"]
        assert run(client, out, spine(rows)).parts_before == parts
    assert run(client, tmp_path / "by", spine(0), question(partition_by=["uid"])).manifest.parts[0]["files"] == []


def test_partitions_are_read_back(client, tmp_path):
    asked = question(partition_by=["uid", "timestamp"])
    run(client, tmp_path / "out", asked=asked)
    table = values(tmp_path / "out")
    assert table["uid"].to_pylist() == spine()["uid"].to_pylist()
    assert table["timestamp"].to_pylist() == spine()["timestamp"].to_pylist()
    assert table["date"].to_pylist() == [time.date().isoformat() for time in spine()["timestamp"].to_pylist()]
    found, manifest = content(tmp_path / "out")
    assert "uid=a%20b%2F%C3%BC%25/date=2026-01-15/part-00000.parquet" in found
    told = {file["path"]: file for part in manifest["parts"] for file in part["files"]}
    assert told.keys() == found.keys()
    assert sum(file["rows"] for file in told.values()) == ROWS
    for path in found:
        file = pq.ParquetFile(tmp_path / "out" / path)
        assert file.schema_arrow.names == ["number", "timestamp", "value"]
        numbers = file.read()["number"].to_pylist()
        assert numbers == sorted(numbers), "in order"
    run(client, tmp_path / "again", asked=asked, batch=64)
    assert content(tmp_path / "again") == content(tmp_path / "out")


def test_memory_of_partitions_is_bounded(client, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "PART_ROWS", 30_000)
    monkeypatch.setattr(files, "WAITING_BYTES", 100_000)
    for batch in (999, 30_000):
        run(client, tmp_path / str(batch), spine(30_000), question(partition_by=["uid"]), batch=batch)
    values(tmp_path / "999", rows=30_000)
    assert content(tmp_path / "999") == content(tmp_path / "30000")
    groups = pq.ParquetFile(tmp_path / "999" / "uid=u" / "part-00000.parquet").metadata.num_row_groups
    assert groups > 1


def test_a_column_that_makes_no_folders_leaves_nothing(client, tmp_path):
    with pytest.raises(errors.InvalidArgumentError, match="no column 'country'"):
        run(client, tmp_path / "out", asked=question(partition_by=["country"]))
    assert not (tmp_path / "out").exists()
    with pytest.raises(errors.InvalidArgumentError, match="more than 1,000 values of number in one part"):
        export.PART_ROWS = 1_001  # put back by the fixture
        run(client, tmp_path / "out", asked=question(partition_by=["number"]))
    assert os.listdir(tmp_path / "out") == ["_manifest.json"]


def test_a_part_that_lacks_rows_gets_no_name(server, client, tmp_path):
    server.loses = True
    with pytest.raises(errors.DataLossError, match="1000 rows were sent, and 999 came back"):
        run(client, tmp_path)
    assert os.listdir(tmp_path) == ["_manifest.json"]
    server.loses = False
    run(client, tmp_path)
    values(tmp_path)


def test_a_file_that_cannot_grow(server, client, tmp_path):
    """As on a full disk: what is whole stays, and is gone on with."""
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    calls = []

    def full():
        calls.append(1)
        if len(calls) == 4:  # a part is of two batches
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, kept[1]))

    server.meanwhile = full
    try:
        with pytest.raises(errors.ResourceExhaustedError, match="part-00001.parquet: .*too large") as told:
            run(client, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert told.value.hint == "make room, and run the same command again"
    assert sorted(os.listdir(tmp_path)) == ["_manifest.json", "part-00000.parquet"]
    assert run(client, tmp_path).parts_before == 1
    values(tmp_path)


def test_counts_are_those_of_the_server(server, client, tmp_path):
    """Of each part, and their sums."""
    server.counts = True
    manifest = run(client, tmp_path).manifest
    counts = [part["features"]["value"] for part in manifest.parts]
    assert counts == [{"nulls": rows, "defaults": 2, "errors": 0} for rows in (1_000, 1_000, 1_000, 500)]
    assert manifest.features == {"value": {"nulls": ROWS, "defaults": 8, "errors": 0}}
    assert read_manifest(f"{tmp_path}/_manifest.json").features == manifest.features
