"""Exports without a spine in parts, against a Flight server that is ours: what is asked again, refused, left behind."""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest
from fake_server import FakeServer
from test_parts import content
from typer.testing import CliRunner

from thyme import _proto, errors
from thyme.cli import app
from thyme.client import Client
from thyme.parts import RangeQuestion, export_range_parts, read_manifest
from thyme.stores import is_unfinished

NOON = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)
TIME = pa.timestamp("us", tz="UTC")
PARTS = [9_000, 0, 500]
CHANGES = pa.schema([("uid", pa.string()), ("timestamp", TIME), ("n", pa.int64()), ("n__status", pa.string())])
ORDERS = pa.schema([("uid", pa.string()), ("ts", TIME), ("amount", pa.int64())])


class Shared(flight.FlightServerBase):
    """Answers with `now`, and under a pin with what `now` was. `failures`: (part, after so many batches, error), each
    once. `cut`: how it shares rows out, which is in its tickets."""

    def __init__(self):
        super().__init__("grpc://127.0.0.1:0")
        self.now, self.definition, self.cut, self.batch = 0, "d1", 1, 700
        self.commands, self.asked, self.failures = [], [], []
        self.refused = self.meanwhile = None

    def get_flight_info(self, context, descriptor):
        asked = json.loads(descriptor.command)
        self.commands.append(asked)
        if "pin" in asked and self.refused is not None:
            raise self.refused
        told = {"pin": asked.get("pin", f"x{self.now}"), "until": asked.get("until", f"2026-01-15T12:00:0{self.now}Z")}
        metadata = {f"thyme.{name}": value for name, value in told.items()} | {"thyme.definition": self.definition}
        metadata |= {"thyme.position": "pAA", "thyme.commit_id": str(self.now)}
        if "pin" not in asked:
            metadata |= {"thyme.ts": "2026-01-15T12:00:00Z", "thyme.watermark": "2026-01-15T11:00:00Z"}
        told |= {"dataset": asked.get("dataset"), "cut": self.cut}
        endpoints = [flight.FlightEndpoint(json.dumps({**told, "part": part}), []) for part in range(len(PARTS))]
        return flight.FlightInfo(self.schema(told).with_metadata(metadata), descriptor, endpoints)

    def schema(self, told):
        return CHANGES if told["dataset"] is None else ORDERS

    def do_get(self, context, ticket):
        told = json.loads(ticket.ticket)
        self.asked.append(told["part"])
        self.now += 1
        return flight.GeneratorStream(self.schema(told), self._batches(told, self.schema(told)))

    def _batches(self, told, schema):
        part, rows = told["part"], PARTS[told["part"]]
        for place, first in enumerate([*range(0, rows, self.batch), rows]):
            failure = next((found for found in self.failures if found[:2] == (part, place)), None)
            if failure is not None:
                self.failures.remove(failure)
                raise failure[2]
            if self.meanwhile is not None:
                self.meanwhile()
            numbers = range(first, min(first + self.batch, rows))
            statuses = [("OK", "DEFAULT", "ERROR", "OK")[number % 4] for number in numbers]
            values = [None if number % 4 == 2 else 10 * number + int(told["pin"][1:]) for number in numbers]
            times = pa.array([NOON + timedelta(hours=number) for number in numbers], TIME)
            columns = [pa.array([f"u{part}"] * len(numbers)), times, pa.array(values, pa.int64()), pa.array(statuses)]
            if numbers:
                yield pa.record_batch(columns[: len(schema)], schema=schema)


@pytest.fixture
def server():
    running = Shared()
    yield running
    running.shutdown()


@pytest.fixture
def client(server):
    with Client(f"http://127.0.0.1:{server.port}", retry_for=0.3) as connected:
        yield connected


def question(again=None, known_at=None, **other):
    stretch = {"since": None, "until": None, "partition_by": []}
    command = {"featureset": "Numbers", "features": None, "exclusive": False, "statuses": False, **stretch}
    return RangeQuestion({**command, **other} if again is None else again.command, known_at, again)


def orders(**other):
    return RangeQuestion({"dataset": "Order", "since": None, "until": None, "partition_by": [], **other}, None)


def manifest_of(out):
    return read_manifest(str(out / "_manifest.json"))


def values(out, now=0):
    files = [pq.read_table(out / f"part-{part:05}.parquet") for part in range(len(PARTS))]
    assert [file.num_rows for file in files] == PARTS
    for file in files:
        numbers = range(file.num_rows)
        assert file["n"].to_pylist() == [None if number % 4 == 2 else 10 * number + now for number in numbers]
    return files


def test_a_part_for_each_ticket_under_one_pin(server, client, tmp_path):
    outcome = export_range_parts(client, question(since="2026-01-15T00:00:00Z"), str(tmp_path / "out"))
    files = values(tmp_path / "out")
    assert (server.asked, outcome.parts_before) == ([0, 1, 2], 0)
    assert [command.get("pin") for command in server.commands] == [None]
    assert files[0].column_names == ["uid", "timestamp", "n"], "statuses are counted, and not written unless asked for"
    kept = {b"thyme.definition": b"d1", b"thyme.pin": b"x0", b"thyme.until": b"2026-01-15T12:00:00Z"}
    assert pq.read_schema(tmp_path / "out" / "part-00001.parquet").metadata == kept
    manifest = manifest_of(tmp_path / "out")
    assert (manifest.state, manifest.rows, manifest.pin) == ("whole", sum(PARTS), "x0")
    assert manifest.stretch == {"since": None, "until": "2026-01-15T12:00:00Z"}
    quarters = [rows // 4 for rows in PARTS]
    assert [part["features"]["n"] for part in manifest.parts] == [
        {"nulls": quarter, "defaults": quarter, "errors": quarter} for quarter in quarters
    ]
    assert manifest.features["n"]["nulls"] == sum(quarters)
    # The same once more, in other batches, whatever `now` is.
    server.batch, server.now = 64, 7
    export_range_parts(client, question(manifest), str(tmp_path / "again"))
    assert content(tmp_path / "again") == content(tmp_path / "out")
    again = {"since": "2026-01-15T00:00:00Z", "until": "2026-01-15T12:00:00Z", "pin": "x0"}
    assert server.commands[-1] == {"featureset": "Numbers", "exclusive": False, "statuses": True, **again}


def test_statuses_are_written_where_asked_for(client, tmp_path):
    export_range_parts(client, question(statuses=True), str(tmp_path))
    assert pq.read_schema(tmp_path / "part-00000.parquet").names == CHANGES.names
    assert manifest_of(tmp_path).features["n"]["errors"] > 0


def test_what_breaks_goes_on_where_it_was(server, client, tmp_path):
    gone = flight.FlightUnavailableError("restarting")
    server.failures = [(0, 3, gone), (0, 0, gone), (2, 1, gone)]
    export_range_parts(client, question(), str(tmp_path))
    values(tmp_path)
    assert (server.failures, server.asked) == ([], [0, 0, 0, 1, 2, 2])


@pytest.mark.parametrize("part", range(len(PARTS)))
@pytest.mark.parametrize("away", [True, False], ids=["away", "refused"])
def test_an_interrupted_export_is_gone_on_with(part, away, server, client, tmp_path):
    failure = flight.FlightUnavailableError("away") if away else pa.ArrowInvalid("no")
    server.failures = [(part, 0, failure)] * (99 if away else 1)
    with pytest.raises((errors.UnavailableError, errors.InvalidArgumentError)):
        export_range_parts(client, question(), str(tmp_path / "out"))
    assert sorted(os.listdir(tmp_path / "out")) == ["_manifest.json", *(f"part-0000{n}.parquet" for n in range(part))]
    assert manifest_of(tmp_path / "out").state == "exporting"
    server.failures, server.asked, server.now = [], [], server.now + 1
    outcome = export_range_parts(client, question(), str(tmp_path / "out"))
    assert (outcome.parts_before, server.asked) == (part, list(range(part, len(PARTS))))
    export_range_parts(client, question(outcome.manifest), str(tmp_path / "calm"))
    assert content(tmp_path / "calm") == content(tmp_path / "out")
    values(tmp_path / "out")


def test_what_is_whole_stays_whatever_became_of_its_pin(server, client, tmp_path):
    export_range_parts(client, question(since="2026-01-15T00:00:00Z"), str(tmp_path))
    before, server.asked = content(tmp_path), []
    server.refused = pa.ArrowInvalid("keys were erased")
    assert export_range_parts(client, question(since="2026-01-15T00:00:00Z"), str(tmp_path)).parts_before == len(PARTS)
    assert (server.asked, content(tmp_path)) == ([], before)
    assert server.commands[-1] == {"featureset": "Numbers", "exclusive": False, "statuses": True}
    (tmp_path / "part-00002.parquet").write_bytes(b"cut off")
    server.refused = None
    assert export_range_parts(client, question(since="2026-01-15T00:00:00Z"), str(tmp_path)).parts_before == 2
    assert (server.asked, content(tmp_path)) == ([2], before)


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "begun"])
def test_what_differs_is_named_and_nothing_touched(is_whole, server, client, tmp_path):
    if not is_whole:
        server.failures = [(2, 0, pa.ArrowInvalid("no"))]
        with pytest.raises(errors.InvalidArgumentError):
            export_range_parts(client, question(), str(tmp_path / "out"))
    else:
        export_range_parts(client, question(), str(tmp_path / "out"))
    before = content(tmp_path / "out")
    export_range_parts(client, question(), str(tmp_path / "other"))

    def refused(message, asked):
        with pytest.raises(errors.FailedPreconditionError, match=message) as told:
            export_range_parts(client, asked, str(tmp_path / "out"))
        assert f"remove {tmp_path}/out to begin anew" in told.value.hint
        assert content(tmp_path / "out") == before

    refused("begun with features none, and is now asked with", question(features=["n"]))
    refused("begun with until none", question(until="2026-01-15T12:00:00Z"))
    refused("begun with known_at none", question(known_at="pAA"))
    refused("begun with featureset Numbers, and is now asked with none", orders())
    refused("begun with pin x0, and is now asked with x[1-9]", question(manifest_of(tmp_path / "other")))
    server.definition = "d2"
    refused("begun with definition d1, and is now asked with d2", question())


def test_a_server_that_shares_rows_out_otherwise_is_refused(server, client, tmp_path):
    server.failures = [(2, 0, pa.ArrowInvalid("no"))]
    with pytest.raises(errors.InvalidArgumentError):
        export_range_parts(client, question(), str(tmp_path / "out"))
    server.cut = 2
    for asked, out in ((question(), "out"), (question(manifest_of(tmp_path / "out")), "new")):
        with pytest.raises(errors.FailedPreconditionError, match="the server now has other rows in part 0"):
            export_range_parts(client, asked, str(tmp_path / out))
    assert not (tmp_path / "new").exists()
    server.cut = 1
    export_range_parts(client, question(), str(tmp_path / "out"))
    values(tmp_path / "out")


def lost():
    """As the server says that a pin can no longer be kept."""
    message = "keys of 'Order' were erased since the pin was made"
    status = _proto.message("google.rpc.Status")(code=9, message=message)
    status.details.add().Pack(_proto.message("google.rpc.ErrorInfo")(reason="failed_precondition"))
    return flight.FlightServerError(message, status.SerializeToString())


@pytest.mark.parametrize("when", ["asked", "read"])
def test_what_has_changed_under_the_pin_is_told(when, server, client, tmp_path):
    server.failures = [(1, 0, pa.ArrowInvalid("no"))]
    with pytest.raises(errors.InvalidArgumentError):
        export_range_parts(client, question(), str(tmp_path))
    if when == "asked":
        server.refused = lost()
    else:
        server.failures = [(2, 0, lost())]
    with pytest.raises(errors.FailedPreconditionError, match="cannot be completed as it began: keys of") as told:
        export_range_parts(client, question(), str(tmp_path))
    assert told.value.hint == f"remove {tmp_path} to begin anew"
    assert len(manifest_of(tmp_path).parts) == (1 if when == "asked" else 2)


def test_of_two_commands_the_first_stops(server, client, tmp_path):
    def another():
        server.meanwhile = None
        export_range_parts(client, question(), str(tmp_path))

    server.failures = [(2, 0, pa.ArrowInvalid("no"))]
    with pytest.raises(errors.InvalidArgumentError):
        export_range_parts(client, question(), str(tmp_path))
    server.meanwhile = another
    with pytest.raises(errors.FailedPreconditionError, match="another command writes to .*, so this one stops"):
        export_range_parts(client, question(), str(tmp_path))
    values(tmp_path)
    assert manifest_of(tmp_path).state == "whole"
    assert not [name for name in os.listdir(tmp_path) if is_unfinished(name)]


def test_rows_of_a_dataset_by_day(server, client, tmp_path):
    asked = orders(partition_by=["uid", "ts"])
    manifest = export_range_parts(client, asked, str(tmp_path / "out")).manifest
    assert server.commands == [{"dataset": "Order"}]
    assert (manifest.features, manifest.rows, manifest.parts[1]["files"]) == ({}, sum(PARTS), [])
    table = ds.dataset(tmp_path / "out", format="parquet", partitioning="hive").to_table()
    assert table.num_rows == sum(PARTS)
    assert table["date"].to_pylist() == [time.date().isoformat() for time in table["ts"].to_pylist()]
    with pytest.raises(errors.InvalidArgumentError, match="no column 'country'"):
        export_range_parts(client, orders(partition_by=["country"]), str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_the_command(server, tmp_path, monkeypatch):
    control = FakeServer()
    numbers = _proto.FeaturesetInfo(name="Numbers", keys=["uid"], features=[_proto.FeatureInfo(name="uid", type="str")])
    order = _proto.DatasetInfo(name="Order", fields=[_proto.FieldInfo(name="uid", type="str", key=True)])
    control.answers = {
        "ListFeaturesets": lambda _: _proto.ListFeaturesetsResponse(featuresets=[numbers]),
        "ListDatasets": lambda _: _proto.ListDatasetsResponse(datasets=[order]),
    }
    monkeypatch.setenv("THYME_CONTROL_URL", control.url)
    monkeypatch.setenv("THYME_BASE_URL", f"http://127.0.0.1:{server.port}")

    def told(*arguments, code=0):
        done = CliRunner().invoke(app, ["query-offline", *arguments])
        assert done.exit_code == code, done.output
        return done.output

    out = f"{tmp_path}/out"
    rows = f"{sum(PARTS)} rows before 2026-01-15T12:00:00Z in 3 parts"
    asked = ("Numbers", "--since", "2026-01-15", "--features", "n", "-o", out)
    assert told(*asked) == f"{rows} to {out}\n"
    assert told(*asked) == f"already there: {rows} in {out}\n"
    assert server.commands[0]["since"] == "2026-01-15T00:00:00Z"
    summary = json.loads(told(*asked, "--json"))
    manifest = read_manifest(f"{out}/_manifest.json")
    counted = {"parts": 3, "parts_before": 3, "features": manifest.features}
    standing = {"until": "2026-01-15T12:00:00Z", "position": "pAA", "pin": "x0"}
    assert summary == {"rows": sum(PARTS), "output": out, **counted, **standing}

    again = ("--manifest", f"{out}/_manifest.json")
    told(*again, "-o", f"{tmp_path}/again/")
    assert content(tmp_path / "again") == content(out)
    told(*again, "-o", f"{tmp_path}/one.csv")
    assert server.commands[-1]["pin"] == "x0" and server.commands[-1]["until"] == "2026-01-15T12:00:00Z"
    shutil.rmtree(tmp_path / "again")

    assert "not given beside REF, --since" in told("Numbers", "--since", "2026-01-15", *again, "-o", out, code=2)
    assert "missing argument REF" in told("-o", out, code=2)
    assert "that manifest is of an export without a spine" in told(*again, "--input", "-", "-o", out, code=2)
    text = (tmp_path / "out" / "_manifest.json").read_text()
    with_spine = {"featuresets": ["Numbers"], "entity_columns": {}, "timestamp_column": "t", "exclusive": False}
    with_spine |= {"features": None, "statuses": False, "partition_by": []}
    held = {name: value for name, value in json.loads(text).items() if name != "stretch"}
    held |= {"command": with_spine, "parts": []}
    (tmp_path / "spine.json").write_text(json.dumps(held))
    spine = told("--manifest", f"{tmp_path}/spine.json", "-o", out, code=2)
    assert "that manifest is of an export with a spine" in spine
    assert "--partition-by makes folders" in told("Order", "--partition-by", "ts", "-o", "a.parquet", code=2)
    assert "--features is about features" in told("Order", "--features", "n", "-o", f"{tmp_path}/orders", code=2)
    control.stop()
