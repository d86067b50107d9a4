"""`changes` and `rows` against a Flight server that is ours: what is asked, broken connections; and the command."""

from __future__ import annotations

import asyncio
import json
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

NOON = datetime(2024, 1, 15, 12, tzinfo=timezone.utc)
SCHEMA = pa.schema([pa.field("uid", pa.string(), nullable=False), ("n", pa.int64())])
TOLD = {"thyme.until": "2024-01-15T12:00:00Z", "thyme.position": "pAA", "thyme.pin": "xAA"}
PARTS = [[10, 1, 5], [], [7], [3, 3]]
ROWS = list(range(sum(map(sum, PARTS))))


class Ticketed(flight.FlightServerBase):
    """Numbers in parts, each in batches. `failures`: (part, after so many batches, error), each once."""

    def __init__(self):
        super().__init__("grpc://127.0.0.1:0")
        self.commands, self.asked, self.failures, self.refusals = [], [], [], []

    def get_flight_info(self, context, descriptor):
        if self.refusals:
            raise self.refusals.pop(0)
        self.commands.append(json.loads(descriptor.command))
        endpoints = [flight.FlightEndpoint(str(part), []) for part in range(len(PARTS))]
        return flight.FlightInfo(
            SCHEMA.with_metadata({**TOLD, "thyme.ts": "2024-01-15T12:00:00Z"}), descriptor, endpoints
        )

    def do_get(self, context, ticket):
        part = int(ticket.ticket)
        self.asked.append(part)
        return flight.GeneratorStream(SCHEMA.with_metadata(TOLD), self._batches(part))

    def _batches(self, part):
        first = sum(map(sum, PARTS[:part]))
        for place, rows in enumerate([*PARTS[part], 0]):
            failure = next((found for found in self.failures if found[:2] == (part, place)), None)
            if failure is not None:
                self.failures.remove(failure)
                raise failure[2]
            if rows:
                numbers = range(first, first + rows)
                yield pa.record_batch([[f"u{number}" for number in numbers], numbers], schema=SCHEMA)
            first += rows


@featureset
class Counted:
    uid: str


@pytest.fixture
def server():
    running = Ticketed()
    yield running
    running.shutdown()


@pytest.fixture
def client(server):
    with Client(f"http://127.0.0.1:{server.port}", retry_for=0.5) as connected:
        yield connected


def test_what_is_asked_is_sent(server, client):
    client.changes(Counted)
    nothing = {"featureset": "Counted", "features": [], "statuses": False, "exclusive": False}
    assert server.commands.pop() == nothing
    client.changes("Counted", since=NOON, until="2024-01-15T13:00:00+01:00", features=["n"], known_at=NOON)
    told = {"since": "2024-01-15T12:00:00Z", "until": "2024-01-15T12:00:00Z", "known_at": "2024-01-15T12:00:00Z"}
    assert server.commands.pop() == {**nothing, "features": ["n"], **told}
    client.changes(Counted, until=NOON, pin="xAA", exclusive=True, statuses=True, stream=True)
    until = {"until": "2024-01-15T12:00:00Z", "pin": "xAA"}
    assert server.commands.pop() == {**nothing, "exclusive": True, "statuses": True, **until}
    client.rows("Order", since=NOON, at_least="pAA")
    assert server.commands.pop() == {"dataset": "Order", "since": "2024-01-15T12:00:00Z", "at_least": "pAA"}
    with pytest.raises(errors.InvalidArgumentError) as refused:
        client.rows("Order", since="soon")
    assert refused.value.field == "since"


def test_all_parts_in_their_order(server, client):
    whole = client.rows("Order")
    assert whole["n"] == ROWS
    assert (whole.position, whole.pin, whole.ts) == ("pAA", "xAA", NOON)
    assert server.asked == [0, 1, 2, 3]
    streamed = client.changes("Numbers", stream=True)
    assert server.asked == [0, 1, 2, 3], "nothing is asked before it is wanted"
    batches = list(streamed.to_reader())
    assert [batch.num_rows for batch in batches] == [10, 1, 5, 7, 3, 3]
    assert pa.Table.from_batches(batches).equals(whole.to_arrow())

    async def work():
        async with AsyncClient(f"http://127.0.0.1:{server.port}") as other:
            one, two = await asyncio.gather(other.rows("Order"), other.changes("Numbers"))
            return one.to_arrow(), two.to_arrow()

    assert all(found.equals(whole.to_arrow()) for found in asyncio.run(work()))


def test_what_breaks_goes_on_where_it_was(server, client):
    gone = flight.FlightUnavailableError("restarting")
    server.refusals = [gone]
    server.failures = [(0, 2, gone), (0, 0, gone), (1, 0, gone), (3, 1, gone), (3, 2, gone)]
    assert client.rows("Order")["n"] == ROWS
    assert (server.failures, server.refusals) == ([], [])
    assert server.asked == [0, 0, 0, 1, 1, 2, 3, 3, 3]
    server.failures = [(2, 0, gone)]
    assert [n for batch in client.rows("Order", stream=True).to_reader() for n in batch.column("n").to_pylist()] == ROWS


def test_what_is_refused_is_not_asked_again(server, client):
    server.failures = [(2, 0, pa.ArrowInvalid("no"))]
    with pytest.raises(errors.ThymeError, match="no"):
        client.rows("Order")
    assert server.asked == [0, 1, 2]
    server.failures = [(0, 0, flight.FlightUnavailableError("down"))] * 100
    with pytest.raises(errors.UnavailableError):
        client.rows("Order")
    assert 3 < len(server.asked) < 100


def test_the_command_writes_one_file(server, tmp_path, monkeypatch):
    control = FakeServer()
    numbers = _proto.FeaturesetInfo(name="Numbers", keys=["uid"], features=[_proto.FeatureInfo(name="uid", type="str")])
    order = _proto.DatasetInfo(name="Order", fields=[_proto.FieldInfo(name="uid", type="str", key=True)])
    control.answers = {
        "ListFeaturesets": lambda _: _proto.ListFeaturesetsResponse(featuresets=[numbers]),
        "ListDatasets": lambda _: _proto.ListDatasetsResponse(datasets=[order]),
    }
    monkeypatch.setenv("THYME_CONTROL_URL", control.url)
    monkeypatch.setenv("THYME_BASE_URL", f"http://127.0.0.1:{server.port}")
    out = tmp_path / "out.parquet"

    def run(*arguments):
        return CliRunner().invoke(app, ["query-offline", *arguments, "-o", str(out)])

    server.failures = [(3, 1, flight.FlightUnavailableError("restarting"))]
    done = run("Numbers", "--since", "2024-01-15", "--features", "n,m", "--statuses", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["rows"], told["until"], told["pin"]) == (len(ROWS), "2024-01-15T12:00:00Z", "xAA")
    assert pq.read_table(out).column("n").to_pylist() == ROWS
    asked = server.commands.pop()
    assert (asked["features"], asked["statuses"], asked["since"]) == (["n", "m"], True, "2024-01-15T00:00:00Z")
    assert run("Order", "--until", "2024-01-15").exit_code == 0
    assert server.commands.pop() == {"dataset": "Order", "until": "2024-01-15T00:00:00Z"}
    out.unlink()
    server.failures = [(2, 0, pa.ArrowInvalid("no"))]
    assert run("Order").exit_code == 1
    refused = [
        (("Order", "--features", "n"), 2, "--features is about features"),
        (("Numbers", "--timestamp-column", "when"), 2, "--timestamp-column is about a spine"),
        (("Numbers", "--input", "spine.csv", "--since", "2024-01-15"), 2, "--since is without a spine"),
        (("Numbers", "--since", "soon"), 2, "soon"),
        (("Number",), 5, "did you mean 'Numbers'"),
    ]
    for arguments, code, says in refused:
        done = run(*arguments)
        assert (done.exit_code, says in done.output + done.stderr) == (code, True), done.output
    assert list(tmp_path.iterdir()) == []
    control.stop()
