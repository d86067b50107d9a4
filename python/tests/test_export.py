"""`query_offline` against a Flight server that is ours: up and down at once, failures on either side, the end."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest
from fake_server import FakeServer
from typer.testing import CliRunner

from thyme import _proto, errors, featureset
from thyme.aio import AsyncClient
from thyme.cli import app
from thyme.client import Client
from thyme.offline import BATCH_ROWS

NOON = datetime(2024, 1, 15, 12, tzinfo=timezone.utc)
BATCHES = 60

DONE = {"chunks": 1, "keys": 2, "rows_swept": 1, "rows_sought": 1, "times": 2, "trie_rows": 3}
READ = {
    "table": "UserStats.compute",
    "key": ["uid"],
    "windows": ["1h", "7d"],
    "features": ["twice", "shops"],
    "one_by_one": ["shops"],
    "done": DONE,
}
NEWEST = {"table": "Order", "key": ["uid"], "windows": [], "features": ["paid"], "one_by_one": [], "done": DONE}
CALL = {"extractor": "Numbers.judge", "native": True, "batch": False, "inputs": ["twice", "paid"], "outputs": ["good"]}
COUNTS = {"nulls": 1, "defaults": 0, "errors": 1, "first_error": "the timestamp is null"}
SUMMARY = {
    "rows": 7,
    "known": 5,
    "features": [{"name": "twice", **COUNTS}, {"name": "good", **dict.fromkeys(COUNTS, 0), "first_error": None}],
    "plan": {"reads": [READ, NEWEST], "calls": [CALL], "chunk_rows": 262_144},
}


class Doubling(flight.FlightServerBase):
    """Answers each batch at once with one more column. `failures`: of the next calls, None for a good one."""

    def __init__(self):
        super().__init__("grpc://127.0.0.1:0")
        self.failures = []
        self.fail_after = 0
        self.received = 0
        self.commands = []
        self.summary = SUMMARY

    def do_exchange(self, context, descriptor, reader, writer):
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None and self.fail_after == 0:
            raise failure
        self.commands.append(json.loads(descriptor.command))
        metadata = {"thyme.position": "pAA", "thyme.pin": "xAA"}
        schema = reader.schema.append(pa.field("twice", pa.int64())).with_metadata(metadata)
        writer.begin(schema)
        for number, chunk in enumerate(reader):
            self.received += chunk.data.num_rows
            twice = pa.array([2 * value for value in chunk.data.column("number").to_pylist()], pa.int64())
            writer.write_batch(pa.record_batch([*chunk.data.columns, twice], schema=schema))
            if failure is not None and number + 1 >= self.fail_after:
                raise failure
        if self.summary is not None:
            empty = pa.record_batch([pa.array([], found.type) for found in schema], schema=schema)
            writer.write_with_metadata(empty, json.dumps(self.summary).encode())


@featureset
class Numbers:
    uid: str


@featureset
class Others:
    who: str


@pytest.fixture
def server():
    running = Doubling()
    yield running
    running.shutdown()


@pytest.fixture
def client(server):
    with Client(f"http://127.0.0.1:{server.port}", retry_for=0.5) as connected:
        yield connected
    assert not export_threads()


def export_threads():
    return [found.name for found in threading.enumerate() if "_send" in found.name or "_receive" in found.name]


def spine(rows=BATCHES * BATCH_ROWS, first=0):
    return pa.table({"uid": ["u"] * rows, "timestamp": [NOON] * rows, "number": range(first, first + rows)})


def batches(read=None, fail_at=None):
    for number in range(BATCHES):
        if number == fail_at:
            raise ValueError("my input broke")
        if read is not None:
            read.append(number)
        yield from spine(BATCH_ROWS, number * BATCH_ROWS).to_batches()


def test_a_table_and_a_stream_give_the_same(server, client):
    expected = [2 * number for number in range(BATCHES * BATCH_ROWS)]
    for given in (spine(), spine().to_reader(5_000), batches(), (row for row in spine(30_000).to_pylist())):
        result = client.query_offline(Numbers, given)
        assert result["twice"] == expected[: len(result)]
        assert result.position == "pAA"
        assert len(result) in (30_000, len(expected))
    result = client.query_offline(Numbers, batches(), stream=True)
    assert [value for batch in result.to_reader() for value in batch.column("twice").to_pylist()] == expected


def test_a_pin_is_sent_as_it_came(server, client):
    async def asynchronous(**asked):
        async with AsyncClient(f"http://127.0.0.1:{server.port}") as other:
            return await other.query_offline(Numbers, spine(5), **asked)

    ways = [
        lambda **asked: client.query_offline(Numbers, spine(5), **asked),
        lambda **asked: client.query_offline(Numbers, spine(5), stream=True, **asked),
        lambda **asked: asyncio.run(asynchronous(**asked)),
    ]
    for ask in ways:
        pin = ask().pin
        assert ask(pin=pin).pin == pin == "xAA"
        first, second = server.commands[-2:]
        assert second == {**first, "pin": pin}
        assert "pin" not in first


def test_the_summary_is_there_when_all_rows_have_come(server, client):
    async def asynchronous(**asked):
        async with AsyncClient(f"http://127.0.0.1:{server.port}") as other:
            return await other.query_offline(Numbers, spine(5), **asked)

    for rows in (5, 0):
        for give in (spine, lambda rows: spine(rows).to_reader()):
            assert client.query_offline(Numbers, give(rows)).summary == server.summary
            streamed = client.query_offline(Numbers, give(rows), stream=True)
            assert streamed.summary is None
            assert len(streamed.to_arrow()) == rows
            assert streamed.summary == server.summary
    taken = client.query_offline(Numbers, spine(), stream=True)
    reader = taken.to_reader()
    reader.read_next_batch()
    assert taken.summary is None
    assert [batch.num_rows for batch in reader] == [BATCH_ROWS] * (BATCHES - 1)
    assert taken.summary == server.summary
    assert asyncio.run(asynchronous()).summary == server.summary
    assert asyncio.run(asynchronous(stream=True)).summary is None
    # A server before it told any.
    server.summary = None
    assert client.query_offline(Numbers, spine(5)).summary is None


def test_several_featuresets_are_one_export(server, client):
    asked = {"entity_column": "uid", "features": ["Numbers.twice", Others.who]}
    client.query_offline([Numbers, Others], spine(5), **asked)
    command = server.commands[-1]
    assert (command["featuresets"], command["features"]) == (["Numbers", "Others"], ["Numbers.twice", "Others.who"])
    assert command["entity_columns"] == {"Numbers.uid": "uid", "Others.who": "uid"}
    assert "featureset" not in command
    client.query_offline([Numbers], spine(5), entity_columns={"uid": "uid"})
    assert server.commands[-1]["featuresets"] == ["Numbers"], "a list of one is a list"
    client.query_offline(Numbers, spine(5), features=[Numbers.uid])
    assert (server.commands[-1]["featureset"], server.commands[-1]["features"]) == ("Numbers", ["uid"])
    assert "featuresets" not in server.commands[-1]
    with pytest.raises(errors.InvalidArgumentError, match="no featuresets are asked for"):
        client.query_offline([], spine(5))


def test_what_is_not_taken_is_not_read(server, client):
    """Between spine and taker lie bounded queues only."""
    wide = spine(1_000).append_column("text", pa.array(["x" * 4_000] * 1_000)).to_batches()[0]

    def large():
        for number in range(2 * BATCHES):
            read.append(number)
            yield wide

    read = []
    reader = client.query_offline(Numbers, large(), stream=True).to_reader()
    first = reader.read_next_batch()
    stalled = threading.Event()
    while not stalled.wait(0.5) and len(read) != (before := len(read)):
        assert before < 2 * BATCHES
    assert len(read) < BATCHES  # of 4 MB each
    rest = sum(batch.num_rows for batch in reader)
    assert first.num_rows + rest == 2 * BATCHES * 1_000


def test_a_table_is_sent_again_and_a_stream_only_before_it_begins(server, client):
    server.failures = [flight.FlightUnavailableError("restarting")] * 2
    assert len(client.query_offline(Numbers, batches())) == BATCHES * BATCH_ROWS
    server.fail_after = 3
    server.failures = [flight.FlightUnavailableError("restarting")]
    assert len(client.query_offline(Numbers, spine())) == BATCHES * BATCH_ROWS
    server.failures = [flight.FlightUnavailableError("restarting")]
    with pytest.raises(errors.UnavailableError):
        client.query_offline(Numbers, batches())
    assert server.failures == []


def test_failures_of_the_server_arrive(server, client):
    for after in (0, 3):
        server.fail_after = after
        server.failures = [pa.ArrowInvalid("unknown feature")]
        with pytest.raises(errors.InvalidArgumentError, match="unknown feature"):
            client.query_offline(Numbers, spine())


def test_a_failing_input_is_the_failure(client):
    with pytest.raises(ValueError, match="my input broke"):
        client.query_offline(Numbers, batches(fail_at=7))
    with pytest.raises(ValueError, match="my input broke"):
        client.query_offline(Numbers, batches(fail_at=7), stream=True).to_arrow()
    with pytest.raises(errors.InvalidArgumentError, match="first batch has no column 'other'"):
        client.query_offline(Numbers, iter([spine(5), spine(5).append_column("other", pa.array(range(5)))]))
    with pytest.raises(errors.InvalidArgumentError, match="the spine has no column 'timestamp'"):
        client.query_offline(Numbers, spine(5).drop_columns(["timestamp"]).to_reader())


def test_who_stops_early_ends_the_export(server, client):
    read = []
    reader = client.query_offline(Numbers, batches(read), stream=True).to_reader()
    reader.read_next_batch()
    assert export_threads()
    del reader
    assert not export_threads()
    result = client.query_offline(Numbers, spine(), stream=True)
    assert export_threads()
    del result
    assert not export_threads()


def test_empty_spines(client):
    for given in (spine(0), spine(0).to_reader()):
        result = client.query_offline(Numbers, given)
        assert (len(result), result.column_names) == (0, ["uid", "timestamp", "number", "twice"])


def test_the_asynchronous_client_streams_too(server):
    async def work():
        async with AsyncClient(f"http://127.0.0.1:{server.port}") as client:
            result = await client.query_offline(Numbers, batches(), stream=True)
            whole = await client.query_offline(Numbers, batches())
            return await asyncio.to_thread(result.to_arrow), whole.to_arrow()

    streamed, whole = asyncio.run(work())
    assert streamed.equals(whole)
    assert whole.num_rows == BATCHES * BATCH_ROWS


def test_the_command_begins_again_from_file_to_file(server, tmp_path, monkeypatch):
    info = _proto.FeaturesetInfo(name="Numbers", keys=["uid"], features=[_proto.FeatureInfo(name="uid", type="str")])
    control = FakeServer()
    control.answers = {"ListFeaturesets": lambda _: _proto.ListFeaturesetsResponse(featuresets=[info])}
    monkeypatch.setenv("THYME_CONTROL_URL", control.url)
    monkeypatch.setenv("THYME_BASE_URL", f"http://127.0.0.1:{server.port}")
    given, out = tmp_path / "spine.parquet", tmp_path / "out.parquet"
    pq.write_table(spine(), given)

    def run(output):
        return CliRunner().invoke(app, ["query-offline", "Numbers", "--input", str(given), "-o", str(output)])

    server.fail_after = 3
    server.failures = [flight.FlightUnavailableError("restarting")] * 2
    assert run(out).exit_code == 0
    assert pq.read_table(out).column("twice").to_pylist() == [2 * number for number in range(BATCHES * BATCH_ROWS)]
    server.failures = [pa.ArrowInvalid("no")]
    assert run(tmp_path / "other.parquet").exit_code == 1
    assert sorted(os.listdir(tmp_path)) == ["out.parquet", "spine.parquet"]
    control.stop()
