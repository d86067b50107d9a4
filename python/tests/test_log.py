"""How `Client.log` sends rows: small ones as calls, many by Arrow Flight, in parts that are safe to send again."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import datetime, timezone

import pandas
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from fake_server import FakeServer, Refusal

from thyme import _proto, errors
from thyme.aio import AsyncClient
from thyme.client import Client
from thyme.sending import PART_ROWS

NOON = datetime(2024, 1, 15, 12, tzinfo=timezone.utc)
TYPES = {"user_id": "str", "ts": "datetime", "amount": "float", "item_count": "int", "labels": "list[str]"}


class FakeFlight(flight.FlightServerBase):
    """Takes rows. `puts`: command and rows of every DoPut; `reject`: which rows, by their number in the stream."""

    def __init__(self):
        super().__init__("grpc://127.0.0.1:0")
        self.puts = []
        self.failures = []
        self.reject = lambda index: False

    def do_put(self, context, descriptor, reader, writer):
        table = reader.read_all()
        self.puts.append((json.loads(descriptor.command), table))
        if self.failures:
            raise self.failures.pop()
        bad = [index for index in range(table.num_rows) if self.reject(index)]
        reasons = [{"index": index, "reason": "bad", "field": None} for index in bad[:1000]]
        told = {"accepted": table.num_rows - len(bad), "rejected": len(bad), "reasons": reasons, "position": ""}
        writer.write(json.dumps({**told, "accepted": 0}).encode())
        writer.write(json.dumps(told).encode())


def datasets(_):
    fields = [_proto.FieldInfo(name=name, type=text, key=name == "user_id") for name, text in TYPES.items()]
    return _proto.ListDatasetsResponse(datasets=[_proto.DatasetInfo(name="Order", fields=fields)])


def take(request):
    rows = len(request.rows.rows) if request.HasField("rows") else table_of(request).num_rows
    return _proto.IngestResponse(accepted=rows)


def table_of(request):
    return pa.ipc.open_stream(request.arrow_ipc).read_all()


@pytest.fixture
def flights():
    running = FakeFlight()
    yield running
    running.shutdown()


@pytest.fixture
def server():
    running = FakeServer()
    running.answers = {"Ingest": take, "ListDatasets": datasets}
    yield running
    running.stop()


@pytest.fixture
def client(server, flights):
    with Client(f"http://127.0.0.1:{flights.port}", server.url, retry_for=0.5) as connected:
        yield connected


def orders(count, first=0):
    return pa.table({"user_id": [f"u{number}" for number in range(first, first + count)]})


def test_few_rows_are_one_call_and_many_are_streams(server, flights, client):
    assert client.log("Order", orders(16_384)).accepted == 16_384
    assert (len(server.requests("Ingest")), len(flights.puts)) == (1, 0)
    server.seen.clear()
    assert client.log("Order", orders(140_000)).accepted == 140_000
    assert [table.num_rows for _, table in flights.puts] == [PART_ROWS, PART_ROWS]
    (rest,) = server.requests("Ingest")  # the end is small again
    assert table_of(rest).column("user_id")[0].as_py() == f"u{2 * PART_ROWS}"
    ids = [command["call_id"] for command, _ in flights.puts] + [rest.call_id]
    assert len(set(ids)) == 3
    assert {command["dataset"] for command, _ in flights.puts} == {"Order"}


def test_large_cells_make_smaller_parts(flights, client):
    table = pa.table({"text": ["x" * (3 << 20)] * 30})
    assert client.log("Order", table).accepted == 30
    assert sum(table.num_rows for _, table in flights.puts) == 30
    assert max(table.nbytes for _, table in flights.puts) <= 64 << 20


def test_event_ids_travel_with_their_rows(server, flights, client):
    ids = [f"e{number}" for number in range(70_000)]
    client.log("Order", orders(70_000), event_ids=ids)
    ((command, table),) = flights.puts
    assert table.column(command["event_id_column"]).to_pylist() == ids[:PART_ROWS]
    assert list(server.requests("Ingest")[0].event_ids) == ids[PART_ROWS:]


def test_rejected_rows_keep_their_number_and_all_have_their_reason(server, flights, client):
    def reject_odd(request):
        bad = [index for index in range(table_of(request).num_rows) if (request.first_row + index) % 2]
        return _proto.IngestResponse(rejected=[_proto.RejectedRow(index=index, reason="bad") for index in bad])

    server.answers["Ingest"] = reject_odd
    flights.reject = lambda index: index % 2 == 1
    result = client.log("Order", orders(2 * PART_ROWS))
    assert [row.index for row in result.rejected] == list(range(1, 2 * PART_ROWS, 2))
    assert result.accepted == PART_ROWS
    again = server.requests("Ingest")
    assert {request.call_id for request in again} == {command["call_id"] for command, _ in flights.puts}
    assert again[0].first_row == 2000  # after the last that had its reason


def test_a_broken_connection_repeats_the_part_with_its_ids(flights, client):
    flights.failures = [flight.FlightUnavailableError("restarting")] * 2
    assert client.log("Order", orders(20_000)).accepted == 20_000
    assert len(flights.puts) == 3
    assert len({command["call_id"] for command, _ in flights.puts}) == 1


def test_other_failures_are_raised_once(flights, client):
    flights.failures = [pa.ArrowInvalid("no such column")]
    with pytest.raises(errors.InvalidArgumentError, match="no such column"):
        client.log("Order", orders(20_000))
    assert len(flights.puts) == 1


def test_where_the_query_process_takes_no_rows_they_go_as_calls(server):
    with Client(server.url, server.url, retry_for=0.2) as client:
        assert client.log("Order", orders(100_000)).accepted == 100_000
    requests = server.requests("Ingest")
    assert [(request.first_row, table_of(request).num_rows) for request in requests[:4]] == [
        (0, 16_384),
        (16_384, 16_384),
        (32_768, 16_384),
        (49_152, 16_384),
    ]
    assert len({request.call_id for request in requests}) == 2


def test_dicts_become_columns_where_their_types_are_as_declared(server, client):
    row = {"user_id": "u", "ts": NOON, "amount": 1, "item_count": 2}
    client.log("Order", [{**row, "item_count": None}, *[row] * 199])
    (request,) = server.requests("Ingest")
    assert [str(found) for found in table_of(request).schema.types] == [
        "string",
        "timestamp[us, tz=UTC]",
        "double",
        "int64",
        "null",
    ]
    client.log("Order", [{**row, "ts": "2024-01-15"}] * 200)
    assert str(table_of(server.requests("Ingest")[1]).schema.field("ts").type) == "string"


@pytest.mark.parametrize(
    "odd",
    [
        {"user_id": 5},
        {"item_count": 2.0},
        {"item_count": True},
        {"item_count": 2**63 - 1, "amount": 2**53 + 1},
        {"ts": "2024-01-15"},
        {"labels": ["a"]},
        {"amuont": 1.0},
        {"amount": "1"},
    ],
)
def test_rows_of_other_types_are_judged_by_the_server(server, client, odd):
    row = {"user_id": "u", "ts": NOON, "amount": 1.5, "item_count": 2}
    assert client.log("Order", [*[row] * 200, {**row, **odd}]).accepted == 201
    (request,) = server.requests("Ingest")
    assert len(request.rows.rows) == 201
    assert request.rows.rows[200].fields.keys() == {**row, **odd}.keys()


def test_dicts_whose_columns_are_refused_are_sent_as_rows(server, client):
    def refuse_columns(request):
        if not request.HasField("rows"):
            raise Refusal(3, "missing column 'region'", "invalid_argument")
        return take(request)

    server.answers["Ingest"] = refuse_columns
    assert client.log("Order", [{"user_id": "u", "ts": NOON}] * 200).accepted == 200
    first, second = server.requests("Ingest")
    assert (first.call_id, first.first_row) == (second.call_id, second.first_row)
    with pytest.raises(errors.InvalidArgumentError, match="missing column"):
        client.log("Order", orders(200))


def streams():
    table = orders(200_000)
    return {
        "reader": lambda: table.to_reader(10_000),
        "batches": lambda: iter(table.to_batches(10_000)),
        "tables": lambda: (table.slice(first, 10_000) for first in range(0, 200_000, 10_000)),
        "frames": lambda: (pandas.DataFrame(table.slice(n, 10_000).to_pydict()) for n in range(0, 200_000, 10_000)),
        "dicts": lambda: ({"user_id": f"u{number}"} for number in range(200_000)),
    }


@pytest.mark.parametrize("kind", ["reader", "batches", "tables", "frames", "dicts"])
def test_streams_of_rows(server, flights, client, kind):
    ids = (f"e{number}" for number in range(200_000))
    assert client.log("Order", streams()[kind](), event_ids=ids).accepted == 200_000
    sent = [table for _, table in flights.puts] + [table_of(request) for request in server.requests("Ingest")]
    users = [user for table in sent for user in table.column("user_id").to_pylist()]
    assert users == [f"u{number}" for number in range(200_000)]
    assert flights.puts[0][1].column("thyme.event_id")[-1].as_py() == f"e{flights.puts[0][1].num_rows - 1}"


def test_a_stream_is_read_as_it_is_sent(flights, client):
    taken, seen = 0, []

    def batches():
        nonlocal taken
        for number in range(40):
            taken += 10_000
            yield orders(10_000, number * 10_000)

    flights.reject = lambda index: seen.append(taken) if index == 0 else False
    client.log("Order", batches())
    sent = [table.num_rows for _, table in flights.puts]
    before = [sum(sent[: number + 1]) for number in range(len(sent))]
    assert len(sent) > 4
    assert all(read - done <= 10_000 + PART_ROWS for read, done in zip(seen, before, strict=True))


@pytest.mark.parametrize(
    ("ids", "message"), [(100, "100 event ids for"), (300, "more than 200 event ids for 200 rows")]
)
def test_a_stream_has_one_id_per_row(client, ids, message):
    with pytest.raises(errors.InvalidArgumentError, match=message):
        client.log("Order", orders(200).to_reader(), event_ids=iter([f"e{number}" for number in range(ids)]))


def test_a_stream_of_something_else_is_refused(client):
    with pytest.raises(errors.InvalidArgumentError, match="row 0 is no dict: 5"):
        client.log("Order", iter([5]))
    assert client.log("Order", iter([])).accepted == 0


def test_a_naive_datetime_stops_a_list_before_anything_is_sent(server, client):
    rows = [{"user_id": "u", "ts": NOON}] * 70_000 + [{"user_id": "u", "ts": datetime(2024, 1, 15)}]
    with pytest.raises(errors.InvalidArgumentError, match="row 70000, ts: a datetime without a time zone"):
        client.log("Order", rows)
    assert server.requests("Ingest") == []


def test_the_asynchronous_client_reads_and_sends_in_threads(server, flights):
    loops = []

    def batches():
        loops.append(threading.current_thread() is threading.main_thread())
        yield from orders(100_000).to_batches(10_000)

    async def work():
        async with AsyncClient(f"http://127.0.0.1:{flights.port}", server.url) as client:
            return await client.log("Order", batches())

    assert asyncio.run(work()).accepted == 100_000
    assert sum(table.num_rows for _, table in flights.puts) == 100_000
    assert loops == [False]
